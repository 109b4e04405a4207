//! One place of the schema, as the walk sees it: the node itself, what it refers to, and what is said around it.

use serde_json::{Map, Value};

#[derive(Clone, Copy)]
pub struct Shape<'s> {
    root: &'s Value,
    own: &'s Map<String, Value>,
    target: Option<&'s Map<String, Value>>,
    pub notes: Notes<'s>,
}

/// What holds for a value and, through lists and switches, for what is inside of it.
#[derive(Clone, Copy, Default)]
pub struct Notes<'s> {
    pub format: Option<&'s str>,
    pub key_format: Option<&'s str>,
    pub min: Option<&'s str>,
    pub max: Option<&'s str>,
    pub minimum: Option<i64>,
    pub maximum: Option<i64>,
    pub min_items: Option<u64>,
    pub sensitive: bool,
}

impl<'s> Notes<'s> {
    /// Around wins over inside: a list of status codes says more than the integers that it holds.
    fn around(self, inside: &'s Map<String, Value>) -> Self {
        let text = |key: &str| inside.get(key).and_then(Value::as_str);
        let number = |key: &str| inside.get(key).and_then(Value::as_i64);
        Self {
            format: self.format.or_else(|| text("format")),
            key_format: self.key_format.or_else(|| text("x-key-format")),
            min: self.min.or_else(|| text("x-min")),
            max: self.max.or_else(|| text("x-max")),
            minimum: self.minimum.or_else(|| number("minimum")),
            maximum: self.maximum.or_else(|| number("maximum")),
            min_items: self.min_items.or_else(|| inside.get("minItems").and_then(Value::as_u64)),
            sensitive: self.sensitive || inside.contains_key("x-sensitive"),
        }
    }
}

impl<'s> Shape<'s> {
    pub fn root(schema: &'s Value) -> Option<Self> {
        Self::new(schema, schema, Notes::default())
    }

    fn new(root: &'s Value, schema: &'s Value, around: Notes<'s>) -> Option<Self> {
        let own = schema.as_object()?;
        let target = own
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|name| name.strip_prefix('#'))
            .and_then(|pointer| root.pointer(pointer))
            .and_then(Value::as_object);
        let notes = around.around(own);
        let notes = target.map_or(notes, |target| notes.around(target));
        Some(Self { root, own, target, notes })
    }

    pub fn get(&self, key: &str) -> Option<&'s Value> {
        self.own.get(key).or_else(|| self.target?.get(key))
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// What is said at this very place, such as what a key is for.
    pub fn get_own(&self, key: &str) -> Option<&'s str> {
        self.own.get(key).and_then(Value::as_str)
    }

    /// What is said about the type that stands here, wherever it stands.
    pub fn definition_text(&self) -> Option<&'s str> {
        self.target.unwrap_or(self.own).get("description").and_then(Value::as_str)
    }

    /// The limits of what stands here, in words.
    pub fn bounds(&self) -> Option<String> {
        let ours = |text: Option<&str>, number: Option<i64>| {
            text.map(str::to_owned).or_else(|| number.map(|number| number.to_string()))
        };
        let least = ours(self.notes.min, self.notes.minimum)?;
        Some(format!("From {least} to {}.", ours(self.notes.max, self.notes.maximum)?))
    }

    pub fn kind(&self) -> &'s str {
        self.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The schema of the key `key`.
    pub fn property(&self, key: &str) -> Option<Self> {
        Self::new(self.root, self.get("properties")?.get(key)?, Notes::default())
    }

    /// The known keys, in the order in which they are declared.
    pub fn keys(&self) -> impl Iterator<Item = &'s str> + use<'s> {
        self.get("x-order").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// What the switch turns on: the second of its two choices.
    pub fn switched(&self) -> Option<Self> {
        Self::new(self.root, self.get("anyOf")?.get(1)?, self.notes)
    }

    /// One of one or many.
    pub fn one(&self) -> Option<Self> {
        Self::new(self.root, self.get("anyOf")?.get(0)?, self.notes)
    }

    pub fn item(&self) -> Option<Self> {
        Self::new(self.root, self.get("items")?, self.notes)
    }

    /// The values of a map whose keys are made up.
    pub fn named(&self) -> Option<Self> {
        Self::new(self.root, self.get("additionalProperties")?, self.notes)
    }

    /// The words of an enumeration; none for any other kind.
    pub fn words(&self) -> Vec<&'s str> {
        let listed = self.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let described = self.get("oneOf").and_then(Value::as_array).into_iter().flatten().flat_map(|choice| {
            let one = choice.get("const").and_then(Value::as_str);
            let several = choice.get("enum").and_then(Value::as_array).into_iter().flatten();
            one.into_iter().chain(several.filter_map(Value::as_str))
        });
        listed.chain(described).collect()
    }

    /// Words that stand beside what the kind has, such as `auto` beside a number.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &'s str> + use<'s> {
        self.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}
