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
        let is_path = is_like_a_path(text);
        let is_template = text.contains("${") && text.contains('}');
        if !is_path && !is_template {
            return false;
        }
        let like = if is_path { "the path of a file" } else { "`${…}`" };
        let hint = match (place, is_path, reference) {
            (Place::Environment(name), true, _) => format!("set `{name}_FILE` instead"),
            (_, true, _) => String::from("write `{file: PATH}` instead"),
            (Place::Environment(_), false, _) | (_, false, true) => {
                String::from("set the variable to the secret itself")
            }
            (_, false, false) => String::from("write `{env: NAME}` instead"),
        };
        let what = format!("the secret looks like {like}, and is taken as it is written");
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
            Some(_) | None => {
                let complaint = Complaint::new("systemd gave no credentials: `CREDENTIALS_DIRECTORY` is not set");
                let hint = "give the service `LoadCredential=NAME:PATH`, or use `{file: PATH}` where it is not \
                            systemd that starts it";
                self.wrong(place, complaint.hint(hint))
            }
        }
    }
}

/// `/run/secrets/x`, `./x`, `~/x`. A secret in base64 may begin with a slash, but hardly goes on in small letters up to
/// another one.
fn is_like_a_path(text: &str) -> bool {
    let folder = text.strip_prefix('/').and_then(|rest| rest.split_once('/')).map(|(first, _)| first);
    let is_plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    ["./", "../", "~/"].iter().any(|start| text.starts_with(start)) || folder.is_some_and(is_plain)
}
