//! Everything that one configured token needs to be asked for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use super::policy::{Budget, Refresh};
use super::source::assertion::{AssertionSettings, KeyNames};
use crate::secret::Secret;
use crate::tls::TlsSettings;
use crate::wire::proxy::ForwardProxy;

/// One entry of `tokens`.
#[derive(Debug, PartialEq)]
pub struct Settings {
    pub name: Arc<str>,
    /// The name of the provider's preset, if one was named: what went wrong has other likely causes with each.
    pub preset: Option<&'static str>,
    pub endpoint: Endpoint,
    pub auth: ClientAuth,
    pub grant_type: String,
    pub request_format: RequestFormat,
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
    /// How the provider is reached where that takes a forward proxy.
    pub proxy: Option<ForwardProxy>,
    /// Whether readiness waits for the first one.
    pub required: bool,
    /// How long a request waits for a token request that is under way.
    pub wait: Duration,
    pub refresh: Refresh,
    /// `None` is `budget: off`.
    pub budget: Option<Budget>,
}

/// Where the token endpoint is, or who says so.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoint {
    TokenUrl(Url),
    /// Found by discovery (RFC 8414 and OpenID Connect Discovery). Kept as written: the document must repeat it
    /// exactly.
    Issuer(String),
    /// Discovery first, for what only the document tells, and this URL where that fails.
    Both {
        issuer: String,
        token_url: Url,
    },
}

impl Endpoint {
    pub fn issuer(&self) -> Option<&str> {
        match self {
            Self::TokenUrl(_) => None,
            Self::Issuer(issuer) | Self::Both { issuer, .. } => Some(issuer),
        }
    }

    pub fn token_url(&self) -> Option<&Url> {
        match self {
            Self::TokenUrl(token_url) | Self::Both { token_url, .. } => Some(token_url),
            Self::Issuer(_) => None,
        }
    }
}

/// How the client proves who it is.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuth {
    /// RFC 6749, 2.3.1: in a header.
    Basic(BasicEncoding),
    /// RFC 6749, 2.3.1: in the form.
    Post,
    /// RFC 7523 with the secret as the key.
    SecretJwt(AssertionSettings),
    /// RFC 7523 with a private key.
    PrivateKeyJwt(AssertionSettings),
    /// RFC 8705, 2.1 and 2.2: by the client certificate of the connection.
    Tls,
    /// RFC 7523 with a JWT that somebody else made, such as a Kubernetes service-account token.
    Assertion { assertion_type: String },
}

impl ClientAuth {
    /// As OpenID Connect names it (Core 1.0, 9; RFC 8705, 2); `client_assertion` has no name there.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Basic(_) => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::SecretJwt(_) => "client_secret_jwt",
            Self::PrivateKeyJwt(_) => "private_key_jwt",
            Self::Tls => "tls_client_auth",
            Self::Assertion { .. } => "client_assertion",
        }
    }
}

/// What happens to identifier and secret before Base64: two dialects, both live in real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicEncoding {
    /// Percent-encoded first, as RFC 6749, 2.3.1 has it.
    Form,
    Raw,
}

/// How the parameters of a token request are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFormat {
    Form,
    /// What a few providers want instead of what RFC 6749 says.
    Json,
}

/// RFC 6749, 4.4.
pub const CLIENT_CREDENTIALS: &str = "client_credentials";

/// RFC 7523, 2.1: the assertion is the grant, and nothing else says who asks.
pub const JWT_BEARER_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// One identity to ask with: a whole set, the identifier included.
#[derive(Debug, PartialEq)]
pub struct Credential {
    pub client_id: Arc<str>,
    pub proof: Proof,
}

/// What an identity is proved with; its kind is the one that [`ClientAuth`] asks for.
#[derive(Debug, PartialEq)]
pub enum Proof {
    /// For Basic, post and `client_secret_jwt`.
    Secret(SecretSource),
    /// For `private_key_jwt`: PEM or JWK, and what the provider looks the key up by.
    Key { key: SecretSource, names: KeyNames },
    /// For `tls_client_auth`: PEM files, read again when they change.
    Certificate { certificate: PathBuf, key: PathBuf },
    /// For `client_assertion`: read for every request.
    Assertion(SecretSource),
}

impl Proof {
    /// Where its secret is read from, if it is one text.
    pub fn source(&self) -> Option<&SecretSource> {
        match self {
            Self::Secret(source) | Self::Key { key: source, .. } | Self::Assertion(source) => Some(source),
            Self::Certificate { .. } => None,
        }
    }

    pub fn source_mut(&mut self) -> Option<&mut SecretSource> {
        match self {
            Self::Secret(source) | Self::Key { key: source, .. } | Self::Assertion(source) => Some(source),
            Self::Certificate { .. } => None,
        }
    }
}

/// Where a secret is read from.
#[derive(Debug, PartialEq)]
pub enum SecretSource {
    /// Written in the configuration, or read from the environment once at start.
    Inline(Secret<String>),
    /// Read again whenever it changes, and when the provider rejects what it held. A trailing newline is not part of
    /// it.
    File(PathBuf),
    Exec(Exec),
}

/// A command that prints a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    pub timeout: Duration,
    /// Variables of our own environment that it does not get: they hold other secrets.
    pub withheld: Vec<String>,
}
