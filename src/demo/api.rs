//! An API that believes nothing: it checks the bearer of every request and tells what it received.
//!
//! Bodies are hashed as they arrive and never kept, so that it serves load tests too. Must never know the proxy.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderName, header};
use rustls::ServerConfig;

use super::Error;
use super::floor::{Floor, Tally};
use super::gate::{Gate, Rejection};
use super::log::{Late, Log};
use super::script::{Script, held};
use super::seen::Seen;
use super::server::{Counts, Host, Listener};
pub use super::token::{Verdict, Verifier};
use crate::secret::Fingerprint;

/// What an API is like at start.
pub struct Settings {
    /// On 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// None is plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether it speaks HTTP/2, and then how many streams one connection takes at once. Over TLS it is offered by ALPN
    /// beside HTTP/1.1; without TLS nothing else is spoken.
    pub http2: Option<u32>,
    /// The host in the URL that it says it has.
    pub host: String,
    /// Whose tokens it wants. None serves everybody who sends at most one line of credentials.
    pub verifier: Option<Verifier>,
    /// The header that the token comes in.
    pub header: HeaderName,
    /// The word before the token; empty for none.
    pub scheme: String,
}

impl Settings {
    pub fn new(tls: ServerConfig, verifier: Verifier) -> Self {
        Self { tls: Some(Arc::new(tls)), verifier: Some(verifier), ..Self::plain() }
    }

    /// Without TLS, open to everybody.
    pub fn plain() -> Self {
        Self {
            port: 0,
            tls: None,
            http2: None,
            host: "localhost".to_owned(),
            verifier: None,
            header: header::AUTHORIZATION,
            scheme: "Bearer".to_owned(),
        }
    }
}

/// A running API. Dropping it stops it.
pub struct Api {
    floor: Arc<Floor>,
    host: Host<Floor>,
    url: String,
}

impl Api {
    /// Serves on the runtime that this is called on, until it is stopped or dropped.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let listener = Listener::bind(settings.port)?;
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}:{}", settings.host, listener.addr.port());
        let gate = Gate {
            verifier: settings.verifier,
            header: settings.header,
            scheme: settings.scheme,
            accepted: Mutex::default(),
            rejected: Mutex::default(),
        };
        let floor = Arc::new(Floor {
            gate,
            script: Script::default(),
            seen: Log::new(),
            logging: AtomicBool::new(true),
            tally: Tally::default(),
        });
        Ok(Self { host: Host::start(listener, settings.tls, settings.http2, floor.clone()), floor, url })
    }

    pub fn addr(&self) -> SocketAddr {
        self.host.addr()
    }

    /// Scheme, host and port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it says instead of the truth. A scripted answer is given whatever the credential is.
    pub fn script(&self) -> &Script {
        &self.floor.script
    }

    /// Takes a token that no provider signed.
    pub fn accept(&self, token: &str) {
        held(&self.floor.gate.accepted).push(Fingerprint::of(token.as_bytes()));
    }

    /// Refuses a token, although it is good, so many times.
    pub fn reject_times(&self, token: Fingerprint, times: u32) {
        self.forgive(token);
        if times > 0 {
            held(&self.floor.gate.rejected).push(Rejection { token, times: Some(times) });
        }
    }

    /// Refuses a token, although it is good, until it is forgiven.
    pub fn reject(&self, token: Fingerprint) {
        self.forgive(token);
        held(&self.floor.gate.rejected).push(Rejection { token, times: None });
    }

    pub fn forgive(&self, token: Fingerprint) {
        held(&self.floor.gate.rejected).retain(|rejection| rejection.token != token);
    }

    /// Off keeps the counts only, for loads of requests; `requests` and `wait_for` then learn of nothing new.
    pub fn set_logging(&self, on: bool) {
        self.floor.logging.store(on, Ordering::Relaxed);
    }

    pub fn log(&self) -> &Log<Seen> {
        &self.floor.seen
    }

    /// The requests logged so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.floor.seen.all()
    }

    /// Waits until at least so many requests are logged, and yields them.
    pub async fn wait_for(&self, requests: usize, within: Duration) -> Result<Vec<Seen>, Late> {
        self.floor.seen.wait_for(requests, within).await
    }

    /// How many requests there were, logged or not.
    pub fn count(&self) -> u64 {
        self.floor.tally.requests.load(Ordering::Relaxed)
    }

    /// How many of them came with such a credential.
    pub fn count_of(&self, verdict: Verdict) -> u64 {
        self.floor.tally.verdicts[verdict as usize].load(Ordering::Relaxed)
    }

    /// How many bytes of request bodies have been read.
    pub fn body_bytes(&self) -> u64 {
        self.floor.tally.body_bytes.load(Ordering::Relaxed)
    }

    /// Connections and concurrency.
    pub fn counts(&self) -> &Counts {
        self.host.counts()
    }

    /// Drops the listener and every connection; both are gone when this returns.
    pub async fn stop(&self) {
        self.host.stop().await;
    }

    /// Listens on the same port again, dropping what is open.
    pub async fn restart(&self) -> Result<(), Error> {
        self.host.restart().await
    }

    /// The same with another certificate.
    pub async fn restart_with(&self, tls: ServerConfig) -> Result<(), Error> {
        self.host.restart_with(tls).await
    }
}
