//! What happened, once: every event becomes its metric and its log line here.
//!
//! Must never know bodies, secrets or configuration.

pub mod access;
pub mod event;
pub mod history;
mod latency;
pub mod log;
mod metrics;
mod process;
mod quiet;
pub mod reason;
mod refusals;
mod route;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;

use self::access::{Losses, Sheet, Trail, Writer};
use self::event::{Advice, Asked, Event};
use self::log::{Log, LogSettings};
use self::metrics::Metrics;
pub use self::metrics::{
    ListenerSample, Listening, ReloadOutcome, RouteSample, Samples, TokenOutcome, TokenSample, TokenState,
};
pub use self::quiet::Quiet;
use self::quiet::{Tick, tick};
use self::reason::Reason;
pub use self::refusals::Refusal;
use self::refusals::Refusals;
pub use self::route::{ConnectionGuard, RouteMetrics, RouteSummary};
use crate::clock::Now;

/// The one ear of the program. Cheap to clone.
#[derive(Clone)]
pub struct Observer(Arc<Inner>);

struct Inner {
    log: Log,
    metrics: Metrics,
    /// Where lines for requests go; `None` is `access_log: off`.
    access: ArcSwapOption<Writer>,
    losses: Arc<Losses>,
    started: Instant,
    started_at: SystemTime,
    /// For what concerns no route.
    quiet: Arc<Quiet>,
    refusals: Refusals,
}

impl Observer {
    pub fn new(log: Log) -> Self {
        let (started, started_at) = (Instant::now(), SystemTime::now());
        let (metrics, quiet, refusals) = (Metrics::new(), Arc::default(), Refusals::default());
        let losses = Arc::new(Losses::new(metrics.lost_lines.clone(), log.clone()));
        let access = ArcSwapOption::empty();
        Self(Arc::new(Inner { log, metrics, access, losses, started, started_at, quiet, refusals }))
    }

    /// From now on requests leave their lines here; `None` is nowhere. What the one before has taken is written, within
    /// bounds, by the way.
    ///
    /// # Errors
    /// The system gives no thread; then all is as it was.
    pub fn log_access(&self, to: Option<Sheet>) -> io::Result<()> {
        let writer = to.map(|sheet| Writer::start(sheet, Arc::clone(&self.0.losses))).transpose()?;
        self.0.access.store(writer.map(Arc::new));
        Ok(())
    }

    /// Ends the access log: waits until what it has taken is written, or is not going to be.
    pub async fn end_access_log(&self) {
        let Some(writer) = self.0.access.swap(None) else { return };
        let done = writer.done();
        drop(writer);
        if let Some(done) = done {
            // A disk that hangs is not waited for.
            let _ = tokio::time::timeout(2 * access::PARTING, done).await;
        }
    }

    /// What is to be noted of a request that begins now.
    pub fn trail(&self) -> Trail {
        Trail::begin(self.0.access.load().is_some())
    }

    /// A line of what did not become a request. `status` is `None` where it got no answer of ours.
    pub fn leave_without(&self, reason: Reason, status: Option<u16>, asked: impl FnOnce() -> Asked) {
        let mut trail = self.trail();
        trail.note(|entry| {
            entry.came(asked());
            (entry.reason, entry.status) = (Some(reason), status);
        });
        self.leave(trail);
    }

    /// Its end. Never waits: where there is no room, the line is lost and counted.
    pub fn leave(&self, trail: Trail) {
        let Some(entry) = trail.end() else { return };
        if self.0.access.load().as_ref().is_some_and(|writer| !writer.take(entry)) {
            self.0.losses.lost(1, access::TOO_SLOW);
        }
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

    /// A token has these credentials and no others.
    pub fn keep_credentials(&self, token: &Arc<str>, credentials: &[Arc<str>]) {
        self.0.metrics.keep_credentials(token, credentials);
    }

    /// An attempt to reload has come to this.
    pub fn reload(&self, outcome: ReloadOutcome, at: SystemTime) {
        self.0.metrics.reload(outcome, at);
    }

    /// Logs in this way from now on.
    pub fn log_as(&self, settings: LogSettings) {
        self.0.log.change(settings);
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

    /// A request that bearerd answers itself, or whose answer broke off. `why` is for the operator and in our own words;
    /// `asked` is looked up only where a line is written.
    pub fn refused(&self, reason: Reason, route: Option<&RouteMetrics>, why: &str, asked: impl FnOnce() -> Asked) {
        self.0.metrics.refused(reason);
        let quiet = route.map_or(&self.0.quiet, RouteMetrics::quiet);
        let now = self.tick();
        if reason.is_upstreams() {
            quiet.fails(now);
        }
        let Some(suppressed) = quiet.may_say(reason, now) else { return };
        let asked = asked();
        self.0.refusals.note(
            Refusal {
                at: SystemTime::now(),
                reason,
                route: route.map(|route| route.name().into()),
                listener: asked.listener.clone(),
                what: asked.of(why),
                times: suppressed.saturating_add(1),
            },
            quiet,
        );
        match route.map(RouteMetrics::name) {
            Some(route) if reason.is_upstreams() => {
                self.tell(&Event::UpstreamFailed { reason, route, why, asked: &asked, suppressed });
            }
            route => self.tell(&Event::Refused { reason, route, why, asked: &asked, suppressed }),
        }
    }

    /// The upstream has answered, whatever it said: after an outage that is worth a line.
    pub fn answers(&self, route: &RouteMetrics) {
        if let Some((lasted, failed)) = route.troubled().and_then(|quiet| quiet.works(|| self.tick())) {
            self.tell(&Event::UpstreamRecovered { route: route.name(), lasted, failed });
        }
    }

    /// A connection that is closed before anything was asked on it; `why` is in our own words. What it is known by is
    /// looked up only where a line is written.
    pub fn turned_away(&self, reason: Reason, quiet: &Arc<Quiet>, why: &str, asked: impl FnOnce() -> Asked) {
        self.0.metrics.refused(reason);
        let Some(suppressed) = quiet.may_say(reason, self.tick()) else { return };
        let asked = asked();
        self.0.refusals.note(
            Refusal {
                at: SystemTime::now(),
                reason,
                route: None,
                listener: asked.listener.clone(),
                what: why.to_owned(),
                times: suppressed.saturating_add(1),
            },
            quiet,
        );
        self.tell(&Event::TurnedAway { reason, why, asked: &asked, suppressed });
    }

    /// An API's answer looks as if something in the configuration of its route were wrong.
    pub fn advise(&self, advice: Advice, route: &RouteMetrics) {
        if let Some(suppressed) = route.quiet().may_advise(advice, self.tick()) {
            self.tell(&Event::Advised { advice, route: route.name(), suppressed });
        }
    }

    /// A connection that could not be accepted on this listener, and what is to be done about it.
    pub fn not_accepted(&self, listener: &str, quiet: &Quiet, error: &str) {
        if let Some(suppressed) = quiet.may_say_of_accepting(self.tick()) {
            self.tell(&Event::AcceptFailed { listener, error, suppressed });
        }
    }

    /// The last refusals, the newest first, alike ones as one.
    pub fn last_refusals(&self) -> Vec<Refusal> {
        self.0.refusals.last()
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

    fn tick(&self) -> Tick {
        tick(self.0.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::access::AccessLog;
    use super::log::{Format, Level};
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
            observer.refused(Reason::HostNotOurs, None, "its Host", Asked::default);
        }
        observer.refused(Reason::BadPath, None, "its path", Asked::default);
        let rendered = observer.render(&Samples::default());
        assert!(rendered.contains("bearerd_refused_total{reason=\"host_not_ours\"} 1000\n"), "{rendered}");
        // One line for each reason, but for the odd second that may pass meanwhile.
        let lines = lines.lock().unwrap();
        assert!(lines.iter().filter(|line| line.contains("host_not_ours")).count() < 20, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.contains("bad_path")).count(), 1);
        let last = observer.last_refusals();
        assert_eq!(
            last.iter().map(|refusal| (&*refusal.what, refusal.times)).collect::<Vec<_>>(),
            [("its path", 1), ("its Host", 1_000)]
        );
    }

    /// A folder for a test, gone with it.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("bearerd-observe-{}-{}", std::process::id(), fastrand::u64(..));
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn sheet(&self, name: &str) -> Option<Sheet> {
            Some(Sheet::open(&AccessLog::File(self.0.join(name))).unwrap())
        }

        /// The paths in a file's lines. Of the last, what is there may be half of it, since somebody writes.
        fn paths(&self, name: &str) -> Vec<String> {
            let text = std::fs::read_to_string(self.0.join(name)).unwrap();
            let path =
                |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].as_str().map(str::to_owned);
            text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(path).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn asked(observer: &Observer, path: &str) -> Trail {
        let mut trail = observer.trail();
        let uri = path.parse().unwrap();
        trail.note(|entry| entry.asks(&http::Method::GET, &uri, http::Version::HTTP_11));
        trail
    }

    #[tokio::test]
    async fn the_access_log_can_be_exchanged_while_requests_are_under_way() {
        let (observer, lines) = observer();
        let folder = Folder::new();
        let before = asked(&observer, "/before");
        assert!(!before.is_on());
        observer.log_access(folder.sheet("a")).unwrap();
        // Begun without a log, it has nothing to say.
        observer.leave(before);
        let under_way = asked(&observer, "/under-way");
        for number in 0..100 {
            observer.leave(asked(&observer, &format!("/a/{number}")));
        }
        observer.log_access(folder.sheet("b")).unwrap();
        observer.leave(under_way);
        observer.end_access_log().await;
        assert_eq!(folder.paths("b"), ["/under-way"]);
        // What the first one had taken is written as well, by the way.
        let deadline = Instant::now() + Duration::from_secs(20);
        while folder.paths("a").len() < 100 && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        let expected: Vec<String> = (0..100).map(|number| format!("/a/{number}")).collect();
        assert_eq!(folder.paths("a"), expected);
        assert!(!observer.trail().is_on());
        observer.end_access_log().await;
        assert!(lines.lock().unwrap().is_empty(), "{lines:?}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_flood_of_lost_lines_is_counted_in_full_and_told_of_now_and_then() {
        let (observer, lines) = observer();
        observer.log_access(Some(Sheet::open(&AccessLog::File("/dev/full".into())).unwrap())).unwrap();
        for number in 0..1_000 {
            observer.leave(asked(&observer, &format!("/{number}")));
        }
        observer.end_access_log().await;
        assert!(
            observer.render(&Samples::default()).contains("bearerd_access_log_dropped_total 1000\n"),
            "{}",
            observer.render(&Samples::default())
        );
        let lines = lines.lock().unwrap();
        // At once when the first is lost, and at the end what is left to say.
        assert!((1..=2).contains(&lines.len()) && lines[0].contains("of the access log"), "{lines:?}");
        let told: u64 = lines.iter().filter_map(|line| line.split(' ').find_map(|word| word.parse::<u64>().ok())).sum();
        assert!(told == 1_000 || lines.iter().any(|line| line.contains(" a line ")), "{lines:?}");
    }

    #[test]
    fn one_routes_trouble_does_not_hide_anothers() {
        let (observer, lines) = observer();
        let routes = ["orders", "invoices"].map(|name| observer.route(&name.into()));
        for route in &routes {
            for _ in 0..3 {
                observer.refused(Reason::UpstreamDns, Some(route), "no address", Asked::default);
            }
        }
        let (away, door) = (
            |quiet: &Arc<Quiet>, name: &str| {
                let asked = || Asked { listener: Some(name.into()), ..Asked::default() };
                observer.turned_away(Reason::AppTls, quiet, "no TLS", asked);
            },
            [Arc::default(), Arc::default()],
        );
        away(&door[0], "legacy");
        away(&door[1], "egress");
        let lines = lines.lock().unwrap();
        for name in ["orders: ", "invoices: ", "legacy: ", "egress: "] {
            assert!(lines.iter().any(|line| line.contains(name)), "{name} in {lines:?}");
        }
    }

    #[test]
    fn nothing_is_looked_up_for_a_line_that_is_not_written() {
        let (observer, _) = observer();
        let looked = std::cell::Cell::new(0);
        for _ in 0..100 {
            observer.refused(Reason::NoRoute, None, "x", || {
                looked.set(looked.get() + 1);
                Asked::default()
            });
        }
        assert!((1..20).contains(&looked.get()), "{looked:?}");
    }

    /// Everything that could be told, told once.
    fn everything() -> (Observer, ConnectionGuard, String) {
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
        (observer, guard, rendered)
    }

    #[test]
    fn metrics_carry_the_names_that_dashboards_know() {
        let (observer, guard, rendered) = everything();
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
            "bearerd_token_standby_in_use{token=\"orders\"} 1",
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
    #[test]
    fn a_token_that_is_forgotten_is_told_no_more_and_the_others_go_on() {
        let (observer, _) = observer();
        let (kept, gone): (Arc<str>, Arc<str>) = ("kept".into(), "gone".into());
        for token in [&kept, &gone] {
            observer.token(token);
            observer.token_request(token, TokenOutcome::Rejected, Duration::from_millis(30));
            observer.token_refused(token);
            for credential in ["one", "two"] {
                observer.credential_rejected(token, Some(&credential.into()));
            }
        }
        observer.forget_token(&gone);
        let rendered = observer.render(&Samples::default());
        assert!(!rendered.contains("gone"), "{rendered}");
        // Four outcomes, a histogram of 14 lines, the refused ones, and the rejections of two credentials.
        assert_eq!(rendered.matches("token=\"kept\"").count(), 4 + 14 + 1 + 2, "{rendered}");
        observer.token_request(&gone, TokenOutcome::Granted, Duration::ZERO);
        let rendered = observer.render(&Samples::default());
        assert!(
            rendered.contains("bearerd_token_requests_total{token=\"gone\",outcome=\"granted\"} 1\n"),
            "{rendered}"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn every_metric_is_on_its_page_and_none_besides() {
        let page = include_str!("../../docs/metrics.md");
        let (_, _, rendered) = everything();
        let types = rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let told: BTreeSet<String> = types
            .map(|(name, kind)| match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            })
            .collect();
        let is_metric = |name: &&str| ["bearerd_", "process_"].iter().any(|prefix| name.starts_with(prefix));
        // A row of a table begins with the metric and its labels.
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
        let explained: BTreeSet<String> = rows.filter(is_metric).map(str::to_owned).collect();
        assert!(told.len() > 25, "{told:?}");
        let difference: Vec<_> = told.symmetric_difference(&explained).collect();
        assert!(difference.is_empty(), "in docs/metrics.md or in /metrics, and not in both: {difference:?}");
    }
}
