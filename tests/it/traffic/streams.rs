//! Bodies stream: nothing is collected, nothing waits for more, and who goes away takes the other side with them.

use std::time::Duration;

use bearerd::demo::answer::{Answer, Piece};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{accepted, in_time, last, moment, read_until, rig_to_bytes};
use crate::support::{Options, Rig, eventually};

/// What a test tries to send, and what the sockets and buffers between two ends may hold of it.
const TRIED: usize = 256 * 1024 * 1024;
const HELD: usize = 32 * 1024 * 1024;

/// Writes until nobody takes any more; how much that was.
async fn write_until_stuck(stream: &mut TcpStream) -> usize {
    let piece = vec![b'x'; 64 * 1024];
    let mut written = 0;
    while written < TRIED {
        match tokio::time::timeout(Duration::from_millis(300), stream.write(&piece)).await {
            Ok(count) => written += count.unwrap(),
            Err(_) => break,
        }
    }
    written
}

async fn read_exactly(stream: &mut TcpStream, mut length: usize) {
    let mut piece = vec![0; 64 * 1024];
    while length > 0 {
        let most = length.min(piece.len());
        let count = in_time(stream.read(&mut piece[..most])).await.unwrap();
        assert!(count > 0, "{length} bytes are missing");
        length -= count;
    }
}

#[tokio::test]
async fn an_api_that_does_not_read_stops_the_app() {
    let (rig, upstream) = rig_to_bytes("").await;
    let app = rig.app().await;
    let head = app.head(&format!("POST /x HTTP/1.1\nContent-Length: {TRIED}"));
    let mut app = app.into_stream();
    app.write_all(head.as_bytes()).await.unwrap();
    let mut api = accepted(&upstream).await;
    let written = write_until_stuck(&mut app).await;
    assert!(written < HELD, "{written} bytes were taken");
    read_exactly(&mut api, written).await;
    app.write_all(b"more").await.unwrap();
    read_exactly(&mut api, 4).await;
}

#[tokio::test]
async fn an_app_that_does_not_read_stops_the_api() {
    let (rig, upstream) = rig_to_bytes("").await;
    let app = rig.app().await;
    let head = app.head("GET /x HTTP/1.1");
    let mut app = app.into_stream();
    app.write_all(head.as_bytes()).await.unwrap();
    let mut api = accepted(&upstream).await;
    api.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {TRIED}\r\n\r\n").as_bytes()).await.unwrap();
    let written = write_until_stuck(&mut api).await;
    assert!(written < HELD, "{written} bytes were taken");
    read_until(&mut app, "\r\n\r\n").await;
    read_exactly(&mut app, written).await;
    api.write_all(b"more").await.unwrap();
    read_exactly(&mut app, 4).await;
}

#[tokio::test]
async fn each_event_is_relayed_before_the_next_is_there() {
    let (rig, upstream) = rig_to_bytes("").await;
    let app = rig.app().await;
    let head = app.head("GET /events HTTP/1.1\nAccept: text/event-stream");
    let mut app = app.into_stream();
    app.write_all(head.as_bytes()).await.unwrap();
    let mut api = accepted(&upstream).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    api.write_all(head.as_bytes()).await.unwrap();
    assert!(read_until(&mut app, "\r\n\r\n").await.contains("text/event-stream"), "the head comes by itself");
    for number in 0..10 {
        let event = format!("data: {number}\n\n");
        api.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        read_until(&mut app, &event).await;
    }
    api.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut app, "0\r\n\r\n").await;
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let rig = Rig::ready(Options::default()).await;
    rig.api.script().push(Answer::Mirror);
    let app = rig.app().await;
    let head = app.head("POST /echo HTTP/1.1\nTransfer-Encoding: chunked");
    let mut app = app.into_stream();
    app.write_all(head.as_bytes()).await.unwrap();
    assert!(read_until(&mut app, "\r\n\r\n").await.starts_with("HTTP/1.1 200 "), "before the request has ended");
    for number in 0..10 {
        let piece = format!("piece {number}.");
        app.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.unwrap();
        read_until(&mut app, &piece).await;
    }
    app.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut app, "0\r\n\r\n").await;
    assert!(last(&rig).body_sha256.is_some());
}

#[tokio::test]
async fn an_upload_that_the_app_leaves_is_not_completed() {
    let rig = Rig::ready(Options::default()).await;
    for (framing, body, length) in
        [("Content-Length: 100", "0123456789", 10), ("Transfer-Encoding: chunked", "a\r\n0123456789\r\n", 10)]
    {
        let mut app = rig.app().await;
        app.send(app.head(&format!("POST /x HTTP/1.1\n{framing}"))).await;
        app.send(body).await;
        eventually("the beginning arrives", || rig.api.requests().last().is_some_and(|seen| seen.body_len == length))
            .await;
        drop(app);
        eventually("the request is aborted", || last(&rig).body_cut).await;
        assert_eq!(last(&rig).body_sha256, None);
        rig.api.log().clear();
    }
    eventually("no connection is left", || rig.api.counts().open.now() == 0).await;
}

#[tokio::test]
async fn an_answer_that_the_app_leaves_is_left_at_the_api() {
    let rig = Rig::ready(Options::default()).await;
    for answer in [
        Answer::from(Answer::status(200).body("abc").piece(Piece::Stall)),
        Answer::from(Answer::status(200).piece(Piece::Repeat(b'x', TRIED as u64))),
        Answer::hang(),
        Answer::Raw(vec![
            bearerd::demo::steps::Step::Send("HTTP/1.1 200 OK\r\nContent-".into()),
            bearerd::demo::steps::Step::Hold,
        ]),
    ] {
        rig.api.script().push(answer);
        let seen = rig.api.requests().len();
        let mut app = rig.app().await;
        app.send(app.head("GET /x HTTP/1.1")).await;
        rig.api.wait_for(seen + 1, crate::support::PATIENCE).await.unwrap();
        drop(app);
        eventually("the API's connection is closed", || rig.api.counts().open.now() == 0).await;
    }
}

#[tokio::test]
async fn an_event_stream_may_be_silent_and_nothing_else() {
    let (rig, upstream) = rig_to_bytes("timeouts: {body_idle: 200ms}").await;
    for (kind, may) in [("text/event-stream", true), ("Text/Event-Stream; charset=utf-8", true), ("text/plain", false)]
    {
        let app = rig.app().await;
        let head = app.head("GET /events HTTP/1.1");
        let mut app = app.into_stream();
        app.write_all(head.as_bytes()).await.unwrap();
        let mut api = accepted(&upstream).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        api.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut app, "\r\n\r\n").await;
        // Several times as long as anything else may be.
        moment(800).await;
        if may {
            api.write_all(b"c\r\ndata: late\n\n\r\n").await.unwrap();
            assert!(read_until(&mut app, "data: late\n\n\r\n").await.starts_with("C\r\n"), "{kind}");
        } else {
            assert_eq!(in_time(app.read(&mut [0])).await.unwrap_or_default(), 0, "{kind}: cut off, without an end");
        }
    }
}
