//! One app's connection: HTTP/1 with limits on heads and waits, and an end that finishes what is in flight.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::settings::Limits;
use super::stream::Stream;
use super::watched::{Activity, Serving, Watch, Watched};
use crate::forward::{Forward, Reply};
use crate::life::Drain;
use crate::observe::reason::Reason;
use crate::rules::Arrival;

/// hyper's buffer for what a connection sends; a head must fit, and 8 KiB is the least that hyper takes.
const MIN_BUFFER: usize = 64 * 1024;

/// What serves connections, made once a worker.
pub(super) fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Ours instead; see `watched`.
        .header_read_timeout(None)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.saturating_add(8 * 1024).max(MIN_BUFFER));
    builder
}

/// Serves until the app leaves, dawdles, or the drain has let it finish. `activity` began when it was accepted.
pub(super) async fn serve(
    stream: Stream,
    arrival: Arrival,
    activity: Arc<Activity>,
    forward: Rc<Forward>,
    builder: &http1::Builder,
    limits: &Limits,
    mut drain: Drain,
) {
    let (arrival, observer) = (Rc::new(arrival), forward.observer.clone());
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), Stream::reset));
    let service = service_fn(|request: Request<Incoming>| {
        let serving = activity.serve(request.body().size_hint().exact());
        let is_old = request.version() == Version::HTTP_10;
        let (forward, arrival) = (Rc::clone(&forward), Rc::clone(&arrival));
        async move {
            let response = forward.handle(&arrival, request).await;
            if let Some(patience) = response.body().body_idle() {
                serving.allow(patience);
            }
            Ok::<_, Infallible>(response.map(|reply| Served { reply, serving, is_old }))
        }
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut draining = pin!(drain.draining());
    let mut told = false;
    let mut watchdog = pin!(tokio::time::sleep(limits.first_byte()));
    loop {
        tokio::select! {
            biased;
            // How a connection ends is the app's business; what ended badly was recorded with its exchange, but for
            // what was no request: hyper has answered that, with a bare 400 or 431.
            ended = connection.as_mut() => {
                if ended.is_err_and(|error| error.is_parse()) {
                    observer.refused(Reason::BadRequest, None, Some("it is not HTTP/1, or its head is too large"));
                }
                return;
            }
            () = draining.as_mut(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = watchdog.as_mut() => match activity.watch(limits) {
                Watch::Expired => return,
                Watch::Stuck => {
                    activity.broke_off();
                    return;
                }
                Watch::LookAgainIn(wait) => {
                    watchdog.as_mut().reset(tokio::time::Instant::now() + wait.max(Duration::from_millis(1)));
                }
            },
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
