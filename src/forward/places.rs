//! The headers of an answer that say where something is: `Location`, `Content-Location` (RFC 9110, 10.2.2 and 8.7) and
//! `Link` (RFC 8288).
//!
//! Must never know what becomes of a place: that is asked for each of them.

use http::header::{self, Entry, HeaderMap};
use http::{HeaderName, HeaderValue};

const PLACES: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];

/// Replaces each place by the one that `instead` gives for it.
pub(super) fn lead_back(headers: &mut HeaderMap, instead: impl Fn(&str) -> Option<String>) {
    if !headers.keys().any(|name| *name == header::LINK || PLACES.contains(name)) {
        return;
    }
    for name in PLACES {
        replace(headers, name, |line| instead(line.trim()));
    }
    replace(headers, header::LINK, |line| links(line, &instead));
}

fn replace(headers: &mut HeaderMap, name: HeaderName, instead: impl Fn(&str) -> Option<String>) {
    let Entry::Occupied(mut lines) = headers.entry(name) else { return };
    for line in lines.iter_mut() {
        // What is no text is no place either.
        let other = line.to_str().ok().and_then(&instead);
        if let Some(other) = other.and_then(|other| HeaderValue::try_from(other).ok()) {
            *line = other;
        }
    }
}

/// `<place>; rel="x", <place>…` with other places in it. A `<` within quotes begins none.
fn links(line: &str, instead: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut done = String::with_capacity(line.len());
    let (mut rest, mut quoted, mut changed) = (line, false, false);
    while let Some(at) = rest.find(['<', '"', '\\']) {
        let (before, after) = rest.split_at(at + 1);
        done.push_str(before);
        rest = after;
        match before.as_bytes().last() {
            Some(b'"') => quoted = !quoted,
            Some(b'\\') if quoted => {
                // The next character is itself, whatever it is.
                let next = rest.chars().next().map_or(0, char::len_utf8);
                let (itself, after) = rest.split_at(next);
                done.push_str(itself);
                rest = after;
            }
            Some(b'<') if !quoted => {
                let Some((place, after)) = rest.split_once('>') else { break };
                let other = instead(place);
                changed |= other.is_some();
                done.push_str(other.as_deref().unwrap_or(place));
                done.push('>');
                rest = after;
            }
            _ => {}
        }
    }
    done.push_str(rest);
    changed.then_some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instead(place: &str) -> Option<String> {
        place.strip_prefix("https://api/").map(|rest| format!("/{rest}"))
    }

    #[test]
    fn every_place_is_replaced_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("location", "https://api/a"),
            ("location", "https://other/a"),
            ("content-location", " https://api/b "),
            ("link", "<https://api/c>; rel=\"next\", <https://other/>; title=\"<https://api/d>\""),
            ("refresh", "0; url=https://api/e"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        lead_back(&mut headers, instead);
        let all = |name: &str| headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("location"), ["/a", "https://other/a"]);
        assert_eq!(all("content-location"), ["/b"]);
        assert_eq!(all("link"), ["</c>; rel=\"next\", <https://other/>; title=\"<https://api/d>\""]);
        assert_eq!(all("refresh"), ["0; url=https://api/e"]);
    }

    #[test]
    fn links_are_found_however_they_are_written() {
        for (line, other) in [
            ("<https://api/a>", Some("</a>")),
            ("<https://api/a>;rel=x,<https://api/b>;rel=y", Some("</a>;rel=x,</b>;rel=y")),
            ("<x>; title=\"a\\\"<https://api/a>\", <https://api/b>", Some("<x>; title=\"a\\\"<https://api/a>\", </b>")),
            ("<https://api/a", None),
            ("", None),
            ("\"<https://api/a>", None),
            ("\\", None),
        ] {
            assert_eq!(links(line, instead).as_deref(), other, "{line}");
        }
    }

    #[test]
    fn whatever_a_link_is_made_of_nothing_but_places_changes() {
        let mut random = fastrand::Rng::with_seed(8288);
        let mut seen = 0;
        for _ in 0..20_000 {
            let line: String = (0..random.usize(..24))
                .map(|_| ['<', '>', '"', '\\', ';', ',', 'a', '\u{e9}'][random.usize(..8)])
                .collect();
            let same = links(&line, |place| Some(place.to_owned()));
            seen += usize::from(same.is_some());
            assert!(same.is_none_or(|same| same == line), "{line}");
            assert_eq!(links(&line, |_| None), None, "{line}");
        }
        assert!(seen > 1_000, "{seen}");
    }
}
