//! How gRPC says things in HTTP: its media type, its deadlines, its statuses and their messages (PROTOCOL-HTTP2.md and
//! http-grpc-status-mapping.md of the gRPC project).
//!
//! Must never know why a call failed.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The codes that bearerd says or understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    /// What an answer of this status that is no gRPC means to a gRPC client.
    pub fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::Internal,
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::NOT_FOUND => Self::Unimplemented,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    pub fn header(self) -> HeaderValue {
        HeaderValue::from(self as u16)
    }
}

/// Whether a message is of gRPC: `application/grpc`, alone, with a format (`+proto`) or with parameters. gRPC-Web is
/// another protocol and says another type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    let value = value.as_bytes();
    let (kind, rest) = value.split_at(value.len().min(CONTENT_TYPE.len()));
    kind.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Whether an answer's headers or trailers say that the token is at fault; `None` if they say nothing of how it ended.
pub fn is_unauthenticated(headers: &HeaderMap) -> Option<bool> {
    let status = headers.get(STATUS)?;
    Some(status == Code::Unauthenticated.header())
}

/// How long the caller waits, if it says so: `grpc-timeout`, at most eight digits and a unit.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(TIMEOUT)?.as_bytes().split_last()?;
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3_600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// A text as it stands in `grpc-message`: what is not plain ASCII, and the percent sign, in hexadecimal.
pub fn message(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Nothing can go wrong with a String.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static("bearerd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn grpc_is_told_from_its_neighbours() {
        for (value, is_it) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC+json; charset=utf-8", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(&one(header::CONTENT_TYPE, value)), is_it, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_deadline_has_a_unit() {
        for (value, nanos) in [
            ("1H", Some(3_600_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("3S", Some(3_000_000_000)),
            ("4m", Some(4_000_000)),
            ("5u", Some(5_000)),
            ("99999999n", Some(99_999_999)),
            ("100000000n", None),
            ("1", None),
            ("S", None),
            ("+1S", None),
            ("1s", None),
        ] {
            assert_eq!(deadline(&one(TIMEOUT, value)).map(|it| it.as_nanos()), nanos, "{value}");
        }
        assert_eq!(deadline(&one(TIMEOUT, "99999999H")), Some(Duration::from_secs(99_999_999 * 3_600)));
    }

    #[test]
    fn a_message_is_plain_ascii() {
        assert_eq!(message("100% of `é`\n"), "100%25 of `%C3%A9`%0A");
    }

    #[test]
    fn a_status_is_the_one_of_the_mapping() {
        for (status, code) in [(400, 13), (401, 16), (403, 7), (404, 12), (421, 2), (500, 2), (502, 14), (503, 14)] {
            assert_eq!(Code::of(StatusCode::from_u16(status).unwrap()).header(), code.to_string(), "{status}");
        }
        assert_eq!(is_unauthenticated(&one(STATUS, "16")), Some(true));
        assert_eq!(is_unauthenticated(&one(STATUS, "0")), Some(false));
        assert_eq!(is_unauthenticated(&HeaderMap::new()), None);
    }
}
