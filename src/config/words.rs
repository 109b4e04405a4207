//! The small words of the configuration: durations, sizes, shares, switches.
//!
//! Each says in its JSON Schema what it is (`format` for texts, `x-…` for what JSON Schema has no word for), and
//! `check` acts on that; what arrives here for deserializing is already in order and in one normal form. Must never
//! know which key a word stands under.

use std::borrow::Cow;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::formats;
use super::problem::Complaint;
use crate::secret::Secret;
use crate::token::policy::Budget;
use crate::token::settings::{Exec, SecretSource};
use crate::token::source::key::Alg;

/// A word whose schema is written out where it is used, rather than as a definition of its own.
macro_rules! inline_schema {
    ($name:expr) => {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            Cow::Borrowed($name)
        }
    };
}

/// A text that `$parse` reads, with its format.
macro_rules! text_word {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal, $parse:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).map(Self).map_err(|complaint: Complaint| D::Error::custom(complaint.what))
            }
        }

        impl JsonSchema for $name {
            inline_schema!(stringify!($name));

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $format})
            }
        }
    };
}

text_word! {
    /// `250ms`, `30s`, `5m`, `1h`, `1m30s`.
    Duration(time::Duration), "duration", formats::duration
}

text_word! {
    /// `512`, `64KiB`, `1MiB`: bytes.
    Size(usize), "size", formats::size
}

text_word! {
    /// `60/1h`: so many in any window of that length.
    Rate(Budget), "rate", formats::rate
}

text_word! {
    /// `25%`, as a share of one.
    Percent(f64), "percent", formats::percent
}

text_word! {
    /// `0660`: permission bits, in octal with or without the zero in front.
    Mode(u32), "mode", formats::mode
}

/// A number of threads, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    Auto,
    Count(usize),
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)?.as_u64() {
            Some(count) => usize::try_from(count).map(Self::Count).map_err(D::Error::custom),
            None => Ok(Self::Auto),
        }
    }
}

impl JsonSchema for Workers {
    inline_schema!("Workers");

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The upper end is where a proxy has long been bound by something else than threads.
        json_schema!({"type": "integer", "minimum": 1, "maximum": 64, "x-words": ["auto"]})
    }
}

/// `off` (or `false`), or something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch<T> {
    Off,
    On(T),
}

impl<T> Switch<T> {
    pub fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value == false {
            return Ok(Self::Off);
        }
        serde_json::from_value(value).map(Self::On).map_err(D::Error::custom)
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    inline_schema!("Switch");

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"enum": ["off", false]}, generator.subschema_for::<T>()], "x-switch": true})
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    inline_schema!("OneOrMany");

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one}], "x-one-or-many": true})
    }
}

/// A map whose keys the user makes up, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    inline_schema!("Named");

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({"type": "object", "additionalProperties": value, "x-named": true})
    }
}

/// A secret: a file that is read again while running, a command, or the value itself.
#[derive(Debug)]
pub struct SecretWord {
    pub source: SecretSource,
    /// Of a private key that could be looked at: what it can sign with.
    pub algs: Option<Vec<Alg>>,
}

/// The parts of a [`SecretWord`] as `check` hands them over.
#[derive(Default)]
struct SecretParts {
    source: Option<SecretSource>,
    command: Option<Vec<String>>,
    timeout: Option<time::Duration>,
    algs: Option<Vec<Alg>>,
}

impl<'de> Deserialize<'de> for SecretWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A visitor of its own: errors of derived code quote what they met.
        struct Source;

        impl<'de> Visitor<'de> for Source {
            type Value = SecretParts;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a secret")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretParts, A::Error> {
                let mut parts = SecretParts::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "file" => parts.source = Some(SecretSource::File(map.next_value()?)),
                        "inline" => parts.source = Some(SecretSource::Inline(Secret::new(map.next_value()?))),
                        "exec" => parts.command = Some(map.next_value()?),
                        "timeout" => parts.timeout = Some(map.next_value::<Duration>()?.0),
                        "algs" => {
                            let names: Vec<String> = map.next_value()?;
                            let known = |name: &String| Alg::ALL.into_iter().find(|alg| alg.as_str() == name);
                            parts.algs = Some(names.iter().filter_map(known).collect());
                        }
                        _ => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
                Ok(parts)
            }
        }

        let parts = deserializer.deserialize_map(Source)?;
        let exec = parts.command.zip(parts.timeout);
        let exec = exec.map(|(command, timeout)| SecretSource::Exec(Exec { command, timeout, withheld: Vec::new() }));
        let source = parts.source.or(exec).ok_or_else(|| D::Error::custom("no source of a secret"))?;
        Ok(Self { source, algs: parts.algs })
    }
}

impl JsonSchema for SecretWord {
    inline_schema!("Secret");

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "secret", "x-sensitive": true})
    }
}
