//! `client_secret_basic`: identifier and secret in an Authorization header (RFC 6749, 2.3.1).
//!
//! Two dialects are live. The RFC has each part form-encoded first; servers that skip the decoding want them raw. Every
//! byte but the unreserved ones is percent-encoded, the space as `%20`: that, all servers that decode at all read alike,
//! while a `+` is a space to some and a plus to others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::token::settings::BasicEncoding;

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The Authorization header.
pub(super) fn authorization(id: &str, secret: &Secret<String>, encoding: BasicEncoding) -> Option<HeaderValue> {
    let pair = Zeroizing::new(match encoding {
        BasicEncoding::Form => {
            format!("{}:{}", utf8_percent_encode(id, RESERVED), utf8_percent_encode(secret.expose(), RESERVED))
        }
        BasicEncoding::Raw => format!("{id}:{}", secret.expose()),
    });
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    let text = Zeroizing::new(format!("Basic {}", *encoded));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(id: &str, secret: &str, encoding: BasicEncoding) -> String {
        let header = authorization(id, &Secret::new(secret.to_owned()), encoding).unwrap();
        assert!(header.is_sensitive());
        let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    }

    #[test]
    fn each_part_is_percent_encoded_before_base64() {
        assert_eq!(
            pair("app:basic", "p+a/s%s:w=r d&~\"x\u{fc}", BasicEncoding::Form),
            "app%3Abasic:p%2Ba%2Fs%25s%3Aw%3Dr%20d%26~%22x%C3%BC"
        );
        assert_eq!(pair("a-b.c_d~e", "F9", BasicEncoding::Form), "a-b.c_d~e:F9", "unreserved bytes stay");
    }

    #[test]
    fn raw_is_raw() {
        assert_eq!(pair("app", "p+a/s%s:w=r d", BasicEncoding::Raw), "app:p+a/s%s:w=r d");
    }
}
