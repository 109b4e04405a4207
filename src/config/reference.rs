//! The reference page, `docs/configuration.md`: made from the same schema that the check walks and the same table that
//! the flags are made from, so that it cannot be out of date.
//!
//! A test compares the committed page with this; `BLESS=1 cargo test` writes it anew. Must never know a key by name.

use std::fmt::Write as _;

use serde_json::Value;

use super::check::{Shape, expected};
use super::sources::SETTINGS;

const INTRODUCTION: &str = "\
<!-- Made from the program itself; `BLESS=1 cargo test --lib config` writes it anew. -->

# Configuration reference

bearerd is configured by a YAML file (JSON is YAML too), by flags and by environment variables. A flag beats a variable,
and a variable beats the file. `bearerd check` tells every problem of a configuration at once, and prints what it amounts
to with all secrets taken out; `bearerd schema` prints its JSON Schema, for editors and CI.

The file is the one that `--config` names, else the one that `BEARERD_CONFIG` names. Where neither is given and flags or
variables name an upstream, there is none; else it is `/etc/bearerd/config.yaml`.

```yaml
tokens:
  reports:
    issuer: https://id.example.com
    client_id: reports
    client_secret: {file: /run/secrets/reports}
    scope: read write
routes:
  - upstream: https://api.example.com
```
";

const WORDS: &str = "\
## How values are written

* A duration has a unit: `250ms`, `30s`, `5m`, `1h`, `1d`, and together `1m30s`.
* A size is a number of bytes, or has a unit: `512`, `64KiB`, `1MiB`.
* `false` is taken wherever `off` is.
* Every string may be `{env: NAME}`, the value of an environment variable, or `{file: PATH}`, the contents of a file
  without its trailing newline. A relative path starts at the folder of the configuration file.
* A secret is best a `{file: PATH}`: it is read again when it changes. It may also be `{exec: [PROGRAM, ARGUMENT]}`, what
  a program prints, run without a shell and for at most `timeout: 10s` beside it; or `{systemd: NAME}`, which is the file
  `$CREDENTIALS_DIRECTORY/NAME` of `LoadCredential=`. Written out, it works with a warning. A program prints the secret
  alone, or `{\"secret\": \"…\", \"expires_in\": 3600}`, and is run again when that time is over.
* Anchors and aliases work; tags, merge keys (`<<`) and second documents do not.
";

/// The whole page, from the schema's inner edition.
pub fn page(schema: &Value) -> String {
    let mut page = String::from(INTRODUCTION);
    page.push('\n');
    page.push_str(WORDS);
    flags(&mut page);
    page.push_str("\n## The file\n");
    let Some(root) = Shape::root(schema) else { return page };
    for section in sections(root) {
        write_section(&mut page, &section);
    }
    page
}

fn flags(page: &mut String) {
    page.push_str(
        "\n## Flags and variables\n\n\
         They are enough for one route, which is then called `default`, as its token is. Beside a file they set keys of\n\
         the route and the token that are called `default` there. An empty variable is as good as none.\n\n\
         ```sh\n\
         BEARERD_UPSTREAM=https://api.example.com \\\n\
         BEARERD_TOKEN_URL=https://id.example.com/oauth2/token \\\n\
         BEARERD_CLIENT_ID=reports BEARERD_CLIENT_SECRET_FILE=/run/secrets/reports \\\n\
         BEARERD_SCOPE=\"read write\" bearerd run\n\
         ```\n\n\
         | Variable | Flag | Meaning |\n|---|---|---|\n",
    );
    for setting in SETTINGS {
        let flag =
            if setting.secret { String::from("none") } else { format!("`--{} {}`", setting.flag, setting.value) };
        let _ = writeln!(page, "| `{}` | {flag} | {} |", setting.variable, setting.help);
    }
}

/// A map of the configuration and every path at which it stands.
struct Section<'s> {
    shape: Shape<'s>,
    definition: Option<&'s str>,
    paths: Vec<String>,
}

fn sections(root: Shape<'_>) -> Vec<Section<'_>> {
    let mut found = vec![Section { shape: root, definition: None, paths: Vec::new() }];
    descend(root, "", &mut found);
    found
}

fn descend<'s>(around: Shape<'s>, prefix: &str, found: &mut Vec<Section<'s>>) {
    for key in around.keys() {
        let Some(property) = around.property(key) else { continue };
        let (shape, path) = inside(property, format!("{prefix}{key}"));
        if shape.kind() != "object" {
            continue;
        }
        let definition = shape.get("$ref").and_then(Value::as_str);
        match found.iter_mut().find(|section| section.definition == definition && definition.is_some()) {
            Some(known) => known.paths.push(path),
            None => {
                found.push(Section { shape, definition, paths: vec![path.clone()] });
                descend(shape, &format!("{path}."), found);
            }
        }
    }
}

/// What a list, a switch or a map of names holds, with the path of one of it.
fn inside(shape: Shape<'_>, path: String) -> (Shape<'_>, String) {
    let next = if shape.has("x-switch") {
        shape.switched().map(|inner| (inner, path.clone()))
    } else if shape.has("x-one-or-many") {
        shape.one().map(|inner| (inner, format!("{path}[]")))
    } else if shape.has("x-named") {
        shape.named().map(|inner| (inner, format!("{path}.NAME")))
    } else if shape.kind() == "array" {
        shape.item().map(|inner| (inner, format!("{path}[]")))
    } else {
        None
    };
    match next {
        Some((inner, path)) => inside(inner, path),
        None => (shape, path),
    }
}

fn write_section(page: &mut String, section: &Section<'_>) {
    let shape = section.shape;
    let titles: Vec<String> = section.paths.iter().map(|path| format!("`{path}`")).collect();
    let title = if titles.is_empty() { String::from("Top level") } else { titles.join(" and ") };
    let _ = write!(page, "\n### {title}\n\n");
    let own = shape.definition_text();
    if let (Some(text), false) = (own, titles.is_empty()) {
        let _ = write!(page, "{}\n\n", one_line(text));
    }
    page.push_str("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
    for key in shape.keys() {
        let Some(property) = shape.property(key) else { continue };
        let _ = writeln!(
            page,
            "| `{key}` | {} | {} | {} |",
            value(property),
            default(shape, key, property),
            meaning(property)
        );
    }
}

fn value(property: Shape<'_>) -> String {
    let (innermost, _) = inside(property, String::new());
    let sized = property.bounds().or_else(|| if innermost.kind() == "object" { None } else { innermost.bounds() });
    let text = expected(property);
    match sized {
        Some(bounds) => format!("{text}. {bounds}"),
        None => text,
    }
}

fn default(around: Shape<'_>, key: &str, property: Shape<'_>) -> String {
    match property.get("default") {
        Some(Value::String(text)) => format!("`{text}`"),
        Some(Value::Object(_)) => String::new(),
        Some(Value::Array(items)) if items.is_empty() => String::new(),
        Some(other) => format!("`{}`", other.to_string().replace('"', "")),
        None if around.list("required").any(|required| required == key) => String::from("required"),
        None => String::new(),
    }
}

/// The description, with what its words mean.
fn meaning(property: Shape<'_>) -> String {
    let mut text = property.get_own("description").map(one_line).unwrap_or_default();
    for choice in property.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(word), Some(meaning)) =
            (choice.get("const").and_then(Value::as_str), choice.get("description").and_then(Value::as_str))
        {
            let _ = write!(text, " `{word}`: {}", one_line(meaning));
        }
    }
    text
}

/// As a table's cell takes it.
fn one_line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
