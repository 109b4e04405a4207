//! The JSON Schema of the configuration, in two editions.
//!
//! The inner one is what `check` and the reference page walk: it keeps our own `x-…` words. The published one is for
//! editors and CI: plain JSON Schema, in which every string may also be a reference. Must never know a key by name.
//!
//! It is made from the types of `written`, by a test, and read from a file: what makes it is a quarter of a MiB of code, which
//! would else rest in every process.

use serde_json::{Map, Value, json};

/// The inner edition. It is for whoever holds it to free: some hundred KiB, needed for as long as a check takes.
pub fn inner() -> Value {
    serde_json::from_str(include_str!("schema.json")).expect("schema.json is JSON")
}

/// The inner edition as the types have it, which is what is in the file.
#[cfg(test)]
pub fn of_types() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let mut schema = settings.into_generator().into_root_schema_for::<super::written::Document>().to_value();
    settle(&mut schema);
    schema
}

/// What `bearerd schema` prints.
pub fn published() -> Value {
    let mut schema = inner();
    publish(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert(String::from("title"), json!("bearerd"));
        let definitions = root.entry("$defs").or_insert_with(|| json!({}));
        if let Value::Object(definitions) = definitions {
            definitions.insert(String::from("Reference"), reference());
            definitions.insert(String::from("SecretReference"), secret_reference());
        }
    }
    schema
}

/// Undoes what Rust's types say and a configuration does not mean: `null` for an optional key, and `required` for a
/// key that has a default.
#[cfg(test)]
fn settle(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(object) => {
            drop_null(object);
            let has_default: Vec<String> = object
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter(|(_, property)| property.get("default").is_some())
                .map(|(key, _)| key.clone())
                .collect();
            if let Some(Value::Array(required)) = object.get_mut("required") {
                required.retain(|key| !has_default.iter().any(|name| key == name.as_str()));
                if required.is_empty() {
                    object.remove("required");
                }
            }
            object.values_mut().for_each(settle);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
fn drop_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert(String::from("type"), one);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        let before = choices.len();
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if choices.len() < before
            && choices.len() == 1
            && let Some(Value::Object(one)) = choices.pop()
        {
            object.remove("anyOf");
            for (key, value) in one {
                object.entry(key).or_insert(value);
            }
        }
    }
}

/// Replaces our own words by what JSON Schema has, and lets every string be a reference.
fn publish(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(publish),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                // Defaults are values and names are names, whatever they look like.
                match (key.as_str(), value) {
                    ("default" | "const" | "enum" | "required", _) => {}
                    ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(publish),
                    (_, value) => publish(value),
                }
            }
            let bounds = bounds_text(object);
            let words = object.remove("x-words");
            let short = object.get("x-short").is_some();
            object.retain(|key, _| !key.starts_with("x-"));
            if let Some(bounds) = bounds {
                let described = match object.get("description").and_then(Value::as_str) {
                    Some(description) => format!("{description} {bounds}"),
                    None => bounds,
                };
                object.insert(String::from("description"), Value::String(described));
            }
            let is_string = object.get("type").is_some_and(|kind| kind == "string") && !object.contains_key("const");
            let is_words = object.contains_key("oneOf");
            let is_secret = matches!(object.get("format").and_then(Value::as_str), Some("secret" | "private-key"));
            widen(object);
            if let Some(words) = words {
                split(object, &json!({"enum": words}));
            } else if short {
                split(object, &json!({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Reference"}]}));
            } else if is_secret {
                split(object, &json!({"$ref": "#/$defs/SecretReference"}));
            } else if is_string || is_words {
                split(object, &json!({"$ref": "#/$defs/Reference"}));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Takes what YAML makes of a value without quotes: `on` is a text, and `0123` and `8192` are numbers.
fn widen(object: &mut Map<String, Value>) {
    let unquoted = match object.get("format").and_then(Value::as_str) {
        None => !object.contains_key("enum") && !object.contains_key("const"),
        Some(format) => matches!(format, "size" | "text" | "mode" | "header-value"),
    };
    match object.get("type").and_then(Value::as_str) {
        Some("boolean") => {
            object.remove("type");
            object.insert(String::from("enum"), json!([true, false, "on", "off"]));
        }
        Some("string") if unquoted => {
            object.insert(String::from("type"), json!(["string", "number"]));
        }
        _ => {}
    }
}

/// Turns a schema into a choice between itself and `other`, with what is said about it on the outside.
fn split(object: &mut Map<String, Value>, other: &Value) {
    let mut itself = std::mem::take(object);
    for key in ["description", "default", "title", "$schema", "$defs"] {
        if let Some(value) = itself.remove(key) {
            object.insert(key.to_owned(), value);
        }
    }
    object.insert(String::from("anyOf"), json!([itself, other]));
}

/// The limits of a duration, size or share in words, or nothing.
pub fn bounds_text(object: &Map<String, Value>) -> Option<String> {
    let bound = |ours: &str, standard: &str| {
        let own = object.get(ours).and_then(Value::as_str).map(str::to_owned);
        own.or_else(|| object.get(standard).and_then(Value::as_i64).map(|number| number.to_string()))
    };
    // What only says that a Rust integer is unsigned is no limit of ours.
    match (bound("x-min", "minimum"), bound("x-max", "maximum")) {
        (Some(min), Some(max)) => Some(format!("From {min} to {max}.")),
        _ => None,
    }
}

fn one(key: &str, description: &str) -> Value {
    json!({
        "type": "object",
        "properties": {key: {"type": "string", "description": description}},
        "required": [key],
        "additionalProperties": false,
    })
}

fn secret_reference() -> Value {
    json!({
        "description": "A secret that stands elsewhere.",
        "anyOf": [
            {"$ref": "#/$defs/Reference"},
            one("systemd", "The name of a credential that systemd hands over (`LoadCredential=`)."),
            {
                "type": "object",
                "properties": {
                    "exec": {
                        "type": "array",
                        "items": {"type": ["string", "number"]},
                        "minItems": 1,
                        "description": "A program, by its whole path, and its arguments; it prints the secret.",
                    },
                    "timeout": {"type": "string", "format": "duration", "default": "10s"},
                },
                "required": ["exec"],
                "additionalProperties": false,
            },
        ],
    })
}

fn reference() -> Value {
    json!({
        "description": "A string that stands elsewhere.",
        "anyOf": [
            one("env", "The name of an environment variable."),
            one("file", "The path of a file; a relative one starts at the configuration's folder."),
        ],
    })
}
