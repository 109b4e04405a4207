//! Whom a request may be from: not a web page, and not a name that was made to point here.
//!
//! A port on localhost has no idea who calls. What a browser can be made to send is known, though: after DNS rebinding
//! the Host is the attacker's, across sites there is an Origin or a Sec-Fetch-Site. These two checks hold for the proxy
//! and for the admin pages alike.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::settings::Callers;
use crate::wire::authority::{Authority, Host};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The Host names and web origins that are ours.
#[derive(Debug, Default)]
pub struct Guards {
    hosts: HashSet<Host>,
    origins: HashSet<String>,
}

impl Guards {
    /// `hosts` are the ones that the rest of the configuration implies: listen addresses, upstreams, routes.
    pub fn new(callers: &Callers, hosts: impl IntoIterator<Item = Host>) -> Self {
        let hosts = callers.hosts.iter().cloned().chain(hosts).collect();
        Self { hosts, origins: callers.origins.iter().cloned().collect() }
    }

    /// Whether a Host, port apart, is one that an honest client of ours would send.
    pub fn is_ours(&self, host: &Host) -> bool {
        host.is_loopback() || self.hosts.contains(host)
    }

    /// Whether a web page of another origin made the request. `came_to` is the authority that it named.
    pub fn is_foreign_page(&self, headers: &HeaderMap, came_to: Option<&Authority>) -> bool {
        let is_named = |origin: &HeaderValue| {
            origin.to_str().is_ok_and(|origin| self.origins.contains(&origin.to_ascii_lowercase()))
        };
        let is_own = |origin: &HeaderValue| {
            let origin = origin.to_str().ok();
            origin.zip(came_to).is_some_and(|(origin, came_to)| is_same_origin(origin, came_to))
        };
        let foreign_site = |site: &HeaderValue| matches!(site.as_bytes(), b"cross-site" | b"same-site");
        let mut origins = headers.get_all(header::ORIGIN).iter();
        origins.any(|origin| !is_named(origin) && !is_own(origin))
            || (headers.get_all(SEC_FETCH_SITE).iter().any(foreign_site)
                // A page that may call does so across sites. One of our own origin does not.
                && !headers.get_all(header::ORIGIN).iter().any(is_named))
    }
}

/// We speak plain HTTP, so our own origin is `http://` and the authority that the request came to.
fn is_same_origin(origin: &str, came_to: &Authority) -> bool {
    let ours = origin.strip_prefix("http://").and_then(|authority| Authority::parse(authority).ok());
    ours.is_some_and(|origin| origin.host == came_to.host && origin.port_or(80) == came_to.port_or(80))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards() -> Guards {
        let callers = Callers {
            hosts: vec![Host::parse("proxy.corp").unwrap()],
            origins: vec!["https://app.example".to_owned()],
            clients: Vec::new(),
        };
        Guards::new(&callers, [Host::parse("api.example.com").unwrap()])
    }

    fn is_foreign(headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers.iter();
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        guards().is_foreign_page(&headers, Authority::parse("localhost:4280").ok().as_ref())
    }

    #[test]
    fn a_rebound_name_is_not_ours() {
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1", "api.example.com", "PROXY.corp."] {
            assert!(guards().is_ours(&Host::parse(host).unwrap()), "{host}");
        }
        for host in ["rebind.attacker.test", "192.168.1.1", "localhost.attacker.test", "example.com"] {
            assert!(!guards().is_ours(&Host::parse(host).unwrap()), "{host}");
        }
    }

    #[test]
    fn a_web_page_is_foreign_unless_it_is_ours_or_allowed() {
        for headers in [
            &[][..],
            &[("origin", "http://localhost:4280")],
            &[("origin", "http://LOCALHOST:4280")],
            &[("origin", "https://app.example")],
            &[("origin", "https://app.example"), ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:4280")],
        ] {
            assert!(!is_foreign(headers), "{headers:?}");
        }
        for headers in [
            &[("origin", "null")][..],
            &[("origin", "https://evil.example")],
            &[("origin", "http://localhost:4281")],
            &[("origin", "http://localhost")],
            &[("origin", "https://localhost:4280")],
            &[("origin", "https://app.example.evil")],
            &[("origin", "")],
            &[("origin", "http://localhost:4280"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:4280")],
        ] {
            assert!(is_foreign(headers), "{headers:?}");
        }
    }
}
