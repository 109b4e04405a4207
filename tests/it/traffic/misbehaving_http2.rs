//! The same over HTTP/2: what frames say of one answer is told in one word, or cut; nothing incomplete looks whole, and
//! other requests of the connection do not notice where RFC 9113 leaves it standing. (h2 passes over a pseudo-header of
//! requests in an answer, a status in trailers, and 101 before an answer: nothing of them gets any further.)

use tokio::net::{TcpListener, TcpStream};

use super::http2_frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, INTERNAL_ERROR, NO_ERROR, asks, next, rig};
use super::{in_time, rig_to_bytes};
use crate::support::{Answer, Rig};

const CONTINUATION: u8 = 9;

/// A header block of literals that nobody remembers (RFC 7541, 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // One byte holds the length of what these tests say.
            block.push(u8::try_from(text.len()).unwrap());
            assert!(text.len() < 127);
            block.extend(text.bytes());
        }
    }
    block
}

/// A frame on the request's stream.
type Said = (u8, u8, Vec<u8>);

fn head(flags: u8, fields: &[(&str, &str)]) -> Said {
    (HEADERS, END_HEADERS | flags, block(fields))
}

fn data(flags: u8, text: &str) -> Said {
    (DATA, flags, text.into())
}

const OK: (&str, &str) = (":status", "200");

/// Asks, has the upstream say this, and yields what the app got and the upstream's connection.
async fn said(rig: &Rig, upstream: &TcpListener, request: &str, frames: &[Said]) -> (Answer, Frames<TcpStream>) {
    let mut app = rig.app().await;
    app.send(app.head(&format!("{request} /x HTTP/1.1"))).await;
    let mut connection = next(upstream).await;
    let stream = connection.request().await.unwrap();
    for (kind, flags, payload) in frames {
        connection.send(*kind, *flags, stream, payload).await;
    }
    let answer = if request == "HEAD" { app.answer_to_head().await } else { app.answer().await };
    (answer, connection)
}

/// Whether another request of the same connection is served.
async fn goes_on(rig: &Rig, connection: &mut Frames<TcpStream>) -> bool {
    let app = asks(rig, "GET /next HTTP/1.1", "").await;
    match in_time(connection.request()).await {
        None => {
            app.abort();
            false
        }
        Some(stream) => {
            connection.answer(stream).await;
            in_time(app).await.unwrap().status == 200
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_the_apis_fault() {
    for frames in [
        vec![head(0, &[]), data(END_STREAM, "hello")],
        vec![head(END_STREAM, &[("x", "y")])],
        vec![head(END_STREAM, &[(":status", "abc")])],
        vec![head(END_STREAM, &[(":status", "99")])],
        vec![head(END_STREAM, &[(":status", "200"), (":status", "200")])],
        vec![head(END_STREAM, &[("x", "y"), (":status", "200")])],
        vec![head(END_STREAM, &[OK, ("X-Upper", "y")])],
        vec![head(END_STREAM, &[OK, ("connection", "close")])],
        vec![head(END_STREAM, &[OK, ("transfer-encoding", "chunked")])],
        vec![head(END_STREAM, &[OK, ("content-length", "5")])],
        vec![head(END_STREAM, &[OK, ("x", "a\r\nb")])],
        vec![head(END_STREAM, &[(":status", "103")])],
        vec![data(END_STREAM, "hello")],
        vec![data(0, "hello"), head(END_STREAM, &[OK])],
        vec![head(END_STREAM, &[(":status", "101")])],
    ] {
        let (rig, upstream) = rig().await;
        let (answer, _connection) = said(&rig, &upstream, "GET", &frames).await;
        let why = format!("{:?} {}", frames, answer.text());
        assert_eq!(answer.status, 502, "{why}");
        assert!(["bad_upstream", "upstream_reset"].contains(&answer.reason().as_str()), "{why}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_its_head_says_is_cut() {
    let five = ("content-length", "5");
    for (frames, begun) in [
        (vec![head(0, &[OK, five]), data(END_STREAM, "hell")], "hell"),
        (vec![head(0, &[OK, five]), data(0, "hell"), head(END_STREAM, &[("x", "y")])], "hell"),
        (vec![head(0, &[OK, five]), data(END_STREAM, "hello, world")], ""),
        // Trailers without an end, twice, without a whole head.
        (vec![head(0, &[OK]), data(0, "hello"), head(0, &[("x", "y")])], "hello"),
        (vec![head(0, &[OK]), data(0, "hello"), head(0, &[("x", "y")]), head(END_STREAM, &[("x", "y")])], "hello"),
        (vec![head(0, &[OK]), data(0, "hello"), (HEADERS, 0, block(&[("x", "y")])), data(END_STREAM, "!")], "hello"),
    ] {
        let (rig, upstream) = rig().await;
        let (answer, _connection) = said(&rig, &upstream, "GET", &frames).await;
        assert!((answer.status, answer.complete) == (200, false), "{frames:?} {}", answer.text());
        assert!(begun.as_bytes().starts_with(&answer.body), "{frames:?} {}", answer.text());
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_an_answer_cuts_it() {
    for (word, reason) in [("goaway", NO_ERROR), ("goaway", INTERNAL_ERROR), ("end", 0), ("reset", 0)] {
        for length in [Some(("content-length", "10")), None] {
            let (rig, upstream) = rig().await;
            let fields: Vec<_> = std::iter::once(OK).chain(length).collect();
            let mut app = rig.app().await;
            app.send(app.head("GET /x HTTP/1.1")).await;
            let mut connection = next(&upstream).await;
            let stream = connection.request().await.unwrap();
            let (kind, flags, block) = head(0, &fields);
            connection.send(kind, flags, stream, &block).await;
            connection.send(DATA, 0, stream, b"hello").await;
            match word {
                "goaway" => connection.go_away(stream, reason).await,
                "reset" => connection.stream.set_zero_linger().unwrap(),
                _ => {}
            }
            drop(connection);
            let answer = app.answer().await;
            if word == "reset" && answer.status == 502 {
                // It may overtake what was sent before it.
                assert_eq!(answer.reason(), "upstream_reset");
                continue;
            }
            assert_eq!((answer.status, answer.complete), (200, false), "{word} {reason} {length:?}");
            assert!(b"hello".starts_with(&answer.body), "{word} {reason}");
        }
    }
}

#[tokio::test]
async fn a_goodbye_within_an_answer_lets_it_end() {
    let (rig, upstream) = rig().await;
    let app = asks(&rig, "GET /x HTTP/1.1", "").await;
    let mut connection = next(&upstream).await;
    let stream = connection.request().await.unwrap();
    let (kind, flags, block) = head(0, &[OK]);
    connection.send(kind, flags, stream, &block).await;
    connection.send(DATA, 0, stream, b"hel").await;
    connection.go_away(stream, NO_ERROR).await;
    connection.send(DATA, END_STREAM, stream, b"lo").await;
    let answer = in_time(app).await.unwrap();
    assert_eq!((answer.status, answer.text(), answer.complete), (200, "hello", true));
}

/// It says something of nobody's: RFC 9110, 9.3.2, and 8.6.
#[tokio::test]
async fn the_answer_to_head_and_what_has_no_body_end_with_their_heads() {
    for (method, status) in [("HEAD", "200"), ("GET", "204"), ("GET", "304")] {
        for frames in [
            vec![head(0, &[(":status", status)]), data(END_STREAM, "hello")],
            vec![head(0, &[(":status", status), ("content-length", "5")]), data(END_STREAM, "hello")],
            vec![head(END_STREAM, &[(":status", status), ("content-length", "5")])],
            vec![head(0, &[(":status", status)]), data(0, "hello")],
        ] {
            let (rig, upstream) = rig().await;
            let (answer, mut connection) = said(&rig, &upstream, method, &frames).await;
            let is_relayed = answer.status.to_string() == status && answer.body.is_empty();
            assert!(is_relayed || answer.status == 502, "{method} {frames:?} {answer:?}");
            assert!(goes_on(&rig, &mut connection).await, "{method} {frames:?}");
        }
    }
}

#[tokio::test]
async fn hints_without_end_and_heads_without_end_are_given_up() {
    for (first, more) in [
        (head(0, &[(":status", "103")]), head(0, &[(":status", "103")])),
        ((HEADERS, 0, block(&[OK])), (CONTINUATION, 0, block(&[("x", "y")]).repeat(1_000))),
        ((HEADERS, 0, block(&[OK])), (CONTINUATION, 0, Vec::new())),
    ] {
        let (rig, upstream) = rig_to_bytes("http: http2\n    timeouts: {headers: 1s}").await;
        let app = asks(&rig, "GET /x HTTP/1.1", "").await;
        let mut connection = next(&upstream).await;
        let stream = connection.request().await.unwrap();
        let flood = async {
            connection.send(first.0, first.1, stream, &first.2).await;
            loop {
                connection.send(more.0, more.1, stream, &more.2).await;
                tokio::task::yield_now().await;
            }
        };
        let answer = tokio::select! {
            answer = in_time(app) => answer.unwrap(),
            () = flood => unreachable!(),
        };
        assert!(matches!(answer.status, 502 | 504), "{}", answer.text());
    }
}
