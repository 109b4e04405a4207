//! What an app with a base URL calls a place that its upstream names: the way of a request, backwards.
//!
//! An upstream that says `Location: https://api.example.com/base/x` speaks to somebody who is there. An app that has only
//! its base URL would go there without us, and so without a token. Places elsewhere are left as they are: nobody is led
//! to believe that they are ours. Must never know which header holds the place.

use super::settings::{RouteSettings, Upstream};
use crate::wire::authority::Authority;
use crate::wire::path::{has_dot_segment, is_below};

/// How the app came: where it thinks that its API is.
#[derive(Clone, Copy, Debug)]
pub struct CameTo<'a> {
    pub authority: Option<&'a Authority>,
    pub tls: bool,
}

/// The URI reference that the app must use instead, or `None` if this one will do.
pub fn way_back(settings: &RouteSettings, came_to: CameTo<'_>, reference: &str) -> Option<String> {
    let upstream = &settings.upstream;
    let (absolute, rest) = match after_authority(reference) {
        Some((https, authority, rest)) if leads_to(upstream, https, authority) => (true, rest),
        Some(_) => return None,
        // A path that starts at the root; any other is relative to where the app asked, and comes out right.
        None if reference.starts_with('/') => (false, reference),
        None => return None,
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    match local(settings, path) {
        Some(local) => {
            let tail = rest.get(path.len()..).unwrap_or_default();
            let place = match came_to.authority {
                Some(authority) if absolute => {
                    let scheme = if came_to.tls { "https" } else { "http" };
                    format!("{scheme}://{authority}{local}{tail}")
                }
                Some(_) | None => format!("{local}{tail}"),
            };
            (place != reference).then_some(place)
        }
        // Taken as one of ours, it would lead somewhere else.
        None if !absolute && !has_dot_segment(path) => {
            let scheme = if upstream.https { "https" } else { "http" };
            Some(format!("{scheme}://{}{rest}", upstream.authority))
        }
        None => None,
    }
}

/// The path that leads to this one of the upstream's, if the route has one.
fn local(settings: &RouteSettings, path: &str) -> Option<String> {
    let base = &*settings.upstream.base_path;
    let path = if path.is_empty() { "/" } else { path };
    if has_dot_segment(path) || !is_below(path, base) {
        return None;
    }
    let below = path.get(base.len()..).unwrap_or_default();
    match settings.matching.path.as_deref() {
        Some(prefix) if settings.strip_prefix => Some(format!("{prefix}{below}")),
        // Another route takes it, or none.
        Some(prefix) if !is_below(below, prefix) => None,
        Some(_) | None if below.is_empty() => Some("/".to_owned()),
        Some(_) | None => Some(below.to_owned()),
    }
}

/// Scheme (`None` is the one that the reference was found under), authority and the rest of a reference that has an
/// authority; it may be anything.
fn after_authority(reference: &str) -> Option<(Option<bool>, &str, &str)> {
    let (https, rest) = match reference.split_once("//") {
        Some(("", rest)) => (None, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https:") => (Some(true), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http:") => (Some(false), rest),
        Some(_) | None => return None,
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    Some((https, authority, rest))
}

/// Whether a place is the upstream itself. One that stands behind a TLS terminator says `http` of itself, and is what
/// `http` on port 80 means in a proxy client's URL, too.
fn leads_to(upstream: &Upstream, https: Option<bool>, authority: &str) -> bool {
    let Ok(authority) = Authority::parse(authority) else { return false };
    let https = https.unwrap_or(upstream.https);
    let port = authority.port_or(if https { 443 } else { 80 });
    authority.host == upstream.authority.host
        && (https == upstream.https && port == upstream.port()
            || !https && port == 80 && upstream.https && upstream.port() == 443)
}

#[cfg(test)]
mod tests {
    use super::super::admit::tests::settings;
    use super::*;

    /// `http://localhost:4280` is where the app thinks that its API is.
    fn led(path: Option<&str>, upstream: &str, strip_prefix: bool, reference: &str) -> Option<String> {
        let mut settings = settings(("api", None, None, path, upstream));
        settings.strip_prefix = strip_prefix;
        let authority = Authority::parse("localhost:4280").ok();
        way_back(&settings, CameTo { authority: authority.as_ref(), tls: false }, reference)
    }

    #[test]
    fn a_place_at_the_upstream_is_one_at_the_apps_own_address() {
        let led = |reference: &str| led(None, "https://api.example", false, reference);
        for (reference, place) in [
            ("https://api.example/x?y#z", "http://localhost:4280/x?y#z"),
            ("HTTPS://API.Example.:443/x", "http://localhost:4280/x"),
            ("https://api.example", "http://localhost:4280/"),
            ("https://api.example?x", "http://localhost:4280/?x"),
            ("//api.example/x", "http://localhost:4280/x"),
            ("http://api.example/x", "http://localhost:4280/x"),
            ("http://api.example:80//x", "http://localhost:4280//x"),
        ] {
            assert_eq!(led(reference).as_deref(), Some(place), "{reference}");
        }
        for reference in [
            "/x",
            "x",
            "../x",
            "?x",
            "",
            "https://other.example/x",
            "//other.example/x",
            "https://api.example:8443/x",
            "http://api.example:443/x",
            "https://user@api.example/x",
            "https://api.example.evil/x",
            "https://api.example\\@evil/",
            "https://api.example/../x",
            "/a/../x",
            "ftp://api.example/x",
            "mailto:x@api.example",
            "/x//api.example/",
        ] {
            assert_eq!(led(reference), None, "{reference}");
        }
    }

    #[test]
    fn base_and_prefix_are_undone_and_what_is_not_ours_is_said_to_be_elsewhere() {
        const UPSTREAM: &str = "https://api.example/base";
        for (path, strip, reference, place) in [
            (None, false, "https://api.example/base/x", Some("http://localhost:4280/x")),
            (None, false, "/base/x?y", Some("/x?y")),
            (None, false, "/base", Some("/")),
            (None, false, "/basement", Some("https://api.example/basement")),
            (None, false, "/login", Some("https://api.example/login")),
            (None, false, "https://api.example/login", None),
            (None, false, "x", None),
            (Some("/v2"), true, "/base/x", Some("/v2/x")),
            (Some("/v2"), true, "https://api.example/base", Some("http://localhost:4280/v2")),
            (Some("/v2"), false, "/base/v2/x", Some("/v2/x")),
            (Some("/v2"), false, "/base/v3/x", Some("https://api.example/base/v3/x")),
            (Some("/v2"), false, "https://api.example/base/v3/x", None),
        ] {
            assert_eq!(led(path, UPSTREAM, strip, reference).as_deref(), place, "{path:?} {strip} {reference}");
        }
    }

    #[test]
    fn an_app_that_named_no_host_gets_a_path_and_one_that_spoke_tls_its_scheme() {
        let settings = settings(("api", None, None, None, "http://api.example:8080"));
        let place = |authority, tls| way_back(&settings, CameTo { authority, tls }, "http://api.example:8080/x");
        assert_eq!(place(None, false).as_deref(), Some("/x"));
        let ours = Authority::parse("gate.corp:8443").unwrap();
        assert_eq!(place(Some(&ours), true).as_deref(), Some("https://gate.corp:8443/x"));
    }
}
