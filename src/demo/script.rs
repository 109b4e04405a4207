//! What a demo server is told to say instead of the truth.
//!
//! Must never know which server it is for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::request::Parts;

use super::answer::Answer;
use super::steps::Step;

/// Asked in this order: the rules, the queue (an answer is taken from it), what is always said, the truth.
#[derive(Default)]
pub struct Script(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    rules: Vec<Rule>,
    queue: VecDeque<Answer>,
    always: Option<Answer>,
    openings: VecDeque<Vec<Step>>,
}

type Rule = Box<dyn Fn(&Parts) -> Option<Answer> + Send>;

impl Script {
    /// Adds an answer for one request.
    pub fn push(&self, answer: impl Into<Answer>) {
        held(&self.0).queue.push_back(answer.into());
    }

    /// The answer once the queue is empty.
    pub fn always(&self, answer: impl Into<Answer>) {
        held(&self.0).always = Some(answer.into());
    }

    /// Answers the requests that the rule has an answer for. It runs under a lock: it must not use this script.
    pub fn when(&self, rule: impl Fn(&Parts) -> Option<Answer> + Send + 'static) {
        held(&self.0).rules.push(Box::new(rule));
    }

    /// What the next new connection does instead of HTTP, once TLS is up.
    pub fn on_connect(&self, steps: Vec<Step>) {
        held(&self.0).openings.push_back(steps);
    }

    /// Back to the truth.
    pub fn clear(&self) {
        *held(&self.0) = Lines::default();
    }

    /// How many queued answers have not been given yet.
    pub fn left(&self) -> usize {
        held(&self.0).queue.len()
    }

    pub(super) fn next(&self, request: &Parts) -> Answer {
        let mut lines = held(&self.0);
        let ruled = lines.rules.iter().find_map(|rule| rule(request));
        ruled.or_else(|| lines.queue.pop_front()).or_else(|| lines.always.clone()).unwrap_or(Answer::Serve)
    }

    pub(super) fn opening(&self) -> Option<Vec<Step>> {
        held(&self.0).openings.pop_front()
    }
}

/// The lock, whether or not a test panicked while it had it.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
