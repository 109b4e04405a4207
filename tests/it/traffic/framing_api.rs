//! Framing towards the API: an answer that two parsers could cut differently is served in one way or refused, what is
//! incomplete is never passed off as whole, and no connection in doubt carries another request.

use std::time::Duration;

use bearerd::demo::answer::{Answer, Piece};
use bearerd::demo::steps::Step;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{in_time, last, rig_with, route, targets};
use crate::support::{Options, Rig, eventually};

fn bytes(text: impl Into<String>) -> Step {
    Step::Send(text.into().into())
}

/// Says these bytes and then nothing more, with the connection left open.
fn raw_and_hold(text: impl Into<String>) -> Answer {
    Answer::Raw(vec![bytes(text), Step::Hold])
}

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

#[tokio::test]
async fn a_length_told_in_two_ways_is_served_in_one_and_the_connection_is_left() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for both in ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 99"]
    {
        let before = rig.api.counts().accepted();
        rig.api.script().push(raw_and_hold(format!("HTTP/1.1 200 OK\r\n{both}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")));
        let answer = app.get("/x").await;
        assert_eq!((answer.status, answer.text(), answer.complete), (200, "abc", true));
        assert_eq!(app.get("/next").await.json()["path"], "/next");
        let by = rig.api.requests();
        assert_ne!(by[by.len() - 1].connection_id, by[by.len() - 2].connection_id, "a fresh connection");
        assert!(rig.api.counts().accepted() > before);
    }
}

#[tokio::test]
async fn nobody_asked_for_another_protocol() {
    let rig = Rig::ready(Options::default()).await;
    rig.api.script().push(Answer::upgrade("websocket"));
    let head = "GET /x HTTP/1.1\nConnection: upgrade\nUpgrade: websocket\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
    let answer = rig.app().await.ask(head).await;
    assert_eq!((answer.status, answer.reason().as_str()), (502, "bad_upstream"));
    assert_eq!(rig.get("/next").await.status, 200);
    // Without 101 it is an ordinary exchange.
    assert_eq!(rig.app().await.ask(head).await.status, 200);
    assert_eq!(last(&rig).header("upgrade"), [""; 0]);
}

#[tokio::test]
async fn bytes_behind_an_answer_are_nobodys_answer() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for head in [
        "200 OK\r\nContent-Length: 2\r\n\r\nok",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "204 No Content\r\n\r\n",
        "304 Not Modified\r\n\r\n",
    ] {
        for _ in 0..5 {
            rig.api.script().push(raw_and_hold(format!("HTTP/1.1 {head}{POISON}")));
            assert!(matches!(app.get("/x").await.status, 200 | 204 | 304));
            let next = app.get("/next").await;
            assert_eq!((next.status, next.json()["path"].as_str()), (200, Some("/next")), "{head}");
        }
        // Later, the connection is closed for it; a new one is made when it is needed.
        let text = bytes(format!("HTTP/1.1 {head}"));
        rig.api.restart().await.unwrap();
        rig.api.script().push(Answer::Raw(vec![
            text,
            Step::Pause(Duration::from_millis(50)),
            bytes(POISON),
            Step::Hold,
        ]));
        assert!(matches!(app.get("/x").await.status, 200 | 204 | 304));
        eventually("the connection is closed", || rig.api.counts().open.now() == 0).await;
        assert_eq!(app.get("/next").await.json()["path"], "/next", "{head}");
    }
}

#[tokio::test]
async fn an_answer_that_has_no_body_gets_none() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    rig.api.script().push(raw_and_hold("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra"));
    app.send(app.head("HEAD /x HTTP/1.1")).await;
    assert_eq!(app.answer_to_head().await.header("content-length"), Some("5"));
    for status in ["204 No Content", "304 Not Modified"] {
        rig.api.script().push(raw_and_hold(format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nextra")));
        let answer = app.get("/x").await;
        assert_eq!((answer.status.to_string().as_str(), answer.body.len()), (&status[..3], 0));
    }
    assert_eq!(app.get("/next").await.json()["path"], "/next");
    rig.api.script().push(Answer::status(200).body("honest"));
    app.send(app.head("HEAD /x HTTP/1.1")).await;
    assert_eq!(app.answer_to_head().await.header("content-length"), Some("6"));
    assert_eq!(app.get("/next").await.json()["path"], "/next");
}

#[tokio::test]
async fn an_incomplete_answer_stays_incomplete() {
    let rig = Rig::ready(Options::default()).await;
    for ending in [None, Some(Step::Cut), Some(Step::Reset)] {
        for (head, body) in [
            ("Content-Length: 10", "abc"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
            ("Transfer-Encoding: chunked", "5\r\nabc"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\nzz\r\n"),
        ] {
            let said = bytes(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
            // What came before a reset is not lost on the way.
            let steps = [said, Step::Pause(Duration::from_millis(50))].into_iter().chain(ending.clone()).collect();
            rig.api.script().push(Answer::Raw(steps));
            let mut app = rig.app().await;
            let answer = app.get("/x").await;
            assert_eq!((answer.status, answer.complete), (200, false), "{head} {body:?} {ending:?}");
            assert!(app.is_closed().await);
        }
    }
    // Without a length the end of the connection is the end, if TLS says that it is one.
    let text = "HTTP/1.1 200 OK\r\n\r\nabc";
    for (ending, complete) in [(vec![], true), (vec![Step::Cut], false), (vec![Step::Reset], false)] {
        let steps = [bytes(text), Step::Pause(Duration::from_millis(50))].into_iter().chain(ending.clone()).collect();
        rig.api.script().push(Answer::Raw(steps));
        let answer = rig.get("/x").await;
        assert_eq!((answer.status, answer.complete), (200, complete), "{ending:?}");
        assert!(!complete || answer.text() == "abc");
    }
}

#[tokio::test]
async fn an_answer_of_unknown_length_reaches_an_http_1_0_app() {
    let rig = Rig::ready(Options::default()).await;
    rig.api.script().push(Answer::status(200).body("abc").body("def").chunked());
    let mut app = rig.app().await;
    app.send("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let answer = app.answer().await;
    assert_eq!((answer.text(), answer.header("transfer-encoding")), ("abcdef", None));
    assert!(app.is_closed().await);
    // Cut short, it does not end like a whole one.
    rig.api.script().push(Answer::status(200).body("abc").piece(Piece::Cut).chunked());
    let mut app = rig.app().await.into_stream();
    app.write_all(b"GET /x HTTP/1.0\r\n\r\n").await.unwrap();
    let end = in_time(app.read_to_end(&mut Vec::new())).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_body_of_any_method_arrives_whole() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for method in ["GET", "DELETE", "OPTIONS", "POST", "PUT", "PATCH", "QUERY"] {
        for (framing, body) in
            [("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"), ("Content-Length: 5", "hello")]
        {
            app.send(app.head(&format!("{method} /x HTTP/1.1\n{framing}"))).await;
            app.send(body).await;
            assert_eq!(app.answer().await.status, 200, "{method} {framing}");
            let seen = last(&rig);
            assert_eq!(
                (seen.body_len, seen.method.as_str(), seen.body_sha256.is_some()),
                (5, method, true),
                "{framing}"
            );
        }
    }
    app.send(app.head("HEAD /x HTTP/1.1\nTransfer-Encoding: chunked")).await;
    app.send("5\r\nhello\r\n0\r\n\r\n").await;
    assert_eq!(app.answer_to_head().await.status, 200);
    assert_eq!(last(&rig).body_len, 5);
}

#[tokio::test]
async fn hints_before_an_answer_are_passed_over() {
    let rig = Rig::ready(Options::default()).await;
    let hints =
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    rig.api.script().push(raw_and_hold(hints.repeat(30) + POISON));
    let answer = rig.get("/x").await;
    assert_eq!((answer.status, answer.text()), (200, "poison"));
}

#[tokio::test]
async fn hints_without_end_are_no_answer() {
    let rig = Rig::ready(Options { route: "timeouts: {headers: 300ms}", ..Options::default() }).await;
    let hint = [bytes("HTTP/1.1 103 Early Hints\r\n\r\n"), Step::Pause(Duration::from_millis(10))];
    rig.api.script().push(Answer::Raw(hint.into_iter().cycle().take(20_000).collect()));
    let answer = rig.get("/x").await;
    assert_eq!((answer.status, answer.reason().as_str()), (504, "upstream_timeout"));
}

#[tokio::test]
async fn a_malformed_head_is_a_bad_upstream() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(300 * 1024));
    for head in [
        "garbage\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
        &long,
    ] {
        rig.api.script().push(raw_and_hold(head));
        let answer = app.get("/x").await;
        let shown = &head[..head.len().min(80)];
        assert_eq!((answer.status, answer.reason().as_str()), (502, "bad_upstream"), "{shown:?}");
    }
    assert_eq!(app.get("/next").await.status, 200, "the app's connection goes on");
    assert_eq!(targets(&rig).len(), 16, "none was sent twice");
    assert!(!rig.proxy.said().contains("garbage"), "a peer's bytes are not told");
}

#[tokio::test]
async fn no_answer_at_all_is_told_as_such() {
    let rig = rig_with(|rig| format!("routes:\n{}", route(rig, "api", "", ""))).await;
    for answer in [Answer::close(), Answer::reset(), Answer::raw("HTTP/1.1 200 OK\r\nContent-Le")] {
        rig.api.script().push(answer);
        // A fresh connection each time: one that served before would be given a second chance.
        let before = targets(&rig).len();
        let mut app = rig.app().await;
        app.send(app.head("POST /x HTTP/1.1\nContent-Length: 0")).await;
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_reset"));
        assert_eq!(targets(&rig).len(), before + 1);
    }
}
