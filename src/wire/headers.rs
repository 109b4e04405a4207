//! Which headers stay on one hop (RFC 9110, 7.6.1).
//!
//! Connection and all that any of its lines names go before anything of ours is put on: a proxy that injects first and
//! strips second can be told `Connection: authorization`. hyper looks at the first Connection line only.
//!
//! Trailers are cleaned by the same rules, and lose what has no meaning behind a body (RFC 9110, 6.5.1): who merges them
//! into the head must not find another length there, another host or a credential.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

/// Gone from requests and responses alike, whether Connection names them or not.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    // Reserved, so that no header is named like the option (RFC 9110, 9.6).
    HeaderName::from_static("close"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// Gone from requests besides: what was meant for us, and what holds for one sending of a body.
const REQUEST_ONLY: [HeaderName; 3] =
    [header::PROXY_AUTHORIZATION, header::EXPECT, HeaderName::from_static("http2-settings")];

const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// What has to be known before the content: its framing, its format, where it goes, who sends it, what is asked for and
/// how long the answer holds. Content-Digest is made for trailers (RFC 9530, 2); the rest of `Content-` is not.
const NOT_BEHIND: [HeaderName; 24] = [
    header::HOST,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::WWW_AUTHENTICATE,
    header::COOKIE,
    header::SET_COOKIE,
    header::CACHE_CONTROL,
    header::PRAGMA,
    header::EXPECT,
    header::MAX_FORWARDS,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::AGE,
    header::DATE,
    header::EXPIRES,
    header::LOCATION,
    header::RETRY_AFTER,
    header::VARY,
    header::WARNING,
    header::FORWARDED,
];

/// Yields what Connection named besides, for the trailers.
pub fn strip_request(headers: &mut HeaderMap) -> Vec<HeaderName> {
    strip(headers, &REQUEST_ONLY)
}

/// Yields what Connection named besides, for the trailers.
pub fn strip_response(headers: &mut HeaderMap) -> Vec<HeaderName> {
    strip(headers, &[PROXY_AUTHENTICATION_INFO])
}

/// Cleans trailers behind a head of which Connection named `named`.
pub fn strip_trailers(trailers: &mut HeaderMap, named: &[HeaderName]) {
    for name in named {
        trailers.remove(name);
    }
    remove_all(trailers, &NOT_BEHIND);
    let is_of_content = |name: &&HeaderName| name.as_str().starts_with("content-") && *name != "content-digest";
    let of_content: Vec<HeaderName> = trailers.keys().filter(is_of_content).cloned().collect();
    for name in of_content {
        trailers.remove(name);
    }
    strip(trailers, &REQUEST_ONLY);
    trailers.remove(PROXY_AUTHENTICATION_INFO);
}

/// The trailers that a head announces (RFC 9110, 6.6.2), as they would come, without values: so they are cleaned like
/// them. hyper sends none on that were not announced.
pub fn announced(headers: &HeaderMap) -> HeaderMap {
    if !headers.contains_key(header::TRAILER) {
        return HeaderMap::new();
    }
    let lines = headers.get_all(header::TRAILER).iter();
    lines.flat_map(names).map(|name| (name, HeaderValue::from_static(""))).collect()
}

/// Announces them.
pub fn announce(headers: &mut HeaderMap, announced: &HeaderMap) {
    for name in announced.keys() {
        headers.append(header::TRAILER, HeaderValue::from(name.clone()));
    }
}

/// Whether whoever sent this head takes trailers (RFC 9110, 10.1.4).
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Whether whoever sent this head waits to be asked for the body (RFC 9110, 10.1.1).
pub fn expects_continue(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::EXPECT).iter();
    lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue")) && lines.next().is_none()
}

/// Whether a request's header of this name, in lower case, is never forwarded.
pub fn is_of_one_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().chain(&REQUEST_ONLY).any(|own| name == own)
}

/// Whether one of the Connection lines names this option, in lower case.
pub fn connection_names(headers: &HeaderMap, option: &str) -> bool {
    headers.get_all(header::CONNECTION).iter().flat_map(names).any(|name| name == option)
}

/// Takes these away. A head has few headers, and most of those that may not be there are not: to look at what there is
/// costs less than to ask for each, and less still to look at its length first.
pub fn remove_all<const N: usize>(headers: &mut HeaderMap, names: &[HeaderName; N]) {
    const { assert!(N <= u32::BITS as usize) }
    let bit = |name: &HeaderName| 1_u64 << (name.as_str().len() % 64);
    let lengths = names.iter().fold(0, |lengths, name| lengths | bit(name));
    let mut there = 0_u32;
    for name in headers.keys().filter(|name| lengths & bit(name) != 0) {
        if let Some(place) = names.iter().position(|own| own == name) {
            there |= 1 << place;
        }
    }
    if there == 0 {
        return;
    }
    for (place, name) in names.iter().enumerate() {
        if there & (1 << place) != 0 {
            headers.remove(name);
        }
    }
}

fn strip<const N: usize>(headers: &mut HeaderMap, besides: &[HeaderName; N]) -> Vec<HeaderName> {
    // `keep-alive` and `close` name no header that is not gone anyway.
    let lines = headers.get_all(header::CONNECTION);
    let named: Vec<HeaderName> = match lines.iter().next() {
        Some(_) => lines.iter().flat_map(names).collect(),
        None => Vec::new(),
    };
    for name in &named {
        headers.remove(name);
    }
    remove_all(headers, &HOP_BY_HOP);
    remove_all(headers, besides);
    named
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

/// Whether an answer is a stream of events (server-sent events, WHATWG HTML 9.2), which may be silent for long.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
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
            "close",
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
        assert!(all.into_iter().chain(["proxy-authorization", "expect"]).all(is_of_one_hop));
        assert!(!["authorization", "host", "connections"].into_iter().any(is_of_one_hop));
    }

    #[test]
    fn a_connection_names_its_options_and_no_word_of_its_own() {
        let head = || map(&[("connection", "close, Upgrade"), ("connection", "keep-alive , x-hop,")]);
        for (option, is_named) in [("upgrade", true), ("x-hop", true), ("x", false), ("te", false)] {
            assert_eq!(connection_names(&head(), option), is_named, "{option}");
        }
        assert!(!connection_names(&map(&[]), "upgrade"));
        assert_eq!(strip_request(&mut head()), ["upgrade", "x-hop"]);
        assert_eq!(strip_response(&mut head()), ["upgrade", "x-hop"]);
    }

    #[test]
    fn a_name_may_be_of_any_length() {
        for length in [1, 63, 64, 65, 128, 65_535] {
            let name = HeaderName::from_bytes(&vec![b'x'; length]).unwrap();
            let mut headers = map(&[("te", "gzip")]);
            headers.insert(name.clone(), HeaderValue::from_static("stays"));
            strip_request(&mut headers);
            assert_eq!(headers, HeaderMap::from_iter([(name, HeaderValue::from_static("stays"))]), "{length}");
        }
    }

    #[test]
    fn trailers_lose_what_the_head_loses_and_what_is_not_for_behind() {
        let mut head = map(&[("connection", "x-hop, te"), ("te", "trailers")]);
        let named = strip_request(&mut head);
        for (name, stays) in [
            ("x-sum", true),
            ("content-digest", true),
            ("etag", true),
            ("server-timing", true),
            ("grpc-status", true),
            ("x-hop", false),
            ("content-length", false),
            ("content-type", false),
            ("transfer-encoding", false),
            ("trailer", false),
            ("te", false),
            ("connection", false),
            ("host", false),
            ("authorization", false),
            ("proxy-authorization", false),
            ("set-cookie", false),
            ("cache-control", false),
            ("if-match", false),
            ("location", false),
            ("upgrade", false),
        ] {
            let mut trailers = map(&[(name, "a")]);
            strip_trailers(&mut trailers, &named);
            assert_eq!(!trailers.is_empty(), stays, "{name}");
        }
        let mut trailers = map(&[("connection", "x-sum"), ("x-sum", "a"), ("x-other", "b")]);
        strip_trailers(&mut trailers, &[]);
        assert_eq!(trailers, map(&[("x-other", "b")]));
    }

    #[test]
    fn announced_trailers_are_cleaned_like_those_that_come() {
        let head = map(&[("trailer", "X-Sum, content-length, , @"), ("trailer", "x-other")]);
        let mut announced = announced(&head);
        strip_trailers(&mut announced, &[HeaderName::from_static("x-other")]);
        let mut clean = HeaderMap::new();
        announce(&mut clean, &announced);
        assert_eq!(clean, map(&[("trailer", "x-sum")]));
    }

    #[test]
    fn what_an_app_takes_and_expects_is_read_from_its_head() {
        for (line, takes) in
            [("trailers", true), ("gzip;q=0.5 , Trailers", true), ("gzip", false), ("xtrailers", false)]
        {
            assert_eq!(takes_trailers(&map(&[("te", line)])), takes, "{line}");
        }
        assert!(!takes_trailers(&map(&[])) && takes_trailers(&map(&[("te", "gzip"), ("te", "trailers")])));
        assert!(expects_continue(&map(&[("expect", "100-Continue")])));
        for other in [&[][..], &[("expect", "200-ok")], &[("expect", "100-continue"), ("expect", "200-ok")]] {
            assert!(!expects_continue(&map(other)), "{other:?}");
        }
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
        assert!(!is_framed_twice(&map(&[("transfer-encoding", "chunked")])));
    }

    #[test]
    fn a_stream_of_events_is_told_by_its_type() {
        for (kind, is_one) in [
            ("text/event-stream", true),
            ("Text/Event-Stream ; charset=utf-8", true),
            ("text/event-streams", false),
            ("text/plain; x=text/event-stream", false),
            ("", false),
        ] {
            assert_eq!(is_event_stream(&map(&[("content-type", kind)])), is_one, "{kind}");
        }
        assert!(!is_event_stream(&map(&[])));
    }

    #[test]
    fn white_space_at_either_end_of_a_value_is_noticed() {
        for (value, is_blank) in [("", false), ("a", false), ("a b", false), (" a", true), ("a\t", true), (" ", true)] {
            assert_eq!(has_blank_ends(&HeaderValue::from_static(value)), is_blank, "{value:?}");
        }
    }
}
