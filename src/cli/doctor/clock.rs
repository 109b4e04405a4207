//! This machine's clock against another's: by the `Date` of an answer that had to be fetched anyway.
//!
//! `Date` counts whole seconds, and an answer takes its time, so what is told is how far apart the two are at least.

use std::time::{Duration, SystemTime};

use super::report::{Report, begin, spell};

/// What is off by more is worth a word: providers that are strict take a JWT from no further ahead than ten seconds
/// (FAPI 2.0, Auth0).
const WORTH_A_WORD: Duration = Duration::from_secs(5);

/// What is off by more than the life that an assertion has by default makes each one expired or not yet made when it
/// arrives, and no provider is known that allows for more.
const BREAKS: Duration = Duration::from_secs(60);

/// How far this machine's clock is from another, at the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    Ahead(Duration),
    Behind(Duration),
}

/// `date` was said somewhere between `from` and `until`, by our clock. `None` where the two may agree.
pub(super) fn off(date: SystemTime, from: SystemTime, until: SystemTime) -> Option<Off> {
    let until_latest = date + Duration::from_secs(1);
    match (from.duration_since(until_latest), date.duration_since(until)) {
        (Ok(ahead), _) if !ahead.is_zero() => Some(Off::Ahead(ahead)),
        (_, Ok(behind)) if !behind.is_zero() => Some(Off::Behind(behind)),
        (_, _) => None,
    }
}

/// Tells it, and whether it breaks what is signed here.
pub(super) fn tell(report: &mut Report, whose: &str, date: Option<SystemTime>, from: SystemTime) -> bool {
    let begun = begin("clock", whose);
    let until = SystemTime::now();
    let Some(date) = date else {
        report.leave(begun, "its answer has no `Date` to compare with");
        return false;
    };
    let (by, how) = match off(date, from, until) {
        Some(Off::Ahead(by)) => (by, "ahead of"),
        Some(Off::Behind(by)) => (by, "behind"),
        None => (Duration::ZERO, ""),
    };
    if by <= WORTH_A_WORD {
        report.ok(begun, format!("this machine's clock agrees within {}", spell(WORTH_A_WORD)));
        return false;
    }
    let what = format!("this machine's clock is {} {how} the one there", spell(by));
    let cure = "set it and keep it right with NTP: `timedatectl` says whether that is on, `chronyc tracking` how far it \
                is; a container has the clock of its host";
    if by <= BREAKS {
        report.warn(begun, what, format!("{cure}. Strict providers refuse assertions from ten seconds on"));
        return false;
    }
    report.fail(begun, what, format!("{cure}. JWTs that are signed or checked by it are expired or not valid yet"));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_by_no_more_than_can_be_told() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_millis(seconds);
        // Said in the second 1000, which goes on until 1001; the question took from `from` to `until`.
        for (from, until, expected) in [
            (1_000_500, 1_000_600, None),
            (999_000, 1_002_000, None),
            (1_000_900, 1_001_500, None),
            (1_004_000, 1_005_000, Some(Off::Ahead(Duration::from_secs(3)))),
            (990_000, 997_000, Some(Off::Behind(Duration::from_secs(3)))),
        ] {
            assert_eq!(off(at(1_000_000), at(from), at(until)), expected, "{from} {until}");
        }
    }
}
