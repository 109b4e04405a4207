//! Sends a request over a connection that serves, and waits for the head of the answer.
//!
//! A request that hyper hands back was never written: it goes out again over the next connection, whatever its method.
//! A request that may have been written is the caller's to judge.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::dial::{Destinations, Dialer, Dialled};
use super::outgoing::Outgoing;
use super::pool::{Lease, Pool};
use crate::life::{Stock, Taken};
use crate::rules::Route;
use crate::tls::Protocols;
use crate::wire::fault::Fault;
use crate::wire::replay::Replay;

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// An upstream's head: the same as what hyper allows in all, and far beyond what any API sends.
const MAX_HEAD: usize = 256 * 1024;

/// One worker's way out.
pub struct Outbound {
    destinations: Arc<Destinations>,
    places: Stock,
    control: Handle,
    upstreams: RefCell<HashMap<usize, Rc<Upstream>>>,
}

/// What one worker keeps for one route.
struct Upstream {
    dialer: Dialer,
    pool: Rc<Pool>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No connection could be made: nothing was sent.
    Dial(Fault),
    /// The connection ended before an answer came; the request may have been taken.
    Broken { fault: Fault, reused: bool },
    /// The head of the answer did not come in time.
    Timeout,
    /// The app's body broke off or stood still.
    App,
}

impl Outbound {
    /// `places` are for connections, shared by all workers; `control` is where names are looked up.
    pub fn new(destinations: Arc<Destinations>, places: Stock, control: Handle) -> Self {
        Self { destinations, places, control, upstreams: RefCell::default() }
    }

    /// Closes idle connections in time; runs until it is dropped.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = Instant::now();
            for upstream in self.upstreams.borrow().values() {
                upstream.pool.sweep(now);
            }
        }
    }

    /// Sends, over an idle connection unless `fresh`, and waits for the head of the answer.
    ///
    /// # Errors
    /// There is no answer; see [`SendError`].
    pub async fn send(
        &self,
        outgoing: Outgoing,
        body: &Replay,
        fresh: bool,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let Outgoing { mut request, route, .. } = outgoing;
        let upstream = self.upstream(&route)?;
        let mut fresh = fresh;
        loop {
            let idle = if fresh { None } else { upstream.pool.take() };
            let mut lease = match idle {
                Some(lease) => lease,
                None => upstream.connect(&route, self.place().await?).await?,
            };
            let sending = lease.sender.try_send_request(request);
            match head_in_time(sending, body, &route).await? {
                Ok(response) => return Ok((response, lease)),
                Err(mut error) => match error.take_message() {
                    // A fresh connection that takes nothing is not going to.
                    Some(unsent) if lease.reused => request = unsent,
                    Some(_) | None if body.progress().is_some_and(|progress| progress.broken) => {
                        return Err(SendError::App);
                    }
                    Some(_) | None => {
                        let fault = Fault::of(error.error());
                        return Err(SendError::Broken { fault, reused: lease.reused });
                    }
                },
            }
            // One stale connection is rarely alone.
            fresh = true;
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
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let Outgoing { request, route, .. } = outgoing;
        let upstream = self.upstream(&route)?;
        let mut lease = upstream.connect_alone(&route, self.place().await?).await?;
        match head_in_time(lease.sender.try_send_request(request), body, &route).await? {
            Ok(response) => Ok((response, lease)),
            Err(error) => Err(SendError::Broken { fault: Fault::of(error.error()), reused: false }),
        }
    }

    /// A place for another connection. Where none is left, idle ones make room: one that works is worth more.
    async fn place(&self) -> Result<Taken, SendError> {
        if let Some(place) = self.places.take() {
            return Ok(place);
        }
        for upstream in self.upstreams.borrow().values() {
            upstream.pool.clear();
        }
        // They are closed by tasks of their own.
        tokio::task::yield_now().await;
        self.places.take().ok_or(SendError::Dial(Fault::Overloaded))
    }

    fn upstream(&self, route: &Route) -> Result<Rc<Upstream>, SendError> {
        if let Some(upstream) = self.upstreams.borrow().get(&route.id) {
            return Ok(Rc::clone(upstream));
        }
        let dialer = self.destinations.dialer(route, &self.control).ok_or(SendError::Dial(Fault::Other))?;
        let timeouts = route.settings.timeouts;
        let pool = Rc::new(Pool::new(timeouts.pool_idle, timeouts.max_age));
        let upstream = Rc::new(Upstream { dialer, pool });
        self.upstreams.borrow_mut().insert(route.id, Rc::clone(&upstream));
        Ok(upstream)
    }
}

impl Upstream {
    async fn connect(&self, route: &Route, place: Taken) -> Result<Lease, SendError> {
        let io = match self.dialer.dial(Protocols::Http1).await {
            Ok(Dialled { io, http2: false }) => io,
            // It was not offered.
            Ok(Dialled { http2: true, .. }) => return Err(SendError::Dial(Fault::Version)),
            Err(fault) => return Err(SendError::Dial(fault)),
        };
        let handshake = http1::Builder::new().max_header_size(MAX_HEAD).handshake(io).await;
        let (sender, connection) = handshake.map_err(|error| SendError::Dial(Fault::of(&error)))?;
        let counted = route.metrics.connection();
        tokio::task::spawn_local(async move {
            // What goes wrong is told to whoever waits for an answer.
            let _ = connection.await;
            drop((counted, place));
        });
        Ok(self.pool.lease(sender))
    }

    async fn connect_alone(&self, route: &Route, place: Taken) -> Result<Lease, SendError> {
        // Without a body there is no upload that could be refused, and what comes after HTTP has to see each end.
        let dialled = self.dialer.dial(Protocols::Http1).await.map_err(SendError::Dial)?;
        let handshake = http1::Builder::new().max_header_size(MAX_HEAD).handshake(dialled.io.into_inner()).await;
        let (sender, connection) = handshake.map_err(|error| SendError::Dial(Fault::of(&error)))?;
        let counted = Rc::new((route.metrics.connection(), place));
        let mut lease = self.pool.lease(sender);
        lease.counted = Some(Rc::clone(&counted));
        lease.spoil();
        tokio::task::spawn_local(async move {
            // What goes wrong is told to whoever waits for an answer, or for what comes after it.
            let _ = connection.with_upgrades().await;
            drop(counted);
        });
        Ok(lease)
    }
}

/// Waits for the answer's head: `timeouts.headers` from the last byte of the request, and while that is still moving,
/// `timeouts.body_idle` from the last byte that moved.
async fn head_in_time<T>(sending: impl Future<Output = T>, body: &Replay, route: &Route) -> Result<T, SendError> {
    let timeouts = &route.settings.timeouts;
    let begun = Instant::now();
    let mut sending = pin!(sending);
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
