//! What a demo server says when its script tells it to: whole responses, slow ones, broken ones, and bytes.
//!
//! Must never know who asked, nor what the truthful answer would have been.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::server::Entered;
use super::steps::Step;

/// How a truthful JSON answer is altered.
pub type Edit = Arc<dyn Fn(&mut Map<String, Value>) + Send + Sync>;

/// One answer. What it is made of is public, yet the constructors below read better.
#[derive(Clone)]
pub enum Answer {
    /// The truth: what the server says when nothing is scripted.
    Serve,
    /// The truth, with the members of its JSON body altered. Refusals are left as they are.
    Edit(Edit),
    Respond(Canned),
    /// The API only: the request's body comes back while it is still arriving.
    Mirror,
    After(Duration, Box<Answer>),
    /// What it is, once the latch is open.
    Held(Latch, Box<Answer>),
    /// Takes the connection away from HTTP; the request's head has been read by then. By HTTP/2 the stream is reset.
    Raw(Vec<Step>),
}

/// Holds answers back until it is opened. Its clones are one latch.
#[derive(Clone, Default)]
pub struct Latch(watch::Sender<bool>);

impl Latch {
    pub fn new() -> Self {
        Self::default()
    }

    /// For what is held and for all that will be.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        // An error would say that every clone is gone, and this is one.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A scripted response.
#[derive(Clone, Debug)]
pub struct Canned {
    status: StatusCode,
    headers: HeaderMap,
    pieces: Vec<Piece>,
    sized: bool,
    /// Whether the response starts before the request's body has been read.
    early: bool,
}

/// A part of a scripted body.
#[derive(Clone, Debug)]
pub enum Piece {
    Send(Bytes),
    /// So many bytes of the same value, never all in memory.
    Repeat(u8, u64),
    /// Byte by byte, so long before each.
    Drip(Bytes, Duration),
    Pause(Duration),
    /// Reach the client if it said `TE: trailers`; the `Trailer` header is set.
    Trailers(HeaderMap),
    /// Ends the connection here, with the body incomplete.
    Cut,
    /// Nothing more, and no end.
    Stall,
}

impl Answer {
    pub fn status(status: u16) -> Canned {
        Canned {
            status: StatusCode::from_u16(status).expect("scripts name statuses from 100 to 999"),
            headers: HeaderMap::new(),
            pieces: Vec::new(),
            sized: true,
            early: false,
        }
    }

    pub fn json(status: u16, body: &Value) -> Canned {
        Self::status(status).header("content-type", "application/json").body(body.to_string())
    }

    pub fn edit(edit: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(edit))
    }

    /// These bytes, then a polite end of the connection.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::Raw(vec![Step::Send(bytes.into())])
    }

    /// An end of the connection instead of an answer.
    pub fn close() -> Self {
        Self::Raw(Vec::new())
    }

    /// A connection reset instead of an answer.
    pub fn reset() -> Self {
        Self::Raw(vec![Step::Reset])
    }

    /// No answer, until the peer gives up.
    pub fn hang() -> Self {
        Self::Raw(vec![Step::Hold])
    }

    /// 101 to whatever was asked for, then an echo of every byte.
    pub fn upgrade(protocol: &str) -> Self {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        Self::Raw(vec![Step::Send(head.into()), Step::Echo])
    }

    /// The same, so much later.
    pub fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }

    /// The same, once the latch is open: how a test keeps a request in flight for as long as it needs to.
    pub fn held_by(self, latch: &Latch) -> Self {
        Self::Held(latch.clone(), Box::new(self))
    }

    /// Waits as long as the answer says, and yields what is to be said then.
    pub(super) async fn due(mut self) -> Self {
        loop {
            self = match self {
                Self::After(time, then) => {
                    tokio::time::sleep(time).await;
                    *then
                }
                Self::Held(latch, then) => {
                    latch.opened().await;
                    *then
                }
                due @ (Self::Serve | Self::Edit(_) | Self::Respond(_) | Self::Mirror | Self::Raw(_)) => return due,
            }
        }
    }

    /// Whether the request's body is read before this is said.
    pub(super) fn wants_body(&self) -> bool {
        match self {
            Self::Serve | Self::Edit(_) => true,
            Self::Respond(canned) => !canned.early,
            Self::After(_, then) | Self::Held(_, then) => then.wants_body(),
            Self::Mirror | Self::Raw(_) => false,
        }
    }

    /// Whether the server has to make up its own mind.
    pub(super) fn is_truth(&self) -> bool {
        match self {
            Self::Serve | Self::Edit(_) | Self::Mirror => true,
            Self::After(_, then) | Self::Held(_, then) => then.is_truth(),
            Self::Respond(_) | Self::Raw(_) => false,
        }
    }
}

/// The truth as the answer wants it told.
pub(super) fn altered(truth: Value, answer: &Answer) -> Value {
    match (truth, answer) {
        (Value::Object(mut members), Answer::Edit(edit)) => {
            edit(&mut members);
            Value::Object(members)
        }
        (truth, _) => truth,
    }
}

impl Canned {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("scripts name valid headers");
        self.headers.append(name, HeaderValue::try_from(value).expect("scripts give headers valid values"));
        self
    }

    pub fn body(self, bytes: impl Into<Bytes>) -> Self {
        self.piece(Piece::Send(bytes.into()))
    }

    /// Adds a part of the body.
    pub fn piece(mut self, piece: Piece) -> Self {
        if let Piece::Trailers(trailers) = &piece {
            for name in trailers.keys() {
                self.headers.append(header::TRAILER, HeaderValue::from(name.clone()));
            }
        }
        self.pieces.push(piece);
        self
    }

    /// A body whose length is not announced.
    pub fn chunked(mut self) -> Self {
        self.sized = false;
        self
    }

    /// Answers before the request's body has been read.
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }

    pub fn after(self, time: Duration) -> Answer {
        Answer::from(self).after(time)
    }

    pub fn held_by(self, latch: &Latch) -> Answer {
        Answer::from(self).held_by(latch)
    }

    /// The body, if it is one piece.
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self.pieces.as_slice() {
            [Piece::Send(bytes)] => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn into_response(self) -> Response<Payload> {
        let mut response = Response::new(Payload::of(self.pieces, self.sized));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl From<Canned> for Answer {
    fn from(canned: Canned) -> Self {
        Self::Respond(canned)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve => f.write_str("Serve"),
            Self::Edit(_) => f.write_str("Edit"),
            Self::Respond(canned) => f.debug_tuple("Respond").field(canned).finish(),
            Self::Mirror => f.write_str("Mirror"),
            Self::After(time, then) => f.debug_tuple("After").field(time).field(then).finish(),
            Self::Held(_, then) => f.debug_tuple("Held").field(then).finish(),
            Self::Raw(steps) => f.debug_tuple("Raw").field(steps).finish(),
        }
    }
}

/// The body of every response that a demo server gives.
pub struct Payload {
    source: Source,
    /// The exchange counts as in flight until the body is gone.
    pub(super) entered: Option<Entered>,
}

enum Source {
    Pieces { left: VecDeque<Piece>, sleep: Option<Pin<Box<Sleep>>>, sized: bool, flushed: bool },
    Mirror(Pin<Box<dyn Body<Data = Bytes, Error = BodyCut> + Send>>),
}

/// The body ended where its script says, or the peer's did: hyper closes the connection.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut")]
pub struct BodyCut;

impl Payload {
    fn of(pieces: Vec<Piece>, sized: bool) -> Self {
        Self { source: Source::Pieces { left: pieces.into(), sleep: None, sized, flushed: false }, entered: None }
    }

    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(vec![Piece::Send(bytes.into())], true)
    }

    pub(super) fn mirror(body: impl Body<Data = Bytes, Error = BodyCut> + Send + 'static) -> Self {
        Self { source: Source::Mirror(Box::pin(body)), entered: None }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let (left, sleep, flushed) = match &mut self.get_mut().source {
            Source::Mirror(body) => return body.as_mut().poll_frame(cx),
            Source::Pieces { left, sleep, flushed, .. } => (left, sleep, flushed),
        };
        loop {
            if let Some(asleep) = sleep {
                ready!(asleep.as_mut().poll(cx));
                *sleep = None;
            }
            let Some(piece) = left.pop_front() else { return Poll::Ready(None) };
            let data = match piece {
                Piece::Send(bytes) if bytes.is_empty() => continue,
                Piece::Send(bytes) => bytes,
                Piece::Repeat(_, 0) => continue,
                Piece::Repeat(byte, count) => {
                    let chunk = filler(byte).slice(..usize::try_from(count).unwrap_or(CHUNK).min(CHUNK));
                    left.push_front(Piece::Repeat(byte, count - chunk.len() as u64));
                    chunk
                }
                Piece::Drip(bytes, _) if bytes.is_empty() => continue,
                Piece::Drip(mut bytes, every) => {
                    let byte = bytes.split_to(1);
                    left.push_front(Piece::Drip(bytes, every));
                    left.push_front(Piece::Send(byte));
                    *sleep = Some(Box::pin(tokio::time::sleep(every)));
                    continue;
                }
                Piece::Pause(time) => {
                    *sleep = Some(Box::pin(tokio::time::sleep(time)));
                    continue;
                }
                Piece::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Piece::Cut if *flushed => return Poll::Ready(Some(Err(BodyCut))),
                Piece::Cut => {
                    // hyper flushes when there is nothing to write, and an error would make it forget the rest.
                    *flushed = true;
                    left.push_front(Piece::Cut);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Piece::Stall => {
                    left.push_front(Piece::Stall);
                    return Poll::Pending;
                }
            };
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (left, sized) = match &self.source {
            Source::Mirror(body) => return body.size_hint(),
            Source::Pieces { left, sized, .. } => (left, sized),
        };
        let mut total = Some(0_u64).filter(|_| *sized);
        for piece in left {
            let length = match piece {
                Piece::Send(bytes) | Piece::Drip(bytes, _) => Some(bytes.len() as u64),
                Piece::Repeat(_, count) => Some(*count),
                Piece::Pause(_) => Some(0),
                Piece::Trailers(_) | Piece::Cut | Piece::Stall => None,
            };
            total = total.zip(length).and_then(|(total, length)| total.checked_add(length));
        }
        total.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What is given to hyper at once of a repeated byte: as much as its own write buffer likes to hold.
const CHUNK: usize = 64 * 1024;

fn filler(byte: u8) -> Bytes {
    static EXES: [u8; CHUNK] = [b'x'; CHUNK];
    if byte == b'x' { Bytes::from_static(&EXES) } else { Bytes::from(vec![byte; CHUNK]) }
}
