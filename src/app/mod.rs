//! Puts the rooms together: a plan becomes bound sockets, bound sockets run, and a signal ends it.
//!
//! Must never know header names or OAuth.

mod build;
mod changes;
mod compiled;
mod descriptors;
mod fixed;
pub mod harden;
mod pages;
mod passwords;
mod reload;
mod run;
mod service;

pub use build::{AppError, Bound};
pub use reload::{Reading, Reload};
pub use run::Ended;
pub use service::Service;
