//! Where the configuration is from, and what became of the last attempt to put another in force.
//!
//! Must never know what is in it.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::status::time;
use crate::observe::ReloadOutcome;

/// What is told of the configuration.
pub struct Configuration {
    /// A path, or that it is flags and environment.
    origin: String,
    state: Mutex<State>,
}

struct State {
    /// When the one that is in force was read.
    loaded_at: SystemTime,
    last: Option<Attempt>,
}

/// An attempt to put another configuration in force.
pub struct Attempt {
    pub at: SystemTime,
    pub outcome: ReloadOutcome,
    /// Asked whenever it is shown: what is waited for changes.
    pub why: Box<dyn Fn() -> Option<String> + Send>,
}

impl Configuration {
    /// One that has just been read.
    pub fn new(origin: String) -> Self {
        Self { origin, state: Mutex::new(State { loaded_at: SystemTime::now(), last: None }) }
    }

    pub fn attempted(&self, attempt: Attempt) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.outcome == ReloadOutcome::Applied {
            state.loaded_at = attempt.at;
        }
        state.last = Some(attempt);
    }

    pub(super) fn document(&self) -> Value {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "origin": self.origin,
            "loaded_at": time(state.loaded_at),
            "last_reload": state.last.as_ref().map(|attempt| json!({
                "at": time(attempt.at),
                "outcome": attempt.outcome.as_str(),
                "why": (attempt.why)(),
            })),
        })
    }
}
