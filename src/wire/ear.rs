//! Reads that are known to find nothing are not made.
//!
//! hyper looks for more bytes whenever it is polled, for whatever reason: half a dozen times a request on its two
//! connections. To go through TLS and the runtime each time costs more than to remember that they had nothing, and have
//! not called since. Must never know what is read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Stands before one connection's reads.
#[derive(Debug)]
pub struct Ear {
    bell: Arc<Bell>,
    /// The bell's own, for whatever is read from.
    waker: Waker,
    /// Whom the bell wakes.
    task: Option<Waker>,
    /// The last read found nothing.
    waits: bool,
}

/// What is called in the place of the task, and calls that.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl Default for Ear {
    fn default() -> Self {
        let bell = Arc::<Bell>::default();
        let waker = Waker::from(Arc::clone(&bell));
        Self { bell, waker, task: None, waits: false }
    }
}

impl Ear {
    /// Reads, unless the last read found nothing and there was no call since.
    pub fn poll<T>(&mut self, context: &Context<'_>, read: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            let task = Some(context.waker().clone());
            self.bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&task);
            self.task = task;
        } else if self.waits && !self.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before the read, so that no call is missed that comes during it.
        self.bell.rung.store(false, Ordering::Release);
        let poll = read(&mut Context::from_waker(&self.waker));
        self.waits = poll.is_pending();
        poll
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_read_is_made_again_only_when_there_was_a_call() {
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        let (mut ear, mut reads, mut registered) = (Ear::default(), 0, None);
        let mut poll = |context: &Context<'_>, poll: Poll<()>| {
            let polled = ear.poll(context, |context| {
                reads += 1;
                registered = Some(context.waker().clone());
                poll
            });
            (polled, reads, registered.clone().unwrap())
        };
        let (polled, reads, call) = poll(&context, Poll::Pending);
        assert_eq!((polled, reads), (Poll::Pending, 1));
        assert_eq!(poll(&context, Poll::Ready(())).1, 1, "there was no call");
        call.wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let (polled, reads, _) = poll(&context, Poll::Ready(()));
        assert_eq!((polled, reads), (Poll::Ready(()), 2));
        let (_, reads, call) = poll(&context, Poll::Pending);
        assert_eq!(reads, 3, "it had found something");
        // As the runtime does when a task has had its share.
        call.wake_by_ref();
        assert_eq!(poll(&context, Poll::Pending).1, 4);
        let other = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&other));
        let (_, reads, call) = poll(&Context::from_waker(&waker), Poll::Pending);
        assert_eq!(reads, 5, "another task has not been told anything");
        call.wake();
        assert_eq!((woken.0.load(Ordering::Relaxed), other.0.load(Ordering::Relaxed)), (2, 1));
    }

    #[test]
    fn a_call_that_comes_during_a_read_counts() {
        let waker = Waker::from(Arc::<Woken>::default());
        let context = Context::from_waker(&waker);
        let (mut ear, mut reads) = (Ear::default(), 0);
        for _ in 0..3 {
            let polled = ear.poll(&context, |context| {
                reads += 1;
                context.waker().wake_by_ref();
                Poll::<()>::Pending
            });
            assert_eq!(polled, Poll::Pending);
        }
        assert_eq!(reads, 3);
    }
}
