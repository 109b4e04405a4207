//! A configuration that holds: what every room needs to start, and nothing left to doubt.
//!
//! Made only by [`load`](super::load), so having one proves that every reference leads somewhere, every default is
//! filled in and every file that was named could be read. Must never know how it was written.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::inbound::settings::{Limits, ListenSettings};
use crate::observe::access::AccessLog;
use crate::observe::log::LogSettings;
use crate::rules::settings::Callers;
use crate::rules::{RouteSettings, TunnelTo};
use crate::token;
use crate::token::settings::SecretSource;

#[derive(Debug)]
pub struct Plan {
    /// At least one; names and addresses differ.
    pub listeners: Vec<ListenSettings>,
    /// `None` is `admin: off`.
    pub admin: Option<ListenSettings>,
    /// `None` is `health: off`.
    pub health: Option<ListenSettings>,
    /// Threads that carry traffic; `auto` is already counted out.
    pub workers: usize,
    pub log: LogSettings,
    /// `None` is `access_log: off`.
    pub access_log: Option<AccessLog>,
    /// Whether a trace is begun where a request belongs to none.
    pub tracing: bool,
    pub shutdown: Shutdown,
    /// Where what must outlive a restart is kept; `None` is `state_dir: off`.
    pub state_dir: Option<PathBuf>,
    /// In the order in which they were written; names differ.
    pub tokens: Vec<token::Settings>,
    /// At least one; names differ, and so does what they match.
    pub routes: Vec<RouteSettings>,
    pub callers: Callers,
    /// Where CONNECT leads besides.
    pub tunnels: Vec<TunnelTo>,
    /// Where the local authority is kept, if a route intercepts.
    pub ca_dir: PathBuf,
    pub limits: Limits,
    /// Every file that was read for it, the configuration included: what to watch.
    pub files: BTreeSet<PathBuf>,
    /// The environment variables that secrets were taken from.
    pub secret_variables: BTreeSet<String>,
}

impl Plan {
    /// Whether apps have to trust the local authority.
    pub fn intercepts(&self) -> bool {
        self.routes.iter().any(|route| route.intercept)
    }

    /// No command that prints one secret is told these variables, which hold others.
    pub(super) fn withhold(&mut self, variables: BTreeSet<String>) {
        let of_tokens = self.tokens.iter_mut().flat_map(|token| &mut token.credentials);
        let of_tokens = of_tokens.filter_map(|credential| credential.proof.source_mut());
        let of_clients = self.callers.clients.iter_mut().filter_map(|client| client.password.as_mut());
        for source in of_tokens.chain(of_clients) {
            if let SecretSource::Exec(exec) = source {
                exec.withheld = variables.iter().cloned().collect();
            }
        }
        self.secret_variables = variables;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long connections are still accepted after SIGTERM.
    pub delay: Duration,
    /// How long what is in flight may then take.
    pub timeout: Duration,
}
