//! How long things took, as counts by bucket: added to by relaxed increments, read without a lock.
//!
//! The library's histogram is a mutex around a vector and keeps what it counted to itself; the status page wants
//! percentiles, and a request should not wait for a scrape. Must never know what it is that took so long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// From half a millisecond, what a local API takes, to a minute, where `timeouts.headers` ends a request; seconds.
pub(super) const BOUNDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The last one is for what took longer than the highest bound.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations. Two relaxed additions each.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    buckets: [AtomicU64; BUCKETS],
    /// Of all of them; 2^64 microseconds are more than half a million years.
    micros: AtomicU64,
}

impl Latencies {
    pub(super) fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        // To the nearest: a hundred thousand cut-off halves would show in a mean.
        let micros = u64::from((took.subsec_nanos() + 500) / 1_000);
        self.micros.fetch_add(took.as_secs().saturating_mul(1_000_000).saturating_add(micros), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Spread {
        Spread(std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)))
    }

    /// Of all durations, in seconds.
    pub(super) fn sum(&self) -> f64 {
        Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// How many fell into each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread(pub(super) [u64; BUCKETS]);

impl Spread {
    pub(super) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What came after `earlier` was read.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|bucket| self.0[bucket].saturating_sub(earlier.0[bucket])))
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum += more);
    }

    /// The bound of each bucket and what fell into it, as a histogram is written; the last bound is infinite.
    pub(super) fn bounded(&self) -> [(f64, u64); BUCKETS] {
        std::array::from_fn(|bucket| (BOUNDS.get(bucket).copied().unwrap_or(f64::INFINITY), self.0[bucket]))
    }

    /// In how many seconds this share of them (from 0 to 1) was done; `None` if there were none.
    ///
    /// Within a bucket they are taken to be spread evenly, and what took longer than the highest bound to have taken as
    /// long as that: just as Prometheus's `histogram_quantile` does it, so that page and dashboard say the same. It is
    /// as exact as the buckets are fine: a request of 6 ms alone reads as 7.5 ms.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share * count as f64;
        let mut below = 0;
        for (bucket, within) in self.0.iter().enumerate() {
            if *within > 0 && (below + within) as f64 >= rank {
                let lower = bucket.checked_sub(1).map_or(0.0, |lower| BOUNDS[lower]);
                let upper = BOUNDS.get(bucket).copied().unwrap_or(lower);
                let part = (rank - below as f64) / *within as f64;
                // Microseconds: what a float has behind them is noise.
                return Some(((lower + (upper - lower) * part.max(0.0)) * 1e6).round() / 1e6);
            }
            below += within;
        }
        BOUNDS.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: &[(Duration, u32)]) -> Spread {
        let latencies = Latencies::default();
        for (took, times) in durations {
            (0..*times).for_each(|_| latencies.record(*took));
        }
        latencies.read()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let spread = of(&[(Duration::ZERO, 1), (MS / 2, 1), (MS, 1), (60_000 * MS, 1), (60_001 * MS, 1)]);
        let counted: Vec<_> = spread.0.iter().enumerate().filter(|(_, many)| **many > 0).collect();
        assert_eq!(counted, [(0, &2), (1, &1), (14, &1), (15, &1)]);
        assert_eq!(spread.bounded()[1], (0.001, 1));
        assert_eq!(spread.bounded()[15], (f64::INFINITY, 1));
    }

    #[test]
    fn the_sum_is_rounded_and_not_cut_off() {
        let latencies = Latencies::default();
        for _ in 0..1_000 {
            latencies.record(Duration::from_nanos(1_400));
            latencies.record(Duration::from_nanos(1_600));
        }
        assert_eq!(latencies.sum(), 0.003);
    }

    #[test]
    fn quantiles_are_taken_evenly_within_a_bucket() {
        assert_eq!(of(&[]).quantile(0.5), None);
        // All within 5 to 10 ms.
        assert_eq!(of(&[(6 * MS, 100)]).quantile(0.5), Some(0.0075));
        assert_eq!(of(&[(6 * MS, 100)]).quantile(0.99), Some(0.009_95));
        assert_eq!(of(&[(6 * MS, 1)]).quantile(1.0), Some(0.01));
        assert_eq!(of(&[(Duration::ZERO, 4)]).quantile(0.5), Some(0.000_25));
        // Ninety of a hundred below 1 ms, nine more below 250, one below 500.
        let mixed = of(&[(MS, 90), (200 * MS, 9), (300 * MS, 1)]);
        assert_eq!(mixed.quantile(0.9), Some(0.001));
        assert_eq!(mixed.quantile(0.99), Some(0.25));
        assert_eq!(mixed.quantile(1.0), Some(0.5));
        assert_eq!(of(&[(1_000_000 * MS, 3)]).quantile(0.5), Some(60.0), "nobody knows how much longer");
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let (before, after) = (of(&[(MS, 3)]), of(&[(MS, 5), (6 * MS, 2)]));
        assert_eq!(after.since(&before), of(&[(MS, 2), (6 * MS, 2)]));
        let mut sum = after.since(&before);
        sum.add(&before);
        assert_eq!(sum, after);
    }
}
