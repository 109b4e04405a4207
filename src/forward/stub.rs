//! A placeholder for an SDK that insists on fetching a token itself: a well-formed answer (RFC 6749, 5.1) that is worth
//! nothing, so that the SDK goes on and its requests get the real one here.
//!
//! Must never know the real one.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::exchange::Exchange;
use super::failure::{Failure, Manner};
use super::reply::Reply;
use crate::rules::Arrival;
use crate::wire::replay::Replay;

/// For how long the SDK is told to be content, in seconds: an hour, what most providers say. An SDK asks again when it is
/// over, and is told the same.
const LIFETIME: u64 = 3_600;

/// A token request is a few hundred bytes; one with a signed assertion and a chain of certificates some kilobytes.
const MOST: usize = 64 * 1024;

/// Reads the request's body and throws it away: it may hold a secret, and be it a made-up one.
///
/// # Errors
/// It is too large, breaks off, or takes longer than `patience`.
pub(super) async fn read(body: &Replay, patience: Duration) -> Result<(), Failure> {
    const BROKEN: Failure = Failure::BadRequest("the body of the request broke off or stood still");
    let mut attempt = body.attempt().ok_or(BROKEN)?;
    let reading = async {
        let mut left = MOST;
        while let Some(frame) = attempt.frame().await {
            let frame = frame.map_err(|_| BROKEN)?;
            let length = frame.data_ref().map_or(0, Bytes::len);
            left = left.checked_sub(length).ok_or(Failure::BadRequest("a token request is not that large"))?;
        }
        Ok(())
    };
    tokio::time::timeout(patience, reading).await.map_err(|_| BROKEN)?
}

/// The answer. There is no `scope` in it, which says that it is what was asked for (RFC 6749, 5.1), and spares repeating
/// what an app wrote.
pub(super) fn respond(mut exchange: Exchange, manner: Manner, now: SystemTime, arrival: &Arrival) -> Response<Reply> {
    let Some(token) = token(now) else {
        return Failure::Internal.respond(exchange, manner, true, arrival);
    };
    exchange.answered(StatusCode::OK);
    let text = json!({"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME}).to_string();
    let mut response = Response::new(Reply::own(Some(Bytes::from(text)), exchange));
    for (name, value) in
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A JWT that says what it is, for SDKs that read when theirs expires. Its key is made for it and forgotten, so nobody can
/// verify it. `None` if the system has no random bytes.
fn token(now: SystemTime) -> Option<String> {
    let issued = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let part = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let mut token = part(json!({"alg": "HS256", "typ": "JWT"}));
    let claims = json!({
        "iss": "urn:bearerd:placeholder",
        "sub": "placeholder",
        "iat": issued,
        "exp": issued.saturating_add(LIFETIME),
    });
    write!(token, ".{}", part(claims)).ok()?;
    let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, token.as_bytes()));
    write!(token, ".{signature}").ok()?;
    Some(token)
}
