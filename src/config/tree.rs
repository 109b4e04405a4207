//! The document as a tree in which every key and every value knows where it was written.
//!
//! Scalars keep the text as written: what it means depends on what is expected there (`0123` is a fine client
//! identifier), and only the schema knows that. Must never know any key's name.

use super::problem::{Path, Place, Step};

#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub struct Scalar {
    pub text: String,
    pub style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// May be a number, a boolean or nothing at all.
    Plain,
    /// A string.
    Quoted,
    /// From a flag, a variable or another file: whatever is expected.
    Given,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

impl Node {
    pub fn empty_map(place: Place) -> Self {
        Self { place, value: Value::Map(Vec::new()) }
    }

    pub fn given(place: Place, text: impl Into<String>) -> Self {
        Self { place, value: Value::Scalar(Scalar { text: text.into(), style: Style::Given }) }
    }

    /// The entries of a map; of anything else, none.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value),
            Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// Puts `value` below `keys`, in the place of what is there. Something on the way that is not a map is replaced by
    /// one: what sets a key means that it exists.
    pub fn set(&mut self, keys: &[&str], value: Self) {
        let Some((first, rest)) = keys.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { return };
        match entries.iter_mut().find(|entry| entry.key == *first) {
            Some(entry) => entry.value.set(rest, value),
            None => {
                let place = value.place.clone();
                let mut below = Self::empty_map(place.clone());
                below.set(rest, value);
                entries.push(Entry { key: (*first).to_owned(), place, value: below });
            }
        }
    }

    pub fn remove(&mut self, key: &str) {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|entry| entry.key != key);
        }
    }

    /// What stands at `path`.
    pub fn find(&self, path: &Path) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, step| match (&node.value, step) {
            (Value::Map(_), Step::Key(key)) => node.get(key),
            (Value::List(items), Step::Index(index)) => items.get(*index),
            (Value::Map(_) | Value::List(_) | Value::Scalar(_), _) => None,
        })
    }

    /// The place of what stands at `path`, or of the nearest thing around it that was written.
    pub fn place_of(&self, path: &Path) -> &Place {
        let mut node = self;
        for step in &path.0 {
            let below = match (&node.value, step) {
                (Value::Map(entries), Step::Key(key)) => {
                    entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.value)
                }
                (Value::List(items), Step::Index(index)) => items.get(*index),
                // One value stands for a list of one.
                (Value::Map(_) | Value::Scalar(_), Step::Index(0)) => Some(node),
                (Value::Map(_) | Value::List(_) | Value::Scalar(_), _) => None,
            };
            match below {
                Some(below) => node = below,
                None => break,
            }
        }
        &node.place
    }

    /// The place of the key that `path` ends with, else as [`Node::place_of`].
    pub fn place_of_key(&self, path: &Path) -> &Place {
        if let Some((Step::Key(last), around)) = path.0.split_last()
            && let Some(node) = self.find(&Path(around.to_vec()))
            && let Some(entry) = node.entries().iter().find(|entry| entry.key == *last)
        {
            return &entry.place;
        }
        self.place_of(path)
    }
}
