//! Where apps connect, and what one of them may use up.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::tls::ServerTls;

/// One entry of `listen`, or what `admin` and `health` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSettings {
    /// What `match.listen` names; the address as written where no name is given.
    pub name: Arc<str>,
    pub addresses: ListenAddress,
    /// `allow_remote`: other machines may reach it, and so whoever uses it has to prove who it is.
    pub allow_remote: bool,
    /// `None` is plain HTTP.
    pub tls: Option<ServerTls>,
}

impl ListenSettings {
    /// Whether a certificate is asked of whoever connects.
    pub fn asks_for_certificate(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// Whether nothing but a name tells who may use it.
    pub fn must_be_named(&self) -> bool {
        self.allow_remote && !self.asks_for_certificate()
    }
}

/// An address as written. Port 0 asks the system for a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `localhost:PORT`: 127.0.0.1 and, where the machine has it, `::1`, on the same port.
    Localhost(u16),
    At(SocketAddr),
    Unix(UnixSocket),
}

/// `unix:PATH`, and who may connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Absolute, and short enough for the system.
    pub path: PathBuf,
    /// Permission bits, from 0600 to 0777.
    pub mode: u32,
    /// A name or a number; a name is looked up when the socket is bound.
    pub owner: Option<Arc<str>>,
    pub group: Option<Arc<str>>,
}

impl UnixSocket {
    /// For our own user and root: what a socket is of which nothing more is said.
    pub const PRIVATE: u32 = 0o600;
    /// What it is where a group is named and no mode.
    pub const OF_GROUP: u32 = 0o660;

    /// Whether nobody but our own user and root is to connect. Who connects must be allowed to write (unix(7)).
    pub fn is_private(&self) -> bool {
        self.owner.is_none() && self.mode & 0o022 == 0
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::At(address) => fmt::Display::fmt(address, f),
            Self::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
        }
    }
}

/// The top-level `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// App connections in all.
    pub connections: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// From a connection's beginning to its first byte, TLS handshake included, and from the first byte of a request to
    /// the end of its head.
    pub head: Duration,
    /// A connection between two requests.
    pub idle: Duration,
}

impl Limits {
    /// How long a new connection may say nothing.
    pub fn first_byte(&self) -> Duration {
        self.head.min(self.idle)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 64 * 1024,
            headers: 100,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
        }
    }
}
