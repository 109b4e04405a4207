//! The patterns that a route's `allow` holds paths against, byte for byte as they are sent.
//!
//! What a server may read as another path than it looks is refused before ([`check_strict`]); nothing here decodes to
//! match. Must never know methods, routes or what is done with the answer.

use std::fmt;

use crate::wire::path::{check_strict, has_dot_segment, may_be_cut};

/// A pattern that can match, and that says the same to everybody who reads it.
///
/// Made only by [`Pattern::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of segments.
    Any,
    /// Literal bytes, and `*` for any number of them.
    Text(Box<str>),
}

/// Why a text is no pattern. The words are for whoever writes the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a path pattern starts with `/`")]
    NoSlash,
    #[error("a path pattern ends before the query: `?` and `#` cannot stand in it")]
    Query,
    #[error("{0:?} has to be percent-encoded in a path, and so in a pattern")]
    NotEncoded(char),
    #[error("`**` is a segment of its own: `/a/**/b`; within a segment write `*`")]
    DeepInSegment,
    #[error("no request gets that far: the path has a dot segment (`.` or `..`, raw or encoded)")]
    DotSegment,
    #[error("no request gets that far: {0}")]
    Refused(&'static str),
}

impl Pattern {
    /// Reads a pattern: segments of literal bytes as a URL has them (RFC 3986, section 3.3), with `*` for any number of
    /// bytes of a segment, a segment `*` for exactly one segment that is not empty, and a segment `**` for any number of
    /// segments, none included.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let segments = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        if text.contains(['?', '#']) {
            return Err(PatternError::Query);
        }
        if let Some(letter) = text.chars().find(|letter| !stands_for_itself(*letter)) {
            return Err(PatternError::NotEncoded(letter));
        }
        if has_dot_segment(text) {
            return Err(PatternError::DotSegment);
        }
        check_strict(text).map_err(PatternError::Refused)?;
        let segment = |segment: &str| match segment {
            "**" => Ok(Segment::Any),
            text if text.contains("**") => Err(PatternError::DeepInSegment),
            text => Ok(Segment::Text(text.into())),
        };
        segments.split('/').map(segment).collect::<Result<_, _>>().map(Self)
    }

    /// A path that it takes as it is written, if it takes one: without a wildcard but for a `**` at its end, which takes
    /// no segment at all, too.
    pub fn literal(&self) -> Option<String> {
        let segments = match &self.0[..] {
            [segments @ .., Segment::Any] => segments,
            segments => segments,
        };
        let mut path = String::new();
        for segment in segments {
            match segment {
                Segment::Text(text) if !text.contains('*') => path.extend(["/", text]),
                Segment::Text(_) | Segment::Any => return None,
            }
        }
        Some(if path.is_empty() { "/".to_owned() } else { path })
    }

    /// Whether it takes this path, which is without its query. Takes a time in proportion to the length of both at
    /// most.
    pub fn matches(&self, path: &str) -> bool {
        let any = |segment: &Segment| *segment == Segment::Any;
        let takes = |segment: &Segment, text: &str| match segment {
            Segment::Any => false,
            Segment::Text(pattern) => segment_matches(pattern, text),
        };
        path.strip_prefix('/').is_some_and(|path| wild(&self.0, path.split('/'), any, takes))
    }
}

/// A character of a path (RFC 3986, section 3.3: `pchar` and `/`), or the `%` of an escape.
fn stands_for_itself(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(letter)
}

fn segment_matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "*" => !text.is_empty(),
        // `*.json` is not to let `/secret;.json` through to a server that drops parameters.
        _ if pattern.contains('*') && !pattern.ends_with('*') && may_be_cut(text) => false,
        _ => wild(pattern.as_bytes(), text.bytes(), |byte| *byte == b'*', |byte, other| *byte == other),
    }
}

/// Matches a pattern in which some items stand for any number of items (`any`) and the others for one each (`takes`).
///
/// When something does not fit, only the last wildcard has to take one more: what stands before it has been matched as
/// early as possible, so giving it more would leave less to the rest. So there are at most as many comparisons as the
/// product of the two lengths, and no pattern makes them grow faster.
fn wild<'p, P, T: Copy>(
    pattern: &'p [P],
    mut text: impl Iterator<Item = T> + Clone,
    any: impl Fn(&P) -> bool,
    takes: impl Fn(&P, T) -> bool,
) -> bool {
    let mut pattern: &'p [P] = pattern;
    // What follows the last wildcard, and the text that it has not taken.
    let mut last = None;
    loop {
        if let [first, after @ ..] = pattern
            && any(first)
        {
            if after.is_empty() {
                return true;
            }
            pattern = after;
            last = Some((after, text.clone()));
            continue;
        }
        match (pattern, text.next()) {
            ([first, after @ ..], Some(item)) if takes(first, item) => pattern = after,
            ([], None) => return true,
            // A wildcard that takes more would leave less still.
            ([_, ..], None) => return false,
            (_, Some(_)) => {
                let Some((after, rest)) = &mut last else { return false };
                rest.next();
                pattern = after;
                text = rest.clone();
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Any => f.write_str("/**"),
            Segment::Text(text) => write!(f, "/{text}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use http::{Request, Uri};

    use super::*;
    use crate::wire::form::{FormError, Target};

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn literal_segments_are_matched_byte_for_byte() {
        assert!(matches("/", "/") && matches("/a/b", "/a/b") && matches("/a/", "/a/") && matches("/%C3%A9", "/%C3%A9"));
        for path in ["/", "/A/b", "/a", "/a/b/", "/a/bc", "/a/b/c", "/%61/b", "a/b", "", "/a/b;x", "/a/b%20"] {
            assert!(!matches("/a/b", path), "{path}");
        }
        assert!(!matches("/", "/a") && !matches("/a/", "/a") && !matches("/%C3%A9", "/%c3%a9"));
    }

    #[test]
    fn a_star_stays_in_its_segment() {
        for (pattern, taken, not_taken) in [
            ("/*", &["/a", "/a.b", "/*"][..], &["/", "/a/", "/a/b"][..]),
            ("/a/*/c", &["/a/b/c", "/a/*/c"], &["/a//c", "/a/c", "/a/b/b/c"]),
            ("/*.json", &["/a.json", "/.json", "/a.b.json"], &["/a.jso", "/a.json/", "/a/b.json", "/json", "/a.JSON"]),
            ("/v*", &["/v", "/v2", "/v2;x"], &["/", "/x2", "/v2/a"]),
            ("/a*b*c", &["/abc", "/axbxc", "/abbcc", "/abcbc"], &["/ab", "/ac", "/axc", "/abcb", "/xabc"]),
        ] {
            for path in taken {
                assert!(matches(pattern, path), "{pattern} {path}");
            }
            for path in not_taken {
                assert!(!matches(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn two_stars_are_any_number_of_segments() {
        for (pattern, taken, not_taken) in [
            ("/**", &["/", "/a", "/a/", "/a/b/c"][..], &["", "a"][..]),
            ("/a/**", &["/a", "/a/", "/a/b", "/a/b/c/"], &["/", "/ab", "/ab/c", "/b/a", "/A/b"]),
            ("/a/**/z", &["/a/z", "/a/b/z", "/a/b/c/z", "/a/z/z"], &["/a", "/z", "/a/z/b", "/a/bz", "/az"]),
            ("/**/z", &["/z", "/a/z", "/a/b/z"], &["/", "/z/a", "/az"]),
            ("/**/a/*/**", &["/a/b", "/x/a/b", "/a/a/a/a", "/x/a/b/c"], &["/a", "/x/a", "/a/"]),
            ("/**/", &["/", "/a/", "/a/b/"], &["/a", "/a/b"]),
        ] {
            for path in taken {
                assert!(matches(pattern, path), "{pattern} {path}");
            }
            for path in not_taken {
                assert!(!matches(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn text_behind_a_star_is_not_reached_through_parameters() {
        for path in ["/secret;.json", "/secret%3b.json", "/secret%3F.json", "/secret%23.json", "/a;b=c.json"] {
            assert!(
                !matches("/*.json", path) && matches("/*", path) && matches("/s*", &path.replace("/a", "/s")),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        use PatternError::*;
        for (text, error) in [
            ("", NoSlash),
            ("a", NoSlash),
            ("**", NoSlash),
            ("/a?b", Query),
            ("/a#b", Query),
            ("/a b", NotEncoded(' ')),
            ("/\u{e9}", NotEncoded('\u{e9}')),
            ("/{id}", NotEncoded('{')),
            ("/a\\b", NotEncoded('\\')),
            ("/a\n", NotEncoded('\n')),
            ("/a**", DeepInSegment),
            ("/***", DeepInSegment),
            ("/**.json", DeepInSegment),
            ("/a/../b", DotSegment),
            ("/a/%2E/b", DotSegment),
            ("/**/..;x", DotSegment),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        for text in ["//", "/a//b", "/a%2fb", "/%zz", "/a%00", "/a%252e", "/..."] {
            assert!(matches!(Pattern::parse(text), Err(Refused(_))), "{text}");
        }
        let error = Pattern::parse("/a%5Cb").unwrap_err().to_string();
        assert_eq!(error, "no request gets that far: the path has a backslash, raw or encoded (`%5c`)");
    }

    /// The worst of patterns and paths: almost everything fits, again and again, and the end does not.
    #[test]
    fn no_pattern_costs_more_than_the_product_of_the_lengths() {
        let steps = Cell::new(0);
        let count = |pattern: &str, text: &str| {
            steps.set(0);
            let takes = |byte: &u8, other: u8| {
                steps.set(steps.get() + 1);
                *byte == other
            };
            let matched = wild(pattern.as_bytes(), text.bytes(), |byte| *byte == b'*', takes);
            assert!(steps.get() <= pattern.len() * text.len(), "{} steps", steps.get());
            matched
        };
        assert!(!count(&("*a".repeat(200) + "*b"), &"a".repeat(4000)));
        assert!(!count(&("*".to_owned() + &"a".repeat(200) + "b"), &"a".repeat(4000)));
        assert!(!count(&"*aa".repeat(200), &"ab".repeat(2000)));
        assert!(count(&("*a".repeat(200) + "*b"), &("a".repeat(4000) + "b")));
        // The same through the front door; with backtracking it would not end.
        assert!(!matches(&("/**/a".repeat(200) + "/b"), &"/a".repeat(4000)));
        assert!(!matches(&("/**/a*a*a*b".repeat(20) + "/b"), &("/".to_owned() + &"a".repeat(200)).repeat(40)));
    }

    /// The definition, without a thought to what it costs.
    fn naive(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            ([], []) => true,
            (["**", after @ ..], _) => (0..=path.len()).any(|taken| naive(after, &path[taken..])),
            (["*", after @ ..], [segment, rest @ ..]) => !segment.is_empty() && naive(after, rest),
            ([text, after @ ..], [segment, rest @ ..]) => {
                naive_segment(text.as_bytes(), segment.as_bytes()) && naive(after, rest)
            }
            (_, _) => false,
        }
    }

    fn naive_segment(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', after @ ..], _) => (0..=text.len()).any(|taken| naive_segment(after, &text[taken..])),
            ([byte, after @ ..], [other, rest @ ..]) => byte == other && naive_segment(after, rest),
            (_, _) => false,
        }
    }

    /// Random patterns and paths of few letters against the definition. `SEED=n cargo test allow` replays a failure.
    #[test]
    fn sweep() {
        let replay = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
        let mut taken = 0;
        for seed in replay.map_or(0..100_000, |seed: u64| seed..seed + 1) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut text = |letters: &[&'static str], longest| -> String {
                (0..rng.usize(0..=longest)).map(|_| letters[rng.usize(..letters.len())]).collect()
            };
            let pattern = "/".to_owned() + &text(&["a", "b", "*", "/", "/**/", "/*/"], 8);
            let path = "/".to_owned() + &text(&["a", "b", "a", "/"], 10);
            let Ok(parsed) = Pattern::parse(&pattern) else { continue };
            let [of_pattern, of_path] = [&pattern, &path].map(|text| text.split('/').collect::<Vec<_>>());
            let expected = naive(&of_pattern, &of_path);
            assert_eq!(parsed.matches(&path), expected, "SEED={seed}: {pattern} {path}");
            taken += u32::from(expected);
        }
        assert!(replay.is_some() || taken > 2_000, "the sweep says next to nothing: {taken}");
    }

    /// The table of `tests/paths.tsv`, whose other half is real servers (`tests/decoders`).
    #[test]
    fn table() {
        let rule = Pattern::parse("/public/**").unwrap();
        let mut wrong = Vec::new();
        let mut rows = 0;
        let table = include_str!("../../tests/paths.tsv");
        for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let [target, verdict, _trick] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let given = verdict_on(&bytes_of(target), &rule);
            if given != verdict {
                wrong.push(format!("{target}: {given} and not {verdict}"));
            }
            rows += 1;
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(rows >= 200, "{rows}");
    }

    /// What a route with this rule makes of a target, in the order in which a request comes by.
    fn verdict_on(target: &[u8], rule: &Pattern) -> &'static str {
        let Ok(uri) = Uri::try_from(target) else { return "refused" };
        let head = Request::get(uri).header("host", UPSTREAM).body(()).unwrap().into_parts().0;
        match Target::of(&head) {
            Err(FormError::BadPath(_)) => "bad_path",
            Err(FormError::BadRequest(_) | FormError::AmbiguousHost(_)) => "another",
            Ok(target) => match (check_strict(target.path().path()), rule.matches(target.path().path())) {
                (Err(_), _) => "bad_path",
                (Ok(()), true) => "served",
                (Ok(()), false) => "not_allowed",
            },
        }
    }

    const UPSTREAM: &str = "127.0.0.1:8080";

    /// What the escapes of the table stand for; the table says which there are.
    fn bytes_of(written: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = written;
        while let Some((before, escape)) = rest.split_once('\\') {
            bytes.extend(before.bytes());
            rest = if let Some(after) = escape.strip_prefix('x') {
                bytes.push(u8::from_str_radix(&after[..2], 16).unwrap());
                &after[2..]
            } else if let Some(after) = escape.strip_prefix('@') {
                bytes.extend(UPSTREAM.bytes());
                after
            } else if let Some(after) = escape.strip_prefix('\\') {
                bytes.push(b'\\');
                after
            } else {
                let (times, after) = escape.split_once("*(").unwrap();
                let (text, after) = after.split_once(')').unwrap();
                bytes.extend(text.repeat(times.parse().unwrap()).bytes());
                after
            };
        }
        bytes.extend(rest.bytes());
        bytes
    }
}
