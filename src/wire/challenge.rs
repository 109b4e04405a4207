//! What an answer with WWW-Authenticate asks for (RFC 9110, 11.6.1).
//!
//! Must never know what becomes of it.

/// A part of a WWW-Authenticate line (RFC 9110, 11.6.1): `Bearer realm="a, b", error=x` has a scheme and two parameters.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Scheme(&'a str),
    Parameter(&'a str, &'a str),
}

impl<'a> Item<'a> {
    fn parameter(name: &'a str, value: &'a str) -> Self {
        Self::Parameter(name.trim(), value.trim().trim_matches('"'))
    }
}

/// The parts of one line, in order. What is not well formed is read as far as it goes.
pub fn items(line: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    for element in unquoted_split(line) {
        let element = element.trim();
        let name_end = element.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(element.len());
        let (name, rest) = element.split_at(name_end);
        let rest = rest.trim_start();
        match rest.strip_prefix('=') {
            Some(value) => items.push(Item::parameter(name, value)),
            None if name.is_empty() => {}
            None => {
                items.push(Item::Scheme(name));
                if let Some((name, value)) = rest.split_once('=') {
                    items.push(Item::parameter(name, value));
                }
            }
        }
    }
    items
}

/// Splits at commas that are not inside a quoted string.
fn unquoted_split(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |c: char| {
        let escape = quoted && !escaped && c == '\\';
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = escape;
        c == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::Item::{Parameter, Scheme};
    use super::*;

    #[test]
    fn a_line_is_its_schemes_and_their_parameters_in_order() {
        for (line, parts) in [
            ("", &[][..]),
            ("Bearer", &[Scheme("Bearer")]),
            ("Negotiate, NTLM", &[Scheme("Negotiate"), Scheme("NTLM")]),
            (
                r#"Bearer realm="x", error=invalid_token"#,
                &[Scheme("Bearer"), Parameter("realm", "x"), Parameter("error", "invalid_token")],
            ),
            (
                r#"Basic realm="x", Bearer error="invalid_token""#,
                &[Scheme("Basic"), Parameter("realm", "x"), Scheme("Bearer"), Parameter("error", "invalid_token")],
            ),
            // A value may have more of what cuts a name off.
            ("DPoP a=b=c", &[Scheme("DPoP"), Parameter("a", "b=c")]),
            // White space around `=` is bad and is read (RFC 9110, 11.2), and empty elements are none (5.6.1.2).
            (
                "  Bearer  realm = \"x\" ,\terror =\t\"y\" ",
                &[Scheme("Bearer"), Parameter("realm", "x"), Parameter("error", "y")],
            ),
            (" ,, Bearer error=x, ,", &[Scheme("Bearer"), Parameter("error", "x")]),
        ] {
            assert_eq!(items(line), parts, "{line}");
        }
    }

    #[test]
    fn a_comma_in_a_quoted_string_ends_nothing() {
        for (realm, value) in [
            (r#""a, b""#, "a, b"),
            (r#""a,b""#, "a,b"),
            (r#"",""#, ","),
            // What is behind a backslash is no end of it (RFC 9110, 5.6.4), unless the backslash is itself behind one.
            (r#""a\", b""#, r#"a\", b"#),
            (r#""a\\""#, r"a\\"),
            (r#""a\\\", b""#, r#"a\\\", b"#),
            // And outside of a quoted string it is a character like others.
            (r#"\"a, b""#, r#"\"a, b"#),
        ] {
            let line = format!("Bearer realm={realm}, error=x");
            assert_eq!(items(&line), [Scheme("Bearer"), Parameter("realm", value), Parameter("error", "x")], "{line}");
        }
        // One that does not end goes on to the end of the line.
        assert_eq!(items(r#"Bearer realm="a, error=x"#), [Scheme("Bearer"), Parameter("realm", "a, error=x")]);
    }
}
