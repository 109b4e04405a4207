//! Reads the files of the corpus. What is malformed panics with its file and line.

use std::path::Path;

/// One file: a class of messages and what becomes of each of them.
pub(super) struct Class {
    name: String,
    keys: Vec<(String, String)>,
    pub(super) payloads: Vec<Payload>,
}

/// One message, as it is written.
#[derive(Clone)]
pub(super) struct Payload {
    /// File, line and label, for whoever has to find it.
    pub(super) place: String,
    text: String,
}

/// All classes of a folder, by name. There are never fewer than `least`: a folder that is not found is not a pass.
pub(super) fn classes(folder: &str, keys: &[&str], least: usize) -> Vec<Class> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let names = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(root.join(folder)).unwrap().map(names).collect();
    names.sort();
    assert!(names.len() >= least, "{} files in {folder}, there were {least}", names.len());
    let described = std::fs::read_to_string(root.join("README.md")).unwrap();
    for name in &names {
        assert!(described.contains(&format!("`{}`", name.trim_end_matches(".txt"))), "README.md lacks {folder}/{name}");
    }
    let read = |name: &String| std::fs::read_to_string(root.join(folder).join(name)).unwrap();
    names.iter().map(|name| Class::parse(&format!("{folder}/{name}"), &read(name), keys)).collect()
}

impl Class {
    fn parse(name: &str, text: &str, known: &[&str]) -> Self {
        let (mut keys, mut payloads) = (Vec::new(), Vec::<Payload>::new());
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            assert!(!line.ends_with([' ', '\t']), "{place}: a blank at the end cannot be seen; write \\x20 or \\t");
            if let Some(label) = line.strip_prefix("---") {
                payloads.push(Payload { place: format!("{place}{label}"), text: String::new() });
            } else if let Some(payload) = payloads.last_mut() {
                unescape(line, 0, &place);
                payload.text.push_str(line);
            } else if !line.is_empty() && !line.starts_with('#') {
                let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{place}: not `key: value`"));
                assert!(known.contains(&key), "{place}: no key is called {key}");
                keys.push((key.to_owned(), value.to_owned()));
            }
        }
        assert!(text.starts_with("# "), "{name} does not begin with what it is about");
        assert!(payloads.iter().all(|payload| !payload.text.is_empty()), "{name} has an empty payload");
        assert!(!payloads.is_empty(), "{name} has no payload");
        Self { name: name.to_owned(), keys, payloads }
    }

    /// The values of a key that may be there.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.keys.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// The value of a key that must be there.
    pub(super) fn must(&self, key: &str) -> &str {
        self.get(key).unwrap_or_else(|| panic!("{} lacks `{key}`", self.name))
    }

    /// What bytes the key stands for; none if it is not there.
    pub(super) fn bytes(&self, key: &str) -> Vec<u8> {
        unescape(self.get(key).unwrap_or_default(), 0, &self.name)
    }
}

impl Payload {
    /// The bytes, with this number in the place of `\#`.
    pub(super) fn bytes(&self, number: usize) -> Vec<u8> {
        unescape(&self.text, number, &self.place)
    }
}

fn unescape(text: &str, number: usize, place: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let meant = escape(escaped, number, place);
        let (meant, after) = meant.unwrap_or_else(|| panic!("{place}: no escape begins with \\{escaped}"));
        bytes.extend(meant);
        rest = after;
    }
    bytes.extend(rest.as_bytes());
    bytes
}

/// What stands behind a backslash, and what is left.
fn escape<'a>(escaped: &'a str, number: usize, place: &str) -> Option<(Vec<u8>, &'a str)> {
    let rest = escaped.get(1..)?;
    Some(match escaped.as_bytes()[0] {
        b'r' => (b"\r".to_vec(), rest),
        b'n' => (b"\n".to_vec(), rest),
        b't' => (b"\t".to_vec(), rest),
        b'0' => (b"\0".to_vec(), rest),
        b'\\' => (b"\\".to_vec(), rest),
        b'#' => (number.to_string().into_bytes(), rest),
        b'x' => (vec![u8::from_str_radix(rest.get(..2)?, 16).ok()?], &rest[2..]),
        b'(' => {
            let (repeated, after) = rest.split_once(')')?;
            let (what, times) = repeated.rsplit_once('*')?;
            (unescape(what, number, place).repeat(times.parse().ok()?), after)
        }
        _ => return None,
    })
}

#[test]
fn bytes_are_what_they_say() {
    assert_eq!(unescape(r"a\r\n\t\0\\\xfF\x00é", 7, ""), b"a\r\n\t\0\\\xff\0\xc3\xa9");
    assert_eq!(unescape(r"/\#?\(a\#\x2a*3)b", 42, ""), b"/42?a42*a42*a42*b");
    for wrong in [r"\q", r"\", r"\x4", r"\xg1", r"\(a*b)", r"\(a*2"] {
        assert!(std::panic::catch_unwind(|| unescape(wrong, 0, "")).is_err(), "{wrong}");
    }
}
