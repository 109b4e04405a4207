//! The configuration in the words of its writer.
//!
//! The doc comments of these types are read by users: they become the descriptions of the JSON Schema and the
//! reference page. Beside each key stand its default and its limits, once for the whole program: `check` fills the
//! defaults in and holds values to the limits, so a field is optional here only where nothing is a choice of its own.
//! Must never know what the words lead to.

mod route;
mod token;

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

pub use self::route::{Allow, Http, InFlight, Inject, Match, OnAuthorization, RenewOn, Route, Timeouts};
pub use self::token::{Assertion, Auth, BasicEncoding, Credential, Refresh, RequestFormat, Token};
use super::words::{Duration, Mode, Named, OneOrMany, SecretWord, Size, Switch, Workers};

/// The configuration of bearerd.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    transform = in_order::<Self>
)]
pub struct Document {
    /// Where apps connect. A string is short for `{address: …}`.
    #[schemars(extend("default" = ["localhost:4280"], "minItems" = 1))]
    pub listen: OneOrMany<Listen>,
    /// Where health, metrics, status (JSON) and the status page are served, by the same rules as for apps. A string is
    /// short for `{address: …}`.
    #[schemars(extend("default" = "localhost:4281"))]
    pub admin: Switch<Listen>,
    /// A second address that serves `/livez`, `/startupz`, `/readyz` and `/metrics` and nothing else, for a kubelet.
    /// Other machines may reach it, as in `0.0.0.0:4282`; a unix socket is for our own user and root.
    #[schemars(extend("default" = "off", "format" = "listen-address"))]
    pub health: Switch<String>,
    /// Threads that carry traffic. `auto` is what the machine or the cgroup grants, at most 4.
    #[schemars(extend("default" = 1))]
    pub workers: Workers,
    /// What the program says about itself, on stderr.
    #[schemars(extend("default" = {}))]
    pub log: Log,
    /// A line of JSON for each request, for `stdout` or for a file that is made if there is none: who asked what, and with
    /// which token (docs/access-log.md). A file that is moved away is opened anew, as logrotate wants it.
    #[schemars(extend("default" = "off", "format" = "new-file"))]
    pub access_log: Switch<String>,
    /// Begins a trace (W3C Trace Context) where a request has no valid `traceparent`. One that it has goes on as it is,
    /// either way.
    #[schemars(extend("default" = false))]
    pub tracing: bool,
    /// How it ends on SIGTERM.
    #[schemars(extend("default" = {}))]
    pub shutdown: Shutdown,
    /// A folder in which what a provider asked for (`Retry-After`) and what `budget` has counted is kept over restarts,
    /// so that a program that crashes again and again does not ask again and again. No token is in it.
    #[schemars(extend("default" = "off", "format" = "folder"))]
    pub state_dir: Switch<String>,
    /// The access tokens to keep, by a name of your own.
    #[schemars(extend("default" = {}, "x-key-format" = "name",
        "x-example" = "tokens: {reports: {issuer: https://id.example.com}}"))]
    pub tokens: Named<Token>,
    /// Which requests go where, and with which token.
    #[schemars(required, extend("minItems" = 1, "x-example" = "routes: [{upstream: https://api.example.com}]"))]
    pub routes: Option<Vec<Route>>,
    /// Who may call, besides programs that use a local address.
    #[schemars(extend("default" = {}))]
    pub callers: Callers,
    /// Where CONNECT leads besides, without a token and without a look at what is sent: hosts with their ports, such as
    /// `db.example.com:5432`. `"*.example.com:443"`, in quotes, is every name below `example.com`, by one label or more,
    /// and not `example.com` itself. A route that intercepts the same host and port comes first. Names that lead to
    /// link-local addresses or a cloud's metadata are left out, as they are for routes, and below a wildcard those that
    /// lead to loopback.
    #[schemars(extend("default" = [], "format" = "tunnel"))]
    pub tunnel: OneOrMany<String>,
    /// How `https://` is decrypted for routes that `intercept`.
    #[schemars(extend("default" = {}))]
    pub intercept: Intercept,
    /// What apps may use up.
    #[schemars(extend("default" = {}))]
    pub limits: Limits,
}

/// The local authority that apps have to trust.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Intercept {
    /// The folder that it is kept in: made at the first start with a route that intercepts, for these routes' hosts (and
    /// names below them) and nothing else. `ca.pem` is what the app trusts, `bundle.pem` the same with the system's
    /// roots behind it, or Mozilla's where there are none, and `ca.key` is for nobody but bearerd. Nobody else may be
    /// able to write there. It is used again while it fits, and made anew when a host was added or removed, or less than
    /// a year of its two is left: then apps have to read `ca.pem` again. A bearerd with other hosts needs a folder of its
    /// own.
    #[schemars(extend("default" = "/run/bearerd/ca", "format" = "new-folder"))]
    pub ca_dir: String,
}

/// One listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    transform = in_order::<Self>,
    extend("x-short" = "address")
)]
pub struct Listen {
    /// What `match.listen` of a route calls it. Without one it is called by its address. Not for `admin`.
    #[schemars(extend("format" = "name"))]
    pub name: Option<String>,
    /// `localhost:PORT` (127.0.0.1 and ::1), an IP address and a port, or `unix:PATH` with an absolute path. Port 0
    /// takes a free one. A socket that a dead process left is replaced, and ours is removed at the end. One that systemd
    /// has bound there is taken instead of a new one, and stays (docs/systemd.md).
    #[schemars(required, extend("format" = "listen-address"))]
    pub address: Option<String>,
    /// Who may connect to a unix socket, as `chmod` writes it; that takes the right to write. Without it the socket is
    /// 0600, or 0660 where `group` is written. Where neither it nor `owner` lets others in, bearerd itself refuses
    /// every user but its own and root.
    pub mode: Option<Mode>,
    /// The user that a unix socket belongs to, by name or number. Takes root.
    #[schemars(extend("format" = "text"))]
    pub owner: Option<String>,
    /// The group that a unix socket belongs to, by name or number. Takes root, or a user that is in it.
    #[schemars(extend("format" = "text"))]
    pub group: Option<String>,
    /// Lets the address be one that other machines can reach. Needs `tls`, and there `client_ca_file` or at least one
    /// of `callers.clients`, one of which every caller then has to be. The name that they call by goes into
    /// `callers.hosts`.
    #[schemars(extend("default" = false))]
    pub allow_remote: bool,
    /// Has HTTPS spoken here; without it, HTTP.
    pub tls: Option<ListenTls>,
}

/// How TLS (1.2 and 1.3) is spoken to those who connect. The files are read again when they change, for new
/// connections. What cannot be used is told in the log, and what was there before goes on serving.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct ListenTls {
    /// This server's certificate chain, PEM.
    #[schemars(required, extend("format" = "file"))]
    pub cert_file: Option<String>,
    /// The key of `cert_file`, PEM.
    #[schemars(required, extend("format" = "file", "x-sensitive" = true))]
    pub key_file: Option<String>,
    /// PEM certificates of authorities. With it, whoever shows no certificate of one of them is refused.
    #[schemars(extend("format" = "file"))]
    pub client_ca_file: Option<String>,
}

/// The program's own log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Log {
    /// How much is said; each level includes the ones before it.
    #[schemars(extend("default" = "info"))]
    pub level: Level,
    /// How it is written.
    #[schemars(extend("default" = "auto"))]
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The end of the program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Shutdown {
    /// How long connections are still accepted after SIGTERM, while whoever routes to it takes notice.
    // Kubernetes' own longest habit is minutes; an hour is a mistake in the unit.
    #[schemars(extend("default" = "0s", "x-min" = "0s", "x-max" = "1h"))]
    pub delay: Duration,
    /// How long requests that are in flight may then take. The default leaves 5 s of the 30 s that Kubernetes grants.
    #[schemars(extend("default" = "25s", "x-min" = "0s", "x-max" = "1h"))]
    pub timeout: Duration,
}

/// Callers that are let in besides local ones.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Callers {
    /// Further Host names to accept from apps that have a base URL, without ports. `localhost`, the listen addresses
    /// and the hosts of routes and upstreams are accepted anyway.
    #[schemars(extend("default" = [], "format" = "host"))]
    pub hosts: OneOrMany<String>,
    /// Web origins whose pages may call, such as `https://app.example.com`. Without any, no web page may.
    #[schemars(extend("default" = [], "format" = "origin"))]
    pub origins: OneOrMany<String>,
    /// Callers that prove who they are. A route may be for some of them only (`callers`).
    #[schemars(extend("default" = []))]
    pub clients: Vec<Client>,
}

/// A caller with a name, and how it proves it: one of these, or any of several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Client {
    /// What `callers` of a route calls it, and the user name that goes with `password`.
    #[schemars(required, extend("format" = "name"))]
    pub name: Option<String>,
    /// It sends this with its name: `Proxy-Authorization: Basic` where bearerd is its proxy, else `Authorization:
    /// Basic`. Neither goes on to the upstream. Where the connection proves another name, that one counts.
    pub password: Option<SecretWord>,
    /// It comes by a unix socket and runs as this user.
    #[schemars(extend("minimum" = 0, "maximum" = 4_294_967_294_i64))]
    pub uid: Option<u32>,
    /// It comes by a listener with `tls.client_ca_file` and its certificate carries this DNS name or URI as a
    /// subject alternative name. Names are compared whole, without wildcards.
    #[schemars(extend("format" = "cert-san"))]
    pub cert_san: Option<String>,
}

/// Limits on apps, over all listeners.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Limits {
    /// Connections of apps in all.
    // A million sockets are more than a process gets.
    #[schemars(extend("default" = 10_000, "minimum" = 1, "maximum" = 1_000_000))]
    pub connections: usize,
    /// Bytes of a request's head.
    // hyper reads into a buffer of at least 8 KiB; above 1 MiB each connection could hold a megabyte of nothing.
    #[schemars(extend("default" = "64KiB", "x-min" = "8KiB", "x-max" = "1MiB"))]
    pub header_bytes: Size,
    /// Headers of a request.
    // Browsers send twenty; hashing thousands of names is work that a caller gets for free.
    #[schemars(extend("default" = 100, "minimum" = 10, "maximum" = 1_000))]
    pub headers: usize,
    /// From the first byte of a request to the end of its head. A new connection has as long for its first byte, TLS
    /// handshake included, unless `idle` is shorter.
    // Below 100 ms a garbage collection of the app fails requests; above 10 min slow callers hold connections for free.
    #[schemars(extend("default" = "10s", "x-min" = "100ms", "x-max" = "10m"))]
    pub head: Duration,
    /// How long a connection may stay open between two requests.
    // A day is as good as for ever.
    #[schemars(extend("default" = "120s", "x-min" = "100ms", "x-max" = "24h"))]
    pub idle: Duration,
}

/// How TLS is spoken to this peer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Tls {
    /// PEM certificates to trust instead of the system's.
    #[schemars(extend("format" = "file"))]
    pub ca_file: Option<String>,
    /// PEM certificates to trust besides the others.
    #[schemars(extend("format" = "file"))]
    pub extra_ca_file: Option<String>,
    /// This client's certificate chain, PEM. Needs `key_file`.
    #[schemars(extend("format" = "file"))]
    pub cert_file: Option<String>,
    /// The key of `cert_file`, PEM.
    #[schemars(extend("format" = "file", "x-sensitive" = true))]
    pub key_file: Option<String>,
    /// The name that the peer's certificate must carry, where it is not the one in the URL.
    #[schemars(extend("format" = "server-name"))]
    pub server_name: Option<String>,
}

/// Keeps the order in which the keys of `T` are declared; a JSON object has none.
fn in_order<T: DeserializeOwned>(schema: &mut Schema) {
    let mut keys: &[&str] = &[];
    // Fails by design, once it has heard the names.
    let _ = T::deserialize(Names(&mut keys));
    schema.insert(String::from("x-order"), keys.into());
}

/// A deserializer that has nothing to give and notes what it is asked for.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("names only"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Self::Error::custom("names only"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
