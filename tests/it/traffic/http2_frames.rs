//! An upstream that speaks HTTP/2 frame by frame: what may be sent again, what may not, and what an app is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{in_time, rig_to_bytes, rig_with};
use crate::support::{API, Answer, PATIENCE, Rig, pipe};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
pub(super) const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;

/// The server's side of a connection, from behind the preface.
pub(super) struct Frames<S> {
    pub(super) stream: S,
    /// Whether pings are answered.
    answers_pings: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    pub(super) async fn begin(stream: S) -> Self {
        Self::with(stream, &[]).await
    }

    /// With these settings.
    async fn with(mut stream: S, settings: &[u8]) -> Self {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut frames = Self { stream, answers_pings: true };
        frames.send(SETTINGS, 0, 0, settings).await;
        frames
    }

    /// A peer that is gone is no error here.
    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        let _ = self.stream.write_all(&[&head, payload].concat()).await;
        let _ = self.stream.flush().await;
    }

    /// The stream of the next request whose end has come; `None` at the end of the connection.
    pub(super) async fn request(&mut self) -> Option<u32> {
        loop {
            let (kind, flags, stream) = self.frame().await?;
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return Some(stream);
            }
        }
    }

    /// Waits until all that was sent so far has been read. No request may be on its way.
    async fn is_read(&mut self) {
        self.send(PING, 0, 0, &[7; 8]).await;
        while !matches!(self.frame().await.unwrap(), (PING, flags, _) if flags & ACK != 0) {}
    }

    /// The kind of the next frame, its flags and its stream. What is to be acknowledged is.
    async fn frame(&mut self) -> Option<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
            PING if flags & ACK == 0 && self.answers_pings => self.send(PING, ACK, 0, &payload).await,
            _ => {}
        }
        Some((kind, flags, stream))
    }

    /// 200 without a body.
    pub(super) async fn answer(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88]).await;
    }

    pub(super) async fn reset(&mut self, stream: u32, reason: u32) {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes()).await;
    }

    pub(super) async fn go_away(&mut self, last: u32, reason: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat()).await;
    }
}

pub(super) async fn next(upstream: &TcpListener) -> Frames<TcpStream> {
    let (stream, _) = in_time(upstream.accept()).await.unwrap();
    in_time(Frames::begin(stream)).await
}

pub(super) async fn rig() -> (Rig, TcpListener) {
    rig_to_bytes("http: http2").await
}

/// A request by an app of its own, on its way.
pub(super) async fn asks(rig: &Rig, head: &str, body: &str) -> tokio::task::JoinHandle<Answer> {
    let mut app = rig.app().await;
    let request = app.head(head) + body;
    app.send(request).await;
    tokio::spawn(async move { app.answer().await })
}

const POST: &str = "POST / HTTP/1.1\nContent-Length: 2";

#[tokio::test]
async fn what_was_refused_goes_again_whatever_its_method() {
    let (rig, upstream) = rig().await;
    let app = asks(&rig, POST, "ab").await;
    let mut first = next(&upstream).await;
    let stream = first.request().await.unwrap();
    first.reset(stream, REFUSED_STREAM).await;
    let mut second = next(&upstream).await;
    let stream = second.request().await.unwrap();
    second.answer(stream).await;
    assert_eq!(in_time(app).await.unwrap().status, 200);
    // The first lives and serves: it is the one with fewer requests, so it comes to an end.
    assert!(tokio::time::timeout(Duration::from_millis(100), first.request()).await.is_err());
}

#[tokio::test]
async fn what_is_always_refused_is_not_sent_for_ever() {
    let (rig, upstream) = rig().await;
    let app = asks(&rig, POST, "ab").await;
    let mut times = 0;
    let refusing = async {
        let mut all = Vec::new();
        loop {
            let mut frames = next(&upstream).await;
            let stream = frames.request().await.unwrap();
            times += 1;
            frames.reset(stream, REFUSED_STREAM).await;
            all.push(frames);
        }
    };
    let answer = tokio::select! {
        answer = in_time(app) => answer.unwrap(),
        () = refusing => unreachable!(),
    };
    assert_eq!((answer.status, answer.reason().as_str()), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(times, 3, "once, and twice more: each is a connection more for a server that has too much to do");
}

#[tokio::test]
async fn a_body_that_was_not_kept_is_not_sent_in_part() {
    let (rig, upstream) = rig_to_bytes("http: http2\n    renew_on: {replay_limit: 1KiB}").await;
    let app = asks(&rig, "POST / HTTP/1.1\nContent-Length: 2000", &"x".repeat(2_000)).await;
    let mut frames = next(&upstream).await;
    let stream = frames.request().await.unwrap();
    frames.reset(stream, REFUSED_STREAM).await;
    assert_eq!(in_time(app).await.unwrap().status, 503);
    assert!(tokio::time::timeout(Duration::from_millis(200), upstream.accept()).await.is_err());
}

/// RFC 9113, 6.8: streams up to the last one may have been processed, those above it have not.
#[tokio::test]
async fn what_the_server_may_have_looked_at_before_it_went_is_not_sent_twice() {
    let (rig, upstream) = rig().await;
    let mut apps = Vec::new();
    apps.push(asks(&rig, "GET /warm HTTP/1.1", "").await);
    let mut frames = next(&upstream).await;
    let first = frames.request().await.unwrap();
    frames.answer(first).await;
    for number in 0..4 {
        apps.push(asks(&rig, &format!("POST /{number} HTTP/1.1\nContent-Length: 2"), "ab").await);
        frames.request().await.unwrap();
    }
    // Streams 3, 5, 7 and 9 are open.
    frames.go_away(5, NO_ERROR).await;
    drop(frames);
    let mut again = next(&upstream).await;
    let serving = async {
        while let Some(stream) = again.request().await {
            again.answer(stream).await;
        }
    };
    let answers = async {
        let mut statuses = Vec::new();
        for app in apps {
            let answer = in_time(app).await.unwrap();
            statuses.push((answer.status, if answer.status == 200 { String::new() } else { answer.reason() }));
        }
        statuses
    };
    let statuses = tokio::select! {
        statuses = answers => statuses,
        () = serving => unreachable!("the connection stays open"),
    };
    let (ok, reset) = ((200, String::new()), (502, "upstream_reset".to_owned()));
    assert_eq!(statuses, [ok.clone(), reset.clone(), reset, ok.clone(), ok]);
}

#[tokio::test]
async fn a_connection_that_said_goodbye_takes_nothing_new_and_ends_what_it_has() {
    let (rig, upstream) = rig().await;
    let old = asks(&rig, "GET /old HTTP/1.1", "").await;
    let mut frames = next(&upstream).await;
    let stream = frames.request().await.unwrap();
    frames.go_away(stream, NO_ERROR).await;
    in_time(frames.is_read()).await;
    let new = asks(&rig, POST, "ab").await;
    let mut second = next(&upstream).await;
    let other = second.request().await.unwrap();
    second.answer(other).await;
    assert_eq!(in_time(new).await.unwrap().status, 200);
    frames.answer(stream).await;
    assert_eq!(in_time(old).await.unwrap().status, 200);
    assert_eq!(in_time(frames.request()).await, None, "it is closed then");
}

#[tokio::test]
async fn what_ends_a_stream_is_told_in_one_word() {
    for (reason, status, word) in [
        (NO_ERROR, 502, "upstream_reset"),
        (PROTOCOL_ERROR, 502, "upstream_reset"),
        (INTERNAL_ERROR, 502, "upstream_reset"),
        (ENHANCE_YOUR_CALM, 503, "overloaded"),
        (HTTP_1_1_REQUIRED, 502, "bad_upstream"),
    ] {
        let (rig, upstream) = rig().await;
        let app = asks(&rig, "GET / HTTP/1.1", "").await;
        let mut frames = next(&upstream).await;
        let stream = frames.request().await.unwrap();
        frames.reset(stream, reason).await;
        let answer = in_time(app).await.unwrap();
        assert_eq!((answer.status, answer.reason().as_str()), (status, word), "{reason}");
        // Only that stream has ended.
        let app = asks(&rig, "GET / HTTP/1.1", "").await;
        let stream = frames.request().await.unwrap();
        frames.answer(stream).await;
        assert_eq!(in_time(app).await.unwrap().status, 200, "{reason}");
    }
}

#[tokio::test]
async fn what_is_not_http2_is_the_upstreams_fault() {
    let (rig, upstream) = rig().await;
    let app = asks(&rig, "GET / HTTP/1.1", "").await;
    let mut frames = next(&upstream).await;
    let stream = frames.request().await.unwrap();
    // A head that cannot be decoded is the end of the connection (RFC 9113, 4.3).
    frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).await;
    let answer = in_time(app).await.unwrap();
    assert_eq!((answer.status, answer.reason().as_str()), (502, "bad_upstream"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_told_as_one() {
    let (rig, upstream) = rig().await;
    let app = asks(&rig, "GET / HTTP/1.1", "").await;
    let mut frames = next(&upstream).await;
    let stream = frames.request().await.unwrap();
    frames.send(HEADERS, END_HEADERS, stream, &[0x88]).await;
    frames.send(DATA, 0, stream, b"half").await;
    frames.reset(stream, INTERNAL_ERROR).await;
    let answer = in_time(app).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), answer.complete), (200, &b"half"[..], false));
}

/// A server that recycles its connections, as nginx does after `keepalive_requests`: it looks at so many requests of a
/// connection, says which was the last, answers those, and ends it.
#[tokio::test]
async fn a_server_that_ends_its_connections_all_the_time_fails_nobody() {
    const EACH: usize = 50;
    const APPS: usize = 32;
    const REQUESTS: usize = 40;
    let (rig, upstream) = rig().await;
    let (taken, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, begun) = (Arc::clone(&taken), Arc::clone(&connections));
    tokio::spawn(async move {
        loop {
            let (stream, _) = upstream.accept().await.unwrap();
            begun.fetch_add(1, Ordering::Relaxed);
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut frames = Frames::begin(stream).await;
                let mut last = 0;
                for _ in 0..EACH {
                    let Some(stream) = frames.request().await else { return };
                    counted.fetch_add(1, Ordering::Relaxed);
                    last = last.max(stream);
                    frames.answer(stream).await;
                }
                frames.go_away(last, NO_ERROR).await;
                // What came later is not looked at; the client closes when it has all it will get.
                while frames.request().await.is_some() {}
            });
        }
    });
    let mut apps = tokio::task::JoinSet::new();
    for _ in 0..APPS {
        let mut app = rig.app().await;
        apps.spawn(async move {
            for number in 0..REQUESTS {
                let head = format!("POST /{number} HTTP/1.1\nContent-Length: 2");
                app.send(app.head(&head) + "ab").await;
                let answer = app.answer().await;
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        });
    }
    let all = tokio::time::timeout(2 * PATIENCE, async {
        while let Some(app) = apps.join_next().await {
            app.unwrap();
        }
    });
    all.await.expect("in time");
    assert_eq!(taken.load(Ordering::Relaxed), APPS * REQUESTS, "none is looked at twice");
    let connections = connections.load(Ordering::Relaxed);
    let fewest = APPS * REQUESTS / EACH;
    assert!((fewest..=3 * fewest).contains(&connections), "{connections} connections");
}

/// The other end is gone without a word: pings find out, long before the request's own timeout.
#[tokio::test]
async fn a_connection_that_answers_no_ping_is_given_up() {
    let (rig, upstream) = rig().await;
    let begun = Instant::now();
    let first = asks(&rig, "GET /first HTTP/1.1", "").await;
    let mut dead = next(&upstream).await;
    dead.answers_pings = false;
    let stream = dead.request().await.unwrap();
    dead.answer(stream).await;
    assert_eq!(in_time(first).await.unwrap().status, 200);
    let second = asks(&rig, "GET /second HTTP/1.1", "").await;
    dead.request().await.unwrap();
    let ended = tokio::time::timeout(2 * PATIENCE, dead.request()).await.expect("in time");
    assert_eq!(ended, None);
    let mut again = next(&upstream).await;
    let stream = again.request().await.unwrap();
    again.answer(stream).await;
    assert_eq!(in_time(second).await.unwrap().status, 200);
    assert!(begun.elapsed() >= Duration::from_secs(14), "{:?}", begun.elapsed());
}

/// gRPC's servers end a connection over pings that come too often; on the next one there are few.
#[tokio::test]
async fn a_server_that_wants_calm_is_asked_for_fewer_signs_of_life() {
    let (rig, upstream) = rig().await;
    let first = asks(&rig, "GET / HTTP/1.1", "").await;
    let mut nervous = next(&upstream).await;
    let stream = nervous.request().await.unwrap();
    nervous.answer(stream).await;
    assert_eq!(in_time(first).await.unwrap().status, 200);
    nervous.go_away(stream, ENHANCE_YOUR_CALM).await;
    assert_eq!(in_time(nervous.request()).await, None);
    let second = asks(&rig, "GET / HTTP/1.1", "").await;
    let mut calm = next(&upstream).await;
    calm.request().await.unwrap();
    // It would count as silent from here on.
    calm.answers_pings = false;
    assert!(tokio::time::timeout(Duration::from_secs(16), calm.request()).await.is_err(), "it is given up");
    calm.answer(1).await;
    assert_eq!(in_time(second).await.unwrap().status, 200);
}

/// Over TLS, where either may be spoken. What the server wants for one request it gets for those that follow.
#[tokio::test]
async fn a_server_that_requires_http1_gets_it_for_a_while() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let route = format!(
        "routes:\n  - upstream: https://{API}\n    connect_to: {address}\n    token: main\n    tls: {{ca_file: ca.pem}}\n"
    );
    let rig = rig_with(|_| route).await;
    let mut config = rig.ca.server(&[API]).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let spoken = Arc::new(Mutex::new(HashMap::<&str, usize>::new()));
    let noted = Arc::clone(&spoken);
    tokio::spawn(async move {
        loop {
            let (stream, _) = upstream.accept().await.unwrap();
            let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let count = |what| *noted.lock().unwrap().entry(what).or_default() += 1;
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let mut frames = Frames::begin(stream).await;
                    while let Some(stream) = frames.request().await {
                        count("h2");
                        frames.reset(stream, HTTP_1_1_REQUIRED).await;
                    }
                } else {
                    let head = super::read_until(&mut stream, "\r\n\r\nab").await;
                    assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
                    assert!(head.contains(&format!("\r\nhost: {API}\r\n")), "{head}");
                    count("http/1.1");
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                        .await
                        .unwrap();
                }
            });
        }
    });
    for _ in 0..3 {
        let app = asks(&rig, POST, "ab").await;
        assert_eq!(in_time(app).await.unwrap().status, 200);
    }
    assert_eq!(*spoken.lock().unwrap(), HashMap::from([("h2", 1), ("http/1.1", 3)]));
}

/// SETTINGS_MAX_CONCURRENT_STREAMS of nothing, for as long as the connection lives.
#[tokio::test]
async fn a_server_that_takes_no_request_is_not_waited_for_and_keeps_no_connection() {
    let (rig, upstream) = rig_to_bytes("http: http2\n    timeouts: {headers: 300ms, pool_idle: 300ms}").await;
    let app = asks(&rig, "GET / HTTP/1.1", "").await;
    let (stream, _) = in_time(upstream.accept()).await.unwrap();
    let mut frames = in_time(Frames::with(stream, &[0, 3, 0, 0, 0, 0])).await;
    let answer = in_time(app).await.unwrap();
    assert_eq!((answer.status, answer.reason().as_str()), (504, "upstream_timeout"));
    assert_eq!(in_time(frames.request()).await, None, "it is closed as any that is idle");
}

/// An upload that goes on behind its answer has its stream still, and a request that is put behind it would go nowhere.
#[tokio::test]
async fn a_stream_is_taken_until_its_request_has_ended_too() {
    const ONE_STREAM: [u8; 6] = [0, 3, 0, 0, 0, 1];
    let (rig, upstream) = rig().await;
    let app = rig.app2().await;
    let (upload, body) = pipe::<std::io::Error>();
    let asked = tokio::spawn({
        let (mut sender, request) = (app.sender.clone(), app.request("POST / HTTP/1.1", body.boxed_unsync()));
        async move { sender.send_request(request).await }
    });
    let (stream, _) = in_time(upstream.accept()).await.unwrap();
    let mut frames = in_time(Frames::with(stream, &ONE_STREAM)).await;
    let mut head = [0; 9];
    while head[3] != HEADERS {
        in_time(frames.stream.read_exact(&mut head)).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        in_time(frames.stream.read_exact(&mut payload)).await.unwrap();
    }
    frames.answer(1).await;
    assert_eq!(in_time(asked).await.unwrap().unwrap().status(), 200);
    let beside = asks(&rig, "GET / HTTP/1.1", "").await;
    let mut second = next(&upstream).await;
    let stream = second.request().await.unwrap();
    second.answer(stream).await;
    assert_eq!(in_time(beside).await.unwrap().status, 200);
    // The upload has not been given up.
    drop(upload);
    assert_eq!(in_time(frames.request()).await, Some(1));
}
