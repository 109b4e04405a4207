//! Many requests of one route: so many are under way, so many wait, the rest is told at once; another route notices
//! nothing.

use std::time::Duration;

use bearerd::demo::answer::{Answer, Latch, Piece};
use tokio::task::JoinHandle;

use super::{rig_with, route};
use crate::support::{self, App, PATIENCE, Rig, eventually};

fn ask(rig: &Rig, path: &'static str) -> JoinHandle<support::Answer> {
    let address = rig.proxy.address;
    tokio::spawn(async move { App::connect(address).await.get(path).await })
}

async fn rig(limits: &str) -> Rig {
    let limits = format!("match: {{path: /slow}}\nlimits: {limits}");
    rig_with(move |rig| format!("routes:\n{}{}", route(rig, "slow", "", &limits), route(rig, "other", "", ""))).await
}

/// Slow answers, until the latch is open.
fn held(rig: &Rig) -> Latch {
    let latch = Latch::new();
    let by = latch.clone();
    rig.api.script().when(move |head| (head.uri.path() == "/slow").then(|| Answer::Serve.held_by(&by)));
    latch
}

#[tokio::test]
async fn what_is_too_much_is_told_at_once_and_the_queue_is_served() {
    let rig = rig("{in_flight: 2, queue: 3, queue_wait: 60s}").await;
    let latch = held(&rig);
    let mut under_way: Vec<_> = (0..2).map(|_| ask(&rig, "/slow")).collect();
    rig.api.wait_for(2, PATIENCE).await.unwrap();
    let mut more: Vec<_> = (0..8).map(|_| ask(&rig, "/slow")).collect();
    // Five of the eight find the queue full, whichever they are.
    eventually("five are refused", || more.iter().filter(|one| one.is_finished()).count() == 5).await;
    assert_eq!(rig.api.requests().len(), 2);
    assert_eq!(rig.get("/other").await.status, 200, "another route has places of its own");
    latch.open();
    let mut statuses = Vec::new();
    for one in under_way.drain(..).chain(more.drain(..)) {
        let answer = one.await.unwrap();
        if answer.status == 503 {
            assert_eq!((answer.reason().as_str(), answer.header("retry-after")), ("overloaded", Some("1")));
            assert_eq!(answer.header("connection"), None, "the connection is fine");
        }
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 503, 503, 503, 503, 503]);
    assert_eq!(rig.get("/slow").await.status, 200, "the places are free again");
}

#[tokio::test]
async fn nobody_queues_for_longer_than_queue_wait_and_whoever_leaves_makes_room() {
    let rig = rig("{in_flight: 1, queue: 1, queue_wait: 1s}").await;
    let latch = held(&rig);
    let first = ask(&rig, "/slow");
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(ask(&rig, "/slow").await.unwrap().reason(), "overloaded");
    assert!(begun.elapsed() >= Duration::from_secs(1), "it had a chance");
    // One that gives up while it waits, and one that takes its turn.
    let leaving = rig.app().await;
    let head = leaving.head("GET /slow HTTP/1.1");
    let mut leaving = leaving;
    leaving.send(head).await;
    drop(leaving);
    let second = loop {
        let second = ask(&rig, "/slow");
        super::moment(50).await;
        // Refused at once: the one that left has not been missed yet.
        if !second.is_finished() {
            break second;
        }
    };
    latch.open();
    assert_eq!((first.await.unwrap().status, second.await.unwrap().status), (200, 200));
    assert_eq!(rig.api.requests().len(), 2);
}

#[tokio::test]
async fn a_place_is_held_to_the_end_of_the_answer() {
    let rig = rig("{in_flight: 1, queue: 0}").await;
    rig.api.script().push(Answer::status(200).body("begin").piece(Piece::Stall).chunked());
    let mut app = rig.app().await;
    app.send(app.head("GET /slow HTTP/1.1")).await;
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    let mut stream = app.into_stream();
    super::read_until(&mut stream, "begin\r\n").await;
    assert_eq!(rig.get("/slow").await.reason(), "overloaded");
    drop(stream);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while rig.get("/slow").await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "whoever leaves gives the place back");
        super::moment(5).await;
    }
}
