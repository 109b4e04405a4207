//! Paths that mean one thing to everybody: none with a dot segment, however it is spelt; and on a route that has rules,
//! none that some server may read as another path than the one that a rule was held against.
//!
//! A path is never decoded and passed on, nor cleaned up: it is taken as it is or refused.

/// Whether some server may read a segment of this path as `.` or `..`: raw or percent-encoded, cut off by `/`, `\` or
/// their encodings, with or without parameters (`..;a=b`, which Tomcat reads as `..`).
pub fn has_dot_segment(path: &str) -> bool {
    // Almost no path has either.
    if !path.bytes().any(|byte| matches!(byte, b'.' | b'%')) {
        return false;
    }
    let mut segment = Segment::Dots(0);
    for byte in decoded(path.as_bytes()) {
        segment = match (byte, segment) {
            (b'/' | b'\\', Segment::Dots(1 | 2) | Segment::DotsWithParameters) => return true,
            (b'/' | b'\\', _) => Segment::Dots(0),
            (b';', Segment::Dots(1 | 2)) => Segment::DotsWithParameters,
            (b'.', Segment::Dots(dots)) => Segment::Dots(dots.saturating_add(1)),
            (_, Segment::DotsWithParameters) => Segment::DotsWithParameters,
            (_, Segment::Dots(_) | Segment::Other) => Segment::Other,
        };
    }
    matches!(segment, Segment::Dots(1 | 2) | Segment::DotsWithParameters)
}

/// What a route that has rules asks of a path beyond having no dot segment: that no server, however it decodes, trims or
/// cleans up what it gets, reads it as another path. Where a server drops parameters (`;`), or splits off a query or a
/// fragment that it has decoded itself, what is left has to hold too.
///
/// # Errors
/// What is wrong with the path, in words for the app.
pub fn check_strict(path: &str) -> Result<(), &'static str> {
    if path.contains("//") {
        return Err("the path has an empty segment (`//`)");
    }
    path.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), &'static str> {
    // Almost no segment has any of these.
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b';');
    if !segment.starts_with('.') && segment.bytes().all(plain) {
        return Ok(());
    }
    let mut escapes = segment.split('%').skip(1).map(str::as_bytes);
    if !escapes.all(|escape| matches!(escape, [high, low, ..] if hex(*high).is_some() && hex(*low).is_some())) {
        return Err("the path has a `%` without two hexadecimal digits behind it");
    }
    let once: Vec<u8> = decoded(segment.as_bytes()).collect();
    if once.windows(3).any(|escape| matches!(escape, [b'%', b'2', b'e' | b'E' | b'5'])) {
        return Err("the path has a doubly encoded dot or percent sign (`%252e`, `%2525`)");
    }
    // A server behind another one may decode what that one has decoded. What is wrong after one time stays so.
    check_decoded(&decoded(&once).collect::<Vec<_>>())
}

/// Checks a segment as a server has it that has decoded it, and decoded it again.
fn check_decoded(segment: &[u8]) -> Result<(), &'static str> {
    for byte in segment {
        match byte {
            b'/' => return Err("the path has an encoded slash (`%2f`)"),
            b'\\' => return Err("the path has a backslash, raw or encoded (`%5c`)"),
            _ if byte.is_ascii_control() => return Err("the path has a control character, raw or encoded (`%00`)"),
            _ => {}
        }
    }
    // A careless decoder reads any byte behind the first two as a part of the character.
    let overlong = |pair: &[u8]| matches!(pair, [0xe0, 0x80 | 0x81] | [0xf0 | 0xf8 | 0xfc, 0x80]);
    if segment.iter().any(|byte| matches!(byte, 0xc0 | 0xc1)) || segment.windows(2).any(overlong) {
        return Err("the path has an ASCII character in overlong UTF-8 (`%c0%af`)");
    }
    let end = segment.iter().position(|byte| matches!(byte, b';' | b'?' | b'#'));
    let (name, rest) = segment.split_at(end.unwrap_or(segment.len()));
    if name.is_empty() && rest.starts_with(b";") {
        return Err("the path has a segment of parameters alone (`/;x/`)");
    }
    let name = String::from_utf8_lossy(name);
    let blank = |letter: char| letter == '.' || letter.is_whitespace();
    let dotted = name.contains('.') && name.chars().all(|letter| blank(letter) || is_unseen(letter));
    if !name.is_empty() && (dotted || name.chars().all(blank)) {
        return Err("the path has a segment of dots or white space alone (`..%20`, `...`)");
    }
    Ok(())
}

/// What somebody may drop from a name: bytes that are no text, and characters that nobody sees (Unicode's
/// `Default_Ignorable_Code_Point`, as far as it is in use).
fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        char::REPLACEMENT_CHARACTER
            | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether some server may take this segment for a shorter one: because of parameters, or of a query or a fragment that
/// it has decoded itself.
pub fn may_be_cut(segment: &str) -> bool {
    decoded(segment.as_bytes()).any(|byte| matches!(byte, b';' | b'?' | b'#'))
}

#[derive(Clone, Copy)]
enum Segment {
    /// So many dots and nothing else yet.
    Dots(u8),
    DotsWithParameters,
    Other,
}

/// The bytes of a path with its escapes undone once; an escape that is none stays as it is.
fn decoded(path: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (16 * high + low, after),
                (_, _) => (b'%', &rest[1..]),
            },
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Whether `path` lies at or below `prefix`, cut at a segment boundary. `prefix` has no trailing slash; `""` is all.
pub fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_seen_in_every_spelling() {
        for path in [
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/%2e",
            "/%2E%2e/x",
            "/.%2e",
            "/a/..%2fb",
            "/a%2F..%2Fb",
            "/a\\..\\b",
            "/a%5c..%5Cb",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/%2e%2e;x",
            "/..;",
            "/a/.;",
            "..",
            "/a/..%5c",
        ] {
            assert!(has_dot_segment(path), "{path}");
        }
    }

    #[test]
    fn other_dots_are_left_alone() {
        for path in [
            "/",
            "/a.b",
            "/.well-known/x",
            "/...",
            "/a..b/",
            "/..a",
            "/a..",
            "/%2e%2ea",
            "/%252e%252e/",
            "/a%2",
            "/%",
            "/a;..",
            "/a;v=../b",
            "/%zz/..a",
            "/a/.b.",
            "/v1.2/x;y=.",
        ] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }

    /// What is wrong, and the spellings of it.
    const REFUSED: [(&str, &[&str]); 9] = [
        ("empty segment", &["//", "/a//b", "/a//", "//a"]),
        (
            "without two hexadecimal digits",
            &["/%", "/%2", "/a%zz", "/a%%32e", "/a%2%65", "/%u002e/b", "/a% 20", "/%+2"],
        ),
        ("encoded slash", &["/a%2fb", "/a%2Fb", "/%2f", "/a%252fb", "/a%25%32%66b", "/a%252Fb"]),
        ("backslash", &["/a\\b", "/a%5cb", "/a%5Cb", "/\\", "/a%255cb"]),
        ("control character", &["/a%00", "/a%00.json", "/%1f", "/a%7f", "/a%0d%0ab", "/a\tb", "/a\u{7f}", "/a%2500"]),
        ("doubly encoded dot", &["/%252e%252e/b", "/a%252eb", "/a%2525", "/a%25252e", "/a%25%32%65", "/.%252E/"]),
        (
            "overlong UTF-8",
            &[
                "/a%c0%af",
                "/%C0%AE%c0%ae/",
                "/a%e0%80%af",
                "/a%f0%80%80%af",
                "/a%f8%80%80%80%af",
                "/a%c1%9c",
                "/a%fc%80%80%80%80%af",
                "/%c0%2e",
                "/a%c0.",
                "/a%c1%81",
                "/a%e0%81%81",
                "/a%25c0%25af",
            ],
        ),
        ("parameters alone", &["/;", "/;x/a", "/a/;/b", "/%3bx/a", "/a/%3B"]),
        (
            "dots or white space alone",
            &[
                "/...",
                "/a/.../b",
                "/a/..%20/b",
                "/%20../b",
                "/%20",
                "/a/%20/b",
                "/.%20./",
                "/..%20;x/",
                "/..%3fx",
                "/a/..%23",
                "/a/.%20?",
                "/..%c2%a0",
                "/%e3%80%80",
                "/..%2520/",
                "/..%253bx/",
                "/....;",
                "/.. ",
                "/\u{3000}..",
                "/..%ff/",
                "/..%e2%80%8b/",
                "/.%c2%ad./",
            ],
        ),
    ];

    #[test]
    fn what_a_server_may_read_otherwise_is_refused() {
        for (what, paths) in REFUSED {
            for path in paths {
                assert!(check_strict(path).is_err_and(|why| why.contains(what)), "{path}: {:?}", check_strict(path));
            }
        }
    }

    #[test]
    fn what_everybody_reads_alike_passes() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/",
            "/.well-known/x",
            "/..a",
            "/a..",
            "/a.../b",
            "/a%20b",
            "/100%25",
            "/a%25zz",
            "/caf%C3%A9",
            "/caf%e9",
            "/%E0%A4%A6",
            "/%e2%82%ac",
            "/%f0%9f%8e%89",
            "/%25e0%25a4",
            "/a;v=1/b",
            "/a%3bv",
            "/%23general:example.org",
            "/a%3fb",
            "/%3f",
            "/~me/@me/a+b:c,d=e&f!$'()*",
            "/\u{e9}",
            "/%ef%bc%8e",
            "/%41%2d",
            "/.%61",
            "/a%2520b",
            "",
            "*",
            "/..%20a",
        ] {
            assert_eq!(check_strict(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn parameters_and_what_looks_like_a_query_may_be_cut() {
        assert!(["a;b", "a%3Bb", "a%3f", "%23"].into_iter().all(may_be_cut));
        assert!(!["", "a", "a%20", "a%253b", "a%3"].into_iter().any(may_be_cut));
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        assert!(is_below("/v2", "/v2") && is_below("/v2/x", "/v2") && is_below("/anything", ""));
        assert!(!is_below("/v22", "/v2") && !is_below("/v", "/v2") && !is_below("/V2/x", "/v2"));
    }
}
