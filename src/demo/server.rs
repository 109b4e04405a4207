//! Accepting, TLS, HTTP/1, HTTP/2 and stopping: what the provider and the API have in common.
//!
//! Binds to loopback only. Must never know what is served.

use std::future::{self, Future};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::Error;
use super::answer::Payload;
use super::script::held;
use super::steps::{self, Io, Step};
use crate::tls::H2;

/// What a server does with a request. Boxed, because a connection can be taken from hyper only when hyper holds
/// nothing that is pinned in place.
pub(super) trait Service: Send + Sync + 'static {
    fn answer(self: Arc<Self>, request: Request<Incoming>, connection: u64) -> Answering;
    /// What a new connection does instead of HTTP, if anything.
    fn opening(&self) -> Option<Vec<Step>>;
}

pub(super) type Answering = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pub(super) enum Outcome {
    Respond(Response<Payload>),
    /// The connection is no longer HTTP. One that speaks HTTP/2 is many requests': there the stream is reset.
    Take(Vec<Step>),
}

/// What hyper is told where a stream is to be reset.
#[derive(Debug, thiserror::Error)]
#[error("the script takes the connection away from HTTP")]
struct Reset;

/// A socket on 127.0.0.1, listening and not yet served.
pub(super) struct Listener {
    socket: TcpListener,
    pub addr: SocketAddr,
}

impl Listener {
    /// Port 0 takes a free one.
    pub(super) fn bind(port: u16) -> Result<Self, Error> {
        let listen = || {
            let socket = TcpSocket::new_v4()?;
            // Connections of a server stopped a moment ago still sit in TIME_WAIT on this port.
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
            // More than the 128 that many systems default to: load tests open a thousand connections at once.
            let socket = socket.listen(1024)?;
            let addr = socket.local_addr()?;
            Ok(Self { socket, addr })
        };
        listen().map_err(|source| Error::Listen { port, source })
    }
}

/// A program that somebody is starting holds our descriptors, too, until it runs: a port that was closed is in use for so
/// much longer.
const HELD: Duration = Duration::from_secs(5);

/// A service and the address where it can be reached, now or again.
pub(super) struct Host<S> {
    service: Arc<S>,
    addr: SocketAddr,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    /// How many streams one HTTP/2 connection takes; `None` is HTTP/1 alone.
    http2: Option<u32>,
    counts: Counts,
    /// None while it is stopped.
    server: Mutex<Option<Server>>,
}

impl<S: Service> Host<S> {
    pub(super) fn start(
        listener: Listener,
        tls: Option<Arc<ServerConfig>>,
        http2: Option<u32>,
        service: Arc<S>,
    ) -> Self {
        let counts = Counts::default();
        let addr = listener.addr;
        let server = Server::start(listener.socket, tls.clone(), http2, service.clone(), counts.clone());
        Self { service, addr, http2, tls: Mutex::new(tls), counts, server: Mutex::new(Some(server)) }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) async fn stop(&self) {
        let running = held(&self.server).take();
        if let Some(server) = running {
            server.stop().await;
        }
    }

    pub(super) async fn restart(&self) -> Result<(), Error> {
        self.stop().await;
        let begun = Instant::now();
        let listener = loop {
            match Listener::bind(self.addr.port()) {
                Err(Error::Listen { source, .. })
                    if source.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < HELD =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                bound => break bound?,
            }
        };
        let tls = held(&self.tls).clone();
        let server = Server::start(listener.socket, tls, self.http2, self.service.clone(), self.counts.clone());
        *held(&self.server) = Some(server);
        Ok(())
    }

    pub(super) async fn restart_with(&self, tls: ServerConfig) -> Result<(), Error> {
        *held(&self.tls) = Some(Arc::new(tls));
        self.restart().await
    }
}

/// A listener and everything that it accepted. All of it ends when this is dropped.
struct Server {
    stop: oneshot::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Server {
    fn start<S: Service>(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        http2: Option<u32>,
        service: Arc<S>,
        counts: Counts,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let tls = tls.map(|tls| {
            let mut config = ServerConfig::clone(&tls);
            if http2.is_some() {
                config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
            }
            TlsAcceptor::from(Arc::new(config))
        });
        let accepting = tokio::spawn(accept(listener, tls, http2, service, counts, stopped));
        Self { stop, accepting }
    }

    /// Drops the listener and every open connection. They are gone when this returns.
    async fn stop(self) {
        drop(self.stop);
        // An error would be its panic or its runtime's end; it is gone either way.
        let _ = self.accepting.await;
    }
}

async fn accept<S: Service>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    http2: Option<u32>,
    service: Arc<S>,
    counts: Counts,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors, most likely: asking again at once would only spin.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let id = counts.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                let serving = connection(stream, tls.clone(), http2, service.clone(), counts.clone(), id);
                connections.spawn(serving);
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection<S: Service>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    http2: Option<u32>,
    service: Arc<S>,
    counts: Counts,
    id: u64,
) {
    let _open = counts.open.enter();
    // A demo's answers are small; none should wait for an acknowledgement. A peer that is gone is noticed below.
    let _ = stream.set_nodelay(true);
    let io = match tls {
        None => Io::Plain(stream),
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => Io::Tls(Box::new(stream)),
            Err(_) => {
                counts.failed_handshakes.fetch_add(1, Ordering::Relaxed);
                return;
            }
        },
    };
    // How a scripted connection ends is for the peer to see; nobody here acts on it.
    if let Some(steps) = service.opening() {
        let _ = steps::play(io, Bytes::new(), steps).await;
        return;
    }
    let agreed = match &io {
        Io::Plain(_) => true,
        Io::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(H2),
    };
    if let Some(streams) = http2.filter(|_| agreed) {
        return serve_http2(io, streams, service, counts, id).await;
    }
    let (take, mut taken) = mpsc::unbounded_channel();
    let handler = service_fn(move |request| {
        let (take, entered) = (take.clone(), counts.in_flight.enter());
        let answering = service.clone().answer(request, id);
        let answer = async move {
            match answering.await {
                Outcome::Respond(mut response) => {
                    response.body_mut().entered = Some(entered);
                    Ok::<_, Reset>(response)
                }
                Outcome::Take(steps) => {
                    let _ = take.send((steps, entered));
                    future::pending().await
                }
            }
        };
        Box::pin(answer)
    });
    let mut http = http1::Builder::new()
        .header_read_timeout(None) // an idle connection stays open: when it ends is for scripts and proxies to say
        .max_headers(256) // more than the proxy ever lets through, so that its own limit is the one that shows
        .serve_connection(TokioIo::new(io), handler);
    // hyper goes first: what it has to flush of earlier answers is flushed before the connection is taken from it.
    let (steps, _entered) = tokio::select! {
        biased;
        _ = &mut http => return,
        Some(taken) = taken.recv() => taken,
    };
    let parts = http.into_parts();
    let _ = steps::play(parts.io.into_inner(), parts.read_buf, steps).await;
}

async fn serve_http2<S: Service>(io: Io, streams: u32, service: Arc<S>, counts: Counts, id: u64) {
    let handler = service_fn(move |request| {
        let entered = counts.in_flight.enter();
        let answering = service.clone().answer(request, id);
        async move {
            match answering.await {
                Outcome::Respond(mut response) => {
                    response.body_mut().entered = Some(entered);
                    Ok(response)
                }
                Outcome::Take(_) => Err(Reset),
            }
        }
    });
    let _ = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(1024 * 1024) // more than the proxy ever lets through
        .max_pending_accept_reset_streams(1024) // a proxy that gives requests up is none that attacks
        .serve_connection(TokioIo::new(io), handler)
        .await;
}

/// What a server has had to do with. Lives through stops and restarts.
#[derive(Clone, Default)]
pub struct Counts {
    accepted: Arc<AtomicU64>,
    failed_handshakes: Arc<AtomicU64>,
    /// Connections, from accept to end.
    pub open: Gauge,
    /// Exchanges, from the request's head to the last of the response.
    pub in_flight: Gauge,
}

impl Counts {
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }
}

/// How many there are now, and how many there have been at once.
#[derive(Clone, Default)]
pub struct Gauge(Arc<Levels>);

#[derive(Default)]
struct Levels {
    now: AtomicU64,
    peak: AtomicU64,
}

/// One of those that a [`Gauge`] counts, until it is dropped.
pub(super) struct Entered(Gauge);

impl Gauge {
    pub fn now(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }

    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Entered {
        let now = self.0.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.peak.fetch_max(now, Ordering::Relaxed);
        Entered(self.clone())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}
