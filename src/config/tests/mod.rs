//! Configurations made up in memory: files, environment and flags included.

mod bad;
mod contract;
mod pages;
mod plan;
mod presets;
mod proofs;
mod scale;
mod sources;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path as FilePath, PathBuf};

use super::files::{Files, Seen};
use super::{DEFAULT_FILE, Loaded, Problem, Problems, Sources, load};

/// Files that exist only here, by path.
#[derive(Default)]
struct Shelf(BTreeMap<PathBuf, Seen>);

impl Shelf {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), Seen { bytes: text.as_bytes().to_vec(), world_readable: false });
        self
    }
}

impl Files for Shelf {
    fn read(&self, path: &FilePath, limit: usize, _: bool) -> io::Result<Seen> {
        let seen = self.0.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        match seen.bytes.len() > limit {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is larger than {limit} bytes"))),
            false => Ok(seen),
        }
    }

    /// Only three there are, and one of them is open to others.
    fn folder(&self, path: &FilePath) -> io::Result<bool> {
        match path.to_str() {
            Some("/var/lib/bearerd" | "/run/bearerd") => Ok(false),
            Some("/etc/bearerd/open") => Ok(true),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_socket(&self, path: &FilePath) -> bool {
        path == FilePath::new("/run/handed-over.sock")
    }
}

/// The files that the documents of these tests name.
fn shelf() -> Shelf {
    Shelf::default()
        .with("/etc/bearerd/secret", "s3cret\n")
        .with("/etc/bearerd/other", "other\n")
        .with("/etc/bearerd/empty", "\n")
        .with("/etc/bearerd/ca.pem", "PEM")
        .with("/etc/bearerd/key.pem", "PEM")
        .with("/etc/bearerd/rsa.pem", include_str!("rsa.pem"))
        .with("/etc/bearerd/ec.pem", include_str!("ec.pem"))
        .with("/run/secrets/current", "current\n")
        .with("/run/secrets/standby", "standby\n")
        .with("/run/secrets/apim", "key\n")
}

/// Everything that [`load`] asks for, with defaults.
#[derive(Default)]
struct Given {
    flags: Vec<(String, String)>,
    environment: BTreeMap<String, OsString>,
    files: Shelf,
}

impl Given {
    /// The document at the default place.
    fn document(text: &str) -> Self {
        Self { files: shelf().with(DEFAULT_FILE, text), ..Self::default() }
    }

    fn nothing() -> Self {
        Self { files: shelf(), ..Self::default() }
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push((name.into(), value.into()));
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files = self.files.with(path, text);
        self
    }

    fn load(&self) -> Result<Loaded, Problems> {
        load(&Sources { flags: &self.flags, environment: &self.environment, files: &self.files, parallelism: 8 })
    }

    #[track_caller]
    fn good(&self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("unexpected problems:\n{problems}"))
    }

    /// The problems, one line each, hints left out.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        match self.load() {
            Ok(_) => panic!("no problem was found"),
            Err(problems) => lines(&problems.problems),
        }
    }

    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        lines(&self.good().warnings)
    }
}

/// Without the file's name, which is always the same.
fn lines(problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        let text = Problem { hint: None, ..problem.clone() }.to_string();
        text.strip_prefix("/etc/bearerd/config.yaml:").unwrap_or(&text).to_owned()
    };
    problems.iter().map(line).collect()
}

/// A token and a route that have nothing wrong with them.
const TOKEN: &str =
    "tokens: {a: {token_url: 'https://id.example.com/t', client_id: c, client_secret: {file: secret}}}\n";
const ROUTE: &str = "routes: [{upstream: 'https://api.example.com'}]\n";

fn good_document() -> String {
    format!("{TOKEN}{ROUTE}")
}
