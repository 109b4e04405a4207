//! `/status`: what is known, as JSON with stable names. Never a secret or a token.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::Admin;
use crate::life::Phase;
use crate::token::Status;

pub(super) fn document(admin: &Admin) -> Value {
    let pending = admin.readiness.pending();
    let phase = admin.drain.phase();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": match phase {
            Phase::Serving => "serving",
            Phase::LameDuck => "lame_duck",
            Phase::Draining => "draining",
        },
        "ready": pending.is_empty() && phase == Phase::Serving,
        "waiting_for": pending.iter().map(|name| &**name).collect::<Vec<_>>(),
        "tokens": admin.tokens.now().iter().map(token).collect::<Vec<_>>(),
        "routes": admin.routes.all().map(|route| {
            let settings = &route.settings;
            let counts = route.metrics.counts();
            json!({
                "name": &*settings.name,
                "upstream": settings.upstream.authority.to_string(),
                "token": settings.token.as_deref(),
                "requests": counts.requests.load(Ordering::Relaxed),
                "failed": counts.failed.load(Ordering::Relaxed),
                "upstream_connections": route.metrics.connections(),
            })
        }).collect::<Vec<_>>(),
    })
}

fn token(status: &Status) -> Value {
    json!({
        "name": &*status.name,
        "state": status.state.as_str(),
        "required": status.required,
        "generation": status.generation,
        "fingerprint": status.fingerprint.map(|fingerprint| fingerprint.to_string()),
        "usable_until": status.usable_until.map(time),
        "usable_for_seconds": status.usable_for.map(|left| left.as_secs_f64()),
        "credential": {"client_id": &*status.credential, "index": status.credential_index},
        "credentials": status.credentials.iter().enumerate().map(|(index, credential)| json!({
            "name": &*credential.name,
            "client_id": &*credential.client_id,
            "in_use": index == status.credential_index,
            "rejected": credential.rejected.as_ref().map(|(at, what)| json!({"at": time(*at), "what": what})),
        })).collect::<Vec<_>>(),
        "asking": status.asking,
        "next_attempt_in_seconds": status.next_attempt_in.map(|left| left.as_secs_f64()),
        "failures": status.failures,
        "last_error": status.last_error.as_ref().map(|(at, what)| json!({"at": time(*at), "what": what})),
    })
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
