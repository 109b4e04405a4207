//! Header lines, a blank line and trailers → what goes on to the next hop. Nothing of this hop does, and all else.

#![no_main]

use bearerd::wire::headers::{announce, announced, strip_request, strip_response, strip_trailers};
use http::{HeaderMap, HeaderName};
use libfuzzer_sys::fuzz_target;

/// RFC 9110, 7.6.1, and what no proxy sends on from either side.
const EITHER: [&str; 9] = [
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
const OF_REQUESTS: [&str; 3] = ["proxy-authorization", "expect", "http2-settings"];
const OF_ANSWERS: [&str; 1] = ["proxy-authentication-info"];
/// What must not come behind a body, by the worst that it could do there: frame, route, authenticate.
const NOT_BEHIND: [&str; 9] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "www-authenticate",
];

fuzz_target!(|bytes: &[u8]| {
    let (head, rest) = bearerd_fuzz::fields(bytes);
    let (trailers, _) = bearerd_fuzz::fields(rest);
    let in_request = check(&head, strip_request, &OF_REQUESTS);
    let in_answer = check(&head, strip_response, &OF_ANSWERS);
    assert_eq!(in_request, in_answer);
    let named = in_request;

    let besides = [&OF_REQUESTS[..], &OF_ANSWERS, &NOT_BEHIND].concat();
    for trailers in [trailers, announced(&head)] {
        let mut stripped = trailers.clone();
        strip_trailers(&mut stripped, &named);
        for name in &named {
            assert!(!stripped.contains_key(name), "{name}: {trailers:?}");
        }
        check_stripped(&trailers, &stripped, &besides);
        let once = stripped.clone();
        strip_trailers(&mut stripped, &named);
        assert_eq!(stripped, once);
        let mut announcing = HeaderMap::new();
        announce(&mut announcing, &stripped);
        assert!(announced(&announcing).keys().eq(stripped.keys()), "{announcing:?}");
    }
});

/// Yields what Connection named.
fn check(head: &HeaderMap, strip: fn(&mut HeaderMap) -> Vec<HeaderName>, besides: &[&str]) -> Vec<HeaderName> {
    let mut stripped = head.clone();
    let named = strip(&mut stripped);
    check_stripped(head, &stripped, besides);
    let all = [&EITHER[..], besides].concat();
    for (name, value) in head {
        let goes = all.contains(&name.as_str()) || options(head).contains(&name.as_str().as_bytes().to_vec());
        let stays = stripped.get_all(name).iter().any(|one| one == value);
        assert!(goes != stays, "{name}: {head:?}");
    }
    let once = stripped.clone();
    strip(&mut stripped);
    assert_eq!(stripped, once);
    named
}

fn check_stripped(before: &HeaderMap, after: &HeaderMap, besides: &[&str]) {
    let options = options(before);
    for (name, value) in after {
        assert!(!EITHER.contains(&name.as_str()) && !besides.contains(&name.as_str()), "{name}: {before:?}");
        assert!(!options.contains(&name.as_str().as_bytes().to_vec()), "{name}: {before:?}");
        assert!(before.get_all(name).iter().any(|one| one == value), "{name}: {before:?}");
    }
}

/// Whatever any Connection line names, in lower case.
fn options(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = headers.get_all("connection").iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    lines.map(|option| option.trim_ascii().to_ascii_lowercase()).collect()
}
