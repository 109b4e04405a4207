//! Bodies of requests that were refused: sent again byte for byte, or not at all.

use aws_lc_rs::digest;
use bearerd::demo::answer::Answer;
use bearerd::demo::api::Verdict;
use serde_json::json;

use super::{Bench, newest, renewable};
use crate::support::{PATIENCE, Rig};

async fn ready(renew_on: &str) -> Rig {
    let bench = Bench::new().await;
    let token = bench.usual() + "refresh: {min_interval: 100ms}\n";
    let route = bench.route() + renew_on;
    let rig = bench.run(&[("main", &token)], &[("api", &route)]);
    rig.proxy.until_ready().await;
    renewable(&rig).await;
    rig
}

/// Bytes that look like nothing and are the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(1_000) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

#[tokio::test]
async fn a_body_within_the_limit_is_sent_again_byte_for_byte() {
    for length in [1, 40_000, 64 * 1024] {
        for method in ["POST", "PUT"] {
            for framed in [true, false] {
                let rig = ready("").await;
                rig.api.reject(newest(&rig));
                let body = noise(length);
                let framing =
                    if framed { format!("Content-Length: {length}") } else { "Transfer-Encoding: chunked".into() };
                let mut app = rig.app().await;
                let head = app.head(&format!("{method} /upload HTTP/1.1\n{framing}"));
                app.send(head).await;
                app.send(if framed { body.clone() } else { chunked(&body) }).await;
                let answer = app.answer().await;
                assert_eq!(answer.status, 200, "{length} {framing}: {answer:?}");
                assert_eq!(answer.json()["body_sha256"], sha256(&body), "{length} {framing}");
                let seen = rig.api.requests();
                assert_eq!(seen.len(), 2);
                assert_eq!((seen[0].verdict, seen[1].verdict), (Verdict::Rejected, Verdict::Good));
                assert_eq!(seen[0].body_sha256, seen[1].body_sha256, "{length} {framing}");
                assert_eq!(seen[0].header("content-length"), seen[1].header("content-length"));
                assert_eq!(seen[0].header("transfer-encoding"), seen[1].header("transfer-encoding"));
                assert_eq!(app.get("/next").await.status, 200, "the connection goes on");
            }
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_sent_again_and_the_token_is_renewed_all_the_same() {
    for (limit, length) in
        [("", 64 * 1024 + 1), ("renew_on: {replay_limit: 1KiB}\n", 1_025), ("renew_on: {replay_limit: 0}\n", 1)]
    {
        for framed in [true, false] {
            let rig = ready(limit).await;
            rig.api.reject(newest(&rig));
            let body = noise(length);
            let framing =
                if framed { format!("Content-Length: {length}") } else { "Transfer-Encoding: chunked".into() };
            let mut app = rig.app().await;
            let head = app.head(&format!("POST /upload HTTP/1.1\n{framing}"));
            app.send(head).await;
            app.send(if framed { body.clone() } else { chunked(&body) }).await;
            let answer = app.answer().await;
            assert_eq!(answer.status, 401, "{length} {framing}: {answer:?}");
            assert_eq!(answer.json()["error"], "invalid_token", "the API's own answer");
            assert_eq!(rig.api.requests()[0].body_sha256, Some(sha256(&body)));
            rig.provider.wait_for(2, PATIENCE).await.unwrap();
            rig.proxy.until_said("(an upstream refused the last one)").await;
            crate::support::eventually("the renewed token is there", || super::grants(&rig) == 2).await;
            assert_eq!(app.get("/next").await.status, 200);
            assert_eq!((rig.api.count(), rig.provider.count()), (2, 2));
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_before_its_end_is_sent_again_whole() {
    for framed in [true, false] {
        let rig = ready("").await;
        rig.api.script().push(Answer::json(401, &json!({"error": "invalid_token"})).early());
        let body = noise(48_000);
        let (framing, bytes) = if framed {
            (format!("Content-Length: {}", body.len()), body.clone())
        } else {
            ("Transfer-Encoding: chunked".to_owned(), chunked(&body))
        };
        let mut app = rig.app().await;
        let head = app.head(&format!("POST /upload HTTP/1.1\n{framing}"));
        app.send(head).await;
        app.send(&bytes[..20_000]).await;
        // The second attempt has begun, and the app still sends.
        tokio::select! {
            second = rig.api.wait_for(2, PATIENCE) => drop(second.unwrap()),
            answer = app.answer() => panic!("{framing}: {answer:?}\n{}", rig.proxy.said()),
        }
        app.send(&bytes[20_000..]).await;
        let answer = app.answer().await;
        assert_eq!(answer.status, 200, "{framing}: {answer:?}");
        assert_eq!(answer.json()["body_sha256"], sha256(&body), "{framing}");
        assert_eq!((rig.api.count(), rig.provider.count()), (2, 2));
        assert_eq!(app.get("/next").await.status, 200, "the connection goes on");
    }
}
