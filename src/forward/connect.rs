//! A CONNECT's life up to its answer: decided, and dialled where it is a tunnel. What is behind it is `inbound`'s.
//!
//! Must never know what an app's connection is made of.

use std::pin::pin;

use http::Response;
use http::request::Parts;

use super::exchange::Exchange;
use super::failure::Manner;
use super::{Failure, Forward, Reply, upgrade};
use crate::life::contained;
use crate::observe::access::Phase;
use crate::outbound::Tunnel;
use crate::rules::{Arrival, Connect, Intercepted};
use crate::wire::form::Target;
use crate::wire::trace::TraceId;

enum To {
    /// A place that gets every byte as it is.
    Tunnel(Tunnel),
    /// We ourselves, in its stead.
    Intercept(Intercepted),
}

impl Forward {
    /// Answers a CONNECT over HTTP/1. There is always an answer, and the connection ends with every one but 200.
    pub async fn connect(&self, arrival: &Arrival, head: &Parts) -> Response<Reply> {
        let mut exchange = Exchange::new(self, head, arrival);
        if exchange.trail().is_on() {
            exchange.traced(TraceId::of(&head.headers));
        }
        let outcome = contained(pin!(self.lead(arrival, head, &mut exchange))).await;
        let failure = match outcome {
            Some(Ok(To::Tunnel(tunnel))) => return upgrade::tunnel(tunnel, exchange),
            Some(Ok(To::Intercept(intercepted))) => return upgrade::intercept(intercepted, exchange),
            Some(Err(failure)) => failure,
            None => Failure::Internal,
        };
        // What an app has sent behind the head was for somebody else.
        failure.respond(exchange, Manner::Http, true, arrival)
    }

    async fn lead(&self, arrival: &Arrival, head: &Parts, exchange: &mut Exchange) -> Result<To, Failure> {
        let target = Target::of(head)?;
        let caller = self.routes.clients().name(arrival, &head.headers, target.form());
        exchange.names(target.authority(), caller.as_ref());
        exchange.seeks(&target, &head.headers, caller.as_ref());
        let to = self.routes.connect(&target, &head.headers, arrival, caller.as_ref());
        match to.map_err(|refusal| Failure::refused(refusal, &target))? {
            Connect::Intercept(intercepted) => Ok(To::Intercept(intercepted)),
            Connect::Tunnel(to) => {
                exchange.through(to.metrics(), to.authority());
                exchange.trail().enter(Phase::Connect);
                let tunnel = self.outbound.tunnel(&to).await;
                exchange.trail().enter(Phase::Other);
                tunnel.map(To::Tunnel).map_err(Failure::Upstream)
            }
        }
    }
}
