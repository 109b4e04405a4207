//! `Expect: 100-continue`: an app that wants to be asked for its body is asked when the API wants it, and not before.

use std::time::{Duration, Instant};

use bearerd::demo::answer::Answer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::http2_api::rig_to_http2;
use super::{in_time, last, moment, read_until, rig_to_bytes};
use crate::support::{Options, Rig, eventually};

const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// An app that has sent a head like that, and waits.
async fn expecting(rig: &Rig, path: &str, framing: &str) -> TcpStream {
    let app = rig.app().await;
    let head = app.head(&format!("POST {path} HTTP/1.1\n{framing}\nExpect: 100-continue"));
    let mut stream = app.into_stream();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The API's side of it, and the head that came.
async fn accepted(upstream: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = in_time(upstream.accept()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    (stream, head)
}

/// All that comes until the end, which is no reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = String::new();
    in_time(stream.read_to_string(&mut rest)).await.unwrap();
    rest
}

#[tokio::test]
async fn the_app_is_asked_when_the_api_asks() {
    let (rig, upstream) = rig_to_bytes("").await;
    for (framing, body) in [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        let mut app = expecting(&rig, "/x", framing).await;
        let (mut api, head) = accepted(&upstream).await;
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        // Another hint is no word.
        api.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").await.unwrap();
        moment(100).await;
        assert!(app.try_read(&mut [0]).is_err(), "{framing}: nothing comes before the word");
        let begun = Instant::now();
        api.write_all(GO_ON.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut app, "\r\n\r\n").await, GO_ON);
        assert!(begun.elapsed() < Duration::from_millis(700), "at once, and not when the wait is over");
        app.write_all(body.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut api, body).await, body);
        api.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await.unwrap();
        let answer = read_until(&mut app, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("close"), "{answer}");
    }
}

#[tokio::test]
async fn an_api_that_says_nothing_is_waited_for_a_second() {
    let (rig, upstream) = rig_to_bytes("").await;
    let begun = Instant::now();
    let mut app = expecting(&rig, "/x", "Content-Length: 5").await;
    let (mut api, _) = accepted(&upstream).await;
    assert_eq!(read_until(&mut app, "\r\n\r\n").await, GO_ON);
    assert!(begun.elapsed() >= Duration::from_secs(1), "after {:?}", begun.elapsed());
    app.write_all(b"hello").await.unwrap();
    read_until(&mut api, "hello").await;
}

#[tokio::test]
async fn an_answer_that_comes_first_leaves_the_body_where_it_is() {
    let (rig, upstream) = rig_to_bytes("").await;
    for (framing, body) in [
        ("Content-Length: 33", "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("Transfer-Encoding: chunked", "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("Content-Length: 5", ""),
    ] {
        let mut app = expecting(&rig, "/x", framing).await;
        let (mut api, _) = accepted(&upstream).await;
        api.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno").await.unwrap();
        // The answer goes on for longer than the app would have to wait.
        moment(1_200).await;
        api.write_all(b"!").await.unwrap();
        let head = read_until(&mut app, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 413 ") && head.contains("connection: close\r\n"), "{framing}: {head}");
        // An app that sends it all the same does not have it taken for a request.
        app.write_all(body.as_bytes()).await.unwrap();
        assert_eq!(rest(&mut app).await, "no!", "{framing}");
        let mut left = Vec::new();
        let _ = in_time(api.read_to_end(&mut left)).await;
        assert_eq!(left, b"", "{framing}: the API got none of it, and the end of the connection");
    }
    assert!(tokio::time::timeout(Duration::from_millis(200), upstream.accept()).await.is_err(), "and no other request");
}

#[tokio::test]
async fn a_refusal_of_our_own_comes_before_the_body_is_asked_for() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = expecting(&rig, "/../x", "Content-Length: 5").await;
    let heard = rest(&mut app).await;
    assert!(heard.starts_with("HTTP/1.1 400 ") && heard.contains("bad_path"), "{heard}");
    assert!(heard.contains("connection: close\r\n"), "{heard}");
    assert!(rig.api.requests().is_empty());
}

#[tokio::test]
async fn a_refused_token_is_renewed_before_the_body_is_asked_for() {
    let (rig, upstream) = rig_to_bytes("").await;
    let mut app = expecting(&rig, "/x", "Content-Length: 5").await;
    let (mut first, _) = accepted(&upstream).await;
    first.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let (mut second, head) = accepted(&upstream).await;
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "nobody has asked yet: {head}");
    second.write_all(GO_ON.as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut app, "\r\n\r\n").await, GO_ON);
    app.write_all(b"hello").await.unwrap();
    read_until(&mut second, "hello").await;
    second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert!(read_until(&mut app, "\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    let mut left = Vec::new();
    let _ = in_time(first.read_to_end(&mut left)).await;
    assert_eq!(left, b"", "the first connection got none of the body");
}

#[tokio::test]
async fn a_body_that_was_asked_for_is_sent_again_without_asking() {
    let rig = Rig::ready(Options::default()).await;
    rig.api.script().push(Answer::status(401));
    let mut app = expecting(&rig, "/x", "Content-Length: 5").await;
    assert_eq!(read_until(&mut app, "\r\n\r\n").await, GO_ON);
    app.write_all(b"hello").await.unwrap();
    let answer = read_until(&mut app, "}").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = rig.api.requests();
    let expected: Vec<_> = seen.iter().map(|seen| (seen.header("expect").len(), seen.body_len)).collect();
    assert_eq!(expected, [(1, 5), (0, 5)]);
    eventually("nothing is left", || rig.api.counts().in_flight.now() == 0).await;
}

#[tokio::test]
async fn an_api_of_http2_is_not_waited_for() {
    let rig = rig_to_http2(10, "").await;
    let begun = Instant::now();
    let mut app = expecting(&rig, "/x", "Content-Length: 5").await;
    assert_eq!(read_until(&mut app, "\r\n\r\n").await, GO_ON);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    app.write_all(b"hello").await.unwrap();
    assert!(read_until(&mut app, "}").await.starts_with("HTTP/1.1 200 "));
    assert_eq!((last(&rig).header("expect").len(), last(&rig).body_len), (0, 5));
}

#[tokio::test]
async fn an_app_that_cannot_be_asked_is_not() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    app.send(app.head("POST /x HTTP/1.0\nContent-Length: 5\nExpect: 100-continue") + "hello").await;
    assert_eq!(app.answer().await.status, 200);
    assert_eq!((last(&rig).header("expect").len(), last(&rig).body_len), (0, 5));
    let answer = rig.app2().await.ask_with("POST /x\nExpect: 100-continue", "hello!").await;
    assert_eq!(answer.status, 200);
    assert_eq!((last(&rig).header("expect").len(), last(&rig).body_len), (0, 6));
}
