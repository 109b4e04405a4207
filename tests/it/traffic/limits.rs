//! What one app may use up: slow heads, idle connections, large heads, many connections.

use std::time::{Duration, Instant};

use bearerd::demo::answer::{Answer, Latch};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{moment, read_until, targets};
use crate::support::{App, Options, PATIENCE, Rig};

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let rig = Rig::ready(Options { top: "limits: {head: 300ms, idle: 60s}", ..Options::default() }).await;
    let begun = Instant::now();
    let mut stuck = rig.app().await;
    stuck.send("GET / HTTP/1.1\r\nHost: loc").await;
    let mut second = rig.app().await;
    assert_eq!(second.get("/").await.status, 200);
    second.send("G").await;
    assert!(stuck.is_closed().await && second.is_closed().await, "without an answer");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // Byte by byte is no faster.
    let mut slow = rig.app().await;
    slow.send("GET / HTTP/1.1\r\nX: ").await;
    let mut slow = slow.into_stream();
    let dripping = async {
        while slow.write_all(b"x").await.is_ok() {
            let read = tokio::time::timeout(Duration::from_millis(20), slow.read_u8()).await;
            if read.is_ok_and(|read| read.is_err()) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, dripping).await.expect("the connection is closed");
    assert_eq!(targets(&rig), ["/"]);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_and_one_that_is_served_is_not() {
    let rig = Rig::ready(Options { top: "limits: {head: 200ms, idle: 300ms}", ..Options::default() }).await;
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    let mut served = rig.app().await;
    served.send(served.head("GET /long HTTP/1.1")).await;
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    let (mut new, mut kept) = (rig.app().await, rig.app().await);
    assert_eq!(kept.get("/").await.status, 200);
    assert!(new.is_closed().await && kept.is_closed().await);
    moment(300).await;
    latch.open();
    assert_eq!(served.answer().await.status, 200);
    assert_eq!(served.get("/again").await.status, 200, "idle counts from the end of the answer");
    assert!(served.is_closed().await);
}

#[tokio::test]
async fn a_connection_that_never_says_anything_has_as_long_as_a_head() {
    let rig = Rig::ready(Options { top: "limits: {head: 300ms, idle: 60s}", ..Options::default() }).await;
    let begun = Instant::now();
    let mut silent = rig.app().await;
    let mut served = rig.app().await;
    assert_eq!(served.get("/").await.status, 200);
    assert!(silent.is_closed().await);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // Which is not what holds between two requests.
    moment(600).await;
    assert_eq!(served.get("/again").await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_without_reading_on() {
    let rig = Rig::ready(Options { top: "limits: {header_bytes: 8KiB, headers: 10}", ..Options::default() }).await;
    let long = "x".repeat(7 * 1024);
    let many: String = (0..8).map(|number| format!("\nX-{number}: y")).collect();
    let mut app = rig.app().await;
    assert_eq!(app.ask(&format!("GET /ok HTTP/1.1\nX: {long}")).await.status, 200);
    assert_eq!(app.ask(&format!("GET /ok HTTP/1.1{many}")).await.status, 200);
    for head in [
        format!("GET / HTTP/1.1\nX: {long}{long}"),
        format!("GET / HTTP/1.1\nX: {long}\nY: {long}\nZ: {long}\nA: {long}"),
        format!("GET / HTTP/1.1{many}\nX: y\nY: z"),
    ] {
        let mut app = rig.app().await;
        app.send(app.head(&head)).await;
        let heard = app.hears_until_end().await;
        assert!(heard.starts_with(b"HTTP/1.1 431 "), "{:?}", String::from_utf8_lossy(&heard));
    }
    assert_eq!(targets(&rig), ["/ok", "/ok"]);
}

#[tokio::test]
async fn a_hundred_headers_are_taken_unless_another_number_is_written() {
    let rig = Rig::ready(Options::default()).await;
    // The app's side adds one or two.
    let head = |extra: usize| {
        let many: String = (0..extra).map(|number| format!("\nX-{number}: y")).collect();
        format!("GET /ok HTTP/1.1{many}")
    };
    assert_eq!(rig.app().await.ask(&head(98)).await.status, 200);
    let mut app = rig.app().await;
    app.send(app.head(&head(101))).await;
    assert!(app.hears_until_end().await.starts_with(b"HTTP/1.1 431 "));
    assert_eq!(targets(&rig), ["/ok"]);
}

#[tokio::test]
async fn a_connection_too_many_is_told_at_once_and_the_next_is_served_when_one_leaves() {
    let rig = Rig::ready(Options { top: "limits: {connections: 2}", ..Options::default() }).await;
    let (mut first, mut second) = (rig.app().await, rig.app().await);
    assert_eq!((first.get("/").await.status, second.get("/").await.status), (200, 200));
    for _ in 0..5 {
        let mut third = rig.app().await;
        let answer = third.get("/").await;
        assert_eq!((answer.status, answer.reason().as_str()), (503, "overloaded"));
        assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), Some("close")));
        assert!(third.is_closed().await);
    }
    // The answer is there for an app that sends all of its request first.
    let third = rig.app().await;
    let head = third.head("POST / HTTP/1.1\nContent-Length: 102400");
    let mut third = third.into_stream();
    third.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..100 {
        third.write_all(&[b'x'; 1024]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read_until(&mut third, "}").await.contains("overloaded"));
    assert_eq!((first.get("/").await.status, second.get("/").await.status), (200, 200));
    drop(second);
    let deadline = Instant::now() + PATIENCE;
    while rig.get("/freed").await.status != 200 {
        assert!(Instant::now() < deadline, "the place is free");
        moment(5).await;
    }
    assert_eq!(targets(&rig), ["/", "/", "/", "/", "/freed"]);
}

#[tokio::test]
async fn a_head_that_begins_behind_a_request_is_not_waited_for_either() {
    let rig = Rig::ready(Options { top: "limits: {head: 300ms, idle: 60s}", ..Options::default() }).await;
    let latch = Latch::new();
    for (head, body, held) in [
        ("GET /x HTTP/1.1", "", false),
        ("GET /x HTTP/1.1", "", true),
        ("POST /x HTTP/1.1\nTransfer-Encoding: chunked", "1\r\nx\r\n0\r\n\r\n", false),
    ] {
        let mut app = rig.app().await;
        let whole = app.head(head) + body;
        if held {
            rig.api.log().clear();
            rig.api.script().push(Answer::Serve.held_by(&latch));
            app.send(whole).await;
            rig.api.wait_for(1, PATIENCE).await.unwrap();
            app.send("GET /partial HTT").await;
            moment(100).await;
            latch.open();
        } else {
            app.send(format!("{whole}GET /partial HTT")).await;
        }
        assert_eq!(app.answer().await.status, 200);
        assert!(app.is_closed().await, "{head:?}, held: {held}");
    }
    // A request that is whole is no beginning of another.
    let mut app = rig.app().await;
    assert_eq!(app.ask("GET /x HTTP/1.1").await.status, 200);
    moment(600).await;
    assert_eq!(app.ask("POST /x HTTP/1.1\nContent-Length: 0").await.status, 200);
}

#[tokio::test]
async fn refusing_has_a_limit_of_its_own() {
    let rig = Rig::ready(Options { top: "limits: {connections: 1}", ..Options::default() }).await;
    let mut only = rig.app().await;
    assert_eq!(only.get("/").await.status, 200);
    let mut others = Vec::new();
    for _ in 0..150 {
        others.push(rig.app().await.into_stream());
    }
    let (mut told, mut dropped) = (0, 0);
    for other in &mut others {
        let mut heard = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, other.read_to_end(&mut heard)).await.expect("the connection ends");
        *(if heard.is_empty() { &mut dropped } else { &mut told }) += 1;
    }
    assert!(told >= 64 && dropped > 0, "{told} were told, {dropped} were dropped");
    assert_eq!(only.get("/").await.status, 200);
}

#[tokio::test]
async fn those_who_do_not_read_do_not_keep_the_probes_out() {
    let rig = Rig::new().await;
    let mut stuck = Vec::new();
    for _ in 0..64 {
        let app = App::connect(rig.proxy.admin).await;
        let request = app.head("GET /metrics HTTP/1.1").repeat(100);
        let mut stream = app.into_stream();
        let writing = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_millis(30), writing).await;
        stuck.push(stream);
    }
    // One that says nothing, for each place.
    for _ in 0..64 {
        stuck.push(App::connect(rig.proxy.admin).await.into_stream());
    }
    assert_eq!(rig.proxy.page("/livez").await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_is_counted_and_told_of() {
    let rig = Rig::ready(Options { top: "limits: {header_bytes: 8KiB}", ..Options::default() }).await;
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(9_000));
    for bytes in ["GARBAGE\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n", &large] {
        let mut app = rig.app().await;
        app.send(bytes).await;
        app.hears_until_end().await;
    }
    rig.proxy.until_said("bad_request").await;
    let deadline = Instant::now() + PATIENCE;
    while !rig.proxy.page("/metrics").await.text().contains("bearerd_refused_total{reason=\"bad_request\"} 3\n") {
        assert!(Instant::now() < deadline, "{}", rig.proxy.page("/metrics").await.text());
        moment(10).await;
    }
}
