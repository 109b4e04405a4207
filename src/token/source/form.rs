//! The parameters of a token request (RFC 6749, 4.4.2), as the form that it should be or as the JSON that a few want.

use serde_json::{Map, Value};

use crate::token::settings::{RequestFormat, Settings};

/// Parameters in order; a name may stand more than once.
pub(super) enum Form {
    Urlencoded(String),
    Json(Map<String, Value>),
}

impl Form {
    /// All parameters but those that say who asks.
    pub(super) fn new(settings: &Settings) -> Self {
        let mut form = match settings.request_format {
            RequestFormat::Form => Self::Urlencoded(String::new()),
            RequestFormat::Json => Self::Json(Map::new()),
        };
        form.add("grant_type", &settings.grant_type);
        let scope = settings.scope.iter().map(|scope| ("scope", scope.as_str()));
        let audience = settings.audience.iter().map(|audience| ("audience", audience.as_str()));
        let resource = settings.resource.iter().map(|resource| ("resource", resource.as_str()));
        let params = settings.params.iter().map(|(name, value)| (name.as_str(), value.expose().as_str()));
        scope.chain(audience).chain(resource).chain(params).for_each(|(name, value)| form.add(name, value));
        form
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        match self {
            Self::Urlencoded(text) => {
                form_urlencoded::Serializer::for_suffix(text, 0).append_pair(name, value);
            }
            Self::Json(object) => match object.get_mut(name) {
                None => _ = object.insert(name.to_owned(), value.into()),
                Some(Value::Array(values)) => values.push(value.into()),
                Some(first) => *first = Value::Array(vec![first.take(), value.into()]),
            },
        }
    }

    /// Content type and body.
    pub(super) fn finish(self) -> (&'static str, String) {
        match self {
            Self::Urlencoded(text) => ("application/x-www-form-urlencoded", text),
            Self::Json(object) => ("application/json", Value::Object(object).to_string()),
        }
    }
}
