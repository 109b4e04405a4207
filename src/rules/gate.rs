//! How many requests of one route are under way at a time: a slow upstream fills its own route's places and nobody
//! else's.
//!
//! Shared by all workers. Must never know what the requests are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::InFlight;
use crate::observe::access::{Phase, Trail};

/// A route's places, and the queue before them.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    limits: InFlight,
}

/// A request that may be under way, until this is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// No place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// And none in the queue.
    Queue,
    /// And none became free in time.
    Late,
}

impl Gate {
    pub fn new(limits: InFlight) -> Self {
        let places = limits.in_flight.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), waiting: AtomicUsize::new(0), limits }
    }

    /// Requests that have a place.
    pub fn in_flight(&self) -> usize {
        let places = self.limits.in_flight.min(Semaphore::MAX_PERMITS);
        places.saturating_sub(self.places.available_permits())
    }

    /// Requests that wait for one.
    pub fn queued(&self) -> usize {
        // Who finds the queue full is counted for the moment that it takes to see that.
        self.waiting.load(Ordering::Relaxed).min(self.limits.queue)
    }

    /// A place at once, if there is one.
    pub fn pass(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place)
    }

    /// A place at once or in its turn: first come, first served.
    ///
    /// # Errors
    /// The queue is full, or no place became free within `queue_wait`; which of them, it says.
    pub async fn enter(&self, trail: &mut Trail) -> Result<Place, Full> {
        if let Some(place) = self.pass() {
            return Ok(place);
        }
        trail.enter(Phase::Queue);
        let _turn = Turn::take(&self.waiting, self.limits.queue)?;
        let free = Arc::clone(&self.places).acquire_owned();
        let free = tokio::time::timeout(self.limits.queue_wait, free).await;
        trail.enter(Phase::Other);
        match free {
            Ok(Ok(permit)) => Ok(Place(permit)),
            Ok(Err(_)) | Err(_) => Err(Full::Late),
        }
    }
}

/// A place in the queue; whoever gives up waiting leaves it.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Result<Self, Full> {
        let turn = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < most { Ok(turn) } else { Err(Full::Queue) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gate(in_flight: usize, queue: usize) -> Arc<Gate> {
        Arc::new(Gate::new(InFlight { in_flight, queue, queue_wait: Duration::from_secs(5) }))
    }

    async fn waiting(gate: &Gate, many: usize) {
        while gate.waiting.load(Ordering::Relaxed) != many {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_served_in_order_and_is_not_longer_than_it_may_be() {
        let gate = gate(1, 2);
        assert_eq!((gate.in_flight(), gate.queued()), (0, 0));
        let first = gate.enter(&mut Trail::default()).await.unwrap();
        let mut queued = Vec::new();
        for many in 1..=2 {
            let entering = Arc::clone(&gate);
            queued.push(tokio::spawn(async move { entering.enter(&mut Trail::default()).await }));
            waiting(&gate, many).await;
        }
        assert_eq!(gate.enter(&mut Trail::default()).await.unwrap_err(), Full::Queue, "at once");
        assert_eq!((gate.in_flight(), gate.queued()), (1, 2));
        drop(first);
        let second = queued.remove(0).await.unwrap().unwrap();
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 1);
        drop(second);
        assert!(queued.remove(0).await.unwrap().is_ok());
        assert_eq!((gate.in_flight(), gate.queued()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_allowed_and_who_leaves_frees_the_queue() {
        let gate = gate(1, 1);
        let _place = gate.enter(&mut Trail::default()).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(gate.enter(&mut Trail::default()).await.unwrap_err(), Full::Late);
        assert_eq!(begun.elapsed().as_secs(), 5);
        let entering = Arc::clone(&gate);
        let leaving = tokio::spawn(async move { entering.enter(&mut Trail::default()).await });
        waiting(&gate, 1).await;
        leaving.abort();
        assert!(leaving.await.unwrap_err().is_cancelled());
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
