//! What is counted of one route: by a request with a handful of relaxed additions, read by scrapes and the status page.
//!
//! A route that nobody uses has a name and nothing else, so ten thousand of them may be configured: what is counted is
//! allocated by its first request. Must never know what a request is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::event::Name;
use super::history::{History, Reading, Steps, Window};
use super::latency::Latencies;
use super::quiet::Quiet;
use super::reason::Reason;
use crate::clock::Now;

/// Counts what goes over one route. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RouteMetrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    name: Arc<str>,
    connections: AtomicUsize,
    /// There is one from the first request or connection on.
    traffic: OnceLock<Box<Traffic>>,
    /// There is one from the first refusal or failure on.
    quiet: OnceLock<Arc<Quiet>>,
    /// Written and read by the control plane alone.
    history: Mutex<Option<Box<History>>>,
}

/// What requests did, since the start.
#[derive(Debug, Default)]
struct Traffic {
    latencies: Latencies,
    codes: Codes,
    reasons: [AtomicU64; Reason::ALL.len()],
}

/// Counts by status. A hundred counters for each class that occurs: an API uses two or three, and no request looks a
/// number up in a map that others lock.
#[derive(Debug, Default)]
struct Codes([OnceLock<Box<[AtomicU64; 100]>>; 9]);

impl Codes {
    fn count(&self, code: u16) {
        let class = usize::from(code / 100).checked_sub(1).and_then(|class| self.0.get(class));
        let Some(class) = class else { return debug_assert!(false, "{code} is no status") };
        let class = class.get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0))));
        class[usize::from(code % 100)].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that occurred.
    fn all(&self) -> impl Iterator<Item = (u16, u64)> {
        let classes = (1..).zip(&self.0).filter_map(|(class, codes)| Some((class, codes.get()?)));
        classes.flat_map(|(class, codes): (u16, _)| {
            let codes = (100 * class..).zip(codes.iter()).map(|(code, many)| (code, many.load(Ordering::Relaxed)));
            codes.filter(|(_, many)| *many > 0)
        })
    }
}

impl Traffic {
    fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        let reasons =
            Reason::ALL.into_iter().map(|reason| (reason, self.reasons[reason as usize].load(Ordering::Relaxed)));
        reasons.filter(|(_, many)| *many > 0)
    }
}

/// What the status page shows of a route.
#[derive(Clone, Debug, Default)]
pub struct RouteSummary {
    pub requests: u64,
    /// Answered by bearerd itself, or broken off.
    pub failed: u64,
    /// Why; those that occurred.
    pub reasons: Vec<(Reason, u64)>,
    /// By the first digit of the status; those that occurred.
    pub classes: Vec<(u16, u64)>,
    /// Open connections to its upstream.
    pub connections: usize,
    /// The 50th, 90th and 99th percentile, seconds, of what ended within the window.
    pub latency: Option<[f64; 3]>,
    pub history: Option<Window>,
}

impl RouteMetrics {
    fn new(name: Arc<str>) -> Self {
        Self(Arc::new(Series {
            name,
            connections: AtomicUsize::new(0),
            traffic: OnceLock::new(),
            quiet: OnceLock::new(),
            history: Mutex::default(),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether there has been a request, or a connection to its upstream.
    pub fn is_used(&self) -> bool {
        self.0.traffic.get().is_some()
    }

    /// One more upstream connection, until the guard is dropped.
    pub fn connection(&self) -> ConnectionGuard {
        self.traffic();
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(self.clone())
    }

    /// A request has ended.
    pub(super) fn count(&self, status: u16, reason: Option<Reason>, took: Duration) {
        let traffic = self.traffic();
        traffic.latencies.record(took);
        traffic.codes.count(status);
        if let Some(reason) = reason {
            traffic.reasons[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn quiet(&self) -> &Arc<Quiet> {
        self.0.quiet.get_or_init(Arc::default)
    }

    /// The same, unless nothing ever went wrong.
    pub(super) fn troubled(&self) -> Option<&Quiet> {
        self.0.quiet.get().map(|quiet| &**quiet)
    }

    pub fn summary(&self) -> RouteSummary {
        let Some(traffic) = self.0.traffic.get() else { return RouteSummary::default() };
        let reading = self.reading(traffic);
        let mut classes = BTreeMap::new();
        for (code, many) in traffic.codes.all() {
            *classes.entry(code / 100).or_default() += many;
        }
        let history = self.history();
        let spread = history.as_ref().map_or(reading.spread, |history| history.spread(&reading));
        let latency = [0.5, 0.9, 0.99].map(|share| spread.quantile(share));
        RouteSummary {
            requests: reading.spread.count(),
            failed: reading.failed,
            reasons: traffic.reasons().collect(),
            classes: classes.into_iter().collect(),
            connections: reading.connections,
            latency: match latency {
                [Some(p50), Some(p90), Some(p99)] => Some([p50, p90, p99]),
                [_, _, _] => None,
            },
            history: history.as_ref().and_then(|history| history.window()),
        }
    }

    fn sample(&self, steps: u64) {
        if let Some(traffic) = self.0.traffic.get() {
            let reading = self.reading(traffic);
            self.history().get_or_insert_default().push(steps, reading);
        }
    }

    fn traffic(&self) -> &Traffic {
        self.0.traffic.get_or_init(Box::default)
    }

    fn reading(&self, traffic: &Traffic) -> Reading {
        Reading {
            spread: traffic.latencies.read(),
            failed: traffic.reasons().map(|(_, many)| many).sum(),
            connections: self.0.connections.load(Ordering::Relaxed),
        }
    }

    fn history(&self) -> MutexGuard<'_, Option<Box<History>>> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open upstream connection, counted while it lives.
#[derive(Debug)]
pub struct ConnectionGuard(RouteMetrics);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All routes by name. No request ever locks it.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteBook(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    routes: BTreeMap<Arc<str>, RouteMetrics>,
    steps: Steps,
}

impl RouteBook {
    /// The route of that name, with all that was counted of it, if there has been one.
    pub(super) fn route(&self, name: &Arc<str>) -> RouteMetrics {
        let new = || RouteMetrics::new(Arc::clone(name));
        self.pages().routes.entry(Arc::clone(name)).or_insert_with(new).clone()
    }

    pub(super) fn forget(&self, name: &str) {
        self.pages().routes.remove(name);
    }

    /// Writes down what happened in the steps that have ended; says how long the next one goes on.
    pub(super) fn sample(&self, now: Now) -> Duration {
        let mut pages = self.pages();
        let steps = pages.steps.advance(now);
        if steps > 0 {
            pages.routes.values().for_each(|route| route.sample(steps));
        }
        pages.steps.left(now)
    }

    /// The end of the newest whole step.
    pub(super) fn until(&self) -> Option<SystemTime> {
        self.pages().steps.until()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    route: Name,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    route: Name,
    reason: Reason,
}

impl Collector for RouteBook {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let routes: Vec<RouteMetrics> = self.pages().routes.values().cloned().collect();
        let used: Vec<_> = routes.iter().filter_map(|route| Some((&route.0, route.0.traffic.get()?))).collect();
        let named = |series: &Arc<Series>| Name(Arc::clone(&series.name));

        let help = "Requests by route and status of the answer.";
        let mut requests = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (series, traffic) in &used {
            for (code, many) in traffic.codes.all() {
                let labels = CodeLabels { route: named(series), code };
                ConstCounter::new(many).encode(requests.encode_family(&labels)?)?;
            }
        }
        let help = "Requests of a route that bearerd answered itself or that broke off, by reason.";
        let mut failures = encoder.encode_descriptor("failures", help, None, MetricType::Counter)?;
        for (series, traffic) in &used {
            for (reason, many) in traffic.reasons() {
                let labels = FailureLabels { route: named(series), reason };
                ConstCounter::new(many).encode(failures.encode_family(&labels)?)?;
            }
        }
        let help = "From a request's head to the last byte of its answer.";
        let mut durations = encoder.encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?;
        for (series, traffic) in &used {
            // The count is of what was read once: it is never less than a bucket says.
            let (spread, sum) = (traffic.latencies.read(), traffic.latencies.sum());
            let labels = RouteLabels { route: named(series) };
            let mut durations = durations.encode_family(&labels)?;
            durations.encode_histogram::<NoLabelSet>(sum, spread.count(), &spread.bounded(), None)?;
        }
        let help = "Open connections to upstreams.";
        let mut connections = encoder.encode_descriptor("upstream_connections", help, None, MetricType::Gauge)?;
        for (series, _) in &used {
            let open = series.connections.load(Ordering::Relaxed);
            let labels = RouteLabels { route: named(series) };
            ConstGauge::new(open).encode(connections.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::super::history::{POINTS, STEP};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rendered(book: &RouteBook) -> String {
        let mut registry = Registry::with_prefix("bearerd");
        registry.register_collector(Box::new(book.clone()));
        let mut rendered = String::new();
        text::encode(&mut rendered, &registry).unwrap();
        rendered
    }

    fn at(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(7), wall: SystemTime::UNIX_EPOCH } + Duration::from_secs(seconds)
    }

    #[test]
    fn a_summary_tells_what_was_counted() {
        let book = RouteBook::default();
        let route = book.route(&"orders".into());
        assert_eq!((route.summary().requests, route.summary().latency), (0, None));
        for (status, reason) in [
            (200, None),
            (204, None),
            (499, None),
            (504, Some(Reason::UpstreamTimeout)),
            (502, Some(Reason::UpstreamReset)),
            (200, Some(Reason::UpstreamReset)),
            (999, None),
        ] {
            route.count(status, reason, 6 * MS);
        }
        let guard = route.connection();
        let summary = route.summary();
        assert_eq!((summary.requests, summary.failed, summary.connections), (7, 3, 1));
        assert_eq!(summary.reasons, [(Reason::UpstreamReset, 2), (Reason::UpstreamTimeout, 1)]);
        assert_eq!(summary.classes, [(2, 3), (4, 1), (5, 2), (9, 1)]);
        assert_eq!(summary.latency, Some([0.0075, 0.0095, 0.009_95]), "at once, and not after the first step");
        assert_eq!(summary.history, None, "no step has ended yet");
        let text = rendered(&book);
        for line in [
            "bearerd_requests_total{route=\"orders\",code=\"499\"} 1",
            "bearerd_requests_total{route=\"orders\",code=\"200\"} 2",
            "bearerd_failures_total{route=\"orders\",reason=\"upstream_reset\"} 2",
            "bearerd_request_duration_seconds_count{route=\"orders\"} 7",
            "bearerd_upstream_connections{route=\"orders\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing from\n{text}");
        }
        drop(guard);
        assert_eq!(route.summary().connections, 0);
    }

    #[test]
    fn every_route_is_sampled_when_a_step_ends() {
        let book = RouteBook::default();
        let (one, other) = (book.route(&"one".into()), book.route(&"other".into()));
        assert_eq!(book.sample(at(0)), STEP);
        one.count(200, None, 6 * MS);
        assert_eq!(book.sample(at(10)), Duration::from_secs(5));
        assert_eq!(one.summary().history, None);
        assert_eq!(book.sample(at(16)), Duration::from_secs(14));
        assert_eq!(book.until(), Some(at(15).wall));
        one.count(503, Some(Reason::NoToken), 200 * MS);
        other.count(200, None, MS);
        book.sample(at(30));
        let history = one.summary().history.unwrap();
        assert_eq!((&history.requests[POINTS - 2..], &history.failed[POINTS - 2..]), (&[1, 1][..], &[0, 1][..]));
        assert_eq!(other.summary().history.unwrap().requests[POINTS - 2..], [0, 1]);
        // All of the window counts for the percentiles, and nothing that is older.
        assert_eq!(one.summary().latency.unwrap()[2], 0.247);
        for step in 2..2 + POINTS as u64 {
            book.sample(at(30 + 15 * (step - 1)));
        }
        let summary = one.summary();
        assert_eq!((summary.requests, summary.latency, summary.history), (2, None, None));
    }

    #[test]
    fn what_is_forgotten_is_told_no_more_and_what_is_kept_goes_on() {
        let book = RouteBook::default();
        let (kept, gone): (Arc<str>, Arc<str>) = ("kept".into(), "gone".into());
        let (old_kept, old_gone) = (book.route(&kept), book.route(&gone));
        for route in [&old_kept, &old_gone] {
            route.count(502, Some(Reason::UpstreamReset), MS);
        }
        book.forget("gone");
        // A new plan asks for its routes again, and requests of the old one still end.
        let new_kept = book.route(&kept);
        new_kept.count(200, None, MS);
        old_kept.count(200, None, MS);
        old_gone.count(200, None, MS);
        let text = rendered(&book);
        assert!(!text.contains("gone"), "{text}");
        assert!(text.contains("bearerd_requests_total{route=\"kept\",code=\"200\"} 2"), "{text}");
        assert!(text.contains("bearerd_failures_total{route=\"kept\",reason=\"upstream_reset\"} 1"), "{text}");
        assert_eq!(book.route(&gone).summary().requests, 0, "one that comes back begins anew");
    }

    #[test]
    fn ten_thousand_routes_that_nobody_uses_cost_a_name_each() {
        let book = RouteBook::default();
        let routes: Vec<_> = (0..10_000).map(|index| book.route(&format!("route-{index}").into())).collect();
        book.sample(at(0));
        routes[17].count(200, None, MS);
        for step in 1..100 {
            book.sample(at(15 * step));
        }
        assert_eq!(routes.iter().filter(|route| route.is_used()).count(), 1);
        assert_eq!(routes.iter().filter(|route| route.history().is_some()).count(), 1);
        let text = rendered(&book);
        assert!(text.len() < 4_096, "{} bytes of\n{text}", text.len());
        assert!(size_of::<Series>() <= 80, "{} bytes", size_of::<Series>());
        assert!(size_of::<Traffic>() <= 512, "{} bytes", size_of::<Traffic>());
    }
}
