//! One exchange, from head to last byte. Its end is recorded once, always, on drop: however it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::Forward;
use crate::life::Ledger;
use crate::observe::access::{Tally, Trail};
use crate::observe::event::Asked;
use crate::observe::reason::Reason;
use crate::observe::{Observer, RouteMetrics};
use crate::rules::gate::Place;
use crate::rules::guards::origin;
use crate::rules::{Arrival, Caller, Route};
use crate::token::{Generation, Identity};
use crate::wire::authority::Authority;
use crate::wire::form::Target;
use crate::wire::trace::TraceId;

/// nginx's code for an app that went away before it had its answer; no server sends it. One that was cut off had none
/// either, and its reason tells them apart.
const UNANSWERED: u16 = 499;

/// Recorded when it is dropped.
pub(super) struct Exchange {
    observer: Observer,
    ledger: Arc<Ledger>,
    route: Option<Arc<Route>>,
    /// A tunnel's, which has no route.
    tunnel: Option<RouteMetrics>,
    method: Method,
    begun: Instant,
    status: Option<StatusCode>,
    reason: Option<Reason>,
    /// Its place among the route's requests under way.
    place: Option<Place>,
    /// What the access log is to say.
    trail: Trail,
    /// What is to be told of its token when the answer's end says how the call ended.
    carried: Option<Carried>,
    /// What a line about its refusal tells of it; `None` where the route says it all.
    sought: Option<Box<Asked>>,
}

/// The token on a call whose answer ends with the word on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    pub(super) generation: Generation,
    /// The call was refused with an older one.
    pub(super) was_refused: bool,
}

impl Exchange {
    pub(super) fn new(forward: &Forward, head: &Parts, arrival: &Arrival) -> Self {
        let observer = forward.observer.clone();
        let mut trail = observer.trail();
        trail.note(|entry| {
            entry.came(arrival.asked(Asked::default()));
            entry.asks(&head.method, &head.uri, head.version);
        });
        Self {
            trail,
            observer,
            ledger: Arc::clone(&forward.ledger),
            route: None,
            tunnel: None,
            method: head.method.clone(),
            begun: Instant::now(),
            status: None,
            reason: None,
            place: None,
            carried: None,
            sought: None,
        }
    }

    pub(super) fn by(&mut self, route: Option<&Arc<Route>>) {
        self.route = route.cloned();
        if let Some(route) = route {
            self.trail.note(|entry| {
                let upstream = &route.settings.upstream;
                let scheme = if upstream.https { "https" } else { "http" };
                entry.route(&route.metrics);
                entry.upstream = Some(format!("{scheme}://{}", upstream.authority));
            });
        }
    }

    /// What becomes of it, for whoever sends it.
    pub(super) fn trail(&mut self) -> &mut Trail {
        &mut self.trail
    }

    /// Where its bytes are counted.
    pub(super) fn tally(&self) -> Option<&Arc<Tally>> {
        self.trail.tally()
    }

    /// It names this host, and comes from this caller.
    pub(super) fn names(&mut self, host: Option<&Authority>, caller: Option<&Caller>) {
        self.trail.note(|entry| {
            entry.host = host.map(Authority::to_string);
            entry.caller = caller.map(|caller| Arc::clone(&caller.name));
        });
    }

    /// It belongs to this trace.
    pub(super) fn traced(&mut self, trace: Option<TraceId>) {
        self.trail.note(|entry| entry.trace = trace.map(TraceId::number));
    }

    /// It cannot go without its route's token.
    pub(super) fn needs_token(&mut self) {
        if let Some(token) = self.route.as_ref().and_then(|route| route.token.as_ref()) {
            self.trail.note(|entry| entry.token = Some(Arc::clone(token.name())));
        }
    }

    /// This one is on it.
    pub(super) fn signed(&mut self, identity: Option<Identity>) {
        let token = self.route.as_ref().and_then(|route| route.token.as_ref());
        if let (Some(token), Some(identity)) = (token, identity) {
            self.trail.note(|entry| entry.signed = Some((identity.fingerprint, token.credential(identity).cloned())));
        }
    }

    /// It is a tunnel.
    pub(super) fn through(&mut self, tunnel: &RouteMetrics, to: &Authority) {
        self.tunnel = Some(tunnel.clone());
        self.trail.note(|entry| {
            entry.route(tunnel);
            entry.upstream = Some(to.to_string());
        });
    }

    /// It is for this, and is or may be refused.
    pub(super) fn seeks(&mut self, target: &Target, headers: &HeaderMap, caller: Option<&Caller>) {
        let host = target.authority().map(ToString::to_string);
        let caller = caller.map(|caller| Arc::clone(&caller.name));
        self.sought = Some(Box::new(Asked { host, origin: origin(headers), caller, ..Asked::default() }));
    }

    /// It is under way, to its very end.
    pub(super) fn entered(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// How long the answer's body may stand still: the route's.
    pub(super) fn body_idle(&self) -> Duration {
        self.route.as_ref().map_or(Duration::MAX, |route| route.settings.timeouts.body_idle)
    }

    /// The word on its token comes behind the answer.
    pub(super) fn carries(&mut self, carried: Option<Carried>) {
        self.carried = carried;
    }

    /// The answer has ended, and says whether its token was at fault.
    pub(super) fn unauthenticated(&mut self, is_at_fault: bool) {
        let token = self.route.as_ref().and_then(|route| route.token.as_ref());
        match (token, self.carried.take()) {
            (Some(token), Some(carried)) if is_at_fault => token.refused(carried.generation),
            (Some(token), Some(carried)) if carried.was_refused => token.cured(carried.generation),
            (_, _) => {}
        }
    }

    /// The upstream's answer is on its way.
    pub(super) fn relayed(&mut self, status: StatusCode) {
        self.answered(status);
        if let Some(route) = &self.route {
            self.observer.answers(&route.metrics);
        }
    }

    /// The answer's head is on its way.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The answer began well and broke off.
    pub(super) fn broke_off(&mut self, reason: Reason, detail: &str) {
        self.reason = Some(reason);
        let asked = || Asked { method: Some(known(&self.method)), ..Asked::default() };
        self.observer.refused(reason, self.metrics(), detail, asked);
    }

    /// The answer is our own; `why` is for the operator.
    pub(super) fn failed(&mut self, status: StatusCode, reason: Reason, why: &str, arrival: &Arrival) {
        self.status = Some(status);
        self.reason = Some(reason);
        let sought = self.sought.take();
        let asked = || Asked {
            method: Some(known(&self.method)),
            ..arrival.asked(sought.map(|sought| *sought).unwrap_or_default())
        };
        self.observer.refused(reason, self.metrics(), why, asked);
    }

    fn metrics(&self) -> Option<&RouteMetrics> {
        self.route.as_ref().map(|route| &route.metrics).or(self.tunnel.as_ref())
    }
}

/// A method as it may stand in a log: an app's own word for one is as long as it likes.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "other",
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let status = self.status.map_or(UNANSWERED, |status| status.as_u16());
        // What is still there when the end has come was cut off by us, whoever else could be thought to have left.
        let reason = self.reason.or_else(|| self.ledger.is_cutting().then_some(Reason::Draining));
        self.observer.exchange(self.metrics(), known(&self.method), status, reason, self.begun.elapsed());
        let mut trail = std::mem::take(&mut self.trail);
        trail.note(|entry| (entry.status, entry.reason) = (Some(status), reason));
        self.observer.leave(trail);
    }
}
