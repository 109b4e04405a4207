//! What is made from the types: the schema, its published edition and the reference page.

use serde_json::Value;

use crate::config::{reference, schema};

/// Has the file be this, or writes it so where that is asked for.
fn committed(file: &str, made: &str) {
    let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == made, "{file} is out of date: BLESS=1 cargo test --lib config writes it anew");
}

#[test]
fn the_schema_is_that_of_the_types() {
    committed("src/config/schema.json", &format!("{:#}\n", schema::of_types()));
}

#[test]
fn the_reference_page_is_the_programs_own() {
    committed("docs/configuration.md", &reference::page(&schema::of_types()));
}

#[test]
fn the_published_schema_is_plain_json_schema() {
    fn walk(value: &Value, path: &str) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    assert!(!key.starts_with("x-"), "{path}/{key}");
                    if let (Some(name), "$ref") = (value.as_str(), key.as_str()) {
                        let known = schema::published().pointer(name.strip_prefix('#').unwrap()).is_some();
                        assert!(known, "{path}: {name} leads nowhere");
                    }
                    assert!(value != "null" || key != "type", "{path}: nothing may be null");
                    walk(value, &format!("{path}/{key}"));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, path)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    walk(&schema::published(), "");
}

#[test]
fn a_string_may_be_a_reference() {
    let schema = schema::published();
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).to_string();
    assert!(at("/$defs/Token/properties/client_secret").contains("#/$defs/SecretReference"));
    assert!(at("/$defs/Token/properties/wait").contains("From 0s to 5m."));
    assert!(at("/$defs/Log/properties/level").contains("#/$defs/Reference"));
    assert!(at("/$defs/Route/properties/http").contains("http1"));
    assert_eq!(at("/$defs/Refresh/properties/when_idle/enum"), "[true,false,\"on\",\"off\"]");
    assert!(at("/$defs/Token/properties/client_id").contains("[\"string\",\"number\"]"));
    assert!(at("/$defs/Token/properties/provider").contains("okta-org"));
    assert_eq!(at("/required"), "[\"routes\"]");
    assert_eq!(at("/$defs/Route/required"), "[\"upstream\"]");
}

#[test]
fn every_key_is_explained() {
    let schema = &schema::inner();
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, object) in definitions.iter().map(|(name, object)| (name.as_str(), object)).chain([("Document", schema)])
    {
        for (key, property) in object["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{name}.{key}");
        }
        let order: Vec<&str> = object["x-order"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let mut keys: Vec<&str> = object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut sorted = order.clone();
        keys.sort_unstable();
        sorted.sort_unstable();
        assert_eq!(sorted, keys, "{name}");
    }
}
