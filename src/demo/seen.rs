//! What the logs of the provider and the API hold, so that a test can assert with what they were asked.
//!
//! Printing an entry shows no secret. Must never know how the requests were answered beyond the status.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Version, header};

use super::token::Verdict;
use crate::secret::{Fingerprint, Secret};

/// A token request.
#[derive(Clone)]
pub struct TokenCall {
    /// When its head had arrived.
    pub at: Instant,
    /// As received; `Authorization` is marked sensitive.
    pub headers: HeaderMap,
    /// As received and decoded, the client's secret included.
    pub form: Vec<(String, String)>,
    /// Who it said it was, if that could be read.
    pub client_id: Option<String>,
    pub secret: Option<Fingerprint>,
    /// None while there is no HTTP answer, which may be for ever.
    pub status: Option<u16>,
    pub issued: Option<Fingerprint>,
    pub token: Option<Arc<Secret<String>>>,
}

impl TokenCall {
    /// The first value of a form field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for TokenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): &(String, String)| match name.as_str() {
            "client_secret" | "client_assertion" | "assertion" | "password" => format!("{name}=[secret]"),
            _ => format!("{name}={value}"),
        };
        f.debug_struct("TokenCall")
            .field("headers", &self.headers)
            .field("form", &self.form.iter().map(shown).collect::<Vec<_>>())
            .field("client_id", &self.client_id)
            .field("secret", &self.secret)
            .field("status", &self.status)
            .field("issued", &self.issued)
            .finish_non_exhaustive()
    }
}

/// A request to the API.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When its head had arrived.
    pub at: Instant,
    /// Counts from 1, in the order of acceptance.
    pub connection_id: u64,
    pub method: Method,
    pub version: Version,
    /// The request target as received.
    pub target: String,
    /// What came as Host, or by HTTP/2 as `:authority`.
    pub host: Option<String>,
    /// Names and values; of a credential, its scheme and its fingerprint.
    pub headers: Vec<(String, String)>,
    /// How many lines of credentials there were: one is right.
    pub authorization_lines: usize,
    pub token_fingerprint: Option<Fingerprint>,
    pub verdict: Verdict,
    pub token_expired: bool,
    /// What has arrived of the body so far.
    pub body_len: u64,
    /// In hexadecimal, once the body has arrived whole.
    pub body_sha256: Option<String>,
    /// The body ended before its end.
    pub body_cut: bool,
    pub trailers: Option<HeaderMap>,
    /// None while there is no HTTP answer, which may be for ever.
    pub status: Option<u16>,
}

impl Seen {
    /// The values of a header, in order.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }
}

/// The request target as it stood in the request line, or by HTTP/2 in `:path`.
pub(super) fn target(parts: &Parts) -> String {
    match (parts.uri.scheme(), parts.uri.path_and_query()) {
        (None, Some(path)) => path.as_str().to_owned(),
        (Some(_), Some(path)) if parts.version == Version::HTTP_2 => path.as_str().to_owned(),
        _ => parts.uri.to_string(),
    }
}

/// Headers as a test may see them and the demo may print them. `credential` is the header that tokens come in.
pub(super) fn shown(headers: &HeaderMap, credential: &HeaderName) -> Vec<(String, String)> {
    let shown = |(name, value): (&HeaderName, &http::HeaderValue)| {
        let secret = name == credential || name == header::AUTHORIZATION || name == header::PROXY_AUTHORIZATION;
        let value = match value.to_str() {
            Ok(text) if secret => match text.split_once(' ') {
                Some((scheme, rest)) => format!("{scheme} {}", Fingerprint::of(rest.as_bytes())),
                None => Fingerprint::of(text.as_bytes()).to_string(),
            },
            _ if secret => Fingerprint::of(value.as_bytes()).to_string(),
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        (name.as_str().to_owned(), value)
    };
    headers.iter().map(shown).collect()
}
