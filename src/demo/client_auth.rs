//! How a client says who it is to the demo provider (RFC 6749, 2.3.1), as strictly as the RFC has it.
//!
//! Pure. Must never know which clients there are.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use crate::secret::Secret;

/// How identifier and secret are written inside a Basic credential: both dialects are live in real servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BasicDialect {
    /// Form-encoded first, as the RFC has it.
    #[default]
    Form,
    /// As they are.
    Raw,
}

/// A way to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Basic,
    Post,
}

pub(super) struct Claimed {
    pub id: String,
    pub secret: Secret<String>,
    pub method: Method,
}

/// What is wrong with the way the client authenticates.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unclear {
    Nobody,
    TwoMethods,
    BadBasic,
}

pub(super) fn read(headers: &HeaderMap, form: &[(String, String)], dialect: BasicDialect) -> Result<Claimed, Unclear> {
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => Err(Unclear::BadBasic),
        (Some(line), None) => {
            let basic = line.to_str().ok().and_then(|line| basic(line, dialect)).ok_or(Unclear::BadBasic)?;
            let other_id = field("client_id").is_some_and(|id| id != basic.id);
            if field("client_secret").is_some() || other_id { Err(Unclear::TwoMethods) } else { Ok(basic) }
        }
        (None, _) => match (field("client_id"), field("client_secret")) {
            (Some(id), Some(secret)) => Ok(Claimed { id, secret: Secret::new(secret), method: Method::Post }),
            _ => Err(Unclear::Nobody),
        },
    }
}

fn basic(line: &str, dialect: BasicDialect) -> Option<Claimed> {
    let (scheme, credentials) = line.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let read = |part: &str| match dialect {
        BasicDialect::Form => form_decoded(part),
        BasicDialect::Raw => Some(part.to_owned()),
    };
    Some(Claimed { id: read(id)?, secret: Secret::new(read(secret)?), method: Method::Basic })
}

/// None if it is not form-encoded: a stray `%` is an error rather than itself.
fn form_decoded(part: &str) -> Option<String> {
    let whole = part.split('%').skip(1).all(|rest| {
        let mut digits = rest.bytes();
        let mut hex = || digits.next().is_some_and(|digit| digit.is_ascii_hexdigit());
        hex() && hex()
    });
    if !whole {
        return None;
    }
    Some(percent_decode_str(&part.replace('+', " ")).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn header(credentials: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(value).unwrap())])
    }

    fn post(id: &str, secret: &str) -> Vec<(String, String)> {
        vec![("client_id".into(), id.into()), ("client_secret".into(), secret.into())]
    }

    #[test]
    fn each_part_of_basic_is_form_decoded() {
        let claimed = read(&header("a%3Ab:p%2Ba%2Fs%25s+w%20x"), &[], BasicDialect::Form).ok().unwrap();
        assert_eq!((claimed.id.as_str(), claimed.secret.expose().as_str()), ("a:b", "p+a/s%s w x"));
    }

    #[test]
    fn raw_basic_is_left_alone() {
        let claimed = read(&header("a%3Ab:p+a:s%s"), &[], BasicDialect::Raw).ok().unwrap();
        assert_eq!((claimed.id.as_str(), claimed.secret.expose().as_str()), ("a%3Ab", "p+a:s%s"));
    }

    #[test]
    fn a_stray_percent_sign_is_not_form_encoded() {
        for secret in ["p%s", "%", "%4", "a%zz", "a%+1"] {
            let unclear = read(&header(&format!("a:{secret}")), &[], BasicDialect::Form).err();
            assert_eq!(unclear, Some(Unclear::BadBasic), "{secret}");
        }
    }

    #[test]
    fn two_methods_at_once_are_refused() {
        let both = |form: &[(String, String)]| read(&header("a:b"), form, BasicDialect::Form).err();
        assert_eq!(both(&post("a", "b")), Some(Unclear::TwoMethods));
        assert_eq!(both(&post("a", "b")[..1]), None, "client_id alone identifies and does not authenticate");
        assert_eq!(both(&[("client_id".into(), "other".into())]), Some(Unclear::TwoMethods));
    }

    #[test]
    fn nobody_is_told_from_somebody_unclear() {
        assert_eq!(read(&HeaderMap::new(), &[], BasicDialect::Form).err(), Some(Unclear::Nobody));
        let bearer = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"))]);
        assert_eq!(read(&bearer, &[], BasicDialect::Form).err(), Some(Unclear::BadBasic));
    }
}
