//! The body of an answer: the upstream's as it streams, or our own few bytes. Holds the exchange, so that its end is
//! the body's end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::exchange::Exchange;
use super::upgrade::Upgrade;
use crate::observe::reason::Reason;
use crate::outbound::Lease;

/// An answer's body.
pub struct Reply {
    kind: Kind,
    /// Recorded when the body is gone. `None` where it goes on behind the answer.
    exchange: Option<Exchange>,
}

enum Kind {
    Own(Option<Bytes>),
    Relay(Relay),
    /// None; what follows is no body.
    Switching(Option<Box<Upgrade>>),
}

struct Relay {
    body: Incoming,
    /// Given back at the end of the body; closed if that never comes.
    lease: Option<Lease>,
    idle_for: Duration,
    idle: Option<Pin<Box<Sleep>>>,
    /// It broke off, and the app is told so the next time.
    broken: bool,
}

/// The upstream's body did not come to its end. The app must not take what it got for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    Broken,
    /// Nothing came for `timeouts.body_idle`.
    Idle,
}

/// Hands the upstream's answer on.
pub(super) fn relay(response: Response<Incoming>, lease: Lease, mut exchange: Exchange) -> Response<Reply> {
    exchange.answered(response.status());
    let idle_for = exchange.body_idle();
    response.map(|body| {
        let mut relay = Relay { body, lease: Some(lease), idle_for, idle: None, broken: false };
        if relay.body.is_end_stream() {
            relay.finish();
        }
        Reply { kind: Kind::Relay(relay), exchange: Some(exchange) }
    })
}

impl Reply {
    pub(super) fn own(text: Bytes, exchange: Exchange) -> Self {
        Self { kind: Kind::Own(Some(text)), exchange: Some(exchange) }
    }

    pub(super) fn switching(upgrade: Upgrade) -> Self {
        Self { kind: Kind::Switching(Some(Box::new(upgrade))), exchange: None }
    }

    /// What the app's connection becomes once this answer is written, if it is no longer HTTP.
    pub fn upgrade(&mut self) -> Option<Upgrade> {
        match &mut self.kind {
            Kind::Switching(upgrade) => upgrade.take().map(|upgrade| *upgrade),
            Kind::Own(_) | Kind::Relay(_) => None,
        }
    }

    /// How long either side may let the body stand still: the route's, if it is an upstream's. Here only the upstream
    /// is watched; whoever writes the body sees whether it is taken.
    pub fn body_idle(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Own(_) | Kind::Switching(_) => None,
            Kind::Relay(relay) => Some(relay.idle_for),
        }
    }
}

impl Relay {
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        if self.broken {
            return Poll::Ready(Some(Err(ReplyError::Broken)));
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                ready!(self.poll_idle(context));
                return Poll::Ready(Some(Err(ReplyError::Idle)));
            };
            self.idle = None;
            match frame {
                Some(Ok(frame)) if frame.is_data() => {
                    if self.body.is_end_stream() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                // Trailers are not relayed.
                Some(Ok(_)) => {}
                Some(Err(_)) => {
                    // At an error hyper forgets what it has not written, the head too, and the app would be left
                    // without any answer. While there is nothing to write it flushes.
                    self.broken = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                None => {
                    self.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Ready when nothing came for too long. Most bodies are there with their head and never need the timer.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle_for = self.idle_for;
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
            Kind::Relay(relay) => relay.poll_data(context),
            Kind::Switching(_) => Poll::Ready(None),
        };
        if let Poll::Ready(Some(Err(error))) = &poll {
            let reason = match error {
                ReplyError::Broken => Reason::UpstreamReset,
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
            Self::Broken => "the upstream broke off its answer",
            Self::Idle => "the upstream's answer stood still",
        })
    }
}

impl std::error::Error for ReplyError {}
