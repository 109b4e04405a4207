//! Whom a request may be from: not a web page, and not a name that was made to point here.
//!
//! A port on localhost has no idea who calls. What a browser can be made to send is known, though: after DNS rebinding
//! the Host is the attacker's, across sites there is an Origin or a Sec-Fetch-Site. These two checks hold for the proxy
//! and for the admin pages alike.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::callers::Arrival;
use super::settings::Callers;
use crate::wire::authority::{Authority, Host};
use crate::wire::form::{Form, Target};

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

    /// Whether a web page of another origin made the request.
    pub fn is_foreign_page(&self, headers: &HeaderMap, target: &Target, arrival: &Arrival) -> bool {
        // Most who call are no browsers.
        if !headers.keys().any(|name| *name == header::ORIGIN || *name == SEC_FETCH_SITE) {
            return false;
        }
        let https = match target.form() {
            Form::Absolute { https, .. } => *https,
            Form::Origin(_) | Form::Tunnel(_) => arrival.tls,
        };
        // Where any Host is taken it proves nothing: a page could be at home at a name that was made to point here.
        let home = target.authority().filter(|authority| self.is_ours(&authority.host));
        let is_named = |origin: &HeaderValue| {
            origin.to_str().is_ok_and(|origin| self.origins.contains(&origin.to_ascii_lowercase()))
        };
        let is_own = |origin: &HeaderValue| {
            let origin = origin.to_str().ok();
            origin.zip(home).is_some_and(|(origin, home)| is_same_origin(origin, https, home))
        };
        let foreign_site = |site: &HeaderValue| match site.as_bytes() {
            b"cross-site" | b"same-site" => true,
            b"same-origin" => home.is_none(),
            _ => false,
        };
        let mut origins = headers.get_all(header::ORIGIN).iter();
        origins.any(|origin| !is_named(origin) && !is_own(origin))
            || (headers.get_all(SEC_FETCH_SITE).iter().any(foreign_site)
                // A page that may call does so across sites. One of our own origin does not.
                && !headers.get_all(header::ORIGIN).iter().any(is_named))
    }
}

/// The web page that a request says it is from, if that reads as one (RFC 6454, 6.1): of what a peer wrote only scheme, host
/// and port.
pub fn origin(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::ORIGIN)?.to_str().ok()?;
    let (scheme, authority) = text.split_once("://")?;
    let scheme = ["https", "http"].into_iter().find(|known| *known == scheme)?;
    Some(format!("{scheme}://{}", Authority::parse(authority).ok()?))
}

/// Our own origin (RFC 6454, section 4) is the scheme and the authority that the request came to.
fn is_same_origin(origin: &str, https: bool, home: &Authority) -> bool {
    let (scheme, port) = if https { ("https://", 443) } else { ("http://", 80) };
    let origin = origin.strip_prefix(scheme).and_then(|authority| Authority::parse(authority).ok());
    origin.is_some_and(|origin| origin.host == home.host && origin.port_or(port) == home.port_or(port))
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

    type Headers = [(&'static str, &'static str)];

    fn is_foreign(headers: &Headers) -> bool {
        is_foreign_to("/", "localhost:4280", false, headers)
    }

    fn is_foreign_to(target: &str, host: &str, tls: bool, headers: &Headers) -> bool {
        let request = http::Request::get(target).header(header::HOST, host).body(()).unwrap();
        let target = Target::of(&request.into_parts().0).unwrap();
        let headers = headers.iter();
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        guards().is_foreign_page(&headers, &target, &Arrival { tls, ..Arrival::default() })
    }

    #[test]
    fn of_an_origin_only_what_is_one_is_told() {
        let told = |value: &'static [u8]| {
            origin(&HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_bytes(value).unwrap())]))
        };
        assert_eq!(told(b"https://Evil.test:8443").as_deref(), Some("https://evil.test:8443"));
        for value in [&b"null"[..], b"https://a b", b"file://x", b"https://x/y", b"https://\xff", b""] {
            assert_eq!(told(value), None, "{value:?}");
        }
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

    #[test]
    fn our_own_origin_has_the_scheme_that_the_request_came_by() {
        for (target, tls, origin, foreign) in [
            ("/", false, "http://localhost:80", false),
            ("/", false, "https://localhost:80", true),
            ("/", true, "https://localhost:80", false),
            ("/", true, "http://localhost:80", true),
            ("/", true, "https://localhost", true),
            // The URL says it where there is one.
            ("http://localhost:80/", true, "http://localhost", false),
            ("https://localhost:80/", false, "http://localhost", true),
        ] {
            let headers = [("origin", origin)];
            assert_eq!(is_foreign_to(target, "localhost:80", tls, &headers), foreign, "{target} {tls} {origin}");
        }
        assert!(!is_foreign_to("/", "localhost", true, &[("origin", "https://localhost:443")]));
    }

    /// Over a unix socket any Host is taken, so what a page says of its own has to be worth something.
    #[test]
    fn a_page_at_a_name_that_is_not_ours_is_foreign_even_to_itself() {
        for headers in [&[("origin", "http://evil.example")], &[("sec-fetch-site", "same-origin")]] {
            assert!(is_foreign_to("/", "evil.example", false, headers), "{headers:?}");
        }
        assert!(!is_foreign_to("/", "evil.example", false, &[]), "no page at all");
        assert!(!is_foreign_to("/", "evil.example", false, &[("origin", "https://app.example")]), "one that may call");
    }
}
