//! How an input becomes what bearerd is given, and what all targets ask of a text.
//!
//! Inputs are what stands on the wire, so that seeds are written by hand and findings can be read. Must never know
//! what is checked.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// hyper takes no more header lines either.
const MOST_LINES: usize = 100;

/// A request's head, read as hyper reads one; `None` is what hyper answers itself.
pub fn head(bytes: &[u8]) -> Option<Parts> {
    let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
    let mut request = httparse::Request::new(&mut lines);
    if !request.parse(bytes).ok()?.is_complete() {
        return None;
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(request.method?.as_bytes()).ok()?;
    parts.uri = Uri::try_from(request.path?).ok()?;
    parts.version = if request.version? == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    for line in request.headers {
        parts
            .headers
            .append(HeaderName::from_bytes(line.name.as_bytes()).ok()?, HeaderValue::from_bytes(line.value).ok()?);
    }
    Some(parts)
}

/// Lines of `name: value`, up to a blank one, and what follows it. A line that is none is left out.
pub fn fields(mut bytes: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    while !bytes.is_empty() {
        let (line, rest) = line(bytes);
        bytes = rest;
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
            // Beyond this it fails.
            _ = headers.try_append(name, value);
        }
    }
    (headers, bytes)
}

/// The first line, without its end, and what follows it.
pub fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + 1..]));
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// Fails where a text that people read is long, or has a control character.
pub fn assert_tellable(text: &str, most: usize) {
    assert!(text.len() <= most, "{} bytes: {text:?}", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
