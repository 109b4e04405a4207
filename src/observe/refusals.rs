//! The last refusals, for the status page. Locked only where a line is written, which is seldom by construction.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::quiet::Quiet;
use super::reason::Reason;

/// As many as fit on a screen.
const MOST: usize = 20;

/// Of one reason at one place: somebody who tries one name after the other does not push the rest out.
const MOST_ALIKE: usize = 5;

/// Requests or connections that were refused alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When a line last told of it.
    pub at: SystemTime,
    pub reason: Reason,
    pub route: Option<Arc<str>>,
    pub listener: Option<Arc<str>>,
    /// For the operator, in our own words.
    pub what: String,
    pub times: u64,
}

#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<VecDeque<Entry>>);

#[derive(Debug)]
struct Entry {
    refusal: Refusal,
    /// Where those are counted that no line has told of yet.
    quiet: Arc<Quiet>,
}

impl Refusals {
    /// `refusal.times` is this one and those that went unsaid before it.
    pub(super) fn note(&self, refusal: Refusal, quiet: &Arc<Quiet>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |entry: &Entry| {
            entry.is_like(refusal.reason, quiet)
                && entry.refusal.route == refusal.route
                && entry.refusal.what == refusal.what
        };
        let entry = match last.iter().position(is_same).and_then(|at| last.remove(at)) {
            Some(mut entry) => {
                let times = entry.refusal.times.saturating_add(refusal.times);
                entry.refusal = Refusal { times, ..refusal };
                entry
            }
            None => Entry { refusal, quiet: Arc::clone(quiet) },
        };
        let alike = |other: &Entry| other.is_like(entry.refusal.reason, quiet);
        if last.iter().filter(|other| alike(other)).count() == MOST_ALIKE
            && let Some(oldest) = last.iter().rposition(alike)
        {
            last.remove(oldest);
        }
        last.push_front(entry);
        last.truncate(MOST);
    }

    /// The newest first. What no line has told of yet counts with the newest of its kind.
    pub(super) fn last(&self) -> Vec<Refusal> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer_alike = |index: usize, entry: &Entry| {
            last.iter().take(index).any(|newer| newer.is_like(entry.refusal.reason, &entry.quiet))
        };
        let entries = last.iter().enumerate().map(|(index, entry)| {
            let unsaid = if newer_alike(index, entry) { 0 } else { entry.quiet.unsaid(entry.refusal.reason) };
            Refusal { times: entry.refusal.times.saturating_add(unsaid), ..entry.refusal.clone() }
        });
        entries.collect()
    }
}

impl Entry {
    fn is_like(&self, reason: Reason, quiet: &Arc<Quiet>) -> bool {
        self.refusal.reason == reason && Arc::ptr_eq(&self.quiet, quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: Reason, what: &str, times: u64) -> Refusal {
        Refusal { at: SystemTime::now(), reason, route: None, listener: None, what: what.to_owned(), times }
    }

    fn shown(refusals: &Refusals) -> Vec<(Reason, String, u64)> {
        refusals.last().into_iter().map(|refusal| (refusal.reason, refusal.what, refusal.times)).collect()
    }

    #[test]
    fn alike_are_one_and_the_newest_is_first() {
        let (refusals, quiet) = (Refusals::default(), Arc::new(Quiet::default()));
        refusals.note(refusal(Reason::BadPath, "a", 1), &quiet);
        refusals.note(refusal(Reason::NoRoute, "b", 1), &quiet);
        refusals.note(refusal(Reason::BadPath, "a", 4), &quiet);
        assert_eq!(shown(&refusals), [(Reason::BadPath, "a".into(), 5), (Reason::NoRoute, "b".into(), 1)]);
        // Two more that no line tells of.
        for _ in 0..3 {
            quiet.may_say(Reason::BadPath, 1);
        }
        assert_eq!(shown(&refusals)[0], (Reason::BadPath, "a".into(), 7));
    }

    #[test]
    fn one_kind_does_not_push_the_others_out() {
        let (refusals, quiet, other) = (Refusals::default(), Arc::new(Quiet::default()), Arc::new(Quiet::default()));
        refusals.note(refusal(Reason::NoRoute, "first", 1), &quiet);
        for name in 0..1_000 {
            refusals.note(refusal(Reason::HostNotOurs, &format!("host {name}"), 1), &quiet);
            refusals.note(refusal(Reason::HostNotOurs, &format!("host {name}"), 1), &other);
        }
        let shown = shown(&refusals);
        assert_eq!(shown.len(), 1 + 2 * MOST_ALIKE);
        assert_eq!((&shown[0].1, &shown.last().unwrap().1), (&"host 999".into(), &"first".into()));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let refusals = Refusals::default();
        for reason in Reason::ALL {
            for what in ["a", "b"] {
                refusals.note(refusal(reason, what, 1), &Arc::new(Quiet::default()));
            }
        }
        assert_eq!(refusals.last().len(), MOST);
    }
}
