//! Requests that an app sends before it has its answers: answered in order, and none behind an end.

use bearerd::demo::answer::Answer;

use super::targets;
use crate::support::{Options, Rig};

#[tokio::test]
async fn requests_of_one_write_are_answered_in_order() {
    let rig = Rig::ready(Options::default()).await;
    rig.api.script().when(|head| {
        let body = head.uri.path().to_owned();
        let slow = std::time::Duration::from_millis(if body == "/1" { 300 } else { 0 });
        Some(Answer::status(200).body(body).after(slow))
    });
    let mut app = rig.app().await;
    let body = app.head("POST /2 HTTP/1.1\nContent-Length: 5") + "hello";
    app.send(app.head("GET /1 HTTP/1.1") + &body + &app.head("GET /3 HTTP/1.1")).await;
    for path in ["/1", "/2", "/3"] {
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.text(), answer.header("connection")), (200, path, None));
    }
    assert_eq!(targets(&rig), ["/1", "/2", "/3"]);
}

#[tokio::test]
async fn a_refusal_that_ends_the_connection_ends_what_is_behind_it() {
    let rig = Rig::ready(Options::default()).await;
    // What was not one message for sure, and a body that nobody has read.
    for refused in ["GET /2 HTTP/1.1\nHost: localhost\nHost: localhost", "POST /../2 HTTP/1.1\nContent-Length: 500000"]
    {
        let mut app = rig.app().await;
        app.send(app.head("GET /1 HTTP/1.1") + &app.head(refused) + &app.head("GET /3 HTTP/1.1")).await;
        assert_eq!(app.answer().await.status, 200);
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{refused}");
        assert!(app.is_closed().await);
    }
    assert_eq!(targets(&rig), ["/1", "/1"]);
    // A refusal that leaves nothing in doubt ends nothing.
    let mut app = rig.app().await;
    app.send(app.head("GET /../2 HTTP/1.1") + &app.head("GET /3 HTTP/1.1")).await;
    assert_eq!((app.answer().await.status, app.answer().await.status), (400, 200));
}

#[tokio::test]
async fn an_answer_before_the_end_of_its_request_says_that_the_connection_ends() {
    let rig = Rig::ready(Options::default()).await;
    rig.api.script().push(Answer::status(413).body("too large").early());
    let mut app = rig.app().await;
    app.send(app.head("POST /1 HTTP/1.1\nContent-Length: 500000")).await;
    let answer = app.answer().await;
    assert_eq!((answer.status, answer.header("connection"), answer.text()), (413, Some("close"), "too large"));
    app.send("GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(targets(&rig), ["/1"]);
}
