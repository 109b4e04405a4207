//! The opening handshake of a WebSocket (RFC 6455, 4): whether a request asks for one, and whether an answer agrees.
//!
//! Two parties must mean the same by it before a byte is taken for anything but HTTP: an upstream that did not agree
//! would read what an app sends ahead as requests, with our credential on the connection. Must never know connections.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, Version};

use super::headers::connection_names;

/// What stands behind the key when it is hashed (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// A request for a WebSocket that every server reads as one.
///
/// Made only by [`Handshake::of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    key: HeaderValue,
    accept: HeaderValue,
}

impl Handshake {
    /// What a head asks for; `None` is whatever asks for nothing, or for something else (`h2c`, which some clients
    /// always do), or for a WebSocket in a way that a server need not understand. A body is the caller's to look at.
    pub fn of(head: &Parts) -> Option<Self> {
        let headers = &head.headers;
        let is_one = head.method == Method::GET
            && head.version == Version::HTTP_11
            && only(headers, header::UPGRADE).is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"websocket"))
            && connection_names(headers, header::UPGRADE.as_str())
            && only(headers, header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        if !is_one {
            return None;
        }
        let key = only(headers, header::SEC_WEBSOCKET_KEY)?;
        // RFC 6455, 4.2.1: base64 of 16 bytes.
        STANDARD.decode(key.as_bytes()).ok().filter(|nonce| nonce.len() == 16)?;
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
        let accept = HeaderValue::try_from(STANDARD.encode(digest)).ok()?;
        Some(Self { key: key.clone(), accept })
    }

    /// Puts what says so onto a request from which all that belongs to one hop is gone.
    pub fn ask(&self, headers: &mut HeaderMap) {
        switch(headers);
        headers.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        // It has no body, and RFC 6455 knows no length of one.
        headers.remove(header::CONTENT_LENGTH);
    }

    /// Whether a 101 to a request with the headers `sent` agrees to it, and to nothing else (RFC 6455, 4.1).
    ///
    /// # Errors
    /// It does not; why, in our own words.
    pub fn check<B>(&self, sent: &HeaderMap, answer: &Response<B>) -> Result<(), &'static str> {
        let headers = answer.headers();
        if answer.version() != Version::HTTP_11
            || !only(headers, header::UPGRADE).is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"websocket"))
            || !connection_names(headers, header::UPGRADE.as_str())
        {
            return Err("the upstream switches to another protocol than WebSocket");
        }
        if only(headers, header::SEC_WEBSOCKET_ACCEPT) != Some(&self.accept) {
            return Err("the upstream's `Sec-WebSocket-Accept` is not that of the key it was sent");
        }
        let offered: Vec<&[u8]> = elements(sent, header::SEC_WEBSOCKET_PROTOCOL).collect();
        let mut agreed = elements(headers, header::SEC_WEBSOCKET_PROTOCOL);
        if agreed.next().is_some_and(|protocol| !offered.contains(&protocol)) || agreed.next().is_some() {
            return Err("the upstream chose a `Sec-WebSocket-Protocol` that was not offered");
        }
        let offered: Vec<&[u8]> = elements(sent, header::SEC_WEBSOCKET_EXTENSIONS).map(name).collect();
        if !elements(headers, header::SEC_WEBSOCKET_EXTENSIONS).map(name).all(|extension| offered.contains(&extension))
        {
            return Err("the upstream chose a `Sec-WebSocket-Extensions` that was not offered");
        }
        Ok(())
    }

    /// Puts onto a 101, from which all that belongs to one hop is gone, what tells the app that it was agreed to.
    pub fn agree(&self, headers: &mut HeaderMap) {
        switch(headers);
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        // RFC 9110, 8.6: a 101 has no length, whatever the upstream thought.
        headers.remove(header::CONTENT_LENGTH);
    }
}

fn switch(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, WEBSOCKET);
}

/// A header's value, if it stands there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

/// The elements of a list over all of its lines. A comma in a quoted parameter of an extension cuts it in two, and then
/// its second half is one that nobody offered.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty())
}

/// An extension without its parameters.
fn name(extension: &[u8]) -> &[u8] {
    extension.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// The example of RFC 6455, 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    const ASKS: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-version", "13"),
    ];

    fn head(lines: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn answer(lines: &[(&str, &str)]) -> Response<()> {
        let mut response = Response::builder().status(101);
        for (name, value) in lines {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap()
    }

    #[test]
    fn only_what_every_server_reads_as_one_asks_for_a_websocket() {
        assert!(Handshake::of(&head(&ASKS)).is_some());
        for (index, (name, _)) in ASKS.iter().enumerate() {
            let mut lacks = ASKS.to_vec();
            lacks.remove(index);
            assert_eq!(Handshake::of(&head(&lacks)), None, "without {name}");
            if index > 0 {
                let twice = [&ASKS[..], &ASKS[index..=index]].concat();
                assert_eq!(Handshake::of(&head(&twice)), None, "{name} twice");
            }
        }
        for (index, value) in [
            (0, "keep-alive"),
            (0, "upgraded"),
            (1, "h2c"),
            (1, "h2c, websocket"),
            (1, "websocket/13"),
            (1, ""),
            (2, "dGhlIHNhbXBsZSBub25jZQ"),
            (2, "dGhlIHNhbXBsZSBub25jZQ==, x"),
            (2, "c2hvcnQ="),
            (2, ""),
            (3, "8"),
            (3, "13, 8"),
        ] {
            let mut other = ASKS;
            other[index].1 = value;
            assert_eq!(Handshake::of(&head(&other)), None, "{} {value}", ASKS[index].0);
        }
        let mut other = head(&ASKS);
        other.method = Method::POST;
        assert_eq!(Handshake::of(&other), None);
        let mut other = head(&ASKS);
        other.version = Version::HTTP_10;
        assert_eq!(Handshake::of(&other), None);
    }

    #[test]
    fn what_was_taken_away_with_the_hop_is_put_on_again() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        Handshake::of(&head(&ASKS)).unwrap().ask(&mut headers);
        assert_eq!(headers.len(), 4);
        let mut again = head(&[]);
        again.headers = headers;
        assert!(Handshake::of(&again).is_some());
    }

    #[test]
    fn an_answer_agrees_to_what_was_asked_for_and_to_nothing_else() {
        let offers = [("sec-websocket-protocol", "chat, superchat"), ("sec-websocket-extensions", "x; a=1, y")];
        let asked = head(&[&ASKS[..], &offers].concat());
        let handshake = Handshake::of(&asked).unwrap();
        let agrees = [("connection", "Upgrade"), ("upgrade", "WEBSOCKET"), ("sec-websocket-accept", ACCEPT)];
        let with = |more: &[(&str, &str)]| handshake.check(&asked.headers, &answer(&[&agrees[..], more].concat()));
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&[("sec-websocket-protocol", "chat"), ("sec-websocket-extensions", "y;b,x")]), Ok(()));
        for more in [
            ("sec-websocket-protocol", "Chat"),
            ("sec-websocket-protocol", "chat, superchat"),
            ("sec-websocket-extensions", "z"),
            ("sec-websocket-extensions", "y, z"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", ACCEPT),
        ] {
            assert!(with(&[more]).is_err(), "{more:?}");
        }
        for (index, value) in [(0, "close"), (1, "h2c"), (2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOp="), (2, "")] {
            let mut other = agrees;
            other[index].1 = value;
            assert!(handshake.check(&asked.headers, &answer(&other)).is_err(), "{value}");
        }
        let mut old = answer(&agrees);
        *old.version_mut() = Version::HTTP_10;
        assert!(handshake.check(&asked.headers, &old).is_err());
        let mut headers = HeaderMap::new();
        handshake.agree(&mut headers);
        assert_eq!(headers[header::SEC_WEBSOCKET_ACCEPT], ACCEPT);
    }
}
