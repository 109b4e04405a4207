//! The numbers behind `/metrics`. Labels are enums or configured names, so their number is bounded by the
//! configuration.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::event::Name;
use super::reason::Reason;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenState {
    None,
    Fresh,
    /// Usable, but its renewal is overdue or failing.
    Stale,
    Expired,
}

impl TokenState {
    pub const ALL: [Self; 4] = [Self::None, Self::Fresh, Self::Stale, Self::Expired];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}

/// How a token request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenOutcome {
    Granted,
    /// The provider does not accept the credential.
    Rejected,
    /// The provider could not be reached or did not answer sensibly.
    Failed,
}

impl TokenOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// A token's gauges at the moment of a scrape.
#[derive(Debug)]
pub struct TokenSample {
    pub token: Arc<str>,
    pub state: TokenState,
    /// The identifiers of its credentials, and which of them is in use.
    pub credentials: Vec<Arc<str>>,
    pub using: usize,
    /// Seconds since 1970; `None` while there is none.
    pub expiry: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Name,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    token: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    token: Name,
    outcome: TokenOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabels {
    token: Name,
    credential: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    token: Name,
    state: TokenState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Reason,
}

/// From half a millisecond, what a local API takes, to a minute, where `timeouts.headers` ends a request.
const BUCKETS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    connections: Family<RouteLabels, Gauge>,
    expiries: Family<TokenLabels, Gauge<f64, AtomicU64>>,
    token_requests: Family<OutcomeLabels, Counter>,
    states: Family<StateLabels, Gauge>,
    credentials: Family<CredentialLabels, Gauge>,
    rejections: Family<CredentialLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("bearerd"),
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            connections: Family::default(),
            expiries: Family::default(),
            token_requests: Family::default(),
            states: Family::default(),
            credentials: Family::default(),
            rejections: Family::default(),
            refused: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests by route and status of the answer", metrics.requests.clone());
        registry.register(
            "request_duration_seconds",
            "From a request's head to the last byte of its answer",
            metrics.durations.clone(),
        );
        registry.register("upstream_connections", "Open connections to upstreams", metrics.connections.clone());
        registry.register(
            "token_expiry_timestamp_seconds",
            "When the held token stops being used, in seconds since 1970",
            metrics.expiries.clone(),
        );
        registry.register("token_requests", "Token requests by outcome", metrics.token_requests.clone());
        registry.register("token_state", "1 for the state that a token is in", metrics.states.clone());
        registry.register(
            "token_credential_in_use",
            "1 for the credential that a token is asked for with",
            metrics.credentials.clone(),
        );
        registry.register(
            "token_credential_rejections",
            "Token requests that the provider refused for their credential",
            metrics.rejections.clone(),
        );
        registry.register(
            "refused",
            "Requests that bearerd answered itself and connections that it closed, by reason",
            metrics.refused.clone(),
        );
        registry.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        // A rate over a counter that is not there yet misses its first event.
        for reason in Reason::ALL {
            drop(metrics.refused.get_or_create(&ReasonLabels { reason }));
        }
        metrics
    }

    pub(super) fn request(&self, route: Name, code: u16) {
        self.requests.get_or_create(&RequestLabels { route, code }).inc();
    }

    pub(super) fn duration(&self, route: &Arc<str>) -> Histogram {
        self.durations.get_or_create_owned(&RouteLabels { route: Name(Arc::clone(route)) })
    }

    pub(super) fn connections(&self, route: &Arc<str>) -> Gauge {
        self.connections.get_or_create_owned(&RouteLabels { route: Name(Arc::clone(route)) })
    }

    pub(super) fn token(&self, token: &Arc<str>) {
        for outcome in [TokenOutcome::Granted, TokenOutcome::Rejected, TokenOutcome::Failed] {
            let labels = OutcomeLabels { token: Name(Arc::clone(token)), outcome };
            drop(self.token_requests.get_or_create(&labels));
        }
    }

    pub(super) fn token_request(&self, token: &Arc<str>, outcome: TokenOutcome) {
        let labels = OutcomeLabels { token: Name(Arc::clone(token)), outcome };
        self.token_requests.get_or_create(&labels).inc();
    }

    pub(super) fn credential_rejected(&self, token: &Arc<str>, credential: &Arc<str>) {
        let labels = CredentialLabels { token: Name(Arc::clone(token)), credential: Name(Arc::clone(credential)) };
        self.rejections.get_or_create(&labels).inc();
    }

    pub(super) fn refused(&self, reason: Reason) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(super) fn render(&self, tokens: &[TokenSample]) -> String {
        for sample in tokens {
            let token = Name(Arc::clone(&sample.token));
            if let Some(expiry) = sample.expiry {
                self.expiries.get_or_create(&TokenLabels { token: token.clone() }).set(expiry);
            }
            for (index, credential) in sample.credentials.iter().enumerate() {
                let labels = CredentialLabels { token: token.clone(), credential: Name(Arc::clone(credential)) };
                self.credentials.get_or_create(&labels).set(i64::from(index == sample.using));
            }
            for state in TokenState::ALL {
                let labels = StateLabels { token: token.clone(), state };
                self.states.get_or_create(&labels).set(i64::from(state == sample.state));
            }
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// Counts what goes over one route. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    pub(super) name: Arc<str>,
    pub(super) duration: Histogram,
    pub(super) connections: Gauge,
    pub(super) counts: Arc<RouteCounts>,
}

/// What the status page shows of a route.
#[derive(Debug, Default)]
pub struct RouteCounts {
    pub requests: AtomicU64,
    /// Answered by bearerd itself.
    pub failed: AtomicU64,
}

impl RouteMetrics {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn counts(&self) -> &RouteCounts {
        &self.counts
    }

    /// Open connections to its upstream.
    pub fn connections(&self) -> i64 {
        self.connections.get()
    }

    /// One more upstream connection, until the guard is dropped.
    pub fn connection(&self) -> ConnectionGuard {
        self.connections.inc();
        ConnectionGuard(self.connections.clone())
    }

    pub(super) fn took(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }
}

/// An open upstream connection, counted while it lives.
#[derive(Debug)]
pub struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

macro_rules! label {
    ($($type:ty => $text:expr),*) => {$(
        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                let text: fn(&$type) -> &str = $text;
                encoder.write_str(text(self))
            }
        }
    )*};
}

label! {
    Name => |name| &name.0,
    Reason => |reason| reason.as_str(),
    TokenState => |state| state.as_str(),
    TokenOutcome => |outcome| outcome.as_str()
}
