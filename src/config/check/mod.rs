//! The tree held against the schema: every problem, and the values in one normal form.
//!
//! A value that is wrong is reported and left out, and its default takes its place, so that the rest is still checked,
//! here and in `translate`. A walk over the schema and not a deserializer, because a deserializer stops at the first
//! problem and forgets where it was. Must never know a key by name.

mod scalar;
mod secret;
mod shape;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use serde_json::{Map, Value as Json};

pub use self::scalar::Outside;
pub use self::shape::Shape;
use super::files::Seen;
use super::formats;
use super::problem::{Complaint, Path, Place, Problem, Report, Step, nearest};
use super::tree::{Entry, Node, Scalar, Style, Value};
use super::yaml::is_nothing;

/// What a walk leaves behind.
pub struct Checked {
    /// The document in normal form, defaults filled in.
    pub json: Json,
    /// The paths of what was wrong, so that nothing is said about what is missing because of it.
    pub bad: HashSet<String>,
    /// Every file that was named.
    pub files: BTreeSet<PathBuf>,
    /// The environment variables that secrets were taken from.
    pub secret_variables: BTreeSet<String>,
}

pub fn check(schema: &Json, tree: &Node, outside: &Outside<'_>, report: &mut Report) -> Checked {
    let mut walk = Walk {
        warned: HashSet::new(),
        outside,
        report,
        path: Path::default(),
        bad: HashSet::new(),
        files: BTreeSet::new(),
        secret_variables: BTreeSet::new(),
        seen: HashMap::new(),
        defaults: HashMap::new(),
    };
    let json = Shape::root(schema).and_then(|shape| walk.value(shape, tree)).unwrap_or_default();
    let Walk { bad, files, secret_variables, .. } = walk;
    Checked { json, bad, files, secret_variables }
}

struct Walk<'a> {
    outside: &'a Outside<'a>,
    report: &'a mut Report,
    path: Path,
    bad: HashSet<String>,
    files: BTreeSet<PathBuf>,
    secret_variables: BTreeSet<String>,
    /// What was read so far: ten thousand routes may name one file.
    seen: HashMap<PathBuf, Result<Seen, String>>,
    /// The files that everybody may read, once told.
    warned: HashSet<PathBuf>,
    /// Defaults in normal form, by where they stand in the schema.
    defaults: HashMap<*const Json, Option<Json>>,
}

impl Walk<'_> {
    /// The normal form of `node`; `None` once its problem is reported.
    fn value(&mut self, shape: Shape<'_>, node: &Node) -> Option<Json> {
        if let Value::Scalar(Scalar { text, style: Style::Plain }) = &node.value
            && is_nothing(text)
        {
            let complaint = Complaint::new("has no value").hint("write one or remove the key");
            return self.wrong(&node.place, complaint);
        }
        if shape.has("x-switch") {
            if let Value::Scalar(scalar) = &node.value
                && matches!(scalar.text.as_str(), "off" | "false")
            {
                return Some(Json::Bool(false));
            }
            let inner = shape.switched()?;
            return match (inner.kind(), &node.value) {
                ("object", Value::Scalar(_)) if inner.has("x-short") => self.value(inner, node),
                ("object", Value::Scalar(_) | Value::List(_)) => self.unexpected(shape, node),
                _ => self.value(inner, node),
            };
        }
        if shape.has("x-one-or-many") {
            return match &node.value {
                Value::List(items) => self.list(shape.one()?, items, &node.place),
                Value::Scalar(_) | Value::Map(_) => Some(Json::Array(vec![self.value(shape.one()?, node)?])),
            };
        }
        match (shape.kind(), &node.value) {
            ("object", Value::Map(_)) if shape.has("x-short") && reference(node).is_some() => self.short(shape, node),
            ("object", Value::Scalar(_)) if shape.has("x-short") => self.short(shape, node),
            ("object", Value::Map(entries)) if shape.has("x-named") => self.named(shape, entries),
            ("object", Value::Map(entries)) => Some(self.object(shape, entries, &node.place)),
            ("array", Value::List(items)) => self.list(shape.item()?, items, &node.place),
            ("object" | "array", _) => self.unexpected(shape, node),
            (_, _) => self.scalar(shape, node),
        }
    }

    fn object(&mut self, shape: Shape<'_>, entries: &[Entry], place: &Place) -> Json {
        let mut done = Map::new();
        for entry in entries {
            self.path.0.push(Step::Key(entry.key.clone()));
            if let Some(property) = shape.property(&entry.key) {
                if let Some(value) = self.value(property, &entry.value) {
                    done.insert(entry.key.clone(), value);
                }
            } else {
                self.unknown(shape, entry);
            }
            self.path.0.pop();
        }
        for key in shape.keys().filter(|key| !entries.iter().any(|entry| entry.key == *key)) {
            let required = shape.list("required").any(|name| name == key);
            if required && !self.bad.contains(&self.path.with(key).to_string()) {
                let complaint = Complaint::new(format!("`{key}` is missing"));
                let _: Option<Json> = self.wrong(place, complaint);
            }
        }
        self.fill(shape, &mut done);
        Json::Object(done)
    }

    /// Puts in the defaults of what was not written, or written wrongly.
    fn fill(&mut self, shape: Shape<'_>, done: &mut Map<String, Json>) {
        for key in shape.keys() {
            if done.contains_key(key) {
                continue;
            }
            let Some(property) = shape.property(key) else { continue };
            let Some(default) = property.get("default") else { continue };
            let known = self.defaults.get(&std::ptr::from_ref(default)).cloned();
            let value = known.unwrap_or_else(|| {
                let value = self.value(property, &from_json(default));
                self.defaults.insert(std::ptr::from_ref(default), value.clone());
                value
            });
            if let Some(value) = value {
                done.insert(key.to_owned(), value);
            }
        }
    }

    /// A single value in the place of a map: it is the one key that matters.
    fn short(&mut self, shape: Shape<'_>, node: &Node) -> Option<Json> {
        let key = shape.get("x-short").and_then(Json::as_str)?;
        let value = self.value(shape.property(key)?, node);
        let mut done = Map::new();
        if let Some(value) = value {
            done.insert(key.to_owned(), value);
        }
        self.fill(shape, &mut done);
        Some(Json::Object(done))
    }

    /// A map whose keys are made up, as a list of pairs: order and spelling matter.
    fn named(&mut self, shape: Shape<'_>, entries: &[Entry]) -> Option<Json> {
        let value_shape = shape.named()?;
        let mut pairs = Vec::with_capacity(entries.len());
        for entry in entries {
            self.path.0.push(Step::Key(entry.key.clone()));
            match shape.notes.key_format.map_or(Ok(()), |format| formats::check(format, &entry.key)) {
                Ok(()) => {
                    if let Some(value) = self.value(value_shape, &entry.value) {
                        pairs.push(Json::Array(vec![Json::String(entry.key.clone()), value]));
                    }
                }
                Err(complaint) => {
                    let _: Option<Json> = self.wrong(&entry.place, complaint);
                }
            }
            self.path.0.pop();
        }
        Some(Json::Array(pairs))
    }

    fn list(&mut self, shape: Shape<'_>, items: &[Node], place: &Place) -> Option<Json> {
        if shape.notes.min_items.is_some_and(|least| (items.len() as u64) < least) {
            return self.wrong(place, Complaint::new("the list is empty").hint("write at least one"));
        }
        let mut done = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.path.0.push(Step::Index(index));
            match self.value(shape, item) {
                Some(value) => done.push(value),
                // Something must stand here, so that the numbers of the rest still fit.
                None if shape.kind() == "object" => {
                    let mut empty = Map::new();
                    self.fill(shape, &mut empty);
                    done.push(Json::Object(empty));
                }
                None => {}
            }
            self.path.0.pop();
        }
        Some(Json::Array(done))
    }

    fn unknown(&mut self, shape: Shape<'_>, entry: &Entry) {
        let written = |key: &&str| self.path.0.last() != Some(&Step::from(*key));
        let known: Vec<&str> = shape.keys().filter(written).collect();
        // `secret` for `client_secret`: the end of one word alone.
        let ends = |key: &&str| key.strip_suffix(entry.key.as_str()).is_some_and(|start| start.ends_with('_'));
        let mut ending = shape.keys().filter(ends);
        let ending = ending.next().filter(|_| ending.next().is_none());
        let meant = nearest(&entry.key, known.iter().copied()).or(ending);
        let what = meant.map_or_else(String::new, |word| format!(" (did you mean `{word}`?)"));
        let mut complaint = Complaint::new(format!("unknown key{what}"));
        // `path` for `match: {path: …}`: right, and one map too far out.
        let inside = |key: &&str| shape.property(key).is_some_and(|inner| inner.property(&entry.key).is_some());
        // As the variables and flags have it.
        if let Some(whole) = entry.key.strip_suffix("_file").filter(|whole| known.contains(whole)) {
            complaint = complaint.hint(format!("write `{whole}: {{file: PATH}}`"));
        }
        if let Some(meant) = meant {
            // Nothing more is said about the missing of what was misspelt.
            if let Some((_, around)) = self.path.0.split_last() {
                self.bad.insert(Path(around.to_vec()).with(meant).to_string());
            }
        } else if entry.key == "<<" {
            complaint = complaint.hint("merge keys are not part of YAML 1.2; write the keys out");
        } else if let Some(around) = shape.keys().find(inside) {
            complaint.what = format!("unknown key (did you mean `{around}: {{{}: …}}`?)", entry.key);
            if let Some((_, place)) = self.path.0.split_last() {
                self.bad.insert(Path(place.to_vec()).with(around).with(entry.key.as_str()).to_string());
            }
        } else {
            let words: Vec<String> = shape.keys().map(|key| format!("`{key}`")).collect();
            complaint = complaint.hint(format!("known here: {}", words.join(", ")));
        }
        let _: Option<Json> = self.wrong(&entry.place, complaint);
    }

    /// Reports, and stands for the value that there is not.
    fn wrong<T>(&mut self, place: &Place, complaint: Complaint) -> Option<T> {
        self.bad.insert(self.path.to_string());
        self.report.problems.push(Problem::new(place.clone(), &self.path, complaint));
        None
    }

    fn warn(&mut self, place: &Place, complaint: Complaint) {
        self.report.warnings.push(Problem::new(place.clone(), &self.path, complaint));
    }

    fn unexpected<T>(&mut self, shape: Shape<'_>, node: &Node) -> Option<T> {
        let found = match &node.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Scalar(Scalar { text, style: Style::Plain }) => match text.as_str() {
                "true" | "false" => "a boolean",
                text if text.parse::<f64>().is_ok() => "a number",
                _ => "a string",
            },
            Value::Scalar(_) => "a string",
        };
        let complaint = Complaint::new(format!("expected {}, found {found}", expected(shape)));
        let example = shape.get("x-example").and_then(Json::as_str);
        // `key value` is a string.
        let is_colonless = |text: &str| {
            text.split_once(char::is_whitespace).is_some_and(|(key, _)| shape.keys().any(|known| known == key))
        };
        let hint = match &node.value {
            Value::Scalar(Scalar { text, style: Style::Plain }) if is_colonless(text) => {
                Some(String::from("is a `:` missing? Write `key: value`, with a colon and a space"))
            }
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                example.map(|example| format!("write it as in `{example}`"))
            }
        };
        self.wrong(&node.place, Complaint { hint, ..complaint })
    }
}

/// What a place of the schema asks for, in words.
pub fn expected(shape: Shape<'_>) -> String {
    if shape.has("x-switch") {
        return shape.switched().map_or_else(String::new, |inner| format!("`off` or {}", expected(inner)));
    }
    if shape.has("x-one-or-many") {
        return shape.one().map_or_else(String::new, |inner| format!("{}, or a list of such", expected(inner)));
    }
    let words = shape.words();
    match shape.kind() {
        _ if !words.is_empty() => one_of(&words),
        "object" if shape.has("x-short") => String::from("a string or a map"),
        "object" if shape.has("x-named") => String::from("a map of names"),
        "object" => String::from("a map"),
        "array" => String::from("a list"),
        "integer" => {
            let also: String = shape.list("x-words").map(|word| format!(" or `{word}`")).collect();
            format!("a whole number{also}")
        }
        "boolean" => String::from("`true` or `false`"),
        _ => formats::expects(shape.notes.format.unwrap_or_default()).to_owned(),
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// `{env: …}` or `{file: …}`: a string that stands elsewhere.
fn reference(node: &Node) -> Option<&Entry> {
    match node.entries() {
        [entry] if matches!(entry.key.as_str(), "env" | "file") => Some(entry),
        _ => None,
    }
}

/// A default, as if it had been written.
fn from_json(json: &Json) -> Node {
    let value = match json {
        Json::Null => Value::Map(Vec::new()),
        Json::Bool(_) | Json::Number(_) => Value::Scalar(Scalar { text: json.to_string(), style: Style::Plain }),
        Json::String(text) => Value::Scalar(Scalar { text: text.clone(), style: Style::Given }),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(object) => Value::Map(
            object
                .iter()
                .map(|(key, value)| Entry { key: key.clone(), place: Place::Nowhere, value: from_json(value) })
                .collect(),
        ),
    };
    Node { place: Place::Nowhere, value }
}
