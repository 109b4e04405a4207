//! What an API's own answer says of the configuration, for the operator: the app gets the answer as it is.
//!
//! Looked at only where an answer is one of a few errors. Must never know what is logged.

use http::{HeaderMap, StatusCode};

use super::judge::is_insufficient_scope;
use crate::observe::event::Advice;
use crate::rules::Admitted;
use crate::wire::form::{Form, Target};
use crate::wire::path::is_below;

/// `None` for nearly every answer.
pub(super) fn advice(status: StatusCode, headers: &HeaderMap, target: &Target, admitted: &Admitted) -> Option<Advice> {
    let settings = &admitted.route().settings;
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (settings.token.is_some() && is_insufficient_scope(headers)).then_some(Advice::Scope)
        }
        StatusCode::NOT_FOUND => {
            let base = &*settings.upstream.base_path;
            let below = admitted.path().path().strip_prefix(base).filter(|_| !base.is_empty());
            // Who named the whole of the URL meant it.
            let is_joined = matches!(target.form(), Form::Origin(_));
            (is_joined && below.is_some_and(|path| is_below(path, base))).then_some(Advice::BasePath)
        }
        _ => None,
    }
}
