//! What happened, once: every event becomes its metric and its log line here.
//!
//! Must never know bodies, secrets or configuration.

pub mod event;
pub mod log;
mod metrics;
pub mod reason;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::event::{Event, Name};
use self::log::Log;
use self::metrics::Metrics;
pub use self::metrics::{ConnectionGuard, RouteCounts, RouteMetrics, TokenOutcome, TokenSample, TokenState};
use self::reason::Reason;

/// The one ear of the program. Cheap to clone.
#[derive(Clone)]
pub struct Observer(Arc<Inner>);

struct Inner {
    log: Log,
    metrics: Metrics,
    started: Instant,
    /// By reason: when the last line was written, in milliseconds since the start, and how many went unsaid since.
    quiet: [(AtomicU64, AtomicU64); Reason::ALL.len()],
}

/// A flood of refusals is one line a second for each reason: a log is no place to be attacked through.
const LINE_EVERY: Duration = Duration::from_secs(1);

impl Observer {
    pub fn new(log: Log) -> Self {
        let quiet = std::array::from_fn(|_| (AtomicU64::new(0), AtomicU64::new(0)));
        Self(Arc::new(Inner { log, metrics: Metrics::new(), started: Instant::now(), quiet }))
    }

    /// Logs an event that has no number of its own.
    pub fn tell(&self, event: &Event<'_>) {
        if self.0.log.says(event.level()) {
            self.0.log.write(&event.line());
        }
    }

    pub fn token_request(&self, token: &Arc<str>, outcome: TokenOutcome) {
        self.0.metrics.token_request(token, outcome);
    }

    /// A rate over a counter that is not there yet misses its first event, so a token's are there from the start.
    pub fn token(&self, name: &Arc<str>) {
        self.0.metrics.token(name);
    }

    pub fn credential_rejected(&self, token: &Arc<str>, credential: Option<&Arc<str>>) {
        if let Some(credential) = credential {
            self.0.metrics.credential_rejected(token, credential);
        }
    }

    pub fn route(&self, name: &Arc<str>) -> RouteMetrics {
        RouteMetrics {
            name: Arc::clone(name),
            duration: self.0.metrics.duration(name),
            connections: self.0.metrics.connections(name),
            counts: Arc::default(),
        }
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
            self.0.metrics.request(Name(Arc::clone(&route.name)), status);
            route.took(took);
            route.counts.requests.fetch_add(1, Ordering::Relaxed);
            route.counts.failed.fetch_add(u64::from(reason.is_some()), Ordering::Relaxed);
        }
        self.tell(&Event::Exchange { route: route.map(|route| &*route.name), method, status, reason, took });
    }

    /// `/metrics`, in the OpenMetrics text format.
    pub fn render(&self, tokens: &[TokenSample]) -> String {
        self.0.metrics.render(tokens)
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
        let rendered = observer.render(&[]);
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
        observer.exchange(Some(&route), "GET", 200, None, Duration::from_millis(3));
        observer.token_request(&name, TokenOutcome::Granted);
        observer.credential_rejected(&name, Some(&"old".into()));
        let sample = TokenSample {
            token: name,
            state: TokenState::Fresh,
            credentials: vec!["old".into(), "new".into()],
            using: 1,
            expiry: Some(1_800_000_000.5),
        };
        let rendered = observer.render(&[sample]);
        for line in [
            "bearerd_requests_total{route=\"orders\",code=\"200\"} 1",
            "bearerd_request_duration_seconds_count{route=\"orders\"} 1",
            "bearerd_upstream_connections{route=\"orders\"} 1",
            "bearerd_token_expiry_timestamp_seconds{token=\"orders\"} 1800000000.5",
            "bearerd_token_requests_total{token=\"orders\",outcome=\"granted\"} 1",
            "bearerd_token_state{token=\"orders\",state=\"fresh\"} 1",
            "bearerd_token_state{token=\"orders\",state=\"stale\"} 0",
            "bearerd_token_credential_in_use{token=\"orders\",credential=\"old\"} 0",
            "bearerd_token_credential_in_use{token=\"orders\",credential=\"new\"} 1",
            "bearerd_token_credential_rejections_total{token=\"orders\",credential=\"old\"} 1",
            "bearerd_refused_total{reason=\"no_token\"} 0",
            concat!("bearerd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(rendered.contains(line), "{line} is missing from\n{rendered}");
        }
        drop(guard);
        assert!(observer.render(&[]).contains("bearerd_upstream_connections{route=\"orders\"} 0"));
    }
}
