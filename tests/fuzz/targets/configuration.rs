//! A file → a plan, or what is wrong with it. All of that has a place and can be printed, and none is a bug of ours.

#![no_main]

use std::io;
use std::path::Path;

use bearerd::config::files::Seen;
use bearerd::config::{Environment, Files, Place, Problem, Sources, load};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "/fuzz/config.yaml";

/// The one file that there is.
struct Only<'a>(&'a [u8]);

impl Files for Only<'_> {
    fn read(&self, path: &Path, limit: usize, _: bool) -> io::Result<Seen> {
        if path != Path::new(FILE) {
            return Err(io::ErrorKind::NotFound.into());
        }
        match self.0.len() > limit {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(Seen { bytes: self.0.to_vec(), world_readable: false }),
        }
    }

    fn folder(&self, _: &Path) -> io::Result<bool> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let flags = [(String::from("config"), String::from(FILE))];
    let environment = Environment::new();
    let sources = Sources { flags: &flags, environment: &environment, files: &Only(bytes), parallelism: 2 };
    match load(&sources) {
        Ok(loaded) => {
            assert!(!loaded.plan.listeners.is_empty() && !loaded.plan.routes.is_empty());
            loaded.warnings.iter().for_each(check);
        }
        Err(problems) => {
            assert!(!problems.problems.is_empty());
            problems.problems.iter().chain(&problems.warnings).for_each(check);
        }
    }
});

fn check(problem: &Problem) {
    assert_ne!(problem.place, Place::Nowhere, "{problem}");
    let told = [Some(&problem.place.to_string()), Some(&problem.path), Some(&problem.what), problem.hint.as_ref()];
    for text in told.into_iter().flatten() {
        assert!(!text.chars().any(char::is_control), "{problem:?}");
    }
    assert!(!problem.what.is_empty());
}
