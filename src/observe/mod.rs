//! What happened, once: every event becomes its metric and its log line here.
//!
//! Must never know bodies, secrets or configuration.

pub mod log;
