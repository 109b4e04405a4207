//! Sends a request over a connection that serves, and waits for the head of the answer.
//!
//! A request that hyper hands back was never written: it goes out again over the next connection, whatever its method.
//! One that was written is the caller's to judge; what the server says about it is told (RFC 9113, 8.7).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fnv::FnvHashMap;
use http::Response;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::dial::Destinations;
use super::outgoing::{Outgoing, Patience, for_http1, for_http2};
use super::pool::{Lease, Over};
use super::upstream::Upstream;
use crate::life::{Stock, Taken};
use crate::observe::access::{Phase, Trail};
use crate::rules::{Route, RouteId, Routes};
use crate::wire::fault::{Fault, of_http2};
use crate::wire::replay::Replay;

/// How often connections are to be looked through.
pub const SWEEP: Duration = Duration::from_secs(1);

/// An upstream's head: the same as what hyper allows in all, and far beyond what any API sends.
pub(super) const MAX_HEAD: usize = 256 * 1024;

/// One worker's way out, for the routes of one plan. After a reload there is another, with the connections of those that
/// are still routes; this one is left to the requests that began with it.
pub struct Outbound {
    pub(super) destinations: Arc<Destinations>,
    places: Stock,
    upstreams: RefCell<FnvHashMap<RouteId, Rc<Upstream>>>,
    retired: Cell<bool>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No connection could be made: nothing was sent.
    Dial(Fault),
    /// The server has not processed the request, and says so; or it was never written.
    Untaken(Fault),
    /// The connection ended before an answer came; the request may have been taken.
    Broken { fault: Fault, reused: bool },
    /// The head of the answer did not come in time.
    Timeout,
    /// The app's body broke off or stood still.
    App,
}

impl Outbound {
    /// For these routes. `places` are for connections, shared by all workers.
    pub fn new(routes: &Routes, destinations: Arc<Destinations>, places: Stock) -> Self {
        let (upstreams, retired) = (RefCell::default(), Cell::new(false));
        Self { destinations, places, upstreams, retired }.warmed(routes)
    }

    /// The one after a reload. The connections of a route that is none any more end with the requests that they carry.
    pub fn followed_by(&self, routes: &Routes, destinations: Arc<Destinations>) -> Self {
        let next = Self {
            destinations,
            places: self.places.clone(),
            upstreams: RefCell::default(),
            retired: Cell::new(false),
        };
        self.retired.set(true);
        for (id, upstream) in &*self.upstreams.borrow() {
            if next.destinations.lead(*id) {
                next.upstreams.borrow_mut().insert(*id, Rc::clone(upstream));
            } else {
                upstream.pool.retire();
            }
        }
        next.warmed(routes)
    }

    fn warmed(self, routes: &Routes) -> Self {
        for route in routes.all().filter(|route| route.settings.warm > 0) {
            // A route that leads nowhere tells those who take it.
            let _ = self.upstream(route);
        }
        self
    }

    /// Closes idle connections in time, and has those made that are to be there before they are needed. To be called
    /// every [`SWEEP`].
    pub fn tend(&self) {
        let now = Instant::now();
        for upstream in self.upstreams.borrow().values() {
            upstream.pool.sweep(now);
            upstream.keep_warm(now);
        }
    }

    /// Sends, over a connection that is there unless `fresh`, and waits for the head of the answer.
    ///
    /// # Errors
    /// There is no answer; see [`SendError`].
    pub fn send<'a>(
        &'a self,
        outgoing: Outgoing,
        body: &'a Replay,
        mut fresh: bool,
        trail: &'a mut Trail,
    ) -> impl Future<Output = Result<(Response<Incoming>, Lease), SendError>> + 'a {
        let Outgoing { mut request, route, patience, .. } = outgoing;
        // An `async fn` would hold the request twice: as its argument, and where it is used.
        async move {
            let upstream = self.upstream(&route).map_err(SendError::Dial)?;
            if patience != Patience::Route {
                // It is a call of gRPC, which may be silent for longer than its servers put up with pings.
                upstream.pool.calm_down();
            }
            loop {
                let mut lease = upstream.lease(self, fresh, trail).await.map_err(SendError::Dial)?;
                trail.sent();
                let sent = match &mut lease.over {
                    Over::Http1(own) => {
                        request.body_mut().holds(None);
                        let sending = own.sender.try_send_request(for_http1(request, &route, body));
                        head_in_time(pin!(sending), body, patience, &route).await?
                    }
                    Over::Http2(stream) => {
                        request.body_mut().holds(Some(stream.open()));
                        let sending = stream.sender.try_send_request(for_http2(request, &upstream.origin));
                        head_in_time(pin!(sending), body, patience, &route).await?
                    }
                };
                let mut error = match sent {
                    Ok(response) => return Ok((response, lease)),
                    Err(error) => error,
                };
                let unsent = error.take_message();
                if unsent.is_some() {
                    trail.unsent();
                }
                match unsent {
                    Some(unsent) if lease.reused => request = unsent,
                    Some(_) | None if body.progress().is_some_and(|progress| progress.broken) => {
                        return Err(SendError::App);
                    }
                    // A fresh connection that takes nothing is not going to; one that others share may be at its end
                    // already.
                    Some(_) if lease.is_shared() => return Err(SendError::Untaken(Fault::of(error.error()))),
                    Some(_) | None => return Err(judged(error.error(), lease.reused, &upstream)),
                }
                // One stale connection is rarely alone; one that is shared tells that it is closed.
                fresh = fresh || !lease.is_shared();
            }
        }
    }

    /// Sends a request that asks for another protocol, and waits for the head of the answer: over a connection of its own,
    /// which speaks HTTP/1.1 and serves no other request, whatever is answered. For as long as the lease is held, the
    /// connection counts as one.
    ///
    /// # Errors
    /// There is no answer; see [`SendError`].
    pub async fn send_alone(
        &self,
        outgoing: Outgoing,
        body: &Replay,
        trail: &mut Trail,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let Outgoing { request, route, patience, .. } = outgoing;
        let upstream = self.upstream(&route).map_err(SendError::Dial)?;
        trail.enter(Phase::Connect);
        let place = self.place().await.map_err(SendError::Dial)?;
        let (mut sender, counted) = upstream.make_alone(place).await.map_err(SendError::Dial)?;
        trail.sent();
        match head_in_time(pin!(sender.try_send_request(request)), body, patience, &route).await? {
            Ok(response) => Ok((response, upstream.pool.alone(sender, counted))),
            Err(error) => Err(SendError::Broken { fault: Fault::of(error.error()), reused: false }),
        }
    }

    /// A place for another connection. Where none is left, idle ones make room: one that works is worth more.
    pub(super) async fn place(&self) -> Result<Taken, Fault> {
        /// They are closed by tasks of their own, one after the other: HTTP/2 says goodbye first.
        const TURNS: usize = 4;
        if let Some(place) = self.places.take() {
            return Ok(place);
        }
        for upstream in self.upstreams.borrow().values() {
            upstream.pool.clear();
        }
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
            if let Some(place) = self.places.take() {
                return Ok(place);
            }
        }
        Err(Fault::Overloaded)
    }

    /// Has a connection made if none is there: a request of this route is going to need one. What comes of it, whoever
    /// needs it learns.
    pub fn expect(&self, route: &Arc<Route>) {
        if let Ok(upstream) = self.upstream(route) {
            upstream.expect();
        }
    }

    fn upstream(&self, route: &Arc<Route>) -> Result<Rc<Upstream>, Fault> {
        if let Some(upstream) = self.upstreams.borrow().get(&route.id) {
            return Ok(Rc::clone(upstream));
        }
        let dialer = self.destinations.dialer(route).ok_or(Fault::Other)?;
        let upstream = Rc::new(Upstream::new(dialer, route, self.places.clone()).ok_or(Fault::Other)?);
        if self.retired.get() {
            // Nobody tends it.
            upstream.pool.retire();
        }
        self.upstreams.borrow_mut().insert(route.id, Rc::clone(&upstream));
        Ok(upstream)
    }
}

/// What an error says about a request that was written.
///
/// The server has not processed it if it says so (RFC 9113, 8.7): by the reset of its stream, or because its stream came
/// after the last that the server looked at. `HTTP_1_1_REQUIRED` is as good as either: what asks for another way has not
/// gone this one. Any other reset ends one request alone: it is no sign of a connection that was stale.
fn judged(error: &hyper::Error, reused: bool, upstream: &Upstream) -> SendError {
    let fault = Fault::of(error);
    let Some(error) = of_http2(error) else { return SendError::Broken { fault, reused } };
    let untaken = error.is_remote()
        && match error.reason() {
            Some(h2::Reason::HTTP_1_1_REQUIRED) => upstream.requires_http1(),
            Some(h2::Reason::REFUSED_STREAM) => true,
            _ => error.is_go_away(),
        };
    match untaken {
        true => SendError::Untaken(fault),
        false => SendError::Broken { fault, reused: reused && !error.is_reset() },
    }
}

/// Waits for the answer's head: `timeouts.headers` from the last byte of the request, and while that is still moving,
/// `timeouts.body_idle` from the last byte that moved; or as long as the call has.
async fn head_in_time<T>(
    mut sending: Pin<&mut impl Future<Output = T>>,
    body: &Replay,
    patience: Patience,
    route: &Route,
) -> Result<T, SendError> {
    let timeouts = &route.settings.timeouts;
    let begun = Instant::now();
    match patience {
        Patience::Route => {}
        Patience::Deadline(deadline) => {
            // Whoever called has given up by then, a moment before us.
            let late = Box::pin(tokio::time::timeout(deadline.max(timeouts.headers), sending)).await;
            return late.map_err(|_| SendError::Timeout);
        }
        Patience::Endless => return Ok(sending.await),
    }
    let mut late = pin!(tokio::time::sleep_until(begun + timeouts.headers.min(timeouts.body_idle)));
    loop {
        tokio::select! {
            biased;
            outcome = &mut sending => return Ok(outcome),
            () = &mut late => {}
        }
        let progress = body.progress();
        let due = match progress {
            Some(progress) if !progress.finished => progress.moved.max(begun) + timeouts.body_idle,
            Some(progress) => progress.moved.max(begun) + timeouts.headers,
            None => begun + timeouts.headers,
        };
        if due <= Instant::now() {
            let waits_for_app = progress.is_some_and(|progress| !progress.finished && progress.waits_for_app);
            return Err(if waits_for_app { SendError::App } else { SendError::Timeout });
        }
        late.as_mut().reset(due);
    }
}
