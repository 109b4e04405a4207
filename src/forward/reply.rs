//! The body of an answer: the upstream's as it streams, or our own few bytes. Holds the exchange, so that its end is
//! the body's end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::exchange::Exchange;
use super::upgrade::Next;
use crate::observe::reason::Reason;
use crate::outbound::Lease;
use crate::wire::fault::{is_cut, reset_code};
use crate::wire::grpc;
use crate::wire::headers::{is_event_stream, strip_trailers};
use crate::wire::replay::Unasked;

/// An answer's body.
pub struct Reply {
    kind: Kind,
    /// Recorded when the body is gone. `None` where it goes on behind the answer.
    exchange: Option<Exchange>,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are relayed; a box would be an allocation for each")]
enum Kind {
    Own(Option<Bytes>),
    Relay(Relay),
    /// None; what follows is no body.
    Switching(Option<Box<Next>>),
}

struct Relay {
    body: Source,
    /// Given back at the end of the body; closed if that never comes.
    lease: Option<Lease>,
    /// What the answer's Connection named.
    named: Vec<HeaderName>,
    /// How long the upstream may be silent; `None` where silence is no sign of anything.
    idle_for: Option<Duration>,
    idle: Option<Pin<Box<Sleep>>>,
    /// How long the app may take nothing.
    patience: Duration,
    /// It broke off, and the app is told so the next time.
    broken: Option<ReplyError>,
    /// Ends what was sent of the request when the answer is over.
    _unasked: Option<Unasked>,
}

/// The upstream's body, of which the beginning may have been looked at.
pub(super) struct Source {
    body: Incoming,
    version: Version,
    /// What the look found.
    first: Option<Option<Result<Frame<Bytes>, hyper::Error>>>,
}

/// The upstream's body did not come to its end. The app must not take what it got for all of it.
#[derive(Debug)]
pub enum ReplyError {
    /// By HTTP/2 the upstream may have said why.
    Broken(Option<h2::Error>),
    /// Nothing came for `timeouts.body_idle`.
    Idle,
}

/// The upstream's answer, and what its end has to do with.
pub(super) struct Relayed {
    pub(super) response: Response<Source>,
    pub(super) lease: Lease,
    /// What its Connection named: it goes from the trailers, too.
    pub(super) named: Vec<HeaderName>,
}

/// Hands the upstream's answer on.
pub(super) fn relay(relayed: Relayed, unasked: Option<Unasked>, mut exchange: Exchange) -> Response<Reply> {
    let Relayed { response, mut lease, named } = relayed;
    exchange.relayed(response.status());
    if unasked.is_some() {
        lease.spoil();
    }
    let patience = exchange.body_idle();
    // Events come when there are any, and a call lasts as long as both sides like. That the upstream is gone is seen by
    // its connection: TCP keep-alive, and the pings of HTTP/2.
    let may_be_silent = is_event_stream(response.headers()) || grpc::is_grpc(response.headers());
    let idle_for = (!may_be_silent).then_some(patience);
    response.map(|body| {
        let (lease, idle, broken, _unasked) = (Some(lease), None, None, unasked);
        let mut relay = Relay { body, lease, named, idle_for, idle, patience, broken, _unasked };
        if relay.body.is_end_stream() {
            relay.finish();
        }
        Reply { kind: Kind::Relay(relay), exchange: Some(exchange) }
    })
}

impl Reply {
    /// `None` is no body at all.
    pub(super) fn own(text: Option<Bytes>, exchange: Exchange) -> Self {
        Self { kind: Kind::Own(text), exchange: Some(exchange) }
    }

    pub(super) fn switching(next: Next) -> Self {
        Self { kind: Kind::Switching(Some(Box::new(next))), exchange: None }
    }

    /// What the app's connection becomes once this answer is written, if it is no longer HTTP.
    pub fn becomes(&mut self) -> Option<Next> {
        match &mut self.kind {
            Kind::Switching(next) => next.take().map(|next| *next),
            Kind::Own(_) | Kind::Relay(_) => None,
        }
    }

    /// How long either side may let the body stand still: the route's, if it is an upstream's. Here only the upstream
    /// is watched; whoever writes the body sees whether it is taken.
    pub fn body_idle(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Own(_) | Kind::Switching(_) => None,
            Kind::Relay(relay) => Some(relay.patience),
        }
    }
}

impl Source {
    pub(super) fn of(response: Response<Incoming>) -> Response<Self> {
        let version = response.version();
        response.map(|body| Self { body, version, first: None })
    }

    /// The trailers, if they stand right behind the head and are there already. Waits for nothing.
    pub(super) async fn trailers_at_once(&mut self) -> Option<&HeaderMap> {
        std::future::poll_fn(|context| {
            if let (None, Poll::Ready(frame)) = (&self.first, Pin::new(&mut self.body).poll_frame(context)) {
                self.first = Some(frame);
            }
            Poll::Ready(())
        })
        .await;
        self.first.as_ref()?.as_ref()?.as_ref().ok()?.trailers_ref()
    }

    /// How long it is, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let frame = match self.first.take() {
            Some(frame) => frame,
            None => ready!(Pin::new(&mut self.body).poll_frame(context)),
        };
        Poll::Ready(match frame {
            None if is_cut(&self.body, self.version) => Some(Err(ReplyError::Broken(None))),
            None => None,
            Some(frame) => Some(frame.map_err(|error| ReplyError::Broken(reset_code(&error).map(h2::Error::from)))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // A length counts what is still to come, and the first of it is here.
        let here = self.first.as_ref().and_then(|first| first.as_ref()?.as_ref().ok()?.data_ref());
        match (self.body.size_hint().exact(), here) {
            (Some(length), here) => SizeHint::with_exact(length + here.map_or(0, |data| data.len() as u64)),
            (None, _) => SizeHint::default(),
        }
    }
}

impl Relay {
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }

    fn poll_frame(
        &mut self,
        exchange: Option<&mut Exchange>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        if let Some(broken) = self.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        let Poll::Ready(frame) = self.body.poll_next(context) else {
            ready!(self.poll_idle(context));
            return Poll::Ready(Some(Err(ReplyError::Idle)));
        };
        self.idle = None;
        match frame.map(|frame| frame.map(Frame::into_trailers)) {
            Some(Ok(Err(frame))) => {
                if self.body.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Ok(Ok(mut trailers))) => {
                self.finish();
                if let (Some(exchange), Some(is_at_fault)) = (exchange, grpc::is_unauthenticated(&trailers)) {
                    exchange.unauthenticated(is_at_fault);
                }
                strip_trailers(&mut trailers, &self.named);
                Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))))
            }
            Some(Err(broken)) => {
                // At an error hyper forgets what it has not written, the head too, and the app would be left
                // without any answer. While there is nothing to write it flushes.
                self.broken = Some(broken);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    /// Ready when nothing came for too long. Most bodies are there with their head and never need the timer.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(idle_for) = self.idle_for else { return Poll::Pending };
        self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_for))).as_mut().poll(context)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let this = self.get_mut();
        let poll = match &mut this.kind {
            Kind::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Relay(relay) => relay.poll_frame(this.exchange.as_mut(), context),
            Kind::Switching(_) => Poll::Ready(None),
        };
        if let (Poll::Ready(Some(Ok(frame))), Some(exchange)) = (&poll, &this.exchange)
            && let (Some(data), Some(tally)) = (frame.data_ref(), exchange.tally())
        {
            tally.written(data.len());
        }
        if let Poll::Ready(Some(Err(error))) = &poll {
            let reason = match error {
                ReplyError::Broken(_) => Reason::UpstreamReset,
                ReplyError::Idle => Reason::UpstreamTimeout,
            };
            if let Some(exchange) = &mut this.exchange {
                exchange.broke_off(reason, &error.to_string());
            }
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(text) => text.is_none(),
            Kind::Relay(relay) => relay.body.is_end_stream(),
            Kind::Switching(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Kind::Relay(relay) => relay.body.size_hint(),
            Kind::Switching(_) => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken(_) => "the upstream broke off its answer",
            Self::Idle => "the upstream's answer stood still",
        })
    }
}

impl std::error::Error for ReplyError {
    /// hyper resets a stream with the code that it finds here.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(why) => why.as_ref().map(|why| why as _),
            Self::Idle => None,
        }
    }
}
