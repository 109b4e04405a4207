//! A gRPC peer, as small as it gets: messages are five bytes and a text. What a call does is said by its path.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A body that is sent frame by frame. Dropped without trailers, the sender ends it.
pub(crate) struct Pipe<E>(mpsc::UnboundedReceiver<Result<Frame<Bytes>, E>>);

pub(crate) struct Sender<E>(mpsc::UnboundedSender<Result<Frame<Bytes>, E>>);

pub(crate) fn pipe<E>() -> (Sender<E>, Pipe<E>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Sender(sender), Pipe(receiver))
}

impl<E> Sender<E> {
    pub(crate) fn say(&self, text: &str) {
        let mut message = BytesMut::from(&[0][..]);
        message.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        message.extend_from_slice(text.as_bytes());
        self.send(Ok(Frame::data(message.freeze())));
    }

    fn end(&self, status: &'static str) {
        self.send(Ok(Frame::trailers(trailers(status))));
    }

    fn send(&self, frame: Result<Frame<Bytes>, E>) {
        // Whoever listens no more is told nothing.
        let _ = self.0.send(frame);
    }
}

impl Sender<std::io::Error> {
    /// Gives the call up, as clients of gRPC do: by a reset with this code.
    pub(crate) fn cancel(self, reason: h2::Reason) {
        self.send(Err(std::io::Error::other(Cancelled(reason.into()))));
    }
}

/// hyper looks for the code among the causes, and `io::Error` hides the first of them.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
struct Cancelled(#[source] h2::Error);

impl<E> Body for Pipe<E> {
    type Data = Bytes;
    type Error = E;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        self.0.poll_recv(context)
    }

    /// Whoever holds the sender has let it go: then nothing stands behind a head, not even an empty frame.
    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

fn trailers(status: &'static str) -> HeaderMap {
    [("grpc-status", status), ("x-detail", "yes")]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

/// Reads messages as they come.
pub(crate) struct Messages {
    body: Incoming,
    unread: BytesMut,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Messages {
    pub(crate) fn of(body: Incoming) -> Self {
        Self { body, unread: BytesMut::new(), trailers: None }
    }

    /// `None` at the end, which may be one that hyper does not tell from a reset.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, hyper::Error> {
        loop {
            if let Some(head) = self.unread.first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.unread.len() >= 5 + length {
                    self.unread.advance(5);
                    return Ok(Some(String::from_utf8(self.unread.split_to(length).to_vec()).unwrap()));
                }
            }
            match self.body.frame().await.transpose()?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(data)) => self.unread.extend_from_slice(&data),
                Some(Err(frame)) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// All that comes, up to a clean end.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(message) = self.next().await.unwrap() {
            rest.push(message);
        }
        assert!(self.body.is_end_stream() && self.unread.is_empty(), "the end was cut off");
        rest
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// What the server has seen of one call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) messages: Vec<String>,
    /// The request came to its end, or was reset.
    pub(crate) end: Option<Result<(), Option<h2::Reason>>>,
}

/// A server on plain TCP. Dropped, it is gone.
pub(crate) struct GrpcServer {
    pub(crate) address: SocketAddr,
    desk: Arc<Desk>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Desk {
    calls: Mutex<Vec<Call>>,
    /// Tokens that are not taken.
    rejected: Mutex<Vec<HeaderValue>>,
}

impl GrpcServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, desk) = (listener.local_addr().unwrap(), Arc::<Desk>::default());
        let (mut tasks, at) = (JoinSet::new(), Arc::clone(&desk));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let desk = Arc::clone(&at);
                let service = service_fn(move |request| answer(request, Arc::clone(&desk)));
                let serving = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                connections.spawn(serving);
            }
        });
        Self { address, desk, _tasks: tasks }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.desk.calls.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Call {
        self.calls().pop().expect("a call")
    }

    /// Takes the token of the last call no more.
    pub(crate) fn reject(&self) {
        self.desk.rejected.lock().unwrap().push(self.last().headers["authorization"].clone());
    }
}

impl Desk {
    fn update(&self, call: usize, change: impl FnOnce(&mut Call)) {
        change(&mut self.calls.lock().unwrap()[call]);
    }
}

type Said = Result<Response<Pipe<h2::Error>>, h2::Error>;

async fn answer(request: Request<Incoming>, desk: Arc<Desk>) -> Said {
    let (head, body) = request.into_parts();
    let (path, headers) = (head.uri.path().to_owned(), head.headers);
    let is_rejected = headers.get("authorization").is_some_and(|token| desk.rejected.lock().unwrap().contains(token));
    let call = {
        let mut calls = desk.calls.lock().unwrap();
        calls.push(Call { path: path.clone(), headers, messages: Vec::new(), end: None });
        calls.len() - 1
    };
    let (hear, mut heard) = mpsc::unbounded_channel();
    let listening = Arc::clone(&desk);
    tokio::spawn(async move {
        let mut messages = Messages::of(body);
        let end = loop {
            match messages.next().await {
                Ok(Some(message)) => {
                    listening.update(call, |call| call.messages.push(message.clone()));
                    let _ = hear.send(message);
                }
                Ok(None) if messages.is_whole() => break Ok(()),
                Ok(None) => break Err(None),
                Err(error) => break Err(reset_reason(&error)),
            }
        };
        listening.update(call, |call| call.end = Some(end));
    });
    let (say, body) = pipe();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    match path.as_str() {
        "/refuses/only" if is_rejected => {
            response.headers_mut().extend(trailers("16"));
            drop(say);
        }
        "/refuses/behind" if is_rejected => say.end("16"),
        "/refuses/late" if is_rejected => {
            say.say("before");
            say.end("16");
        }
        "/three" => {
            say.say("one");
            say.say("two");
            say.say("three");
            say.end("0");
        }
        "/count" => {
            let mut count = 0;
            while heard.recv().await.is_some() {
                count += 1;
            }
            say.say(&count.to_string());
            say.end("0");
        }
        "/chat" => {
            tokio::spawn(async move {
                while let Some(message) = heard.recv().await {
                    say.say(&message);
                }
                say.end("0");
            });
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(700)).await;
            say.end("0");
        }
        "/hang" => std::future::pending().await,
        "/reset" | "/reset/quietly" => {
            say.say("before");
            let reason = if path == "/reset" { h2::Reason::INADEQUATE_SECURITY } else { h2::Reason::NO_ERROR };
            tokio::spawn(async move {
                // Behind the message.
                tokio::time::sleep(Duration::from_millis(100)).await;
                say.send(Err(reason.into()));
            });
        }
        _ => {
            let message = heard.recv().await.unwrap_or_default();
            say.say(&message);
            say.end("0");
        }
    }
    Ok(response)
}

/// With which code a stream was reset.
pub(crate) fn reset_reason(error: &hyper::Error) -> Option<h2::Reason> {
    let cause = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    cause.reason().filter(|_| cause.is_reset())
}
