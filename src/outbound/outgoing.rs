//! The request as it is sent. Here, and nowhere else, a token is put on a request.
//!
//! First everything that belongs to one hop goes, then every credential of the app's, then ours is put on, last:
//! nothing in a request can remove it or double it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header, uri};
use hyper::ext::on_informational;

use crate::clock::Now;
use crate::rules::{Admitted, Route, RouteSettings};
use crate::token::{Bearer, Identity, NoToken};
use crate::wire::grpc;
use crate::wire::headers::{
    announce, announced, is_of_one_hop, remove_all, strip_request, strip_trailers, takes_trailers,
};
use crate::wire::replay::{Attempt, Replay};
use crate::wire::via::Via;
use crate::wire::websocket::Handshake;

/// A head from which all that belongs to one hop, and the app's credentials, are gone.
///
/// Made only by [`Prepared::new`]. Kept for the case that the request is sent again.
#[derive(Debug)]
pub struct Prepared {
    method: Method,
    /// Until it is sent; then there is a copy.
    headers: HeaderMap,
    copy: Option<Copied>,
    route: Arc<Route>,
    /// What the app's Connection named: it goes from the trailers, too.
    named: Vec<HeaderName>,
    /// Trailers that may follow.
    announced: HeaderMap,
    takes_trailers: bool,
    patience: Patience,
}

/// How long the head of the answer is waited for, and the body of the request meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as the route's `timeouts` say.
    Route,
    /// For the head this long from the beginning, or `timeouts.headers` if that is longer.
    Deadline(Duration),
    /// As long as the connection lives. A call of gRPC may be silent for as long as both sides like.
    Endless,
}

impl Prepared {
    /// Takes method and headers out of `head`.
    pub fn new(head: &mut Parts, admitted: &Admitted, via: &Via) -> Self {
        let (method, mut headers) = (std::mem::take(&mut head.method), std::mem::take(&mut head.headers));
        let route = Arc::clone(admitted.route());
        let settings = &route.settings;
        let (takes_trailers, mut announced) = (takes_trailers(&headers), announced(&headers));
        let patience = match grpc::is_grpc(&headers) {
            false => Patience::Route,
            true => grpc::deadline(&headers).map_or(Patience::Endless, Patience::Deadline),
        };
        let named = clean(&mut headers, settings);
        if !announced.is_empty() {
            clean_trailers(&mut announced, &named, settings);
        }
        for (name, value) in &settings.headers {
            headers.insert(name, value.clone());
        }
        if settings.via {
            via.put_on(&mut headers);
        }
        headers.insert(header::HOST, route.host.clone());
        Self { method, headers, copy: None, named, announced, takes_trailers, patience, route }
    }

    /// What cleans the request's trailers, by the rules for its head.
    pub fn trailers(&self) -> impl Fn(&mut HeaderMap) + 'static + use<> {
        let (named, route) = (self.named.clone(), Arc::clone(&self.route));
        move |trailers| clean_trailers(trailers, &named, &route.settings)
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    /// What was sent besides the token.
    pub fn sent(&self) -> HeaderMap {
        self.copy.as_ref().map(Copied::headers).unwrap_or_default()
    }

    /// What is to be sent besides the token.
    fn send(&mut self) -> HeaderMap {
        match &self.copy {
            Some(copy) => copy.headers(),
            None => {
                self.copy = Some(Copied::of(&self.headers));
                std::mem::take(&mut self.headers)
            }
        }
    }

    /// Asks the upstream for a WebSocket: of all that belongs to one hop, what we want of the next.
    pub fn ask_for(&mut self, handshake: &Handshake) {
        handshake.ask(&mut self.headers);
        // It has no body, nor has the answer.
        self.takes_trailers = false;
    }

    /// Whether the app wants the trailers of the answer.
    pub fn takes_trailers(&self) -> bool {
        self.takes_trailers
    }
}

/// Headers as text: nearly nobody sends them again, and this takes one allocation where a map takes one for each name of
/// the app's own besides its own two.
struct Copied(Vec<u8>);

/// Stands behind a name, in which it may not be; the other behind that of a value that logs and caches must not show.
const PLAIN: u8 = b':';
const SENSITIVE: u8 = b' ';

impl Copied {
    fn of(headers: &HeaderMap) -> Self {
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
        let mut text = Vec::with_capacity(bytes);
        for (name, value) in headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(if value.is_sensitive() { SENSITIVE } else { PLAIN });
            text.extend_from_slice(value.as_bytes());
            // No value has one.
            text.push(b'\n');
        }
        Self(text)
    }

    fn headers(&self) -> HeaderMap {
        let header = |line: &[u8]| {
            let at = line.iter().position(|byte| matches!(*byte, PLAIN | SENSITIVE))?;
            let mut value = HeaderValue::from_bytes(line.get(at + 1..)?).ok()?;
            value.set_sensitive(line[at] == SENSITIVE);
            Some((HeaderName::from_bytes(&line[..at]).ok()?, value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in self.0.split(|byte| *byte == b'\n').filter_map(header) {
            headers.append(name, value);
        }
        headers
    }
}

impl fmt::Debug for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headers().fmt(f)
    }
}

/// Takes away what belongs to the app's hop, and what could pass for a credential or a word of ours. Yields what
/// Connection named.
fn clean(headers: &mut HeaderMap, settings: &RouteSettings) -> Vec<HeaderName> {
    let named = strip_request(headers);
    headers.remove(header::AUTHORIZATION);
    if settings.inject.header != header::AUTHORIZATION {
        headers.remove(&settings.inject.header);
    }
    remove_aliases(headers, settings);
    if !settings.allow.is_empty() {
        remove_all(headers, &OVERRIDES);
    }
    named
}

/// The same for trailers; what the route sets in the head may not come again behind it.
fn clean_trailers(trailers: &mut HeaderMap, named: &[HeaderName], settings: &RouteSettings) {
    strip_trailers(trailers, named);
    clean(trailers, settings);
    for (name, _) in &settings.headers {
        trailers.remove(name);
    }
}

/// What frameworks take for the method or the path instead of the one that a rule was held against.
const OVERRIDES: [HeaderName; 7] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-override-url"),
    HeaderName::from_static("x-http-path-override"),
];

/// To CGI and its kin `X_Api_Key` is `X-Api-Key`: beside a header that is ours, an app's other spelling of it goes, and
/// so does that of a header that is gone.
fn remove_aliases(headers: &mut HeaderMap, settings: &RouteSettings) {
    let is_ours = |name: &str| {
        name == settings.inject.header
            || is_of_one_hop(name)
            || [header::AUTHORIZATION, header::HOST, header::CONTENT_LENGTH].iter().any(|own| name == own)
            || settings.headers.iter().any(|(own, _)| name == own)
            || !settings.allow.is_empty() && OVERRIDES.iter().any(|override_| name == override_)
    };
    let is_alias = |name: &&HeaderName| {
        let name = name.as_str();
        name.as_bytes().contains(&b'_') && is_ours(name.replace('_', "-").trim_matches('-'))
    };
    let aliases: Vec<HeaderName> = headers.keys().filter(is_alias).cloned().collect();
    for name in aliases {
        headers.remove(name);
    }
}

/// A request that may leave: what belongs to the app's hop is gone, and the bearer on it is the one that the
/// [`Admitted`] names.
///
/// Made only by [`Outgoing::seal`].
#[derive(Debug)]
pub struct Outgoing {
    pub(super) request: Request<Attempt>,
    pub(super) route: Arc<Route>,
    pub(super) patience: Patience,
    /// Which token is on it.
    pub identity: Option<Identity>,
}

/// How long an app that wants to be asked for its body (`Expect: 100-continue`) waits at most for an upstream that says
/// nothing: many know nothing of it (RFC 9110, 10.1.1).
const SILENCE: Duration = Duration::from_secs(1);

/// Why a request may not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsealed {
    NoToken(NoToken),
    /// Part of the body went out before and was not kept.
    BodyGone,
}

impl From<NoToken> for Unsealed {
    fn from(missing: NoToken) -> Self {
        Self::NoToken(missing)
    }
}

impl Outgoing {
    /// # Errors
    /// The route's token may not be used now, or the body can no longer be sent whole.
    pub fn seal(admitted: &Admitted, prepared: &mut Prepared, body: &Replay, now: Now) -> Result<Self, Unsealed> {
        let route = admitted.route();
        let bearer = route.token.as_ref().map(|token| token.bearer(now)).transpose()?;
        let identity = bearer.as_ref().map(Bearer::identity);
        let mut request = Request::new(body.attempt().ok_or(Unsealed::BodyGone)?);
        let mut headers = prepared.send();
        match body.length() {
            // hyper's client drops a body of unknown length from a GET unless it is told to send it.
            None => {
                headers.insert(header::TRANSFER_ENCODING, CHUNKED);
                announce(&mut headers, &prepared.announced);
            }
            // Written anew: `010` is ten to hyper and eight to somebody.
            Some(length) if headers.contains_key(header::CONTENT_LENGTH) => {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            Some(_) => {}
        }
        if let Some(bearer) = bearer {
            headers.insert(&route.settings.inject.header, bearer.into_header());
        }
        if prepared.takes_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(header::CONNECTION, OF_TE);
        }
        if body.is_unasked() {
            headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
            let word = request.body_mut().hold(SILENCE.min(route.settings.timeouts.body_idle / 2));
            on_informational(&mut request, move |hint| {
                if hint.status() == StatusCode::CONTINUE {
                    word.give();
                }
            });
        }
        *request.method_mut() = prepared.method.clone();
        *request.uri_mut() = Uri::from(admitted.path().clone());
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Ok(Self { request, route: Arc::clone(route), patience: prepared.patience, identity })
    }
}

/// As HTTP/1.1 writes it, whatever it was before.
pub(super) fn for_http1(mut request: Request<Attempt>, route: &Route, body: &Replay) -> Request<Attempt> {
    if request.version() != Version::HTTP_11 {
        *request.version_mut() = Version::HTTP_11;
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
        request.headers_mut().insert(header::HOST, route.host.clone());
        if body.length().is_none() {
            request.headers_mut().insert(header::TRANSFER_ENCODING, CHUNKED);
        }
        if request.headers().contains_key(header::TE) {
            request.headers_mut().insert(header::CONNECTION, OF_TE);
        }
    }
    request
}

/// As HTTP/2 writes it (RFC 9113, 8.2.2 and 8.3.1): scheme and authority beside the path instead of Host, and nothing that
/// is of the connection but `TE: trailers`.
pub(super) fn for_http2(
    mut request: Request<Attempt>,
    (scheme, authority): &(uri::Scheme, uri::Authority),
) -> Request<Attempt> {
    if request.version() != Version::HTTP_2 {
        *request.version_mut() = Version::HTTP_2;
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (Some(scheme.clone()), Some(authority.clone()));
        // There is a path, so all three are there, as they have to be.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        // hyper does not tell of a 100 that comes by HTTP/2, so there is nothing to wait for.
        request.body_mut().let_go();
        for name in [header::HOST, header::TRANSFER_ENCODING, header::CONNECTION, header::EXPECT] {
            request.headers_mut().remove(name);
        }
    }
    request
}

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
/// TE is of one connection (RFC 9110, 10.1.4).
const OF_TE: HeaderValue = HeaderValue::from_static("te");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_was_copied() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", &b"text/html: *"[..]),
            ("x-own", b""),
            ("cookie", b"a=1; b:2"),
            ("x-own", b"\xff\t:"),
            ("x-empty", b""),
            ("accept", b"second"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        headers.get_mut("cookie").unwrap().set_sensitive(true);
        let copy = Copied::of(&headers).headers();
        assert_eq!(copy, headers);
        assert!(copy.iter().eq(&headers), "in their order");
        assert!(copy.iter().all(|(name, value)| value.is_sensitive() == (name == header::COOKIE)));
        assert!(Copied::of(&HeaderMap::new()).headers().is_empty());
    }
}
