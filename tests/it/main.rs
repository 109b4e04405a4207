//! What a user does, on real sockets with real TLS. One binary, so that it links once.
//!
//! The identity provider and the API are the demo's: real servers with a script and a log. Tests wait by deadline, bind
//! port 0 and never depend on speed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking; the rig's helpers are not marked as tests"
)]

mod support;

mod architecture;
mod basics;
mod benchmarks;
#[cfg(unix)]
mod cli;
mod monitoring;
mod reliability;
mod tokens;
mod traffic;
