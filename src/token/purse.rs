//! What a credential may still spend of its budget of token requests. Pure.
//!
//! Providers count requests in windows and lock out who exceeds them, some for hours. Every token request goes through
//! here, whatever caused it. Must never know why one is wanted beyond whether it is a necessity.

use std::collections::VecDeque;
use std::time::Duration;

use super::policy::Budget;

/// The token requests of one credential within the window, oldest first, on the clock since boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Purse {
    spent: VecDeque<Duration>,
}

impl Purse {
    pub(super) fn spend(&mut self, budget: Budget, now: Duration) {
        self.forget(budget, now);
        self.spent.push_back(now);
        // A clock that stands still could fill it otherwise.
        while self.spent.len() > budget.requests as usize {
            self.spent.pop_front();
        }
    }

    /// When the next request may be made if `reserve` of the budget are to be left untouched; `None` is never.
    pub(super) fn free_from(&self, budget: Budget, now: Duration, reserve: usize) -> Option<Duration> {
        let most = (budget.requests as usize).saturating_sub(reserve);
        let live = self.live(budget, now);
        match live.checked_sub(most) {
            None => Some(Duration::ZERO),
            Some(_) if most == 0 => None,
            // When enough of the oldest have left the window.
            Some(over) => self.spent.get(self.spent.len() - live + over).map(|at| *at + budget.window),
        }
    }

    /// When another try after failures may be made: the first half of a budget is there for bad luck, the other half is
    /// spread over the window, so that it is not gone when the provider is back.
    pub(super) fn retry_from(&self, budget: Budget, now: Duration) -> Duration {
        let live = self.live(budget, now);
        let paced = live * 2 >= budget.requests as usize;
        self.spent
            .back()
            .filter(|_| paced)
            .map_or(Duration::ZERO, |last| *last + budget.window / budget.requests.max(1))
    }

    /// How many requests the budget has left now.
    pub(super) fn left(&self, budget: Budget, now: Duration) -> u32 {
        budget.requests.saturating_sub(u32::try_from(self.live(budget, now)).unwrap_or(u32::MAX))
    }

    fn live(&self, budget: Budget, now: Duration) -> usize {
        self.spent.iter().filter(|at| **at + budget.window > now).count()
    }

    /// How long ago each request was, oldest first.
    pub(super) fn ages(&self, now: Duration) -> Vec<Duration> {
        self.spent.iter().map(|at| now.saturating_sub(*at)).collect()
    }

    /// What was spent before a restart.
    pub(super) fn recall(&mut self, now: Duration, ages: &[Duration]) {
        let mut spent: Vec<_> = ages.iter().map(|age| now.saturating_sub(*age)).collect();
        spent.sort_unstable();
        self.spent = spent.into();
    }

    fn forget(&mut self, budget: Budget, now: Duration) {
        while self.spent.front().is_some_and(|at| *at + budget.window <= now) {
            self.spent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const BUDGET: Budget = Budget { requests: 4, window: Duration::from_secs(3_600) };

    fn spent(minutes: &[u32]) -> Purse {
        let mut purse = Purse::default();
        minutes.iter().for_each(|minute| purse.spend(BUDGET, *minute * MINUTE));
        purse
    }

    #[test]
    fn what_is_left_is_free_at_once_and_the_rest_as_the_window_moves() {
        assert_eq!(spent(&[]).free_from(BUDGET, Duration::ZERO, 0), Some(Duration::ZERO));
        assert_eq!(spent(&[100, 101, 102]).free_from(BUDGET, 103 * MINUTE, 0), Some(Duration::ZERO));
        let full = spent(&[100, 101, 102, 103]);
        assert_eq!(full.free_from(BUDGET, 104 * MINUTE, 0), Some(160 * MINUTE));
        assert_eq!(full.free_from(BUDGET, 160 * MINUTE, 0), Some(Duration::ZERO), "the oldest has left");
    }

    #[test]
    fn a_reserve_is_left_untouched() {
        let half = spent(&[100, 101]);
        assert_eq!(half.free_from(BUDGET, 102 * MINUTE, 1), Some(Duration::ZERO));
        assert_eq!(half.free_from(BUDGET, 102 * MINUTE, 2), Some(160 * MINUTE));
        assert_eq!(half.free_from(BUDGET, 102 * MINUTE, 3), Some(161 * MINUTE));
        assert_eq!(half.free_from(BUDGET, 102 * MINUTE, 4), None);
    }

    #[test]
    fn tries_after_failures_are_spread_once_half_is_spent() {
        assert_eq!(spent(&[100]).retry_from(BUDGET, 101 * MINUTE), Duration::ZERO);
        assert_eq!(spent(&[100, 101]).retry_from(BUDGET, 102 * MINUTE), 116 * MINUTE);
    }

    #[test]
    fn it_is_remembered_by_ages() {
        let purse = spent(&[100, 110]);
        let ages = purse.ages(115 * MINUTE);
        assert_eq!(ages, [15 * MINUTE, 5 * MINUTE]);
        let mut later = Purse::default();
        later.recall(20 * MINUTE, &ages);
        assert_eq!(later.ages(20 * MINUTE), ages);
        later.recall(MINUTE, &ages);
        assert!(later.free_from(BUDGET, MINUTE, 3).is_some_and(|free| free > MINUTE), "a boot since: still counted");
    }
}
