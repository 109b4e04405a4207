//! How long is waited for an upstream: not for ever, and as long as something moves.

use std::time::{Duration, Instant};

use bearerd::demo::answer::{Answer, Piece};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::{accepted, last, moment, read_until, rig_to_bytes, rig_with, route, targets};
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
