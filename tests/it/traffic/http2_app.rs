//! An app that speaks HTTP/2: told apart from HTTP/1, served the same, and each request for itself.

use std::time::{Duration, Instant};

use bearerd::demo::answer::{Answer, Latch, Piece};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::Builder;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{in_time, last, moment, targets};
use crate::support::{App2, Options, PATIENCE, Rig, full, whole};

#[tokio::test]
async fn both_versions_are_spoken_on_one_port() {
    let rig = Rig::ready(Options::default()).await;
    let (mut one, mut two) = (rig.app().await, rig.app2().await);
    for _ in 0..3 {
        assert_eq!(two.get("/two?x").await.status, 200);
        assert_eq!(one.get("/one").await.status, 200);
    }
    let answer = two.ask_with("POST /body\nX-Own: yes", "0123456789").await;
    assert_eq!((answer.status, answer.complete), (200, true));
    let seen = last(&rig);
    assert_eq!((seen.target.as_str(), seen.body_len, seen.header("x-own")), ("/body", 10, vec!["yes"]));
    assert_eq!(targets(&rig).len(), 7);
}

#[tokio::test]
async fn a_preface_may_come_in_pieces_and_has_to_come_whole() {
    let rig = Rig::ready(Options { top: "limits: {head: 300ms, idle: 60s}", ..Options::default() }).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // Byte by byte, with the settings behind.
    let mut app = rig.app().await.into_stream();
    for byte in preface.iter().chain(b"\0\0\0\x04\0\0\0\0\0") {
        app.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut settings = [0; 9];
    app.read_exact(&mut settings).await.unwrap();
    assert_eq!((settings[3], settings[5..].to_vec()), (4, vec![0; 4]), "our settings");
    // What does not come to its end is not waited for.
    for some in [&preface[..1], &preface[..8], &preface[..23]] {
        let begun = Instant::now();
        let mut app = rig.app().await;
        app.send(some).await;
        assert!(app.is_closed().await, "{some:?}");
        assert!(begun.elapsed() >= Duration::from_millis(300), "{some:?}");
    }
    // What is not one after all is HTTP/1.
    let mut app = rig.app().await;
    app.send("P").await;
    moment(20).await;
    app.send("OST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(app.answer().await.status, 200);
    let mut app = rig.app().await;
    app.send("PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n").await;
    assert!(app.hears_until_end().await.starts_with(b"HTTP/1.1 400 "));
    assert_eq!(targets(&rig), ["/x"]);
}

#[tokio::test]
async fn requests_go_beside_each_other() {
    let rig = Rig::ready(Options::default()).await;
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    let mut app = rig.app2().await;
    let request = app.request("GET /held", full(""));
    let waiting = tokio::spawn({
        let mut sender = app.sender.clone();
        async move { sender.send_request(request).await }
    });
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    for _ in 0..20 {
        assert_eq!(app.get("/beside").await.status, 200);
    }
    latch.open();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_connection_without_a_request_is_told_to_leave_and_one_that_is_served_is_not() {
    let rig = Rig::ready(Options { top: "limits: {head: 400ms, idle: 600ms}", ..Options::default() }).await;
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    let mut served = rig.app2().await;
    let request = served.request("GET /long", full(""));
    let mut sender = served.sender.clone();
    let waiting = tokio::spawn(async move { sender.send_request(request).await });
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    let begun = Instant::now();
    let (new, mut kept) = (rig.app2().await, rig.app2().await);
    assert_eq!(kept.get("/").await.status, 200);
    // By GOAWAY without an error, for hyper tells any other end from that.
    new.ends().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(400));
    kept.ends().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(600));
    moment(600).await;
    latch.open();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert_eq!(served.get("/again").await.status, 200, "idle counts from the end of the answer");
    served.ends().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_reset_and_the_connection_goes_on() {
    let rig = Rig::ready(Options { route: "timeouts: {body_idle: 300ms}", ..Options::default() }).await;
    let body = Answer::status(200).body("abc");
    let mut app = rig.app2().await;
    for (broken, framing) in [(Piece::Cut, "10"), (Piece::Cut, ""), (Piece::Stall, "10"), (Piece::Stall, "")] {
        let answer = body.clone().piece(broken.clone());
        let framed = if framing.is_empty() { answer.chunked() } else { answer.header("content-length", framing) };
        rig.api.script().push(framed);
        let answer = app.get("/").await;
        assert_eq!((answer.status, answer.complete), (200, false), "{broken:?} {framing}");
        assert!(answer.text() == "abc" || answer.text().is_empty(), "{answer:?}");
        assert_eq!(app.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_reset_without_harm_to_the_others() {
    let route = "timeouts: {body_idle: 1s}";
    let rig = Rig::ready(Options { route, top: "limits: {head: 60s, idle: 60s}", ..Options::default() }).await;
    let large = "x".repeat(1024 * 1024);
    rig.api.script().when(move |head| {
        let answer = Answer::status(200).body(large.clone());
        (head.uri.path() == "/large").then(|| answer.into())
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(20_000).initial_connection_window_size(4 * 1024 * 1024);
    let stream = TcpStream::connect(rig.proxy.address).await.unwrap();
    let mut app = App2::with(builder, stream, &"localhost").await;
    let stuck = app.send(app.request("GET /large", full(""))).await.unwrap();
    // One that moves slowly moves.
    let begun = Instant::now();
    let slow = app.send(app.request("GET /large", full(""))).await.unwrap();
    let reading = tokio::spawn(async move {
        let (mut body, mut read) = (slow.into_body(), 0);
        while let Some(frame) = body.frame().await {
            read += frame?.into_data().unwrap().len();
            // Evenly over longer than an answer may stand still, in however many pieces it comes.
            let share = read as f64 / (1024.0 * 1024.0);
            tokio::time::sleep_until((begun + Duration::from_millis(1_300).mul_f64(share)).into()).await;
        }
        Ok::<_, hyper::Error>(read)
    });
    while begun.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(app.get("/beside").await.status, 200);
    }
    // What was on its way before is read, and then the reset.
    let (answer, _) = whole(stuck).await;
    assert!(!answer.complete && answer.body.len() < 1024 * 1024, "{}", answer.body.len());
    assert_eq!(in_time(reading).await.unwrap().unwrap(), 1024 * 1024);
    assert_eq!(app.get("/after").await.status, 200);
}

#[tokio::test]
async fn what_is_in_flight_is_finished_at_the_end_and_nothing_new_is_taken() {
    let rig = Rig::ready(Options::default()).await;
    let (mut app, mut idle, new) = (rig.app2().await, rig.app2().await, rig.app2().await);
    assert_eq!(idle.get("/").await.status, 200);
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    let request = app.request("GET /held", full(""));
    let mut sender = app.sender.clone();
    let waiting = tokio::spawn(async move { sender.send_request(request).await });
    rig.api.wait_for(2, PATIENCE).await.unwrap();
    let Rig { proxy, api, .. } = rig;
    let ended = tokio::spawn(proxy.end());
    idle.ends().await.unwrap();
    new.ends().await.unwrap();
    // Until it is told to leave it may ask, and is answered.
    let mut asked = 2;
    while let Ok(response) = app.send(app.request("GET /new", full(""))).await {
        assert_eq!(response.status(), 200);
        asked += 1;
        moment(5).await;
    }
    latch.open();
    let (answer, _) = whole(waiting.await.unwrap().unwrap()).await;
    assert_eq!((answer.status, answer.complete), (200, true));
    app.ends().await.unwrap();
    assert_eq!(ended.await.unwrap().cut_off, 0);
    assert_eq!(api.requests().len(), asked);
}

#[tokio::test]
async fn answers_of_our_own_fit_http2() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app2().await;
    for (head, status) in [("GET /../x", 400), ("POST /x\nOrigin: null", 403), ("GET /x\nHost: evil.test", 421)] {
        let answer = app.ask(head).await;
        assert_eq!((answer.status, answer.header("connection")), (status, None), "{head}");
        answer.reason();
        // To HEAD it has a length and no body.
        let answer = app.ask(&head.replace("GET", "HEAD").replace("POST", "HEAD")).await;
        assert_eq!((answer.status, answer.complete, answer.text()), (status, true, ""), "{head}");
        assert!(answer.header("content-length").is_some_and(|length| length != "0"), "{answer:?}");
    }
    assert_eq!(app.ask("HEAD /x").await.status, 200);
    assert_eq!(targets(&rig), ["/x"]);
}

#[tokio::test]
async fn cookies_that_come_apart_arrive_as_one() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app2().await;
    assert_eq!(app.ask("GET /x\nCookie: a=1\nCookie: b=2\nX-Two: 1\nX-Two: 2").await.status, 200);
    let seen = last(&rig);
    assert_eq!((seen.header("cookie"), seen.header("x-two")), (vec!["a=1; b=2"], vec!["1", "2"]));
}

#[tokio::test]
async fn heads_have_the_same_limits() {
    let rig = Rig::ready(Options { top: "limits: {header_bytes: 8KiB, headers: 10}", ..Options::default() }).await;
    let mut app = rig.app2().await;
    let many = |count| (0..count).map(|number| format!("\nX-{number}: y")).collect::<String>();
    let long = "x".repeat(7 * 1024);
    assert_eq!(app.ask(&format!("GET /ok{}", many(10))).await.status, 200);
    assert_eq!(app.ask(&format!("GET /ok\nX: {long}")).await.status, 200);
    assert_eq!(app.ask(&format!("GET /many{}", many(11))).await.status, 431);
    assert_eq!(app.get("/ok").await.status, 200, "the others go on");
    rig.proxy.until_said("limits.headers").await;
    // hyper's client holds itself to what it is told; here that is what is to be tried.
    let answer = app.send(app.request(&format!("GET /long\nX: {long}\nY: {long}"), full(""))).await;
    assert!(answer.map_or(true, |answer| answer.status() == 431));
    assert_eq!(targets(&rig), ["/ok", "/ok", "/ok"]);
}
