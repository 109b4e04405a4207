//! Everything that one configured token needs to be asked for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use super::policy::{Budget, Refresh};
use crate::secret::Secret;
use crate::tls::TlsSettings;

/// One entry of `tokens`.
#[derive(Debug)]
pub struct Settings {
    pub name: Arc<str>,
    pub endpoint: Endpoint,
    pub auth: ClientAuth,
    /// At least one; the first is current, the next stand by.
    pub credentials: Vec<Credential>,
    /// Space-separated, as it is sent (RFC 6749, 3.3).
    pub scope: Option<String>,
    pub audience: Vec<String>,
    /// Absolute URIs, repeated on the wire (RFC 8707).
    pub resource: Vec<String>,
    /// Further form parameters, in order; a name may stand more than once. Some providers take a password here.
    pub params: Vec<(String, Secret<String>)>,
    /// Further headers of the token request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub tls: TlsSettings,
    /// Whether readiness waits for the first one.
    pub required: bool,
    /// How long a request waits for a token request that is under way.
    pub wait: Duration,
    pub refresh: Refresh,
    /// `None` is `budget: off`.
    pub budget: Option<Budget>,
}

/// Where the token endpoint is, or who says so.
#[derive(Clone, Debug)]
pub enum Endpoint {
    TokenUrl(Url),
    /// Found by discovery (RFC 8414 and OpenID Connect Discovery). Kept as written: the document must repeat it exactly.
    Issuer(String),
}

/// How the client proves who it is (RFC 6749, 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    Basic(BasicEncoding),
    Post,
}

/// What happens to identifier and secret before Base64: two dialects, both live in real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicEncoding {
    /// Percent-encoded first, as RFC 6749, 2.3.1 has it.
    Form,
    Raw,
}

/// One identity to ask with.
#[derive(Debug)]
pub struct Credential {
    pub client_id: Arc<str>,
    pub client_secret: SecretSource,
}

/// Where a secret is read from.
#[derive(Debug)]
pub enum SecretSource {
    /// Written in the configuration, or read from the environment once at start.
    Inline(Secret<String>),
    /// Read again whenever it changes, and when the provider rejects what it held. A trailing newline is not part of it.
    File(PathBuf),
}
