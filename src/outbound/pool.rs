//! One worker's idle connections to one upstream: a plain list, youngest first, without a lock.
//!
//! A pool belongs to one route, so a connection never carries another route's requests, whatever they share.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::life::Taken;
use crate::observe::ConnectionGuard;
use crate::wire::replay::Attempt;

/// More idle connections than this to one upstream are never of use again: a burst left them.
const MOST_IDLE: usize = 256;

#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<Vec<Idle>>,
    idle_for: Duration,
    max_age: Duration,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Attempt>,
    born: Instant,
    since: Instant,
}

/// A connection in use. Dropped, it is closed; released, it serves again.
#[derive(Debug)]
pub struct Lease {
    pub(super) sender: SendRequest<Attempt>,
    pool: Rc<Pool>,
    born: Instant,
    pub(super) reused: bool,
    reusable: bool,
    /// What a connection that may outlive HTTP is counted by.
    pub(super) counted: Option<Rc<Counted>>,
}

/// A connection's place among all of them and among its route's.
pub(super) type Counted = (ConnectionGuard, Taken);

impl Pool {
    pub(super) fn new(idle_for: Duration, max_age: Duration) -> Self {
        Self { idle: RefCell::default(), idle_for, max_age }
    }

    /// The connection that was used last, if it still serves: it is the least likely to be closed by the peer.
    pub(super) fn take(self: &Rc<Self>) -> Option<Lease> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        let mut place = idle.len();
        while place > 0 {
            place -= 1;
            if self.is_spent(&idle[place], now) {
                idle.remove(place);
            } else if idle[place].sender.is_ready() {
                let Idle { sender, born, .. } = idle.remove(place);
                return Some(Lease {
                    sender,
                    pool: Rc::clone(self),
                    born,
                    reused: true,
                    reusable: true,
                    counted: None,
                });
            }
        }
        None
    }

    pub(super) fn lease(self: &Rc<Self>, sender: SendRequest<Attempt>) -> Lease {
        Lease { sender, pool: Rc::clone(self), born: Instant::now(), reused: false, reusable: true, counted: None }
    }

    /// Closes what has been idle for too long or was closed by its peer. Whether any is left.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|connection| !self.is_spent(connection, now));
        !idle.is_empty()
    }

    /// Closes all that is idle.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    fn is_spent(&self, idle: &Idle, now: Instant) -> bool {
        idle.sender.is_closed() || now >= idle.since + self.idle_for || now >= idle.born + self.max_age
    }
}

impl Lease {
    /// What came over the connection leaves doubt about where its messages end: it must carry no other.
    pub fn spoil(&mut self) {
        self.reusable = false;
    }

    /// The answer has been read to its end.
    pub fn release(self) {
        let Self { sender, pool, born, reusable, .. } = self;
        if reusable && !sender.is_closed() {
            let mut idle = pool.idle.borrow_mut();
            if idle.len() < MOST_IDLE {
                idle.push(Idle { sender, born, since: Instant::now() });
            }
        }
    }
}
