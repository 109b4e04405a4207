//! Listeners and the connections of apps.
//!
//! `listener` binds and accepts, `inherited` are sockets that were bound before, `door` lets in, TLS included, `worker` is one single-threaded world that carries
//! traffic, `connection` serves one app's connection, by HTTP/1 or by way of `http2`; `preface` tells which,
//! `current` holds what a reload exchanges, and `intercept` is what is inside a CONNECT. Must never know the identity provider.

mod connection;
mod current;
pub mod door;
mod http2;
pub mod inherited;
mod intercept;
mod linger;
pub mod listener;
mod preface;
pub mod settings;
pub mod stream;
mod unix;
mod watched;
pub mod worker;

pub use door::Door;
pub use inherited::Inherited;
pub use listener::{Acceptor, Address, Bound, ConnectionLimit, Listener};
pub use settings::{Limits, ListenAddress, ListenSettings, UnixSocket};
pub use unix::{answers, owners};
pub use worker::{Live, Worker};
