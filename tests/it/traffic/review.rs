//! What a review found, each named after what happened.

use std::time::Duration;

use bearerd::demo::answer::Answer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{accepted, read_until, rig_to_bytes};
use crate::support::{Options, PATIENCE, Rig, eventually};

/// The body outgrew what is kept while the renewal was waited for, and the second attempt began in its middle.
#[tokio::test]
async fn an_upload_that_outgrows_the_limit_during_the_renewal_is_not_sent_again_without_its_beginning() {
    let (rig, upstream) = rig_to_bytes("").await;
    // Late enough for the first attempt to read on, and longer than the least distance between two token requests.
    rig.provider.script().push(Answer::Serve.after(Duration::from_secs(2)));
    let mut app = rig.app().await;
    app.send(app.head("POST /x HTTP/1.1\nTransfer-Encoding: chunked")).await;
    app.send("5\r\nBEGIN\r\n").await;
    let mut first = accepted(&upstream).await;
    read_until(&mut first, "BEGIN\r\n").await;
    first.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nno!!").await.unwrap();
    rig.proxy.until_said("an upstream did not take token 1").await;
    let piece = format!("3e8\r\n{}\r\n", "x".repeat(1_000));
    for _ in 0..100 {
        app.send(&piece).await;
    }
    let mut read = 0;
    let mut buffer = vec![0; 65_536];
    while read < 100_000 {
        read += first.read(&mut buffer).await.unwrap();
    }
    rig.provider.wait_for(2, PATIENCE).await.unwrap();
    let answer = app.answer().await;
    assert_eq!((answer.status, answer.text()), (401, "no!!"), "the API's own word");
    let again = tokio::time::timeout(Duration::from_millis(300), upstream.accept()).await;
    assert!(again.is_err(), "nothing was sent again");
}

#[tokio::test]
async fn a_request_is_sent_once_more_and_not_twice_more() {
    let token = "refresh: {after_401: 1s, min_interval: 100ms}";
    let rig = Rig::ready(Options { token, ..Options::default() }).await;
    rig.api.script().always(Answer::status(401));
    assert_eq!(rig.app().await.ask("POST /x HTTP/1.1\nContent-Length: 0").await.status, 401);
    assert_eq!(rig.api.count(), 2);
}

#[tokio::test]
async fn a_length_that_is_written_twice_is_written_anew() {
    let (rig, upstream) = rig_to_bytes("").await;
    for (length, body) in [("2, 2", "ok"), ("2\r\nContent-Length: 2", "ok"), ("02", "ok")] {
        let mut app = rig.app().await;
        app.send(app.head("GET /x HTTP/1.1\nConnection: close")).await;
        let mut api = accepted(&upstream).await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        api.write_all(answer.as_bytes()).await.unwrap();
        let answer = app.answer().await;
        assert_eq!((answer.header("content-length"), answer.text()), (Some("2"), body), "{length}");
    }
}

#[tokio::test]
async fn a_method_of_the_apps_own_making_does_not_fill_the_log() {
    let rig = Rig::ready(Options::default()).await;
    let method = "EVIL-".repeat(8_000);
    rig.app().await.ask(&format!("{method} /x HTTP/1.1\nContent-Length: 0")).await;
    rig.proxy.until_said("other by api").await;
    assert!(!rig.proxy.said().contains("EVIL"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_told_and_counted() {
    let (rig, upstream) = rig_to_bytes("").await;
    let mut app = rig.app().await;
    app.send(app.head("GET /x HTTP/1.1")).await;
    let mut api = accepted(&upstream).await;
    api.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok").await.unwrap();
    api.shutdown().await.unwrap();
    assert!(!app.answer().await.complete);
    rig.proxy.until_said("127.0.0.1: the upstream broke off its answer").await;
    let metrics = rig.proxy.page("/metrics").await;
    assert!(metrics.text().contains("bearerd_refused_total{reason=\"upstream_reset\"} 1"), "{}", metrics.text());
}

#[tokio::test]
async fn a_tunnel_is_refused_with_what_to_do_instead() {
    let rig = Rig::ready(Options::default()).await;
    let answer = rig.app().await.ask("CONNECT api.example.test:443 HTTP/1.1\nHost: api.example.test:443").await;
    assert_eq!(answer.reason(), "no_route");
    assert!(answer.text().contains("ask for http://"), "{}", answer.text());
    rig.proxy.until_said("CONNECT, which a proxy client sends for an https:// URL").await;
}

/// One-byte chunks cost forty times their bytes to keep.
#[tokio::test]
async fn a_body_in_tiny_pieces_is_not_kept_beyond_its_limit() {
    let (rig, upstream) = rig_to_bytes("").await;
    let mut app = rig.app().await;
    app.send(app.head("POST /x HTTP/1.1\nTransfer-Encoding: chunked")).await;
    let mut api = accepted(&upstream).await;
    let body = "1\r\nx\r\n".repeat(20_000);
    let (app, ()) = tokio::join!(
        async {
            app.send(&body).await;
            app
        },
        async {
            // Some twenty thousand pieces have gone out when this much has come.
            let mut read = 0;
            let mut buffer = vec![0; 65_536];
            while read < 20_000 {
                read += api.read(&mut buffer).await.unwrap();
            }
        }
    );
    let mut app = app;
    api.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(app.answer().await.status, 401, "it was not kept, so it is not sent again");
    eventually("the renewal was asked for", || rig.provider.count() == 2).await;
}

/// One of hundreds of uploads was sent into a connection that was about to close, and had no answer at all.
#[tokio::test]
async fn an_upload_that_is_refused_is_told_whether_its_connection_ends() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    app.send(app.head("POST /%2e%2e/x HTTP/1.1\nContent-Length: 300000")).await;
    let answer = app.answer().await;
    assert_eq!((answer.reason().as_str(), answer.header("connection")), ("bad_path", Some("close")));

    let mut app = rig.app().await;
    let whole = app.head("POST /%2e%2e/x HTTP/1.1\nContent-Length: 4") + "body";
    app.send(whole).await;
    let answer = app.answer().await;
    assert_eq!((answer.reason().as_str(), answer.header("connection")), ("bad_path", None));
    assert_eq!(app.get("/next").await.status, 200, "what was there is read, and the connection goes on");
}
