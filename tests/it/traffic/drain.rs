//! The end: what is in flight is finished, nothing new begins, and nothing is waited for without limit.

use std::time::{Duration, Instant};

use bearerd::demo::answer::{Answer, Latch, Piece};
use tokio::net::TcpStream;

use super::moment;
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
    assert_eq!(proxy.end().await.cut_off, 2);
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
