//! Header lines → what is read out of single ones: traces, deadlines, challenges, Via, Origin.

#![no_main]

use std::time::Duration;

use bearerd::rules::guards::origin;
use bearerd::wire::challenge::{Item, items};
use bearerd::wire::grpc;
use bearerd::wire::headers::{expects_continue, is_event_stream, is_plain_coding, is_plain_length, join_cookies};
use bearerd::wire::trace::TraceId;
use bearerd::wire::via::Via;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|bytes: &[u8]| {
    let (headers, _) = bearerd_fuzz::fields(bytes);
    trace(headers.clone());
    via(headers.clone());
    cookies(headers.clone());

    // Eight digits and hours are the most.
    assert!(grpc::deadline(&headers).is_none_or(|deadline| deadline <= Duration::from_secs(99_999_999 * 3600)));
    assert!(grpc::is_unauthenticated(&headers).is_some() == headers.contains_key("grpc-status"));
    _ = (grpc::is_grpc(&headers), is_event_stream(&headers), expects_continue(&headers), is_plain_coding(&headers));
    if let Some(length) = headers.get("content-length").filter(|_| is_plain_length(&headers)) {
        assert!(
            length.as_bytes().iter().all(u8::is_ascii_digit) && headers.get_all("content-length").iter().count() == 1
        );
    }

    for line in headers.values() {
        let line = String::from_utf8_lossy(line.as_bytes());
        challenge(&line);
        let message = grpc::message(&line);
        assert!(message.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)));
        assert!(!line.is_empty() == !message.is_empty());
    }

    if let Some(origin) = origin(&headers) {
        bearerd_fuzz::assert_tellable(&origin, 300);
        let said = headers.get("origin").and_then(|line| line.to_str().ok()).expect("it was read");
        if let (Ok(read), Ok(said)) = (Url::parse(&origin), Url::parse(said)) {
            let host = |url: &Url| url.host_str().map(|host| host.trim_end_matches('.').to_owned());
            assert_eq!((host(&read), read.port()), (host(&said), said.port()));
        }
    }
});

fn trace(mut headers: HeaderMap) {
    let before = headers.clone();
    let known = TraceId::of(&headers);
    let id = TraceId::of_or_begun(&mut headers, || (7, 7));
    assert_ne!(id.number(), 0);
    assert_eq!(TraceId::of(&headers), Some(id));
    assert_eq!(id, TraceId::of_or_begun(&mut headers, || (9, 9)));
    match known {
        Some(known) => assert!(known == id && headers == before, "a trace goes on byte for byte"),
        None => assert!(id.number() == 7 && !headers.contains_key("tracestate")),
    }
}

fn via(mut headers: HeaderMap) {
    let via = Via::new(0x1234_5678);
    let names_us = |line: &http::HeaderValue| {
        line.as_bytes().to_ascii_lowercase().windows(16).any(|part| part == b"bearerd-12345678")
    };
    assert!(!via.has_passed(&headers) || headers.get_all("via").iter().any(names_us));
    via.put_on(&mut headers);
    assert!(via.has_passed(&headers), "{headers:?}");
}

fn cookies(mut headers: HeaderMap) {
    let pairs = |headers: &HeaderMap| {
        let lines: Vec<_> = headers.get_all("cookie").iter().map(|line| line.as_bytes().to_vec()).collect();
        lines.join(&b"; "[..])
    };
    let before = pairs(&headers);
    join_cookies(&mut headers);
    assert!(headers.get_all("cookie").iter().count() <= 1 && pairs(&headers) == before);
}

fn challenge(line: &str) {
    let within = |part: &str| line.as_bytes().as_ptr_range().contains(&part.as_ptr()) || part.is_empty();
    for item in items(line) {
        match item {
            Item::Scheme(scheme) => assert!(!scheme.is_empty() && !scheme.contains(['=', ' ']) && within(scheme)),
            Item::Parameter(name, value) => assert!(within(name) && within(value)),
        }
    }
}
