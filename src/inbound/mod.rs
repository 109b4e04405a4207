//! Listeners and the connections of apps.
//!
//! `listener` binds and accepts, `worker` is one single-threaded world that carries traffic, `connection` serves one
//! app's connection. Must never know the identity provider.

mod connection;
mod linger;
pub mod listener;
pub mod settings;
mod watched;
pub mod worker;

pub use listener::{Acceptor, Bound, ConnectionLimit};
pub use settings::{Limits, ListenAddress, ListenSettings};
pub use worker::Worker;
