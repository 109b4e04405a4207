//! What is left of an exchange once HTTP is over: a WebSocket (RFC 6455) that the upstream has agreed to, or a tunnel.
//!
//! Until then it is a request like any other, on a connection of its own, and not a byte is passed on before; see
//! `wire::websocket` for what it is to agree, and `connect` for tunnels. From then on it is two connections that end
//! together, and the exchange lasts until they do: with its place, its counts, and its line in the log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::Exchange;
use super::pipe::{self, Carries};
use super::reply::{Reply, Source};
use crate::outbound::{Lease, Tunnel};
use crate::rules::Intercepted;

/// What an app's connection becomes once its answer is written.
pub enum Next {
    /// It is joined with another.
    Joined(Upgrade),
    /// HTTP again, inside of TLS that we speak in the stead of this place.
    Intercepted(Intercepted),
}

/// The other side of a connection that is no longer HTTP, for whoever holds the app's. Dropped, it ends.
pub struct Upgrade {
    far: Far,
    exchange: Exchange,
    idle: Duration,
}

enum Far {
    Upstream {
        switched: OnUpgrade,
        /// Counts the upstream's connection as open.
        lease: Lease,
    },
    Tunnel(Tunnel),
}

/// A tunnel's sides are left alone, however long: only the system looks whether they are still there.
const NO_LIMIT: Duration = Duration::MAX;

/// Hands an agreeing 101 on.
pub(super) fn agree(mut response: Response<Source>, lease: Lease, mut exchange: Exchange) -> Response<Reply> {
    exchange.relayed(response.status());
    let idle = exchange.body_idle();
    let far = Far::Upstream { switched: upgrade::on(&mut response), lease };
    response.map(|_| Reply::switching(Next::Joined(Upgrade { far, exchange, idle })))
}

/// Answers a CONNECT whose far end is there.
pub(super) fn tunnel(tunnel: Tunnel, mut exchange: Exchange) -> Response<Reply> {
    exchange.answered(StatusCode::OK);
    let far = Far::Tunnel(tunnel);
    Response::new(Reply::switching(Next::Joined(Upgrade { far, exchange, idle: NO_LIMIT })))
}

/// Answers a CONNECT whose far end we are ourselves. That is all of this exchange: those inside are others.
pub(super) fn intercept(intercepted: Intercepted, mut exchange: Exchange) -> Response<Reply> {
    exchange.answered(StatusCode::OK);
    Response::new(Reply::switching(Next::Intercepted(intercepted)))
}

impl Upgrade {
    pub fn is_tunnel(&self) -> bool {
        matches!(self.far, Far::Tunnel(_))
    }

    /// Passes bytes on until both sides have ended. `ahead` was read from `app` behind the request.
    ///
    /// Once `leaving` is over, both sides of a WebSocket are asked to close it. A tunnel is not: what is in it is not ours
    /// to know, and nothing can be said in between.
    ///
    /// There is no limit on how long nothing comes. Where one side of a WebSocket does not take what the other sends, or
    /// has ended, it ends when nothing has moved for the route's `timeouts.body_idle`.
    pub async fn run(self, app: impl AsyncRead + AsyncWrite + Unpin, ahead: Bytes, leaving: impl Future<Output = ()>) {
        let Self { far, exchange, idle } = self;
        let tally = exchange.tally().map(Arc::as_ref);
        match far {
            // An error is an upstream that left right behind its answer; the app finds its connection ended.
            Far::Upstream { switched, lease } => {
                if let Ok(upstream) = switched.await {
                    pipe::join(app, ahead, TokioIo::new(upstream), Carries::WebSocket, idle, leaving, tally).await;
                }
                drop(lease);
            }
            Far::Tunnel(mut tunnel) => {
                pipe::join(app, ahead, &mut tunnel.stream, Carries::Anything, idle, leaving, tally).await;
            }
        }
        drop(exchange);
    }
}
