//! The numbers of a token's life: when its last usable moment is, when to renew, how long to back off.
//!
//! Pure arithmetic on durations; must never know what a provider or a request is.

use std::time::Duration;

/// The `refresh` settings of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refresh {
    /// The share of its life that is left when renewal starts; above 0, below 1.
    pub early: f64,
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
            early: 0.25,
            margin: Duration::from_secs(10),
            min_interval: Duration::from_secs(1),
            after_401: Duration::from_secs(10),
            assumed_lifetime: Duration::from_secs(5 * 60),
            timeout: Duration::from_secs(10),
            when_idle: true,
        }
    }
}

/// The longest that renewals forced by rejected tokens are held back: an API that always says 401 costs a request an hour.
pub const AFTER_401_MAX: Duration = Duration::from_secs(60 * 60);
