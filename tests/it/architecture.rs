//! Reads the sources and holds them to the house: a room imports only from rooms below it, one file opens every door.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rooms from the lowest to the highest. Rooms of one row may not import each other either.
const FLOORS: [&[&str]; 12] = [
    &["bug", "secret", "clock", "life"],
    &["files", "observe"],
    &["tls", "wire"],
    &["ca", "token"],
    &["rules"],
    &["outbound"],
    &["forward"],
    &["inbound", "admin"],
    &["config"],
    &["app", "demo"],
    &["cli"],
    &["main", "lib"],
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with its room and its text.
fn files() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    found
        .into_iter()
        .map(|path| {
            let within = path.strip_prefix(&root).unwrap();
            let room = within.components().next().unwrap().as_os_str().to_str().unwrap();
            let room = room.trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (within.to_owned(), room, text)
        })
        .collect()
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.ends_with("_tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

/// The code of a file without its comments and its tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..tests].lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// The rooms that a line of code names by `crate::`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn rooms_import_only_from_below() {
    let floor: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(level, rooms)| rooms.iter().map(move |room| (*room, level))).collect();
    let mut imports = 0;
    for (path, room, text) in files() {
        if is_test(&path) {
            continue;
        }
        let own = floor.get(room.as_str()).unwrap_or_else(|| panic!("{} is in no floor", path.display()));
        for line in code(&text) {
            // Rooms are named one by one, so that this test sees them.
            assert!(!line.contains("use crate::{") && !line.contains("crate::*"), "{}: {line}", path.display());
            for import in named(line).filter(|import| *import != room) {
                let level = floor.get(import).unwrap_or_else(|| panic!("{}: `{import}` is no room", path.display()));
                assert!(level < own, "{} is in `{room}` and imports `{import}`, which is not below it", path.display());
                imports += 1;
            }
        }
    }
    assert!(imports > 50, "only {imports} imports were seen");
}

#[test]
fn a_token_leaves_its_room_by_one_door_and_is_put_on_in_one_place() {
    let mut doors = Vec::new();
    for (path, _, text) in files() {
        if !is_test(&path) && code(&text).any(|line| line.contains(".bearer(") || line.contains(".into_header(")) {
            doors.push(path.display().to_string());
        }
    }
    assert_eq!(doors, ["outbound/outgoing.rs"]);
}

#[test]
fn what_users_get_panics_nowhere_on_purpose() {
    const VARIABLE: &str = "BEARERD_PANIC";
    let named: Vec<_> = files().into_iter().filter(|(_, _, text)| text.contains(VARIABLE)).collect();
    let [(path, _, text)] = &named[..] else { panic!("one file names it: {named:?}") };
    assert_eq!(path, Path::new("bug.rs"));
    // All of it is below this line, and there is nothing without debug assertions but an empty function.
    let (others, armed) = text.split_once("#[cfg(debug_assertions)]\nmod armed {").unwrap();
    let read: Vec<_> = code(others).filter(|line| line.contains(VARIABLE)).collect();
    assert!(read.is_empty() && armed.contains(VARIABLE), "{read:?}");
    assert!(others.contains("#[cfg(not(debug_assertions))]\n#[inline(always)]\npub fn at(_place: &str) {}\n"));
}

#[test]
fn only_cli_prints_and_every_file_says_why_it_exists() {
    for (path, room, text) in files() {
        assert!(text.starts_with("//! "), "{} does not open with why it exists", path.display());
        if room != "cli" && !is_test(&path) {
            let prints = code(&text).any(|line| line.contains("println!(") || line.contains("io::stdout()"));
            // `access_log: stdout` asks for it.
            assert!(
                !prints || path == Path::new("observe/access/sheet.rs"),
                "{} prints to standard output",
                path.display()
            );
        }
    }
}

/// Every test of the tree as `room::file::name`, those beside the code with `tests` in between.
fn tests_of_the_tree() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests/it"] {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
        for file in files {
            let within = file.strip_prefix(root.join(folder)).unwrap().with_extension("");
            let room = within.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod");
            let mut room = room.collect::<Vec<_>>().join("::");
            if folder == "src" && !room.contains("::tests") {
                room = format!("{}::tests", room.trim_end_matches("_tests"));
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('(')).map(|(name, _)| name);
            found.extend(functions.map(|name| format!("{room}::{name}")));
        }
    }
    found
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let page = std::fs::read_to_string(page).unwrap();
    let tests = tests_of_the_tree();
    let is_path = |text: &&str| {
        text.contains("::") && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
    };
    let named: Vec<&str> = page.split('`').filter(is_path).collect();
    assert!(named.len() > 50, "{} are named", named.len());
    for name in named {
        assert!(tests.iter().any(|test| test == name), "docs/security.md names `{name}`, which is no test");
    }
}
