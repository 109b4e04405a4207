//! A request's life, on one screen: admit, prepare, authorize, send, judge, relay, record.
//!
//! Must never know what kind of listener a request came by, or the configuration. Nothing here can ask for a token; it
//! can wait for one, and tell that one was refused.

mod advice;
mod connect;
mod exchange;
mod failure;
mod judge;
mod pipe;
mod places;
mod reply;
mod stub;
mod upgrade;

use std::pin::pin;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use self::exchange::{Carried, Exchange};
pub use self::failure::Failure;
use self::failure::Manner;
use self::judge::{Told, Verdict};
pub use self::reply::Reply;
use self::reply::{Relayed, Source};
pub use self::upgrade::{Next, Upgrade};
use crate::bug;
use crate::clock::Now;
use crate::life::{Ledger, contained};
use crate::observe::Observer;
use crate::observe::access::{Phase, Trail};
use crate::outbound::{Outbound, Outgoing, Prepared, SendError, Unsealed};
use crate::rules::gate::Full;
use crate::rules::way_back::way_back;
use crate::rules::{Admission, Admitted, Arrival, Routes};
use crate::token::NoToken;
use crate::wire::fault::Fault;
use crate::wire::form::{Form, Target};
use crate::wire::grpc;
use crate::wire::headers::{
    announce, announced, expects_continue, is_framed_twice, is_plain_coding, is_plain_length, strip_response,
    strip_trailers,
};
use crate::wire::replay::Replay;
use crate::wire::trace::TraceId;
use crate::wire::via::Via;
use crate::wire::websocket::Handshake;

/// All that one worker's requests share under one plan.
pub struct Forward {
    pub routes: Arc<Routes>,
    pub outbound: Outbound,
    pub observer: Observer,
    pub via: Arc<Via>,
    /// Whether a trace is begun where a request belongs to none.
    pub tracing: bool,
    pub clock: fn() -> Now,
    /// Knows whether what ends is cut off.
    pub ledger: Arc<Ledger>,
}

/// How a request that may be made is answered.
#[expect(clippy::large_enum_variant, reason = "one a request, taken apart at once; a box would be an allocation")]
enum Answer {
    Upstream(Relayed),
    /// By us, with a token that is worth nothing.
    Placeholder,
}

impl Forward {
    /// Answers a request. There is always an answer; that the connection ends with it, it says as HTTP/1 does.
    /// `head` is lent, and left without what was sent: by value it would lie in each of the futures that it went through.
    pub async fn handle(&self, arrival: &Arrival, head: &mut Parts, body: Incoming) -> Response<Reply> {
        let version = head.version;
        let expects = version == Version::HTTP_11 && expects_continue(&head.headers);
        let is_call = version == Version::HTTP_2 && grpc::is_grpc(&head.headers);
        let manner = if is_call { Manner::Grpc } else { Manner::Http };
        let body = Replay::new(body, version, expects);
        let handshake = Handshake::of(head).filter(|_| body.length() == Some(0));
        // An app may have sent ahead what it means for a WebSocket; unless there is one, nothing behind the request is
        // to be read as another.
        let ends = handshake.is_some();
        let mut exchange = Exchange::new(self, head, arrival);
        body.count(exchange.tally());
        if self.tracing {
            let random = || (fastrand::u128(..), fastrand::u64(..));
            exchange.traced(Some(TraceId::of_or_begun(&mut head.headers, random)));
        } else if exchange.trail().is_on() {
            exchange.traced(TraceId::of(&head.headers));
        }
        let outcome = contained(pin!(self.exchange(arrival, head, &body, handshake.as_ref(), &mut exchange))).await;
        let failure = match outcome {
            Some(Ok(Answer::Placeholder)) => {
                let mut response = stub::respond(exchange, manner, (self.clock)().wall, arrival);
                if body.has_trailers() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                return response;
            }
            Some(Ok(Answer::Upstream(Relayed { response, lease, .. })))
                if response.status() == StatusCode::SWITCHING_PROTOCOLS =>
            {
                return upgrade::agree(response, lease, exchange);
            }
            Some(Ok(Answer::Upstream(mut relayed))) => {
                let is_read = body.progress().is_none_or(|progress| progress.finished);
                if ends || !is_read || body.has_trailers() {
                    relayed.response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                return reply::relay(relayed, body.leave_unasked(), exchange);
            }
            Some(Err(failure)) => failure,
            None => Failure::Internal,
        };
        // hyper closes a connection with an unread body in it; an app that is not told sends its next request into
        // that.
        let ends = !body.is_over().await || body.has_trailers() || ends;
        failure.respond(exchange, manner, ends, arrival)
    }

    /// What a request alleges to be for, and what becomes of it.
    fn admit(&self, arrival: &Arrival, head: &Parts, exchange: &mut Exchange) -> Result<(Target, Admission), Failure> {
        let mut target = Target::of(head)?;
        if let Some(intercepted) = &arrival.intercepted {
            target = target.within(intercepted.authority())?;
        }
        let caller = self.routes.clients().name(arrival, &head.headers, target.form());
        exchange.names(target.authority(), caller.as_ref());
        match self.routes.admit(&target, &head.method, &head.headers, arrival, caller.as_ref()) {
            Ok(admission) => Ok((target, admission)),
            Err((refusal, route)) => {
                exchange.by(route.as_ref());
                exchange.seeks(&target, &head.headers, caller.as_ref());
                Err(Failure::refused(refusal, &target))
            }
        }
    }

    /// What most requests never wait for is boxed: every request's future would have room for it.
    async fn exchange(
        &self,
        arrival: &Arrival,
        head: &mut Parts,
        body: &Replay,
        handshake: Option<&Handshake>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failure> {
        bug::at("request");
        let (target, admission) = self.admit(arrival, head, exchange)?;
        let admitted = match admission {
            Admission::Forward(admitted) => admitted,
            Admission::StubToken(route) => {
                exchange.by(Some(&route));
                Box::pin(stub::read(body, route.settings.timeouts.body_idle)).await?;
                return Ok(Answer::Placeholder);
            }
        };
        let route = admitted.route();
        exchange.by(Some(route));
        if self.via.has_passed(&head.headers) {
            return Err(Failure::Upstream(Fault::Loop));
        }
        let place = match route.gate.pass() {
            Some(place) => place,
            None => Box::pin(route.gate.enter(exchange.trail())).await?,
        };
        exchange.entered(place);
        exchange.needs_token();

        let mut prepared = Prepared::new(head, &admitted, &self.via);
        if let Some(handshake) = handshake {
            prepared.ask_for(handshake);
        }
        let renew_on = route.settings.renew_on.as_ref();
        body.prepare(renew_on.map_or(0, |renew_on| renew_on.replay_limit), prepared.trailers());

        // How often it was sent again over a fresh connection, and whether with a token that is not the first.
        let (mut retried, mut refused) = (0, None);
        // The answer to a token that was refused, kept until the request is on its way again: if it never is, the app
        // gets the API's own word.
        let mut kept: Option<Box<_>> = None;
        let (mut response, mut lease) = loop {
            // A tick is near enough for whoever has a token. What waits for one, or tells how long to, is exact.
            let sealed = match Outgoing::seal(&admitted, &mut prepared, body, Now::recent()) {
                Err(Unsealed::NoToken(missing)) => {
                    let (pooled, trail) = (handshake.is_none(), exchange.trail());
                    Box::pin(self.authorize(&admitted, &mut prepared, body, missing, pooled, trail)).await
                }
                sealed => sealed.map_err(Failure::from),
            };
            let outgoing = match (sealed, kept.take()) {
                (Ok(outgoing), _) => outgoing,
                (Err(_), Some(answer)) => break *answer,
                (Err(failure), None) => return Err(failure),
            };
            let identity = outgoing.identity;
            exchange.signed(identity);
            let generation = identity.map(|identity| identity.generation);
            let sent = match handshake {
                None => self.outbound.send(outgoing, body, retried > 0, exchange.trail()).await,
                Some(_) => Box::pin(self.outbound.send_alone(outgoing, body, exchange.trail())).await,
            };
            bug::at("answer");
            exchange.trail().enter(Phase::Other);
            body.withhold();
            let mut outcome = sent.map(|(response, lease)| (Source::of(response), lease));
            let told = match &mut outcome {
                Ok((response, _)) if grpc::is_grpc(response.headers()) => Box::pin(told(response)).await,
                Ok(_) | Err(_) => Told::ByStatus,
            };
            let carried = renew_on.zip(generation);
            let later = carried.filter(|_| told == Told::Later);
            exchange.carries(later.map(|(_, generation)| Carried { generation, was_refused: refused.is_some() }));
            let situation = judge::Situation { repeatable: body.can_repeat(), retried, refused, told };
            let verdict = judge::judge(&outcome, prepared.method(), carried, situation);
            if verdict == Verdict::Retry {
                retried += 1;
                continue;
            }
            let answer = outcome.map_err(Failure::from)?;
            match (verdict, &route.token) {
                (Verdict::Renew(generation), Some(token)) => {
                    token.refused(generation);
                    // Once more and no more: a second refusal is told, and not waited for.
                    if refused.is_some() || !body.can_repeat() {
                        break answer;
                    }
                    let answer = Box::new(answer);
                    exchange.trail().enter(Phase::Token);
                    let renewed = Box::pin(token.newer_than(generation, self.clock)).await;
                    exchange.trail().enter(Phase::Other);
                    if !renewed {
                        break *answer;
                    }
                    (refused, kept) = (Some(generation), Some(answer));
                    continue;
                }
                (Verdict::Cured(generation), Some(token)) => token.cured(generation),
                (Verdict::Relay | Verdict::Retry | Verdict::Renew(_) | Verdict::Cured(_), _) => {}
            }
            break answer;
        };
        if let Some(advice) = advice::advice(response.status(), response.headers(), &target, &admitted) {
            self.observer.advise(advice, &route.metrics);
        }
        let agreed = handshake.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
        match agreed {
            Some(handshake) => handshake.check(&prepared.sent(), &response).map_err(Failure::BadUpstream)?,
            None if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Failure::BadUpstream("the upstream switches protocols without being asked"));
            }
            None => {}
        }
        if !is_plain_coding(response.headers()) {
            return Err(Failure::BadUpstream("the upstream's Transfer-Encoding is not exactly `chunked`"));
        }
        let length = response.body().length();
        let has_body = *prepared.method() != Method::HEAD && response.status() != StatusCode::NOT_MODIFIED;
        let headers = response.headers_mut();
        if is_framed_twice(headers) {
            headers.remove(header::CONTENT_LENGTH);
            lease.spoil();
        }
        if !is_plain_length(headers) {
            // `2, 2` is two to hyper and an error, or the first, or the last, to others.
            headers.remove(header::CONTENT_LENGTH);
            if let Some(length) = length.filter(|_| has_body) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        // None stand behind a body whose length is said.
        let trailers = (prepared.takes_trailers() && length.is_none()).then(|| announced(headers));
        let named = strip_response(headers);
        if let Some(mut announced) = trailers {
            strip_trailers(&mut announced, &named);
            announce(headers, &announced);
        }
        if let Some(handshake) = agreed {
            handshake.agree(headers);
        }
        // An app that named the upstream itself means the upstream.
        if matches!(target.form(), Form::Origin(_)) {
            places::lead_back(headers, |reference| way_back(&route.settings, reference));
        }
        if route.settings.via {
            self.via.put_on(headers);
        }
        // The version is of a hop, too: an upstream's HTTP/1.0 is not ours.
        *response.version_mut() = Version::HTTP_11;
        Ok(Answer::Upstream(Relayed { response, lease, named }))
    }

    /// Puts the token on that is `missing`, after waiting for the token request that is under way. `pooled` says that a
    /// connection which is made meanwhile is of use.
    async fn authorize(
        &self,
        admitted: &Admitted,
        prepared: &mut Prepared,
        body: &Replay,
        missing: NoToken,
        pooled: bool,
        trail: &mut Trail,
    ) -> Result<Outgoing, Failure> {
        trail.enter(Phase::Token);
        let good_at = match &admitted.route().token {
            Some(token) => {
                let mut ready = pin!(token.ready(self.clock));
                tokio::select! {
                    biased;
                    ready = &mut ready => ready?,
                    // There is time to make the connection in, so that the token finds it.
                    () = std::future::ready(()), if pooled => {
                        self.outbound.expect(admitted.route());
                        ready.await?
                    }
                }
            }
            None => return Err(missing.into()),
        };
        trail.enter(Phase::Other);
        Ok(Outgoing::seal(admitted, prepared, body, good_at)?)
    }
}

/// Where an answer of gRPC says whether the token is at fault. It says that in its head if it has no messages, or in the
/// trailers right behind the head, or behind the messages.
async fn told(response: &mut Response<Source>) -> Told {
    let mut ended = grpc::is_unauthenticated(response.headers());
    if ended.is_none() {
        ended = response.body_mut().trailers_at_once().await.and_then(grpc::is_unauthenticated);
    }
    match ended {
        Some(true) => Told::Unauthenticated,
        Some(false) => Told::ByStatus,
        None => Told::Later,
    }
}

impl From<Full> for Failure {
    fn from(full: Full) -> Self {
        Self::Overloaded(full)
    }
}

impl From<Unsealed> for Failure {
    fn from(unsealed: Unsealed) -> Self {
        match unsealed {
            Unsealed::NoToken(missing) => missing.into(),
            // A first attempt has all of the body, and a later one is begun only where the body can be repeated.
            Unsealed::BodyGone => Self::BadRequest("the body of the request was sent once and was not kept"),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Dial(fault) | SendError::Untaken(fault) | SendError::Broken { fault, .. } => {
                Self::Upstream(fault)
            }
            SendError::Timeout => Self::Unanswered,
            SendError::App => Self::BadRequest("the body of the request broke off or stood still"),
        }
    }
}
