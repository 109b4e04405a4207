//! A request's body that streams through, and may be sent again as long as all of what went out was kept.
//!
//! What an attempt reads from the app it keeps, up to a limit, for the attempt that may follow. Beyond the limit
//! nothing is kept and the body can be sent only once. Nothing is ever collected before it is sent.
//!
//! A body that the app wants to be asked for (`Expect: 100-continue`) is not touched until there is word: hyper asks for
//! it when it is read.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fault::{is_cut, reset_code};
use crate::observe::access::Tally;

/// A body comes in a piece for each read, some kilobytes each; so many cost their bytes and nothing else.
const FREE_PIECES: usize = 64;

/// The app's body, and what was kept of it. `None` is no body, which most requests have.
#[derive(Debug)]
pub struct Replay(Option<Rc<RefCell<Shared>>>);

struct Shared {
    /// `None` when there is no more to come.
    rest: Option<Incoming>,
    version: Version,
    whole: SizeHint,
    /// Cleans trailers. Bodies must not know by which rules.
    clean: Box<dyn Fn(&mut HeaderMap)>,
    tally: Option<Arc<Tally>>,
    kept: Vec<Bytes>,
    /// Clean ones, behind all that was kept.
    trailers: Option<HeaderMap>,
    kept_bytes: usize,
    limit: usize,
    /// Something went out that was not kept.
    lost: bool,
    broken: bool,
    /// There was something behind the last chunk.
    trailed: bool,
    /// The app wants to be asked for it and was not yet.
    unasked: bool,
    /// Nor is it going to be, by the attempt that there is.
    withheld: bool,
    /// Whoever waits for word, or is held back.
    held: Option<Waker>,
    waits_for_app: bool,
    moved: Instant,
    /// Attempts so far; only the last may read.
    attempts: u32,
}

impl fmt::Debug for Shared {
    /// How much was kept, and never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("kept_bytes", &self.kept_bytes).finish_non_exhaustive()
    }
}

/// One attempt to send the body. As soon as there is a newer one, reading an older one is an error.
pub struct Attempt {
    shared: Option<Rc<RefCell<Shared>>>,
    number: u32,
    /// How many of the kept pieces this attempt has sent.
    sent: usize,
    trailers_sent: bool,
    /// What lasts for as long as the body is being sent.
    holds: Option<Rc<dyn Any>>,
    /// Over when the app may be asked.
    hold: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("shared", &self.shared).field("number", &self.number).finish_non_exhaustive()
    }
}

/// Lets an attempt ask for the body.
#[derive(Clone, Debug)]
pub struct Word(Arc<Notify>);

impl Word {
    pub fn give(&self) {
        self.0.notify_one();
    }
}

/// The app is never asked for its body. The upstream that waits for it gets no end of it, and when this is dropped, that
/// of its connection: not before, since the answer comes by the same.
#[derive(Debug)]
pub struct Unasked(Rc<RefCell<Shared>>);

impl Drop for Unasked {
    fn drop(&mut self) {
        self.0.borrow_mut().supersede();
    }
}

/// Why a body ended before its end. What it does to the upstream's connection is the point: it must not look complete.
#[derive(Debug)]
pub enum BodyError {
    /// The app broke off, or sent what is not a body. By HTTP/2 it may have said why.
    App(Option<h2::Error>),
    /// A newer attempt took over.
    Superseded,
}

/// How far the sending of the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything that the app has to send was read.
    pub finished: bool,
    /// The app broke off.
    pub broken: bool,
    /// When the last of it moved.
    pub moved: Instant,
    /// The upstream would take more, and the app has not sent it.
    pub waits_for_app: bool,
}

impl Replay {
    /// Keeps nothing, and no trailers, until [`Self::prepare`] says otherwise. `expects` says that the app wants to be
    /// asked for it.
    pub fn new(body: Incoming, version: Version, expects: bool) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        Self(Some(Rc::new(RefCell::new(Shared {
            whole: body.size_hint(),
            rest: Some(body),
            version,
            clean: Box::new(HeaderMap::clear),
            tally: None,
            kept: Vec::new(),
            trailers: None,
            kept_bytes: 0,
            limit: 0,
            lost: false,
            broken: false,
            trailed: false,
            unasked: expects,
            withheld: false,
            held: None,
            waits_for_app: false,
            moved: Instant::now(),
            attempts: 0,
        }))))
    }

    /// Keeps up to `limit` bytes, and sends of the trailers what `clean` leaves. To be said before the first attempt.
    pub fn prepare(&self, limit: usize, clean: impl Fn(&mut HeaderMap) + 'static) {
        if let Some(shared) = &self.0 {
            let mut shared = shared.borrow_mut();
            (shared.limit, shared.clean) = (limit, Box::new(clean));
        }
    }

    /// From now on what is read of it is counted there.
    pub fn count(&self, tally: Option<&Arc<Tally>>) {
        if let Some(shared) = &self.0 {
            shared.borrow_mut().tally = tally.cloned();
        }
    }

    /// Whether the app waits to be asked for it still.
    pub fn is_unasked(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.borrow().unasked)
    }

    /// The answer is there before the app was asked: the attempt does not ask any more.
    pub fn withhold(&self) {
        if let Some(shared) = &self.0 {
            let mut shared = shared.borrow_mut();
            shared.withheld = shared.unasked;
        }
    }

    /// No attempt follows. `None` if the app was asked for it or did not want to be; else it is gone.
    pub fn leave_unasked(&self) -> Option<Unasked> {
        let shared = self.0.as_ref().filter(|shared| shared.borrow().unasked)?;
        shared.borrow_mut().rest = None;
        Some(Unasked(Rc::clone(shared)))
    }

    /// Reads and drops what the app has sent already, within bounds; whether that was all of it. Whoever answers
    /// without reading a body can keep the connection only then.
    pub async fn is_over(&self) -> bool {
        const MOST: usize = 64 * 1024;
        let Some(shared) = &self.0 else { return true };
        let mut read = 0;
        std::future::poll_fn(|context| {
            let mut shared = shared.borrow_mut();
            // An attempt that still reads is cut off: its request is not going to be answered.
            shared.supersede();
            if shared.unasked {
                return Poll::Ready(false);
            }
            loop {
                match shared.poll_rest(context) {
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Ok(frame))) => {
                        read += frame.data_ref().map_or(0, Bytes::len);
                        if read > MOST {
                            return Poll::Ready(false);
                        }
                    }
                    Poll::Ready(Some(Err(_))) | Poll::Pending => return Poll::Ready(false),
                }
            }
        })
        .await
    }

    /// `None` if part of the body is gone: a body that lacks its beginning must not look like one.
    pub fn attempt(&self) -> Option<Attempt> {
        let number = match &self.0 {
            None => 0,
            Some(shared) => {
                let mut shared = shared.borrow_mut();
                if shared.lost || shared.broken {
                    return None;
                }
                shared.supersede();
                shared.withheld = false;
                shared.attempts
            }
        };
        Some(Attempt { shared: self.0.clone(), number, sent: 0, trailers_sent: false, holds: None, hold: None })
    }

    /// Whether another attempt would send all of the body.
    pub fn can_repeat(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| {
            let shared = shared.borrow();
            !shared.broken && !shared.lost
        })
    }

    /// Whether trailers were read behind it. hyper reads on for them from an empty line that is a bare LF up to one
    /// that is not, and what it drops there may be the next request to others: nothing behind it is to be believed.
    pub fn has_trailers(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.borrow().trailed)
    }

    /// `None` if there is no body.
    pub fn progress(&self) -> Option<Progress> {
        self.0.as_ref().map(|shared| {
            let shared = shared.borrow();
            Progress {
                finished: shared.rest.is_none(),
                broken: shared.broken,
                moved: shared.moved,
                waits_for_app: shared.waits_for_app,
            }
        })
    }

    /// How long the whole of it is; `None` if the app did not tell.
    pub fn length(&self) -> Option<u64> {
        self.0.as_ref().map_or(Some(0), |shared| shared.borrow().whole.exact())
    }
}

impl Shared {
    /// Ends the attempt that there is.
    fn supersede(&mut self) {
        self.attempts += 1;
        if let Some(held) = self.held.take() {
            held.wake();
        }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            self.unasked = false;
            self.waits_for_app = true;
            let frame = ready!(Pin::new(&mut *rest).poll_frame(context));
            self.waits_for_app = false;
            self.moved = Instant::now();
            match frame {
                None if is_cut(rest, self.version) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(BodyError::App(None))));
                }
                None => self.rest = None,
                Some(Err(error)) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(BodyError::App(reset_code(&error).map(h2::Error::from)))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(tally) = &self.tally {
                            tally.read(data.len());
                        }
                        self.keep(&data);
                        if self.rest.as_ref().is_some_and(Body::is_end_stream) {
                            self.rest = None;
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(frame) => {
                        let Ok(mut trailers) = frame.into_trailers() else { continue };
                        // Nothing stands behind them.
                        self.rest = None;
                        self.trailed = true;
                        (self.clean)(&mut trailers);
                        if !trailers.is_empty() {
                            // What they cost is bounded by what hyper takes of them, 16 KiB.
                            self.trailers = Some(trailers.clone());
                            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                        }
                    }
                },
            }
        }
    }

    fn keep(&mut self, data: &Bytes) {
        /// What keeping a piece costs, however small it is: an app that sends one byte at a time must not cost forty
        /// times the limit.
        const LEAST: usize = 64;
        // What is known to be too long is not worth keeping the beginning of.
        let too_long = self.whole.lower() > self.limit as u64;
        let cost = if self.kept.len() < FREE_PIECES { data.len() } else { data.len().max(LEAST) };
        if too_long || self.kept_bytes.saturating_add(cost) > self.limit {
            self.lost = true;
            self.kept = Vec::new();
        }
        if !self.lost {
            self.kept_bytes += cost;
            // A piece holds on to the whole buffer that it came in, and an app chooses what else was in there.
            self.kept.push(Bytes::copy_from_slice(data));
        }
    }
}

impl Attempt {
    /// Does not ask the app for the body before the word is given, or for longer than `patience` once the request is on
    /// its way.
    pub fn hold(&mut self, patience: Duration) -> Word {
        let word = Word(Arc::default());
        let given = Arc::clone(&word.0);
        self.hold = Some(Box::pin(async move {
            // Whichever comes first.
            let _ = tokio::time::timeout(patience, given.notified()).await;
        }));
        word
    }

    /// Lets go of `what` when the body has been sent, or is not going to be.
    pub fn holds(&mut self, what: Option<Rc<dyn Any>>) {
        self.holds = what;
    }

    /// Asks the app for the body when it is first wanted.
    pub fn let_go(&mut self) {
        self.hold = None;
    }
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(shared) = &this.shared else { return Poll::Ready(None) };
        let mut shared = shared.borrow_mut();
        if shared.attempts != this.number {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        let waits = |hold: &mut Pin<Box<dyn Future<Output = ()>>>| hold.as_mut().poll(context).is_pending();
        if shared.withheld || this.hold.as_mut().is_some_and(waits) {
            shared.held = Some(context.waker().clone());
            return Poll::Pending;
        }
        if this.hold.take().is_some() {
            shared.held = None;
            shared.moved = Instant::now();
        }
        if let Some(data) = shared.kept.get(this.sent).cloned() {
            this.sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let (None, Some(trailers)) = (&shared.rest, &shared.trailers) {
            let trailers = Some(trailers.clone()).filter(|_| !std::mem::replace(&mut this.trailers_sent, true));
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(shared.poll_rest(context));
        this.sent = shared.kept.len();
        this.trailers_sent = shared.trailers.is_some();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| {
            let shared = shared.borrow();
            let all_sent = self.sent >= shared.kept.len() && (self.trailers_sent || shared.trailers.is_none());
            // What nobody asked for is no empty body.
            shared.attempts == self.number && shared.rest.is_none() && all_sent && !shared.unasked
        })
    }

    /// hyper frames a message by what this says before the first frame: always the whole.
    fn size_hint(&self) -> SizeHint {
        self.shared.as_ref().map_or_else(|| SizeHint::with_exact(0), |shared| shared.borrow().whole)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App(_) => "the app broke off its request",
            Self::Superseded => "the request is being sent again elsewhere",
        })
    }
}

impl std::error::Error for BodyError {
    /// hyper resets a stream with the code that it finds here.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::App(why) => why.as_ref().map(|why| why as _),
            Self::Superseded => None,
        }
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
