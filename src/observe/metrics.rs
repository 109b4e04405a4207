//! The numbers behind `/metrics`. Labels are enums or configured names, so their number is bounded by the
//! configuration; what has left it is forgotten.
//!
//! Each of them is explained in `docs/metrics.md`, and a test keeps the two together.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::event::Name;
use super::process;
use super::reason::Reason;
use super::route::RouteBook;

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
    /// The provider was asked too often, or asks for patience: 429, or 503 with Retry-After.
    Limited,
    /// The provider could not be reached or did not answer sensibly.
    Failed,
}

impl TokenOutcome {
    pub const ALL: [Self; 4] = [Self::Granted, Self::Rejected, Self::Limited, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Rejected => "rejected",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

/// What became of an attempt to reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReloadOutcome {
    /// It is in force.
    Applied,
    /// What was in force goes on.
    Refused,
    /// It is what is in force.
    Unchanged,
    /// It is to be in force when its new tokens are there.
    Waiting,
}

impl ReloadOutcome {
    const ALL: [Self; 4] = [Self::Applied, Self::Refused, Self::Unchanged, Self::Waiting];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Unchanged => "unchanged",
            Self::Waiting => "waiting",
        }
    }
}

/// What is read at the moment of a scrape. Whatever is not in it any more is not told any more.
#[derive(Debug, Default)]
pub struct Samples {
    pub tokens: Vec<TokenSample>,
    pub routes: Vec<RouteSample>,
    pub listeners: Listening,
}

/// A token's numbers at the moment of a scrape.
#[derive(Debug)]
pub struct TokenSample {
    pub token: Arc<str>,
    pub state: TokenState,
    /// The identifiers of its credentials, and which of them is in use.
    pub credentials: Vec<Arc<str>>,
    pub using: usize,
    /// `None` while there is none.
    pub expiry: Option<SystemTime>,
    /// How long the held one was granted for.
    pub life: Option<Duration>,
    pub renewal: Option<SystemTime>,
    /// `None` while one is under way, and while nobody wants one.
    pub next_request: Option<SystemTime>,
    /// How many requests the budget allows in its window, and how many of them are left.
    pub budget: Option<(u32, u32)>,
    /// How many requests had to wait for a token request, ever.
    pub waits: u64,
}

/// A route's numbers at the moment of a scrape.
#[derive(Debug)]
pub struct RouteSample {
    pub route: Arc<str>,
    pub in_flight: usize,
    pub queued: usize,
}

/// What listens, at the moment of a scrape.
#[derive(Debug, Default)]
pub struct Listening {
    pub listeners: Vec<ListenerSample>,
    /// How many connections apps may have open, all listeners together.
    pub connections_limit: Option<usize>,
}

#[derive(Debug)]
pub struct ListenerSample {
    pub listener: Arc<str>,
    /// Those that apps have open; `None` for the admin pages, which do not count.
    pub connections: Option<usize>,
    /// When its certificate, or one that it is shown with, ends.
    pub certificate_expiry: Option<SystemTime>,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    outcome: ReloadOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: Name,
}

/// From what a provider next door takes to beyond `refresh.timeout`; seconds.
const TOKEN_BUCKETS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

type Durations = Family<TokenLabels, Histogram, fn() -> Histogram>;

pub(super) struct Metrics {
    registry: Registry,
    pub(super) routes: RouteBook,
    token_requests: Family<OutcomeLabels, Counter>,
    token_durations: Durations,
    token_refused: Family<TokenLabels, Counter>,
    rejections: Family<CredentialLabels, Counter>,
    /// Which tokens and credentials there are rejections of: the library does not say.
    rejected: Mutex<BTreeSet<(Arc<str>, Arc<str>)>>,
    refused: Family<ReasonLabels, Counter>,
    pub(super) lost_lines: Counter,
    reloads: Family<ReloadLabels, Counter>,
    last_reload: (Gauge, Seconds),
    reload_waits: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("bearerd"),
            routes: RouteBook::default(),
            token_requests: Family::default(),
            token_durations: Durations::new_with_constructor(|| Histogram::new(TOKEN_BUCKETS)),
            token_refused: Family::default(),
            rejections: Family::default(),
            rejected: Mutex::default(),
            refused: Family::default(),
            lost_lines: Counter::default(),
            reloads: Family::default(),
            last_reload: <(Gauge, Seconds)>::default(),
            reload_waits: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register_collector(Box::new(metrics.routes.clone()));
        registry.register("token_requests", "Token requests by outcome", metrics.token_requests.clone());
        registry.register(
            "token_request_duration_seconds",
            "How long token requests took, however they ended",
            metrics.token_durations.clone(),
        );
        registry.register("token_refused", "Tokens that an upstream did not take", metrics.token_refused.clone());
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
        registry.register(
            "access_log_dropped",
            "Lines of the access log that were lost, because nobody took them in time or they could not be written",
            metrics.lost_lines.clone(),
        );
        registry.register("config_reloads", "What became of attempts to reload", metrics.reloads.clone());
        registry.register(
            "config_last_reload_successful",
            "0 when the configuration as it is now was refused, and an older one serves",
            metrics.last_reload.0.clone(),
        );
        registry.register(
            "config_waiting",
            "1 while a configuration that is fine waits for a token, and an older one serves",
            metrics.reload_waits.clone(),
        );
        registry.register(
            "config_last_reload_timestamp_seconds",
            "When the configuration was last read with a word on it, in seconds since 1970",
            metrics.last_reload.1.clone(),
        );
        registry.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        // A rate over a counter that is not there yet misses its first event.
        for reason in Reason::ALL {
            drop(metrics.refused.get_or_create(&ReasonLabels { reason }));
        }
        for outcome in ReloadOutcome::ALL {
            drop(metrics.reloads.get_or_create(&ReloadLabels { outcome }));
        }
        metrics.last_reload.0.set(1);
        metrics.last_reload.1.set(since_1970(SystemTime::now()));
        metrics
    }

    pub(super) fn token(&self, token: &Arc<str>) {
        for outcome in TokenOutcome::ALL {
            let labels = OutcomeLabels { token: Name(Arc::clone(token)), outcome };
            drop(self.token_requests.get_or_create(&labels));
        }
        let labels = TokenLabels { token: Name(Arc::clone(token)) };
        drop(self.token_refused.get_or_create(&labels));
        drop(self.token_durations.get_or_create(&labels));
    }

    pub(super) fn token_request(&self, token: &Arc<str>, outcome: TokenOutcome, took: Duration) {
        let labels = OutcomeLabels { token: Name(Arc::clone(token)), outcome };
        self.token_requests.get_or_create(&labels).inc();
        self.token_durations.get_or_create(&TokenLabels { token: labels.token }).observe(took.as_secs_f64());
    }

    pub(super) fn token_refused(&self, token: &Arc<str>) {
        self.token_refused.get_or_create(&TokenLabels { token: Name(Arc::clone(token)) }).inc();
    }

    pub(super) fn credential_rejected(&self, token: &Arc<str>, credential: &Arc<str>) {
        let names = (Arc::clone(token), Arc::clone(credential));
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).insert(names);
        let labels = CredentialLabels { token: Name(Arc::clone(token)), credential: Name(Arc::clone(credential)) };
        self.rejections.get_or_create(&labels).inc();
    }

    pub(super) fn forget_token(&self, token: &Arc<str>) {
        let name = Name(Arc::clone(token));
        for outcome in TokenOutcome::ALL {
            self.token_requests.remove(&OutcomeLabels { token: name.clone(), outcome });
        }
        let labels = TokenLabels { token: name.clone() };
        self.token_durations.remove(&labels);
        self.token_refused.remove(&labels);
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, credential)| {
            let is_its = other == token;
            if is_its {
                let credential = Name(Arc::clone(credential));
                self.rejections.remove(&CredentialLabels { token: name.clone(), credential });
            }
            !is_its
        });
    }

    /// There are no other credentials of this token.
    pub(super) fn keep_credentials(&self, token: &Arc<str>, credentials: &[Arc<str>]) {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, credential)| {
            let stays = other != token || credentials.contains(credential);
            if !stays {
                let (token, credential) = (Name(Arc::clone(token)), Name(Arc::clone(credential)));
                self.rejections.remove(&CredentialLabels { token, credential });
            }
            stays
        });
    }

    pub(super) fn reload(&self, outcome: ReloadOutcome, at: SystemTime) {
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
        self.last_reload.0.set(i64::from(outcome != ReloadOutcome::Refused));
        self.last_reload.1.set(since_1970(at));
        self.reload_waits.set(i64::from(outcome == ReloadOutcome::Waiting));
    }

    pub(super) fn refused(&self, reason: Reason) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Those that occurred.
    pub(super) fn refusals(&self) -> Vec<(Reason, u64)> {
        let count = |reason| Some((reason, self.refused.get(&ReasonLabels { reason })?.get()));
        Reason::ALL.into_iter().filter_map(count).filter(|(_, many)| *many > 0).collect()
    }

    pub(super) fn render(&self, samples: &Samples) -> String {
        let mut sampled = Registry::with_prefix("bearerd");
        tokens(&mut sampled, &samples.tokens);
        routes(&mut sampled, &samples.routes);
        listeners(&mut sampled, &samples.listeners);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode_registry(&mut text, &self.registry);
        let _ = text::encode_registry(&mut text, &sampled);
        let _ = text::encode(&mut text, &process::registry());
        text
    }
}

type Seconds = Gauge<f64, AtomicU64>;

/// Unix time, as Prometheus has it.
fn since_1970(at: SystemTime) -> f64 {
    // Milliseconds: what is computed from the time until then would differ a little at each scrape.
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_secs_f64() * 1e3).round() / 1e3
}

fn tokens(registry: &mut Registry, samples: &[TokenSample]) {
    let (expiries, lives, renewals, next) = <[Family<TokenLabels, Seconds>; 4]>::default().into();
    let (limits, left, standbys) = <[Family<TokenLabels, Gauge>; 3]>::default().into();
    let states = Family::<StateLabels, Gauge>::default();
    let credentials = Family::<CredentialLabels, Gauge>::default();
    let waits = Family::<TokenLabels, Counter>::default();
    for sample in samples {
        let labels = TokenLabels { token: Name(Arc::clone(&sample.token)) };
        for (family, at) in [(&expiries, sample.expiry), (&renewals, sample.renewal), (&next, sample.next_request)] {
            if let Some(at) = at {
                family.get_or_create(&labels).set(since_1970(at));
            }
        }
        if let Some(life) = sample.life {
            lives.get_or_create(&labels).set(life.as_secs_f64());
        }
        if let Some((limit, free)) = sample.budget {
            limits.get_or_create(&labels).set(limit.into());
            left.get_or_create(&labels).set(free.into());
        }
        waits.get_or_create(&labels).inc_by(sample.waits);
        standbys.get_or_create(&labels).set(i64::from(sample.using > 0));
        for (index, credential) in sample.credentials.iter().enumerate() {
            let labels = CredentialLabels { token: labels.token.clone(), credential: Name(Arc::clone(credential)) };
            credentials.get_or_create(&labels).set(i64::from(index == sample.using));
        }
        for state in TokenState::ALL {
            let labels = StateLabels { token: labels.token.clone(), state };
            states.get_or_create(&labels).set(i64::from(state == sample.state));
        }
    }
    registry.register(
        "token_expiry_timestamp_seconds",
        "When the held token stops being used, in seconds since 1970",
        expiries,
    );
    registry.register("token_lifetime_seconds", "How long the held token was granted for", lives);
    registry.register(
        "token_renewal_timestamp_seconds",
        "When the renewal of the held token is planned, in seconds since 1970",
        renewals,
    );
    registry.register(
        "token_next_request_timestamp_seconds",
        "When the provider is asked next, in seconds since 1970",
        next,
    );
    registry.register("token_budget_limit", "Token requests that the budget allows in its window", limits);
    registry.register("token_budget_left", "Token requests that are left of the budget now", left);
    registry.register("token_state", "1 for the state that a token is in", states);
    registry.register("token_credential_in_use", "1 for the credential that a token is asked for with", credentials);
    registry.register("token_standby_in_use", "1 if that is not the first of its credentials", standbys);
    registry.register("token_waits", "Requests that had to wait for a token request", waits);
}

fn routes(registry: &mut Registry, samples: &[RouteSample]) {
    let (in_flight, queued) = <[Family<RouteLabels, Gauge>; 2]>::default().into();
    let gauge = |many: usize| i64::try_from(many).unwrap_or(i64::MAX);
    for sample in samples {
        let labels = RouteLabels { route: Name(Arc::clone(&sample.route)) };
        in_flight.get_or_create(&labels).set(gauge(sample.in_flight));
        queued.get_or_create(&labels).set(gauge(sample.queued));
    }
    registry.register("requests_in_flight", "Requests that have one of the route's places", in_flight);
    registry.register("requests_queued", "Requests that wait for one of the route's places", queued);
}

fn listeners(registry: &mut Registry, sample: &Listening) {
    let connections = Family::<ListenerLabels, Gauge>::default();
    let expiries = Family::<ListenerLabels, Seconds>::default();
    let gauge = |many: usize| i64::try_from(many).unwrap_or(i64::MAX);
    for ListenerSample { listener, connections: open, certificate_expiry } in &sample.listeners {
        let labels = ListenerLabels { listener: Name(Arc::clone(listener)) };
        if let Some(open) = open {
            connections.get_or_create(&labels).set(gauge(*open));
        }
        if let Some(expiry) = certificate_expiry {
            expiries.get_or_create(&labels).set(since_1970(*expiry));
        }
    }
    registry.register("connections", "Connections that apps have open", connections);
    registry.register(
        "certificate_expiry_timestamp_seconds",
        "When the certificate of a listener ends, in seconds since 1970",
        expiries,
    );
    if let Some(limit) = sample.connections_limit {
        let most = Gauge::<i64>::default();
        most.set(gauge(limit));
        registry.register("connections_limit", "Connections that apps may have open, all listeners together", most);
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
    TokenOutcome => |outcome| outcome.as_str(),
    ReloadOutcome => |outcome| outcome.as_str()
}
