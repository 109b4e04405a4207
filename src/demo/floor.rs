//! The API's side of each request: judge, log, read, answer.
//!
//! Must never know the sockets it is reached through.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::answer::{Answer, BodyCut, Payload, altered};
use super::gate::{Gate, Judged};
use super::log::{EntryId, Log};
use super::script::Script;
use super::seen::{Seen, shown, target};
use super::server::{Answering, Outcome, Service};
use super::steps::Step;
use super::token::Verdict;

pub(super) struct Floor {
    pub gate: Gate,
    pub script: Script,
    pub seen: Log<Seen>,
    /// Off for loads of requests: then they are only counted.
    pub logging: AtomicBool,
    pub tally: Tally,
}

/// What is counted of every request, logged or not.
#[derive(Default)]
pub(super) struct Tally {
    pub requests: AtomicU64,
    /// By verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [AtomicU64; Verdict::ALL.len()],
    pub body_bytes: AtomicU64,
}

impl Service for Floor {
    fn answer(self: Arc<Self>, request: Request<Incoming>, connection: u64) -> Answering {
        Box::pin(self.handle(request, connection))
    }

    fn opening(&self) -> Option<Vec<Step>> {
        self.script.opening()
    }
}

impl Floor {
    async fn handle(self: Arc<Self>, request: Request<Incoming>, connection: u64) -> Outcome {
        let (parts, body) = request.into_parts();
        let judged = self.gate.judge(&parts.headers, SystemTime::now());
        self.tally.requests.fetch_add(1, Ordering::Relaxed);
        self.tally.verdicts[judged.verdict as usize].fetch_add(1, Ordering::Relaxed);
        let logged = self.logging.load(Ordering::Relaxed);
        let entry = logged.then(|| self.seen.push(self.entry(&parts, &judged, connection)));

        let answer = self.script.next(&parts);
        let mut body = Metered::new(body, self.clone(), entry);
        if answer.wants_body() && body.read().await.is_err() {
            return Outcome::Take(vec![Step::Cut]); // whoever sent half a body is not listening
        }
        let response = match answer.due().await {
            Answer::Raw(steps) => return Outcome::Take(steps),
            Answer::Respond(canned) => canned.into_response(),
            Answer::Mirror => Response::new(Payload::mirror(body)),
            truth @ (Answer::Serve | Answer::Edit(_) | Answer::After(..) | Answer::Held(..)) => {
                self.tell(&parts, judged.verdict, &body, &truth)
            }
        };
        if let Some(entry) = entry {
            self.seen.update(entry, |seen| seen.status = Some(response.status().as_u16()));
        }
        Outcome::Respond(response)
    }

    fn entry(&self, parts: &Parts, judged: &Judged, connection: u64) -> Seen {
        Seen {
            at: Instant::now(),
            connection_id: connection,
            method: parts.method.clone(),
            version: parts.version,
            target: target(parts),
            host: host(parts),
            headers: shown(&parts.headers, &self.gate.header),
            authorization_lines: judged.lines,
            token_fingerprint: judged.token,
            verdict: judged.verdict,
            token_expired: judged.verdict == Verdict::Expired,
            body_len: 0,
            body_sha256: None,
            body_cut: false,
            trailers: None,
            status: None,
        }
    }

    fn tell(&self, parts: &Parts, verdict: Verdict, body: &Metered, truth: &Answer) -> Response<Payload> {
        let open = self.gate.verifier.is_none();
        match verdict {
            Verdict::Doubled => {
                let what = json!({"error": "invalid_request", "error_description": "more than one credential"});
                return reply(StatusCode::BAD_REQUEST, &what);
            }
            Verdict::Missing if !open => return challenge("Bearer realm=\"bearerd demo\"", "no token"),
            Verdict::Good | Verdict::Missing => {}
            Verdict::Malformed if open => {}
            Verdict::Malformed | Verdict::Forged => return invalid_token("not a token of this provider"),
            Verdict::WrongAudience => return invalid_token("the token is for another API"),
            Verdict::Expired => return invalid_token("the token has expired"),
            Verdict::Rejected => return invalid_token("the token was revoked"),
        }
        let headers = shown(&parts.headers, &self.gate.header);
        let echo = json!({
            "method": parts.method.as_str(),
            "path": target(parts),
            "host": host(parts),
            "headers": headers.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
            "body_length": body.length,
            "body_sha256": body.digest,
        });
        reply(StatusCode::OK, &altered(echo, truth))
    }
}

fn host(parts: &Parts) -> Option<String> {
    if parts.version == Version::HTTP_2 {
        return parts.uri.authority().map(ToString::to_string);
    }
    let host = parts.headers.get(header::HOST)?;
    Some(String::from_utf8_lossy(host.as_bytes()).into_owned())
}

fn invalid_token(why: &str) -> Response<Payload> {
    challenge(&format!("Bearer error=\"invalid_token\", error_description=\"{why}\""), why)
}

fn challenge(challenge: &str, why: &str) -> Response<Payload> {
    let mut response = reply(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_token", "error_description": why}));
    // Made of the constants above.
    if let Ok(value) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

fn reply(status: StatusCode, body: &Value) -> Response<Payload> {
    let mut response = Response::new(Payload::full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A request's body on its way in: counted, hashed, and reported to the log as it comes.
struct Metered {
    body: Incoming,
    floor: Arc<Floor>,
    entry: Option<EntryId>,
    hash: Option<digest::Context>,
    length: u64,
    /// Once the body is whole.
    digest: Option<String>,
}

impl Metered {
    fn new(body: Incoming, floor: Arc<Floor>, entry: Option<EntryId>) -> Self {
        Self { body, floor, entry, hash: Some(digest::Context::new(&digest::SHA256)), length: 0, digest: None }
    }

    /// Reads it to its end.
    async fn read(&mut self) -> Result<(), BodyCut> {
        while let Some(frame) = self.frame().await {
            frame?;
        }
        Ok(())
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        if let Some(entry) = self.entry {
            self.floor.seen.update(entry, change);
        }
    }

    fn take(&mut self, data: &Bytes) {
        self.length += data.len() as u64;
        self.floor.tally.body_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(hash) = &mut self.hash {
            hash.update(data);
        }
        self.note(|seen| seen.body_len = self.length);
    }

    fn finish(&mut self) {
        let Some(hash) = self.hash.take() else { return };
        let digest: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.note(|seen| seen.body_sha256 = Some(digest.clone()));
        self.digest = Some(digest);
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let metered = self.get_mut();
        let frame = match ready!(Pin::new(&mut metered.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                metered.note(|seen| seen.body_cut = true);
                return Poll::Ready(Some(Err(BodyCut)));
            }
            None => {
                metered.finish();
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            metered.take(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            metered.note(|seen| seen.trailers = Some(trailers.clone()));
        }
        // Whoever reads is free to stop at the last byte or at the trailers.
        if frame.is_trailers() || metered.body.is_end_stream() {
            metered.finish();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
