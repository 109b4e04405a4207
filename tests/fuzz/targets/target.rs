//! A request's head → `Target`. Whatever is let through means one thing to everybody.

#![no_main]

use bearerd::wire::authority::Authority;
use bearerd::wire::form::Target;
use http::Version;
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|bytes: &[u8]| {
    let Some(mut head) = bearerd_fuzz::head(bytes) else { return };
    for version in [head.version, Version::HTTP_2] {
        head.version = version;
        match Target::of(&head) {
            Ok(target) => check(target),
            Err(error) => bearerd_fuzz::assert_tellable(&error.to_string(), 200),
        }
    }
});

fn check(target: Target) {
    let path = target.path().path();
    assert!(path.starts_with('/'), "{target:?}");
    for segment in decoded(path.as_bytes()).split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(!matches!(name, b"." | b".."), "{target:?}");
    }
    // What a client of the WHATWG's sort would make of it: it cleans up dots, however they are spelt.
    if let Ok(url) = Url::parse(&format!("http://h{path}")) {
        let segments = |path: &str| path.matches(['/', '\\']).count();
        assert_eq!(segments(url.path()), segments(path), "{target:?}, {url}");
    }
    if let Some(authority) = target.authority() {
        assert_eq!(Authority::parse(&authority.to_string()).as_ref(), Ok(authority));
        let authority = authority.clone();
        // Out of a CONNECT to the same place it is for the same place; for another one it is refused, whatever it says.
        let other = Authority::parse("elsewhere.example:1").expect("an authority");
        if authority.host != other.host && !matches!(target.form(), bearerd::wire::form::Form::Tunnel(_)) {
            assert!(target.clone().within(&other).is_err(), "{target:?}");
        }
        if let Ok(within) = target.clone().within(&authority) {
            assert_eq!((within.authority(), within.path()), (Some(&authority), target.path()));
        }
    }
}

/// Percent-encoding undone once; an escape that is none stays.
fn decoded(mut path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some((byte, rest)) = path.split_first() {
        let escape = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escape = escape.filter(|digits| *byte == b'%' && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                decoded.push(escaped);
                path = &rest[2..];
            }
            None => {
                decoded.push(*byte);
                path = rest;
            }
        }
    }
    decoded
}
