//! The one pair of clocks that token life is counted on.
//!
//! `mono` is CLOCK_BOOTTIME: it goes on while the machine sleeps and nobody can step it. `wall` is read beside it,
//! because a virtual machine that is restored from a snapshot wakes with an old `mono` and a right `wall`. Whoever asks
//! "is it too late" asks both. Nothing else in the program reads a clock for token life: `Now` is an argument.

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::ops::Add;
use std::time::{Duration, Instant, SystemTime};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since boot, suspension included.
    pub mono: Duration,
    /// The date, as far as this machine knows it.
    pub wall: SystemTime,
}

impl Now {
    pub fn read() -> Self {
        Self { mono: since_boot(), wall: SystemTime::now() }
    }

    /// What they said when this thread first looked in this tick of the system's: at most some milliseconds ago.
    pub fn recent() -> Self {
        recently().1
    }

    /// The instant `life` from now, on both clocks.
    pub fn plus(self, life: Duration) -> Deadline {
        Deadline { mono: self.mono + life, wall: self.wall.checked_add(life).unwrap_or(self.wall) }
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    /// Both clocks, `later` further on: what a test that makes up its instants needs.
    fn add(self, later: Duration) -> Self {
        Self { mono: self.mono + later, wall: self.wall + later }
    }
}

/// An instant on both clocks. It has passed as soon as either says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    pub mono: Duration,
    pub wall: SystemTime,
}

impl Deadline {
    pub fn passed(self, now: Now) -> bool {
        now.mono >= self.mono || now.wall >= self.wall
    }

    /// The time left: the smaller of what the two clocks say, zero once it has passed.
    pub fn left(self, now: Now) -> Duration {
        let wall = self.wall.duration_since(now.wall).unwrap_or_default();
        self.mono.saturating_sub(now.mono).min(wall)
    }
}

/// The monotonic clock as [`Now::recent`] reads its two: for whatever lasts many ticks, and is noted with every request.
pub fn recent() -> Instant {
    recently().0
}

/// The clocks themselves cost a request as much as its TLS does if it looks at them a dozen times; the number of the
/// tick costs a tenth of one. While a machine sleeps no tick passes, so the first thing that it does when it wakes may
/// still be done by the old time.
#[cfg(target_os = "linux")]
fn recently() -> (Instant, Now) {
    thread_local!(static LAST: Cell<Option<(i64, i64, Instant, Now)>> = const { Cell::new(None) });
    let tick = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    match LAST.get() {
        Some((seconds, nanos, instant, now)) if (seconds, nanos) == (tick.tv_sec, tick.tv_nsec) => (instant, now),
        Some(_) | None => {
            let (instant, now) = (Instant::now(), Now::read());
            LAST.set(Some((tick.tv_sec, tick.tv_nsec, instant, now)));
            (instant, now)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn recently() -> (Instant, Now) {
    (Instant::now(), Now::read())
}

#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Elsewhere the monotonic clock, counted from the first reading; what it misses of a suspension the wall clock tells.
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(10);

    #[test]
    fn a_deadline_passes_by_either_clock() {
        let now = Now { mono: Duration::from_secs(100), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000) };
        let deadline = now.plus(LATER);
        assert!(!deadline.passed(now));
        assert!(deadline.passed(now + LATER));
        assert!(deadline.passed(Now { wall: now.wall + LATER, ..now }), "a restored snapshot: only the date moved");
        assert!(deadline.passed(Now { mono: now.mono + LATER, ..now }), "a date set back: only the uptime moved");
        assert_eq!(deadline.left(Now { wall: now.wall + LATER / 2, ..now }), LATER / 2);
    }

    #[test]
    fn what_is_recent_is_soon_renewed_and_never_ahead() {
        let first = recently();
        assert!(first.0 <= Instant::now() && first.1.mono <= Now::read().mono);
        let begun = Instant::now();
        // One look for both: a tick may pass between two.
        let next = loop {
            let next = recently();
            if next.0 != first.0 {
                break next;
            }
            assert!(begun.elapsed() < LATER, "no tick has passed");
        };
        assert!(next.0 > first.0 && next.1.mono > first.1.mono);
    }

    #[test]
    fn time_since_boot_goes_forward() {
        let first = Now::read();
        assert!(Now::read().mono >= first.mono);
    }
}
