//! What happened, once: every event becomes its metric and its log line here.
//!
//! Must never know bodies, secrets or configuration.

pub mod event;
pub mod history;
mod latency;
pub mod log;
mod metrics;
mod process;
pub mod reason;
mod route;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use self::event::Event;
use self::log::Log;
use self::metrics::Metrics;
pub use self::metrics::{ListenerSample, Listening, RouteSample, Samples, TokenOutcome, TokenSample, TokenState};
use self::reason::Reason;
pub use self::route::{ConnectionGuard, RouteMetrics, RouteSummary};
use crate::clock::Now;

/// The one ear of the program. Cheap to clone.
#[derive(Clone)]
pub struct Observer(Arc<Inner>);

struct Inner {
    log: Log,
    metrics: Metrics,
    started: Instant,
    started_at: SystemTime,
    /// By reason: when the last line was written, in milliseconds since the start, and how many went unsaid since.
    quiet: [(AtomicU64, AtomicU64); Reason::ALL.len()],
}

/// A flood of refusals is one line a second for each reason: a log is no place to be attacked through.
const LINE_EVERY: Duration = Duration::from_secs(1);

impl Observer {
    pub fn new(log: Log) -> Self {
        let quiet = std::array::from_fn(|_| (AtomicU64::new(0), AtomicU64::new(0)));
        let (started, started_at) = (Instant::now(), SystemTime::now());
        Self(Arc::new(Inner { log, metrics: Metrics::new(), started, started_at, quiet }))
    }

    /// Logs an event that has no number of its own.
    pub fn tell(&self, event: &Event<'_>) {
        if self.0.log.says(event.level()) {
            self.0.log.write(&event.line());
        }
    }

    pub fn token_request(&self, token: &Arc<str>, outcome: TokenOutcome, took: Duration) {
        self.0.metrics.token_request(token, outcome, took);
    }

    /// A rate over a counter that is not there yet misses its first event, so a token's are there from the start.
    pub fn token(&self, name: &Arc<str>) {
        self.0.metrics.token(name);
    }

    /// A token that an upstream did not take: once, however many requests carried it.
    pub fn token_refused(&self, name: &Arc<str>) {
        self.0.metrics.token_refused(name);
    }

    pub fn credential_rejected(&self, token: &Arc<str>, credential: Option<&Arc<str>>) {
        if let Some(credential) = credential {
            self.0.metrics.credential_rejected(token, credential);
        }
    }

    /// A token of this name is configured no more. One that comes back begins anew.
    pub fn forget_token(&self, name: &Arc<str>) {
        self.0.metrics.forget_token(name);
    }

    /// The route of that name, with all that was counted of it before.
    pub fn route(&self, name: &Arc<str>) -> RouteMetrics {
        self.0.metrics.routes.route(name)
    }

    /// A route of this name is configured no more. What is still under way on it is not told; one that comes back begins
    /// anew.
    pub fn forget_route(&self, name: &str) {
        self.0.metrics.routes.forget(name);
    }

    /// Writes down what happened in the steps of [`history`] that have ended; says when to come again.
    pub fn sample(&self, now: Now) -> Duration {
        self.0.metrics.routes.sample(now)
    }

    /// The end of the newest step that is written down.
    pub fn history_until(&self) -> Option<SystemTime> {
        self.0.metrics.routes.until()
    }

    pub fn started_at(&self) -> SystemTime {
        self.0.started_at
    }

    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// How many requests and connections were refused, by reason; those that occurred.
    pub fn refusals(&self) -> Vec<(Reason, u64)> {
        self.0.metrics.refusals()
    }

    /// A request that bearerd answers itself, and why; `detail` is for the operator.
    pub fn refused(&self, reason: Reason, route: Option<&str>, detail: Option<&str>) {
        self.0.metrics.refused(reason);
        let Some(suppressed) = self.may_say(reason) else { return };
        match (route, detail) {
            (Some(route), Some(detail)) => self.tell(&Event::UpstreamFailed { reason, route, detail, suppressed }),
            (_, _) => self.tell(&Event::Refused { reason, route, detail, suppressed }),
        }
    }

    /// A connection that is closed before anything was asked on it; `why` is in our own words.
    pub fn turned_away(&self, reason: Reason, listener: &str, why: &str) {
        self.0.metrics.refused(reason);
        if let Some(suppressed) = self.may_say(reason) {
            self.tell(&Event::TurnedAway { reason, listener, why, suppressed });
        }
    }

    /// One exchange, at its very end.
    pub fn exchange(
        &self,
        route: Option<&RouteMetrics>,
        method: &str,
        status: u16,
        reason: Option<Reason>,
        took: Duration,
    ) {
        if let Some(route) = route {
            route.count(status, reason, took);
        }
        self.tell(&Event::Exchange { route: route.map(RouteMetrics::name), method, status, reason, took });
    }

    /// `/metrics`, in the OpenMetrics text format.
    pub fn render(&self, samples: &Samples) -> String {
        self.0.metrics.render(samples)
    }

    /// `None` if a line for this reason was written within the last second; else how many went unsaid.
    fn may_say(&self, reason: Reason) -> Option<u64> {
        let (last, unsaid) = &self.0.quiet[reason as usize];
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let every = u64::try_from(LINE_EVERY.as_millis()).unwrap_or(u64::MAX);
        let before = last.load(Ordering::Relaxed);
        let mine = (before == 0 || now >= before.saturating_add(every))
            && last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            return Some(unsaid.swap(0, Ordering::Relaxed));
        }
        unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::log::{Format, Level, LogSettings};
    use super::*;

    fn observer() -> (Observer, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let settings = LogSettings { level: Level::Info, format: Format::Pretty };
        let log = Log::to(settings, move |line| sink.lock().unwrap().push(line.to_owned()));
        (Observer::new(log), lines)
    }

    #[test]
    fn a_flood_of_refusals_is_one_line_and_every_one_is_counted() {
        let (observer, lines) = observer();
        for _ in 0..1_000 {
            observer.refused(Reason::HostNotOurs, None, None);
        }
        observer.refused(Reason::BadPath, None, None);
        let rendered = observer.render(&Samples::default());
        assert!(rendered.contains("bearerd_refused_total{reason=\"host_not_ours\"} 1000\n"), "{rendered}");
        // One line for each reason, but for the odd second that may pass meanwhile.
        let lines = lines.lock().unwrap();
        assert!(lines.iter().filter(|line| line.contains("host_not_ours")).count() < 20, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.contains("bad_path")).count(), 1);
    }

    #[test]
    fn metrics_carry_the_names_that_dashboards_know() {
        let (observer, _) = observer();
        let name: Arc<str> = "orders".into();
        let route = observer.route(&name);
        let guard = route.connection();
        observer.token(&name);
        observer.exchange(Some(&route), "GET", 200, None, Duration::from_millis(3));
        observer.exchange(Some(&route), "GET", 502, Some(Reason::UpstreamReset), Duration::from_millis(40));
        observer.token_request(&name, TokenOutcome::Granted, Duration::from_millis(30));
        observer.token_refused(&name);
        observer.credential_rejected(&name, Some(&"old".into()));
        let since_1970 = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
        let token = TokenSample {
            token: Arc::clone(&name),
            state: TokenState::Fresh,
            credentials: vec!["old".into(), "new".into()],
            using: 1,
            expiry: Some(since_1970(1_800_000_000.5)),
            life: Some(Duration::from_secs(3_600)),
            renewal: Some(since_1970(1_799_999_000.0)),
            next_request: Some(since_1970(1_799_999_000.123_4)),
            budget: Some((60, 58)),
            waits: 3,
        };
        let samples = Samples {
            tokens: vec![token],
            routes: vec![RouteSample { route: name, in_flight: 2, queued: 1 }],
            listeners: Listening {
                listeners: vec![
                    ListenerSample { listener: "app".into(), connections: Some(7), certificate_expiry: None },
                    ListenerSample {
                        listener: "admin".into(),
                        connections: None,
                        certificate_expiry: Some(since_1970(1_900_000_000.0)),
                    },
                ],
                connections_limit: Some(10_000),
            },
        };
        let rendered = observer.render(&samples);
        for line in [
            "bearerd_requests_total{route=\"orders\",code=\"200\"} 1",
            "bearerd_requests_total{route=\"orders\",code=\"502\"} 1",
            "bearerd_failures_total{route=\"orders\",reason=\"upstream_reset\"} 1",
            "bearerd_request_duration_seconds_sum{route=\"orders\"} 0.043",
            "bearerd_request_duration_seconds_count{route=\"orders\"} 2",
            "bearerd_request_duration_seconds_bucket{le=\"0.0025\",route=\"orders\"} 0",
            "bearerd_request_duration_seconds_bucket{le=\"0.005\",route=\"orders\"} 1",
            "bearerd_request_duration_seconds_bucket{le=\"60.0\",route=\"orders\"} 2",
            "bearerd_request_duration_seconds_bucket{le=\"+Inf\",route=\"orders\"} 2",
            "bearerd_upstream_connections{route=\"orders\"} 1",
            "bearerd_requests_in_flight{route=\"orders\"} 2",
            "bearerd_requests_queued{route=\"orders\"} 1",
            "bearerd_token_expiry_timestamp_seconds{token=\"orders\"} 1800000000.5",
            "bearerd_token_lifetime_seconds{token=\"orders\"} 3600.0",
            "bearerd_token_renewal_timestamp_seconds{token=\"orders\"} 1799999000.0",
            "bearerd_token_next_request_timestamp_seconds{token=\"orders\"} 1799999000.123",
            "bearerd_token_budget_limit{token=\"orders\"} 60",
            "bearerd_token_budget_left{token=\"orders\"} 58",
            "bearerd_token_waits_total{token=\"orders\"} 3",
            "bearerd_token_refused_total{token=\"orders\"} 1",
            "bearerd_token_requests_total{token=\"orders\",outcome=\"granted\"} 1",
            "bearerd_token_requests_total{token=\"orders\",outcome=\"limited\"} 0",
            "bearerd_token_request_duration_seconds_count{token=\"orders\"} 1",
            "bearerd_token_state{token=\"orders\",state=\"fresh\"} 1",
            "bearerd_token_state{token=\"orders\",state=\"stale\"} 0",
            "bearerd_token_credential_in_use{token=\"orders\",credential=\"old\"} 0",
            "bearerd_token_credential_in_use{token=\"orders\",credential=\"new\"} 1",
            "bearerd_token_credential_rejections_total{token=\"orders\",credential=\"old\"} 1",
            "bearerd_refused_total{reason=\"no_token\"} 0",
            "bearerd_connections{listener=\"app\"} 7",
            "bearerd_connections_limit 10000",
            "bearerd_certificate_expiry_timestamp_seconds{listener=\"admin\"} 1900000000.0",
            concat!("bearerd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(rendered.lines().any(|other| other == line), "{line} is missing from\n{rendered}");
        }
        drop(guard);
        let rendered = observer.render(&Samples::default());
        assert!(rendered.contains("bearerd_upstream_connections{route=\"orders\"} 0"));
        assert!(!rendered.contains("bearerd_token_state"), "a token that is gone is told no more");
    }
}
