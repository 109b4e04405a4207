//! Header lines → when a provider wishes to be asked again, and what time it has.

#![no_main]

use std::time::{Duration, SystemTime};

use bearerd::token::grant::{ClockOff, read};
use http::{HeaderMap, StatusCode, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (headers, _) = bearerd_fuzz::fields(bytes);
    for wall in [0, 1_800_000_000, 4_000_000_000].map(Duration::from_secs) {
        let now = SystemTime::UNIX_EPOCH + wall;
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
            let error = read(status, &headers, b"", None, Duration::from_secs(300), now).expect_err("no success");
            if let Some(wish) = expected(&headers, wall) {
                assert_eq!(error.retry_after, Some(wish));
            }
            assert!(
                headers.contains_key(header::RETRY_AFTER)
                    || headers.contains_key("x-rate-limit-reset")
                    || error.retry_after.is_none()
            );
            assert_eq!(error.failed().retry_after, error.retry_after);
            bearerd_fuzz::assert_tellable(&error.to_string(), 512);
            if let Some(date) = error.date {
                assert!(headers.contains_key(header::DATE));
                if let Some(off) = ClockOff::of(date, now) {
                    bearerd_fuzz::assert_tellable(&off.to_string(), 100);
                }
            }
        }
    }
});

/// What the plain forms say: seconds, or Okta's seconds since 1970.
fn expected(headers: &HeaderMap, wall: Duration) -> Option<Duration> {
    let number = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        let is_plain = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        Some(Duration::from_secs(text.parse().ok().filter(|_| is_plain)?))
    };
    match headers.contains_key(header::RETRY_AFTER) {
        true => number("retry-after"),
        false => number("x-rate-limit-reset")?.checked_sub(wall),
    }
}
