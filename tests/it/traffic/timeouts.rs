//! How long is waited for an upstream: not for ever, and as long as something moves.

use std::time::{Duration, Instant};

use bearerd::demo::answer::{Answer, Piece};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{accepted, in_time, last, moment, read_until, rig_to_bytes, rig_with, route, targets};
use crate::support::{Options, Rig};

#[tokio::test]
async fn a_peer_that_does_not_shake_hands_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let rig = rig_with(|rig| {
        let route = route(rig, "api", "", "timeouts: {connect: 200ms}");
        format!("routes:\n{}", route.replace(&rig.api.addr().to_string(), &address.to_string()))
    })
    .await;
    let begun = Instant::now();
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.reason().as_str()), (504, "upstream_timeout"));
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_given_up_and_the_request_not_repeated() {
    let rig = Rig::ready(Options { route: "timeouts: {headers: 200ms}", ..Options::default() }).await;
    let mut app = rig.app().await;
    for method in ["GET", "POST"] {
        app.get("/before").await;
        rig.api.log().clear();
        rig.api.script().push(Answer::hang());
        let answer = app.ask(&format!("{method} /x HTTP/1.1\nContent-Length: 0")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (504, "upstream_timeout"), "{method}");
        assert_eq!(targets(&rig), ["/x"], "{method}");
    }
    assert_eq!(app.get("/after").await.status, 200, "the app's connection goes on");
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut_and_does_not_look_whole() {
    let rig = Rig::ready(Options { route: "timeouts: {body_idle: 200ms}", ..Options::default() }).await;
    let body = Answer::status(200).body("abc").piece(Piece::Stall);
    rig.api.script().push(body.clone().header("content-length", "10"));
    rig.api.script().push(body.chunked());
    for _ in 0..2 {
        let answer = rig.get("/").await;
        assert_eq!((answer.status, answer.complete, answer.text()), (200, false, "abc"));
    }
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn what_is_slow_and_moves_is_waited_for() {
    let rig = Rig::ready(Options { route: "timeouts: {headers: 1s, body_idle: 1s}", ..Options::default() }).await;
    rig.api.script().when(|head| {
        let drip = Answer::status(200).piece(Piece::Drip("0123456789".into(), Duration::from_millis(150)));
        (head.uri.path() == "/down").then(|| drip.chunked().into())
    });
    let down = async { assert_eq!(rig.get("/down").await.text(), "0123456789") };
    let up = async {
        let mut app = rig.app().await;
        app.send(app.head("POST /up HTTP/1.1\nContent-Length: 10")).await;
        for _ in 0..10 {
            moment(150).await;
            app.send("x").await;
        }
        assert_eq!(app.answer().await.status, 200);
    };
    tokio::join!(down, up);
}

#[tokio::test]
async fn an_upload_that_stands_still_is_the_apps_fault() {
    let rig = Rig::ready(Options { route: "timeouts: {body_idle: 200ms}", ..Options::default() }).await;
    let mut app = rig.app().await;
    app.send(app.head("POST /x HTTP/1.1\nContent-Length: 10")).await;
    app.send("abc").await;
    let answer = app.answer().await;
    assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_request"));
    assert!(app.is_closed().await);
    crate::support::eventually("the request is aborted", || last(&rig).body_cut).await;
}

#[tokio::test]
async fn an_upload_that_the_api_does_not_take_is_the_apis_fault() {
    let (rig, upstream) = rig_to_bytes("timeouts: {body_idle: 300ms}").await;
    let app = rig.app().await;
    let head = app.head("POST /x HTTP/1.1\nContent-Length: 100000000");
    let (mut reader, mut writer) = app.into_stream().into_split();
    writer.write_all(head.as_bytes()).await.unwrap();
    let writing = tokio::spawn(async move { while writer.write_all(&[b'x'; 64 * 1024]).await.is_ok() {} });
    let _api = accepted(&upstream).await;
    assert!(read_until(&mut reader, "\r\n").await.starts_with("HTTP/1.1 504 "));
    writing.abort();
}

#[tokio::test]
async fn an_app_that_stops_reading_is_cut_off_and_the_upstream_with_it() {
    let limits = "limits: {head: 300ms}\n";
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let routes = format!("routes:\n  - upstream: http://{address}\n    token: main\n    timeouts: {{body_idle: 1s}}\n");
    let rig = rig_with(|_| format!("{limits}{routes}")).await;
    // By length, by chunks, and to HTTP/1.0 by the end of the connection, which must not look like that of the answer.
    for (version, framing) in [("1.1", "Content-Length: 999999999"), ("1.1", "X: y"), ("1.0", "X: y")] {
        let app = rig.app().await;
        let head = app.head(&format!("GET /x HTTP/{version}"));
        let mut app = app.into_stream();
        app.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = accepted(&upstream).await.into_split();
        writer.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
        let writing = tokio::spawn(async move { while writer.write_all(&[b'x'; 64 * 1024]).await.is_ok() {} });
        // What moves slowly moves.
        let begun = Instant::now();
        let mut buffer = vec![0; 1024 * 1024];
        while begun.elapsed() < Duration::from_millis(2_500) {
            assert!(app.read(&mut buffer).await.unwrap() > 0);
            moment(100).await;
        }
        let stopped = Instant::now();
        assert!(in_time(reader.read_u8()).await.is_err(), "the upstream's connection ends");
        // It may have stood still for a part of that already: a system takes more only when there is room for much more.
        assert!(stopped.elapsed() >= Duration::from_millis(300), "after {:?}", stopped.elapsed());
        writing.await.unwrap();
        let end = in_time(async {
            loop {
                match app.read(&mut buffer).await {
                    Ok(1..) => {}
                    end => return end,
                }
            }
        });
        assert!(end.await.is_err(), "a reset");
    }
}
