//! Framing towards the API: an answer that two parsers could cut differently is served in one way or refused, what is
//! incomplete is never passed off as whole, and no connection in doubt carries another request. What single answers may
//! look like is in `tests/corpus`.

use std::time::Duration;

use bearerd::demo::answer::{Answer, Piece};
use bearerd::demo::steps::Step;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{in_time, last, rig_with, route, targets};
use crate::support::{Options, Rig, eventually};

fn bytes(text: impl Into<String>) -> Step {
    Step::Send(text.into().into())
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

/// Those that come with it are in the corpus; these come later, while the connection is idle.
#[tokio::test]
async fn bytes_long_after_an_answer_are_nobodys_answer() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for head in [
        "200 OK\r\nContent-Length: 2\r\n\r\nok",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "204 No Content\r\n\r\n",
        "304 Not Modified\r\n\r\n",
    ] {
        rig.api.script().push(Answer::Raw(vec![
            bytes(format!("HTTP/1.1 {head}")),
            Step::Pause(Duration::from_millis(50)),
            bytes("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
            Step::Hold,
        ]));
        assert!(matches!(app.get("/x").await.status, 200 | 204 | 304));
        // A new one is made when it is needed.
        eventually("the connection is closed", || rig.api.counts().open.now() == 0).await;
        assert_eq!(app.get("/next").await.json()["path"], "/next", "{head}");
        rig.api.restart().await.unwrap();
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
async fn hints_without_end_are_no_answer() {
    let rig = Rig::ready(Options { route: "timeouts: {headers: 300ms}", ..Options::default() }).await;
    let hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
    // A few in time, and as many as the connection takes.
    let slow = [bytes(hint), Step::Pause(Duration::from_millis(10))].into_iter().cycle().take(20_000).collect();
    let fast = vec![bytes(hint.repeat(40_000)); 10_000];
    for steps in [slow, fast] {
        rig.api.script().push(Answer::Raw(steps));
        let answer = rig.get("/x").await;
        assert_eq!((answer.status, answer.reason().as_str()), (504, "upstream_timeout"));
        eventually("the connection is closed", || rig.api.counts().open.now() == 0).await;
    }
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
