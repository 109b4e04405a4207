//! Connections that are there before anybody needs them.

use std::time::{Duration, Instant};

use bearerd::demo::answer::{Answer, Latch};
use http::Version;
use tokio::net::TcpListener;

use super::http2_api::{rig_to_http1, rig_to_http2};
use super::{in_time, last, rig_with};
use crate::support::{PATIENCE, eventually};

#[tokio::test]
async fn the_first_request_finds_a_connection() {
    let rig = rig_to_http1("warm: 3").await;
    eventually("three are open", || rig.api.counts().open.now() == 3).await;
    assert!(rig.api.requests().is_empty());
    assert_eq!(rig.get("/").await.status, 200);
    assert!(last(&rig).connection_id <= 3);
    assert!(!rig.proxy.page("/metrics").await.text().contains("requests_total{route=\"api\",code=\"502\"}"));
}

#[tokio::test]
async fn one_of_http2_is_enough() {
    let rig = rig_to_http2(100, "warm: 5").await;
    eventually("one is open", || rig.api.counts().open.now() == 1).await;
    super::moment(1_500).await;
    assert_eq!(rig.api.counts().accepted(), 1);
    assert_eq!(rig.get("/").await.status, 200);
    assert_eq!((last(&rig).connection_id, last(&rig).version), (1, Version::HTTP_2));
}

#[tokio::test]
async fn what_is_used_up_or_closed_is_replaced() {
    let rig = rig_to_http1("warm: 1").await;
    eventually("one is open", || rig.api.counts().open.now() == 1).await;
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    let mut app = rig.app().await;
    app.send(app.head("GET /held HTTP/1.1")).await;
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    eventually("there is another", || rig.api.counts().open.now() == 2).await;
    latch.open();
    assert_eq!(app.answer().await.status, 200);
    rig.api.restart().await.unwrap();
    eventually("there is one again", || rig.api.counts().open.now() == 1).await;
    assert_eq!(rig.get("/").await.status, 200);
    assert!(rig.api.counts().accepted() <= 4, "{}", rig.api.counts().accepted());
}

/// What is idle for too long is closed before the upstream closes it, and there is another.
#[tokio::test]
async fn it_is_never_older_than_an_idle_connection_may_be() {
    let rig = rig_to_http1("warm: 1\ntimeouts: {pool_idle: 3s}").await;
    eventually("it was replaced", || rig.api.counts().accepted() >= 3).await;
    assert!(rig.api.counts().open.peak() <= 3);
    assert!(rig.api.requests().is_empty());
}

#[tokio::test]
async fn an_upstream_that_is_away_is_asked_ever_more_seldom_and_nothing_is_said() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let rig = rig_with(|_| format!("routes:\n  - upstream: https://{address}\n    token: main\n    warm: 4\n")).await;
    let (begun, mut dials) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(9) {
        if let Ok(accepted) = tokio::time::timeout(Duration::from_millis(200), upstream.accept()).await {
            drop(accepted.unwrap());
            dials.push(begun.elapsed());
        }
    }
    assert!((2..=20).contains(&dials.len()), "{dials:?}");
    assert!(!rig.proxy.said().contains("upstream_"), "{}", rig.proxy.said());
    // Whoever needs one now gets it now.
    let (answer, accepted) = tokio::join!(rig.get("/"), async { drop(in_time(upstream.accept()).await.unwrap()) });
    assert_eq!(((), answer.status), (accepted, 502));
}
