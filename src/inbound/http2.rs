//! An app's connection that speaks HTTP/2: requests beside each other, each with limits of its own.
//!
//! hyper ends no connection that is idle or never asks anything, and waits for ever for an app that takes nothing of one
//! answer while it takes the others. The connection's watchdog ends the former; a watch on each stream the latter, and
//! that stream alone. Extended CONNECT (RFC 8441) stays off.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep};

use super::current::Current;
use super::settings::Limits;
use super::watched::{Activity, Serving, Watched};
use crate::forward::{Forward, Reply};
use crate::life::contained;
use crate::observe::Observer;
use crate::observe::event::{Asked, Event};
use crate::observe::reason::Reason;
use crate::rules::Arrival;
use crate::wire::fault::of_http2;
use crate::wire::headers::join_cookies;

/// Requests of one connection at a time. RFC 9113, 6.5.2, wants no fewer than 100; an app that wants more than this waits
/// or opens another connection, and `limits.in_flight` of a route is what bounds its work.
const STREAMS: u32 = 200;

/// Requests that an app may take back before anybody has looked at them. Whoever gives up all of its calls at once does
/// nothing wrong, and h2's own limit of 20 would cut it off; who goes on like that (CVE-2023-44487) is.
const TAKEN_BACK: usize = STREAMS as usize;

/// What an app may send of one body before anybody takes it.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for the whole connection: bodies that stand still do not keep others from moving, up to sixteen of them.
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;

/// Bytes of one answer that wait to be written; as much as is read of a request.
const SEND_BUFFER: usize = STREAM_WINDOW as usize;

/// The longest piece of an answer that is handed to h2: a frame (RFC 9113, 4.2). It takes a piece as soon as the app would
/// take one byte of it, and whatever it has taken nobody watches any more.
const PIECE: usize = 16 * 1024;

/// `activity` began when the connection was accepted.
pub(super) async fn serve(
    io: Watched,
    arrival: Rc<Arrival>,
    activity: Arc<Activity>,
    current: &Rc<Current>,
    limits: &Limits,
    observer: &Observer,
    mut draining: Pin<&mut impl Future<Output = ()>>,
) {
    activity.multiplex();
    let streams = Streams { pace: Rc::default(), observer: observer.clone() };
    let builder = builder(limits, streams.clone());
    let service = service_fn(|request: Request<Incoming>| {
        // What it begins with it ends with, whatever is in force by then.
        let (now, arrival, serving) = (current.get(), Rc::clone(&arrival), activity.serve(None));
        let pace = Rc::new(Pace::default());
        streams.pace.set(Some(Rc::clone(&pace)));
        let (most, idle) = (limits.headers, limits.idle);
        async move { Ok::<_, Infallible>(answer(request, &arrival, &now.forward, (most, idle), pace, serving).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut watchdog = pin!(activity.watchdog(limits));
    if activity.is_leaving() {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            biased;
            // First: a flood uses up what a task may do at a time, and a timer behind it would never be looked at.
            () = watchdog.as_mut() => {
                // Busy connections are not idle: this one has had its time, or takes nothing.
                if activity.is_leaving() || activity.has_broken_off() {
                    return;
                }
                watchdog.set(activity.watchdog(limits));
            }
            () = draining.as_mut(), if !activity.is_leaving() => {}
            ended = connection.as_mut() => {
                if ended.is_err_and(|error| is_refused(&error)) {
                    let why = "it is not HTTP/2 as it should be, or a flood of it";
                    observer.refused(Reason::BadRequest, None, why, || arrival.asked(Asked::default()));
                    observer.leave_without(Reason::BadRequest, None, || arrival.asked(Asked::default()));
                }
                return;
            }
        }
        activity.drain();
        watchdog.set(activity.watchdog(limits));
        connection.as_mut().graceful_shutdown();
    }
}

fn builder(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        // Asks whether a peer is there that would never say that it has left. Its answer keeps nothing open.
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.idle)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(TAKEN_BACK)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        // What is longer gets a bare 431, as over HTTP/1.
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX));
    builder
}

/// Whether it was we who ended the connection, for what its app sent.
fn is_refused(error: &hyper::Error) -> bool {
    of_http2(error).is_some_and(|cause| cause.is_library() && cause.reason() != Some(h2::Reason::NO_ERROR))
}

async fn answer(
    mut request: Request<Incoming>,
    arrival: &Arrival,
    forward: &Forward,
    (most, idle): (usize, Duration),
    pace: Rc<Pace>,
    serving: Serving,
) -> Response<Served> {
    if request.headers().len() > most {
        let why = "its head has more fields than `limits.headers`";
        forward.observer.refused(Reason::BadRequest, None, why, || arrival.asked(Asked::default()));
        let mut trail = forward.observer.trail();
        trail.note(|entry| {
            entry.came(arrival.asked(Asked::default()));
            entry.asks(request.method(), request.uri(), request.version());
            entry.status = Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_u16());
            entry.reason = Some(Reason::BadRequest);
        });
        forward.observer.leave(trail);
        let mut response = Response::new(Served { reply: None, rest: Bytes::new(), pace, _serving: serving });
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return response;
    }
    join_cookies(request.headers_mut());
    let is_head = request.method() == Method::HEAD;
    let (mut head, body) = request.into_parts();
    let mut response = forward.handle(arrival, &mut head, body).await;
    // It speaks of a connection with one request at a time; here only the stream ends.
    response.headers_mut().remove(header::CONNECTION);
    pace.allow(response.body().body_idle().unwrap_or(idle));
    // Over HTTP/1 hyper sees to it that an answer of our own to HEAD has no body.
    let bodiless = is_head && !response.body().is_end_stream();
    if bodiless && let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.map(|reply| Served {
        reply: Some(reply).filter(|_| !bodiless),
        rest: Bytes::new(),
        pace,
        _serving: serving,
    })
}

/// Runs what hyper makes of each request, until it ends or its answer stands still.
#[derive(Clone)]
struct Streams {
    /// Of the request that hyper has just been given and hands over next.
    pace: Rc<Cell<Option<Rc<Pace>>>>,
    observer: Observer,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (pace, observer) = (self.pace.take().unwrap_or_default(), self.observer.clone());
        // Boxed, so that it is moved but once.
        let mut stream = Box::pin(stream);
        tokio::task::spawn_local(async move {
            let stream = async {
                tokio::select! {
                    biased;
                    () = &mut stream => {}
                    // Dropped with its answer unfinished, it is reset (CANCEL).
                    () = pace.stood_still() => {}
                }
            };
            if contained(pin!(stream)).await.is_none() {
                observer.tell(&Event::TaskPanicked { task: "an app's request over HTTP/2" });
            }
        });
    }
}

/// Whether an answer moves. hyper asks for the next piece when the app has room for it.
#[derive(Debug, Default)]
struct Pace {
    /// How long it may stand still; nothing before there is an answer.
    patience: Cell<Option<Duration>>,
    /// When the latest piece was handed over, if no other was asked for since.
    handed: Cell<Option<Instant>>,
}

impl Pace {
    fn allow(&self, patience: Duration) {
        self.patience.set(Some(patience));
    }

    /// Ends when nothing was asked for during all of the patience. The timer is there only for an answer that is not
    /// taken at once.
    async fn stood_still(&self) {
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            let Some(patience) = self.patience.get() else { return Poll::Pending };
            loop {
                let since = self.handed.get();
                let Some(due) = since.unwrap_or_else(Instant::now).checked_add(patience) else { return Poll::Pending };
                let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
                ready!(timer.as_mut().poll(context));
                if since.is_some() && due <= Instant::now() {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(due);
            }
        })
        .await;
    }
}

/// An answer's body; while it lasts, the connection is being served.
struct Served {
    /// `None` is an answer without a body.
    reply: Option<Reply>,
    /// Of the reply's latest piece.
    rest: Bytes,
    pace: Rc<Pace>,
    _serving: Serving,
}

impl Served {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, <Reply as Body>::Error>>> {
        if self.rest.is_empty() {
            let Some(reply) = &mut self.reply else { return Poll::Ready(None) };
            match ready!(Pin::new(reply).poll_frame(context)).transpose()?.map(Frame::into_data) {
                None => return Poll::Ready(None),
                Some(Ok(data)) => self.rest = data,
                Some(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = <Reply as Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let poll = this.poll_piece(context);
        this.pace.handed.set(poll.is_ready().then(Instant::now));
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.reply.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
