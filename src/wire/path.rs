//! Paths that mean one thing to everybody: none with a dot segment, however it is spelt.
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
                (Some(high), Some(low)) => (high << 4 | low, after),
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

    #[test]
    fn a_prefix_ends_at_a_segment() {
        assert!(is_below("/v2", "/v2") && is_below("/v2/x", "/v2") && is_below("/anything", ""));
        assert!(!is_below("/v22", "/v2") && !is_below("/v", "/v2") && !is_below("/V2/x", "/v2"));
    }
}
