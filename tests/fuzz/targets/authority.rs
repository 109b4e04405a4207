//! The text of Host or behind CONNECT → `Authority`. What is taken means the same place to a browser.

#![no_main]

use std::net::IpAddr;

use bearerd::wire::authority::{Authority, Host};
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|text: &str| {
    let authority = match Authority::parse(text) {
        Ok(authority) => authority,
        Err(error) => return bearerd_fuzz::assert_tellable(&error.to_string(), 200),
    };
    assert_ne!(authority.port, Some(0));
    let written = authority.to_string();
    assert_eq!(Authority::parse(&written).as_ref(), Ok(&authority), "{written}");
    assert_eq!(Host::parse(&authority.host.to_string()).as_ref(), Ok(&authority.host));
    assert!(written.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{written}");
    assert!(written.parse::<http::uri::Authority>().is_ok(), "{written}");

    // Some names are none to it, such as `xn--a`.
    let Ok(url) = Url::parse(&format!("http://{text}/")) else { return };
    let theirs = match url.host().expect("http has a host") {
        url::Host::Ipv4(address) => Host::Ip(IpAddr::V4(address)),
        url::Host::Ipv6(address) => Host::Ip(IpAddr::V6(address)),
        url::Host::Domain(name) => Host::Name(name.strip_suffix('.').unwrap_or(name).into()),
    };
    assert_eq!(theirs, authority.host, "{url}");
    assert_eq!(url.port_or_known_default(), Some(authority.port_or(80)), "{url}");
    assert_eq!((url.username(), url.password(), url.path()), ("", None, "/"));
});
