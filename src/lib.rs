//! bearerd puts a fresh OAuth 2.0 bearer token on every request of an app that knows nothing of OAuth.
//!
//! Requests run from `inbound` through `forward` and `outbound` to the upstream; tokens come from `token`; the only
//! place where the two touch is `Reader::bearer`. The rooms stand here from the lowest to the highest, and each imports
//! only from rooms above it in this list; `tests/it/architecture.rs` keeps it so.

#![forbid(unsafe_code)]

pub mod bug;
pub mod clock;
pub mod life;
pub mod secret;

pub mod files;
pub mod observe;

pub mod tls;
pub mod wire;

pub mod ca;
pub mod token;

pub mod rules;

pub mod outbound;

pub mod forward;

pub mod admin;
pub mod inbound;

pub mod config;

pub mod app;
pub mod demo;

pub mod cli;
