//! The status page: what `/status` says, for people.
//!
//! Its files are compiled in and are the same for everybody; its script asks `/status`, and nothing else, from nobody
//! else. Must never know what is on the page: no byte of it is made here.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use http_body_util::Full;

/// What lies at the address, and of which type it is.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/page/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/page/main.js", SCRIPT, include_str!("page/main.js")),
    ("/page/parts.js", SCRIPT, include_str!("page/parts.js")),
    ("/page/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/page/tree.js", SCRIPT, include_str!("page/tree.js")),
    ("/page/words.js", SCRIPT, include_str!("page/words.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing from elsewhere, nothing inline, in nobody's frame, and no markup out of data: `trusted-types 'none'` has the
/// browser refuse every `innerHTML`. The icon is a `data:` URL, since it has the colour of how things are.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Beside what every admin page says. The policy says most of it; these are for browsers that read it otherwise.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The page or one of its files, by its path.
pub(super) fn file(path: &str) -> Option<Response<Full<Bytes>>> {
    let (_, kind, text) = FILES.iter().find(|(address, ..)| *address == path)?;
    let mut response = Response::new(Full::from(Bytes::from_static(text.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::reason::Reason;

    fn text(path: &str) -> &'static str {
        FILES.iter().find(|(address, ..)| *address == path).map(|(.., text)| *text).unwrap()
    }

    #[test]
    fn every_reason_is_explained_in_one_sentence_and_no_other_is() {
        let words = text("/page/words.js");
        let table =
            words.split("export const REASONS = {\n").nth(1).and_then(|rest| rest.split("\n};").next()).unwrap();
        let mut explained: Vec<&str> = Vec::new();
        for line in table.lines() {
            let (word, sentence) = line.trim().split_once(": '").unwrap_or_else(|| panic!("not an entry: {line}"));
            let sentence = sentence.strip_suffix("',").unwrap();
            assert!(sentence.ends_with('.') && sentence.len() > 40, "{word}: {sentence}");
            assert!(sentence.matches(". ").count() == 0 && sentence.contains([':', ';']), "meaning and cure: {word}");
            explained.push(word);
        }
        assert_eq!(explained, Reason::ALL.map(Reason::as_str));
    }

    #[test]
    fn what_a_file_names_is_served_and_lies_below_the_page() {
        for (address, _, text) in FILES {
            for (before, after) in [(" from './", '\''), ("href=\"page/", '"'), ("src=\"page/", '"')] {
                for rest in text.split(before).skip(1) {
                    let name = rest.split(after).next().unwrap();
                    assert!(file(&format!("/page/{name}")).is_some(), "{address} names {name}");
                }
            }
        }
        assert!(file("/page/").is_none() && file("/page/page.html").is_none() && file("").is_none());
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_is_inline() {
        for (address, _, text) in FILES {
            // The name of SVG is not fetched.
            let text = text.replace("http://www.w3.org/2000/svg", "").replace("'http://localhost:4280'", "");
            for word in
                ["http:", "https:", "//cdn", "@import", "innerHTML", "insertAdjacent", "eval(", "style=\"", "<style"]
            {
                assert!(!text.contains(word), "{address}: {word}");
            }
        }
    }

    #[test]
    fn every_file_has_the_policy() {
        for (address, kind, _) in FILES {
            let response = file(address).unwrap();
            assert_eq!(response.headers()[header::CONTENT_TYPE], kind);
            for (name, value) in HEADERS {
                assert_eq!(response.headers()[&name], value, "{address}");
            }
        }
    }
}
