//! A request's body that streams through, and may be sent again as long as all of what went out was kept.
//!
//! What an attempt reads from the app it keeps, up to a limit, for the attempt that may follow. Beyond the limit
//! nothing is kept and the body can be sent only once. Nothing is ever collected before it is sent.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

/// A body comes in a piece for each read, some kilobytes each; so many cost their bytes and nothing else.
const FREE_PIECES: usize = 64;

/// The app's body, and what was kept of it. `None` is no body, which most requests have.
#[derive(Debug)]
pub struct Replay(Option<Rc<RefCell<Shared>>>);

#[derive(Debug)]
struct Shared {
    /// `None` when there is no more to come.
    rest: Option<Incoming>,
    whole: SizeHint,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    limit: usize,
    /// Something went out that was not kept.
    lost: bool,
    broken: bool,
    /// There was something behind the last chunk.
    trailed: bool,
    waits_for_app: bool,
    moved: Instant,
    /// Attempts so far; only the last may read.
    attempts: u32,
}

/// One attempt to send the body. As soon as there is a newer one, reading an older one is an error.
#[derive(Debug)]
pub struct Attempt {
    shared: Option<Rc<RefCell<Shared>>>,
    number: u32,
    /// How many of the kept pieces this attempt has sent.
    sent: usize,
}

/// Why a body ended before its end. What it does to the upstream's connection is the point: it must not look complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The app broke off, or sent what is not a body.
    App,
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
    /// Keeps nothing, until [`Self::keep_up_to`] says how much.
    pub fn new(body: Incoming) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        Self(Some(Rc::new(RefCell::new(Shared {
            whole: body.size_hint(),
            rest: Some(body),
            kept: Vec::new(),
            kept_bytes: 0,
            limit: 0,
            lost: false,
            broken: false,
            trailed: false,
            waits_for_app: false,
            moved: Instant::now(),
            attempts: 0,
        }))))
    }

    /// Keeps up to so many bytes. To be said before the first attempt.
    pub fn keep_up_to(&self, limit: usize) {
        if let Some(shared) = &self.0 {
            shared.borrow_mut().limit = limit;
        }
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
            shared.attempts += 1;
            loop {
                match shared.poll_rest(context) {
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Ok(data))) if read + data.len() <= MOST => read += data.len(),
                    Poll::Ready(Some(_)) | Poll::Pending => return Poll::Ready(false),
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
                shared.attempts += 1;
                shared.attempts
            }
        };
        Some(Attempt { shared: self.0.clone(), number, sent: 0 })
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
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            self.waits_for_app = true;
            let frame = ready!(Pin::new(rest).poll_frame(context));
            self.waits_for_app = false;
            self.moved = Instant::now();
            match frame {
                None => self.rest = None,
                Some(Err(_)) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(BodyError::App)));
                }
                Some(Ok(frame)) => {
                    // Trailers of a request are dropped: one of them could be an Authorization.
                    let Ok(data) = frame.into_data() else {
                        self.trailed = true;
                        continue;
                    };
                    self.keep(&data);
                    if self.rest.as_ref().is_some_and(Body::is_end_stream) {
                        self.rest = None;
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
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
            self.kept.push(data.clone());
        }
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
        if let Some(data) = shared.kept.get(this.sent).cloned() {
            this.sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let data = ready!(shared.poll_rest(context));
        this.sent = shared.kept.len();
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| {
            let shared = shared.borrow();
            shared.attempts == self.number && shared.rest.is_none() && self.sent >= shared.kept.len()
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
            Self::App => "the app broke off its request",
            Self::Superseded => "the request is being sent again elsewhere",
        })
    }
}

impl std::error::Error for BodyError {}
