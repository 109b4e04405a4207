//! An entry of `routes`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::words::{Duration, Named, OneOrMany, Size, Switch};
use super::{Tls, in_order};

/// Which requests go to one upstream, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Route {
    /// What logs and metrics call it. Without one: the upstream's host and the matched path, as in
    /// `api.example.com/v2`.
    #[schemars(extend("format" = "name"))]
    pub name: Option<String>,
    /// Which requests take this route, when the app has a base URL. Without it, those that no other route takes.
    #[schemars(extend("default" = {}))]
    pub r#match: Match,
    /// Where requests go: `https://HOST`, with a port and a base path if need be. The base path is put in front of the
    /// path of the request. A proxy client's URL is matched on this host and port, and on the base path with
    /// `match.path` behind it; of several routes it takes the longest, and of equals the first. What lies below the base
    /// path and is no route's goes to the first, unless a route to this upstream has `allow` or `callers`.
    #[schemars(required, extend("format" = "upstream"))]
    pub upstream: Option<String>,
    /// A host and port to connect to instead. TLS name and Host header stay the upstream's.
    #[schemars(extend("format" = "dial-address"))]
    pub connect_to: Option<String>,
    /// Whether the matched path is taken off before the base path is put on.
    #[schemars(extend("default" = false))]
    pub strip_prefix: bool,
    /// The name of the token that is put on each request, or `none`. Need not be written where there is only one token.
    #[schemars(extend("format" = "name"))]
    pub token: Option<String>,
    /// How the token is put on.
    #[schemars(extend("default" = {}))]
    pub inject: Inject,
    /// Headers that are set on each request, in the place of the app's own.
    #[schemars(extend(
        "default" = {}, "x-key-format" = "header-name", "format" = "header-value", "x-sensitive" = true
    ))]
    pub headers: Named<String>,
    /// What an `Authorization` header of the app's own gets.
    #[schemars(extend("default" = "replace"))]
    pub authorization: OnAuthorization,
    /// What may be asked for, at the least one of these. Nothing listed is everything below the upstream. Methods other
    /// than GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS and QUERY go through only where they are listed. With anything
    /// listed, paths that servers read in different ways (`//`, `%2f`, `\\` and their kin) are refused, and headers
    /// that ask for another method or path (`X-HTTP-Method-Override`, `X-Original-URL`) do not reach the upstream.
    #[schemars(extend("default" = []))]
    pub allow: Vec<Allow>,
    /// Which of `callers.clients` may use the route. Nothing listed is whoever may use the listener.
    #[schemars(extend("default" = [], "format" = "name"))]
    pub callers: OneOrMany<String>,
    /// Which answers mean that the token was rejected. The token is then renewed and the request sent once more.
    #[schemars(extend("default" = {}))]
    pub renew_on: Switch<RenewOn>,
    /// How TLS is spoken to the upstream.
    #[schemars(extend("default" = {}))]
    pub tls: Tls,
    /// Whether a CONNECT to the upstream's host and port is decrypted, so that an app that asks for `https://` by this
    /// proxy gets its token too. The app has to trust `ca.pem` in `ca_dir` of the top-level `intercept`. Requests inside
    /// are URLs of the upstream, like those that a proxy client writes out. Takes an `https://` upstream.
    #[schemars(extend("default" = false))]
    pub intercept: bool,
    /// A path whose `POST` is answered with a placeholder token, for SDKs that insist on fetching one: any client id and
    /// secret will do, nothing goes upstream, and the real token takes the placeholder's place on what follows. It is the
    /// path as the app asks for it, whole, whatever `match.path` says, on the route's listener and `match.host`; of a proxy
    /// client's URL, the path on the upstream.
    #[schemars(extend("format" = "stub-path"))]
    pub stub_token: Option<String>,
    /// The HTTP proxy through which the upstream is reached: `http://proxy.example.com:3128`. It is asked for a tunnel
    /// (CONNECT), so it sees no token unless the upstream is `http://`; it looks the upstream's name up.
    #[schemars(extend("format" = "proxy", "x-sensitive" = true))]
    pub proxy: Option<String>,
    /// What is spoken to the upstream.
    #[schemars(extend("default" = "auto"))]
    pub http: Http,
    /// Whether a token may go over `http://` to another machine, where everybody on the way can read it.
    #[schemars(extend("default" = false))]
    pub allow_plaintext: bool,
    /// Whether `Via` (RFC 9110, 7.6.3) is put on requests and answers. Then a request that comes back by whatever way
    /// ends with 508; without it only one that comes back directly. Some servers stop compressing when they see it.
    #[schemars(extend("default" = false))]
    pub via: bool,
    /// For how many requests at once connections are open before they are needed, in each worker, so that the first
    /// requests do not wait for a handshake. HTTP/1.1 needs one for each; one of HTTP/2 carries up to 64. One that was
    /// not used for `timeouts.pool_idle` is replaced.
    // A few hundred are more than a burst needs, and each is one at the upstream.
    #[schemars(extend("default" = 0, "minimum" = 0, "maximum" = 256))]
    pub warm: usize,
    /// How long is waited for what.
    #[schemars(extend("default" = {}))]
    pub timeouts: Timeouts,
    /// How much of bearerd and of the upstream the route may use at a time.
    #[schemars(extend("default" = {}))]
    pub limits: InFlight,
}

/// Versions of HTTP.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Http {
    /// HTTP/2 where the upstream offers it (by ALPN), else HTTP/1.1. Over `http://` it is HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, WebSockets apart, which are HTTP/1.1; over `http://` without asking first. For gRPC without TLS, mostly.
    Http2,
}

/// Requests that may be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Allow {
    /// Their methods. Nothing listed is GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS and QUERY. `GET` does not include
    /// `HEAD`.
    #[schemars(extend("default" = [], "format" = "method"))]
    pub methods: OneOrMany<String>,
    /// Their paths below the upstream, byte for byte as they are sent and without its base path. `*` is any part of a
    /// segment, and `**` any number of segments: `/v2/reports/**` takes `/v2/reports` and everything below it.
    #[schemars(extend("default" = "/**", "format" = "allow-path"))]
    pub path: String,
}

/// What one route may use, so that a slow upstream keeps nobody else waiting.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct InFlight {
    /// Requests under way, from when they are admitted to the end of their answers.
    // Each has a connection to the upstream of its own; a thousand at once is more than one instance of most APIs
    // serves, and a tenth of `limits.connections`.
    #[schemars(extend("default" = 1024, "minimum" = 1, "maximum" = 1_000_000))]
    pub in_flight: usize,
    /// Requests that wait for their turn. Any more get 503 at once.
    // As many again: at a steady rate the last of them waits as long as a request takes.
    #[schemars(extend("default" = 1024, "minimum" = 0, "maximum" = 1_000_000))]
    pub queue: usize,
    /// How long one may wait for its turn before it gets 503.
    // Below the ten seconds after which many apps give up by themselves, so that they learn why.
    #[schemars(extend("default" = "5s", "x-min" = "0s", "x-max" = "10m"))]
    pub queue_wait: Duration,
}

/// What a request must look like. Each key is optional, and all that are written must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Match {
    /// The name of the listener that it came to.
    #[schemars(extend("format" = "text"))]
    pub listen: Option<String>,
    /// The host in its Host header, without a port.
    #[schemars(extend("format" = "host"))]
    pub host: Option<String>,
    /// The beginning of its path: `/v2` takes `/v2` and `/v2/x`, but not `/v20`. The longest one wins. It stays on the
    /// path that the upstream gets, unless `strip_prefix` takes it off.
    #[schemars(extend("format" = "match-path"))]
    pub path: Option<String>,
}

/// The header that carries the token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Inject {
    /// Its name.
    #[schemars(extend("default" = "Authorization", "format" = "header-name"))]
    pub header: String,
    /// The word before the token; `""` sends the token alone.
    #[schemars(extend("default" = "Bearer", "format" = "inject-scheme"))]
    pub scheme: String,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnAuthorization {
    /// The token takes its place.
    Replace,
    /// The request is refused.
    Reject,
}

/// How a rejected token is told from other failures.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct RenewOn {
    /// Status codes of the upstream.
    #[schemars(extend("default" = [401], "minItems" = 1, "minimum" = 400, "maximum" = 599))]
    pub statuses: OneOrMany<u16>,
    /// Bodies up to this size are kept, so that the request can be sent once more. `0` keeps none.
    // Every request in flight may hold that much: 16 MiB is already 16 GiB for a thousand of them.
    #[schemars(extend("default" = "64KiB", "x-min" = "0", "x-max" = "16MiB"))]
    pub replay_limit: Size,
}

/// How long is waited for the upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Timeouts {
    // At the lower ends a loopback peer still makes it. The upper ends: a connection that takes 10 min is none; after a
    // day nobody is waiting any more, and no middlebox has kept the connection.
    /// For a connection: name lookup, TCP and TLS together.
    #[schemars(extend("default" = "5s", "x-min" = "10ms", "x-max" = "10m"))]
    pub connect: Duration,
    /// For the head of the answer, once the request is sent. A long poll needs more than the API holds it; a call of
    /// gRPC never has less than its own `grpc-timeout`, and as long as it likes without one.
    #[schemars(extend("default" = "60s", "x-min" = "10ms", "x-max" = "24h"))]
    pub headers: Duration,
    /// Without a byte of a body moving, in either direction. Event streams (`text/event-stream`), calls of gRPC and
    /// WebSockets may be quiet for as long as both sides like; this holds for them where one side does not take what the
    /// other sends, and for a WebSocket where one side has ended.
    #[schemars(extend("default" = "5m", "x-min" = "10ms", "x-max" = "24h"))]
    pub body_idle: Duration,
    /// How long an unused connection is kept.
    #[schemars(extend("default" = "20s", "x-min" = "10ms", "x-max" = "24h"))]
    pub pool_idle: Duration,
    /// How old a connection may be to carry another request.
    #[schemars(extend("default" = "10m", "x-min" = "10ms", "x-max" = "24h"))]
    pub max_age: Duration,
}
