//! Tells a connection that is new from one that waits for its next request, from one that dawdles over it, from one
//! that is being served.
//!
//! hyper has one time limit for both waits and none for the beginning, and none at all for HTTP/2; here each has its
//! own. Nothing is armed for a request: a transition is one store, and the connection's watchdog looks at it when it
//! wakes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::linger::Linger;
use super::preface::{First, Spoken};
use super::settings::Limits;
use super::stream::Stream;
use crate::clock::recent;
use crate::life::{Kind, Ledger};
use crate::wire::ear::Ear;

/// What a connection is doing, and since when.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// Milliseconds since `opened`, shifted by two bits that hold the phase: one store, never torn.
    packed: AtomicU64,
    /// When the app stopped taking what is written to it, in milliseconds since `opened`, or [`NONE`].
    stuck: AtomicU64,
    /// How long it may, in milliseconds: the route's `body_idle` while its answer is relayed, or [`NONE`].
    patience: AtomicU64,
    /// The latest request had a body, of which there may be more than was read.
    has_body: AtomicBool,
    /// The latest bytes that came were not the end of a head or of a chunked body.
    within: AtomicBool,
    /// The answer broke off, and nothing but the way the connection ends can tell.
    broken: AtomicBool,
    /// It speaks HTTP/2: requests come beside each other, and bytes that come are not the beginning of one.
    multiplexed: AtomicBool,
    /// Requests that are being served.
    serving: AtomicUsize,
    /// Since when the connection is to end as soon as nothing is under way, in milliseconds since `opened`, or [`NONE`].
    leaving: AtomicU64,
    /// It was idle for all of the time that it had to leave.
    to_end: AtomicBool,
    /// What that which is served is to the ledger: a [`Kind`], or [`NOTHING`].
    kind: AtomicU8,
    ledger: Arc<Ledger>,
}

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
/// Nothing came yet.
const NEW: u64 = 3;
const PHASE_BITS: u32 = 2;

const REQUEST: u8 = 0;
const WEBSOCKET: u8 = 1;
const TUNNEL: u8 = 2;
const NOTHING: u8 = 3;

/// No such time.
const NONE: u64 = u64::MAX;

/// How long a connection stays when it is to end and nothing is under way on it. Whoever is busy makes a request within
/// that time, is answered, and learns with the answer that it was the last; so what ends without a word are connections
/// that nobody was about to use (RFC 9112, 9.5). Longer would help only apps that ask less than twice a second, and a
/// process whose apps keep idle connections takes as long to end, of the two seconds that a kubelet may leave it.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);

/// The same over HTTP/2, where an app is told (GOAWAY) and asked whether it has heard (PING), and the connection ends at
/// once when it has. Who does not answer has stopped, and may have requests on the way that it began before.
const ANSWER: Duration = Duration::from_secs(5);

/// What the watchdog does next.
#[derive(Debug, PartialEq, Eq)]
enum Watch {
    Expired,
    /// The app does not take its answer.
    Stuck,
    LookAgainIn(Duration),
}

impl Activity {
    pub(super) fn new(ledger: &Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            opened: recent(),
            packed: AtomicU64::new(NEW),
            stuck: AtomicU64::new(NONE),
            patience: AtomicU64::new(NONE),
            has_body: AtomicBool::default(),
            within: AtomicBool::default(),
            broken: AtomicBool::default(),
            multiplexed: AtomicBool::default(),
            serving: AtomicUsize::default(),
            leaving: AtomicU64::new(NONE),
            to_end: AtomicBool::default(),
            kind: AtomicU8::new(REQUEST),
            ledger: Arc::clone(ledger),
        })
    }

    /// HTTP/2 is spoken from here on.
    pub(super) fn multiplex(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    /// The connection is to end: what is under way is finished, and nothing else waited for but [`FAREWELL`].
    pub(super) fn leave(&self) {
        self.leaving.store(self.now(), Ordering::Relaxed);
        self.to_end.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) != NONE
    }

    /// Has a connection of HTTP/1 that nothing came over for all of its farewell end with its next look for bytes.
    /// `false` where that is not how it ends: it is not leaving, or a head has begun, or this was said already.
    pub(super) fn end(&self) -> bool {
        let ends = self.is_leaving() && matches!(self.phase(), IDLE | NEW) && !self.is_to_end();
        if ends {
            // What TLS has to say last may take as long again.
            self.leave();
            self.to_end.store(true, Ordering::Relaxed);
        }
        ends
    }

    fn is_to_end(&self) -> bool {
        self.to_end.load(Ordering::Relaxed)
    }

    /// The drain has begun: whatever is served is noted, and the connection is to end.
    pub(super) fn drain(&self) {
        if let Some(kind) = self.kind() {
            self.ledger.find(kind, self.serving.load(Ordering::Relaxed));
        }
        self.leave();
    }

    /// The connection has ended. An answer whose last bytes the app had not taken is not served any more, and was none the
    /// less under way.
    fn ended(&self) {
        let is_stuck = self.stuck.load(Ordering::Relaxed) != NONE && self.serving.load(Ordering::Relaxed) == 0;
        if is_stuck && !self.multiplexed.load(Ordering::Relaxed) {
            self.ledger.end(Kind::Request);
        }
    }

    /// The connection is no longer one of requests; `None` is one that is carried inside of it, and counted there.
    pub(super) fn becomes(&self, kind: Option<Kind>) {
        let kind = match kind {
            Some(Kind::Request) => REQUEST,
            Some(Kind::WebSocket) => WEBSOCKET,
            Some(Kind::Tunnel) => TUNNEL,
            None => NOTHING,
        };
        self.kind.store(kind, Ordering::Relaxed);
    }

    fn kind(&self) -> Option<Kind> {
        match self.kind.load(Ordering::Relaxed) {
            REQUEST => Some(Kind::Request),
            WEBSOCKET => Some(Kind::WebSocket),
            TUNNEL => Some(Kind::Tunnel),
            _ => None,
        }
    }

    /// A request's head is complete and it is being served, until the guard is dropped. `body` is how long its body is,
    /// if that is known.
    pub(super) fn serve(self: &Arc<Self>, body: Option<u64>) -> Serving {
        self.serving.fetch_add(1, Ordering::Relaxed);
        self.has_body.store(body != Some(0), Ordering::Relaxed);
        self.patience.store(NONE, Ordering::Relaxed);
        self.enter(BUSY);
        // Where a body ends that is as long as was said cannot be seen in its last bytes.
        Serving { activity: Arc::clone(self), ends_visibly: body.is_none_or(|length| length == 0) }
    }

    /// Bytes came in; `within` says that they are not the end of anything.
    fn read(&self, within: bool) {
        self.within.store(within, Ordering::Relaxed);
        match self.phase() {
            NEW => self.enter(HEAD),
            // Pings, too, are bytes.
            IDLE if !self.multiplexed.load(Ordering::Relaxed) => self.enter(HEAD),
            _ => {}
        }
    }

    /// The app took something of what is written, or takes nothing now.
    fn wrote(&self, takes: bool) {
        let moved = self.stuck.load(Ordering::Relaxed) == NONE;
        if takes != moved {
            self.stuck.store(if takes { NONE } else { self.now() }, Ordering::Relaxed);
            // The last of an answer is taken out of a buffer, when nothing is served any more.
            if self.phase() == IDLE {
                self.enter(IDLE);
            }
        }
    }

    /// Whether the app may still be sending when the connection ends: the rest of a body, or of a head that was
    /// refused; and over HTTP/2, how much it would take.
    fn may_be_sending(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed) || self.has_body.load(Ordering::Relaxed) || self.phase() == HEAD
    }

    fn phase(&self) -> u64 {
        self.packed.load(Ordering::Relaxed) & ((1 << PHASE_BITS) - 1)
    }

    fn enter(&self, phase: u64) {
        self.packed.store(self.now() << PHASE_BITS | phase, Ordering::Relaxed);
    }

    /// Milliseconds since `opened`.
    fn now(&self) -> u64 {
        u64::try_from(recent().duration_since(self.opened).as_millis()).unwrap_or(u64::MAX >> PHASE_BITS)
    }

    /// The connection must not end as if the answer were whole.
    pub(super) fn broke_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_broken_off(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn watch(&self, limits: &Limits) -> Watch {
        let packed = self.packed.load(Ordering::Relaxed);
        let stuck = self.stuck.load(Ordering::Relaxed);
        let leaving = self.leaving.load(Ordering::Relaxed);
        let (since, limit) = match packed & ((1 << PHASE_BITS) - 1) {
            IDLE | HEAD | NEW if leaving != NONE => {
                let farewell = if self.multiplexed.load(Ordering::Relaxed) { ANSWER } else { FAREWELL };
                (leaving.max(packed >> PHASE_BITS), farewell)
            }
            IDLE => (packed >> PHASE_BITS, limits.idle),
            HEAD => (packed >> PHASE_BITS, limits.head),
            NEW => (packed >> PHASE_BITS, limits.first_byte()),
            // All else that can keep it has limits of its own; hyper asks for none of the answer while none is taken.
            _ => match (stuck, self.patience.load(Ordering::Relaxed)) {
                (NONE, _) => return Watch::LookAgainIn(limits.idle.min(limits.head)),
                (since, NONE) => (since, limits.idle),
                (since, patience) => (since, Duration::from_millis(patience)),
            },
        };
        match (Duration::from_millis(since).saturating_add(limit)).checked_sub(self.opened.elapsed()) {
            None | Some(Duration::ZERO) if stuck == NONE => Watch::Expired,
            None | Some(Duration::ZERO) => Watch::Stuck,
            // The shorter limit may begin to hold meanwhile.
            Some(left) => Watch::LookAgainIn(left.min(limits.head)),
        }
    }

    /// Ends when the connection has to: it was quiet for too long, or its app does not take what it is sent, and then it
    /// must not end as if that had been all.
    pub(super) async fn watchdog(&self, limits: &Limits) {
        let mut wait = if self.is_leaving() { FAREWELL } else { limits.first_byte() };
        loop {
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
            match self.watch(limits) {
                Watch::Expired => return,
                Watch::Stuck => return self.broke_off(),
                // What is under way on a connection that is to end may end soon.
                Watch::LookAgainIn(left) => wait = if self.is_leaving() { left.min(FAREWELL) } else { left },
            }
        }
    }
}

/// A request is being served.
#[derive(Debug)]
pub(super) struct Serving {
    activity: Arc<Activity>,
    ends_visibly: bool,
}

impl Serving {
    /// The app may take nothing of its answer for this long.
    pub(super) fn allow(&self, patience: Duration) {
        let patience = u64::try_from(patience.as_millis()).unwrap_or(NONE);
        self.activity.patience.store(patience, Ordering::Relaxed);
    }

    /// The connection must not end as if the answer were whole.
    pub(super) fn broke_off(&self) {
        self.activity.broke_off();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let activity = &self.activity;
        if let Some(kind) = activity.kind() {
            activity.ledger.end(kind);
        }
        if activity.serving.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        // The next head may have begun behind this request, and then no byte that comes may tell so.
        let within = !activity.multiplexed.load(Ordering::Relaxed) && activity.within.load(Ordering::Relaxed);
        activity.enter(if self.ends_visibly && within { HEAD } else { IDLE });
    }
}

/// An app's connection that notes when bytes come in and when none go out, and ends so that the last answer arrives.
#[derive(Debug)]
pub(super) struct Watched {
    inner: Stream,
    ear: Ear,
    activity: Arc<Activity>,
    first: First,
    /// The latest bytes that came.
    tail: Tail,
    /// Our side has ended.
    ended: bool,
    linger: Linger,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.activity.broken.load(Ordering::Relaxed) {
            self.inner.reset();
        }
        self.activity.ended();
    }
}

impl Watched {
    pub(super) fn new(inner: Stream, activity: Arc<Activity>) -> Self {
        let (first, tail) = (First::default(), Tail::default());
        Self { inner, ear: Ear::default(), activity, first, tail, ended: false, linger: Linger::new() }
    }

    /// What the app speaks, by the first that it says.
    pub(super) async fn spoken(&mut self) -> Spoken {
        poll_fn(|context| self.first.poll_spoken(Pin::new(&mut self.inner), context, || self.activity.read(true))).await
    }

    pub(super) fn get_ref(&self) -> &Stream {
        &self.inner
    }
}

/// The last three bytes that came: what a head ends with, and a chunked body too.
#[derive(Debug, Default)]
struct Tail([u8; 3]);

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        for byte in &bytes[bytes.len().saturating_sub(3)..] {
            self.0 = [self.0[1], self.0[2], *byte];
        }
    }

    /// An empty line; hyper takes a bare line feed for the end of one.
    fn is_end(&self) -> bool {
        matches!(self.0, [b'\n', b'\r', b'\n'] | [_, b'\n', b'\n'])
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        this.first.hand_on(buffer);
        let handed = buffer.filled().len() > before;
        let mut poll = this.ear.poll(context, |context| Pin::new(&mut this.inner).poll_read(context, buffer));
        if handed {
            // There is something, whatever became of the rest.
            poll = Poll::Ready(Ok(()));
        }
        if poll.is_pending() && this.activity.is_to_end() {
            return this.end();
        }
        if poll.is_ready() {
            this.tail.add(&buffer.filled()[before..]);
            this.activity.read(!this.tail.is_end());
        }
        poll
    }
}

impl Watched {
    /// The end in place of a next request, unless one is there. The system is asked and not the runtime, which may not
    /// have heard of it yet: between this look and the end of our side are a few microseconds.
    fn end(&self) -> Poll<io::Result<()>> {
        if self.inner.has_unread() {
            // The runtime will hear of it.
            self.activity.leave();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Notes what became of a write.
    fn wrote<R>(&self, poll: Poll<R>) -> Poll<R> {
        self.activity.wrote(poll.is_ready());
        poll
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.wrote(poll)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended {
            ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
            this.ended = true;
        }
        if this.activity.may_be_sending() {
            ready!(this.linger.poll(Pin::new(&mut this.inner), context));
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(context, bytes);
        this.wrote(poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_limit() {
        let second = Duration::from_secs(1);
        let limits = |idle, head| Limits { idle, head, ..Limits::default() };
        let activity = Activity::new(&Arc::default());
        assert_eq!(activity.watch(&limits(second, Duration::ZERO)), Watch::Expired, "nothing comes");
        assert_eq!(
            activity.watch(&limits(Duration::ZERO, second)),
            Watch::Expired,
            "nothing comes, and idle is shorter"
        );
        activity.read(false);
        assert!(matches!(activity.watch(&limits(Duration::ZERO, second)), Watch::LookAgainIn(_)), "one has begun");
        assert_eq!(activity.watch(&limits(second, Duration::ZERO)), Watch::Expired, "and does not go on");
        let serving = activity.serve(Some(0));
        activity.read(false);
        assert!(matches!(activity.watch(&limits(Duration::ZERO, Duration::ZERO)), Watch::LookAgainIn(_)));
        drop(serving);
        assert_eq!(activity.watch(&limits(Duration::ZERO, second)), Watch::Expired);
        assert!(matches!(activity.watch(&limits(second, Duration::ZERO)), Watch::LookAgainIn(_)), "it had a request");
    }

    #[test]
    fn an_answer_that_is_not_taken_has_the_routes_limit_or_that_of_idleness() {
        let second = Duration::from_secs(1);
        let limits = |idle| Limits { idle, head: second, ..Limits::default() };
        let activity = Activity::new(&Arc::default());
        let serving = activity.serve(None);
        activity.wrote(false);
        assert_eq!(activity.watch(&limits(Duration::ZERO)), Watch::Stuck);
        serving.allow(second);
        assert!(matches!(activity.watch(&limits(Duration::ZERO)), Watch::LookAgainIn(_)));
        serving.allow(Duration::ZERO);
        assert_eq!(activity.watch(&limits(second)), Watch::Stuck);
        activity.wrote(true);
        assert!(matches!(activity.watch(&limits(second)), Watch::LookAgainIn(_)), "it moves");
        drop(serving);
        activity.wrote(false);
        assert_eq!(activity.watch(&limits(Duration::ZERO)), Watch::Stuck, "the last of it, too");
        activity.wrote(true);
        drop(activity.serve(None));
        activity.wrote(false);
        assert!(matches!(activity.watch(&limits(second)), Watch::LookAgainIn(_)), "one route's limit is not another's");
    }

    #[test]
    fn a_head_that_begins_behind_a_request_is_one() {
        let limits = Limits { idle: Duration::from_secs(60), head: Duration::ZERO, ..Limits::default() };
        for (body, within, is_head) in [
            (Some(0), true, true),
            (Some(0), false, false),
            (None, true, true),
            (None, false, false),
            // The end of a body that is as long as was said looks like anything.
            (Some(5), true, false),
        ] {
            let activity = Activity::new(&Arc::default());
            activity.read(within);
            drop(activity.serve(body));
            assert_eq!(activity.watch(&limits) == Watch::Expired, is_head, "{body:?} {within}");
        }
    }

    #[test]
    fn the_end_of_a_head_is_seen_however_it_comes() {
        let mut tail = Tail::default();
        for (bytes, is_end) in
            [("GET / HTTP/1.1\r", false), ("\n\r", false), ("\n", true), ("", true), ("G", false), ("\n\n", true)]
        {
            tail.add(bytes.as_bytes());
            assert_eq!(tail.is_end(), is_end, "{bytes:?}");
        }
    }
}
