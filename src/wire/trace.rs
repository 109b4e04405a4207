//! Which trace a request belongs to: `traceparent` of W3C Trace Context (<https://www.w3.org/TR/trace-context/>, level 1).
//!
//! A trace that a request has goes on byte for byte. bearerd sends no spans to anybody, so a parent of its own in there
//! would be one that nobody ever finds. Must never know who reads the traces.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A trace's identity: never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// Version, trace, parent and flags, with a dash between each two (section 3.2.2).
const LENGTH: usize = 55;

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

impl TraceId {
    pub fn number(self) -> u128 {
        self.0
    }

    /// The trace that a head says that it belongs to. Two lines that say so are as good as none (section 3.2).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(PARENT).iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) => parse(line.as_bytes()),
            (_, _) => None,
        }
    }

    /// The same; where there is none, one is begun with these random numbers, and what stood there instead goes, its
    /// `tracestate` with it (section 4.3).
    pub fn of_or_begun(headers: &mut HeaderMap, random: impl FnOnce() -> (u128, u64)) -> Self {
        if let Some(id) = Self::of(headers) {
            return id;
        }
        let (trace, parent) = random();
        // Zero is the one number that is none.
        let (trace, parent) = (trace.max(1), parent.max(1));
        headers.remove(STATE);
        // Not sampled: the flag says whether whoever sends it has recorded the request, and bearerd records nothing. It is
        // also what the specification wants of one that only begins a trace (section 3.2.2.3.1), and leaves the decision to
        // whoever does record.
        if let Ok(line) = HeaderValue::try_from(format!("00-{trace:032x}-{parent:016x}-00")) {
            headers.insert(PARENT, line);
        }
        Self(trace)
    }
}

/// Section 3.2.2. A version that is not known yet is read as far as it is known (section 4.3): there may be more behind
/// another dash.
fn parse(line: &[u8]) -> Option<TraceId> {
    let (known, more) = line.split_at_checked(LENGTH)?;
    let known = std::str::from_utf8(known).ok()?;
    let mut fields = known.split('-');
    let mut field = |digits| fields.next().filter(|field| field.len() == digits && field.bytes().all(is_digit));
    let (version, trace, parent, _flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    let is_whole = match version {
        "ff" => false,
        "00" => more.is_empty(),
        _ => more.is_empty() || more.first() == Some(&b'-'),
    };
    let trace = u128::from_str_radix(trace, 16).ok()?;
    let parent = u64::from_str_radix(parent, 16).ok()?;
    (is_whole && trace != 0 && parent != 0).then_some(TraceId(trace))
}

/// Hexadecimal in lower case, which is the only case that counts.
fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn head(lines: &[&str]) -> HeaderMap {
        let mut headers: HeaderMap = lines
            .iter()
            .map(|line| (PARENT, HeaderValue::from_bytes(line.as_bytes()).unwrap()))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
        headers.insert(STATE, HeaderValue::from_static("rojo=00f067aa0ba902b7"));
        headers
    }

    /// What is valid and what is not, by the words of the specification.
    #[test]
    fn a_line_is_a_trace_or_is_none() {
        for (line, is_valid) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true),
            // Flags that nobody knows are somebody's.
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", true),
            // Version 00 has nothing behind it, and others may.
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like", false),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what-the-future-will-be-like", false),
            ("fe-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-\u{e9}", true),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false),
            // Zeros.
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            // Upper case, and other letters.
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01", false),
            ("0A-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", false),
            ("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-.1", false),
            // Lengths, and dashes elsewhere.
            ("", false),
            ("00", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011", false),
            ("0-4bf92f3577b34da6a3ce929d0e0e47360-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", false),
            ("00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7,01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e47\u{e9}-00f067aa0ba902b7-01", false),
        ] {
            let found = TraceId::of(&head(&[line])).map(|id| format!("{:032x}", id.number()));
            assert_eq!(found.as_deref(), is_valid.then_some(ID), "{line:?}");
        }
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceId::of(&head(&[valid, valid])), None, "two lines");
        assert_eq!(TraceId::of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_trace_that_is_there_is_not_touched() {
        let mut headers = head(&["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more"]);
        let before = headers.clone();
        let id = TraceId::of_or_begun(&mut headers, || panic!("it is there"));
        assert_eq!((format!("{:032x}", id.number()), headers), (ID.to_owned(), before));
    }

    #[test]
    fn a_trace_that_is_none_makes_room_for_a_new_one() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for lines in [&[][..], &["ff"], &[valid, valid], &["x", valid]] {
            let mut headers = head(lines);
            let id = TraceId::of_or_begun(&mut headers, || (0xabc, 0x1));
            assert_eq!(id, TraceId(0xabc));
            assert_eq!(headers.len(), 1, "{headers:?}");
            assert_eq!(headers[PARENT], "00-00000000000000000000000000000abc-0000000000000001-00");
            assert_eq!(TraceId::of(&headers), Some(id), "{lines:?}");
        }
        let mut headers = HeaderMap::new();
        TraceId::of_or_begun(&mut headers, || (0, 0));
        assert!(TraceId::of(&headers).is_some(), "zero is none: {headers:?}");
    }
}
