//! One app's connection: what it speaks, limits on heads and waits, and an end that finishes what is in flight.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{self, OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::current::{Current, Terms};
use super::http2;
use super::intercept::Bare;
use super::preface::Spoken;
use super::settings::Limits;
use super::stream::Stream;
use super::watched::{Activity, Serving, Watched};
use crate::forward::{Next, Reply};
use crate::life::{Drain, Kind};
use crate::observe::Observer;
use crate::observe::event::Asked;
use crate::observe::reason::Reason;
use crate::rules::{Arrival, Intercepted};
use crate::wire::ear::Ear;

/// hyper's buffer for what a connection sends is so many of these that a head fits. rustls takes as much of a body at once, in
/// four whole records: of 72 KiB it left a record of 8 KiB, and a system call for it.
const BUFFER_STEP: usize = 64 * 1024;

/// How many headers hyper takes if it is not told. If it is, it fills room for as many with every head, which is a
/// thirtieth of all that a request takes.
const HYPERS_HEADERS: usize = 100;

/// What hyper could not read. Its answer says nothing, so the log does.
const NOT_HTTP: &str = "it is not HTTP, or its head is larger than `limits.header_bytes` or `limits.headers` allow; an app \
                        that speaks TLS here, where nothing does, is to be given `http://`";

/// A connection that is to go on inside of TLS.
pub(super) struct Encrypted {
    pub(super) bare: Bare,
    pub(super) intercepted: Intercepted,
    /// What the connection proves so far.
    pub(super) arrival: Arrival,
}

/// What serves connections, made once a worker.
pub(super) fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Ours instead; see `watched`.
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        .max_buf_size((limits.header_bytes + 8 * 1024).next_multiple_of(BUFFER_STEP));
    if limits.headers != HYPERS_HEADERS {
        builder.max_headers(limits.headers);
    }
    builder
}

/// Serves until the app leaves, dawdles, or the drain has let it finish; or until there is another connection inside.
/// `activity` began when it was accepted.
pub(super) async fn serve(
    stream: Stream,
    arrival: Arrival,
    activity: Arc<Activity>,
    current: &Rc<Current>,
    terms: &Terms,
    observer: &Observer,
    drain: &mut Drain,
) -> Option<Encrypted> {
    let (arrival, limits) = (Rc::new(arrival), &terms.limits);
    let agreed = stream.agreed();
    let activity = &activity;
    let mut io = Watched::new(stream, Arc::clone(activity));
    let mut draining = pin!(drain.draining());
    let mut watchdog = pin!(activity.watchdog(limits));
    let spoken = match agreed {
        Some(spoken) => spoken,
        None => loop {
            tokio::select! {
                biased;
                spoken = io.spoken() => break spoken,
                () = draining.as_mut(), if !activity.is_leaving() => {}
                // Its first bytes may just have come, in the time that it has to leave.
                () = watchdog.as_mut() => match activity.is_leaving() && io.get_ref().has_unread() {
                    true => {}
                    false => return None,
                },
            }
            activity.drain();
            watchdog.set(activity.watchdog(limits));
        },
    };
    if spoken == Spoken::Http2 {
        // Boxed, so that connections of HTTP/1, which are most, do not carry its size.
        Box::pin(http2::serve(io, arrival, Arc::clone(activity), current, limits, observer, draining)).await;
        return None;
    }
    // How the connection goes on, or ends, is ours to see to once it was asked to become another (hyper leaves it open).
    let next: RefCell<Option<(OnUpgrade, Option<Next>)>> = RefCell::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        let switch = request.extensions().get::<OnUpgrade>().is_some().then(|| upgrade::on(&mut request));
        let serving = activity.serve(request.body().size_hint().exact());
        let is_old = request.version() == Version::HTTP_10;
        let (mut head, body) = request.into_parts();
        let (arrival, next) = (Rc::clone(&arrival), &next);
        // What it begins with it ends with, whatever is in force by then.
        let now = current.get();
        // Boxed, so that its memory goes with the request: hyper keeps room for it as long as the connection lasts, idle
        // or not, and that is 3 KiB.
        Box::pin(async move {
            // Inside a CONNECT, and beside other requests (HTTP/2), it is refused like any that makes no sense.
            let is_connect = head.method == Method::CONNECT && arrival.intercepted.is_none();
            let mut response = match is_connect {
                true => Box::pin(now.forward.connect(&arrival, &head)).await,
                false => now.forward.handle(&arrival, &mut head, body).await,
            };
            drop(now);
            let mut is_last = activity.is_leaving();
            if let Some(switch) = switch {
                let becomes = response.body_mut().becomes();
                is_last &= becomes.is_none();
                next.replace(Some((switch, becomes)));
            }
            if let Some(patience) = response.body().body_idle() {
                serving.allow(patience);
            }
            if is_last {
                say_last(&mut response, is_old);
            }
            Ok::<_, Infallible>(response.map(|reply| Served { reply, serving, is_old }))
        })
    });
    let mut connection = pin!(terms.builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    // The drain and the watchdog are looked at when one of them has called: nearly always it is the connection.
    let mut ear = Ear::default();
    loop {
        tokio::select! {
            biased;
            // How a connection ends is the app's business; what ended badly was recorded with its exchange, but for
            // what was no request: hyper has answered that, with a bare 400 or 431.
            ended = connection.as_mut() => {
                if ended.is_err_and(|error| error.is_parse()) {
                    observer.refused(Reason::BadRequest, None, NOT_HTTP, || arrival.asked(Asked::default()));
                    // hyper does not tell which of 400, 414 and 431 it was.
                    observer.leave_without(Reason::BadRequest, None, || arrival.asked(Asked::default()));
                }
                break;
            }
            // Not hyper's own way, which ends an idle connection with its next request unread on it, and one whose
            // answer was begun before behind that answer, without having said so.
            begins_to_drain = poll_fn(|context| ear.poll(context, |context| {
                if !activity.is_leaving() && draining.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                watchdog.as_mut().poll(context).map(|()| false)
            })) => {
                if begins_to_drain {
                    activity.drain();
                } else if !activity.end() {
                    return None;
                }
                watchdog.set(activity.watchdog(limits));
            }
        }
    }
    let (switch, next) = next.take()?;
    let leaving = async {
        if !activity.is_leaving() {
            draining.await;
            activity.drain();
        }
    };
    // Boxed, so that connections that stay HTTP, which are most, do not carry its size.
    let (bare, intercepted) = Box::pin(go_on(switch, next, activity, limits.head, leaving)).await?;
    Some(Encrypted { bare, intercepted, arrival: Rc::unwrap_or_clone(arrival) })
}

/// Tells the app that its connection ends behind this answer (RFC 9112, 9.6), and hyper to end it there.
fn say_last(response: &mut Response<Reply>, is_old: bool) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    if is_old {
        // To an app of HTTP/1.0 that keeps its connections hyper would say keep-alive behind that, if this were of 1.1.
        *response.version_mut() = Version::HTTP_10;
    }
}

/// What comes after HTTP, or the end that hyper did not put to it, for which the app has `patience`.
async fn go_on(
    switch: OnUpgrade,
    next: Option<Next>,
    activity: &Arc<Activity>,
    patience: Duration,
    leaving: impl Future<Output = ()>,
) -> Option<(Bare, Intercepted)> {
    let switched = tokio::select! {
        biased;
        switched = switch => switched,
        // It is there at once, or never.
        () = std::future::ready(()) => return None,
    };
    let Ok(Ok(Parts { io, read_buf, .. })) = switched.map(Upgraded::downcast::<TokioIo<Watched>>) else {
        return None;
    };
    let mut io = io.into_inner();
    match next {
        Some(Next::Intercepted(intercepted)) => {
            let serving = activity.serve(Some(0));
            activity.becomes(None);
            Some((Bare::new(io, read_buf, serving), intercepted))
        }
        Some(Next::Joined(upgrade)) => {
            // What comes is no head.
            let _serving = activity.serve(Some(0));
            activity.becomes(Some(if upgrade.is_tunnel() { Kind::Tunnel } else { Kind::WebSocket }));
            io.get_ref().keep_alive();
            upgrade.run(io, read_buf, leaving).await;
            None
        }
        None => {
            // What the app sent ahead must not make a reset of the end.
            let _serving = activity.serve(None);
            // TLS has a last word, which an app that reads nothing does not take.
            let _ = tokio::time::timeout(patience, io.shutdown()).await;
            None
        }
    }
}

/// An answer's body; while it lasts, the connection is being served.
struct Served {
    reply: Reply,
    serving: Serving,
    /// HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
    is_old: bool,
}

impl Body for Served {
    type Data = Bytes;
    type Error = <Reply as Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.reply).poll_frame(context);
        if this.is_old && matches!(poll, Poll::Ready(Some(Err(_)))) {
            this.serving.broke_off();
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}
