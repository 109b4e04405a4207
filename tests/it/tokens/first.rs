//! The first token: one request for it however many wait, and nothing is forwarded without it.

use std::time::{Duration, Instant};

use bearerd::demo::answer::{Answer, Latch};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Bench, asks, burst, no_token};
use crate::support::{API, PATIENCE, eventually};

const REQUESTS: usize = 100;

#[tokio::test]
async fn a_hundred_first_requests_cost_one_token_request() {
    let bench = Bench::new().await;
    let latch = Latch::new();
    bench.provider.script().push(Answer::Serve.held_by(&latch));
    let rig = bench.start("");
    let answers = burst(&rig, REQUESTS).await;
    rig.provider.wait_for(1, PATIENCE).await.unwrap();
    latch.open();
    for answer in answers.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(rig.provider.count(), 1);
    assert_eq!(rig.api.count(), REQUESTS as u64);
}

#[tokio::test]
async fn the_connection_is_made_while_the_token_is_waited_for() {
    for http in ["auto", "http1"] {
        let bench = Bench::new().await;
        let latch = Latch::new();
        bench.provider.script().push(Answer::Serve.held_by(&latch));
        let (token, route) = (bench.usual(), bench.route() + &format!("token: main\nhttp: {http}\n"));
        let rig = bench.run(&[("main", &token)], &[("api", &route)]);
        rig.provider.wait_for(1, PATIENCE).await.unwrap();
        // Who needs none has none made.
        assert_eq!(rig.api.counts().accepted(), 0);
        let answers = burst(&rig, 2).await;
        eventually("there is a connection", || rig.api.counts().open.now() == 1).await;
        assert_eq!(rig.api.count(), 0, "and nothing is sent over it");
        latch.open();
        for answer in answers.join_all().await {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert!(rig.api.requests().iter().any(|seen| seen.connection_id == 1));
        assert!(rig.api.counts().accepted() <= 2, "{}", rig.api.counts().accepted());
    }
}

#[tokio::test]
async fn for_who_does_not_wait_no_connection_is_made() {
    let bench = Bench::new().await;
    let (latch, front) = (Latch::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    bench.provider.script().push(Answer::Serve.held_by(&latch));
    let at = front.local_addr().unwrap();
    let (token, route) = (bench.usual() + "wait: 0s\n", format!("upstream: http://{at}\ntoken: main\n"));
    let rig = bench.run(&[("main", &token)], &[("api", &route)]);
    rig.provider.wait_for(1, PATIENCE).await.unwrap();
    let mut app = rig.app().await;
    for _ in 0..10 {
        no_token(&app.get("/").await);
    }
    // Connections are accepted in the order in which they were made.
    let ours = TcpStream::connect(at).await.unwrap();
    let (_, first) = front.accept().await.unwrap();
    assert_eq!(first, ours.local_addr().unwrap());
}

/// It was never of use to anybody, so that a request which nobody may repeat is none the worse for it.
#[tokio::test]
async fn a_connection_that_the_api_closed_before_its_first_request_is_no_failure() {
    let bench = Bench::new().await;
    let (latch, front) = (Latch::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    bench.provider.script().push(Answer::Serve.held_by(&latch));
    let route = format!("upstream: http://{}\ntoken: main\n", front.local_addr().unwrap());
    let token = bench.usual();
    let rig = bench.run(&[("main", &token)], &[("api", &route)]);
    rig.provider.wait_for(1, PATIENCE).await.unwrap();
    let mut app = rig.app().await;
    app.send(app.head("POST / HTTP/1.1\nContent-Length: 4") + "body").await;
    let accept = || async { tokio::time::timeout(PATIENCE, front.accept()).await.unwrap().unwrap().0 };
    let mut first = accept().await;
    first.shutdown().await.unwrap();
    let mut sent = Vec::new();
    tokio::time::timeout(PATIENCE, first.read_to_end(&mut sent)).await.unwrap().unwrap();
    assert_eq!(sent, b"", "bearerd has closed it, too");
    latch.open();
    let mut second = accept().await;
    while !sent.ends_with(b"body") {
        assert_ne!(second.read_buf(&mut sent).await.unwrap(), 0);
    }
    second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
    let answer = app.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "done"), "{answer:?}");
}

/// Over HTTP/1 by the route, and by what the server chooses. The token is there while the connection is still being made.
#[tokio::test]
async fn a_connection_that_comes_to_nothing_meanwhile_fails_nobody() {
    for http in ["auto", "http1"] {
        let bench = Bench::new().await;
        let (token_latch, front) = (Latch::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        bench.provider.script().push(Answer::Serve.held_by(&token_latch));
        let (api, at) = (bench.api.addr(), front.local_addr().unwrap());
        let route =
            format!("upstream: https://{API}\nconnect_to: {at}\ntls: {{ca_file: ca.pem}}\ntoken: main\nhttp: {http}\n");
        let token = bench.usual();
        let rig = bench.run(&[("main", &token)], &[("api", &route)]);
        rig.provider.wait_for(1, PATIENCE).await.unwrap();
        let answers = burst(&rig, 1).await;
        let (mut first, _) = tokio::time::timeout(PATIENCE, front.accept()).await.unwrap().unwrap();
        token_latch.open();
        rig.proxy.until_ready().await;
        // It waits for the end of the handshake, which never comes.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = first.read(&mut [0; 1]).await;
        drop(first);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = front.accept().await {
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(api).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        for answer in answers.join_all().await {
            assert_eq!(answer.status, 200, "{http}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn when_the_first_token_request_fails_all_who_waited_are_told_and_nothing_is_forwarded() {
    let bench = Bench::new().await;
    let latch = Latch::new();
    bench.provider.script().push(Answer::status(503).header("retry-after", "60").held_by(&latch));
    let rig = bench.start("");
    let answers = burst(&rig, REQUESTS).await;
    rig.provider.wait_for(1, PATIENCE).await.unwrap();
    latch.open();
    for answer in answers.join_all().await {
        let seconds = no_token(&answer);
        assert!(seconds <= 60, "{answer:?}");
        assert!(seconds > 60 - PATIENCE.as_secs(), "the provider's wish is passed on: {answer:?}");
    }
    assert_eq!(rig.provider.count(), 1);
    assert_eq!(rig.api.count(), 0);
}

#[tokio::test]
async fn with_nobody_at_the_providers_address_requests_are_told_at_once() {
    let bench = Bench::new().await;
    bench.provider.stop().await;
    let rig = bench.start("");
    rig.proxy.until_said("the connection was refused").await;
    for answer in burst(&rig, REQUESTS).await.join_all().await {
        assert!(no_token(&answer) <= 30, "{answer:?}");
    }
    // The backoff has at least half a second between the first two, and doubles.
    assert!(asks(&rig) < 10, "{}", rig.proxy.said());
    assert_eq!(rig.api.counts().accepted(), 0);
}

#[tokio::test]
async fn a_request_waits_for_a_token_no_longer_than_it_is_told_to() {
    const WAIT: Duration = Duration::from_millis(300);
    let bench = Bench::new().await;
    bench.provider.script().always(Answer::hang());
    let rig = bench.start("wait: 300ms\nrefresh: {timeout: 60s}");
    rig.provider.wait_for(1, PATIENCE).await.unwrap();
    let begun = Instant::now();
    no_token(&rig.get("/").await);
    assert!(begun.elapsed() >= WAIT, "{:?}", begun.elapsed());
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(rig.api.count(), 0);
    assert_eq!(rig.provider.count(), 1);
}

#[tokio::test]
async fn probes_name_the_token_that_is_missing_and_wait_for_required_ones_alone() {
    let bench = Bench::new().await;
    let latch = Latch::new();
    let held = latch.clone();
    bench.provider.script().when(move |request| {
        let optional = request.headers.contains_key("x-optional");
        Some(if optional { Answer::hang() } else { Answer::Serve.held_by(&held) })
    });
    let required = bench.usual();
    let optional = bench.usual() + "headers: {X-Optional: yes}\nrequired: false\nwait: 0s\n";
    let main = bench.route() + "token: main\n";
    let side = bench.route() + "token: side\nmatch: {path: /side}\n";
    let rig = bench.run(&[("main", &required), ("side", &optional)], &[("main", &main), ("side", &side)]);
    rig.provider.wait_for(2, PATIENCE).await.unwrap();
    for page in ["/startupz", "/readyz"] {
        let answer = rig.proxy.page(page).await;
        assert_eq!((answer.status, answer.text()), (503, "waiting for token main\n"), "{page}");
    }
    assert_eq!(rig.proxy.page("/livez").await.status, 200, "never depends on the provider");
    latch.open();
    rig.proxy.until_ready().await;
    for page in ["/startupz", "/readyz", "/livez"] {
        assert_eq!(rig.proxy.page(page).await.status, 200, "{page}");
    }
    assert_eq!(rig.get("/").await.status, 200);
    no_token(&rig.get("/side").await);
}
