//! One worker's connections to one upstream, without a lock: those of HTTP/1 that are idle, youngest first; those of
//! HTTP/2, which many requests share; and the requests that wait for one that is being made.
//!
//! A pool belongs to one route, so a connection never carries another route's requests, whatever they share. Must never
//! know how connections are made.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::http2::Connection;
use crate::clock::recent;
use crate::life::Taken;
use crate::observe::ConnectionGuard;
use crate::wire::fault::Fault;
use crate::wire::replay::Attempt;

/// More idle connections than this to one upstream are never of use again: a burst left them.
const MOST_IDLE: usize = 256;

/// What a connection holds until it is closed: its place, and its part in the metrics.
pub(super) type Held = (ConnectionGuard, Taken);

#[derive(Debug)]
pub(super) struct Pool {
    /// They speak HTTP/1.
    idle: RefCell<Vec<Idle>>,
    /// They speak HTTP/2.
    shared: RefCell<Vec<Rc<Connection>>>,
    /// Requests that a connection is being made for, the first first.
    waiting: RefCell<VecDeque<Waiting>>,
    /// How many connections are being made for whoever waits.
    dials: Cell<usize>,
    /// One of them is for the first who comes.
    expecting: Cell<bool>,
    /// What the last connection spoke: nobody knows before there was one.
    speaks: Cell<Option<Speaks>>,
    /// The server takes pings for an attack, or may.
    calm: Cell<bool>,
    /// Nothing is kept for later: its route is none any more.
    retired: Cell<bool>,
    idle_for: Duration,
    max_age: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2 {
        /// How many streams such a connection takes.
        streams: usize,
    },
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Attempt>,
    born: Instant,
    since: Instant,
}

#[derive(Debug)]
struct Waiting {
    hand: oneshot::Sender<Handed>,
    not_before: Option<Instant>,
}

/// What whoever waited for a connection gets.
#[derive(Debug)]
pub(super) enum Handed {
    Lease(Lease),
    /// There is another way: it speaks HTTP/1 and has been given to somebody else, or one has become idle, or it came to
    /// nothing and was made for nobody in particular.
    LookAgain,
    Failed(Fault),
}

/// A connection that has just been made.
#[derive(Debug)]
pub(super) enum Made {
    Http1(http1::SendRequest<Attempt>),
    Http2(Connection),
}

/// A connection in use, or a part of one. Dropped, a connection of HTTP/1 is closed; released, it serves again.
#[derive(Debug)]
pub struct Lease {
    pub(super) over: Over,
    /// The connection was there before: the peer may have ended it, and we do not know yet.
    pub(super) reused: bool,
}

#[derive(Debug)]
pub(super) enum Over {
    Http1(Own),
    Http2(Stream),
}

/// A connection of HTTP/1.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) sender: http1::SendRequest<Attempt>,
    pool: Rc<Pool>,
    born: Instant,
    reusable: bool,
    /// What a connection that may outlive HTTP is counted by.
    _counted: Option<Rc<Held>>,
}

/// One of the requests that a connection of HTTP/2 carries.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sender: http2::SendRequest<Attempt>,
    /// What is in use is not closed.
    _connection: Rc<Connection>,
    open: Rc<Open>,
    /// The answer has come to its end; the request may still be on its way.
    answered: bool,
}

/// Counts a stream as open until its answer and its request have come to their end, or nobody waits for the answer.
///
/// The connection is not its own: what waits within a connection must not keep that alive.
#[derive(Debug)]
pub(super) struct Open {
    connection: Weak<Connection>,
    pool: Rc<Pool>,
    left: Cell<bool>,
}

impl Open {
    fn leave(&self) {
        if !self.left.replace(true)
            && let Some(connection) = self.connection.upgrade()
        {
            connection.leave();
            self.pool.serve();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Stream {
    /// For whoever sends the request's body.
    pub(super) fn open(&self) -> Rc<Open> {
        Rc::clone(&self.open)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.answered {
            self.open.leave();
        }
    }
}

impl Pool {
    pub(super) fn new(idle_for: Duration, max_age: Duration) -> Self {
        Self {
            idle: RefCell::default(),
            shared: RefCell::default(),
            waiting: RefCell::default(),
            dials: Cell::new(0),
            expecting: Cell::new(false),
            speaks: Cell::new(None),
            calm: Cell::new(false),
            retired: Cell::new(false),
            idle_for,
            max_age,
        }
    }

    pub(super) fn speaks(&self) -> Option<Speaks> {
        self.speaks.get()
    }

    /// From now on a connection is closed with the last request on it; what is idle is closed now.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }

    /// Whether the server wants fewer pings.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.get()
    }

    /// From now on the server is pinged seldom; a connection that is not takes nothing new.
    pub(super) fn calm_down(&self) {
        self.calm.set(true);
    }

    /// A stream of the fullest connection that has room, so that the others come to an end; of those that were made
    /// after `not_before`, if that is said.
    pub(super) fn take_shared(self: &Rc<Self>, not_before: Option<Instant>) -> Option<Lease> {
        if self.shared.borrow().is_empty() {
            return None;
        }
        self.forget_spent(recent().into());
        self.fullest(not_before)
    }

    fn fullest(self: &Rc<Self>, not_before: Option<Instant>) -> Option<Lease> {
        let shared = self.shared.borrow();
        let serves = |connection: &&Rc<Connection>| {
            connection.has_room() && not_before.is_none_or(|instant| connection.born >= instant)
        };
        let fullest = shared.iter().filter(serves).max_by_key(|connection| connection.streams())?;
        Some(self.stream(fullest, not_before.is_none()))
    }

    /// The connection that was used last, if it still serves: it is the least likely to be closed by the peer.
    pub(super) fn take(self: &Rc<Self>) -> Option<Lease> {
        let now = recent().into();
        let mut idle = self.idle.borrow_mut();
        let mut place = idle.len();
        while place > 0 {
            place -= 1;
            if self.is_spent(&idle[place], now) {
                idle.remove(place);
            } else if idle[place].sender.is_ready() {
                let Idle { sender, born, .. } = idle.remove(place);
                return Some(self.own(sender, born, true));
            }
        }
        None
    }

    fn own(self: &Rc<Self>, sender: http1::SendRequest<Attempt>, born: Instant, reused: bool) -> Lease {
        let pool = Rc::clone(self);
        Lease { over: Over::Http1(Own { sender, pool, born, reusable: true, _counted: None }), reused }
    }

    /// A connection for one request alone; it counts for as long as the lease is held.
    pub(super) fn alone(self: &Rc<Self>, sender: http1::SendRequest<Attempt>, counted: Rc<Held>) -> Lease {
        let (pool, born) = (Rc::clone(self), Instant::now());
        Lease { over: Over::Http1(Own { sender, pool, born, reusable: false, _counted: Some(counted) }), reused: false }
    }

    /// The server took HTTP/1.1 where it could have had HTTP/2.
    pub(super) fn likes_http1(&self) {
        self.speaks.set(Some(Speaks::Http1));
    }

    fn stream(self: &Rc<Self>, connection: &Rc<Connection>, reused: bool) -> Lease {
        connection.enter();
        let (connection, pool) = (Rc::clone(connection), Rc::clone(self));
        let open = Rc::new(Open { connection: Rc::downgrade(&connection), pool, left: Cell::new(false) });
        let stream = Stream { sender: connection.sender(), _connection: connection, open, answered: false };
        Lease { over: Over::Http2(stream), reused }
    }

    /// The first use of a connection that was made for it.
    pub(super) fn lease(self: &Rc<Self>, made: Made) -> Lease {
        match made {
            Made::Http1(sender) => self.own(sender, Instant::now(), false),
            Made::Http2(connection) => {
                // One that takes none takes one all the same: whoever had it made is not to have the next made, too.
                self.speaks.set(Some(Speaks::Http2 { streams: connection.most().max(1) }));
                let connection = Rc::new(connection);
                if !self.retired.get() {
                    self.shared.borrow_mut().push(Rc::clone(&connection));
                }
                self.stream(&connection, false)
            }
        }
    }

    /// Whether those who wait, and so many more, need another connection than those that are being made.
    pub(super) fn wants(&self, more: usize) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|one| !one.hand.is_closed());
        let streams = match self.speaks.get() {
            // The first tells.
            None => usize::MAX,
            Some(Speaks::Http1) => 1,
            Some(Speaks::Http2 { streams }) => streams,
        };
        (waiting.len() + more).div_ceil(streams) > self.dials.get()
    }

    /// Whether one is being made for the first who comes, and nobody has come yet.
    pub(super) fn is_expecting(&self) -> bool {
        self.expecting.get() && self.waiting.borrow().iter().all(|one| one.hand.is_closed())
    }

    /// To be told by whoever begins to make one for the first who comes, and when that is over.
    pub(super) fn expects(&self, expecting: bool) {
        self.expecting.set(expecting);
    }

    /// How many connections are being made for whoever waits.
    pub(super) fn dials(&self) -> usize {
        self.dials.get()
    }

    /// To be told by whoever begins to make one.
    pub(super) fn dialling(&self) {
        self.dials.set(self.dials.get() + 1);
    }

    /// Waits for one that is being made, or for a stream that ends.
    pub(super) fn wait(&self, not_before: Option<Instant>) -> oneshot::Receiver<Handed> {
        let (hand, handed) = oneshot::channel();
        self.waiting.borrow_mut().push_back(Waiting { hand, not_before });
        handed
    }

    /// What came of making one: the first who waits gets it, others share it, and a failure is everybody's for whom
    /// nothing else is under way.
    pub(super) fn dialled(self: &Rc<Self>, outcome: Result<Made, Fault>) {
        self.dials.set(self.dials.get().saturating_sub(1));
        match outcome {
            Ok(made) => {
                let alone = matches!(made, Made::Http1(_));
                let lease = self.lease(made);
                match self.first(|_| true) {
                    Some(first) => {
                        // Whoever has gone away meanwhile leaves it unused; that ends a connection of HTTP/1, and a
                        // stream.
                        let _ = first.hand.send(Handed::Lease(lease));
                    }
                    None => lease.release(),
                }
                if alone {
                    self.tell_all(|| Handed::LookAgain);
                }
                self.serve();
            }
            Err(fault) if self.dials.get() == 0 => self.tell_all(|| Handed::Failed(fault)),
            Err(_) => {}
        }
    }

    /// There is no way to make another: who waits for nothing is told so.
    pub(super) fn gives_up(&self, fault: Fault) {
        if self.dials.get() == 0 {
            self.tell_all(|| Handed::Failed(fault));
        }
    }

    /// Whoever waits is to see for itself.
    pub(super) fn tell_to_look_again(&self) {
        self.tell_all(|| Handed::LookAgain);
    }

    fn tell_all(&self, what: impl Fn() -> Handed) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for one in waiting {
            let _ = one.hand.send(what());
        }
    }

    /// The first of those who still wait, and for whom it holds.
    fn first(&self, holds: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|one| !one.hand.is_closed());
        let place = waiting.iter().position(holds)?;
        waiting.remove(place)
    }

    /// Gives what there is room for to those who wait.
    fn serve(self: &Rc<Self>) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        // Once, and first: nobody is taken out of the queue for a connection that turns out to be too old.
        self.forget_spent(recent().into());
        while !self.waiting.borrow().is_empty() {
            let newest = {
                let shared = self.shared.borrow();
                shared.iter().filter(|connection| connection.has_room()).map(|connection| connection.born).max()
            };
            let Some(newest) = newest else { return };
            let Some(one) = self.first(|one| one.not_before.is_none_or(|instant| newest >= instant)) else { return };
            let Some(lease) = self.fullest(one.not_before) else { return };
            let _ = one.hand.send(Handed::Lease(lease));
        }
    }

    /// How many more requests there are connections for that will still be open after `spare`.
    pub(super) fn ready_for(&self, now: Instant, spare: Duration) -> usize {
        let later = now + spare.min(self.idle_for / 2);
        let lasts = |born, since| later < since + self.idle_for && later < born + self.max_age;
        let idle =
            self.idle.borrow().iter().filter(|idle| !idle.sender.is_closed() && lasts(idle.born, idle.since)).count();
        let shared = self.shared.borrow();
        let has_room = |connection: &&Rc<Connection>| {
            connection.has_room() && lasts(connection.born, connection.idle_since().unwrap_or(now))
        };
        idle + shared.iter().filter(has_room).map(|connection| connection.most() - connection.streams()).sum::<usize>()
    }

    /// Closes what has been idle for too long or was closed by its peer, and lets nothing new onto what is too old.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|connection| !self.is_spent(connection, now));
        self.forget_spent(now);
    }

    /// Closes all that is idle.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().retain(|connection| connection.idle_since().is_none());
    }

    fn is_spent(&self, idle: &Idle, now: Instant) -> bool {
        // What is recent may be a moment older than what was made just now.
        let (age, idle_for) = (now.saturating_duration_since(idle.born), now.saturating_duration_since(idle.since));
        idle.sender.is_closed() || idle_for >= self.idle_for || age >= self.max_age
    }

    /// What takes no new streams is left to those that are open.
    fn forget_spent(&self, now: Instant) {
        self.shared.borrow_mut().retain(|connection| {
            if connection.is_closed() && connection.wants_calm() {
                self.calm_down();
            }
            let is_wild = self.is_calm() && !connection.is_calm;
            let has_lasted = |since| now.saturating_duration_since(since);
            let is_idle = connection.idle_since().is_some_and(|since| has_lasted(since) >= self.idle_for);
            !connection.is_closed() && !is_wild && !is_idle && has_lasted(connection.born) < self.max_age
        });
    }
}

impl Lease {
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.over, Over::Http2(_))
    }

    /// What came over the connection leaves doubt about where its messages end: it must carry no other. Of HTTP/2 there
    /// is no such doubt: every frame says whose it is.
    pub fn spoil(&mut self) {
        match &mut self.over {
            Over::Http1(own) => own.reusable = false,
            Over::Http2(_) => {}
        }
    }

    /// The answer has been read to its end.
    pub fn release(self) {
        match self.over {
            Over::Http1(Own { sender, pool, born, reusable, .. }) => {
                if reusable && !sender.is_closed() && !pool.retired.get() {
                    let mut idle = pool.idle.borrow_mut();
                    if idle.len() < MOST_IDLE {
                        idle.push(Idle { sender, born, since: recent().into() });
                    }
                    drop(idle);
                    // Whoever waits for one that is being made need not.
                    if let Some(first) = pool.first(|one| one.not_before.is_none()) {
                        let _ = first.hand.send(Handed::LookAgain);
                    }
                }
            }
            Over::Http2(mut stream) => stream.answered = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper_rustls::MaybeHttpsStream;
    use hyper_util::rt::TokioIo;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot::error::TryRecvError;
    use tokio::task::{LocalSet, spawn_local};

    use super::super::patient::Patient;
    use super::*;
    use crate::life::Stock;
    use crate::observe::Observer;
    use crate::observe::log::{Format, Level, Log, LogSettings};
    use crate::wire::gathered::Gathered;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A connection to a server that answers nothing.
    async fn made() -> Made {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        spawn_local(async move {
            let mut server = h2::server::handshake(theirs.unwrap().0).await.unwrap();
            while let Some(request) = server.accept().await {
                drop(request);
            }
        });
        let log = Log::to(LogSettings { level: Level::Error, format: Format::Pretty }, |_| {});
        let counted = Observer::new(log).route(&"x".into()).connection();
        let io = Patient::new(MaybeHttpsStream::Http(TokioIo::new(Gathered(ours.unwrap()))));
        Made::Http2(Connection::open(io, (counted, Stock::of(1).take().unwrap()), false).await.unwrap())
    }

    #[tokio::test]
    async fn who_waits_is_not_forgotten_when_a_connection_has_grown_too_old() {
        let all = async {
            let pool = Rc::new(Pool::new(HOUR, Duration::ZERO));
            let lease = pool.lease(made().await);
            let mut handed = pool.wait(None);
            drop(lease);
            assert_eq!(handed.try_recv().err(), Some(TryRecvError::Empty), "it is too old for another");
            pool.dialling();
            pool.dialled(Ok(made().await));
            assert!(matches!(handed.try_recv(), Ok(Handed::Lease(_))), "the next is there");
        };
        LocalSet::new().run_until(all).await;
    }
}
