//! The last quarter of an hour of a route: what its counters did in each step of it.
//!
//! Pure: counters and the time are arguments. A route of which nothing is to be told costs nothing here, and one that is
//! used 4.5 KiB. Must never know who counts, or when it is looked.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use super::latency::{BUCKETS, Spread};
use crate::clock::Now;

/// As often as scrapers scrape.
pub const STEP: Duration = Duration::from_secs(15);

/// Fifteen minutes of them: what went wrong a moment ago, and how it was before that. Longer is Prometheus's job.
pub const POINTS: usize = 60;

/// When the steps end.
#[derive(Debug, Default)]
pub(super) struct Steps(Option<Now>);

impl Steps {
    /// How many steps have ended since the last call; the first call begins the first one.
    pub(super) fn advance(&mut self, now: Now) -> u64 {
        let Some(until) = self.0 else {
            self.0 = Some(now);
            return 0;
        };
        let passed = now.mono.saturating_sub(until.mono);
        let steps = passed.as_secs() / STEP.as_secs();
        let over = passed - STEP * u32::try_from(steps).unwrap_or(0);
        if steps > 0 {
            // By today's date: it may have been set right meanwhile.
            self.0 = Some(Now { mono: now.mono - over, wall: now.wall.checked_sub(over).unwrap_or(now.wall) });
        }
        steps
    }

    /// How long the step under way goes on.
    pub(super) fn left(&self, now: Now) -> Duration {
        self.0.map_or(STEP, |until| (until.mono + STEP).saturating_sub(now.mono))
    }

    /// The end of the newest whole step, or the beginning of the first.
    pub(super) fn until(&self) -> Option<SystemTime> {
        self.0.map(|until| until.wall)
    }
}

/// What a route's counters say at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) spread: Spread,
    pub(super) failed: u64,
    pub(super) connections: usize,
}

/// What happened in one step. Half as big as what counts for ever: nobody makes four billion requests in 15 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Point {
    spread: [u32; BUCKETS],
    failed: u32,
    connections: u32,
}

/// The steps of one route.
#[derive(Debug, Default)]
pub(super) struct History {
    last: Reading,
    /// Oldest first; those before the first are empty. Empty if nothing happened in the whole window.
    points: VecDeque<Point>,
}

/// A route's quarter of an hour, oldest step first; `POINTS` of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub requests: Vec<u64>,
    pub failed: Vec<u64>,
    /// Seconds; `None` where nothing was asked.
    pub p50: Vec<Option<f64>>,
    pub p99: Vec<Option<f64>>,
    /// Open at the end of the step.
    pub connections: Vec<u64>,
}

impl History {
    /// `steps` have ended since the last reading, at least one. More are a sleep of the machine: nobody knows when in it
    /// what happened, so it counts for the last of them.
    pub(super) fn push(&mut self, steps: u64, reading: Reading) {
        let point = Point::between(&self.last, &reading);
        self.last = reading;
        if !self.points.is_empty() {
            let missed = usize::try_from(steps.saturating_sub(1)).map_or(POINTS, |missed| missed.min(POINTS));
            self.points.extend(std::iter::repeat_n(Point::default(), missed));
        }
        if !self.points.is_empty() || !point.is_empty() {
            self.points.push_back(point);
        }
        self.points.drain(..self.points.len().saturating_sub(POINTS));
        if self.points.iter().all(Point::is_empty) {
            self.points = VecDeque::new();
        }
    }

    /// Of all requests that ended within the window, those since the last reading included.
    pub(super) fn spread(&self, now: &Reading) -> Spread {
        let mut sum = now.spread.since(&self.last.spread);
        self.points.iter().for_each(|point| sum.add(&point.spread()));
        sum
    }

    /// `None` if nothing happened in it.
    pub(super) fn window(&self) -> Option<Window> {
        fn each<T>(points: &VecDeque<Point>, of: impl Fn(&Point) -> T) -> Vec<T> {
            let before = std::iter::repeat_n(Point::default(), POINTS.saturating_sub(points.len()));
            before.chain(points.iter().copied()).map(|point| of(&point)).collect()
        }
        let points = &self.points;
        (!points.is_empty()).then(|| Window {
            requests: each(points, |point| point.spread().count()),
            failed: each(points, |point| u64::from(point.failed)),
            p50: each(points, |point| point.spread().quantile(0.5)),
            p99: each(points, |point| point.spread().quantile(0.99)),
            connections: each(points, |point| u64::from(point.connections)),
        })
    }
}

impl Point {
    fn between(before: &Reading, after: &Reading) -> Self {
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            spread: after.spread.since(&before.spread).0.map(small),
            failed: small(after.failed.saturating_sub(before.failed)),
            connections: u32::try_from(after.connections).unwrap_or(u32::MAX),
        }
    }

    fn spread(&self) -> Spread {
        Spread(self.spread.map(u64::from))
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        let epoch =
            Now { mono: Duration::from_secs(50), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) };
        epoch + Duration::from_secs(seconds)
    }

    /// So many of 6 ms and so many of 200, all told.
    fn reading(quick: u64, slow: u64, failed: u64, connections: usize) -> Reading {
        let mut spread = Spread::default();
        (spread.0[4], spread.0[8]) = (quick, slow);
        Reading { spread, failed, connections }
    }

    #[test]
    fn steps_end_every_fifteen_seconds_however_late_somebody_looks() {
        let mut steps = Steps::default();
        assert_eq!((steps.advance(at(0)), steps.left(at(0))), (0, STEP));
        assert_eq!((steps.advance(at(14)), steps.left(at(14))), (0, Duration::from_secs(1)));
        assert_eq!((steps.advance(at(16)), steps.left(at(16))), (1, Duration::from_secs(14)));
        assert_eq!(steps.until(), Some(at(15).wall), "the end of the step, and not when somebody looked");
        assert_eq!(steps.advance(at(30)), 1);
        assert_eq!(steps.advance(at(30 + 8 * 3_600)), 8 * 240, "a night's sleep");
        // A date that was wrong is set right: the end of a step is told by the new one.
        let late = Now { wall: at(99_000_000).wall, ..at(30 + 8 * 3_600 + 16) };
        assert_eq!(steps.advance(late), 1);
        assert_eq!(steps.until(), Some(at(99_000_000 - 1).wall));
    }

    #[test]
    fn a_step_holds_what_happened_in_it() {
        let mut history = History::default();
        assert_eq!(history.window(), None);
        history.push(1, reading(0, 0, 0, 0));
        assert_eq!(history.window(), None, "nothing happened");
        history.push(1, reading(100, 0, 0, 2));
        history.push(1, reading(100, 0, 0, 1));
        history.push(1, reading(140, 10, 3, 1));
        let window = history.window().unwrap();
        let last = |numbers: &[u64]| numbers[POINTS - 4..].to_vec();
        assert_eq!(last(&window.requests), [0, 100, 0, 50]);
        assert_eq!(last(&window.failed), [0, 0, 0, 3]);
        assert_eq!(last(&window.connections), [0, 2, 1, 1]);
        assert_eq!(window.p50[POINTS - 3..], [Some(0.0075), None, Some(0.008_125)]);
        assert_eq!(window.p99[POINTS - 3..], [Some(0.009_95), None, Some(0.2425)]);
        for length in [window.requests.len(), window.failed.len(), window.p50.len(), window.p99.len()] {
            assert_eq!(length, POINTS);
        }
        assert_eq!(history.spread(&reading(140, 10, 3, 1)).count(), 150);
        assert_eq!(history.spread(&reading(141, 12, 3, 1)).count(), 153, "with the step that is under way");
    }

    #[test]
    fn the_window_moves_and_costs_nothing_once_it_is_empty() {
        let mut history = History::default();
        history.push(1, reading(7, 0, 0, 1));
        for _ in 1..POINTS {
            history.push(1, reading(7, 0, 0, 0));
        }
        let window = history.window().unwrap();
        assert_eq!((window.requests[0], window.requests.iter().sum::<u64>()), (7, 7), "still there, the oldest");
        assert_eq!(history.points.len(), POINTS);
        history.push(1, reading(7, 0, 0, 0));
        assert_eq!(history.window(), None);
        assert_eq!(history.points.capacity(), 0);
        history.push(1, reading(9, 0, 0, 0));
        assert_eq!(history.window().unwrap().requests[POINTS - 1], 2, "and what was before is not counted again");
    }

    #[test]
    fn a_connection_that_stays_open_is_something() {
        let mut history = History::default();
        for _ in 0..2 * POINTS {
            history.push(1, reading(0, 0, 0, 1));
        }
        assert_eq!(history.window().unwrap().connections, vec![1; POINTS]);
    }

    #[test]
    fn a_sleep_of_the_machine_is_a_gap() {
        let mut history = History::default();
        history.push(1, reading(1, 0, 0, 0));
        history.push(3, reading(3, 0, 0, 0));
        assert_eq!(history.window().unwrap().requests[POINTS - 4..], [1, 0, 0, 2]);
        history.push(u64::MAX, reading(4, 0, 0, 0));
        let window = history.window().unwrap();
        assert_eq!((window.requests.len(), window.requests.iter().sum::<u64>()), (POINTS, 1));
    }
}
