//! What is wrong with a configuration, where, and what to do about it.
//!
//! Every problem is kept until all are known. A problem tells the place, the path and what was expected; it must never
//! tell a value, because the value may be a secret that stands in the wrong place.

use std::fmt;
use std::sync::Arc;

/// Where something was written. The order is the order in which problems are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Line and column count from 1.
    File {
        file: Arc<str>,
        line: u32,
        column: u32,
    },
    /// The file as a whole, when it cannot be read.
    WholeFile(Arc<str>),
    Environment(Arc<str>),
    Flag(Arc<str>),
    /// Put there by the preset of this name.
    Preset(Arc<str>),
    /// Written nowhere: flags and environment were all there was, and something is missing from them.
    Nowhere,
}

impl Place {
    /// The variable or flag, as it is typed.
    pub fn setting(&self) -> Option<String> {
        match self {
            Self::Environment(name) => Some(name.to_string()),
            Self::Flag(name) => Some(format!("--{name}")),
            Self::File { .. } | Self::WholeFile(_) | Self::Preset(_) | Self::Nowhere => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::WholeFile(file) => f.write_str(file),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// One step from the root of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// `routes[0].timeouts.connect`; a key that is not a plain word stands as `["X.Y"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

impl Path {
    pub fn with(&self, step: impl Into<Step>) -> Self {
        let mut longer = self.clone();
        longer.0.push(step.into());
        longer
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(number) => write!(f, "[{number}]")?,
                Step::Key(key) if is_word(key) => write!(f, "{}{key}", if index == 0 { "" } else { "." })?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// What a single value has wrong with it, before anybody knows where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub what: String,
    pub hint: Option<String>,
}

impl Complaint {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// A complaint with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// The path of the key; empty where the problem is the document's, a flag's or a variable's.
    pub path: String,
    pub what: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(place: Place, path: &Path, complaint: Complaint) -> Self {
        let Complaint { what, hint } = complaint;
        Self { place, path: path.to_string(), what: printable(what), hint: hint.map(printable) }
    }
}

/// A name that is told as it was written may hold what moves a terminal's cursor.
fn printable(text: String) -> String {
    match text.chars().any(char::is_control) {
        true => text.replace(char::is_control, "\u{fffd}"),
        false => text,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Report {
    /// The warnings, or everything, each in order of place.
    pub fn finish(mut self) -> Result<Vec<Problem>, Problems> {
        self.problems.sort_by(|one, other| one.place.cmp(&other.place));
        self.warnings.sort_by(|one, other| one.place.cmp(&other.place));
        match self.problems.is_empty() {
            true => Ok(self.warnings),
            false => Err(Problems { problems: self.problems, warnings: self.warnings }),
        }
    }
}

/// Everything that stops a configuration from being used, in order of place, and what is doubtful besides.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems {
    /// At least one.
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known word that a writer may have meant, if one is near.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = written.to_ascii_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&folded, &word.to_ascii_lowercase()), word))
        // A third of the letters may be wrong: `conect` finds `connect`, `foo` finds nothing.
        .filter(|(distance, word)| {
            *distance <= (written.len().max(word.len()) / 3).max(1) && *distance < written.len().min(word.len())
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// ` (did you mean …?)`, or nothing.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known).map(|word| format!(" (did you mean `{word}`?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_document() {
        let path = Path(vec!["routes".into(), 0.into(), "headers".into(), "X.Y".into()]);
        assert_eq!(path.to_string(), "routes[0].headers[\"X.Y\"]");
        assert_eq!(Path(vec!["a b".into()]).to_string(), "[\"a b\"]");
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["token_url", "token", "issuer", "connect"];
        assert_eq!(nearest("tokenurl", known), Some("token_url"));
        assert_eq!(nearest("conect", known), Some("connect"));
        assert_eq!(nearest("TOKEN", known), Some("token"));
        assert_eq!(nearest("banana", known), None);
        assert_eq!(nearest("b", ["a"]), None);
    }
}
