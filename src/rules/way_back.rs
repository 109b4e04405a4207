//! What an app with a base URL calls a place that its upstream names: the way of a request, backwards.
//!
//! An upstream that says `Location: https://api.example.com/base/x` speaks to somebody who is there. An app that has
//! only its base URL would go there without us, and so without a token. Places elsewhere are left as they are: nobody
//! is led to believe that they are ours. Must never know which header holds the place.

use super::settings::{RouteSettings, Upstream};
use crate::wire::authority::Authority;
use crate::wire::path::{has_dot_segment, is_below};

/// The URI reference that the app must use instead, or `None` if this one will do. A place of ours is a path and no
/// more: where the app thinks that it is, it knows best.
pub fn way_back(settings: &RouteSettings, reference: &str) -> Option<String> {
    // Clients of the WHATWG's sort drop tabs wherever they stand (URL, 4.4), and `/<tab>/evil.example` is a host to them.
    if reference.contains('\t') {
        return None;
    }
    let upstream = &settings.upstream;
    let (absolute, rest) = match after_authority(reference) {
        Some((https, authority, rest)) if leads_to(upstream, https, authority) => (true, rest),
        Some(_) => return None,
        // A path that starts at the root; any other is relative to where the app asked, and comes out right.
        None if reference.starts_with('/') => (false, reference),
        None => return None,
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    // What begins with two slashes, or with what browsers take for them, would be somebody's host.
    match local(settings, path).filter(|local| !local.starts_with("//") && !local.starts_with("/\\")) {
        Some(local) => {
            let place = format!("{local}{}", rest.get(path.len()..).unwrap_or_default());
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

    fn led(path: Option<&str>, upstream: &str, strip_prefix: bool, reference: &str) -> Option<String> {
        let mut settings = settings(("api", None, None, path, upstream));
        settings.strip_prefix = strip_prefix;
        way_back(&settings, reference)
    }

    #[test]
    fn a_place_at_the_upstream_is_a_path_of_ours() {
        let led = |reference: &str| led(None, "https://api.example", false, reference);
        for (reference, place) in [
            ("https://api.example/x?y#z", "/x?y#z"),
            ("HTTPS://API.Example.:443/x", "/x"),
            ("https://api.example", "/"),
            ("https://api.example?x", "/?x"),
            ("//api.example/x", "/x"),
            ("http://api.example/x", "/x"),
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
            // A path of ours cannot say these: they would be hosts.
            "https://api.example//evil.example/x",
            "https://api.example/\\evil.example/x",
            "https://api.example/\t/evil.example/x",
            "https://api.example/\t\\evil.example/x",
        ] {
            assert_eq!(led(reference), None, "{reference}");
        }
    }

    #[test]
    fn base_and_prefix_are_undone_and_what_is_not_ours_is_said_to_be_elsewhere() {
        const UPSTREAM: &str = "https://api.example/base";
        for (path, strip, reference, place) in [
            (None, false, "https://api.example/base/x", Some("/x")),
            (None, false, "/base/x?y", Some("/x?y")),
            (None, false, "/base", Some("/")),
            (None, false, "/basement", Some("https://api.example/basement")),
            (None, false, "/login", Some("https://api.example/login")),
            (None, false, "https://api.example/login", None),
            (None, false, "x", None),
            (None, false, "/base//evil.example/x", Some("https://api.example/base//evil.example/x")),
            (None, false, "/base/\\evil.example/x", Some("https://api.example/base/\\evil.example/x")),
            (None, false, "https://api.example/base//evil.example", None),
            (Some("/v2"), true, "/base/x", Some("/v2/x")),
            (Some("/v2"), true, "https://api.example/base", Some("/v2")),
            (Some("/v2"), false, "/base/v2/x", Some("/v2/x")),
            (Some("/v2"), false, "/base/v3/x", Some("https://api.example/base/v3/x")),
            (Some("/v2"), false, "https://api.example/base/v3/x", None),
        ] {
            assert_eq!(led(path, UPSTREAM, strip, reference).as_deref(), place, "{path:?} {strip} {reference}");
        }
    }
}
