//! Where apps connect, and what one of them may use up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One entry of `listen`.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// What `match.listen` names; the address as written where no name is given.
    pub name: Arc<str>,
    pub addresses: ListenAddress,
}

/// A TCP address as written. Port 0 asks the system for a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `localhost:PORT`: 127.0.0.1 and, where the machine has it, `::1`, on the same port.
    Localhost(u16),
    At(SocketAddr),
}

/// The top-level `limits`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// App connections in all.
    pub connections: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// From a connection's beginning to its first byte, and from the first byte of a request to the end of its head.
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
