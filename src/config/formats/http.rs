//! Headers, parameters, scopes and web origins.

use http::{HeaderName, HeaderValue, Method};
use url::{Origin, Url};

use super::super::problem::Complaint;
use crate::rules::admit::is_known;
use crate::rules::allow::{Pattern, PatternError};

pub fn header_name(text: &str) -> Result<HeaderName, Complaint> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        Complaint::new("not the name of a header").hint("use letters, digits and `-`, without a colon or spaces")
    })
}

/// A method that a route may let through.
pub fn method(text: &str) -> Result<Method, Complaint> {
    let method = Method::from_bytes(text.as_bytes())
        .map_err(|_| Complaint::new("not a method").hint("write one as it is sent: `GET`, `POST`, `PROPFIND`"))?;
    match method {
        Method::CONNECT => return Err(Complaint::new("CONNECT makes a tunnel, which no route has")),
        Method::TRACE => return Err(Complaint::new("TRACE would read the token back to whoever asks")),
        _ => {}
    }
    if matches!(text, "*" | "ANY" | "ALL") {
        return Err(Complaint::new("not a method").hint("leave `methods` out for the usual ones"));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text && Method::from_bytes(upper.as_bytes()).is_ok_and(|method| is_known(&method)) {
        return Err(Complaint::new("methods are told apart by case").hint(format!("write `{upper}`")));
    }
    Ok(method)
}

pub fn allow_path(text: &str) -> Result<Pattern, Complaint> {
    Pattern::parse(text).map_err(|error| {
        let complaint = Complaint::new(error.to_string());
        if error == PatternError::NoSlash { complaint.hint("put one in front") } else { complaint }
    })
}

/// Marked sensitive: an API key in a header is as good as a token.
pub fn header_value(text: &str) -> Result<HeaderValue, Complaint> {
    if text.trim_matches([' ', '\t']) != text {
        return Err(Complaint::new("the value of a header begins or ends with a space"));
    }
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Complaint::new("not the value of a header: only visible ASCII characters and spaces are"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What stands before the token; nothing at all is fine.
pub fn inject_scheme(text: &str) -> Result<(), Complaint> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match text.bytes().all(token) {
        true => Ok(()),
        false => {
            Err(Complaint::new("not an authentication scheme").hint("write one word, such as `Bearer`, or `\"\"`"))
        }
    }
}

/// RFC 6749, appendix A.4, with any number of spaces between.
pub fn scope(text: &str) -> Result<(), Complaint> {
    let fine = |byte: u8| matches!(byte, b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if text.trim().is_empty() {
        return Err(Complaint::new("is empty").hint("write a scope or remove the key"));
    }
    match text.bytes().all(fine) {
        true => Ok(()),
        false => Err(Complaint::new("a scope has visible ASCII characters other than `\"` and `\\`")),
    }
}

/// A word of a protocol: visible ASCII characters, at least one.
pub fn visible(text: &str) -> Result<(), Complaint> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(Complaint::new("one word of visible ASCII characters is needed here")),
    }
}

pub fn param_name(text: &str) -> Result<(), Complaint> {
    match text.is_empty() || text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        true => Err(Complaint::new("not the name of a parameter")),
        false => Ok(()),
    }
}

/// As browsers send it: scheme, host, and the port where it is not the scheme's (RFC 6454, section 6.2).
pub fn origin(text: &str) -> Result<String, Complaint> {
    let wrong = || Complaint::new("not a web origin").hint("write scheme and host: `https://app.example.com`");
    match text {
        "*" => {
            return Err(Complaint::new("every web page could use the token").hint("list the origins that may call"));
        }
        "null" => return Err(Complaint::new("`null` is the origin of any sandboxed page, so it names nobody")),
        _ => {}
    }
    let url = Url::parse(text).map_err(|_| wrong())?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && text.contains("://");
    match url.origin() {
        origin @ Origin::Tuple(..) if bare && matches!(url.scheme(), "https" | "http") => {
            Ok(origin.ascii_serialization())
        }
        Origin::Tuple(..) | Origin::Opaque(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_origin_is_what_browsers_send() {
        for (text, origin) in [
            ("https://App.Example.com", "https://app.example.com"),
            ("https://app.example.com/", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
        ] {
            assert_eq!(super::origin(text).unwrap(), origin);
        }
        for text in ["", "*", "null", "app.example.com", "https://a/b", "https://u@a", "ftp://a", "file:///x"] {
            assert!(super::origin(text).is_err(), "{text}");
        }
    }
}
