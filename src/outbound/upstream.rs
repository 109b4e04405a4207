//! What one worker keeps for one route: how its connections are made, and when.
//!
//! A server that speaks HTTP/2 is not asked for more connections than it takes to carry what waits, and one that speaks
//! HTTP/1 for one each. Which it is, the first connection tells; whoever comes before that waits for it. Must never know
//! requests.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri;
use hyper::client::conn::http1;
use tokio::time::Instant;

use super::dial::{Dialer, Dialled};
use super::http2::{Connection, STREAMS};
use super::pool::{Handed, Held, Lease, Made, Pool, Speaks};
use super::send::{MAX_HEAD, Outbound, SWEEP};
use crate::bug;
use crate::life::{Stock, Taken, contained};
use crate::observe::access::{Phase, Trail};
use crate::rules::Route;
use crate::tls::Protocols;
use crate::wire::fault::Fault;
use crate::wire::replay::Attempt;

/// How long a server that wants HTTP/1.1 for one request (`HTTP_1_1_REQUIRED`) is spoken to in it. It may mean this
/// request alone, and then HTTP/2 is worth having back; asking again costs one request a second trip.
const HTTP1_FOR: Duration = Duration::from_secs(600);

/// How long nothing is made ahead of need after so many failures in a row: from one second up to a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Upstream {
    dialer: Dialer,
    pub(super) pool: Rc<Pool>,
    /// Its scheme and authority, as HTTP/2 says them.
    pub(super) origin: (uri::Scheme, uri::Authority),
    route: Arc<Route>,
    places: Stock,
    /// Until then it is spoken to in HTTP/1.1.
    http1_until: Cell<Option<Instant>>,
    /// Until then nothing is made ahead of need, and how often that failed in a row.
    pause: Cell<(Option<Instant>, u32)>,
}

impl Upstream {
    /// `None` if its authority cannot stand in a URI.
    pub(super) fn new(dialer: Dialer, route: &Arc<Route>, places: Stock) -> Option<Self> {
        let timeouts = route.settings.timeouts;
        let scheme = if route.settings.upstream.https { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
        let authority = uri::Authority::try_from(route.host.as_bytes()).ok()?;
        Some(Self {
            dialer,
            pool: Rc::new(Pool::new(timeouts.pool_idle, timeouts.max_age)),
            origin: (scheme, authority),
            route: Arc::clone(route),
            places,
            http1_until: Cell::new(None),
            pause: Cell::new((None, 0)),
        })
    }

    /// What may be spoken over the next connection.
    fn protocols(&self) -> Protocols {
        let settings = &self.route.settings;
        let is_required = || self.http1_until.get().is_some_and(|until| Instant::now() < until);
        match settings.http {
            // Without TLS nobody can be asked, and most speak HTTP/1.1.
            Protocols::Either if !settings.upstream.https || is_required() => Protocols::Http1,
            protocols @ (Protocols::Http1 | Protocols::Http2 | Protocols::Either) => protocols,
        }
    }

    /// The server wants HTTP/1.1. Whether it can have it.
    pub(super) fn requires_http1(&self) -> bool {
        let may = self.route.settings.http == Protocols::Either;
        if may {
            self.http1_until.set(Some(Instant::now() + HTTP1_FOR));
        }
        may
    }

    /// A connection that serves, or part of one; if `fresh`, one that is made from now on.
    ///
    /// # Errors
    /// None could be made.
    pub(super) async fn lease(
        self: &Rc<Self>,
        outbound: &Outbound,
        fresh: bool,
        trail: &mut Trail,
    ) -> Result<Lease, Fault> {
        let not_before = fresh.then(Instant::now);
        loop {
            let protocols = self.protocols();
            if protocols != Protocols::Http1
                && let Some(lease) = self.pool.take_shared(not_before)
            {
                return Ok(lease);
            }
            if !fresh && let Some(lease) = self.pool.take() {
                return Ok(lease);
            }
            trail.enter(Phase::Connect);
            let is_alone = protocols == Protocols::Http1 || self.pool.speaks() == Some(Speaks::Http1);
            if is_alone && (fresh || !self.pool.is_expecting()) {
                let place = outbound.place().await?;
                // Boxed: it is rare, and every request would carry its size.
                return Ok(self.pool.lease(Box::pin(self.make(place)).await?));
            }
            if !is_alone && self.pool.wants(1) {
                let place = outbound.place().await?;
                // Others may have been quicker.
                if self.pool.wants(1) {
                    self.begin(place);
                }
            }
            match self.pool.wait(not_before).await {
                Ok(Handed::Lease(lease)) => return Ok(lease),
                Ok(Handed::LookAgain) => {}
                Ok(Handed::Failed(fault)) => return Err(fault),
                // Nobody forgets who waits.
                Err(_) => return Err(Fault::Other),
            }
        }
    }

    /// Makes one for whoever waits; it goes on if all of them go away.
    fn begin(self: &Rc<Self>, place: Taken) {
        self.begin_for(place, false);
    }

    /// The same; `expected` says that it is for the first who comes.
    fn begin_for(self: &Rc<Self>, place: Taken, expected: bool) {
        self.pool.dialling();
        if expected {
            self.pool.expects(true);
        }
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // Somebody waits for it, whatever becomes of it.
            let outcome = contained(pin!(this.make(place))).await.unwrap_or(Err(Fault::Other));
            let made = outcome.is_ok();
            this.paused(made);
            if expected {
                this.pool.expects(false);
                if !made {
                    // It was begun before any of them came, and is none of their failures.
                    this.pool.tell_to_look_again();
                }
            }
            this.pool.dialled(outcome);
            // It may carry less than those before it did. After a failure only new requests try again.
            while made && this.pool.wants(0) {
                match this.places.take() {
                    Some(place) => this.begin(place),
                    None => return this.pool.gives_up(Fault::Overloaded),
                }
            }
        });
    }

    /// One that speaks HTTP/1.1 whatever the route likes better, and something else when that has come to its end.
    ///
    /// # Errors
    /// It could not be made.
    pub(super) async fn make_alone(&self, place: Taken) -> Result<(http1::SendRequest<Attempt>, Rc<Held>), Fault> {
        // Without a body there is no upload that could be refused, and what comes after HTTP has to see each end.
        let io = self.dialer.dial(Protocols::Http1).await?.io.into_inner();
        let handshake = http1::Builder::new().max_header_size(MAX_HEAD).handshake(io).await;
        let (sender, connection) = handshake.map_err(|error| Fault::of(&error))?;
        let counted = Rc::new((self.route.metrics.connection(), place));
        let held = Rc::clone(&counted);
        tokio::task::spawn_local(async move {
            // What goes wrong is told to whoever waits for an answer, or for what comes after it.
            let _ = connection.with_upgrades().await;
            drop(held);
        });
        Ok((sender, counted))
    }

    async fn make(&self, place: Taken) -> Result<Made, Fault> {
        bug::at("dial");
        let begun = Instant::now();
        let protocols = self.protocols();
        let Dialled { io, http2 } = self.dialer.dial(protocols).await?;
        let held = (self.route.metrics.connection(), place);
        if http2 {
            // The rest of the time that the connection has.
            let left = self.route.settings.timeouts.connect.saturating_sub(begun.elapsed());
            let opening = Connection::open(io, held, self.pool.is_calm());
            return match tokio::time::timeout(left, opening).await {
                Ok(Ok(connection)) => Ok(Made::Http2(connection)),
                // Nobody agreed to HTTP/2 there.
                Ok(Err(_)) if !self.route.settings.upstream.https => Err(Fault::Version),
                Ok(Err(fault)) => Err(fault),
                Err(_) => Err(Fault::Timeout),
            };
        }
        if protocols == Protocols::Either {
            self.pool.likes_http1();
        }
        let handshake = http1::Builder::new().max_header_size(MAX_HEAD).handshake(io).await;
        let (sender, mut connection) = handshake.map_err(|error| Fault::of(&error))?;
        tokio::task::spawn_local(async move {
            bug::at("http1");
            // What goes wrong is told to whoever waits for an answer. Lent, since awaited as it is it would lie in here
            // twice, which is 5 KiB more.
            let _ = (&mut connection).await;
            drop(held);
        });
        Ok(Made::Http1(sender))
    }

    /// Has connections made ahead of need: as many as `warm` says for HTTP/1, and one of HTTP/2 for as many as it
    /// carries. One that will soon have been idle for too long is none.
    pub(super) fn keep_warm(self: &Rc<Self>, now: Instant) {
        let warm = self.route.settings.warm;
        if warm == 0 || self.is_paused(now) {
            return;
        }
        let there = self.pool.ready_for(now, 2 * SWEEP);
        let each = match (self.protocols(), self.pool.speaks()) {
            (Protocols::Http1, _) | (_, Some(Speaks::Http1)) => 1,
            (_, Some(Speaks::Http2 { .. })) => STREAMS,
            // The first tells.
            (_, None) => warm,
        };
        let missing = warm.saturating_sub(there).div_ceil(each).saturating_sub(self.pool.dials());
        for _ in 0..missing {
            // Where there is no place they are not needed.
            let Some(place) = self.places.take() else { return };
            self.begin(place);
        }
    }

    /// Makes one for a request that is not ready to be sent, unless there is one or one is being made.
    pub(super) fn expect(self: &Rc<Self>) {
        let now = Instant::now();
        if !self.is_paused(now)
            && self.pool.dials() == 0
            && self.pool.ready_for(now, Duration::ZERO) == 0
            && let Some(place) = self.places.take()
        {
            self.begin_for(place, true);
        }
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.pause.get().0.is_some_and(|until| now < until)
    }

    /// Tells how one went that may have been made ahead of need.
    fn paused(&self, made: bool) {
        let failures = if made { 0 } else { self.pause.get().1.saturating_add(1) };
        let pause = (failures > 0).then(|| {
            let longest = SWEEP.saturating_mul(1 << (failures - 1).min(6)).min(LONGEST_PAUSE);
            // Between half and whole: several instances do not come back at once.
            Instant::now() + longest.mul_f64(0.5 + fastrand::f64() / 2.0)
        });
        self.pause.set((pause, failures));
    }
}
