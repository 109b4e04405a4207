//! What a worker serves by now. A reload exchanges it as a whole: a request asks for it once and ends with what it began
//! with, the next one on the same connection gets the new.
//!
//! Whoever waits for an app must not hold it: an idle connection would keep the routes of a plan that is long gone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hyper::server::conn::http1;

use super::connection;
use super::settings::Limits;
use super::worker::Live;
use crate::ca::Ca;
use crate::forward::Forward;

/// Holds what is in force.
pub(super) struct Current(RefCell<Rc<InForce>>);

/// What one plan comes to in one worker.
pub(super) struct InForce {
    pub(super) forward: Forward,
    pub(super) terms: Rc<Terms>,
    /// There is one if a route intercepts.
    pub(super) ca: Option<Arc<Ca>>,
}

/// What a connection is held to from its beginning to its end.
pub(super) struct Terms {
    pub(super) limits: Limits,
    pub(super) builder: http1::Builder,
}

impl Current {
    pub(super) fn new(live: &Live, forward: Forward) -> Self {
        let terms = Terms { limits: live.limits, builder: connection::builder(&live.limits) };
        Self(RefCell::new(Rc::new(InForce { forward, terms: Rc::new(terms), ca: live.ca.clone() })))
    }

    /// What is in force now: for one request, and not to be kept.
    pub(super) fn get(&self) -> Rc<InForce> {
        Rc::clone(&self.0.borrow())
    }

    /// Puts another plan in force, from the next request on. Connections keep the limits that they began with.
    pub(super) fn exchange(&self, live: &Live) {
        let forward = {
            let before = &self.0.borrow().forward;
            let outbound = before.outbound.followed_by(&live.routes, Arc::clone(&live.destinations));
            Forward {
                routes: Arc::clone(&live.routes),
                outbound,
                observer: before.observer.clone(),
                via: Arc::clone(&before.via),
                tracing: live.tracing,
                clock: before.clock,
                ledger: Arc::clone(&before.ledger),
            }
        };
        self.0.replace(Self::new(live, forward).0.into_inner());
    }
}
