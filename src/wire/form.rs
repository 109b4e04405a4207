//! From a request's head to what it alleges to be for (RFC 9112, 3.2).
//!
//! hyper takes two Host lines, an authority that disagrees with Host, `Transfer-Encoding: gzip, chunked` and dot
//! segments without a word; here is where they end. Must never know which targets are allowed.
//!
//! HTTP/2 has an authority in every request (RFC 9113, 8.3.1), so that nothing tells what was meant for a proxy from what
//! was meant for a server. Who uses a proxy speaks HTTP/2 to it by CONNECT alone; all else is for us, and the authority
//! is its Host.

use http::request::Parts;
use http::uri::{self, PathAndQuery};
use http::{HeaderMap, Method, Version, header};

use super::authority::Authority;
use super::headers::{has_blank_ends, is_plain_coding, is_plain_length};
use super::path::has_dot_segment;

/// A valid and unambiguous authority and path: an allegation of what the request is for, and no more.
///
/// Made only by [`Target::of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    form: Form,
    path: PathAndQuery,
}

/// How the request named its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `GET /x`, and all of HTTP/2: the app was given us as its server. `None` is HTTP/1.0 without Host.
    Origin(Option<Authority>),
    /// `GET http://api.example/x`: the app was given us as its proxy.
    Absolute { authority: Authority, https: bool },
    /// `CONNECT api.example:443`: the app wants a tunnel.
    Tunnel(Authority),
}

/// Why a head names no target that everybody reads alike. The words are for the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("{0}")]
    AmbiguousHost(&'static str),
    #[error("{0}")]
    BadPath(&'static str),
}

impl Target {
    pub fn of(head: &Parts) -> Result<Self, FormError> {
        let is_http2 = head.version == Version::HTTP_2;
        check_framing(&head.headers)?;
        if is_http2 {
            check_fields(&head.headers)?;
        }
        let host = host(&head.headers, head.version)?;
        let form = match (head.uri.scheme_str(), head.uri.authority()) {
            (None, None) | (Some(_), _) if head.method == Method::CONNECT => {
                return Err(FormError::BadRequest("CONNECT is followed by a host and a port"));
            }
            (None, None) if is_http2 && host.is_none() => return Err(FormError::BadRequest(NO_HOST)),
            (None, None) => Form::Origin(host),
            (Some(scheme), Some(authority)) => {
                let https = match scheme {
                    "http" => false,
                    "https" => true,
                    _ => return Err(FormError::BadRequest("the target's scheme is neither http nor https")),
                };
                let authority = agreed(authority, host, if https { 443 } else { 80 })?;
                if is_http2 { Form::Origin(Some(authority)) } else { Form::Absolute { authority, https } }
            }
            (None, Some(authority)) if head.method == Method::CONNECT => {
                let port = check_tunnel(authority, &head.headers)?;
                // Some name the host alone in Host (Python's websockets): it has no port of its own to disagree with.
                Form::Tunnel(agreed(authority, host, port)?)
            }
            (_, _) => return Err(FormError::BadRequest("the request-target is neither a path nor a URL")),
        };
        let path = match head.uri.path_and_query() {
            None => PathAndQuery::from_static("/"),
            // An empty path is `/` on the wire (RFC 9110, 4.2.3).
            Some(path) if path.as_str().starts_with('?') => {
                format!("/{}", path.as_str()).parse().map_err(|_| FormError::BadPath("the query is not one"))?
            }
            Some(path) => path.clone(),
        };
        if !path.path().starts_with('/') {
            return Err(FormError::BadPath("the path does not start with a slash"));
        }
        if has_dot_segment(path.path()) {
            return Err(FormError::BadPath("the path has a dot segment (`.` or `..`, raw or encoded)"));
        }
        Ok(Self { form, path })
    }

    /// The same for a request that came out of a CONNECT to `authority`: a URL of that place's.
    ///
    /// # Errors
    /// It names another place, or no TLS.
    pub fn within(self, authority: &Authority) -> Result<Self, FormError> {
        let named = match &self.form {
            // HTTP/1.0 without Host.
            Form::Origin(None) => None,
            Form::Origin(Some(named)) | Form::Absolute { authority: named, https: true } => Some(named),
            Form::Absolute { https: false, .. } => {
                return Err(FormError::AmbiguousHost("a URL of http:// inside of TLS"));
            }
            Form::Tunnel(_) => return Ok(self),
        };
        if named.is_some_and(|named| named.host != authority.host || named.port_or(443) != authority.port_or(443)) {
            return Err(FormError::AmbiguousHost("Host and the CONNECT that this came through disagree"));
        }
        Ok(Self { form: Form::Absolute { authority: authority.clone(), https: true }, path: self.path })
    }

    pub fn form(&self) -> &Form {
        &self.form
    }

    pub fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// The authority that the request came to or through.
    pub fn authority(&self) -> Option<&Authority> {
        match &self.form {
            Form::Origin(host) => host.as_ref(),
            Form::Absolute { authority, .. } | Form::Tunnel(authority) => Some(authority),
        }
    }
}

/// The authority of the target, if Host says the same.
fn agreed(authority: &uri::Authority, host: Option<Authority>, port: u16) -> Result<Authority, FormError> {
    let authority = Authority::parse(authority.as_str())
        .map_err(|_| FormError::BadRequest("the target's authority is not a host with an optional port"))?;
    // Where a proxy and a server disagree about whom a request is for, one of them is fooled.
    if host.is_some_and(|host| host.host != authority.host || host.port_or(port) != authority.port_or(port)) {
        return Err(FormError::AmbiguousHost("Host and the target's authority disagree"));
    }
    Ok(authority)
}

/// A tunnel has a port (RFC 9112, 3.2.3) and no body (RFC 9110, 9.3.6): what is behind its head is the far end's.
fn check_tunnel(authority: &uri::Authority, headers: &HeaderMap) -> Result<u16, FormError> {
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(FormError::BadRequest("CONNECT has no body"));
    }
    match Authority::parse(authority.as_str()) {
        Ok(Authority { port: None, .. }) => Err(FormError::BadRequest("CONNECT is followed by a host and a port")),
        Ok(Authority { port: Some(port), .. }) => Ok(port),
        // What is wrong with it is told where it is compared.
        Err(_) => Ok(443),
    }
}

/// Exactly one `chunked` or no Transfer-Encoding at all. (With a Content-Length beside it, hyper has dropped that and
/// will close the connection after this request.)
fn check_framing(headers: &HeaderMap) -> Result<(), FormError> {
    if is_plain_coding(headers) {
        return Ok(());
    }
    Err(FormError::BadRequest("Transfer-Encoding is not exactly `chunked`"))
}

/// What HTTP/2 lets through and HTTP/1 would read otherwise than it was meant.
fn check_fields(headers: &HeaderMap) -> Result<(), FormError> {
    if headers.values().any(has_blank_ends) {
        return Err(FormError::BadRequest("a header's value begins or ends with white space"));
    }
    // h2 takes `05`, and nothing at all for zero.
    if !is_plain_length(headers) {
        return Err(FormError::BadRequest("Content-Length is not one plain number"));
    }
    Ok(())
}

const NO_HOST: &str = "there is no Host";

fn host(headers: &HeaderMap, version: Version) -> Result<Option<Authority>, FormError> {
    let mut lines = headers.get_all(header::HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (None, _) if matches!(version, Version::HTTP_10 | Version::HTTP_2) => return Ok(None),
        (None, _) => return Err(FormError::BadRequest(NO_HOST)),
        (Some(host), None) => host,
        (Some(_), Some(_)) => return Err(FormError::AmbiguousHost("there is more than one Host")),
    };
    let host = host.to_str().ok().and_then(|host| Authority::parse(host).ok());
    host.map(Some).ok_or(FormError::AmbiguousHost("Host is not a host with an optional port"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn target(uri: &str, version: Version, headers: &[(&str, &str)]) -> Result<Target, FormError> {
        let mut builder = Request::builder().uri(uri).version(version);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        Target::of(&builder.body(()).unwrap().into_parts().0)
    }

    fn of(uri: &str, headers: &[(&str, &str)]) -> Result<Target, FormError> {
        target(uri, Version::HTTP_11, headers)
    }

    #[test]
    fn the_two_forms_are_told_apart() {
        let origin = of("/a?b", &[("host", "LOCALHOST:4280")]).unwrap();
        assert_eq!(origin.form(), &Form::Origin(Some(Authority::parse("localhost:4280").unwrap())));
        assert_eq!(origin.path(), "/a?b");
        let absolute = of("http://API.example.com./a", &[("host", "api.example.com:80")]).unwrap();
        let authority = Authority::parse("api.example.com").unwrap();
        assert_eq!(absolute.form(), &Form::Absolute { authority, https: false });
        assert_eq!(of("http://api.example.com?x", &[("host", "api.example.com")]).unwrap().path(), "/?x");
    }

    #[test]
    fn only_connect_names_an_authority_alone() {
        let connect = |uri: &str, host: &str| {
            let request = Request::builder().method(Method::CONNECT).uri(uri).header("host", host).body(()).unwrap();
            Target::of(&request.into_parts().0)
        };
        let authority = Authority::parse("api.example:443").unwrap();
        assert_eq!(connect("api.example:443", "api.example").unwrap().form(), &Form::Tunnel(authority));
        for uri in ["api.example", "/", "http://api.example:443/"] {
            assert!(matches!(connect(uri, "api.example"), Err(FormError::BadRequest(_))), "{uri}");
        }
        for framing in ["content-length", "transfer-encoding"] {
            let request =
                Request::builder().method(Method::CONNECT).uri("api.example:443").header("host", "api.example");
            let request = request.header(framing, if framing == "content-length" { "0" } else { "chunked" });
            let head = request.body(()).unwrap().into_parts().0;
            assert_eq!(Target::of(&head), Err(FormError::BadRequest("CONNECT has no body")));
        }
        assert!(connect("api.example:80", "api.example").is_ok());
        for host in ["evil", "api.example:80", "api.example:8443"] {
            assert!(matches!(connect("api.example:443", host), Err(FormError::AmbiguousHost(_))), "{host}");
        }
        assert!(matches!(connect("u@api.example:443", "api.example"), Err(FormError::BadRequest(_))));
    }

    #[test]
    fn what_came_out_of_a_connect_is_a_url_of_that_place() {
        let place = Authority::parse("api.example:443").unwrap();
        let url = Form::Absolute { authority: place.clone(), https: true };
        let within = |target: Result<Target, FormError>| target.unwrap().within(&place);
        for target in [
            of("/a?b", &[("host", "API.example")]),
            of("/a?b", &[("host", "api.example:443")]),
            of("https://api.example/a?b", &[("host", "api.example")]),
            target("/a?b", Version::HTTP_10, &[]),
            target("https://api.example/a?b", Version::HTTP_2, &[]),
        ] {
            let target = within(target).unwrap();
            assert_eq!((target.form(), target.path().as_str()), (&url, "/a?b"));
        }
        for target in [
            of("/", &[("host", "localhost")]),
            of("/", &[("host", "api.example:80")]),
            of("/", &[("host", "api.example:8443")]),
            of("http://api.example:443/", &[("host", "api.example:443")]),
            of("http://api.example/", &[("host", "api.example")]),
            of("https://evil/", &[("host", "evil")]),
            target("https://evil/", Version::HTTP_2, &[]),
        ] {
            assert!(matches!(within(target), Err(FormError::AmbiguousHost(_))));
        }
    }

    #[test]
    fn exactly_one_host_that_agrees() {
        let two = [("host", "localhost"), ("host", "localhost")];
        assert!(matches!(of("/", &two), Err(FormError::AmbiguousHost(_))));
        assert!(matches!(of("/", &[]), Err(FormError::BadRequest(_))));
        for host in ["", "user@localhost", "localhost:99999", "127.1", "a, b", "a/b"] {
            assert!(matches!(of("/", &[("host", host)]), Err(FormError::AmbiguousHost(_))), "{host}");
        }
        for (uri, host) in [
            ("http://api.example/", "localhost"),
            ("http://api.example:8080/", "api.example"),
            ("https://api.example/", "api.example:80"),
        ] {
            assert!(matches!(of(uri, &[("host", host)]), Err(FormError::AmbiguousHost(_))), "{uri} {host}");
        }
    }

    #[test]
    fn http_1_0_may_leave_host_out() {
        let target = target("/", Version::HTTP_10, &[]).unwrap();
        assert_eq!((target.form(), target.authority()), (&Form::Origin(None), None));
    }

    #[test]
    fn the_authority_is_that_of_whatever_form() {
        let host = [("host", "api.example:443")];
        let mut tunnel = Request::connect("api.example:443").body(()).unwrap();
        tunnel.headers_mut().insert("host", "api.example:443".parse().unwrap());
        for target in [of("/", &host), of("https://api.example:443/", &host), Target::of(&tunnel.into_parts().0)] {
            assert_eq!(target.unwrap().authority(), Some(&Authority::parse("api.example:443").unwrap()));
        }
    }

    #[test]
    fn http_2_has_an_authority_for_a_host() {
        let of = |uri: &str, headers: &[(&str, &str)]| target(uri, Version::HTTP_2, headers);
        let localhost = Form::Origin(Some(Authority::parse("localhost:4280").unwrap()));
        for (uri, host) in [
            ("http://localhost:4280/a?b", None),
            ("https://LOCALHOST:4280/a?b", Some("localhost:4280")),
            ("/a?b", Some("localhost:4280")),
        ] {
            let host = host.map(|host| ("host", host));
            let target = of(uri, host.as_slice()).unwrap();
            assert_eq!((target.form(), target.path().as_str()), (&localhost, "/a?b"), "{uri}");
        }
        let host = [("host", "evil")];
        assert!(matches!(of("http://localhost/", &host), Err(FormError::AmbiguousHost(_))));
        assert!(matches!(of("http://evil:81/", &host), Err(FormError::AmbiguousHost(_))));
        assert!(matches!(of("http://u@evil/", &[]), Err(FormError::BadRequest(_))));
        assert!(matches!(of("ftp://evil/", &[]), Err(FormError::BadRequest(_))));
        assert!(matches!(of("/", &[]), Err(FormError::BadRequest(_))));
    }

    #[test]
    fn http_2_is_held_to_what_http_1_can_say() {
        let of = |name: &str, value: &str| target("http://localhost/", Version::HTTP_2, &[(name, value)]);
        for value in ["", "a", "a b", "a\tb", "\u{a0}"] {
            assert!(of("x", value).is_ok(), "{value:?}");
        }
        for value in [" ", " a", "a ", "\ta", "a\t"] {
            assert!(matches!(of("x", value), Err(FormError::BadRequest(_))), "{value:?}");
        }
        assert!(of("content-length", "5").is_ok());
        for length in ["", "05", "5, 5"] {
            assert!(matches!(of("content-length", length), Err(FormError::BadRequest(_))), "{length:?}");
        }
    }

    #[test]
    fn odd_targets_are_refused() {
        let host = [("host", "evil")];
        for uri in ["ftp://evil/", "http://u:p@host.example:80@evil/", "http://evil:99999/", "evil:80"] {
            assert!(matches!(of(uri, &host), Err(FormError::BadRequest(_))), "{uri}");
        }
        assert!(matches!(of("*", &[("host", "localhost")]), Err(FormError::BadPath(_))));
        assert!(matches!(of("/a/%2e%2e/b", &[("host", "localhost")]), Err(FormError::BadPath(_))));
        assert!(matches!(of("http://evil/../", &host), Err(FormError::BadPath(_))));
    }

    #[test]
    fn only_one_chunked_frames_a_body() {
        let with = |codings: &[&'static str]| {
            let mut headers = vec![("host", "localhost")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            of("/", &headers)
        };
        assert!(with(&["chunked"]).is_ok() && with(&["Chunked"]).is_ok() && with(&[]).is_ok());
        for codings in
            [&["gzip, chunked"][..], &["chunked, chunked"], &["identity", "chunked"], &["chunked", "chunked"], &[""]]
        {
            assert!(matches!(with(codings), Err(FormError::BadRequest(_))), "{codings:?}");
        }
    }
}
