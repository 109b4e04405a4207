//! The end: what is in flight is finished, nothing new begins, and nothing is waited for without limit.

use std::time::{Duration, Instant};

use bearerd::demo::answer::{Answer, Latch, Piece};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::tls::{NAME, write};
use super::{accepted, in_time, moment, read_until, rig_to_bytes, rig_with, route};
use crate::support::frames::Frames;
use crate::support::{App, Options, PATIENCE, Rig};

/// Waits until nobody accepts any more.
async fn refused(address: std::net::SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "{address} still accepts");
        moment(5).await;
    }
}

#[tokio::test]
async fn what_is_in_flight_is_finished_and_then_its_connection_ends() {
    for top in ["", "workers: 2"] {
        let rig = Rig::ready(Options { top, ..Options::default() }).await;
        let latch = Latch::new();
        rig.api.script().push(Answer::Serve.held_by(&latch));
        let body = Answer::status(200).body("abc").piece(Piece::Pause(Duration::from_millis(300))).body("def");
        rig.api.script().push(body.chunked());
        let (mut held, mut idle, mut unused) = (rig.app().await, rig.app().await, rig.app().await);
        held.send(held.head("GET /held HTTP/1.1")).await;
        rig.api.wait_for(1, PATIENCE).await.unwrap();
        let mut streaming = rig.app().await;
        streaming.send(streaming.head("GET /streaming HTTP/1.1")).await;
        rig.api.wait_for(2, PATIENCE).await.unwrap();
        assert_eq!(idle.get("/").await.status, 200);

        let Rig { proxy, api, .. } = rig;
        let address = proxy.address;
        let ended = tokio::spawn(proxy.end());
        refused(address).await;
        assert!(idle.is_closed().await && unused.is_closed().await);
        let answer = streaming.answer().await;
        assert_eq!((answer.text(), answer.complete), ("abcdef", true));
        assert!(streaming.is_closed().await);
        latch.open();
        let answer = held.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(held.is_closed().await);
        assert_eq!(ended.await.unwrap().cut_off, 0);
        assert_eq!(api.requests().len(), 3);
    }
}

/// A machine that stands still for longer than an idle connection is left has to be asked again, and so has one on which
/// the drain begins late.
#[tokio::test]
async fn a_request_that_comes_as_the_drain_begins_is_answered_and_told_to_be_the_last() {
    for version in ["1.1", "1.0"] {
        let head = format!("GET / HTTP/{version}\nConnection: keep-alive");
        for round in 0.. {
            assert!(round < 10, "an idle connection is closed at once");
            let rig = Rig::ready(Options::default()).await;
            let (mut app, never_used) = (rig.app().await, rig.app().await);
            assert_ne!(app.ask(&head).await.header("connection"), Some("close"));
            rig.proxy.signal().await;
            rig.proxy.until_said("finishing what is in flight").await;
            moment(50).await;
            let mut apps = [app, never_used];
            for app in &mut apps {
                app.send(app.head(&head)).await;
            }
            if rig.api.wait_for(3, Duration::from_millis(300)).await.is_err() {
                continue;
            }
            let [one, other] = &mut apps;
            let answers = [one.answer().await, other.answer().await];
            assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
            if answers.iter().any(|answer| answer.header("connection") != Some("close")) {
                continue;
            }
            assert!(one.is_closed().await && other.is_closed().await);
            rig.proxy.until_said("every exchange was finished").await;
            break;
        }
    }
}

/// Its head was sent before anybody knew that there would be no next request.
#[tokio::test]
async fn a_request_behind_an_answer_that_was_begun_before_is_answered() {
    for round in 0.. {
        assert!(round < 10, "it is closed behind that answer");
        let (rig, upstream) = rig_to_bytes("").await;
        let mut app = rig.app().await;
        app.send(app.head("GET /streaming HTTP/1.1")).await;
        let mut api = accepted(&upstream).await;
        in_time(api.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")).await.unwrap();
        let mut begun = app.into_stream();
        assert!(read_until(&mut begun, "abc").await.starts_with("HTTP/1.1 200 "));
        rig.proxy.signal().await;
        refused(rig.proxy.address).await;
        in_time(api.write_all(b"def")).await.unwrap();
        read_until(&mut begun, "def").await;
        let mut app = App::of(begun);
        app.send(app.head("GET /next HTTP/1.1")).await;
        if tokio::time::timeout(Duration::from_millis(300), read_until(&mut api, "\r\n\r\n")).await.is_err() {
            continue;
        }
        in_time(api.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")).await.unwrap();
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (204, Some("close")));
        assert!(app.is_closed().await);
        rig.proxy.until_said("every exchange was finished: 1 request").await;
        break;
    }
}

#[tokio::test]
async fn what_waits_for_a_place_or_for_a_token_is_served_and_the_pages_are_there_to_the_end() {
    let rig =
        Rig::ready(Options { route: "limits: {in_flight: 1, queue: 5, queue_wait: 60s}", ..Options::default() }).await;
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    let (mut first, mut second) = (rig.app().await, rig.app().await);
    first.send(first.head("GET /first HTTP/1.1")).await;
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    second.send(second.head("GET /second HTTP/1.1")).await;
    while !rig.proxy.page("/metrics").await.text().contains("bearerd_requests_queued{route=\"api\"} 1\n") {
        moment(5).await;
    }
    rig.proxy.signal().await;
    refused(rig.proxy.address).await;
    for (page, status) in [("/readyz", 503), ("/livez", 200), ("/startupz", 200), ("/status", 200)] {
        assert_eq!(rig.proxy.page(page).await.status, status, "{page}");
    }
    latch.open();
    assert_eq!((first.answer().await.status, second.answer().await.status), (200, 200));
    rig.proxy.until_said("every exchange was finished: 2 requests").await;

    let rig = Rig::with(Options::default()).await;
    rig.provider.wait_for(1, PATIENCE).await.unwrap();
    rig.proxy.until_ready().await;
    // The API rejects the token, and the next one takes its time.
    let latch = Latch::new();
    rig.provider.script().push(Answer::Serve.held_by(&latch));
    rig.api.script().push(Answer::status(401).header("www-authenticate", "Bearer error=\"invalid_token\""));
    let mut waits = rig.app().await;
    waits.send(waits.head("GET / HTTP/1.1")).await;
    rig.provider.wait_for(2, PATIENCE).await.unwrap();
    rig.proxy.signal().await;
    refused(rig.proxy.address).await;
    latch.open();
    assert_eq!(waits.answer().await.status, 200);
    rig.proxy.until_said("every exchange was finished: 1 request").await;
}

/// Nothing of this is in flight, so none of it is waited for as long as it could be.
#[tokio::test]
async fn connections_that_say_nothing_do_not_hold_up_the_end() {
    for workers in [1, 2] {
        let rig = rig_with(|rig| {
            write(rig, "", &rig.ca.identity(&[NAME]).unwrap());
            format!(
                "listen: ['127.0.0.1:0', {{name: safe, address: '127.0.0.1:0', tls: {{cert_file: cert.pem, key_file: \
                 key.pem}}}}]\nworkers: {workers}\nlimits: {{head: 10m, idle: 10m}}\nshutdown: {{timeout: 1h}}\n\
                 routes:\n{}",
                route(rig, "api", "", "")
            )
        })
        .await;
        let safe = rig.proxy.addresses[1];
        let (mut idle, mut unused, mut half) = (rig.app().await, rig.app().await, rig.app().await);
        let (mut silent, mut frames) = (App::connect(safe).await, Frames::connect(rig.proxy.address).await);
        assert_eq!(idle.get("/").await.status, 200);
        half.send("GET / HT").await;
        // It has been heard, and does not answer when it is asked whether it has.
        assert!(frames.lives().await);
        frames.answers_pings = false;
        let begun = Instant::now();
        assert_eq!(rig.proxy.end().await.cut_off, 0);
        assert!(begun.elapsed() < PATIENCE);
        for app in [&mut idle, &mut unused, &mut half, &mut silent] {
            assert!(app.is_closed().await);
        }
        frames.until_end().await;
    }
}

#[tokio::test]
async fn during_the_delay_it_is_not_ready_and_still_works() {
    let rig = Rig::ready(Options { top: "shutdown: {delay: 60s}", ..Options::default() }).await;
    let mut kept = rig.app().await;
    assert_eq!((rig.proxy.page("/readyz").await.status, kept.get("/").await.status), (200, 200));
    rig.proxy.signal().await;
    rig.proxy.until_said("finishing what is in flight").await;
    let deadline = Instant::now() + PATIENCE;
    while rig.proxy.page("/readyz").await.status != 503 {
        assert!(Instant::now() < deadline);
    }
    assert_eq!((rig.proxy.page("/livez").await.status, rig.proxy.page("/startupz").await.status), (200, 200));
    for _ in 0..3 {
        assert_eq!((kept.get("/").await.status, rig.get("/").await.status), (200, 200));
    }
    // The second signal ends at once.
    assert_eq!(kept.get("/").await.header("connection"), None);
    let begun = Instant::now();
    rig.proxy.end().await;
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn after_the_delay_nothing_new_is_accepted() {
    let rig = Rig::ready(Options { top: "shutdown: {delay: 300ms}", ..Options::default() }).await;
    let address = rig.proxy.address;
    let begun = Instant::now();
    let ended = tokio::spawn(rig.proxy.end());
    refused(address).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(ended.await.unwrap().cut_off, 0);
}

#[tokio::test]
async fn what_takes_too_long_is_cut_off_and_counted() {
    let rig = Rig::ready(Options { top: "shutdown: {timeout: 200ms}", ..Options::default() }).await;
    rig.api.script().always(Answer::status(200).body("abc").piece(Piece::Stall).chunked());
    let mut apps: [App; 2] = [rig.app().await, rig.app().await];
    for (number, app) in apps.iter_mut().enumerate() {
        app.send(app.head("GET / HTTP/1.1")).await;
        rig.api.wait_for(number + 1, PATIENCE).await.unwrap();
    }
    let Rig { proxy, api, .. } = rig;
    let said = proxy.log();
    assert_eq!(proxy.end().await.cut_off, 2);
    assert!(said.lock().unwrap().contains("stopped; 2 requests were cut off"));
    for app in &mut apps {
        assert!(!app.answer().await.complete);
    }
    drop(api);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let rig = Rig::ready(Options { top: "shutdown: {timeout: 1h}", ..Options::default() }).await;
    rig.api.script().push(Answer::hang());
    let mut app = rig.app().await;
    app.send(app.head("GET / HTTP/1.1")).await;
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    rig.proxy.signal().await;
    refused(rig.proxy.address).await;
    let Rig { proxy, api, .. } = rig;
    assert_eq!(proxy.end().await.cut_off, 1);
    drop(api);
}

#[tokio::test]
async fn two_workers_share_the_connections_of_apps() {
    let rig = Rig::ready(Options { top: "workers: 2", ..Options::default() }).await;
    let mut apps = Vec::new();
    for _ in 0..8 {
        let mut app = rig.app().await;
        assert_eq!(app.get("/").await.status, 200);
        apps.push(app);
    }
    // A worker has connections of its own, and one request at a time needs one of them.
    let mut by: Vec<_> = rig.api.requests().iter().map(|seen| seen.connection_id).collect();
    by.sort_unstable();
    assert_eq!(by, [1, 1, 1, 1, 2, 2, 2, 2]);
    for app in &mut apps {
        assert_eq!(app.get("/").await.status, 200);
    }
    let Rig { proxy, .. } = rig;
    assert_eq!(proxy.end().await.cut_off, 0);
}
