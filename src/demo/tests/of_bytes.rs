//! Connections that a script speaks byte for byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{PATIENCE, World, answer, exchange};
use crate::demo::answer::Answer;
use crate::demo::steps::Step;

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn bytes_are_sent_as_they_are_and_the_connection_ends() {
    let world = World::new().await;
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\ntail";
    world.api.script().push(Answer::raw(both));
    let (answer, end) = exchange(&mut world.connect().await, GET).await;
    assert_eq!(answer, both);
    assert!(end.is_ok(), "with a close_notify");
    let seen = world.api.requests().remove(0);
    assert_eq!((seen.target.as_str(), seen.status), ("/", None));
}

#[tokio::test]
async fn a_connection_can_turn_raw_after_honest_answers() {
    let world = World::new().await;
    let script = world.api.script();
    script.push(Answer::status(200).body("one"));
    let next = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
    script.push(Answer::Raw(vec![
        Step::Send(format!("{next}two").into()),
        Step::ReadHead,
        Step::Pause(Duration::from_millis(10)),
        Step::Send(format!("{next}thr").into()),
        Step::Cut,
    ]));
    let (answer, end) = exchange(&mut world.connect().await, &GET.repeat(3)).await;
    assert!(answer.ends_with(&format!("one{next}two{next}thr")), "{answer}");
    assert!(end.is_err(), "without a close_notify");
    assert_eq!(world.api.count(), 2, "what is raw is not logged");
}

#[tokio::test]
async fn a_connection_can_be_scripted_from_its_first_byte() {
    let world = World::new().await;
    world.api.script().on_connect(vec![Step::Send("HTTP/1.1 408 Too Late\r\n\r\n".into())]);
    let (answer_, _) = exchange(&mut world.connect().await, "").await;
    assert_eq!(answer_, "HTTP/1.1 408 Too Late\r\n\r\n");
    let token = world.token().await;
    assert_eq!(answer(world.get("/", &token)).await.0, 200, "the next one is HTTP");
}

#[tokio::test]
async fn an_upgrade_echoes() {
    let world = World::new().await;
    world.api.script().push(Answer::upgrade("demo"));
    let mut stream = world.connect().await;
    let get = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: demo\r\n\r\nearly";
    stream.write_all(get.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nearly") {
        tokio::time::timeout(PATIENCE, stream.read_buf(&mut read)).await.unwrap().unwrap();
    }
    assert!(read.starts_with(b"HTTP/1.1 101 "));
    let (late, _) = {
        stream.write_all(b"late").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut late = String::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut late)).await.unwrap();
        (late, end)
    };
    assert_eq!(late, "late");
}

#[tokio::test]
async fn stopping_drops_what_is_open() {
    let world = World::new().await;
    world.api.script().push(Answer::hang());
    let mut stream = world.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    world.api.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!((world.api.counts().open.now(), world.api.counts().in_flight.now()), (1, 1));
    world.api.stop().await;
    assert_eq!((world.api.counts().open.now(), world.api.counts().in_flight.now()), (0, 0));
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).await.is_err(), "cut");
    world.api.restart().await.unwrap();
    let token = world.token().await;
    assert_eq!(answer(world.get("/", &token)).await.0, 200);
}
