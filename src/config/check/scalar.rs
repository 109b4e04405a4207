//! Texts, words, numbers and booleans, and the references that a text may be.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path as FilePath, PathBuf};

use serde_json::{Value as Json, json};

use super::super::files::{Files, cure, why};
use super::super::formats::{self, STDOUT};
use super::super::problem::{Complaint, Place, did_you_mean};
use super::super::tree::{Node, Scalar, Style, Value};
use super::secret::is_secret;
use super::{Shape, Walk, expected, reference};

/// Secrets and texts longer than this are somebody else's file.
const MAX_TEXT: usize = 64 * 1024;
/// The system's bundle of certificates has 250 KiB.
const MAX_PEM: usize = 4 * 1024 * 1024;

/// What a configuration may refer to outside of itself.
pub struct Outside<'a> {
    pub environment: &'a BTreeMap<String, OsString>,
    pub files: &'a dyn Files,
    /// Where relative paths start.
    pub folder: PathBuf,
}

impl Walk<'_> {
    pub(super) fn scalar(&mut self, shape: Shape<'_>, node: &Node) -> Option<Json> {
        match shape.kind() {
            "integer" => self.integer(shape, node),
            "boolean" => self.boolean(shape, node),
            _ if is_secret(shape) => self.secret(shape, node),
            _ => self.string(shape, node),
        }
    }

    fn integer(&mut self, shape: Shape<'_>, node: &Node) -> Option<Json> {
        let Value::Scalar(Scalar { text, style }) = &node.value else { return self.unexpected(shape, node) };
        if shape.list("x-words").any(|word| word == text) {
            return Some(Json::String(text.clone()));
        }
        let number = match text.parse::<i64>() {
            Ok(number) if *style != Style::Quoted => number,
            _ => return self.unexpected(shape, node),
        };
        let (least, most) = (shape.notes.minimum.unwrap_or(0), shape.notes.maximum.unwrap_or(i64::MAX));
        if number < least || number > most {
            return self.wrong(&node.place, Complaint::new(format!("out of range: from {least} to {most}")));
        }
        Some(json!(number))
    }

    fn boolean(&mut self, shape: Shape<'_>, node: &Node) -> Option<Json> {
        let Value::Scalar(Scalar { text, .. }) = &node.value else { return self.unexpected(shape, node) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "on" => Some(Json::Bool(true)),
            "false" | "off" => Some(Json::Bool(false)),
            _ => self.unexpected(shape, node),
        }
    }

    fn string(&mut self, shape: Shape<'_>, node: &Node) -> Option<Json> {
        let text = self.text(shape, node)?;
        let words = shape.words();
        if !words.is_empty() {
            return self.word(shape, &words, &text, &node.place);
        }
        let Some(format) = shape.notes.format else { return Some(Json::String(text)) };
        if let Err(complaint) = formats::check(format, &text) {
            return self.wrong(&node.place, complaint);
        }
        if let Some(complaint) = out_of_range(shape, format, &text) {
            return self.wrong(&node.place, complaint);
        }
        match format {
            "file" => self.file(shape, &text, &node.place),
            "folder" => self.folder(&text, &node.place),
            "new-folder" => self.new_path(&text, &node.place),
            "new-file" if text == STDOUT => Some(Json::String(text)),
            "new-file" => self.new_path(&text, &node.place),
            "listen-address" => self.listen_address(text, &node.place),
            _ => Some(Json::String(text)),
        }
    }

    fn word(&mut self, shape: Shape<'_>, words: &[&str], text: &str, place: &Place) -> Option<Json> {
        if words.contains(&text) {
            return Some(Json::String(text.to_owned()));
        }
        // `basic` for `client_secret_basic`: the end of one word alone.
        let mut ending = words.iter().filter(|word| word.strip_suffix(text).is_some_and(|start| start.ends_with('_')));
        let meant = match (ending.next(), ending.next()) {
            (Some(word), None) => format!(" (did you mean `{word}`?)"),
            (_, _) => did_you_mean(text, words.iter().copied()),
        };
        self.wrong(place, Complaint::new(format!("expected {}{meant}", expected(shape))))
    }

    /// The text itself, or what a reference leads to.
    fn text(&mut self, shape: Shape<'_>, node: &Node) -> Option<String> {
        match &node.value {
            Value::Scalar(Scalar { text, style: Style::Plain }) if is_boolean(text) => {
                let what = format!("expected {}, found a boolean", expected(shape));
                self.wrong(&node.place, Complaint::new(what).hint("put it in quotes if it is meant as text"))
            }
            Value::Scalar(scalar) => Some(scalar.text.clone()),
            Value::List(_) => self.unexpected(shape, node),
            Value::Map(_) => match self.resolve(shape, node)? {
                Resolved::Variable(text) => Some(text),
                Resolved::File(path) => {
                    let text = self.read_text(&path, shape.notes.sensitive, &node.place)?;
                    self.files.insert(path);
                    Some(text)
                }
            },
        }
    }

    /// Where `{env: …}` or `{file: …}` leads.
    pub(super) fn resolve(&mut self, shape: Shape<'_>, node: &Node) -> Option<Resolved> {
        let Some(entry) = reference(node) else {
            let keys = node.entries().iter().map(|entry| entry.key.as_str());
            if node.entries().len() > 1 && keys.clone().any(|key| matches!(key, "env" | "file")) {
                return self.wrong(&node.place, Complaint::new("a reference has one key: `env` or `file`"));
            }
            return self.unexpected(shape, node);
        };
        let Value::Scalar(Scalar { text, .. }) = &entry.value.value else {
            let what = format!("`{}` takes one string", entry.key);
            return self.wrong(&entry.value.place, Complaint::new(what));
        };
        if entry.key == "file" {
            if text.is_empty() {
                return self.wrong(&entry.value.place, Complaint::new("`file` names no file"));
            }
            return Some(Resolved::File(self.locate(text, &entry.value.place)));
        }
        // A name that looks like none may be a secret in the wrong place.
        let is_name = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        let name = if is_name { format!("`{text}`") } else { String::from("that is named here") };
        match self.outside.environment.get(text).map(|value| value.to_str()) {
            Some(Some(value)) => {
                if shape.notes.sensitive {
                    self.secret_variables.insert(text.clone());
                }
                Some(Resolved::Variable(value.to_owned()))
            }
            Some(None) => {
                self.wrong(&entry.value.place, Complaint::new(format!("the environment variable {name} is not UTF-8")))
            }
            // Who only asks after a service need not know its secrets: then one is away, as a file's may be. What stands in
            // for it is no proxy's URL.
            None if (is_secret(shape) || shape.notes.sensitive && shape.notes.format != Some("proxy"))
                && !text.is_empty()
                && !self.outside.files.is_real() =>
            {
                Some(Resolved::File(PathBuf::from(text)))
            }
            None => {
                let complaint = Complaint::new(format!("the environment variable {name} is not set"));
                let hint = "set it where bearerd is started: `export` in a shell, `Environment=` of systemd, `env` of a \
                            container";
                self.wrong(&entry.value.place, complaint.hint(hint))
            }
        }
    }

    /// A relative path in the file starts beside the file; one that was typed starts where it was typed.
    fn locate(&self, path: &str, place: &Place) -> PathBuf {
        match place {
            Place::Flag(_) | Place::Environment(_) => PathBuf::from(path),
            Place::File { .. } | Place::WholeFile(_) | Place::Preset(_) | Place::Nowhere => {
                self.outside.folder.join(path)
            }
        }
    }

    /// A file's text without its trailing newline.
    pub(super) fn read_text(&mut self, path: &FilePath, sensitive: bool, place: &Place) -> Option<String> {
        let text =
            self.look(path, MAX_TEXT, sensitive, place, |bytes| std::str::from_utf8(bytes).map(str::to_owned).ok())?;
        match text {
            Some(text) => {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Some(line.strip_suffix('\r').unwrap_or(line).to_owned())
            }
            None => self.wrong(place, Complaint::new(format!("`{}` is not UTF-8 text", path.display()))),
        }
    }

    /// A file that somebody else reads: here it only has to be there.
    fn file(&mut self, shape: Shape<'_>, text: &str, place: &Place) -> Option<Json> {
        let path = self.locate(text, place);
        let empty = self.look(&path, MAX_PEM, shape.notes.sensitive, place, <[u8]>::is_empty)?;
        self.files.insert(path.clone());
        if empty {
            return self.wrong(place, Complaint::new(format!("`{}` is empty", path.display())));
        }
        Some(Json::String(path.to_str()?.to_owned()))
    }

    /// A folder that is written to: here it has to be there and to take it.
    fn folder(&mut self, text: &str, place: &Place) -> Option<Json> {
        let path = self.locate(text, place);
        match self.outside.files.folder(&path) {
            Err(error) => {
                let complaint = Complaint::new(format!("`{}` {}", path.display(), why(&error)));
                let hint = "make it for the user that bearerd runs as: `install -d -m 0700 -o USER PATH`; systemd does \
                            it with `StateDirectory=`";
                self.wrong(place, complaint.hint(hint))
            }
            Ok(open) => {
                if open {
                    let what = format!("`{}` can be entered by other users of this machine", path.display());
                    self.warn(place, Complaint::new(what).hint("take the right away with `chmod 0700`"));
                }
                Some(Json::String(path.to_str()?.to_owned()))
            }
        }
    }

    /// A folder or a file that is made where it is needed, and looked at then.
    fn new_path(&self, text: &str, place: &Place) -> Option<Json> {
        Some(Json::String(self.locate(text, place).to_str()?.to_owned()))
    }

    /// A unix socket is made in a folder, which has to be there and to take it, unless it is there already: then it is one
    /// that is handed over at the start, or in the way, which is seen when it is bound.
    fn listen_address(&mut self, text: String, place: &Place) -> Option<Json> {
        let path = text.strip_prefix("unix:").map(FilePath::new);
        let folder = path.and_then(FilePath::parent);
        match folder.map(|folder| (folder, self.outside.files.folder(folder))) {
            Some((folder, Err(error))) if !path.is_some_and(|path| self.outside.files.is_socket(path)) => {
                let complaint = Complaint::new(format!("the socket's folder `{}` {}", folder.display(), why(&error)));
                let hint = "make it for the user that bearerd runs as: `install -d -m 0755 -o USER FOLDER`; systemd does \
                            it with `RuntimeDirectory=`";
                self.wrong(place, complaint.hint(hint))
            }
            Some(_) | None => Some(Json::String(text)),
        }
    }

    fn look<T>(
        &mut self,
        path: &FilePath,
        limit: usize,
        sensitive: bool,
        place: &Place,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let files = self.outside.files;
        let seen = self
            .seen
            .entry(path.to_owned())
            .or_insert_with(|| files.read(path, MAX_PEM, true).map_err(|error| why(&error)));
        let outcome = match seen {
            Ok(seen) if seen.bytes.len() > limit => Err(format!("is larger than {limit} bytes")),
            Ok(seen) => Ok((take(&seen.bytes), seen.world_readable)),
            Err(why) => Err(why.clone()),
        };
        match outcome {
            Err(why) => {
                let mut complaint = Complaint::new(format!("`{}` {why}", path.display()));
                complaint.hint = cure(&why).map(str::to_owned);
                self.wrong(place, complaint)
            }
            Ok((taken, world_readable)) => {
                if sensitive && world_readable && self.warned.insert(path.to_owned()) {
                    let what = format!("`{}` can be read by every user of this machine", path.display());
                    self.warn(place, Complaint::new(what).hint("take the right away with `chmod o-r`"));
                }
                Some(taken)
            }
        }
    }
}

pub(super) enum Resolved {
    Variable(String),
    File(PathBuf),
}

fn is_boolean(plain: &str) -> bool {
    matches!(plain, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

fn out_of_range(shape: Shape<'_>, format: &str, text: &str) -> Option<Complaint> {
    let measure = |text: &str| match format {
        "duration" => formats::duration(text).ok().map(|duration| duration.as_secs_f64()),
        // Sizes up to 2^53 are exact, and the largest limit is far below.
        "size" => formats::size(text).ok().map(|size| size as f64),
        "percent" => formats::percent(text).ok(),
        _ => None,
    };
    let (below, above) = match format {
        "duration" => ("too short", "too long"),
        _ => ("too small", "too large"),
    };
    let value = measure(text)?;
    if let Some(least) = shape.notes.min.filter(|least| measure(least).is_some_and(|least| value < least)) {
        return Some(Complaint::new(format!("{below}: at least `{least}`")));
    }
    let most = shape.notes.max.filter(|most| measure(most).is_some_and(|most| value > most))?;
    Some(Complaint::new(format!("{above}: at most `{most}`")))
}
