//! An exchange as it was seen from its two ends.
//!
//! Must never mend anything: what was seen is written down as it came.

use std::fmt::Write as _;

/// Names as they were spelt, values in ASCII (bytes beyond it are escaped).
pub(super) type Fields = Vec<(String, String)>;

/// A message as whoever received it saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) version: String,
    /// Method and target, or status and phrase.
    pub(super) start: String,
    pub(super) fields: Fields,
    pub(super) body: Body,
    pub(super) trailers: Fields,
    /// A chunk said more than its size.
    pub(super) has_extensions: bool,
    /// The end of the connection was the end of the body.
    pub(super) ends_with_connection: bool,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Body(pub(super) Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// What the API saw.
    pub(super) request: Message,
    /// The statuses of the answers before the answer.
    pub(super) interim: Vec<u16>,
    /// What the app got.
    pub(super) answer: Message,
}

impl Message {
    /// Whether any went.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(one, _)| !one.eq_ignore_ascii_case(name));
        self.fields.len() < before
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Sight {
    /// Each part that is not the same, from both.
    pub(super) fn unlike(&self, other: &Self) -> String {
        let mut text = String::new();
        let mut say = |what: &str, one: &dyn std::fmt::Debug, two: &dyn std::fmt::Debug| {
            let (one, two) = (format!("{one:?}"), format!("{two:?}"));
            if one != two {
                writeln!(text, "  {what}\n    directly:        {one}\n    through bearerd: {two}").unwrap();
            }
        };
        say("interim answers", &self.interim, &other.interim);
        for (whose, one, two) in
            [("the request's", &self.request, &other.request), ("the answer's", &self.answer, &other.answer)]
        {
            say(&format!("{whose} version"), &one.version, &two.version);
            say(&format!("{whose} first line"), &one.start, &two.start);
            let only = |one: &Message, two: &Message| -> Fields {
                one.fields.iter().filter(|field| !two.fields.contains(field)).cloned().collect()
            };
            say(&format!("{whose} fields"), &only(one, two), &only(two, one));
            let order = |message: &Message| message.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            say(&format!("{whose} fields' order"), &order(one), &order(two));
            say(&format!("{whose} body"), &one.body, &two.body);
            say(&format!("{whose} trailers"), &one.trailers, &two.trailers);
            say(&format!("{whose} chunk extensions"), &one.has_extensions, &two.has_extensions);
            say(&format!("{whose} end with the connection"), &one.ends_with_connection, &two.ends_with_connection);
        }
        text
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.0[..self.0.len().min(64)];
        write!(f, "{} bytes, {:08x}: {}", self.0.len(), sum(&self.0), shown.escape_ascii())
    }
}

/// Tells long bodies apart where they are printed.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| u32::wrapping_add(u32::rotate_left(sum, 5), u32::from(*byte)))
}
