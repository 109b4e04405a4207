//! Secrets and private keys: where each may come from, and whether it is what it should be.
//!
//! A file is looked at once, so that a wrong one is told at start; a command is not run, because that may cost or ask
//! for something. Must never know what a secret is for.

use serde_json::{Value as Json, json};

use super::super::formats;
use super::super::problem::{Complaint, Place};
use super::super::tree::{Entry, Node, Scalar, Style, Value};
use super::scalar::Resolved;
use super::{Shape, Walk};

/// How long a command may take where nothing is said.
const TIMEOUT: &str = "10s";

pub(super) fn is_secret(shape: Shape<'_>) -> bool {
    matches!(shape.notes.format, Some("secret" | "private-key"))
}

impl Walk<'_> {
    pub(super) fn secret(&mut self, shape: Shape<'_>, node: &Node) -> Option<Json> {
        let text = match &node.value {
            Value::List(_) => return self.unexpected(shape, node),
            Value::Scalar(scalar) => {
                if !self.taken_literally(&scalar.text, &node.place, false) && scalar.style != Style::Given {
                    let complaint = Complaint::new("a secret is written in the configuration");
                    self.warn(&node.place, complaint.hint("use `{file: PATH}` or `{env: NAME}`"));
                }
                scalar.text.clone()
            }
            Value::Map(entries) if entries.iter().any(|entry| entry.key == "exec") => return self.exec(entries, node),
            Value::Map(entries) => {
                let resolved = match &entries[..] {
                    [entry] if entry.key == "systemd" => self.systemd(entry)?,
                    _ => self.resolve(shape, node)?,
                };
                match resolved {
                    Resolved::Variable(text) => {
                        self.taken_literally(&text, &node.place, true);
                        text
                    }
                    Resolved::File(path) => {
                        let text = self.read_text(&path, true, &node.place)?;
                        self.files.insert(path.clone());
                        let found = json!({"file": path.to_str()?});
                        return self.usable(shape, &text, &node.place, found);
                    }
                }
            }
        };
        self.usable(shape, &text, &node.place, json!({"inline": text}))
    }

    /// Warns of a secret that was meant to lead to one, and says whether it did.
    fn taken_literally(&mut self, text: &str, place: &Place, reference: bool) -> bool {
        let Some(like) = Like::of(text) else { return false };
        let hint = match (place, like, reference) {
            (Place::Environment(name), Like::Path, _) => format!("set `{name}_FILE` instead"),
            (_, Like::Path, _) => String::from("write `{file: PATH}` instead"),
            (Place::Environment(_), Like::Variable | Like::Reference, _) | (_, Like::Variable, true) => {
                String::from("set the variable to the secret itself")
            }
            (_, Like::Variable, false) => String::from("write `{env: NAME}` instead"),
            (_, Like::Reference, _) => String::from("write it without quotes, braces and all: `{file: PATH}`"),
        };
        let what = format!("the secret looks like {}, and is taken as it is written", like.word());
        self.warn(place, Complaint::new(what).hint(hint));
        true
    }

    /// `found`, once the secret in it is one.
    fn usable(&mut self, shape: Shape<'_>, text: &str, place: &Place, mut found: Json) -> Option<Json> {
        if found.get("file").is_some() && !self.outside.files.is_real() {
            return Some(found);
        }
        if shape.notes.format == Some("private-key") {
            match formats::private_key(text) {
                Ok(algs) => found["algs"] = algs.iter().map(|alg| alg.as_str()).collect(),
                Err(complaint) => return self.wrong(place, complaint),
            }
        } else if let Err(complaint) = formats::secret(text) {
            return self.wrong(place, complaint);
        } else if let Some(stray) = stray(text) {
            let complaint = Complaint::new(format!("the secret {stray}, and that is taken as a part of it"));
            self.warn(
                place,
                complaint.hint("leave it out where the secret is kept; if it does belong there, all is well"),
            );
        }
        Some(found)
    }

    /// `{exec: [COMMAND, …], timeout: …}`.
    fn exec(&mut self, entries: &[Entry], node: &Node) -> Option<Json> {
        let mut found = json!({"timeout": TIMEOUT});
        for entry in entries {
            match entry.key.as_str() {
                "exec" => found["exec"] = self.command(&entry.value)?,
                "timeout" => {
                    let complaint = match &entry.value.value {
                        Value::Scalar(Scalar { text, .. }) => match formats::duration(text) {
                            Ok(timeout) if (0.1..=300.0).contains(&timeout.as_secs_f64()) => {
                                found["timeout"] = json!(text);
                                continue;
                            }
                            Ok(_) => Complaint::new("the time of a command is from `100ms` to `5m`"),
                            Err(complaint) => complaint,
                        },
                        Value::List(_) | Value::Map(_) => Complaint::new("`timeout` takes a duration such as `30s`"),
                    };
                    return self.wrong(&entry.value.place, complaint);
                }
                _ => {
                    let complaint = Complaint::new("beside `exec` there may be `timeout`, and nothing else");
                    return self.wrong(&node.place, complaint);
                }
            }
        }
        Some(found)
    }

    fn command(&mut self, node: &Node) -> Option<Json> {
        let list = |complaint: Complaint| complaint.hint("write program and arguments: `exec: [/usr/bin/vault, read]`");
        let Value::List(words) = &node.value else {
            return self.wrong(&node.place, list(Complaint::new("`exec` takes a list; no shell reads it")));
        };
        let mut command = Vec::with_capacity(words.len());
        for word in words {
            match &word.value {
                Value::Scalar(Scalar { text, .. }) if !text.contains('\0') => command.push(text.as_str()),
                Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                    return self.wrong(&word.place, Complaint::new("an argument of a command is a string"));
                }
            }
        }
        match command.first() {
            None => self.wrong(&node.place, list(Complaint::new("the command is empty"))),
            // What `PATH` or the working directory happens to be must not say which program gets to print a secret.
            Some(program) if !program.starts_with('/') => {
                self.wrong(&node.place, list(Complaint::new("the program's path does not start with `/`")))
            }
            Some(_) => Some(json!(command)),
        }
    }

    /// `{systemd: NAME}`: what `LoadCredential=` put into the service's folder.
    fn systemd(&mut self, entry: &Entry) -> Option<Resolved> {
        let place = &entry.value.place;
        let name = match &entry.value.value {
            Value::Scalar(Scalar { text, .. }) => text.as_str(),
            Value::List(_) | Value::Map(_) => {
                return self.wrong(place, Complaint::new("`systemd` takes one string"));
            }
        };
        if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\0']) {
            return self.wrong(place, Complaint::new("not the name of a credential"));
        }
        match self.outside.environment.get("CREDENTIALS_DIRECTORY").and_then(|folder| folder.to_str()) {
            Some(folder) if !folder.is_empty() => Some(Resolved::File([folder, name].iter().collect())),
            // Who only asks after a service is not it, and systemd gave them nothing.
            Some(_) | None if !self.outside.files.is_real() => Some(Resolved::File(name.into())),
            Some(_) | None => {
                let complaint = Complaint::new("systemd gave no credentials: `CREDENTIALS_DIRECTORY` is not set");
                let hint = "give the service `LoadCredential=NAME:PATH`, or use `{file: PATH}` where it is not \
                            systemd that starts it";
                self.wrong(place, complaint.hint(hint))
            }
        }
    }
}

/// What a text may have been meant as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Like {
    Path,
    Variable,
    Reference,
}

impl Like {
    fn of(text: &str) -> Option<Self> {
        let is_name = |name: &str| {
            name.starts_with(|letter: char| letter.is_ascii_uppercase())
                && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let is_template = text.contains("${") && text.contains('}');
        // `{file: secret}` in quotes, and `file: secret` without braces.
        let inner = text.trim_start_matches('{');
        let is_reference = ["file:", "env:", "exec:", "systemd:"].iter().any(|start| inner.starts_with(start));
        if is_like_a_path(text) {
            Some(Self::Path)
        } else if is_template || text.strip_prefix('$').is_some_and(is_name) {
            Some(Self::Variable)
        } else {
            is_reference.then_some(Self::Reference)
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Path => "the path of a file",
            Self::Variable => "a variable of a shell",
            Self::Reference => "a reference to one",
        }
    }
}

/// What got into a secret with an editor or a shell, as a rule: no provider hands such out.
fn stray(text: &str) -> Option<&'static str> {
    let quoted = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if text.starts_with('\u{feff}') {
        Some("begins with a byte order mark")
    } else if text.trim() != text {
        Some("begins or ends with a space")
    } else if quoted('"') || quoted('\'') {
        Some("stands in quotes")
    } else {
        None
    }
}

/// `/run/secrets/x`, `./x`, `~/x`. A secret in base64 may begin with a slash, but hardly goes on in small letters up to
/// another one.
fn is_like_a_path(text: &str) -> bool {
    let folder = text.strip_prefix('/').and_then(|rest| rest.split_once('/')).map(|(first, _)| first);
    let is_plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    ["./", "../", "~/"].iter().any(|start| text.starts_with(start)) || folder.is_some_and(is_plain)
}
