//! HTTP/2 on one side or on both, and TLS to the API. Both ends are hyper's, but for an app that does what hyper never
//! would: what is asked here is how much bearerd keeps, and not which frames it sends.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use bearerd::demo::certs::Ca;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn;
use hyper::service::service_fn;
use hyper::{Method, client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{KIBIBYTE, MEBIBYTE, Process, Source, TRIED, grows_little, hex, queued};
use crate::reliability::proof::Proof;
use crate::reliability::wire::{Api, Wire};
use crate::support::frames::{DATA, END_STREAM, Frames, HEADERS, WINDOW_UPDATE, frame, get};
use crate::support::{AnyBody, App2, PATIENCE, eventually, full};

/// How much bearerd may hold of one body: a window that its sender filled (256 KiB), as much again that waits to be
/// written, and what the test's own sender has made and not sent.
const HELD: usize = MEBIBYTE;

/// How much of a body is made at once, and how much of it waits at the test's own HTTP/1 end.
const PIECE: usize = 64 * KIBIBYTE;

/// What whoever receives by HTTP/2 takes of a body without its being read.
const WINDOW: usize = MEBIBYTE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    One = 1,
    Two = 2,
}

/// What the app speaks, and what the API.
const PAIRS: [(Http, Http); 3] = [(Http::Two, Http::Two), (Http::One, Http::Two), (Http::Two, Http::One)];

/// A [`Source`] as a body. It says how long it is only where `is_sized`.
struct Made {
    source: Source,
    is_sized: bool,
    /// How many bytes it has given.
    given: Arc<AtomicUsize>,
}

fn made(length: usize, is_sized: bool, given: &Arc<AtomicUsize>) -> AnyBody {
    Made { source: Source::of(length, PIECE), is_sized, given: Arc::clone(given) }.boxed_unsync()
}

impl Body for Made {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.source.next().map(Bytes::copy_from_slice);
        self.given.fetch_add(piece.as_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_sized { SizeHint::with_exact(self.source.left as u64) } else { SizeHint::new() }
    }
}

/// Reads a body to its end; its hash.
async fn hashed(mut body: Incoming) -> String {
    let mut hash = digest::Context::new(&SHA256);
    while let Some(frame) = body.frame().await {
        hash.update(frame.unwrap().data_ref().expect("no trailers"));
    }
    hex(hash)
}

/// An API that does not read before it may.
#[derive(Clone)]
struct Desk {
    tls: TlsAcceptor,
    may_read: watch::Receiver<bool>,
    given: Arc<AtomicUsize>,
}

impl Desk {
    /// What comes is answered with its hash; and `/down/…` with a body of that many bytes.
    async fn answer(mut self, request: Request<Incoming>) -> Result<Response<AnyBody>, Infallible> {
        let down = request.uri().path().strip_prefix("/down/").map(|length| length.parse().unwrap());
        Ok(Response::new(match down {
            Some(length) => made(length, false, &self.given),
            None => {
                self.may_read.wait_for(|may| *may).await.unwrap();
                full(hashed(request.into_body()).await)
            }
        }))
    }

    async fn serve(self, wire: Wire) {
        let io = self.tls.accept(wire.into_tcp()).await.unwrap();
        let is_http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn(move |request| self.clone().answer(request));
        let io = TokioIo::new(io);
        // How bearerd ends a connection is not asked here.
        let _ = if is_http2 {
            let mut builder = conn::http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(WINDOW as u32).serve_connection(io, service).await
        } else {
            conn::http1::Builder::new().max_buf_size(PIECE).serve_connection(io, service).await
        };
    }
}

enum App {
    One(client::conn::http1::SendRequest<AnyBody>),
    Two(App2),
}

impl App {
    async fn connect(http: Http, process: &Process) -> Self {
        let address = process.running.address;
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match http {
            Http::One => {
                let (sender, connection) = client::conn::http1::Builder::new()
                    .max_buf_size(PIECE)
                    .handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
                tokio::spawn(connection);
                Self::One(sender)
            }
            Http::Two => {
                let mut builder = client::conn::http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(WINDOW as u32);
                Self::Two(App2::with(builder, stream, &address).await)
            }
        }
    }

    /// The head of the answer, however long that takes.
    async fn send(&mut self, method: Method, path: &str, body: AnyBody) -> Response<Incoming> {
        let answer = match self {
            Self::One(sender) => {
                let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
                sender.ready().await.unwrap();
                sender.send_request(request.body(body).unwrap()).await
            }
            Self::Two(app) => {
                let request = app.request(&format!("{method} {path}"), body);
                app.sender.ready().await.unwrap();
                app.sender.send_request(request).await
            }
        };
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        answer
    }

    async fn up(&mut self, length: usize, given: &Arc<AtomicUsize>) -> String {
        let answer = self.send(Method::PUT, "/up", made(length, true, given)).await;
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    async fn down(&mut self, length: usize) -> Incoming {
        self.send(Method::GET, &format!("/down/{length}"), full("")).await.into_body()
    }
}

/// bearerd before an API that speaks the one or the other.
struct Stage {
    api: Api,
    process: Process,
    /// Whether the API may read.
    may_read: watch::Sender<bool>,
    /// How many bytes the API has made.
    given: Arc<AtomicUsize>,
}

impl Stage {
    async fn new(http: Http) -> Self {
        let ca = Ca::new().unwrap();
        let mut tls = ca.server(&["127.0.0.1"]).unwrap();
        if http == Http::Two {
            tls.alpn_protocols = vec![b"h2".to_vec()];
        }
        let (may_read, given) = (watch::Sender::new(true), Arc::default());
        let desk =
            Desk { tls: TlsAcceptor::from(Arc::new(tls)), may_read: may_read.subscribe(), given: Arc::clone(&given) };
        let api = Api::start(move |wire| desk.clone().serve(wire)).await;
        let process = Process::to(&format!("https://{}", api.address), Some(&ca.pem())).await;
        Self { api, process, may_read, given }
    }

    /// That bearerd has no more of what a sender made than it may. `received` bytes of it are with the receiver.
    fn check_held(&self, proof: &mut Proof, taken: usize, received: usize, what: &str) {
        let queued = queued(&[self.process.running.address.port(), self.api.address.port()]);
        let held = taken.saturating_sub(received + queued);
        proof.asked(1);
        proof.at_most(&format!("KiB that are held, which nobody read; {what}"), held / KIBIBYTE, HELD / KIBIBYTE);
        proof.at_most(&format!("KiB that were taken; {what}"), taken / KIBIBYTE, TRIED / KIBIBYTE - 1);
    }
}

#[tokio::test]
async fn a_body_of_any_size_arrives_as_it_was_and_costs_no_memory() {
    let mut proof = Proof::new("R12c", "large bodies by HTTP/2 on one side and on both, and TLS");
    for (app, api) in PAIRS {
        let mut stage = Stage::new(api).await;
        let process = &stage.process;
        let measured = async {
            let what = format!("app HTTP/{}, API HTTP/{}", app as u8, api as u8);
            let exchange = async |length| {
                let mut app = App::connect(app, process).await;
                let hash = Source::of(length, PIECE).hash();
                assert_eq!(hashed(app.down(length).await).await, hash, "it came down as it was");
                assert_eq!(app.up(length, &Arc::default()).await, hash, "it went up as it was");
            };
            grows_little(&mut proof, process, &what, exchange).await;
        };
        tokio::select! {
            biased;
            never = stage.api.lives() => never,
            () = measured => {}
        }
    }
    proof.end();
}

/// Waits until nobody takes any more of what is given; how much that is.
async fn held_back(given: &AtomicUsize, least: usize) -> usize {
    let given = || given.load(Ordering::Relaxed);
    eventually("the sender is at it", || given() > least).await;
    loop {
        let before = given();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if given() == before {
            return before;
        }
    }
}

#[tokio::test]
async fn whoever_does_not_read_holds_the_other_side_back() {
    let mut proof = Proof::new("R12d", "a peer that does not read, by HTTP/2 on one side and on both");
    for (app_http, api_http) in PAIRS {
        let stage = Stage::new(api_http).await;
        let hash = Source::of(TRIED, PIECE).hash();
        for up in [true, false] {
            let mut app = App::connect(app_http, &stage.process).await;
            let window = if (if up { api_http } else { app_http }) == Http::Two { WINDOW } else { 0 };
            stage.may_read.send_replace(false);
            let what = format!("app HTTP/{}, API HTTP/{}; up: {up}", app_http as u8, api_http as u8);
            let mut check = |taken: usize| stage.check_held(&mut proof, taken, window, &what);
            let came = if up {
                let given = Arc::default();
                let sending = app.up(TRIED, &given);
                let checked = async {
                    check(held_back(&given, window).await);
                    // It goes on as soon as somebody reads.
                    stage.may_read.send_replace(true);
                };
                tokio::time::timeout(2 * PATIENCE, async { tokio::join!(sending, checked).0 }).await
            } else {
                stage.given.store(0, Ordering::Relaxed);
                let body = app.down(TRIED).await;
                check(held_back(&stage.given, window).await);
                tokio::time::timeout(PATIENCE, hashed(body)).await
            };
            assert_eq!(came.expect("all of it in time"), hash, "it came as it was");
        }
    }
    proof.end();
}

/// By HTTP/2 a window says what a receiver would take, and then it may still read nothing.
#[tokio::test]
async fn a_window_without_end_is_no_reason_to_hold_more() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const MOST: u32 = (1 << 31) - 1;
    let mut proof = Proof::new("R12e", "an app of HTTP/2 with an endless window that reads nothing");
    let stage = Stage::new(Http::Two).await;
    let mut app = Frames::with(stage.process.running.address, &[(INITIAL_WINDOW_SIZE, MOST)]).await;
    app.send(frame(WINDOW_UPDATE, 0, 0, &(MOST - 65_535).to_be_bytes())).await;
    app.send(get(1, &format!("/down/{TRIED}"))).await;
    let taken = held_back(&stage.given, HELD).await;
    stage.check_held(&mut proof, taken, 0, "HTTP/2");
    let (mut hash, mut ended) = (digest::Context::new(&SHA256), false);
    while !ended {
        let frame = app.next().await.expect("the connection lives");
        ended = frame.stream == 1 && frame.flags & END_STREAM != 0 && [DATA, HEADERS].contains(&frame.kind);
        if frame.kind == DATA {
            hash.update(&frame.payload);
        }
    }
    assert_eq!(hex(hash), Source::of(TRIED, PIECE).hash(), "it came as it was");
    proof.end();
}
