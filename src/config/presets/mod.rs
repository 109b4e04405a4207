//! Presets: what is the same for every client of a known provider, so that nobody has to find it out again.
//!
//! A preset is data, in `table`. It goes into the tree before that is checked, below whatever was written, so that every
//! key of it can be overruled and a problem with it names it. What only the user can know it asks for, and says where to
//! find it. Must never know how a token is asked for.

mod table;

pub use self::table::TABLE;

use std::fmt::Write as _;

use super::check::Outside;
use super::problem::{Complaint, Path, Place, Problem, Report, Step};
use super::tree::{Entry, Node, Scalar, Value};

/// One provider.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    pub name: &'static str,
    /// As its maker calls it.
    pub title: &'static str,
    /// The keys of the token that it fixes, as paths, and their values.
    pub keys: &'static [(&'static [&'static str], &'static str)],
    /// What only the user knows, besides the endpoint and the credentials.
    pub needs: &'static [Need],
    /// Where the endpoint is found, for whoever has not written it.
    pub find_endpoint: &'static str,
    /// What the path of `token_url` and of `issuer` looks like; `*` stands for anything. Empty says nothing.
    pub token_path: &'static str,
    pub issuer_path: &'static str,
    /// URLs that are known not to work: their form, what is wrong, and what to write.
    pub refused: &'static [(&'static str, &'static str, &'static str)],
    /// What a scope must end in.
    pub scope_end: Option<&'static str>,
    /// What an assertion must be for, where that is not the issuer.
    pub audience: Audience,
    /// The further keys of the token as `bearerd init` writes them.
    pub init: &'static str,
}

/// A key that must be written.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub key: &'static [&'static str],
    /// A key that may stand for it.
    pub or: &'static str,
    /// What to write and where to find it.
    pub cure: &'static str,
}

/// The audience of the assertions that a provider takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// As for everybody: the issuer, or the token URL where there is none.
    Usual,
    /// The token URL, even where the issuer is known.
    TokenUrl,
    /// Scheme and host with a slash.
    Origin,
}

pub fn find(name: &str) -> Option<&'static Preset> {
    TABLE.iter().find(|preset| preset.name == name)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|preset| preset.name)
}

/// A whole configuration with this preset. It loads as soon as the files that it names are there.
pub fn example(preset: &Preset) -> String {
    let Preset { name, title, .. } = preset;
    let mut text = format!(
        "# An API whose tokens come from {title}.\n\
         #\n\
         # Words in CAPITALS stand for values of yours; docs/providers.md says where to find them. When they are filled\n\
         # in, `bearerd check --config FILE` tells what is still wrong, and `bearerd token` asks for a first token.\n\
         \n\
         tokens:\n  {name}:\n    # The preset sets what follows; whatever is written here wins.\n"
    );
    for (keys, value) in preset.keys {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    #   {}: {value}", keys.join("."));
    }
    let _ = writeln!(text, "    provider: {name}");
    for line in preset.init.lines() {
        let _ = writeln!(text, "    {line}");
    }
    text.push_str(
        "\nroutes:\n  # Apps use http://localhost:4280 in its place and send no credential.\n  \
         - upstream: https://API-HOST   # the API\n",
    );
    text
}

/// Puts every preset that a token of the tree names below what is written there.
pub fn merge(tree: &mut Node, outside: &Outside<'_>) {
    let Some(tokens) = tree.get_mut("tokens") else { return };
    let Value::Map(entries) = &mut tokens.value else { return };
    for Entry { value: token, .. } in entries {
        // A provider that is none is told by the check.
        if let Some(preset) = token.get("provider").and_then(|node| text(node, outside)).and_then(|name| find(&name)) {
            put(preset, token, outside);
        }
    }
}

fn put(preset: &Preset, token: &mut Node, outside: &Outside<'_>) {
    let has_endpoint = token.get("token_url").is_some() || token.get("issuer").is_some();
    for (keys, value) in preset.keys {
        if *keys != ["token_url"] || !has_endpoint {
            put_one(preset, token, keys, value);
        }
    }
    let url = |key: &str| token.get(key).and_then(|node| text(node, outside));
    let audience = match preset.audience {
        Audience::Usual => None,
        Audience::TokenUrl => url("token_url"),
        Audience::Origin => {
            let written = url("issuer").or_else(|| url("token_url"));
            let url = written.and_then(|written| url::Url::parse(&written).ok());
            url.map(|url| format!("{}/", url.origin().ascii_serialization()))
        }
    };
    if let Some(audience) = audience {
        put_one(preset, token, &["assertion", "audience"], &audience);
    }
}

/// Nothing that was written gives way, not even what is no map where there should be one.
fn put_one(preset: &Preset, token: &mut Node, keys: &[&str], value: &str) {
    let path = |keys: &[&str]| Path(keys.iter().map(|key| Step::from(*key)).collect());
    let (_, around) = keys.split_last().unwrap_or((&"", &[]));
    let blocked = token.find(&path(around)).is_some_and(|node| !matches!(node.value, Value::Map(_)));
    if !blocked && token.find(&path(keys)).is_none() {
        token.set(keys, Node::given(Place::Preset(preset.name.into()), value));
    }
}

/// What a text amounts to, if it is one. Whatever is wrong with it the check will tell.
fn text(node: &Node, outside: &Outside<'_>) -> Option<String> {
    let scalar = |node: &Node| match &node.value {
        Value::Scalar(Scalar { text, .. }) => Some(text.clone()),
        Value::List(_) | Value::Map(_) => None,
    };
    let [Entry { key, value, .. }] = node.entries() else { return scalar(node) };
    let named = scalar(value)?;
    match key.as_str() {
        "env" => outside.environment.get(&named)?.to_str().map(str::to_owned),
        "file" => {
            let seen = outside.files.read(&outside.folder.join(named), 64 * 1024, true).ok()?;
            Some(String::from_utf8(seen.bytes).ok()?.trim_end().to_owned())
        }
        _ => None,
    }
}

/// Of a preset whose example was printed and not filled in, every value that is left as it was.
pub fn left_over(tree: &Node, report: &mut Report) {
    let tokens = tree.get("tokens").map(Node::entries).unwrap_or_default();
    let named = tokens.iter().filter_map(|entry| match &entry.value.get("provider")?.value {
        Value::Scalar(scalar) => find(&scalar.text),
        Value::List(_) | Value::Map(_) => None,
    });
    let words: Vec<&str> = named.flat_map(|preset| without_comments(preset.init)).flat_map(capitals).collect();
    if !words.is_empty() {
        look(tree, &Path::default(), &[words, vec![API_HOST]].concat(), report);
    }
}

/// What [`example`] has in the place of the API's host.
const API_HOST: &str = "API-HOST";

fn look(node: &Node, path: &Path, words: &[&str], report: &mut Report) {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().for_each(|entry| look(&entry.value, &path.with(entry.key.as_str()), words, report));
        }
        Value::List(items) => {
            items.iter().enumerate().for_each(|(index, item)| look(item, &path.with(index), words, report));
        }
        Value::Scalar(Scalar { text, .. }) => {
            let left: Vec<String> =
                capitals(text).filter(|word| words.contains(word)).map(|word| format!("`{word}`")).collect();
            // What was made from another value is told there.
            if left.is_empty() || matches!(node.place, Place::Preset(_)) {
                return;
            }
            let (verb, values) = if left.len() == 1 { ("stands", "a value") } else { ("stand", "values") };
            let complaint = Complaint::new(format!("{} {verb} for {values} of yours", left.join(" and ")));
            let hint = "write that in its place; docs/providers.md says where to find it";
            report.problems.push(Problem::new(node.place.clone(), path, complaint.hint(hint)));
        }
    }
}

/// The words in `CAPITALS`, as examples have them: two letters at the least, with dashes between.
pub fn capitals(text: &str) -> impl Iterator<Item = &str> {
    let pieces = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '_'));
    pieces.filter(|piece| {
        let letters = piece.bytes().filter(u8::is_ascii_uppercase).count();
        letters > 1 && piece.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
    })
}

fn without_comments(yaml: &str) -> impl Iterator<Item = &str> {
    yaml.lines().map(|line| line.split_once('#').map_or(line, |(code, _)| code))
}

/// Whether a text is of this form, in which `*` stands for one letter or more.
pub fn is_like(form: &str, text: &str) -> bool {
    let Some((start, rest)) = form.split_once('*') else { return form == text };
    let Some(tail) = text.strip_prefix(start) else { return false };
    (1..=tail.len()).any(|end| tail.get(end..).is_some_and(|tail| is_like(rest, tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_matched_whole() {
        for (form, text, like) in [
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("/oauth2/*/v1/token", "/oauth2/default/v1/token", true),
            ("/oauth2/*/v1/token", "/oauth2/v1/token", false),
            ("*/realms/*/token", "/auth/realms/r/token", true),
            ("https://*.example/*", "https://.example/x", false),
        ] {
            assert_eq!(is_like(form, text), like, "{form} {text}");
        }
    }

    #[test]
    fn a_preset_says_what_it_is_for() {
        for preset in TABLE {
            let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(preset.name.bytes().all(name) && !preset.title.is_empty(), "{}", preset.name);
            assert!(preset.init.lines().filter(|line| !line.starts_with('#')).count() <= 5, "{}", preset.name);
        }
        assert_eq!(TABLE.len(), 14);
    }
}
