//! Thousands of slow clients, and an ordinary one beside them: it is served all the while, and each slow one is gone in
//! the end.
//!
//! How long the ordinary one waited is printed and not judged: that is the machine's business as much as bearerd's. It
//! lives on a thread of its own with its own API, so that it does not wait for the slow ones' side of this test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Stage;
use super::proof::Proof;
use super::wire::{Api, Wire, told};
use crate::support::{PATIENCE, lasting, scaled};

/// Between two bytes of a slow client.
const PACE: Duration = Duration::from_millis(500);

/// Between two requests of the ordinary client: it should not take the processor from the slow ones.
const PAUSE: Duration = Duration::from_millis(1);

/// Far more than the buffers between an API and a slow reader hold.
const LARGE: usize = 4 * 1024 * 1024;
static EXES: [u8; LARGE] = [b'x'; LARGE];

#[derive(Clone, Copy, Debug)]
enum Mode {
    /// Sends a head byte by byte.
    Head,
    /// Sends a body byte by byte, and then stands still.
    Body,
    /// Reads a large answer byte by byte.
    Answer,
    /// Connects, and says nothing.
    Silent,
    /// Says half of what HTTP/2 begins with, and no more.
    Preface,
}

#[tokio::test]
async fn slow_clients_end_and_nobody_else_notices() {
    // Long enough that all of them are there at a time.
    let (number, limit) = lasting((50, "500ms"), (700, "2s"), (2_000, "5s"));
    let mut proof = Proof::new("R11", "slow clients of five kinds, and an ordinary one beside them");
    let listener = TcpSocket::new_v4().unwrap();
    // What waits in the API's own socket is of no use here, and two thousand times.
    listener.set_send_buffer_size(16 * 1024).unwrap();
    listener.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let mut api = Api::on(listener.listen(1_024).unwrap(), serve);
    let mut bystander = Bystander::start();
    let rest = format!(
        "limits: {{connections: 10000, head: {limit}, idle: {limit}}}\nroutes:\n  - {{name: slow, upstream: \
         'http://{}', token: app, timeouts: {{body_idle: {limit}}}, limits: {{in_flight: 4000}}}}\n  - {{name: ordinary, upstream: 'http://{}', \
         token: app, match: {{path: /ordinary}}}}\n",
        api.address, bystander.api
    );
    let stage = Stage::new(Duration::from_secs(3_600), &["app".to_owned()], "", &rest).await;
    let proxy = stage.proxy.address;

    let least = scaled(200, 1_000);
    let alone = bystander.ask(proxy, least, async {}).await;
    proof.asked(alone.0.len() as u64);
    proof.figure("the ordinary client without them", alone);
    for mode in [Mode::Head, Mode::Body, Mode::Answer, Mode::Silent, Mode::Preface] {
        let (mut at_once, mut ended) = (0, 0);
        let slow_ones = async {
            (at_once, ended) = tokio::select! {
                biased;
                never = api.lives() => never,
                counts = slow(proxy, mode, number) => counts,
            };
        };
        let beside = bystander.ask(proxy, least, slow_ones).await;
        proof.is(&format!("{mode:?}: those that were ended, as befits them, of {number}"), ended, number);
        proof.at_least(
            &format!("{mode:?}: requests of the ordinary client meanwhile, each with its 200"),
            beside.0.len(),
            least,
        );
        proof.asked(beside.0.len() as u64);
        proof.withstood(ended as u64);
        proof.figure(&format!("{mode:?}: at a time"), at_once);
        proof.figure(&format!("{mode:?}: the ordinary client"), beside);
    }
    proof.end();
}

/// The slow ones' API: reads all of a request, and has a large answer.
async fn serve(mut wire: Wire) {
    // What breaks off does so in the middle of a test that is about nothing else.
    while let Ok(Some(head)) = wire.head().await {
        if wire.body(&head).await.is_err() {
            return;
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        if wire.send(answer.as_bytes()).await.is_err() || wire.send(&EXES).await.is_err() {
            return;
        }
    }
}

/// So many slow clients, until every one of them was ended; yields how many there were when the last had come, and how many
/// have ended.
async fn slow(proxy: SocketAddr, mode: Mode, number: usize) -> (usize, usize) {
    let (mut clients, mut all) = (JoinSet::new(), 0);
    for _ in 0..number {
        let stream = connect(proxy).await;
        clients.spawn(until_ended(stream, mode));
    }
    while let Some(ended) = clients.try_join_next() {
        told(ended);
        all += 1;
    }
    let at_once = clients.len();
    while let Some(ended) = clients.join_next().await {
        told(ended);
        all += 1;
    }
    (at_once, all)
}

/// Small segments and a small window: the system sizes our socket's buffer by them, and with those of loopback two
/// thousand slow readers would hold gigabytes of the kernel's memory.
async fn connect(proxy: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket2::SockRef::from(&socket).set_tcp_mss(1_000).unwrap();
    let stream = socket.connect(proxy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Does as its mode says until it is ended, and checks that it was told what belongs to that.
async fn until_ended(mut stream: TcpStream, mode: Mode) {
    let heard = async {
        match mode {
            Mode::Head => drip(&mut stream, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", usize::MAX).await,
            Mode::Body => {
                let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
                drip(&mut stream, head, 4).await
            }
            Mode::Answer => sip(&mut stream).await,
            Mode::Silent => drip(&mut stream, "", 0).await,
            Mode::Preface => drip(&mut stream, "PRI * HT", 0).await,
        }
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await;
    let heard = heard.unwrap_or_else(|_| panic!("{mode:?}: one is there still after {PATIENCE:?}"));
    let begins = match mode {
        Mode::Head | Mode::Silent | Mode::Preface => "",
        Mode::Body => "HTTP/1.1 400 ",
        Mode::Answer => "HTTP/1.1 200 ",
    };
    assert!(heard.starts_with(begins) && heard.is_empty() == begins.is_empty(), "{mode:?}: {heard}");
}

/// Sends the beginning at once and so many bytes after it one by one, until the connection ends.
async fn drip(stream: &mut TcpStream, beginning: &str, mut bytes: usize) -> String {
    let _ = stream.write_all(beginning.as_bytes()).await;
    let mut heard = Vec::new();
    loop {
        let pace = if bytes > 0 { PACE } else { PATIENCE };
        match tokio::time::timeout(pace, stream.read_buf(&mut heard)).await {
            Ok(Ok(0) | Err(_)) => return String::from_utf8(heard).unwrap(),
            Ok(Ok(_)) => {}
            Err(_) => {
                bytes = bytes.saturating_sub(1);
                // A connection that has ended is read to its end.
                let _ = stream.write_all(b"x").await;
            }
        }
    }
}

/// Asks for the large answer and reads a byte of it now and then, until the connection is reset.
async fn sip(stream: &mut TcpStream) -> String {
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut heard = vec![0; 13];
    stream.read_exact(&mut heard).await.unwrap();
    // What has come can be read for long after the end; the error is there at once.
    while matches!(stream.take_error(), Ok(None)) {
        let Ok(byte) = stream.read_u8().await else { break };
        heard.push(byte);
        tokio::time::sleep(PACE).await;
    }
    String::from_utf8(heard).unwrap()
}

/// An ordinary client and its API.
struct Bystander {
    api: SocketAddr,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

struct Order {
    proxy: SocketAddr,
    least: usize,
    enough: Arc<AtomicBool>,
    waited: oneshot::Sender<Waited>,
}

/// How long each request took, the shortest first.
struct Waited(Vec<Duration>);

impl Bystander {
    fn start() -> Self {
        let (orders, mut taken) = mpsc::unbounded_channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let api = Api::start(|mut wire| async move {
                    while let Ok(Some(_)) = wire.head().await {
                        let _ = wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                })
                .await;
                tell.send(api.address).unwrap();
                while let Some(Order { proxy, least, enough, waited }) = taken.recv().await {
                    let _ = waited.send(requests(proxy, least, &enough).await);
                }
            });
        });
        Self { api: told.recv().unwrap(), orders, thread: Some(thread) }
    }

    /// Makes requests while something lasts, and no fewer than `least`; every answer is a 200.
    async fn ask(&mut self, proxy: SocketAddr, least: usize, lasts: impl Future<Output = ()>) -> Waited {
        let enough = Arc::new(AtomicBool::new(false));
        let (waited, told) = oneshot::channel();
        let _ = self.orders.send(Order { proxy, least, enough: Arc::clone(&enough), waited });
        lasts.await;
        enough.store(true, Ordering::Relaxed);
        match (told.await, self.thread.take()) {
            (Ok(waited), thread) => {
                self.thread = thread;
                waited
            }
            (Err(_), Some(thread)) => std::panic::resume_unwind(thread.join().unwrap_err()),
            (Err(error), None) => panic!("{error}"),
        }
    }
}

async fn requests(proxy: SocketAddr, least: usize, enough: &AtomicBool) -> Waited {
    let mut waited = Vec::new();
    let mut wire = Wire::connect(proxy).await;
    while waited.len() < least || !enough.load(Ordering::Relaxed) {
        let begun = Instant::now();
        // A new connection must get through as well.
        if waited.len() % 10 == 9 {
            wire = Wire::connect(proxy).await;
        }
        wire.send(b"GET /ordinary HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let head = wire.head().await.unwrap().expect("an answer");
        let body = wire.body(&head).await.unwrap();
        assert_eq!((head.status(), body.data.as_slice()), (200, &b"ok"[..]), "{head:?}");
        waited.push(begun.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    waited.sort();
    Waited(waited)
}

impl std::fmt::Display for Waited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(waited) = self;
        let of = |share: usize| waited[(waited.len() * share / 100).min(waited.len() - 1)].as_secs_f64() * 1_000.0;
        let (all, half, most, longest) = (waited.len(), of(50), of(99), of(100));
        write!(f, "{all} requests of an ordinary client, p50 {half:.2} ms, p99 {most:.2} ms, longest {longest:.2} ms")
    }
}
