//! Tells a connection that waits for a request from one that dawdles over it from one that is being served.
//!
//! hyper has one time limit for both waits and none for the beginning; here each has its own. Nothing is armed for a
//! request: a transition is one store, and the connection's watchdog looks at it when it wakes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::linger::Linger;
use super::settings::Limits;

/// What a connection is doing, and since when.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// Milliseconds since `opened`, shifted by two bits that hold the phase: one store, never torn.
    packed: AtomicU64,
    /// The latest request had a body, of which there may be more than was read.
    has_body: AtomicBool,
    /// The answer broke off, and nothing but the way the connection ends can tell.
    broken: AtomicBool,
}

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
const PHASE_BITS: u32 = 2;

/// What the watchdog does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Watch {
    Expired,
    LookAgainIn(Duration),
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            packed: AtomicU64::new(IDLE),
            has_body: AtomicBool::default(),
            broken: AtomicBool::default(),
        })
    }

    /// A request's head is complete and it is being served, until the guard is dropped.
    pub(super) fn serve(self: &Arc<Self>, has_body: bool) -> Serving {
        self.has_body.store(has_body, Ordering::Relaxed);
        self.enter(BUSY);
        Serving(Arc::clone(self))
    }

    /// Bytes came in.
    fn read(&self) {
        if self.phase() == IDLE {
            self.enter(HEAD);
        }
    }

    /// Whether the app may still be sending when the connection ends: the rest of a body, or of a head that was refused.
    fn may_be_sending(&self) -> bool {
        self.has_body.load(Ordering::Relaxed) || self.phase() == HEAD
    }

    fn phase(&self) -> u64 {
        self.packed.load(Ordering::Relaxed) & ((1 << PHASE_BITS) - 1)
    }

    fn enter(&self, phase: u64) {
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX >> PHASE_BITS);
        self.packed.store(since << PHASE_BITS | phase, Ordering::Relaxed);
    }

    pub(super) fn watch(&self, limits: &Limits) -> Watch {
        let packed = self.packed.load(Ordering::Relaxed);
        let limit = match packed & ((1 << PHASE_BITS) - 1) {
            IDLE => limits.idle,
            HEAD => limits.head,
            // Its own limits hold; afterwards it is idle, from then on.
            _ => return Watch::LookAgainIn(limits.idle.min(limits.head)),
        };
        let since = Duration::from_millis(packed >> PHASE_BITS);
        match (since + limit).checked_sub(self.opened.elapsed()) {
            None | Some(Duration::ZERO) => Watch::Expired,
            // The shorter limit may begin to hold meanwhile.
            Some(left) => Watch::LookAgainIn(left.min(limits.head)),
        }
    }
}

/// A request is being served.
#[derive(Debug)]
pub(super) struct Serving(Arc<Activity>);

impl Serving {
    /// The connection must not end as if the answer were whole.
    pub(super) fn broke_off(&self) {
        self.0.broken.store(true, Ordering::Relaxed);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// An app's connection that notes when bytes come in, and ends so that the last answer arrives.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    activity: Arc<Activity>,
    /// Our side has ended.
    ended: bool,
    linger: Linger,
    /// Makes the end of the connection a reset.
    reset: fn(&T),
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        if self.activity.broken.load(Ordering::Relaxed) {
            (self.reset)(&self.inner);
        }
    }
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T, activity: Arc<Activity>, reset: fn(&T)) -> Self {
        Self { inner, activity, ended: false, linger: Linger::new(), reset }
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_read(context, buffer);
        if poll.is_ready() {
            this.activity.read();
        }
        poll
    }
}

impl<T: Read + Write + Unpin> Write for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
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
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_limit() {
        let second = Duration::from_secs(1);
        let limits = |idle, head| Limits { idle, head, ..Limits::default() };
        let activity = Activity::new();
        assert_eq!(activity.watch(&limits(Duration::ZERO, second)), Watch::Expired, "no request came");
        activity.read();
        assert!(matches!(activity.watch(&limits(Duration::ZERO, second)), Watch::LookAgainIn(_)), "one has begun");
        assert_eq!(activity.watch(&limits(second, Duration::ZERO)), Watch::Expired, "and does not go on");
        let serving = activity.serve(false);
        activity.read();
        assert!(matches!(activity.watch(&limits(Duration::ZERO, Duration::ZERO)), Watch::LookAgainIn(_)));
        drop(serving);
        assert_eq!(activity.watch(&limits(Duration::ZERO, second)), Watch::Expired);
    }
}
