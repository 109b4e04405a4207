//! From an issuer to its token endpoint (OpenID Connect Discovery 1.0, 4; RFC 8414, 3). Pure.

use http::StatusCode;
use serde::Deserialize;
use url::Url;

use crate::token::grant::object;
use crate::wire::fault::Fault;

/// Why there is no document to follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDocument {
    #[error(transparent)]
    Fault(Fault),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is longer than any such document")]
    TooLong,
    #[error(transparent)]
    Useless(#[from] DiscoveryError),
    #[error("it is no URL")]
    NotAUrl,
}

/// Why a discovery document is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    #[error("the document is not a JSON object with `issuer` and `token_endpoint`")]
    NotADocument,
    #[error("the document is of another issuer; `issuer` must be written exactly as the provider writes it")]
    OtherIssuer,
    #[error("the document's issuer has a `/` at its end; write it in `issuer`, too")]
    NoSlash,
    #[error("the document's issuer has no `/` at its end; leave it out of `issuer`, too")]
    Slash,
    #[error("the document's `token_endpoint` is not an https URL without user information and fragment")]
    BadEndpoint,
}

impl DiscoveryError {
    /// Whether the document is not that of the issuer as it is written.
    pub fn is_of_another(&self) -> bool {
        matches!(self, Self::OtherIssuer | Self::NoSlash | Self::Slash)
    }
}

/// What an issuer's document says, as far as it is needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    pub token_url: Url,
    /// Where clients with a certificate ask instead (RFC 8705, 5).
    pub mtls_token_url: Option<Url>,
}

impl Discovered {
    pub(super) fn at(token_url: Url) -> Self {
        Self { token_url, mtls_token_url: None }
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: String,
    mtls_endpoint_aliases: Option<Aliases>,
}

/// What a document says that tells what is wrong with a configuration, whether or not it is followed. The words are the
/// provider's.
#[derive(Debug, Default, Deserialize)]
pub struct Described {
    #[serde(default)]
    pub issuer: Option<String>,
    /// Left out, it says nothing about the grants here: RFC 8414 has a default that is of no use.
    #[serde(default)]
    pub grant_types_supported: Option<Vec<String>>,
    /// Left out, it is `client_secret_basic` (RFC 8414, 2).
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// As far as it can be read.
pub fn describe(body: &[u8]) -> Described {
    object(body).unwrap_or_default()
}

#[derive(Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
}

/// Where the document may be: OpenID Connect appends to the issuer, RFC 8414 inserts before its path.
pub(super) fn well_known(issuer: &str) -> Vec<String> {
    let trimmed = issuer.trim_end_matches('/');
    let mut urls = vec![format!("{trimmed}/.well-known/openid-configuration")];
    if let Some((scheme, rest)) = trimmed.split_once("://") {
        let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, format!("/{p}")));
        urls.push(format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}"));
    }
    urls
}

/// Reads a document. It must name the very issuer it was looked up for (RFC 8414, 3.3), or anybody's document would do.
pub fn read(body: &[u8], issuer: &str) -> Result<Discovered, DiscoveryError> {
    let document: Document = object(body).ok_or(DiscoveryError::NotADocument)?;
    if document.issuer != issuer {
        return Err(match (document.issuer.strip_suffix('/'), issuer.strip_suffix('/')) {
            (Some(theirs), None) if theirs == issuer => DiscoveryError::NoSlash,
            (None, Some(ours)) if ours == document.issuer => DiscoveryError::Slash,
            (_, _) => DiscoveryError::OtherIssuer,
        });
    }
    let token_url = endpoint(&document.token_endpoint, issuer)?;
    let alias = document.mtls_endpoint_aliases.and_then(|aliases| aliases.token_endpoint);
    let mtls_token_url = alias.map(|alias| endpoint(&alias, issuer)).transpose()?;
    Ok(Discovered { token_url, mtls_token_url })
}

fn endpoint(text: &str, issuer: &str) -> Result<Url, DiscoveryError> {
    let url = Url::parse(text).map_err(|_| DiscoveryError::BadEndpoint)?;
    // Plain HTTP only where the issuer itself is, which the configuration allows on loopback alone.
    let scheme =
        url.scheme() == "https" || (url.scheme() == "http" && issuer.starts_with("http:") && is_loopback(&url));
    let clean = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if scheme && clean { Ok(url) } else { Err(DiscoveryError::BadEndpoint) }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str()
        .and_then(|host| crate::wire::authority::Host::parse(host).ok())
        .is_some_and(|host| host.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_places_are_looked_at() {
        assert_eq!(
            well_known("https://id.example/realms/a/"),
            [
                "https://id.example/realms/a/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server/realms/a",
            ]
        );
        assert_eq!(well_known("https://id.example")[1], "https://id.example/.well-known/oauth-authorization-server");
    }

    #[test]
    fn only_the_right_issuers_document_is_followed() {
        let document = |issuer: &str, endpoint: &str| {
            serde_json::json!({"issuer": issuer, "token_endpoint": endpoint}).to_string().into_bytes()
        };
        let issuer = "https://id.example/";
        let found = read(&document(issuer, "https://auth.example/token"), issuer).unwrap();
        assert_eq!(found.token_url.as_str(), "https://auth.example/token", "another host is fine: Cognito has one");
        let slash = read(&document("https://id.example", "https://auth.example/token"), issuer).unwrap_err();
        assert_eq!(slash, DiscoveryError::Slash);
        let none = read(&document(issuer, "https://auth.example/token"), "https://id.example").unwrap_err();
        assert_eq!(none, DiscoveryError::NoSlash);
        for other in ["https://ID.example/", "https://evil.example/"] {
            let error = read(&document(other, "https://auth.example/token"), issuer).unwrap_err();
            assert_eq!(error, DiscoveryError::OtherIssuer, "{other}");
        }
        for endpoint in
            ["http://id.example/token", "http://127.0.0.1/token", "file:///etc", "https://u:p@id.example/", "x"]
        {
            let error = read(&document(issuer, endpoint), issuer).unwrap_err();
            assert_eq!(error, DiscoveryError::BadEndpoint, "{endpoint}");
        }
        for other in [&b"<html>"[..], br#"["https://id.example/", "https://auth.example/token", null]"#] {
            assert_eq!(read(other, issuer).unwrap_err(), DiscoveryError::NotADocument);
            assert_eq!(describe(other).issuer, None);
        }
        let with_alias = serde_json::json!({"issuer": issuer, "token_endpoint": "https://id.example/token",
            "mtls_endpoint_aliases": {"token_endpoint": "https://mtls.id.example/token", "other": 1}});
        let found = read(with_alias.to_string().as_bytes(), issuer).unwrap();
        assert_eq!(found.mtls_token_url.unwrap().as_str(), "https://mtls.id.example/token");
        let local = "http://127.0.0.1:8080";
        assert!(read(&document(local, "http://127.0.0.1:8080/token"), local).is_ok());
    }
}
