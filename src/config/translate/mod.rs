//! Words → plan.
//!
//! Each value is fine by itself when it comes here; what is left are the questions between them: does a name lead
//! anywhere, do two things collide, does a secret go where it may. Problems go on being collected, with their places.
//! Must never know flags, variables or YAML.

mod callers;
mod credentials;
mod listeners;
mod provider;
mod routes;
mod tokens;
mod tunnels;

pub(super) use self::routes::in_clear;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use http::{HeaderName, HeaderValue};

use super::formats::{self, STDOUT};
use super::plan::{Plan, Shutdown};
use super::problem::{Complaint, Path, Place, Problem, Report, Step};
use super::tree::Node;
use super::words::{Named, Workers};
use super::written::{Document, Level, LogFormat, Tls};
use crate::inbound::settings::Limits;
use crate::observe::access::AccessLog;
use crate::observe::log::{self, LogSettings};
use crate::tls::TlsSettings;
use crate::wire::headers::is_of_one_hop;

/// `auto` stops here: beyond it the upstream, not the proxy, is what is waited for.
const AUTO_WORKERS: usize = 4;

/// What was written, beside the words: where, and what of it was wrong already.
pub struct Written<'a> {
    pub tree: &'a Node,
    pub bad: &'a HashSet<String>,
    pub parallelism: usize,
    /// What to do, where there is no file, so that one of these keys is there.
    pub without_file: fn(&[&str]) -> Option<String>,
}

/// The plan, as far as it goes: it may be used only if `report` has no problem.
pub fn translate(document: Document, written: &Written<'_>, files: BTreeSet<PathBuf>, report: &mut Report) -> Plan {
    let mut scribe = Scribe { written, report };
    let Document {
        listen,
        admin,
        health,
        workers,
        log,
        access_log,
        tracing,
        shutdown,
        state_dir,
        tokens,
        routes,
        callers,
        tunnel,
        intercept,
        limits,
    } = document;
    let names = listeners::names(&listen.0);
    let entries = listen.0.len();
    let (listeners, admin, health) =
        listeners::translate(&mut scribe, listen.0, admin.on(), health.on(), !callers.clients.is_empty());
    let tokens = tokens::translate(&mut scribe, tokens);
    let clients = callers::names(&callers.clients);
    let routes = routes::translate(&mut scribe, routes.unwrap_or_default(), &names, &clients);
    let tunnels = tunnels::translate(&mut scribe, &tunnel.0, &routes);
    let ca_dir = tunnels::ca_dir(&mut scribe, intercept.ca_dir, &routes);
    let callers = callers::translate(&mut scribe, callers);
    // What is wrong with one may hide how it could be proved there.
    if listeners.len() == entries && !scribe.any_bad_at_or_below("listen") {
        callers::warn_of_the_unprovable(&mut scribe, &callers, &listeners);
    }
    Plan {
        listeners,
        admin,
        health,
        workers: match workers {
            Workers::Auto => written.parallelism.clamp(1, AUTO_WORKERS),
            Workers::Count(count) => count,
        },
        log: LogSettings {
            level: match log.level {
                Level::Error => log::Level::Error,
                Level::Warn => log::Level::Warn,
                Level::Info => log::Level::Info,
                Level::Debug => log::Level::Debug,
                Level::Trace => log::Level::Trace,
            },
            format: match log.format {
                LogFormat::Auto => log::Format::Auto,
                LogFormat::Pretty => log::Format::Pretty,
                LogFormat::Json => log::Format::Json,
            },
        },
        access_log: access_log.on().map(|to| match to.as_str() {
            STDOUT => AccessLog::Stdout,
            path => AccessLog::File(PathBuf::from(path)),
        }),
        tracing,
        shutdown: Shutdown { delay: shutdown.delay.0, timeout: shutdown.timeout.0 },
        state_dir: state_dir.on().map(PathBuf::from),
        tokens,
        routes,
        callers,
        tunnels,
        ca_dir,
        limits: Limits {
            connections: limits.connections,
            header_bytes: limits.header_bytes.0,
            headers: limits.headers,
            head: limits.head.0,
            idle: limits.idle.0,
        },
        files,
        secret_variables: BTreeSet::new(),
    }
}

/// Notes problems at the places of paths.
struct Scribe<'a> {
    written: &'a Written<'a>,
    report: &'a mut Report,
}

impl Scribe<'_> {
    /// At the value.
    fn problem(&mut self, path: &Path, complaint: Complaint) {
        let place = self.written.tree.place_of(path).clone();
        self.report.problems.push(Problem::new(place, path, complaint));
    }

    /// Says that none of these keys is there, and what to write: without a file, how to write it at all comes first.
    fn missing(&mut self, path: &Path, keys: &[&str], hint: Option<String>) {
        let words: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        let mut complaint = Complaint::new(format!("{} is missing", words.join(" or ")));
        let no_file = *self.written.tree.place_of_key(path) == Place::Nowhere;
        let cure = if no_file { (self.written.without_file)(keys) } else { None };
        complaint.hint = match (cure, hint) {
            (Some(cure), Some(hint)) => Some(format!("{cure}; {hint}")),
            (cure, hint) => cure.or(hint),
        };
        self.key_problem(path, complaint);
    }

    /// At the value.
    fn warning(&mut self, path: &Path, complaint: Complaint) {
        let place = self.written.tree.place_of(path).clone();
        self.report.warnings.push(Problem::new(place, path, complaint));
    }

    /// At the key.
    fn key_problem(&mut self, path: &Path, complaint: Complaint) {
        let place = self.written.tree.place_of_key(path).clone();
        self.report.problems.push(Problem::new(place, path, complaint));
    }

    fn key_warning(&mut self, path: &Path, complaint: Complaint) {
        let place = self.written.tree.place_of_key(path).clone();
        self.report.warnings.push(Problem::new(place, path, complaint));
    }

    /// Whether the user wrote something at `path`.
    fn is_there(&self, path: &Path) -> bool {
        self.written.tree.find(path).is_some()
    }

    /// Whether what stands at `path` is a preset's.
    fn is_of_a_preset(&self, path: &Path) -> bool {
        matches!(self.written.tree.place_of(path), Place::Preset(_))
    }

    /// Whether the key at the root that `path` starts with was written.
    fn is_written(&self, path: &Path) -> bool {
        matches!(path.0.first(), Some(Step::Key(key)) if self.written.tree.get(key).is_some())
    }

    fn is_bad(&self, path: &Path) -> bool {
        !self.written.bad.is_empty() && self.written.bad.contains(&path.to_string())
    }

    /// Whether one of these keys below `path` was wrong, so that nothing can be said about its absence.
    fn any_bad(&self, path: &Path, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.is_bad(&path.with(*key)))
    }

    /// Whether something was wrong with the value of this key at the root, or anywhere in it.
    fn any_bad_at_or_below(&self, key: &str) -> bool {
        let below =
            |path: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.written.bad.iter().any(|path| below(path))
    }

    fn tls(&mut self, path: &Path, tls: Tls) -> TlsSettings {
        let Tls { ca_file, extra_ca_file, cert_file, key_file, server_name } = tls;
        for (there, missing) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
            let alone = match there {
                "cert_file" => cert_file.is_some() && key_file.is_none(),
                _ => key_file.is_some() && cert_file.is_none(),
            };
            if alone && !self.any_bad(path, &[missing]) {
                self.key_problem(&path.with(there), Complaint::new(format!("needs `{missing}` beside it")));
            }
        }
        TlsSettings {
            ca_file: ca_file.map(PathBuf::from),
            extra_ca_file: extra_ca_file.map(PathBuf::from),
            identity: cert_file.map(PathBuf::from).zip(key_file.map(PathBuf::from)),
            server_name: server_name.and_then(|name| formats::server_name(&name).ok()),
        }
    }

    /// Headers to send, without those that `owned` says somebody else sets.
    fn headers(
        &mut self,
        path: &Path,
        headers: Named<String>,
        owned: impl Fn(&HeaderName) -> Option<Complaint>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut done = Vec::with_capacity(headers.0.len());
        let mut seen: HashMap<HeaderName, String> = HashMap::new();
        for (written, value) in headers.0 {
            let (Ok(name), Ok(value)) = (formats::header_name(&written), formats::header_value(&value)) else {
                continue;
            };
            let path = path.with(written.as_str());
            if let Some(complaint) = owned(&name) {
                self.key_problem(&path, complaint);
            } else if let Some(first) = seen.insert(name.clone(), written) {
                self.key_problem(&path, Complaint::new(format!("the same header as `{first}`")));
            } else {
                done.push((name, value));
            }
        }
        done
    }
}

/// Headers that belong to the connection or to the framing of a message (RFC 9110, section 7.6.1), and so to nobody
/// who writes a configuration.
fn hop_by_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    is_of_one_hop(name) || ["content-length", "host"].contains(&name) || name.starts_with("proxy-")
}
