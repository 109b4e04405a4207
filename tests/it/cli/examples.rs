//! What is published is what the program takes: the schema, and every example in the documents.

use bearerd::config::presets::capitals;
use bearerd::config::tree::{Node, Scalar, Style, Value};
use bearerd::config::yaml;
use bearerd::demo::certs::Ca;

use super::child::bearerd;
use crate::support::Folder;

/// Made for tests; it opens nothing.
const KEY: &str = include_str!("../../../src/config/tests/rsa.pem");

/// The fenced blocks of a document in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// An example whose reader wrote values of their own for the words in capitals.
fn filled(example: &str) -> String {
    // The longest first: one is a part of another.
    let mut words: Vec<&str> = capitals(example).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.into_iter().fold(example.to_owned(), |text, word| text.replace(word, &word.to_lowercase()))
}

/// A folder with the files that an example names by `/run/secrets/`.
fn with_secrets(example: &str, folder: &Folder) -> String {
    let mut text = example.to_owned();
    while let Some(start) = text.find("/run/secrets/") {
        let rest = &text[start + "/run/secrets/".len()..];
        let name =
            &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.').unwrap_or(rest.len())];
        folder.write(name, if name.ends_with(".pem") { KEY } else { "x-canary\n" });
        let path = folder.path(name).display().to_string();
        text = text.replacen(&format!("/run/secrets/{name}"), &path, 1);
    }
    text
}

#[tokio::test]
async fn the_schema_is_json() {
    let schema = bearerd(&["schema"], &[]).await.with(0);
    assert_eq!(schema.err, "");
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert!(schema["$schema"].as_str().is_some_and(|draft| draft.starts_with("https://json-schema.org/")), "{schema}");
    for key in ["listen", "tokens", "routes"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

/// What a validator sees of a document.
fn as_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Scalar(Scalar { text, style: Style::Plain }) => {
            serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into())
        }
        Value::Scalar(Scalar { text, .. }) => text.as_str().into(),
        Value::List(items) => items.iter().map(as_json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), as_json(&entry.value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

#[tokio::test]
async fn the_schema_takes_every_example_and_refuses_what_is_misspelt() {
    let schema = bearerd(&["schema"], &[]).await.with(0).out;
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("bearerd.json", serde_json::from_str(&schema).unwrap()).unwrap();
    // Held against the metaschema of its draft on the way.
    let schema = compiler.compile("bearerd.json", &mut schemas).unwrap();
    let mut seen = 0;
    for page in ["README.md", "docs/configuration.md", "docs/providers.md", "docs/access-log.md", "docs/clients.md"] {
        for block in blocks(page, "yaml") {
            let mut problems = Vec::new();
            let tree = yaml::parse(&page.into(), &block, &mut problems).unwrap();
            let json = as_json(&tree);
            // A part of a configuration has no routes.
            if !block.contains("routes:") {
                continue;
            }
            assert!(problems.is_empty(), "{problems:?}");
            schemas.validate(&json, schema).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"));
            for wrong in [("upstream", "upsteam"), ("routes", "route")] {
                let misspelt = json.to_string().replacen(&format!("\"{}\":", wrong.0), &format!("\"{}\":", wrong.1), 1);
                let misspelt = serde_json::from_str(&misspelt).unwrap();
                assert!(schemas.validate(&misspelt, schema).is_err(), "{wrong:?} is taken: {misspelt}");
            }
            seen += 1;
        }
    }
    assert!(seen > 14, "{seen} examples");
}

#[tokio::test]
async fn what_init_prints_passes_the_check() {
    let folder = Folder::new();
    for provider in ["verint-identity", "verint-coaching", "okta-org", "google-sa", "zoom"] {
        let example = bearerd(&["init", provider], &[]).await.with(0);
        assert_eq!(example.err, "");
        folder.write("bearerd.yaml", &with_secrets(&example.out, &folder));
        let file = folder.path("bearerd.yaml").display().to_string();
        // As it is, with the secrets in place: each value that is not the reader's is told, and nothing else.
        let left = bearerd(&["check", "--config", &file], &[]).await.with(78).silent();
        let problems = left.err.matches("of yours\n  hint: write that in its place").count();
        assert!(
            problems > 1 && left.err.ends_with(&format!("error: {problems} problems in the configuration\n")),
            "{left:?}"
        );
        folder.write("bearerd.yaml", &with_secrets(&filled(&example.out), &folder));
        let file = folder.path("bearerd.yaml").display().to_string();
        let checked = bearerd(&["check", "--config", &file], &[]).await.with(0);
        assert_eq!(checked.err, "", "{provider}");
    }
}

#[tokio::test]
async fn every_configuration_in_the_documents_loads() {
    let folder = Folder::new();
    let ca = Ca::new().unwrap();
    let identity = ca.identity(&["egress.example.com"]).unwrap();
    for (name, content) in [("tls.crt", &identity.cert_pem), ("tls.key", &identity.key_pem), ("clients.pem", &ca.pem())]
    {
        folder.write(name, content);
    }
    let mut seen = 0;
    for page in ["README.md", "docs/configuration.md", "docs/providers.md"] {
        for mut block in blocks(page, "yaml") {
            // A part of a configuration, and where its sockets are to be.
            if !block.contains("routes:") {
                block.push_str("routes: [{upstream: 'https://api.example.com', token: none}]\n");
            }
            let block = block.replace("/run/bearerd/", &folder.path("").display().to_string());
            // This machine has no such group.
            let block = block.replace("group: app", "group: 0");
            let block = if page == "docs/providers.md" { filled(&block) } else { block };
            folder.write("bearerd.yaml", &with_secrets(&block, &folder));
            let file = folder.path("bearerd.yaml").display().to_string();
            let checked = bearerd(&["check", "--config", &file], &[]).await.with(0);
            assert_eq!(checked.err, "", "{page}");
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} examples");
}

/// With the files where pods have them.
#[tokio::test]
async fn every_configuration_for_kubernetes_loads() {
    let folder = Folder::new();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/examples");
    let mut seen = 0;
    for example in std::fs::read_dir(examples).unwrap() {
        let example = example.unwrap().path().join("config.yaml");
        // What the gateway's examples have is not here.
        let Ok(text) = std::fs::read_to_string(&example) else { continue };
        let text = ["/var/run/secrets/bearerd/", "/run/secrets/bearerd/"]
            .iter()
            .fold(filled(&text), |text, mounted| text.replace(mounted, "/run/secrets/"))
            .replace("/run/bearerd/", &folder.path("").display().to_string());
        folder.write("bearerd.yaml", &with_secrets(&text, &folder));
        let file = folder.path("bearerd.yaml").display().to_string();
        let checked = bearerd(&["check", "--config", &file], &[]).await.with(0);
        assert_eq!(checked.err, "", "{}", example.display());
        seen += 1;
    }
    assert!(seen > 10, "{seen} examples");
}

#[tokio::test]
async fn every_set_of_variables_in_the_documents_is_enough() {
    let folder = Folder::new();
    let mut seen = 0;
    for page in ["README.md", "docs/configuration.md"] {
        for block in blocks(page, "sh").into_iter().filter(|block| block.contains("BEARERD_UPSTREAM=")) {
            let block = with_secrets(&block.replace("\\\n", " "), &folder);
            let variables: Vec<(String, String)> = words(&block)
                .iter()
                .filter_map(|word| word.split_once('='))
                .filter(|(name, _)| name.starts_with("BEARERD_"))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
            let checked = bearerd(&["check"], &variables).await.with(0);
            assert_eq!(checked.err, "", "{page}: {variables:?}");
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} examples");
}

/// Words as a shell has them, as far as the documents need it.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            letter if letter.is_whitespace() && !quoted => words.push(String::new()),
            letter => words.last_mut().unwrap().push(letter),
        }
    }
    words
}
