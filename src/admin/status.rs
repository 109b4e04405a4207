//! `/status`: what is known, as JSON with stable names. Never a secret or a token.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::{Admin, Place};
use crate::clock::Now;
use crate::life::Phase;
use crate::observe::Refusal;
use crate::observe::history::{POINTS, STEP, Window};
use crate::rules::Route;
use crate::token::{Answer, Status};

pub(super) fn document(admin: &Admin) -> Value {
    let now = Now::read();
    let shown = admin.shown.load();
    let pending = admin.readiness.pending();
    let phase = admin.drain.phase();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": time(now.wall),
        "started_at": time(admin.observer.started_at()),
        "uptime_seconds": seconds(admin.observer.uptime().as_secs_f64()),
        "phase": match phase {
            Phase::Serving => "serving",
            Phase::LameDuck => "lame_duck",
            Phase::Draining => "draining",
        },
        "ready": pending.is_empty() && phase == Phase::Serving,
        "waiting_for": pending.iter().map(|name| &**name).collect::<Vec<_>>(),
        "configuration": admin.configuration.document(),
        "listeners": admin.apps.iter().map(|Place { name, address, tls }| json!({
            "name": &**name,
            "address": address,
            "tls": tls,
        })).collect::<Vec<_>>(),
        "tokens": shown.tokens.at(now).iter().map(token).collect::<Vec<_>>(),
        "routes": shown.routes.all().map(|one| route(one)).collect::<Vec<_>>(),
        "history": {
            "step_seconds": STEP.as_secs(),
            "points": POINTS,
            "until": admin.observer.history_until().map(time),
        },
        "refused": {
            "totals": counts(admin.observer.refusals()),
            "last": admin.observer.last_refusals().iter().map(refusal).collect::<Vec<_>>(),
        },
    })
}

fn route(route: &Route) -> Value {
    let settings = &route.settings;
    let summary = route.metrics.summary();
    json!({
        "name": &*settings.name,
        "upstream": settings.upstream.authority.to_string(),
        "token": settings.token.as_deref(),
        "match": {
            "listen": settings.matching.listen.as_deref(),
            "host": settings.matching.host.as_ref().map(ToString::to_string),
            "path": settings.matching.path.as_deref(),
        },
        "requests": summary.requests,
        "failed": summary.failed,
        "reasons": counts(summary.reasons),
        "statuses": counts(summary.classes.into_iter().map(|(class, many)| (format!("{class}xx"), many))),
        "upstream_connections": summary.connections,
        "in_flight": route.gate.in_flight(),
        "queued": route.gate.queued(),
        "latency_seconds": summary.latency.map(|[p50, p90, p99]| json!({"p50": p50, "p90": p90, "p99": p99})),
        "history": summary.history.map(|Window { requests, failed, p50, p99, connections }| json!({
            "requests": requests,
            "failed": failed,
            "p50": p50,
            "p99": p99,
            "connections": connections,
        })),
    })
}

fn refusal(refusal: &Refusal) -> Value {
    json!({
        "at": time(refusal.at),
        "reason": refusal.reason.as_str(),
        "route": refusal.route.as_deref(),
        "listener": refusal.listener.as_deref(),
        "what": refusal.what,
        "times": refusal.times,
    })
}

fn token(status: &Status) -> Value {
    json!({
        "name": &*status.name,
        "state": status.state.as_str(),
        "required": status.required,
        "generation": status.generation,
        "fingerprint": status.fingerprint.map(|fingerprint| fingerprint.to_string()),
        "issued_at": status.granted.map(|granted| time(granted.asked)),
        "life_seconds": status.granted.map(|granted| seconds(granted.life.as_secs_f64())),
        "usable_until": status.usable_until.map(time),
        "usable_for_seconds": status.usable_for.map(|left| left.as_secs_f64()),
        "renew_at": status.granted.map(|granted| time(granted.renewal)),
        "renew_in_seconds": status.renew_in.map(|left| seconds(left.as_secs_f64())),
        "credential": {"client_id": &*status.credential, "index": status.credential_index},
        "credentials": status.credentials.iter().enumerate().map(|(index, credential)| json!({
            "name": &*credential.name,
            "client_id": &*credential.client_id,
            "in_use": index == status.credential_index,
            "rejected": credential.rejected.as_ref().map(|(at, what)| json!({"at": time(*at), "what": what})),
        })).collect::<Vec<_>>(),
        "asking": status.asking,
        "next_attempt_in_seconds": status.next_attempt_in.map(|left| left.as_secs_f64()),
        "next_attempt_why": status.next_attempt_why.map(|cause| cause.to_string()),
        "bought_today": status.bought_today,
        "budget": status.budget.map(|(budget, left)| json!({
            "limit": budget.requests,
            "per_seconds": budget.window.as_secs(),
            "left": left,
        })),
        "answers": status.answers.iter().map(answer).collect::<Vec<_>>(),
        "failures": status.failures,
        "last_error": status.last_error.as_ref().map(|(at, what)| json!({"at": time(*at), "what": what})),
    })
}

fn answer(answer: &Answer) -> Value {
    json!({
        "at": time(answer.at),
        "outcome": answer.outcome.as_str(),
        "credential": &*answer.credential,
        "took_seconds": seconds(answer.took.as_secs_f64()),
        "what": answer.what,
        "fingerprint": answer.fingerprint.map(|fingerprint| fingerprint.to_string()),
    })
}

/// Only what occurred is in it.
fn counts(counts: impl IntoIterator<Item = (impl ToString, u64)>) -> Map<String, Value> {
    counts.into_iter().map(|(what, many)| (what.to_string(), many.into())).collect()
}

/// To the millisecond.
fn seconds(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

pub(super) fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
