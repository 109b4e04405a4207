//! An identity provider and a TLS API that live in this process: the newcomer's first minute, and the servers that the
//! integration tests talk to.
//!
//! Both are real servers on real sockets. Each has a [`Script`](script::Script), which says what to answer instead of
//! the truth, and a [`Log`](log::Log), which says what arrived. They are harmless when shipped: they bind to loopback
//! only, and every key is made in memory at random. This room must never know what the proxy is: it sees requests, as
//! any provider and any API would.

pub mod answer;
pub mod api;
pub mod certs;
mod client_auth;
mod desk;
mod floor;
mod gate;
pub mod log;
pub mod provider;
pub mod script;
pub mod seen;
pub mod server;
pub mod steps;
pub mod tap;
pub mod token;

#[cfg(test)]
mod tests;

/// Why a demo server did not start. None of it is the user's fault but a port that is taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Listen { port: u16, source: std::io::Error },
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot set client certificates up: {0}")]
    ClientCertificates(#[from] rustls::server::VerifierBuilderError),
    #[error("cannot make signing keys: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}
