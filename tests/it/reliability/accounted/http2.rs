//! R8b, R8c, R8d: an API of HTTP/2 that ends its connections in orderly ways, refuses streams, cuts answers, or is gone
//! without a word.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bearerd::demo::certs::Ca;
use bytes::{Bytes, BytesMut};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode, header};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, split};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::books::{Books, Credential};
use super::load::{Load, grown};
use super::proof::Proof;
use super::relay::{Network, Relay};
use super::upstream::MOMENT;
use super::world::{Lines, World};
use crate::reliability::wire::{Api, Wire, told};
use crate::support::frames::{GOAWAY, frame};
use crate::support::{lasting, scaled};

/// What an API of HTTP/2 does besides answering.
#[derive(Clone, Copy, Default)]
pub(super) struct Habits {
    /// Behind so many streams of a connection it says goodbye, in this way; 0 is never.
    pub(super) goodbye: (u64, Goodbye),
    /// Of so many streams it refuses one, but no request more than twice, which is as often as it is asked again by who
    /// was told that there is too much to do; 0 is none.
    pub(super) refuses: u64,
    pub(super) answers: Answers,
}

#[derive(Clone, Copy, Default)]
pub(super) enum Answers {
    #[default]
    Whole,
    /// The head, and two parts of the body, with a moment in between.
    InParts,
    /// Half of the body: then END_STREAM, one reset or another, or the end of the connection.
    Cut,
}

#[derive(Clone, Copy, Default)]
pub(super) enum Goodbye {
    /// As nginx does: it names the last stream, and never looks at those that are on their way to it.
    #[default]
    AtOnce,
    /// It announces the goodbye first, and takes all that comes before that is known (RFC 9113, 6.8).
    Announced,
}

/// How often it came to that.
#[derive(Default)]
pub(super) struct Habitual {
    streams: AtomicU64,
    goodbyes: AtomicU64,
    /// Streams that came behind a goodbye.
    left: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    /// How often each request was.
    refusals: Mutex<HashMap<String, u8>>,
}

impl Habitual {
    fn refuses(&self, each: u64, target: &str) -> bool {
        let turn = self.streams.fetch_add(1, Ordering::Relaxed);
        if each == 0 || turn % each != each - 1 {
            return false;
        }
        let mut refusals = self.refusals.lock().unwrap();
        let times = refusals.entry(target.to_owned()).or_default();
        *times += 1;
        if *times <= 2 {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        *times <= 2
    }

    fn untaken(&self) -> u64 {
        self.left.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed)
    }
}

/// One with TLS that speaks HTTP/2 alone. Only what it processes is in the books.
pub(super) async fn upstream2(books: &Arc<Books>, ca: &Ca, habits: Habits) -> (Api, Arc<Habitual>) {
    let mut tls = ca.server(&["127.0.0.1"]).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let (tls, books, habitual) = (Arc::new(tls), Arc::clone(books), Arc::<Habitual>::default());
    let counts = Arc::clone(&habitual);
    let api =
        Api::start(move |wire| serve(wire, Arc::clone(&tls), Arc::clone(&books), habits, Arc::clone(&counts))).await;
    (api, habitual)
}

async fn serve(wire: Wire, tls: Arc<ServerConfig>, books: Arc<Books>, habits: Habits, habitual: Arc<Habitual>) {
    // Whoever leaves within a handshake has left.
    let Ok(stream) = TlsAcceptor::from(tls).accept(wire.into_tcp()).await else { return };
    let (near, far) = tokio::io::duplex(1 << 20);
    let (goodbye, goodbyes) = mpsc::unbounded_channel();
    let over = Arc::new(Notify::new());
    let mut builder = h2::server::Builder::new();
    // A block of headers that nobody looks at changes nothing for the next; and what is never read takes no room that
    // others need.
    builder.header_table_size(0).initial_connection_window_size(1 << 24).max_concurrent_streams(100);
    let speaking = async {
        let Ok(mut connection): Result<Connection<DuplexStream, Bytes>, _> = builder.handshake(near).await else {
            return;
        };
        let (mut answers, mut unseen, mut streams) = (JoinSet::new(), Vec::new(), 0);
        let (every, how) = habits.goodbye;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            while let Some(ended) = answers.try_join_next() {
                told(ended);
            }
            streams += 1;
            if matches!(how, Goodbye::AtOnce) && every > 0 && streams > every {
                habitual.left.fetch_add(1, Ordering::Relaxed);
                unseen.push((request, respond));
                continue;
            }
            if every > 0 && streams == every {
                habitual.goodbyes.fetch_add(1, Ordering::Relaxed);
                match how {
                    Goodbye::AtOnce => goodbye.send(respond.stream_id().as_u32()).unwrap(),
                    Goodbye::Announced => connection.graceful_shutdown(),
                }
            }
            if habitual.refuses(habits.refuses, request.uri().path()) {
                respond.send_reset(Reason::REFUSED_STREAM);
                continue;
            }
            let (books, habitual, over) = (Arc::clone(&books), Arc::clone(&habitual), Arc::clone(&over));
            answers.spawn(async move {
                if let Some(own) = taken(request, &mut respond, &books).await {
                    answer(&own, respond, habits.answers, &habitual, &over).await;
                }
            });
        }
        while let Some(ended) = answers.join_next().await {
            told(ended);
        }
    };
    tokio::select! {
        () = over.notified() => {}
        _ = async { tokio::join!(speaking, pass(far, stream, goodbyes)) } => {}
    }
}

/// Passes frames on, and says goodbye in between.
async fn pass(
    far: DuplexStream,
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    mut goodbyes: mpsc::UnboundedReceiver<u32>,
) {
    let (mut from_peer, mut to_peer) = split(stream);
    let (mut from_server, mut to_server) = split(far);
    let incoming = async {
        let _ = tokio::io::copy(&mut from_peer, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let outgoing = async {
        let mut unread = BytesMut::new();
        loop {
            while let Some(length) = length(&unread) {
                let whole = unread.split_to(length);
                if to_peer.write_all(&whole).await.is_err() {
                    return;
                }
            }
            if to_peer.flush().await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                Some(last) = goodbyes.recv() => {
                    // What is there of a frame by now is not sent.
                    let goodbye = frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
                    if to_peer.write_all(&goodbye).await.is_err() {
                        return;
                    }
                }
                read = from_server.read_buf(&mut unread) => {
                    if !matches!(read, Ok(1..)) {
                        let _ = to_peer.shutdown().await;
                        return;
                    }
                }
            }
        }
    };
    tokio::join!(incoming, outgoing);
}

/// Of the first frame, if all of it is there (RFC 9113, 4.1).
fn length(bytes: &[u8]) -> Option<usize> {
    let length = 9 + u32::from_be_bytes([0, *bytes.first()?, *bytes.get(1)?, *bytes.get(2)?]) as usize;
    (bytes.len() >= length).then_some(length)
}

/// What it is to be answered with.
async fn taken(request: Request<RecvStream>, respond: &mut SendResponse<Bytes>, books: &Books) -> Option<String> {
    let (head, mut body) = request.into_parts();
    let own = head.uri.path().to_owned();
    let credentials: Vec<&[u8]> =
        head.headers.get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes()).collect();
    let credential = books.came(&own, &credentials);
    while let Some(piece) = body.data().await {
        // Whoever breaks off has broken off.
        let _ = body.flow_control().release_capacity(piece.ok()?.len());
    }
    if credential == Credential::Good {
        return Some(own);
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let _ = respond.send_response(response, true);
    None
}

/// Nobody may be there any more.
async fn answer(own: &str, mut respond: SendResponse<Bytes>, answers: Answers, habitual: &Habitual, over: &Notify) {
    let (half, rest) = own.split_at(own.len() / 2);
    let [own, half, rest] = [own, half, rest].map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let turn = habitual.cut.fetch_add(1, Ordering::Relaxed);
    let mut response = Response::new(());
    // Where the end of a stream is all that tells the end, END_STREAM is no cut.
    if !matches!(answers, Answers::Cut) || turn.is_multiple_of(5) || turn.is_multiple_of(2) {
        response.headers_mut().insert(header::CONTENT_LENGTH, own.len().into());
    }
    let Ok(mut sending) = respond.send_response(response, false) else { return };
    match answers {
        Answers::Whole => _ = sending.send_data(own, true),
        Answers::InParts => {
            tokio::time::sleep(MOMENT).await;
            let _ = sending.send_data(half, false);
            tokio::time::sleep(MOMENT).await;
            let _ = sending.send_data(rest, true);
        }
        Answers::Cut => {
            let _ = sending.send_data(half, turn.is_multiple_of(5));
            tokio::time::sleep(MOMENT).await;
            match turn % 5 {
                0 => {}
                1 => sending.send_reset(Reason::NO_ERROR),
                2 => sending.send_reset(Reason::INTERNAL_ERROR),
                3 => sending.send_reset(Reason::CANCEL),
                _ => over.notify_one(),
            }
        }
    }
}

const ROUTE: &str = "tls: {ca_file: ca.pem}\nhttp: http2";

#[tokio::test]
async fn goodbyes_and_refused_streams_fail_nobody() {
    let mut proof =
        Proof::new("R8b", "APIs of HTTP/2: two say goodbye, each in its way, and one refuses every 13th stream");
    let (trials, each) = lasting((800, 100), (10_000, 1_000), (160_000, 1_000));
    let ca = Ca::new().unwrap();
    let world = World::over_tls(3, Duration::from_secs(3_600), &ca).await;
    let [at_once, announced, refusing] = [
        Habits { goodbye: (each, Goodbye::AtOnce), ..Habits::default() },
        Habits { goodbye: (each, Goodbye::Announced), ..Habits::default() },
        Habits { refuses: 13, ..Habits::default() },
    ]
    .map(|habits| upstream2(&world.books, &ca, habits));
    let apis = [at_once.await, announced.await, refusing.await];
    world.configure_each(
        Lines { token: "tls: {ca_file: ca.pem}", route: ROUTE, ..Lines::default() },
        |_| world.provider.token_url(),
        |number| format!("https://{}", apis[number].0.address),
    );
    let bearerd = world.start_ready().await;
    let load = Load { connections: 64, pace: Duration::from_millis(1), ..Load::new(bearerd.address(), &world.names) };
    let gets = load.clone().start(&world.books);
    let posts = Load { body: Some(200), connections: 32, ..load }.start(&world.books);
    grown("requests", trials, || world.books.asked()).await;
    gets.stop().await;
    posts.stop().await;
    let balance = world.books.balance();
    proof.nothing_lost(&balance);
    proof.is("requests that the API processed twice", balance.doubled, 0);
    let [at_once, announced, refusing] = apis.each_ref().map(|(_, habitual)| habitual);
    let goodbyes = [at_once, announced].map(|habitual| habitual.goodbyes.load(Ordering::Relaxed));
    proof.at_least("goodbyes at once, as nginx says them", goodbyes[0], 1);
    proof.at_least("streams that came behind one and were never looked at", at_once.untaken(), 1);
    proof.at_least("goodbyes that were announced", goodbyes[1], 1);
    proof.at_least("streams that were refused", refusing.untaken(), 1);
    proof.survived(goodbyes[0] + goodbyes[1] + at_once.untaken() + refusing.untaken());
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_told_and_never_taken_twice() {
    let mut proof = Proof::new("R8b2", "the same, with uploads that are larger than what is kept of them");
    let (trials, each) = lasting((300, 50), (3_000, 300), (50_000, 1_000));
    let ca = Ca::new().unwrap();
    let world = World::over_tls(1, Duration::from_secs(3_600), &ca).await;
    let habits = Habits { goodbye: (each, Goodbye::AtOnce), refuses: 13, ..Habits::default() };
    let (api, habitual) = upstream2(&world.books, &ca, habits).await;
    world.configure(
        &format!("https://{}\nrenew_on: {{replay_limit: 1KiB}}", api.address),
        Lines { token: "tls: {ca_file: ca.pem}", route: ROUTE, ..Lines::default() },
    );
    let bearerd = world.start_ready().await;
    let load = Load {
        connections: 64,
        pace: Duration::from_millis(1),
        body: Some(4_000),
        ..Load::new(bearerd.address(), &world.names)
    };
    let posts = load.start(&world.books);
    grown("requests", trials, || world.books.asked()).await;
    posts.stop().await;
    let balance = world.books.balance();
    let failed = balance.other.get(&502).copied().unwrap_or_default();
    proof.asked(balance.asked);
    let busy = balance.other.get(&503).copied().unwrap_or_default();
    proof.is("answers that were neither 200, 502 nor 503", balance.asked - balance.served - failed - busy, 0);
    proof.nothing_wrong(&balance);
    proof.is("uploads that the API processed twice", balance.doubled, 0);
    proof.is("the same, to uploads that the API processed", balance.other_came, 0);
    proof.at_least("answers of 502", failed, 1);
    proof.at_most("answers of 503, of streams that were refused", busy, habitual.refused.load(Ordering::Relaxed));
    proof.survived(habitual.untaken());
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn an_answer_that_is_cut_is_never_taken_for_a_whole_one() {
    let mut proof =
        Proof::new("R8c2", "answers by HTTP/2 that are cut by END_STREAM, by resets and with the connection");
    let trials = lasting(200, 1_000, 20_000);
    let ca = Ca::new().unwrap();
    let world = World::over_tls(1, Duration::from_secs(3_600), &ca).await;
    let (api, _) = upstream2(&world.books, &ca, Habits { answers: Answers::Cut, ..Habits::default() }).await;
    world.configure(
        &format!("https://{}", api.address),
        Lines { token: "tls: {ca_file: ca.pem}", route: ROUTE, ..Lines::default() },
    );
    let bearerd = world.start_ready().await;
    let apps = Load { connections: 8, pace: Duration::from_millis(1), ..Load::new(bearerd.address(), &world.names) }
        .start(&world.books);
    grown("requests", trials, || world.books.asked()).await;
    apps.stop().await;
    // One that shares its connection with another's cut may not have been answered.
    proof.every_cut_was_seen(&world.books.balance());
    bearerd.end().await;
    proof.end();
}

/// Ten seconds of silence until a ping, and five for its answer: no form of this takes less.
#[tokio::test]
async fn a_connection_that_is_dead_without_a_word_is_left() {
    let mut proof = Proof::new("R8d", "HTTP/2 connections that die without FIN or reset");
    let ca = Ca::new().unwrap();
    let world = World::over_tls(2, Duration::from_secs(3_600), &ca).await;
    let (api, _) = upstream2(&world.books, &ca, Habits::default()).await;
    let relay = Relay::to(api.address, Network::GOOD).await;
    // Without pings a request would wait for that long.
    let lines = Lines {
        token: "tls: {ca_file: ca.pem}",
        route: "tls: {ca_file: ca.pem}\nhttp: http2\ntimeouts: {headers: 10m, body_idle: 10m}",
        ..Lines::default()
    };
    world.configure(&format!("https://{}", relay.address()), lines);
    let bearerd = world.start_ready().await;
    let apps = scaled(16, 64);
    let load = |name: &String, body| Load {
        connections: apps,
        pace: Duration::from_millis(20),
        body,
        ..Load::new(bearerd.address(), std::slice::from_ref(name))
    };
    let gets = load(&world.names[0], None).start(&world.books);
    let posts = load(&world.names[1], Some(200)).start(&world.books);
    grown("answers", 200, || world.books.balance().served).await;
    relay.silence();
    let silenced = Instant::now();
    let dead = relay.connections();
    while relay.connections() < dead + 2 {
        assert!(silenced.elapsed() < Duration::from_secs(60), "nobody has left the dead connections");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = silenced.elapsed();
    let served = world.books.balance().served;
    while world.books.balance().served < served + 200 {
        assert!(silenced.elapsed() < Duration::from_secs(60), "nothing is served behind them");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gets.stop().await;
    posts.stop().await;
    let balance = world.books.balance();
    let failed = balance.other.get(&504).copied().unwrap_or_default();
    proof.asked(balance.asked);
    proof.is("answers that were neither 200 nor 504", balance.asked - balance.served - failed, 0);
    proof.nothing_wrong(&balance);
    proof.is("uploads that came to the API twice", balance.doubled_once, 0);
    // Those that were on it. A GET that was is sent again.
    proof.at_most("answers of 504, for each app that uploads", failed, apps as u64);
    proof.survived(dead);
    proof.within("from the silence until both routes had left it, with 10 s and 5 s", left, Duration::from_secs(16));
    bearerd.end().await;
    proof.end();
}
