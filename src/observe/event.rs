//! Everything worth telling, as types: each event knows its name, its level and its sentence.
//!
//! A peer's bytes never get in here: texts are configured names, our own words, or codes that were parsed first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::log::Level;
use super::reason::Reason;
use crate::life::UnderWay;
use crate::secret::Fingerprint;

/// What happened. Names of tokens, routes and listeners come from the configuration.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something in the configuration is allowed and unwise.
    ConfigWarning {
        text: &'a str,
    },
    Listening {
        name: &'a str,
        /// `127.0.0.1:4280`, `unix:/run/bearerd/app.sock`.
        address: &'a str,
        tls: bool,
        /// It was bound before this process began.
        inherited: bool,
    },
    /// A loopback address that the machine does not have, such as `::1`.
    ListenSkipped {
        address: SocketAddr,
        error: &'a str,
    },
    Ready,
    Draining {
        signal: &'a str,
        /// Of apps, and open.
        connections: usize,
    },
    Stopped {
        /// When the drain began.
        found: UnderWay,
        cut: UnderWay,
    },
    TokenAsked {
        token: &'a str,
        credential: &'a str,
        why: &'static str,
    },
    TokenGranted(TokenGranted<'a>),
    TokenFailed {
        token: &'a str,
        credential: &'a str,
        why: &'a str,
        /// What to do about it.
        cure: Option<&'a str>,
        /// `None` if the next one is under way already.
        next: Option<Duration>,
        usable_for: Option<Duration>,
        /// Whether requests may need it; not while a new configuration waits that has it.
        in_force: bool,
    },
    /// The budget is spent, and a token is needed that it leaves no request for.
    BudgetSpent {
        token: &'a str,
        next: Duration,
    },
    CredentialSwitched {
        /// By the provider; else it could not be used.
        rejected: bool,
        token: &'a str,
        from: &'a str,
        to: &'a str,
    },
    TokenRefused {
        token: &'a str,
        generation: u64,
    },
    SecretChanged {
        token: &'a str,
    },
    /// The system does not tell when files change.
    FilesUnwatched {
        error: &'a str,
    },
    /// `off` is by how much, and to which side.
    ClockOff {
        token: &'a str,
        off: &'a str,
    },
    /// A token that was asked for because the one before was refused has been refused as well.
    TokenNoBetter {
        token: &'a str,
    },
    ScopeDiffers {
        token: &'a str,
    },
    SecretUnreadable {
        token: &'a str,
        why: &'a str,
    },
    /// A named client's; the last one that could be read, if there was one, goes on counting.
    PasswordUnreadable {
        client: &'a str,
        why: &'a str,
    },
    StateUnwritable {
        path: &'a str,
        error: &'a str,
    },
    TokenTypeOdd {
        token: &'a str,
    },
    TaskPanicked {
        task: &'static str,
    },
    /// With what it carried; others go on until the process ends.
    WorkerFell {
        worker: usize,
    },
    Panicked {
        thread: &'a str,
        /// Where in the sources.
        place: &'a str,
        /// What it says, where that is no more than the sources do.
        why: Option<&'static str>,
    },
    /// `limits.connections` is more than this process may have descriptors for.
    FewDescriptors {
        connections: usize,
        wanted: usize,
        /// The limit that would do.
        descriptors: usize,
    },
    AcceptFailed {
        listener: &'a str,
        error: &'a str,
        suppressed: u64,
    },
    /// A connection that was closed before anything was asked on it.
    TurnedAway {
        reason: Reason,
        why: &'a str,
        asked: &'a Asked,
        suppressed: u64,
    },
    /// What the apps of routes that intercept have to trust.
    Authority {
        certificate: &'a str,
        /// Why it was made now; `None` if it was there.
        anew: Option<&'static str>,
    },
    /// New connections get the new certificate.
    CertificateRenewed {
        listener: &'a str,
    },
    /// The TLS files of a listener changed, and are not what they should be.
    CertificateUnusable {
        listener: &'a str,
        why: &'a str,
    },
    /// Another configuration is in force; `what` names what is different.
    Reloaded {
        what: &'a str,
    },
    /// Somebody asked for the configuration to be read, and it is the one that is in force.
    ReloadUnchanged,
    /// A configuration cannot be put in force, for each of these reasons.
    ReloadRefused {
        problems: &'a [String],
    },
    /// A configuration is fine, and a token that is new in it is not there yet.
    ReloadWaits {
        tokens: &'a str,
    },
    /// A request that bearerd answered itself, for any reason but the upstream.
    Refused {
        reason: Reason,
        route: Option<&'a str>,
        why: &'a str,
        asked: &'a Asked,
        suppressed: u64,
    },
    UpstreamFailed {
        reason: Reason,
        /// `tunnel` for what `tunnel` lets through.
        route: &'a str,
        why: &'a str,
        asked: &'a Asked,
        suppressed: u64,
    },
    /// Lines of the access log that could not be written; none yet where something is wrong that will cost some.
    AccessLogLost {
        lines: u64,
        why: &'a str,
    },
    /// Its first answer after an outage.
    UpstreamRecovered {
        route: &'a str,
        /// Since the first of the requests that failed.
        lasted: Duration,
        failed: u64,
    },
    /// Lines that standard error did not take at once.
    LogLost {
        lines: u64,
    },
    /// An API's answer tells that something in the configuration may be wrong.
    Advised {
        advice: Advice,
        route: &'a str,
        suppressed: u64,
    },
    Exchange {
        route: Option<&'a str>,
        method: &'a str,
        status: u16,
        reason: Option<Reason>,
        took: Duration,
    },
}

/// What an API's own answer says of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The token is good, and not good for this.
    Scope,
    /// Nothing is found at a path that has the upstream's base path twice.
    BasePath,
}

impl Advice {
    pub const ALL: [Self; 2] = [Self::Scope, Self::BasePath];
}

/// A token came.
#[derive(Debug)]
pub struct TokenGranted<'a> {
    pub token: &'a str,
    pub credential: &'a str,
    pub fingerprint: Fingerprint,
    pub generation: u64,
    pub life: Duration,
    pub renew_in: Duration,
    pub took: Duration,
    /// How many requests for it had failed before, and for how long, if any had.
    pub recovered: Option<(u32, Duration)>,
}

/// What is known of a request or a connection, and of whoever is at the other end: what was configured, proved or parsed,
/// and nothing as a peer wrote it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// One of the usual ones, or `other`.
    pub method: Option<&'static str>,
    /// The host, with a port if one was written, that the request is for.
    pub host: Option<String>,
    /// The web page that made it.
    pub origin: Option<String>,
    /// One of `callers.clients`.
    pub caller: Option<Arc<str>>,
    /// The user at the other end of a unix socket.
    pub uid: Option<u32>,
    pub peer: Option<SocketAddr>,
    pub listener: Option<Arc<str>>,
}

impl Asked {
    /// `GET for api.example from uid 1001 at legacy`.
    fn sentence(&self) -> String {
        let mut text = self.method.unwrap_or("a request").to_owned();
        let mut say = |word: &str, what: Option<String>| {
            if let Some(what) = what {
                text.extend([" ", word, " ", &what]);
            }
        };
        say("for", self.host.clone());
        say("from", self.who());
        say("by the web page of", self.origin.clone());
        say("at", self.listener.as_deref().map(str::to_owned));
        text
    }

    /// The best that is known.
    fn who(&self) -> Option<String> {
        match self {
            Self { caller: Some(caller), .. } => Some(caller.to_string()),
            Self { uid: Some(uid), .. } => Some(format!("uid {uid}")),
            Self { peer, .. } => peer.map(|peer| peer.to_string()),
        }
    }

    /// The same `why` is the same refusal, whatever port it came from.
    pub(super) fn of(&self, why: &str) -> String {
        let Self { method, host, origin, caller, uid, .. } = self;
        let short = Self {
            method: *method,
            host: host.clone(),
            origin: origin.clone(),
            caller: caller.clone(),
            uid: *uid,
            ..Self::default()
        };
        if method.is_none() { why.to_owned() } else { format!("{}: {why}", short.sentence()) }
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let text = |text: Option<&str>| text.map_or(Value::Null, Into::into);
        vec![
            ("method", text(self.method)),
            ("host", text(self.host.as_deref())),
            ("origin", text(self.origin.as_deref())),
            ("caller", text(self.caller.as_deref())),
            ("uid", self.uid.map_or(Value::Null, Into::into)),
            ("peer", self.peer.map_or(Value::Null, |peer| peer.to_string().into())),
            ("listener", text(self.listener.as_deref())),
        ]
    }
}

/// An event, ready to be written.
#[derive(Debug)]
pub struct Line {
    pub level: Level,
    /// The stable name that machines look for.
    pub event: &'static str,
    /// The sentence that people read.
    pub message: String,
    pub fields: Vec<(&'static str, Value)>,
}

/// So many of each kind, in words.
fn counted(under_way: UnderWay) -> String {
    let UnderWay { requests, websockets, tunnels } = under_way;
    let kinds = [(requests, "request"), (websockets, "WebSocket"), (tunnels, "tunnel")];
    let words: Vec<_> = kinds
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, kind)| if number == 1 { format!("1 {kind}") } else { format!("{number} {kind}s") })
        .collect();
    match &words[..] {
        [first, second, third] => format!("{first}, {second} and {third}"),
        others => others.join(" and "),
    }
}

impl Event<'_> {
    pub fn level(&self) -> Level {
        match self {
            Self::TaskPanicked { .. }
            | Self::WorkerFell { .. }
            | Self::Panicked { .. }
            | Self::Refused { reason: Reason::Internal, .. } => Level::Error,
            Self::TokenFailed { usable_for: None, next: Some(_), in_force: true, .. } | Self::BudgetSpent { .. } => {
                Level::Error
            }
            Self::ConfigWarning { .. }
            | Self::ListenSkipped { .. }
            | Self::TokenFailed { .. }
            | Self::CredentialSwitched { .. }
            | Self::TokenRefused { .. }
            | Self::ClockOff { .. }
            | Self::TokenNoBetter { .. }
            | Self::ScopeDiffers { .. }
            | Self::SecretUnreadable { .. }
            | Self::PasswordUnreadable { .. }
            | Self::StateUnwritable { .. }
            | Self::TokenTypeOdd { .. }
            | Self::FilesUnwatched { .. }
            | Self::AcceptFailed { .. }
            | Self::TurnedAway { .. }
            | Self::CertificateUnusable { .. }
            | Self::ReloadRefused { .. }
            | Self::ReloadWaits { .. }
            | Self::Refused { .. }
            | Self::AccessLogLost { .. }
            | Self::LogLost { .. }
            | Self::Advised { .. }
            | Self::UpstreamFailed { .. } => Level::Warn,
            Self::Listening { .. }
            | Self::Ready
            | Self::Draining { .. }
            | Self::Stopped { .. }
            | Self::TokenGranted(_)
            | Self::UpstreamRecovered { .. }
            | Self::FewDescriptors { .. }
            | Self::Authority { .. }
            | Self::CertificateRenewed { .. }
            | Self::Reloaded { .. }
            | Self::ReloadUnchanged
            | Self::SecretChanged { .. } => Level::Info,
            Self::TokenAsked { .. } | Self::Exchange { .. } => Level::Debug,
        }
    }

    pub fn line(&self) -> Line {
        let (event, message, fields): (_, String, Vec<(&'static str, Value)>) = match self {
            // On a screen its hint has a line of its own.
            Self::ConfigWarning { text } => ("config_warning", text.replace("\n  ", "; "), vec![]),
            Self::Listening { name, address, tls, inherited } => (
                "listening",
                format!(
                    "{name} listens on {address}{}{}",
                    if *tls { ", with TLS" } else { "" },
                    if *inherited { ", by an inherited socket" } else { "" }
                ),
                vec![
                    ("listener", (*name).into()),
                    ("address", (*address).into()),
                    ("tls", (*tls).into()),
                    ("inherited", (*inherited).into()),
                ],
            ),
            Self::ListenSkipped { address, error } => (
                "listen_skipped",
                format!("{address} is left out: {error}"),
                vec![("address", address.to_string().into()), ("error", (*error).into())],
            ),
            Self::Ready => ("ready", "ready: every required token has been held once".into(), vec![]),
            Self::Draining { signal, connections } => (
                "draining",
                match connections {
                    1 => format!("{signal}: finishing what is in flight, on 1 connection"),
                    more => format!("{signal}: finishing what is in flight, on {more} connections"),
                },
                vec![("signal", (*signal).into()), ("connections", (*connections).into())],
            ),
            Self::Stopped { found, cut } => (
                "stopped",
                match (found.all(), cut.all()) {
                    (0, 0) => "stopped; every exchange was finished".to_owned(),
                    (_, 0) => format!("stopped; every exchange was finished: {}", counted(*found)),
                    (_, 1) => format!("stopped; {} was cut off", counted(*cut)),
                    (_, _) => format!("stopped; {} were cut off", counted(*cut)),
                },
                vec![("in_flight", found.all().into()), ("cut_off", cut.all().into())],
            ),
            Self::TokenAsked { token, credential, why } => (
                "token_asked",
                format!("{token}: asking for a token as {credential} ({why})"),
                vec![("token", (*token).into()), ("credential", (*credential).into()), ("why", (*why).into())],
            ),
            Self::TokenGranted(granted) => (
                "token_granted",
                format!(
                    "{}: got token {} as {}; it lives {}, renewal in {}{}",
                    granted.token,
                    granted.fingerprint,
                    granted.credential,
                    rounded(granted.life),
                    rounded(granted.renew_in),
                    granted.recovered.map_or_else(String::new, |(failures, lasted)| {
                        format!(
                            "; the provider grants again, after {} and {}",
                            rounded(lasted),
                            failed(failures.into())
                        )
                    }),
                ),
                vec![
                    ("token", granted.token.into()),
                    ("credential", granted.credential.into()),
                    ("fingerprint", granted.fingerprint.to_string().into()),
                    ("generation", granted.generation.into()),
                    ("life_seconds", granted.life.as_secs_f64().into()),
                    ("renew_in_seconds", granted.renew_in.as_secs_f64().into()),
                    ("took_seconds", granted.took.as_secs_f64().into()),
                    ("failures", granted.recovered.map_or(0, |(failures, _)| failures).into()),
                    ("failed_for_seconds", granted.recovered.map_or(0.0, |(_, lasted)| lasted.as_secs_f64()).into()),
                ],
            ),
            Self::TokenFailed { token, credential, why, cure, next, usable_for, in_force } => (
                "token_failed",
                format!(
                    "{token}: no token as {credential}: {why}; {}; {}{}",
                    match next {
                        Some(next) => format!("next try in {}", rounded(*next)),
                        None => "trying again at once".into(),
                    },
                    match (usable_for, next) {
                        _ if !in_force => "only the new configuration needs it, and waits".into(),
                        (Some(left), _) => format!("the one that is held serves for {} more", rounded(*left)),
                        (None, Some(_)) => "requests that need it get 503".into(),
                        (None, None) => "requests that need it wait".into(),
                    },
                    cure.map(|cure| format!("; hint: {cure}")).unwrap_or_default(),
                ),
                vec![
                    ("token", (*token).into()),
                    ("credential", (*credential).into()),
                    ("why", (*why).into()),
                    ("hint", cure.map_or(Value::Null, Into::into)),
                    ("next_seconds", next.unwrap_or_default().as_secs_f64().into()),
                    ("in_force", (*in_force).into()),
                    ("usable_seconds", usable_for.unwrap_or_default().as_secs_f64().into()),
                ],
            ),
            Self::BudgetSpent { token, next } => (
                "budget_spent",
                format!("{token}: its budget is spent; the next token request is in {}", rounded(*next)),
                vec![("token", (*token).into()), ("next_seconds", next.as_secs_f64().into())],
            ),
            Self::CredentialSwitched { token, rejected, from, to } => (
                "credential_switched",
                if *rejected {
                    format!(
                        "{token}: the provider rejected the credential {from}; {to} is used now; give {from} a new secret"
                    )
                } else {
                    format!("{token}: the credential {from} cannot be used; {to} is used now")
                },
                vec![
                    ("token", (*token).into()),
                    ("rejected", (*rejected).into()),
                    ("from", (*from).into()),
                    ("to", (*to).into()),
                ],
            ),
            Self::TokenRefused { token, generation } => (
                "token_refused",
                format!("{token}: an upstream did not take token {generation}; renewing it"),
                vec![("token", (*token).into()), ("generation", (*generation).into())],
            ),
            Self::SecretChanged { token } => (
                "secret_changed",
                format!("{token}: a secret file changed; its new content is used from now on"),
                vec![("token", (*token).into())],
            ),
            Self::FilesUnwatched { error } => (
                "files_unwatched",
                format!("this system does not tell when files change ({error}); they are looked at every 30s"),
                vec![("error", (*error).into())],
            ),
            Self::ClockOff { token, off } => (
                "clock_off",
                format!(
                    "{token}: this machine's clock is {off} the provider's: set it (NTP), or certificates will fail by \
                     the time"
                ),
                vec![("token", (*token).into()), ("off", (*off).into())],
            ),
            Self::TokenNoBetter { token } => (
                "token_no_better",
                format!(
                    "{token}: an upstream does not take fresh tokens either; compare `audience`, `resource` and `scope` \
                     with what the API wants, and its provider with this one; `bearerd token --claims` shows what is in \
                     the token"
                ),
                vec![("token", (*token).into())],
            ),
            Self::ScopeDiffers { token } => (
                "scope_differs",
                format!(
                    "{token}: the provider granted another scope than was asked for; compare `scope` with the scopes that \
                     this client may have there; `bearerd token {token} --claims` shows what it got"
                ),
                vec![("token", (*token).into())],
            ),
            Self::SecretUnreadable { token, why } => (
                "secret_unreadable",
                format!("{token}: the secret cannot be read: {why}; the last one that could be was used"),
                vec![("token", (*token).into()), ("why", (*why).into())],
            ),
            Self::PasswordUnreadable { client, why } => (
                "password_unreadable",
                format!(
                    "client {client}: the password cannot be read: {why}; one that could be read before still counts"
                ),
                vec![("client", (*client).into()), ("why", (*why).into())],
            ),
            Self::StateUnwritable { path, error } => (
                "state_unwritable",
                format!("{path} cannot be written ({error}); a restart will forget what was asked of the provider"),
                vec![("path", (*path).into()), ("error", (*error).into())],
            ),
            Self::TokenTypeOdd { token } => (
                "token_type_odd",
                format!(
                    "{token}: the provider's `token_type` is not Bearer; it is sent as a bearer token all the same"
                ),
                vec![("token", (*token).into())],
            ),
            Self::TaskPanicked { task } => (
                "task_panicked",
                format!("a bug in bearerd: {task} panicked and was started again; please report it"),
                vec![("task", (*task).into())],
            ),
            Self::WorkerFell { worker } => (
                "worker_fell",
                format!(
                    "a bug in bearerd: worker {worker} has ended with the connections that it carried; the process ends too, \
                     so that it is started anew; please report it"
                ),
                vec![("worker", (*worker).into())],
            ),
            Self::Panicked { thread, place, why } => (
                "panicked",
                match why {
                    Some(why) => format!("a bug in bearerd: {why}, at {place} on {thread}; please report it"),
                    None => format!("a bug in bearerd: a panic at {place} on {thread}; please report it"),
                },
                vec![("thread", (*thread).into()), ("place", (*place).into())],
            ),
            Self::FewDescriptors { connections, wanted, descriptors } => (
                "few_descriptors",
                format!(
                    "descriptors are limited: at most {connections} connections of apps, not {wanted}; raise the limit to \
                     {descriptors} (`ulimit -Hn`, `LimitNOFILE=`), or lower `limits.connections`"
                ),
                vec![
                    ("connections", (*connections).into()),
                    ("wanted", (*wanted).into()),
                    ("descriptors", (*descriptors).into()),
                ],
            ),
            Self::AcceptFailed { listener, error, suppressed } => (
                "accept_failed",
                format!("{listener}: a connection could not be accepted: {error}{}", also(None, *suppressed)),
                vec![
                    ("listener", (*listener).into()),
                    ("error", (*error).into()),
                    ("suppressed", (*suppressed).into()),
                ],
            ),
            Self::TurnedAway { reason, why, asked, suppressed } => (
                "turned_away",
                format!(
                    "{}: a connection{} was closed: {why}{}",
                    asked.listener.as_deref().unwrap_or("a listener"),
                    asked.who().map_or_else(String::new, |who| format!(" from {who}")),
                    also(Some(*reason), *suppressed)
                ),
                judged(*reason, why, *suppressed, asked, None),
            ),
            Self::Authority { certificate, anew } => (
                "authority",
                match anew {
                    None => format!("apps of routes that intercept trust {certificate}"),
                    Some(why) => format!(
                        "the local authority was made anew ({why}): apps of routes that intercept have to trust {certificate}"
                    ),
                },
                vec![("certificate", (*certificate).into()), ("anew", anew.map_or(Value::Null, Into::into))],
            ),
            Self::CertificateRenewed { listener } => (
                "certificate_renewed",
                format!("{listener}: its TLS files changed; new connections get what they hold now"),
                vec![("listener", (*listener).into())],
            ),
            Self::CertificateUnusable { listener, why } => (
                "certificate_unusable",
                format!(
                    "{listener}: its TLS files changed and cannot be used: {why}; what they held before still serves"
                ),
                vec![("listener", (*listener).into()), ("why", (*why).into())],
            ),
            Self::Reloaded { what } => {
                // What has a name of its own, such as `routes: `, needs no mark before it.
                let mark = if what.contains(": ") { ';' } else { ':' };
                ("reloaded", format!("reloaded{mark} {what}"), vec![("what", (*what).into())])
            }
            Self::ReloadUnchanged => {
                ("reload_unchanged", "the configuration is the one that is in force; nothing changes".into(), vec![])
            }
            Self::ReloadRefused { problems } => (
                "reload_refused",
                format!("not reloaded, what was in force goes on: {}", problems.join("; ")),
                vec![("problems", problems.join("\n").into())],
            ),
            Self::ReloadWaits { tokens } => (
                "reload_waits",
                format!(
                    "the new configuration is fine and waits for the first token of {tokens}; what was in force goes on \
                     until then; mend the token, or say `required: false` if its routes are to come without it"
                ),
                vec![("tokens", (*tokens).into())],
            ),
            Self::Refused { reason, route, why, asked, suppressed } => (
                "refused",
                format!(
                    "{}refused {}: {why}{}",
                    route.map_or_else(String::new, |route| format!("{route}: ")),
                    asked.sentence(),
                    also(Some(*reason), *suppressed)
                ),
                judged(*reason, why, *suppressed, asked, Some(*route)),
            ),
            Self::UpstreamFailed { reason, route, why, asked, suppressed } => (
                "upstream_failed",
                format!(
                    "{route}: {}{why}{}",
                    // A route has one upstream. Where `tunnel` leads the app has chosen.
                    asked.host.as_ref().map_or_else(String::new, |_| format!("{}: ", asked.sentence())),
                    also(Some(*reason), *suppressed)
                ),
                judged(*reason, why, *suppressed, asked, Some(Some(*route))),
            ),
            Self::UpstreamRecovered { route, lasted, failed: requests } => (
                "upstream_recovered",
                format!("{route}: the upstream answers again, after {} and {}", rounded(*lasted), failed(*requests)),
                vec![
                    ("route", (*route).into()),
                    ("lasted_seconds", lasted.as_secs_f64().into()),
                    ("failed", (*requests).into()),
                ],
            ),
            Self::AccessLogLost { lines, why } => (
                "access_log_lost",
                match lines {
                    0 => format!("the access log: {why}"),
                    1 => format!("a line of the access log is lost: {why}"),
                    more => format!("{more} lines of the access log are lost: {why}"),
                },
                vec![("lines", (*lines).into()), ("why", (*why).into())],
            ),
            Self::LogLost { lines } => (
                "log_lost",
                format!(
                    "{} of this log were lost: whoever reads standard error did not take them",
                    if *lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
                ),
                vec![("lines", (*lines).into())],
            ),
            Self::Advised { advice: Advice::Scope, route, suppressed } => (
                "scope_insufficient",
                format!(
                    "{route}: the upstream says that the token is not good for this (insufficient_scope); ask for more with \
                     the token's `scope`, and allow it to the client at the provider{}",
                    also(None, *suppressed)
                ),
                vec![("route", (*route).into()), ("suppressed", (*suppressed).into())],
            ),
            Self::Advised { advice: Advice::BasePath, route, suppressed } => (
                "base_path_twice",
                format!(
                    "{route}: the upstream answers 404 to a path that has the path of `upstream` twice: it is put in front, \
                     so apps leave it out; or leave it out of `upstream`{}",
                    also(None, *suppressed)
                ),
                vec![("route", (*route).into()), ("suppressed", (*suppressed).into())],
            ),
            Self::Exchange { route, method, status, reason, took } => (
                "exchange",
                format!("{method} by {} ended with {status} in {took:.1?}", route.unwrap_or("no route")),
                vec![
                    ("route", route.map_or(Value::Null, Into::into)),
                    ("method", (*method).into()),
                    ("status", (*status).into()),
                    ("reason", reason.map_or(Value::Null, |reason| reason.as_str().into())),
                    ("took_seconds", took.as_secs_f64().into()),
                ],
            ),
        };
        Line { level: self.level(), event, message, fields }
    }
}

/// The fields of a line about what was not done; `route` where there may be one.
fn judged(
    reason: Reason,
    why: &str,
    suppressed: u64,
    asked: &Asked,
    route: Option<Option<&str>>,
) -> Vec<(&'static str, Value)> {
    let mut fields = vec![("reason", reason.as_str().into()), ("fault", reason.whose().into()), ("why", why.into())];
    match route {
        Some(route) => {
            fields.push(("route", route.map_or(Value::Null, Into::into)));
            fields.extend(asked.fields());
        }
        // Nothing was asked yet.
        None => {
            fields.extend(asked.fields().into_iter().filter(|(name, _)| ["uid", "peer", "listener"].contains(name)))
        }
    }
    fields.push(("suppressed", suppressed.into()));
    fields
}

/// The word for why, and how many lines of the same kind went unsaid.
fn also(reason: Option<Reason>, suppressed: u64) -> String {
    match (reason, suppressed) {
        (None, 0) => String::new(),
        (Some(reason), 0) => format!(" ({reason})"),
        (None, more) => format!(" ({more} more since the last such line)"),
        (Some(reason), more) => format!(" ({reason}; {more} more since the last such line)"),
    }
}

fn failed(requests: u64) -> String {
    match requests {
        1 => "1 failed request".to_owned(),
        more => format!("{more} failed requests"),
    }
}

/// A duration as people say it: tenths of a second below ten seconds, whole seconds from there on.
fn rounded(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        return format!("{}s", (seconds * 10.0).round() / 10.0);
    }
    humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string()
}

/// A configured name as a metric's label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(pub Arc<str>);

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
