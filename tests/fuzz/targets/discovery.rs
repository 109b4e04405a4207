//! An issuer's document → where its tokens are. Only its own, and only over TLS.

#![no_main]

use bearerd::token::source::discovery::{DiscoveryError, describe, read};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use url::{Host, Url};

const HTTPS: &str = "https://id.example/";
/// What the configuration takes for one on this machine.
const HTTP: &str = "http://127.0.0.1:8080";

fuzz_target!(|body: &[u8]| {
    // What is not read need not be text, nor a number that there is.
    let document = serde_json::from_slice::<Value>(body).ok();
    let named = document.as_ref().map(|document| document.as_object()?.get("issuer")?.as_str());
    let is_named = |issuer: &str| named.is_none_or(|named| named == Some(issuer));
    for issuer in [HTTPS, HTTP] {
        match read(body, issuer) {
            Ok(found) => {
                assert!(is_named(issuer));
                for url in [Some(&found.token_url), found.mtls_token_url.as_ref()].into_iter().flatten() {
                    check(url, issuer == HTTP);
                }
            }
            Err(error) => {
                bearerd_fuzz::assert_tellable(&error.to_string(), 200);
                assert!(!error.is_of_another() || named.is_none_or(|named| named != Some(issuer)), "{error}");
                assert!(error != DiscoveryError::Slash || is_named(issuer.trim_end_matches('/')));
            }
        }
    }
    assert!(describe(body).issuer.is_none_or(|issuer| is_named(&issuer)));
});

fn check(url: &Url, plain_is_allowed: bool) {
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    };
    assert!(url.scheme() == "https" || plain_is_allowed && url.scheme() == "http" && is_loopback, "{url}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(url));
}
