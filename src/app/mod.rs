//! Puts the rooms together: a plan becomes bound sockets, bound sockets run, and a signal ends it.
//!
//! Must never know header names or OAuth.

mod build;
mod descriptors;
pub mod harden;
mod pages;
mod passwords;
mod run;

pub use build::{AppError, Bound};
pub use run::Ended;
