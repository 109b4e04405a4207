//! The numbers of a token's life: when its last usable moment is, when to renew, how long to back off.
//!
//! Pure arithmetic on durations; must never know what a provider or a request is.

use std::time::Duration;

/// The `refresh` settings of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refresh {
    /// The share of its life that is left when renewal starts; above 0, below 1. `None` renews only when it is over:
    /// for providers that revoke the old token when they issue a new one.
    pub early: Option<f64>,
    /// A token is never used within this of its end; at most a tenth of its life.
    pub margin: Duration,
    /// No two token requests that succeed are closer than this.
    pub min_interval: Duration,
    /// The shortest time between renewals that rejected tokens force; doubles up to [`AFTER_401_MAX`] while they do not help.
    pub after_401: Duration,
    /// The life of a token whose answer does not tell it.
    pub assumed_lifetime: Duration,
    /// How long one token request may take.
    pub timeout: Duration,
    /// Whether a token that nobody has used since it was granted is renewed all the same.
    pub when_idle: bool,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            early: Some(0.25),
            margin: Duration::from_secs(10),
            min_interval: Duration::from_secs(1),
            after_401: Duration::from_secs(10),
            assumed_lifetime: Duration::from_secs(5 * 60),
            timeout: Duration::from_secs(10),
            when_idle: true,
        }
    }
}

/// Never more than so many token requests in any window of this length, whoever wants them: `budget: 60/1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// At least 1.
    pub requests: u32,
    pub window: Duration,
}

/// The longest that renewals forced by rejected tokens are held back: an API that always says 401 costs a request an hour.
pub const AFTER_401_MAX: Duration = Duration::from_secs(60 * 60);

/// The first wait after a failure, and the longest; equal jitter makes each a half to the whole of it.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The longest that a provider's Retry-After is obeyed: a typo of an hour must not become an outage of an hour.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// The longest life that is believed. Real tokens reach two months; beyond that it is a bug, and arithmetic stays safe.
const LIFE_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How much of the way to renewal jitter may take off: replicas that started together drift apart.
const JITTER: f64 = 0.1;

/// Of the usable life, the share after which renewal starts at the latest.
const LATEST_RENEWAL: f64 = 0.75;

/// When a token that lives for `life` stops being used and when it is renewed, both counted from when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub usable_for: Duration,
    pub renew_after: Duration,
}

impl Refresh {
    /// `jitter` is from 0 to 1.
    pub fn schedule(&self, life: Duration, jitter: f64) -> Schedule {
        let life = life.min(LIFE_MAX);
        let usable_for = life - self.margin.min(life / 10);
        let planned = match self.early {
            None => usable_for,
            Some(early) => {
                let planned = life.mul_f64(1.0 - early).min(usable_for.mul_f64(LATEST_RENEWAL));
                planned.mul_f64(1.0 - JITTER * jitter)
            }
        };
        let renew_after = planned.max(self.min_interval);
        Schedule { usable_for, renew_after }
    }
}

/// Exponential backoff with equal jitter; `failures` is at least 1, `jitter` from 0 to 1.
pub fn backoff(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    whole / 2 + (whole / 2).mul_f64(jitter)
}

/// The longest wait after a failure while the token that is held serves for so much longer: a quarter of that, so that a
/// provider that is back before the token's end has been asked again by then. With a token of an hour, which has fifteen
/// minutes left when it is to be renewed, that shortens the waits of the last two minutes.
pub fn patience(left: Duration) -> Duration {
    (left / 4).max(BACKOFF_FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_hour_is_renewed_at_three_quarters() {
        let Schedule { usable_for, renew_after } = Refresh::default().schedule(3_600 * SECOND, 0.0);
        assert_eq!(usable_for, 3_590 * SECOND);
        assert_eq!(renew_after, (3_590 * SECOND).mul_f64(0.75));
    }

    #[test]
    fn without_an_early_share_renewal_starts_at_the_end() {
        let refresh = Refresh { early: None, ..Refresh::default() };
        let Schedule { usable_for, renew_after } = refresh.schedule(3_600 * SECOND, 1.0);
        assert_eq!((usable_for, renew_after), (3_590 * SECOND, 3_590 * SECOND));
    }

    #[test]
    fn a_short_life_keeps_nine_tenths_of_itself() {
        let Schedule { usable_for, renew_after } = Refresh::default().schedule(4 * SECOND, 1.0);
        assert_eq!(usable_for, Duration::from_millis(3_600));
        assert_eq!(renew_after, Duration::from_millis(2_430), "three quarters of 3.6 s, a tenth of it taken off");
    }

    #[test]
    fn renewal_is_never_sooner_than_the_minimal_interval() {
        assert_eq!(Refresh::default().schedule(SECOND / 2, 1.0).renew_after, SECOND);
    }

    #[test]
    fn no_life_overflows() {
        let schedule = Refresh::default().schedule(Duration::MAX, 0.0);
        assert!(schedule.renew_after < schedule.usable_for && schedule.usable_for < LIFE_MAX);
    }

    #[test]
    fn backoff_doubles_to_half_a_minute_with_equal_jitter() {
        for (failures, whole) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (7, 30), (u32::MAX, 30)] {
            assert_eq!(backoff(failures, 0.0), whole * SECOND / 2, "{failures} failures");
            assert_eq!(backoff(failures, 1.0), whole * SECOND, "{failures} failures");
        }
    }
}
