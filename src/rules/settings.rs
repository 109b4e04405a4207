//! One entry of `routes`, and whom origin-form requests and web pages may call themselves.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::allow::Pattern;
use crate::tls::{Protocols, TlsSettings};
use crate::token::settings::SecretSource;
use crate::wire::authority::{Authority, Host};
use crate::wire::proxy::ForwardProxy;

/// One entry of `routes`.
#[derive(Debug, PartialEq)]
pub struct RouteSettings {
    pub name: Arc<str>,
    pub matching: Match,
    pub upstream: Upstream,
    /// Dialled instead of the upstream's own authority; its port is always written.
    pub connect_to: Option<Authority>,
    /// Whether the matched path is taken off before the base path is put on.
    pub strip_prefix: bool,
    /// The token put on its requests; `None` is `token: none`.
    pub token: Option<Arc<str>>,
    pub inject: Inject,
    /// Set on every request, replacing what the app sent under the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub authorization: OnAuthorization,
    /// What may be asked for; empty is everything below the upstream.
    pub allow: Vec<Allow>,
    /// The names of the clients that may use it; empty is whoever may use the listener.
    pub callers: Vec<Arc<str>>,
    /// `None` is `renew_on: off`.
    pub renew_on: Option<RenewOn>,
    pub tls: TlsSettings,
    /// Whether a CONNECT to the upstream is decrypted; then the upstream is `https`.
    pub intercept: bool,
    /// A path that is answered with a placeholder token, byte for byte.
    pub stub_token: Option<Arc<str>>,
    /// What it is reached through.
    pub proxy: Option<ForwardProxy>,
    /// What is spoken to the upstream.
    pub http: Protocols,
    /// How many connections each worker has ready before they are needed.
    pub warm: usize,
    /// Whether `Via` is put on.
    pub via: bool,
    pub timeouts: Timeouts,
    pub limits: InFlight,
}

impl RouteSettings {
    /// The path on the upstream that everything the route takes from apps with a base URL lies at or below.
    pub fn reach(&self) -> String {
        let matched = self.matching.path.as_deref().filter(|_| !self.strip_prefix);
        format!("{}{}", self.upstream.base_path, matched.unwrap_or_default())
    }

    /// Whether it lets through less than everything below the upstream, or not everybody.
    pub fn is_restricted(&self) -> bool {
        !self.allow.is_empty() || !self.callers.is_empty()
    }
}

/// What an origin-form request must look like to take the route. Nothing set takes the rest.
#[derive(Debug, Default, PartialEq)]
pub struct Match {
    /// The name of a configured listener.
    pub listen: Option<Arc<str>>,
    pub host: Option<Host>,
    /// Starts with `/`, has no trailing `/` (so `/` itself is `None`), no dot segment, query or fragment; matched at
    /// segment boundaries.
    pub path: Option<Arc<str>>,
}

/// Where the route leads: scheme, authority and a base path.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// `false` is plain `http`.
    pub https: bool,
    /// As it is sent in `Host`: the port only where it is not the scheme's default.
    pub authority: Authority,
    /// `""` or `/base`, percent-encoded as written, without a trailing `/`.
    pub base_path: Arc<str>,
}

impl Upstream {
    /// The port that is dialled unless `connect_to` says otherwise.
    pub fn port(&self) -> u16 {
        self.authority.port_or(if self.https { 443 } else { 80 })
    }
}

/// The header that carries the token.
#[derive(Clone, Debug, PartialEq)]
pub struct Inject {
    pub header: HeaderName,
    /// Stands before the token with a space between; empty means the token alone.
    pub scheme: String,
}

/// What an `Authorization` of the app's own gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAuthorization {
    Replace,
    Reject,
}

/// Which answers of the upstream mean that it did not take the token.
#[derive(Clone, Debug, PartialEq)]
pub struct RenewOn {
    pub statuses: Vec<StatusCode>,
    /// Bytes of a request's body that are kept so that it can be sent again.
    pub replay_limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// Name lookup, TCP and TLS together.
    pub connect: Duration,
    /// From the last byte of the request that moved to the head of the response.
    pub headers: Duration,
    /// Without a byte of a body moving, in either direction; nor of a WebSocket where one side is stuck or has ended.
    pub body_idle: Duration,
    /// How long an unused connection is kept.
    pub pool_idle: Duration,
    /// How old a connection may be to carry another request.
    pub max_age: Duration,
}

/// Requests that may be made: one of the methods, on a path that the pattern takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Allow {
    /// Empty is every method that goes without saying; see [`is_known`](super::admit::is_known).
    pub methods: Vec<Method>,
    /// Matched on the path as it is sent, without the upstream's base path.
    pub path: Pattern,
}

/// How many requests of one route may be under way, all workers together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InFlight {
    pub in_flight: usize,
    /// How many may wait for their turn.
    pub queue: usize,
    pub queue_wait: Duration,
}

/// Who may call besides the obvious.
#[derive(Debug, Default, PartialEq)]
pub struct Callers {
    /// Further host names accepted in origin-form; ports do not matter.
    pub hosts: Vec<Host>,
    /// Web origins that may call, in the serialised form of RFC 6454 (`https://app.example`), lower case.
    pub origins: Vec<String>,
    /// Names differ, and so do uids and certificate names.
    pub clients: Vec<ClientSettings>,
}

/// A caller that proves who it is, by one of these.
#[derive(Debug, PartialEq)]
pub struct ClientSettings {
    pub name: Arc<str>,
    pub uid: Option<u32>,
    /// A DNS name in lower case, or a URI.
    pub cert_san: Option<Box<str>>,
    pub password: Option<SecretSource>,
}
