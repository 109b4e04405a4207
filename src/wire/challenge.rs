//! What an answer with WWW-Authenticate asks for (RFC 9110, 11.6.1).
//!
//! Must never know what becomes of it.

/// A part of a WWW-Authenticate line (RFC 9110, 11.6.1): `Bearer realm="a, b", error=x` has a scheme and two parameters.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Scheme(&'a str),
    Parameter(&'a str, &'a str),
}

/// The parts of one line, in order. What is not well formed is read as far as it goes.
pub fn items(line: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    for element in unquoted_split(line) {
        let element = element.trim();
        let name_end = element.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(element.len());
        let (name, rest) = element.split_at(name_end);
        let rest = rest.trim_start();
        let parameter = |name, value: &str| {
            let value = element.get(element.len() - value.len()..).unwrap_or_default();
            Item::Parameter(name, value.trim().trim_matches('"'))
        };
        match rest.strip_prefix('=') {
            Some(value) => items.push(parameter(name, value)),
            None if name.is_empty() => {}
            None => {
                items.push(Item::Scheme(name));
                if let Some((name, value)) = rest.split_once('=') {
                    items.push(parameter(name.trim(), value));
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
