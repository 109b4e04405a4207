//! A WebSocket (RFC 6455): what is left of an exchange once the upstream has agreed to one.
//!
//! Until then it is a request like any other, on a connection of its own, and not a byte is passed on before; see
//! `wire::websocket` for what it is to agree. From then on it is two connections that end together, and the exchange
//! lasts until they do: with its place, its counts, and its line in the log.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::Exchange;
use super::pipe;
use super::reply::{Reply, Source};
use crate::outbound::Lease;

/// The upstream's side of a connection that is no longer HTTP, for whoever holds the app's. Dropped, it ends.
pub struct Upgrade {
    upstream: OnUpgrade,
    /// Counts the upstream's connection as open.
    lease: Lease,
    exchange: Exchange,
    idle: Duration,
}

/// Hands an agreeing 101 on.
pub(super) fn agree(mut response: Response<Source>, lease: Lease, mut exchange: Exchange) -> Response<Reply> {
    exchange.answered(response.status());
    let idle = exchange.body_idle();
    let upstream = upgrade::on(&mut response);
    response.map(|_| Reply::switching(Upgrade { upstream, lease, exchange, idle }))
}

impl Upgrade {
    /// Passes bytes on until both sides have ended. `ahead` was read from `app` behind the request.
    ///
    /// There is no limit on how long nothing comes. Where one side does not take what the other sends, or has ended, it
    /// ends when nothing has moved for the route's `timeouts.body_idle`.
    pub async fn run(self, app: impl AsyncRead + AsyncWrite + Unpin, ahead: Bytes) {
        let Self { upstream, lease, exchange, idle } = self;
        // An error is an upstream that left right behind its answer; the app finds its connection ended.
        if let Ok(upstream) = upstream.await {
            pipe::join(app, ahead, TokioIo::new(upstream), idle).await;
        }
        drop((lease, exchange));
    }
}
