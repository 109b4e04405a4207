//! What is left unsaid, so that a log can be read: of a flood one line a second, of an outage its beginning and its end.
//!
//! Atomics alone, since workers come by here with every request that goes wrong, and with every one that does not.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::event::Advice;
use super::reason::Reason;

/// A flood of refusals is one line a second for each reason: a log is no place to be attacked through.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What an API's answer says of the configuration is for whoever sets it up, and no event of its own.
const ADVICE_EVERY: Duration = Duration::from_secs(60);

/// Failures that end sooner are an error ratio and no outage, and belong on a dashboard.
const OUTAGE: Duration = Duration::from_secs(5);

/// Milliseconds since the program began, and one more: zero is never.
pub(super) type Tick = u64;

pub(super) fn tick(since_start: Duration) -> Tick {
    millis(since_start).saturating_add(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The lines about one subject: a route, a listener, or whatever concerns none. One subject's flood hides no other's
/// trouble.
#[derive(Debug)]
pub struct Quiet {
    reasons: [Kind; Reason::ALL.len()],
    /// Connections that could not be accepted.
    accepting: Kind,
    advising: [Kind; Advice::ALL.len()],
    /// When its upstream began to fail and did nothing but since, or zero.
    failing_since: AtomicU64,
    /// How many requests have failed since.
    failed: AtomicU64,
}

/// The lines of one kind.
#[derive(Debug, Default)]
struct Kind {
    /// When the last was written.
    last: AtomicU64,
    /// How many went unsaid since.
    unsaid: AtomicU64,
}

impl Default for Quiet {
    fn default() -> Self {
        let reasons = std::array::from_fn(|_| Kind::default());
        let advising = std::array::from_fn(|_| Kind::default());
        Self {
            reasons,
            advising,
            accepting: Kind::default(),
            failing_since: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl Quiet {
    /// `None` if a line for this reason was written within the last second; else how many went unsaid before this one.
    pub(super) fn may_say(&self, reason: Reason, now: Tick) -> Option<u64> {
        self.reasons[reason as usize].may_say(now, LINE_EVERY)
    }

    /// The same where no connection is accepted, which is tried ten times a second.
    pub(super) fn may_say_of_accepting(&self, now: Tick) -> Option<u64> {
        self.accepting.may_say(now, LINE_EVERY)
    }

    /// The same for advice, within the last minute.
    pub(super) fn may_advise(&self, advice: Advice, now: Tick) -> Option<u64> {
        self.advising[advice as usize].may_say(now, ADVICE_EVERY)
    }

    /// How many of this kind no line has told of yet.
    pub(super) fn unsaid(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize].unsaid.load(Relaxed)
    }

    /// A request failed by its upstream.
    pub(super) fn fails(&self, now: Tick) {
        // Whoever is first says since when.
        let _ = self.failing_since.compare_exchange(0, now, Relaxed, Relaxed);
        self.failed.fetch_add(1, Relaxed);
    }

    /// The upstream has answered. Says how long it had not, and how many requests that cost, if it was an outage.
    ///
    /// On the way of every request: where nothing failed it is one load.
    pub(super) fn works(&self, now: impl FnOnce() -> Tick) -> Option<(Duration, u64)> {
        if self.failing_since.load(Relaxed) == 0 {
            return None;
        }
        let since = self.failing_since.swap(0, Relaxed);
        let failed = self.failed.swap(0, Relaxed);
        let lasted = Duration::from_millis(now().saturating_sub(since));
        // Another worker may have been quicker.
        (since != 0 && lasted >= OUTAGE).then_some((lasted, failed))
    }
}

impl Kind {
    fn may_say(&self, now: Tick, every: Duration) -> Option<u64> {
        let Self { last, unsaid } = self;
        let before = last.load(Relaxed);
        let mine = (before == 0 || now >= before.saturating_add(millis(every)))
            && last.compare_exchange(before, now, Relaxed, Relaxed).is_ok();
        if mine {
            return Some(unsaid.swap(0, Relaxed));
        }
        unsaid.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_line_is_written_once_a_second_and_says_what_it_left_out() {
        let quiet = Quiet::default();
        let at = |millis| tick(Duration::from_millis(millis));
        assert_eq!(quiet.may_say(Reason::NoToken, at(0)), Some(0));
        assert_eq!(quiet.may_say(Reason::NoToken, at(1)), None);
        assert_eq!(quiet.may_say(Reason::NoToken, at(999)), None);
        assert_eq!(quiet.may_say(Reason::BadPath, at(999)), Some(0), "another kind");
        assert_eq!((quiet.unsaid(Reason::NoToken), quiet.unsaid(Reason::BadPath)), (2, 0));
        assert_eq!(quiet.may_say(Reason::NoToken, at(1_000)), Some(2));
        assert_eq!(quiet.may_say(Reason::NoToken, at(2_500)), Some(0));
    }

    #[test]
    fn an_outage_ends_once_and_a_hiccup_is_none() {
        let quiet = Quiet::default();
        let at = |seconds| tick(Duration::from_secs(seconds));
        assert_eq!(quiet.works(|| panic!("no look at the clock where nothing failed")), None);
        for second in [10, 11, 13] {
            quiet.fails(at(second));
        }
        assert_eq!(quiet.works(|| at(15)), Some((Duration::from_secs(5), 3)));
        assert_eq!(quiet.works(|| at(16)), None);
        quiet.fails(at(20));
        assert_eq!(quiet.works(|| at(24)), None);
        quiet.fails(at(100));
        assert_eq!(quiet.works(|| at(200)), Some((Duration::from_secs(100), 1)), "the hiccup is forgotten");
    }
}
