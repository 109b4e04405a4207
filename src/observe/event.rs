//! Everything worth telling, as types: each event knows its name, its level and its sentence.
//!
//! A peer's bytes never get in here: texts are configured names, our own words, or codes that were parsed first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::log::Level;
use super::reason::Reason;
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
    },
    /// A loopback address that the machine does not have, such as `::1`.
    ListenSkipped {
        address: SocketAddr,
        error: &'a str,
    },
    Ready,
    Draining {
        signal: &'a str,
    },
    Stopped {
        cut_off: usize,
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
        /// `None` if the next one is under way already.
        next: Option<Duration>,
        usable_for: Option<Duration>,
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
    },
    /// A connection that was closed before anything was asked on it.
    TurnedAway {
        reason: Reason,
        listener: &'a str,
        why: &'a str,
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
    Refused {
        reason: Reason,
        route: Option<&'a str>,
        detail: Option<&'a str>,
        suppressed: u64,
    },
    UpstreamFailed {
        reason: Reason,
        route: &'a str,
        detail: &'a str,
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

impl Event<'_> {
    pub fn level(&self) -> Level {
        match self {
            Self::TaskPanicked { .. } => Level::Error,
            Self::TokenFailed { usable_for: None, next: Some(_), .. } | Self::BudgetSpent { .. } => Level::Error,
            Self::ConfigWarning { .. }
            | Self::ListenSkipped { .. }
            | Self::TokenFailed { .. }
            | Self::CredentialSwitched { .. }
            | Self::TokenRefused { .. }
            | Self::ScopeDiffers { .. }
            | Self::SecretUnreadable { .. }
            | Self::PasswordUnreadable { .. }
            | Self::StateUnwritable { .. }
            | Self::TokenTypeOdd { .. }
            | Self::FilesUnwatched { .. }
            | Self::AcceptFailed { .. }
            | Self::TurnedAway { .. }
            | Self::CertificateUnusable { .. }
            | Self::Refused { .. }
            | Self::UpstreamFailed { .. } => Level::Warn,
            Self::Listening { .. }
            | Self::Ready
            | Self::Draining { .. }
            | Self::Stopped { .. }
            | Self::TokenGranted(_)
            | Self::FewDescriptors { .. }
            | Self::Authority { .. }
            | Self::CertificateRenewed { .. }
            | Self::SecretChanged { .. } => Level::Info,
            Self::TokenAsked { .. } | Self::Exchange { .. } => Level::Debug,
        }
    }

    pub fn line(&self) -> Line {
        let (event, message, fields): (_, String, Vec<(&'static str, Value)>) = match self {
            Self::ConfigWarning { text } => ("config_warning", (*text).to_owned(), vec![]),
            Self::Listening { name, address, tls } => (
                "listening",
                format!("{name} listens on {address}{}", if *tls { ", with TLS" } else { "" }),
                vec![("listener", (*name).into()), ("address", (*address).into()), ("tls", (*tls).into())],
            ),
            Self::ListenSkipped { address, error } => (
                "listen_skipped",
                format!("{address} is left out: {error}"),
                vec![("address", address.to_string().into())],
            ),
            Self::Ready => ("ready", "ready: every required token has been held once".into(), vec![]),
            Self::Draining { signal } => {
                ("draining", format!("{signal}: finishing what is in flight"), vec![("signal", (*signal).into())])
            }
            Self::Stopped { cut_off: 0 } => ("stopped", "stopped; every exchange was finished".into(), vec![]),
            Self::Stopped { cut_off } => (
                "stopped",
                match cut_off {
                    1 => "stopped; 1 connection was cut off".to_owned(),
                    more => format!("stopped; {more} connections were cut off"),
                },
                vec![("cut_off", (*cut_off).into())],
            ),
            Self::TokenAsked { token, credential, why } => (
                "token_asked",
                format!("{token}: asking for a token as {credential} ({why})"),
                vec![("token", (*token).into()), ("credential", (*credential).into()), ("why", (*why).into())],
            ),
            Self::TokenGranted(granted) => (
                "token_granted",
                format!(
                    "{}: got token {} as {}; it lives {}, renewal in {}",
                    granted.token,
                    granted.fingerprint,
                    granted.credential,
                    rounded(granted.life),
                    rounded(granted.renew_in),
                ),
                vec![
                    ("token", granted.token.into()),
                    ("credential", granted.credential.into()),
                    ("fingerprint", granted.fingerprint.to_string().into()),
                    ("generation", granted.generation.into()),
                    ("life_seconds", granted.life.as_secs_f64().into()),
                    ("renew_in_seconds", granted.renew_in.as_secs_f64().into()),
                    ("took_seconds", granted.took.as_secs_f64().into()),
                ],
            ),
            Self::TokenFailed { token, credential, why, next, usable_for } => (
                "token_failed",
                format!(
                    "{token}: no token as {credential}: {why}; {}; {}",
                    match next {
                        Some(next) => format!("next try in {}", rounded(*next)),
                        None => "trying again at once".into(),
                    },
                    match (usable_for, next) {
                        (Some(left), _) => format!("the one that is held serves for {} more", rounded(*left)),
                        (None, Some(_)) => "requests that need it get 503".into(),
                        (None, None) => "requests that need it wait".into(),
                    },
                ),
                vec![
                    ("token", (*token).into()),
                    ("credential", (*credential).into()),
                    ("why", (*why).into()),
                    ("next_seconds", next.unwrap_or_default().as_secs_f64().into()),
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
                    format!("{token}: the provider rejected the credential {from}; {to} is used now")
                } else {
                    format!("{token}: the credential {from} cannot be used; {to} is used now")
                },
                vec![("token", (*token).into()), ("from", (*from).into()), ("to", (*to).into())],
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
            Self::ScopeDiffers { token } => (
                "scope_differs",
                format!("{token}: the provider granted another scope than was asked for"),
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
            Self::FewDescriptors { connections, wanted, descriptors } => (
                "few_descriptors",
                format!(
                    "descriptors are limited: at most {connections} connections of apps, not {wanted}; raise the limit to \
                     {descriptors} (`ulimit -Hn`, `LimitNOFILE=`), or lower `limits.connections`"
                ),
                vec![("connections", (*connections).into()), ("wanted", (*wanted).into())],
            ),
            Self::AcceptFailed { listener, error } => (
                "accept_failed",
                format!("{listener}: a connection could not be accepted: {error}"),
                vec![("listener", (*listener).into()), ("error", (*error).into())],
            ),
            Self::TurnedAway { reason, listener, why, suppressed } => (
                "turned_away",
                format!("{listener}: a connection was closed: {why}{}", also(*suppressed)),
                vec![
                    ("reason", reason.as_str().into()),
                    ("listener", (*listener).into()),
                    ("why", (*why).into()),
                    ("suppressed", (*suppressed).into()),
                ],
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
            Self::Refused { reason, route, detail, suppressed } => (
                "refused",
                match detail {
                    Some(detail) => format!("a request was refused: {reason}: {detail}{}", also(*suppressed)),
                    None => format!("a request was refused: {reason}{}", also(*suppressed)),
                },
                vec![
                    ("reason", reason.as_str().into()),
                    ("route", route.map_or(Value::Null, Into::into)),
                    ("suppressed", (*suppressed).into()),
                ],
            ),
            Self::UpstreamFailed { reason, route, detail, suppressed } => (
                "upstream_failed",
                format!("{route}: {detail}{}", also(*suppressed)),
                vec![
                    ("reason", reason.as_str().into()),
                    ("route", (*route).into()),
                    ("suppressed", (*suppressed).into()),
                ],
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

/// Says how many of the same kind went unsaid.
fn also(suppressed: u64) -> String {
    match suppressed {
        0 => String::new(),
        more => format!(" (and {more} more since the last such line)"),
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
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (millis, text) in [(618, "0.6s"), (1_000, "1s"), (1_750, "1.8s"), (13_400, "13s"), (3_590_000, "59m 50s")] {
            assert_eq!(rounded(Duration::from_millis(millis)), text);
        }
    }
}
