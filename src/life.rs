//! Readiness and drain, as things that are held and dropped rather than flags that are set and forgotten.
//!
//! `Readiness` is the absence of named blockers. `Drain` is a signal that everybody can wait for and a count of those
//! who still have something to finish. `Stock` is what there is only so much of. `contained` lets a task outlive a
//! panic, and `thread` and `aside` give one to what blocks. Must never know what is waited for.

use std::future::{Future, poll_fn};
use std::io;
use std::ops::Add;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

/// So many of something, and no more; each is given back by being dropped. Clones share one stock.
#[derive(Clone, Debug)]
pub struct Stock {
    taken: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// One of a [`Stock`].
#[derive(Debug)]
pub struct Taken(Arc<AtomicUsize>);

impl Stock {
    pub fn of(most: usize) -> Self {
        Self { taken: Arc::default(), most: Arc::new(AtomicUsize::new(most)) }
    }

    /// From now on there are so many. Where more are taken than that, none is left until enough are given back.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// How many are taken now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// One, if there is one left.
    pub fn take(&self) -> Option<Taken> {
        let taken = Taken(Arc::clone(&self.taken));
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.most()).then_some(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ready when nothing blocks it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Blockers>);

#[derive(Debug, Default)]
struct Blockers {
    list: Mutex<Vec<Blocker>>,
    released: Notify,
}

#[derive(Debug)]
struct Blocker {
    name: Arc<str>,
    alive: Weak<()>,
}

/// Blocks readiness until it is dropped.
#[derive(Debug)]
#[must_use = "readiness is blocked only while this is held"]
pub struct Latch {
    alive: Option<Arc<()>>,
    blockers: Arc<Blockers>,
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.alive = None;
        self.blockers.released.notify_waiters();
    }
}

impl Readiness {
    /// Blocks readiness under a name that the endpoint can show.
    pub fn block(&self, name: Arc<str>) -> Latch {
        let alive = Arc::new(());
        let blocker = Blocker { name, alive: Arc::downgrade(&alive) };
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner).push(blocker);
        Latch { alive: Some(alive), blockers: Arc::clone(&self.0) }
    }

    /// Waits until nothing blocks it.
    pub async fn ready(&self) {
        loop {
            let mut released = pin!(self.0.released.notified());
            // Listening before looking, so that no release slips in between.
            released.as_mut().enable();
            if self.pending().is_empty() {
                return;
            }
            released.await;
        }
    }

    /// The names of what is not there yet; empty means ready.
    pub fn pending(&self) -> Vec<Arc<str>> {
        let mut blockers = self.0.list.lock().unwrap_or_else(PoisonError::into_inner);
        blockers.retain(|blocker| blocker.alive.strong_count() > 0);
        blockers.iter().map(|blocker| Arc::clone(&blocker.name)).collect()
    }
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Asked to end, and still accepting, for those who have not heard yet.
    LameDuck,
    /// Nothing new; what is in flight is finished.
    Draining,
}

/// The side that decides, and hands out the other.
#[derive(Clone, Debug)]
pub struct DrainSignal(Arc<watch::Sender<Phase>>);

/// The side that is told. Whoever holds one still has something to finish.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Phase>);

impl Default for DrainSignal {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Serving)))
    }
}

impl DrainSignal {
    pub fn hold(&self) -> Drain {
        Drain(self.0.subscribe())
    }

    pub fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until every [`Drain`] is gone.
    pub async fn finished(&self) {
        self.0.closed().await;
    }

    /// How many [`Drain`]s are still held.
    pub fn unfinished(&self) -> usize {
        self.0.receiver_count()
    }
}

impl Drain {
    /// Waits until nothing new may be begun; also when the deciding side is gone.
    pub async fn draining(&mut self) {
        // An error means that the signal was dropped, which is an end as well.
        let _ = self.0.wait_for(|phase| *phase == Phase::Draining).await;
    }

    /// Waits so much longer.
    pub async fn draining_for(&mut self, patience: Duration) {
        self.draining().await;
        tokio::time::sleep(patience).await;
    }
}

/// What is under way on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    WebSocket,
    Tunnel,
}

/// How much of each kind is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    pub requests: usize,
    pub websockets: usize,
    pub tunnels: usize,
}

impl UnderWay {
    pub fn all(self) -> usize {
        self.requests + self.websockets + self.tunnels
    }
}

impl Add for UnderWay {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            websockets: self.websockets + other.websockets,
            tunnels: self.tunnels + other.tunnels,
        }
    }
}

/// What the drain found under way, and what its end cut off. Nothing is written here before.
#[derive(Debug, Default)]
pub struct Ledger {
    found: [AtomicUsize; 3],
    cut: [AtomicUsize; 3],
    cutting: AtomicBool,
}

impl Ledger {
    pub fn find(&self, kind: Kind, number: usize) {
        self.found[kind as usize].fetch_add(number, Ordering::Relaxed);
    }

    /// From here on whatever ends is cut off.
    pub fn begin_to_cut(&self) {
        self.cutting.store(true, Ordering::Relaxed);
    }

    pub fn is_cutting(&self) -> bool {
        self.cutting.load(Ordering::Relaxed)
    }

    /// One of them has ended.
    pub fn end(&self, kind: Kind) {
        if self.is_cutting() {
            self.cut[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the drain found, and what was cut off of it.
    pub fn sums(&self) -> (UnderWay, UnderWay) {
        let sum = |numbers: &[AtomicUsize; 3]| {
            let [requests, websockets, tunnels] = numbers.each_ref().map(|number| number.load(Ordering::Relaxed));
            UnderWay { requests, websockets, tunnels }
        };
        (sum(&self.found), sum(&self.cut))
    }
}

/// Runs a future to its end, or to its panic: then the answer is `None`, and whoever runs it lives on. It comes pinned,
/// since taken as it is it would lie in here twice: once as the argument, and once where it is polled.
pub async fn contained<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(move |context| {
        let poll = AssertUnwindSafe(|| Pin::new(&mut future).poll(context));
        match catch_unwind(poll) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// A thread of that name.
///
/// # Errors
/// The system gives none.
pub fn thread<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    let cure = "raise the limit on tasks (`pids.max`, `TasksMax=`, `ulimit -u`)";
    let told = |error: io::Error| format!("the system gives no thread for `{name}`: {error}; {cure}");
    let named = thread::Builder::new().name(name.to_owned());
    named.spawn(work).map_err(|error| io::Error::new(error.kind(), told(error)))
}

/// Does what blocks on a thread of its own, and tells what it came to; a panic is an error then. A runtime's own blocking
/// threads would do, but where the system gives no thread it panics.
///
/// # Errors
/// The system gives no thread.
pub fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (tell, told) = oneshot::channel();
    // Nobody may want to know any more.
    thread(name, move || drop(tell.send(work())))?;
    Ok(told)
}

/// How long after its panic a task is started again: soon enough for nobody to wait, and no loop that is busy with panics.
pub const RESTART: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_grows_and_shrinks_for_whoever_has_a_share_of_it() {
        let stock = Stock::of(1);
        let other = stock.clone();
        let first = stock.take();
        assert!(first.is_some() && other.take().is_none());
        other.resize(2);
        let second = stock.take();
        assert!(second.is_some() && stock.take().is_none());
        stock.resize(1);
        drop(first);
        assert!(other.take().is_none(), "one is taken, and there is one");
        drop(second);
        assert!(other.take().is_some());
    }

    #[test]
    fn readiness_is_the_absence_of_blockers() {
        let readiness = Readiness::default();
        let (first, second) = (readiness.block("orders".into()), readiness.block("reports".into()));
        assert_eq!(readiness.pending(), ["orders".into(), "reports".into()]);
        drop(first);
        assert_eq!(readiness.pending(), ["reports".into()]);
        drop(second);
        assert!(readiness.pending().is_empty());
    }

    #[tokio::test]
    async fn whoever_waits_for_readiness_is_told() {
        let readiness = Readiness::default();
        let latch = readiness.block("orders".into());
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(latch);
        waiter.await.unwrap();
    }

    #[tokio::test]
    async fn a_drain_is_finished_when_its_last_holder_is_gone() {
        let signal = DrainSignal::default();
        let drain = signal.hold();
        let mut other = drain.clone();
        signal.enter(Phase::LameDuck);
        assert_eq!(signal.phase(), Phase::LameDuck);
        signal.enter(Phase::Draining);
        other.draining().await;
        drop(drain);
        assert_eq!(signal.unfinished(), 1);
        drop(other);
        signal.finished().await;
    }

    #[tokio::test]
    async fn what_is_done_aside_is_told_and_so_is_its_panic() {
        assert_eq!(aside("test", || 1).unwrap().await, Ok(1));
        assert!(aside("test", || panic!("a test's own")).unwrap().await.is_err());
    }

    #[tokio::test]
    async fn a_panic_is_contained() {
        assert_eq!(contained(pin!(async { 1 })).await, Some(1));
        assert_eq!(contained(pin!(async { panic!("a test's own") })).await, None::<()>);
    }
}
