//! Listeners and the connections of apps.
//!
//! `listener` binds and accepts, `door` lets in, TLS included, `worker` is one single-threaded world that carries
//! traffic, `connection` serves one app's connection. Must never know the identity provider.

mod connection;
pub mod door;
mod linger;
pub mod listener;
pub mod settings;
pub mod stream;
mod unix;
mod watched;
pub mod worker;

pub use door::Door;
pub use listener::{Acceptor, Address, Bound, ConnectionLimit, Listener};
pub use settings::{Limits, ListenAddress, ListenSettings, UnixSocket};
pub use unix::owners;
pub use worker::Worker;
