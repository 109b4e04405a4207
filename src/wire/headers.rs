//! Which headers stay on one hop (RFC 9110, 7.6.1).
//!
//! Connection and all that any of its lines names go before anything of ours is put on: a proxy that injects first and
//! strips second can be told `Connection: authorization`. hyper looks at the first Connection line only.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

/// Gone from requests and responses alike, whether Connection names them or not.
const HOP_BY_HOP: [HeaderName; 7] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// Gone from requests besides: what was meant for us, and what hyper answers by itself when it reads a body.
const REQUEST_ONLY: [HeaderName; 3] =
    [header::PROXY_AUTHORIZATION, header::EXPECT, HeaderName::from_static("http2-settings")];

const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers, &REQUEST_ONLY);
}

pub fn strip_response(headers: &mut HeaderMap) {
    strip(headers, &[PROXY_AUTHENTICATION_INFO]);
}

/// Whether a request's header of this name, in lower case, is never forwarded.
pub fn is_of_one_hop(name: &str) -> bool {
    name == header::CONNECTION || HOP_BY_HOP.iter().chain(&REQUEST_ONLY).any(|own| name == own)
}

/// Whether one of the Connection lines names this option, in lower case.
pub fn connection_names(headers: &HeaderMap, option: &str) -> bool {
    headers.get_all(header::CONNECTION).iter().flat_map(names).any(|name| name == option)
}

fn strip(headers: &mut HeaderMap, besides: &[HeaderName]) {
    if headers.contains_key(header::CONNECTION) {
        // `keep-alive` and `close` name no header that is not gone anyway.
        let named: Vec<HeaderName> = headers.get_all(header::CONNECTION).iter().flat_map(names).collect();
        headers.remove(header::CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP.iter().chain(besides) {
        headers.remove(name);
    }
}

fn names(line: &HeaderValue) -> impl Iterator<Item = HeaderName> + '_ {
    let is_plain = |option: &&[u8]| {
        !option.is_empty() && !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close")
    };
    line.as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(is_plain)
        .filter_map(|option| HeaderName::from_bytes(option).ok())
}

/// Whether a response says its length twice, in two ways. hyper frames it by Transfer-Encoding and leaves
/// Content-Length in; whoever reads that on believes the other one.
pub fn is_framed_twice(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// Whether Transfer-Encoding, if it is there, stands once and says `chunked` alone. hyper reads whatever ends in it
/// (and of an answer, whatever does not); what other codings did to a body nobody here undoes.
pub fn is_plain_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

/// Whether Content-Length, if it is there, stands once and in digits alone.
pub fn is_plain_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_plain = |length: &HeaderValue| {
        let digits = length.as_bytes();
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && (digits[0] != b'0' || digits.len() == 1)
    };
    lengths.next().is_none_or(is_plain) && lengths.next().is_none()
}

/// Makes one Cookie of several: HTTP/2 may send each pair in a field of its own, and nothing else may (RFC 9113, 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let mut joined = [first.as_bytes(), second.as_bytes()].join(&b"; "[..]);
        for cookie in cookies {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        // Values and what stands between them are all of what a value may be.
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// Whether a value begins or ends with white space. No parser of HTTP/1 leaves any, and in HTTP/2 there may be none (RFC
/// 9113, 8.2.1); as HTTP/1 it would be another value.
pub fn has_blank_ends(value: &HeaderValue) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    is_blank(bytes.first()) || is_blank(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter();
        lines.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn whatever_connection_names_goes_however_it_is_split() {
        let names = ["authorization", "host", "content-length", "x-api-key", "cookie", "connection"];
        for name in names {
            for lines in [
                vec![("connection", name)],
                vec![("connection", "keep-alive"), ("connection", name)],
                vec![("connection", "close"), ("connection", " , keep-alive ,"), ("connection", name)],
            ] {
                let mut headers = map(&lines);
                headers.insert(name, HeaderValue::from_static("value"));
                headers.insert("x-stays", HeaderValue::from_static("value"));
                strip_request(&mut headers);
                assert_eq!(headers, map(&[("x-stays", "value")]), "{name} in {lines:?}");
            }
        }
    }

    #[test]
    fn names_in_one_line_are_told_apart_in_any_case() {
        let mut headers = map(&[("connection", "Keep-Alive, X-One ,x-TWO,, @"), ("x-one", "1"), ("x-two", "2")]);
        headers.append("x-one", HeaderValue::from_static("again"));
        strip_response(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn hop_by_hop_headers_go_without_being_named() {
        let all = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "proxy-authenticate",
        ];
        let mut headers: HeaderMap =
            all.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x"))).collect();
        let mut request = headers.clone();
        request.extend(map(&[("proxy-authorization", "x"), ("expect", "100-continue"), ("http2-settings", "x")]));
        strip_request(&mut request);
        assert!(request.is_empty(), "{request:?}");
        headers.extend(map(&[("proxy-authentication-info", "x"), ("www-authenticate", "stays")]));
        strip_response(&mut headers);
        assert_eq!(headers, map(&[("www-authenticate", "stays")]));
    }

    #[test]
    fn a_length_is_one_number() {
        assert!(is_plain_length(&map(&[])) && is_plain_length(&map(&[("content-length", "0")])));
        assert!(is_plain_length(&map(&[("content-length", "120")])));
        for value in ["2, 2", "02", "+2", "", " 2"] {
            assert!(!is_plain_length(&HeaderMap::from_iter([(
                header::CONTENT_LENGTH,
                HeaderValue::from_static(value)
            )])));
        }
        assert!(!is_plain_length(&map(&[("content-length", "2"), ("content-length", "2")])));
    }

    #[test]
    fn a_coding_is_chunked_alone() {
        assert!(is_plain_coding(&map(&[])) && is_plain_coding(&map(&[("transfer-encoding", "Chunked")])));
        for value in ["", "gzip", "gzip, chunked", "chunked, chunked", ",chunked", "chunked;q=1"] {
            assert!(!is_plain_coding(&map(&[("transfer-encoding", value)])), "{value}");
        }
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert!(!is_plain_coding(&map(&twice)));
    }

    #[test]
    fn cookies_become_one() {
        for (parts, whole) in [(&["a=1"][..], "a=1"), (&["a=1", "b=2"], "a=1; b=2"), (&["a=1", "", "c"], "a=1; ; c")] {
            let parts = parts.iter().map(|part| (header::COOKIE, HeaderValue::from_static(part)));
            let mut headers: HeaderMap = parts.collect();
            join_cookies(&mut headers);
            assert_eq!(headers, map(&[("cookie", whole)]));
        }
        let mut none = map(&[("x", "y")]);
        join_cookies(&mut none);
        assert_eq!(none, map(&[("x", "y")]));
    }

    #[test]
    fn a_length_told_in_two_ways_is_noticed() {
        assert!(is_framed_twice(&map(&[("content-length", "5"), ("transfer-encoding", "chunked")])));
        assert!(!is_framed_twice(&map(&[("content-length", "5")])));
    }
}
