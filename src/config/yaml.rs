//! YAML text → [`Node`].
//!
//! Built on the parser's events, not on a finished value: so a repeated key is one problem among others, and the
//! limits hold while the tree grows. What YAML has and a configuration does not need (tags, several documents, keys
//! that are not scalars) is refused. Must never know what a configuration says.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::problem::{Complaint, Path, Place, Problem, Step};
use super::tree::{Entry, Node, Scalar, Style, Value};

/// Ten thousand routes with everything written out are 6 MiB.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The deepest path of the configuration has 7 steps; each level costs the stack of whoever walks the tree.
const MAX_DEPTH: usize = 32;
/// How many values there may be, what aliases repeat included: ten thousand routes with everything written out are
/// 600,000, and a million take 100 MB while they are read.
const MAX_NODES: usize = 1_000_000;

/// Reads one document. What was understood comes back even beside problems; a text that is not YAML gives `None`.
pub fn parse(file: &Arc<str>, text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { file, problems, open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    let mut parser = Parser::new_from_str(text);
    loop {
        let (event, span) = match parser.next_event() {
            None => break,
            Some(Ok(next)) => next,
            Some(Err(error)) => {
                let complaint = Complaint::new(format!("not valid YAML: {}", error.info()));
                builder
                    .complain(error.marker(), Complaint { hint: cure(error.info()).map(str::to_owned), ..complaint });
                return None;
            }
        };
        if !builder.take(event, span)? {
            break;
        }
    }
    let start = builder.place(&Marker::new(0, 1, 0));
    let root = builder.root.take();
    match root {
        Some(Node { value: Value::Scalar(Scalar { text, style: Style::Plain }), .. }) if is_nothing(&text) => {
            Some(Node::empty_map(start))
        }
        None => Some(Node::empty_map(start)),
        Some(root) => Some(root),
    }
}

/// What most often leads to an error of the parser, whose words are about parsers.
fn cure(info: &str) -> Option<&'static str> {
    let cures = [
        ("tab", "indent with spaces: YAML takes no tabs"),
        ("unexpected character", "put the value in quotes: one cannot begin with `%`, `@` or a backtick"),
        (
            "did not find expected key",
            "let the keys of one map begin in the same column, and each `key: value` be whole",
        ),
        (
            "mapping values are not allowed",
            "indent the line like its neighbours, or put a value with `: ` in it in quotes",
        ),
        ("illegal placement of ':'", "is a `[`, `{` or quote without its end, here or above?"),
        ("in quoted scalar", "is a quote without its end, here or above?"),
        ("simple key", "write `key: value`, with a colon and a space"),
    ];
    cures.into_iter().find(|(symptom, _)| info.contains(symptom)).map(|(_, cure)| cure)
}

/// Whether a plain scalar is YAML's null.
pub fn is_nothing(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

/// A collection that has begun and not ended.
struct Open {
    node: Node,
    anchor: usize,
    /// Of a map: the key whose value comes next; `Some(None)` is one that cannot be a key.
    key: Option<Option<(String, Place)>>,
    /// Of a map: the line of each key so far.
    seen: HashMap<String, u32>,
}

struct Builder<'a> {
    file: &'a Arc<str>,
    problems: &'a mut Vec<Problem>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    /// `Some(false)` ends the document; `None` gives the text up.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<bool> {
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            Event::StreamEnd => return Some(false),
            Event::DocumentStart(_) => {
                if self.root.is_some() {
                    let complaint = Complaint::new("a second document begins here, and one is all that is read");
                    self.complain(&span.start, complaint.hint("remove what follows `---`"));
                    return Some(false);
                }
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    self.complain(&span.start, Complaint::new("this alias stands inside its own anchor"));
                    return None;
                };
                self.count(size(&node), &span.start)?;
                self.put(node, 0, &span.start)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_str = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let style = if style == ScalarStyle::Plain && !is_str { Style::Plain } else { Style::Quoted };
                if tag.is_some() && !is_str {
                    self.complain(
                        &span.start,
                        Complaint::new("a YAML tag has no meaning here").hint("remove the word that starts with `!`"),
                    );
                }
                let scalar = Scalar { text: text.into_owned(), style };
                let node = Node { place: self.place(&span.start), value: Value::Scalar(scalar) };
                self.count(1, &span.start)?;
                self.put(node, anchor, &span.start)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Value::List(Vec::new()), anchor, tag.is_some(), &span.start)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Value::Map(Vec::new()), anchor, tag.is_some(), &span.start)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, anchor, key: _, seen: _ }) = self.open.pop() {
                    self.put(node, anchor, &span.start)?;
                }
            }
        }
        Some(true)
    }

    fn begin(&mut self, value: Value, anchor: usize, tagged: bool, at: &Marker) -> Option<()> {
        if tagged {
            let complaint = Complaint::new("a YAML tag has no meaning here");
            self.complain(at, complaint.hint("remove the word that starts with `!`"));
        }
        if self.open.len() >= MAX_DEPTH {
            self.complain(at, Complaint::new(format!("nested more than {MAX_DEPTH} levels deep")));
            return None;
        }
        self.count(1, at)?;
        let node = Node { place: self.place(at), value };
        self.open.push(Open { node, anchor, key: None, seen: HashMap::new() });
        Some(())
    }

    fn count(&mut self, more: usize, at: &Marker) -> Option<()> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            let complaint = Complaint::new(format!("more than {MAX_NODES} values, aliases included"));
            self.complain(at, complaint.hint("write less, and no aliases inside what an anchor names"));
            return None;
        }
        Some(())
    }

    /// A node is complete: it becomes a key, a value, an item or the document.
    fn put(&mut self, node: Node, anchor: usize, at: &Marker) -> Option<()> {
        if anchor != 0 {
            // Anchors inside anchors are kept more than once, so they count more than once.
            self.count(size(&node), at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(around) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        match &mut around.node.value {
            Value::Scalar(_) => {}
            Value::List(items) => items.push(node),
            Value::Map(entries) => match around.key.take() {
                None => {
                    around.key = match node.value {
                        Value::Scalar(scalar) => Some(Some((scalar.text, node.place))),
                        Value::List(_) | Value::Map(_) => {
                            let complaint = Complaint::new("a key must be a single word");
                            self.problems.push(Problem::new(node.place, &Path::default(), complaint));
                            Some(None)
                        }
                    };
                }
                Some(None) => {}
                Some(Some((key, place))) => {
                    let line = if let Place::File { line, .. } = place { line } else { 0 };
                    match around.seen.get(&key) {
                        Some(first) => {
                            let what = format!("written twice, the first time in line {first}");
                            let path = self.path().with(key.as_str());
                            self.problems.push(Problem::new(
                                place,
                                &path,
                                Complaint::new(what).hint("keep one of the two"),
                            ));
                        }
                        None => {
                            around.seen.insert(key.clone(), line);
                            let mut value = node;
                            if matches!(&value.value, Value::Scalar(Scalar { text, style: Style::Plain }) if text.is_empty())
                            {
                                // What is not there stands nowhere; its key does.
                                value.place = place.clone();
                            }
                            entries.push(Entry { key, place, value });
                        }
                    }
                }
            },
        }
        Some(())
    }

    /// Where the builder stands.
    fn path(&self) -> Path {
        let steps = self.open.iter().enumerate().filter_map(|(index, open)| match (&open.node.value, &open.key) {
            (Value::List(items), _) => Some(Step::Index(items.len())),
            // The key that is being completed belongs to the problem, not to the way to it.
            (Value::Map(_), Some(Some((key, _)))) if index + 1 < self.open.len() => Some(Step::Key(key.clone())),
            _ => None,
        });
        Path(steps.collect())
    }

    fn place(&self, at: &Marker) -> Place {
        Place::File {
            file: self.file.clone(),
            line: u32::try_from(at.line()).unwrap_or(u32::MAX),
            column: u32::try_from(at.col() + 1).unwrap_or(u32::MAX),
        }
    }

    fn complain(&mut self, at: &Marker, complaint: Complaint) {
        let problem = Problem::new(self.place(at), &Path::default(), complaint);
        self.problems.push(problem);
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
    }
}
