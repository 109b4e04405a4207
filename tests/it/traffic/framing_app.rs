//! Framing towards the app: a message that two parsers could cut differently reaches the API as one request, or not at
//! all, and ends the connection.

use super::targets;
use crate::support::{API, App, Options, Rig};

/// What stands behind a message that is to be cut short; it must never arrive.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Reads answers until the connection ends; their statuses.
async fn statuses(app: &mut App) -> Vec<u16> {
    let heard = app.hears_until_end().await;
    let heard = String::from_utf8_lossy(&heard);
    heard
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer.split(' ').next().unwrap().parse().unwrap())
        .filter(|status| *status != 100)
        .collect()
}

/// A head that is refused by its looks, whatever stands behind it.
async fn all_refused(rig: &Rig, messages: &[&[u8]]) {
    for message in messages {
        let mut app = rig.app().await;
        app.send(message).await;
        app.send(SMUGGLED).await;
        let shown = String::from_utf8_lossy(message);
        let statuses = statuses(&mut app).await;
        // hyper has no answer to a preface of HTTP/2, and calls a length beyond all numbers too large.
        assert!(matches!(statuses[..], [] | [400 | 431]), "{statuses:?} to {shown:?}");
        assert!(rig.api.requests().is_empty(), "{shown:?}: {:?}", targets(rig));
    }
}

#[tokio::test]
async fn a_malformed_line_is_refused_and_ends_the_connection() {
    let rig = Rig::ready(Options::default()).await;
    all_refused(
        &rig,
        &[
            b"GET /x HTTP/1.1\r\nHost : localhost\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost\t: localhost\r\n\r\n",
            b"GET /x HTTP/1.1\r\n Host: localhost\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\x7fb\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\x01b\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nX\0: a\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nnocolon\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\n: empty\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\n:\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\n\xc3\xa9: x\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\n\xa0X: x\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nX Y: x\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_malformed_request_line_is_refused_and_ends_the_connection() {
    let rig = Rig::ready(Options::default()).await;
    all_refused(
        &rig,
        &[
            b"GET /x HTTP/1.2\r\nHost: localhost\r\n\r\n",
            b"GET /x HTTP/2.0\r\nHost: localhost\r\n\r\n",
            b"GET /x HTTP/0.9\r\nHost: localhost\r\n\r\n",
            b"GET /x HTTP/1.10\r\nHost: localhost\r\n\r\n",
            b"GET /x HTTP/01.1\r\nHost: localhost\r\n\r\n",
            b"GET /x http/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /x HTTP/1.1x\r\nHost: localhost\r\n\r\n",
            b"GET /x xHTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /x\r\nHost: localhost\r\n\r\n",
            b"GET  /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /x y HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /x\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET\t/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GE(T /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /x\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET http:// HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET http:///x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_body_of_doubtful_length_is_refused_and_ends_the_connection() {
    let rig = Rig::ready(Options::default()).await;
    let framings: [&[u8]; 26] = [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 6\r\nContent-Length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: 5, 6",
        b"Content-Length: +2",
        b"Content-Length: +1_0",
        b"Content-Length: -1",
        b"Content-Length: 0x5",
        b"Content-Length: 1Z",
        b"Content-Length: 5 0",
        b"Content-Length:",
        b"Content-Length: \r\nContent-Length: 5",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 18446744073709551615",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\nTransfer-Encoding: gzip, chunked",
    ];
    for framing in framings {
        let head = [b"POST /x HTTP/1.1\r\nHost: localhost\r\n", framing, b"\r\n\r\n0\r\n\r\n"].concat();
        all_refused(&rig, &[&head]).await;
    }
    all_refused(&rig, &[b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]).await;
}

/// RFC 9112, 6.3: Transfer-Encoding overrides Content-Length, and the connection ends behind the request.
#[tokio::test]
async fn a_length_beside_chunks_is_dropped_and_nothing_behind_is_read() {
    let rig = Rig::ready(Options::default()).await;
    for framing in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "transfer-encoding: Chunked\r\nContent-Length: 48"]
    {
        rig.api.log().clear();
        let mut app = rig.app().await;
        app.send(format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{SMUGGLED}"))
            .await;
        assert_eq!(statuses(&mut app).await, [200], "{framing}");
        let [seen] = &rig.api.requests()[..] else { panic!("{:?}", targets(&rig)) };
        assert_eq!((seen.target.as_str(), seen.body_len), ("/x", 3), "{framing}");
        assert_eq!((seen.header("content-length").len(), seen.header("transfer-encoding")), (0, vec!["chunked"]));
    }
}

#[tokio::test]
async fn a_length_that_is_read_alike_by_all_is_sent_on_in_one_spelling() {
    let rig = Rig::ready(Options::default()).await;
    for framing in [
        "Content-Length: 10",
        "Content-Length: 010",
        "Content-Length:  10\t",
        "Content-Length: 10\r\nContent-Length: 10",
    ] {
        rig.api.log().clear();
        let mut app = rig.app().await;
        app.send(format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n0123456789")).await;
        assert_eq!(app.answer().await.status, 200, "{framing}");
        let [seen] = &rig.api.requests()[..] else { panic!("{:?}", targets(&rig)) };
        assert_eq!((seen.body_len, seen.header("content-length")), (10, vec!["10"]), "{framing}");
    }
}

#[tokio::test]
async fn a_broken_chunk_completes_no_request() {
    let rig = Rig::ready(Options::default()).await;
    for body in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0_5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\rX0\r\n\r\n",
        "5\rX\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX",
        "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\nzz\r\n\r\n",
    ] {
        rig.api.log().clear();
        let mut app = rig.app().await;
        let body = if body.ends_with('X') { format!("{body}\0\r\n\r\n") } else { body.to_owned() };
        app.send(format!("POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}"))
            .await;
        assert_eq!(statuses(&mut app).await, [400], "{body:?}");
        let seen = rig.api.requests();
        assert!(seen.iter().all(|seen| seen.target == "/x" && seen.body_sha256.is_none()), "{body:?}: {seen:?}");
    }
}

#[tokio::test]
async fn chunks_as_they_should_be_are_one_body() {
    let rig = Rig::ready(Options::default()).await;
    for body in [
        "5\r\nhello\r\n0\r\n\r\n",
        "05;a=b;c=\"d\"\r\nhello\r\n000\r\n\r\n",
        "1\r\nh\r\n4 ;x\r\nello\r\n0\r\nX: trailer\r\n\r\n",
    ] {
        rig.api.log().clear();
        let mut app = rig.app().await;
        app.send(format!("POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        assert_eq!(app.answer().await.status, 200, "{body:?}");
        assert_eq!(app.get("/next").await.status, 200, "{body:?}");
        let seen = rig.api.requests();
        assert_eq!((seen[0].body_len, seen[1].target.as_str(), seen.len()), (5, "/next", 2), "{body:?}");
        assert!(seen[0].trailers.is_none(), "trailers could be credentials");
    }
}

#[tokio::test]
async fn bare_line_feeds_are_one_request_and_arrive_as_proper_lines() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    app.send("GET /x HTTP/1.1\nHost: localhost\nX: y\n\n").await;
    assert_eq!(app.answer().await.status, 200);
    let [seen] = &rig.api.requests()[..] else { panic!("{:?}", targets(&rig)) };
    assert_eq!((seen.target.as_str(), seen.header("x")), ("/x", vec!["y"]));
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_not_the_next_request() {
    let rig = Rig::ready(Options::default()).await;
    for line in ["POST /../x", "TRACE /x", "POST http://evil.test/", &format!("POST http://{API}/")] {
        let mut app = rig.app().await;
        let host = line.split_once("//").map_or("localhost", |(_, rest)| rest.trim_end_matches('/'));
        let host = if host == API { "evil.test" } else { host };
        app.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", SMUGGLED.len() + 100)).await;
        app.send(SMUGGLED).await;
        let statuses = statuses(&mut app).await;
        assert!(matches!(statuses[..], [400 | 403]), "{line}: {statuses:?}");
        assert!(rig.api.requests().is_empty(), "{line}: {:?}", targets(&rig));
    }
}

#[tokio::test]
async fn requests_in_one_go_are_answered_in_order() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    let mut all = String::new();
    for number in 0..20 {
        let path = if number % 5 == 4 { "../" } else { "" };
        all += &format!("POST /{path}{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab");
        all += &format!("GET /get{number} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    app.send(all).await;
    let mut expected = Vec::new();
    for number in 0..20 {
        let answer = app.answer().await;
        if number % 5 == 4 {
            assert_eq!(answer.reason(), "bad_path");
            // Its body is known to be there, so nothing forces an end; whatever is served is served in order.
        } else {
            assert_eq!(answer.json()["path"], format!("/{number}"));
            expected.push(format!("/{number}"));
        }
        assert_eq!(app.answer().await.json()["path"], format!("/get{number}"));
        expected.push(format!("/get{number}"));
    }
    assert_eq!(targets(&rig), expected);
}
