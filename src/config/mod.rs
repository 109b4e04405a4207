//! What the user wrote, every problem of it at once, and the plan that it amounts to.
//!
//! `yaml` reads the file into a `tree` in which everything knows its place; `sources` puts flags and environment over
//! it, and `presets` what is known of a provider under it; `check` holds it against the `schema` that the types in
//! `written` make; `translate` turns the words into a `plan`. The schema also makes the reference page. This room knows
//! every other room's settings, and no room knows it. Must never know sockets or tasks.

pub mod check;
pub mod files;
pub mod formats;
pub mod plan;
pub mod presets;
pub mod problem;
pub mod redacted;
pub mod reference;
pub mod schema;
pub mod sources;
pub mod translate;
pub mod tree;
pub mod words;
pub mod written;
pub mod yaml;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use serde::Deserialize as _;

pub use self::files::{Disk, Files};
pub use self::plan::{Plan, Shutdown};
pub use self::problem::{Place, Problem, Problems};
pub use self::sources::{Environment, SETTINGS, Setting};

use self::check::Outside;
use self::problem::{Complaint, Path, Report};
use self::sources::Overlay;
use self::translate::Written;
use self::tree::Node;
use self::written::Document;

/// Read when nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/bearerd/config.yaml";

/// Everything that a configuration is made from, so that a test can make all of it up.
pub struct Sources<'a> {
    /// Name without dashes, and value, in the order of the command line; the last of a name counts.
    pub flags: &'a [(String, String)],
    pub environment: &'a Environment,
    pub files: &'a dyn Files,
    /// What the machine or the cgroup grants: [`std::thread::available_parallelism`].
    pub parallelism: usize,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub plan: Plan,
    /// In order of place.
    pub warnings: Vec<Problem>,
    pub origin: Origin,
}

/// Where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    /// Flags and environment alone.
    Given,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => fmt::Display::fmt(&path.display(), f),
            Self::Given => f.write_str("flags and environment"),
        }
    }
}

/// The plan that the sources amount to, or everything that is wrong with them.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Problems> {
    let mut report = Report::default();
    let overlay = Overlay::read(sources.flags, sources.environment, &mut report);
    let (origin, tree) = read(sources, &overlay, &mut report);
    let plan = tree.and_then(|mut tree| {
        let name = match &origin {
            Origin::File(path) => path.to_str(),
            Origin::Given => None,
        };
        overlay.apply(&mut tree, name, &mut report);
        plan(sources, &mut tree, &origin, &mut report)
    });
    let warnings = report.finish()?;
    match plan {
        Some(plan) => Ok(Loaded { plan, warnings, origin }),
        // Nothing is lost without a word, but the types cannot tell.
        None => Err(internal("the configuration was lost on the way").into()),
    }
}

/// The tree of the file that is to be read, or of none.
fn read(sources: &Sources<'_>, overlay: &Overlay, report: &mut Report) -> (Origin, Option<Node>) {
    let named = overlay.config();
    if named.is_none() && overlay.names_upstream() {
        return (Origin::Given, Some(Overlay::bare_tree()));
    }
    let path = named.map_or(DEFAULT_FILE, |(_, path)| path);
    let origin = Origin::File(PathBuf::from(path));
    let complain = |report: &mut Report, what: String, hint: Option<&str>| {
        let place = named.map_or_else(|| Place::WholeFile(path.into()), |(place, _)| place.clone());
        let what = if named.is_some() { format!("`{path}` {what}") } else { what };
        let complaint = Complaint { what, hint: hint.map(str::to_owned) };
        report.problems.push(Problem::new(place, &Path::default(), complaint));
    };
    let seen = match sources.files.read(FilePath::new(path), yaml::MAX_BYTES, false) {
        Ok(seen) => seen,
        Err(error) => {
            let hint = if overlay.is_for_a_route() {
                "it is read because neither flags nor environment name an upstream; set `BEARERD_UPSTREAM` \
                 (`--upstream`) to go without it, or name a file with `--config`"
            } else {
                "write it, name another file with `--config`, set `BEARERD_UPSTREAM` and go without one, or see all of \
                 it at work first with `bearerd demo`"
            };
            let why = files::why(&error);
            let cure = match error.kind() == std::io::ErrorKind::NotFound {
                true => Some(
                    "correct the path, which starts where the command is run; `bearerd init PROVIDER` prints a \
                     configuration to begin with",
                ),
                false => files::cure(&why),
            };
            complain(report, why, if named.is_none() { Some(hint) } else { cure });
            return (origin, None);
        }
    };
    match std::str::from_utf8(&seen.bytes) {
        Ok(text) if text.trim().is_empty() && !overlay.names_upstream() => {
            let complaint =
                Complaint::new("the file is empty").hint("`bearerd init PROVIDER` prints one to begin with");
            report.problems.push(Problem::new(Place::WholeFile(path.into()), &Path::default(), complaint));
            (origin, None)
        }
        Ok(text) => {
            let tree = yaml::parse(&Arc::from(path), text, &mut report.problems);
            (origin, tree)
        }
        Err(_) => {
            complain(report, String::from("is not UTF-8"), None);
            (origin, None)
        }
    }
}

fn plan(sources: &Sources<'_>, tree: &mut Node, origin: &Origin, report: &mut Report) -> Option<Plan> {
    let folder = match origin {
        Origin::File(path) => path.parent().map(FilePath::to_owned).unwrap_or_default(),
        Origin::Given => PathBuf::new(),
    };
    let outside = Outside { environment: sources.environment, files: sources.files, folder };
    presets::merge(tree, &outside);
    presets::left_over(tree, report);
    let mut checked = check::check(&schema::inner(), tree, &outside, report);
    if let Origin::File(path) = origin {
        checked.files.insert(path.clone());
    }
    if checked.json.is_null() {
        return None;
    }
    // Whatever was wrong has its default by now, so this has the shape of a document; errors of serde could quote a
    // secret.
    let Ok(document) = Document::deserialize(checked.json) else {
        report.problems.push(internal("the check and the document disagree"));
        return None;
    };
    let written = Written { tree, bad: &checked.bad, parallelism: sources.parallelism, without_file: sources::cure };
    let mut plan = translate::translate(document, &written, checked.files, report);
    plan.withhold(checked.secret_variables);
    Some(plan)
}

fn internal(what: &str) -> Problem {
    Problem::new(Place::Nowhere, &Path::default(), Complaint::new(format!("a bug in bearerd: {what}")))
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem], warnings: Vec::new() }
    }
}
