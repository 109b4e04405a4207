//! What stands behind a body: it arrives, as clean as the head.

use std::fmt::Write as _;

use bearerd::demo::answer::{Answer, Piece};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;

use super::http2_api::rig_to_http2;
use super::{last, read_until};
use crate::support::{Options, Rig, eventually, full, whole};

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Sends `hello` and these trailers, all of them announced; the answer, up to the end of its body.
async fn send(rig: &Rig, head: &str, trailers: &[(&str, &str)]) -> String {
    let (mut announced, mut lines) = (String::new(), String::new());
    for (name, value) in trailers {
        write!(announced, "\nTrailer: {name}").unwrap();
        write!(lines, "{name}: {value}\r\n").unwrap();
    }
    let app = rig.app().await;
    let head = app.head(&format!("{head}\nTransfer-Encoding: chunked{announced}"));
    let mut stream = app.into_stream();
    stream.write_all(format!("{head}5\r\nhello\r\n0\r\n{lines}\r\n").as_bytes()).await.unwrap();
    read_until(&mut stream, "}").await
}

const ROUTE: &str = "headers: {X-Api-Key: ours}\ninject: {header: X-Token, scheme: \"\"}\nallow: [{methods: [POST]}]";

/// What has no place behind a body, or is not the app's to say.
const EVIL: [(&str, &str); 21] = [
    ("Authorization", "Bearer stolen"),
    ("Proxy-Authorization", "Basic c3RvbGVu"),
    ("X-Token", "stolen"),
    ("X_Token", "stolen"),
    ("X-Api-Key", "mine"),
    ("X_Api_Key", "mine"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-Original-URL", "/admin"),
    ("X-Hop", "1"),
    ("Connection", "x-sum"),
    ("Keep-Alive", "timeout=5"),
    ("Host", "evil.test"),
    ("Content-Length", "50"),
    ("Content-Type", "text/html"),
    ("Transfer-Encoding", "identity"),
    ("Cookie", "a=1"),
    ("If-Match", "*"),
    ("Expect", "100-continue"),
    ("TE", "gzip"),
    ("Trailer", "x"),
    ("Upgrade", "websocket"),
];

#[tokio::test]
async fn what_no_header_may_say_no_trailer_says() {
    let rig = Rig::ready(Options { route: ROUTE, ..Options::default() }).await;
    rig.api.script().always(Answer::status(200).body("{}"));
    for (name, value) in EVIL {
        send(&rig, "POST /x HTTP/1.1\nConnection: X-Hop", &[(name, value), ("X-Other", "stays")]).await;
        let seen = last(&rig);
        assert_eq!(seen.trailers, Some(map(&[("x-other", "stays")])), "{name}");
        assert_eq!((seen.header("trailer"), seen.body_len), (vec!["x-other"], 5), "{name}");
        rig.api.log().clear();
    }
}

#[tokio::test]
async fn those_of_a_request_are_sent_again_with_it() {
    let rig = Rig::ready(Options::default()).await;
    rig.api.script().push(Answer::status(401));
    let answer = send(&rig, "POST /x HTTP/1.1", &[("X-Sum", "1"), ("x-sum", "2")]).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    let seen = rig.api.requests();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!((seen.body_len, seen.trailers), (5, Some(map(&[("x-sum", "1"), ("x-sum", "2")]))));
    }
}

#[tokio::test]
async fn those_of_an_answer_reach_an_app_that_takes_them_and_no_other() {
    let rig = Rig::ready(Options::default()).await;
    let trailers = map(&[
        ("x-sum", "1"),
        ("content-digest", "sha-256=:AA==:"),
        ("content-length", "50"),
        ("set-cookie", "a=b"),
        ("location", "https://api.example.test/"),
        ("x-hop", "1"),
    ]);
    let answer = Answer::status(200).header("connection", "x-hop").body("hello").piece(Piece::Trailers(trailers));
    for (te, ours) in [("trailers", true), ("gzip, Trailers", true), ("gzip", false)] {
        rig.api.script().push(answer.clone());
        let app = rig.app().await;
        let head = app.head(&format!("GET /x HTTP/1.1\nTE: {te}"));
        let mut stream = app.into_stream();
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(head.contains("\r\ntrailer: "), ours, "{head}");
        assert!(!head.contains("set-cookie") && !head.contains("x-hop"), "{head}");
        assert_eq!(last(&rig).header("te"), if ours { vec!["trailers"] } else { vec![] }, "{te}");
        let body = read_until(&mut stream, "\r\n\r\n").await;
        let theirs = if ours { "x-sum: 1\r\ncontent-digest: sha-256=:AA==:\r\n" } else { "" };
        assert_eq!(body, format!("5\r\nhello\r\n0\r\n{theirs}\r\n"), "{te}");
        // And the connection to the API serves again.
        stream.write_all(b"GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(read_until(&mut stream, "}").await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(rig.api.counts().accepted(), 1);
    eventually("nothing is in flight", || rig.api.counts().in_flight.now() == 0).await;
}

/// HTTP/2 needs no announcement, so that nothing but our own rules keeps any of them back.
#[tokio::test]
async fn over_http2_they_pass_without_being_announced_and_are_no_less_clean() {
    let rig = rig_to_http2(10, ROUTE).await;
    // These HTTP/2 itself does not let through (RFC 9113, 8.2.2), and there is no Connection to name another.
    let not_there = ["connection", "keep-alive", "transfer-encoding", "te", "upgrade", "x-hop"];
    for (name, value) in EVIL {
        let name = name.to_ascii_lowercase();
        if not_there.contains(&name.as_str()) {
            continue;
        }
        let mut trailers = map(&[("x-other", "stays")]);
        trailers.insert(HeaderName::try_from(&name).unwrap(), HeaderValue::from_static(value));
        let answer = Answer::status(200).body("{}").piece(Piece::Trailers(trailers.clone()));
        rig.api.script().push(answer);
        let mut app = rig.app2().await;
        let body = full("hello").with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync();
        let request = app.request("POST /x\nTE: trailers", body);
        let (answer, trailers) = whole(app.send(request).await.unwrap()).await;
        assert_eq!((answer.status, answer.text(), answer.complete), (200, "{}", true), "{name}");
        let clean = map(&[("x-other", "stays")]);
        assert_eq!((last(&rig).trailers, last(&rig).body_len), (Some(clean.clone()), 5), "{name}");
        assert_eq!(last(&rig).header("te"), ["trailers"]);
        // What is a credential to the API is a word like any other in its answer.
        let ours = ["x-token", "x_token", "x-api-key", "x_api_key", "x-http-method-override", "x-original-url"];
        if !ours.contains(&name.as_str()) {
            assert_eq!(trailers, Some(clean), "{name}");
        }
    }
}
