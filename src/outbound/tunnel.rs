//! Connections for tunnels: dialled by host and port, and never with a token.
//!
//! Below a wildcard it is the app that chooses the name, so each of these has a lookup of its own, and there are only so
//! many at a time. Must never know what is sent.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::dial::connector;
use super::guard::Named;
use super::lookup::{Lookups, Resolver};
use super::send::Outbound;
use crate::life::{Stock, Taken};
use crate::observe::ConnectionGuard;
use crate::rules::Tunnelled;
use crate::wire::authority::Host;
use crate::wire::fault::Fault;

/// For name and TCP together: what a route has by default (`timeouts.connect`).
const TIMEOUT: Duration = Duration::from_secs(5);

/// Names that the tunnels of all workers look up at a time: an eighth of the threads that there are for all lookups, so
/// that names that nobody answers for hold no route up.
const LOOKUPS: usize = 64;

/// Places for them.
#[derive(Clone, Debug)]
pub(super) struct TunnelLookups(Stock);

impl Default for TunnelLookups {
    fn default() -> Self {
        Self(Stock::of(LOOKUPS))
    }
}

/// A connection to a tunnel's far end.
#[derive(Debug)]
pub struct Tunnel {
    pub stream: TcpStream,
    _counted: (Taken, ConnectionGuard),
}

impl Outbound {
    /// Looks the name up and connects.
    ///
    /// # Errors
    /// What went wrong; nothing was sent.
    pub async fn tunnel(&self, to: &Tunnelled) -> Result<Tunnel, Fault> {
        let place = self.place().await?;
        let host = &to.authority().host;
        let port = to.authority().port_or(443);
        if let Host::Ip(address) = host {
            // The configuration says this very address: no wildcard takes one.
            self.destinations.guard().check((*address, port).into(), true)?;
        }
        let resolver = Resolver {
            lookups: Arc::new(Lookups::within(self.destinations.tunnel_lookups.0.clone())),
            guard: Arc::clone(self.destinations.guard()),
            port,
            named: match to.is_named() {
                _ if host.is_loopback() => Named::ThisMachine,
                true => Named::ByUs,
                false => Named::ByApp,
            },
        };
        let uri = Uri::try_from(format!("http://{host}:{port}/")).map_err(|_| Fault::Dns)?;
        match tokio::time::timeout(TIMEOUT, connector(resolver, TIMEOUT).call(uri)).await {
            Ok(Ok(io)) => Ok(Tunnel { stream: io.into_inner(), _counted: (place, to.metrics().connection()) }),
            Ok(Err(error)) => Err(Fault::of(&error)),
            Err(_) => Err(Fault::Timeout),
        }
    }
}
