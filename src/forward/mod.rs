//! A request's life, on one screen: admit, prepare, authorize, send, judge, relay, record.
//!
//! Must never know what kind of listener a request came by, or the configuration. Nothing here can ask for a token; it
//! can wait for one, and tell that one was refused.

mod exchange;
mod failure;
mod judge;
mod reply;

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use self::exchange::Exchange;
pub use self::failure::Failure;
use self::judge::Verdict;
pub use self::reply::Reply;
use crate::clock::Now;
use crate::life::contained;
use crate::observe::Observer;
use crate::outbound::{Lease, Outbound, Outgoing, Prepared, SendError};
use crate::rules::{Admitted, Routes};
use crate::wire::form::Target;
use crate::wire::headers::{is_framed_twice, strip_response};
use crate::wire::replay::Replay;

/// All that one worker's requests share.
pub struct Forward {
    pub routes: Arc<Routes>,
    pub outbound: Rc<Outbound>,
    pub observer: Observer,
    pub clock: fn() -> Now,
}

impl Forward {
    /// Answers a request that came in by `listener`. There is always an answer.
    pub async fn handle(&self, listener: usize, request: Request<Incoming>) -> Response<Reply> {
        let (head, body) = request.into_parts();
        let mut exchange = Exchange::new(self.observer.clone(), head.method.clone());
        match contained(self.exchange(listener, head, body, &mut exchange)).await {
            Some(Ok((response, lease))) => reply::relay(response, lease, exchange),
            Some(Err(failure)) => failure.respond(exchange),
            None => Failure::Internal.respond(exchange),
        }
    }

    async fn exchange(
        &self,
        listener: usize,
        head: Parts,
        body: Incoming,
        exchange: &mut Exchange,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let target = Target::of(&head)?;
        let admitted =
            self.routes.admit(&target, &head.method, &head.headers, listener).map_err(|(refusal, route)| {
                exchange.by(route.as_ref());
                Failure::from(refusal)
            })?;
        let route = admitted.route();
        exchange.by(Some(route));

        let prepared = Prepared::new(head, &admitted);
        let renew_on = route.settings.renew_on.as_ref();
        let body = Replay::new(body, renew_on.map_or(0, |renew_on| renew_on.replay_limit));

        let (mut fresh, mut refused) = (false, None);
        let (mut response, mut lease) = loop {
            let outgoing = self.authorize(&admitted, &prepared, &body).await?;
            let generation = outgoing.generation();
            let outcome = self.outbound.send(outgoing, &body, fresh).await;
            let carried = renew_on.zip(generation);
            let situation = judge::Situation { repeatable: body.can_repeat(), retried: fresh, refused };
            match judge::judge(&outcome, prepared.method(), carried, situation) {
                Verdict::Relay => {}
                Verdict::Retry => {
                    fresh = true;
                    continue;
                }
                Verdict::Renew(generation) => {
                    if self.renewed(&admitted, generation, body.can_repeat()).await {
                        refused = Some(generation);
                        continue;
                    }
                }
                Verdict::Cured(generation) => {
                    if let Some(token) = &route.token {
                        token.cured(generation);
                    }
                }
            }
            break outcome.map_err(Failure::from)?;
        };
        // What asks for an upgrade is not forwarded, so nobody can agree to one.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::BadUpstream("the upstream switches protocols without being asked"));
        }
        let headers = response.headers_mut();
        if is_framed_twice(headers) {
            headers.remove(header::CONTENT_LENGTH);
            lease.spoil();
        }
        strip_response(headers);
        // The version is of a hop, too: an upstream's HTTP/1.0 is not ours.
        *response.version_mut() = Version::HTTP_11;
        Ok((response, lease))
    }

    /// Puts the token on, after waiting for the token request that is under way if there is no token yet.
    async fn authorize(&self, admitted: &Admitted, prepared: &Prepared, body: &Replay) -> Result<Outgoing, Failure> {
        let missing = match Outgoing::seal(admitted, prepared, body, (self.clock)()) {
            Ok(outgoing) => return Ok(outgoing),
            Err(missing) => missing,
        };
        match &admitted.route().token {
            Some(token) => token.ready(self.clock).await?,
            None => return Err(missing.into()),
        }
        Ok(Outgoing::seal(admitted, prepared, body, (self.clock)())?)
    }

    /// Tells that the token was refused; whether there is a newer one to send the request again with.
    async fn renewed(&self, admitted: &Admitted, generation: crate::token::Generation, repeatable: bool) -> bool {
        let Some(token) = &admitted.route().token else { return false };
        token.refused(generation);
        repeatable && token.newer_than(generation, self.clock).await
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Dial(fault) | SendError::Broken { fault, .. } => Self::Upstream(fault),
            SendError::Timeout => Self::Upstream(crate::wire::fault::Fault::Timeout),
            SendError::App => Self::BadRequest("the body of the request broke off or stood still"),
        }
    }
}
