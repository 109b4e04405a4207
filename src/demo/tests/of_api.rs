//! The API: what it checks, what it tells, and what its script can make it do.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{PATIENCE, World, answer, client, exchange};
use crate::demo::answer::{Answer, Latch, Piece};
use crate::demo::api::{Api, Settings, Verdict};
use crate::demo::certs::Ca;
use crate::secret::Fingerprint;

#[tokio::test]
async fn a_fresh_token_is_let_in_and_what_arrived_is_told() {
    let world = World::new().await;
    let token = world.token().await;
    let request = world.client.post(format!("{}/a%2Fb?q=%20&x", world.api.url()));
    let (status, echo) = answer(request.bearer_auth(&token).header("x-one", "1").body("hello")).await;
    assert_eq!((status, &echo["method"], &echo["path"]), (200, &json!("POST"), &json!("/a%2Fb?q=%20&x")));
    assert_eq!((&echo["host"], &echo["body_length"]), (&json!(world.api.url()[8..]), &json!(5)));
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(echo["body_sha256"], sha256);
    let headers = echo["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["x-one", "1"])));
    let fingerprint = Fingerprint::of(token.as_bytes());
    assert!(headers.contains(&json!(["authorization", format!("Bearer {fingerprint}")])));

    let seen = &world.api.requests()[0];
    assert!(!format!("{seen:?}{echo}").contains(&token));
    assert_eq!((seen.verdict, seen.token_expired, seen.authorization_lines), (Verdict::Good, false, 1));
    assert_eq!(seen.token_fingerprint, Some(fingerprint));
    assert_eq!((seen.body_len, seen.body_sha256.as_deref()), (5, Some(sha256)));
    assert_eq!((seen.status, seen.header("X-One"), seen.connection_id), (Some(200), vec!["1"], 1));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_credential_is_refused_and_named() {
    let world = World::new().await;
    let audience = "https://api.example.test";
    let mint = |audience, life| world.provider.mint("reports", audience, Duration::from_secs(life)).unwrap();
    let foreign = World::new().await.token().await;
    let cases = [
        (Some(format!("Bearer {}", mint(audience, 20))), 200, Verdict::Good),
        (Some(format!("Bearer {}", mint(audience, 0))), 401, Verdict::Expired),
        (Some(format!("Bearer {}", mint("https://other.example", 20))), 401, Verdict::WrongAudience),
        (Some(format!("Bearer {foreign}")), 401, Verdict::Forged),
        (Some("Bearer opaque".to_owned()), 401, Verdict::Forged),
        (Some("Bearer a, Bearer b".to_owned()), 401, Verdict::Malformed),
        (Some("Basic YTpi".to_owned()), 401, Verdict::Malformed),
        (None, 401, Verdict::Missing),
    ];
    for (credential, status, verdict) in cases {
        let mut request = world.client.get(world.api.url());
        if let Some(credential) = &credential {
            request = request.header("authorization", credential);
        }
        let response = request.send().await.unwrap();
        let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((response.status().as_u16(), challenge.is_some()), (status, status == 401), "{verdict:?}");
        let names_an_error = challenge.is_some_and(|challenge| challenge.contains("error=\"invalid_token\""));
        assert_eq!(names_an_error, status == 401 && credential.is_some(), "{verdict:?}");
        assert_eq!(world.api.requests().last().unwrap().verdict, verdict);
    }
    assert_eq!((world.api.count(), world.api.count_of(Verdict::Expired)), (8, 1));

    let twice = world.get("/", "a").header("authorization", "Bearer b");
    assert_eq!(answer(twice).await.0, 400);
    let seen = world.api.requests().pop().unwrap();
    assert_eq!((seen.authorization_lines, seen.verdict), (2, Verdict::Doubled));
}

#[tokio::test]
async fn a_good_token_can_be_revoked_and_an_opaque_one_accepted() {
    let world = World::new().await;
    let token = world.token().await;
    let name = Fingerprint::of(token.as_bytes());
    let get = async |token: &str| answer(world.get("/", token)).await.0;
    world.api.reject_times(name, 2);
    assert_eq!((get(&token).await, get(&token).await, get(&token).await), (401, 401, 200));
    world.api.reject(name);
    assert_eq!((get(&token).await, get(&token).await), (401, 401));
    assert_eq!(world.api.requests().last().unwrap().verdict, Verdict::Rejected);
    world.api.forgive(name);
    assert_eq!(get(&token).await, 200);
    world.api.accept("opaque");
    assert_eq!(get("opaque").await, 200);
}

#[tokio::test]
async fn rules_go_before_the_queue() {
    let world = World::new().await;
    let token = world.token().await;
    let script = world.api.script();
    script.push(Answer::status(204));
    script.push(Answer::edit(|echo| echo.retain(|name, _| name == "path")));
    script.when(|request| (request.uri.path() == "/teapot").then(|| Answer::status(418).into()));
    assert_eq!(answer(world.get("/teapot", &token)).await.0, 418);
    assert_eq!(answer(world.get("/", "nonsense")).await.0, 204);
    assert_eq!(answer(world.get("/p", &token)).await, (200, json!({"path": "/p"})));
    assert_eq!(answer(world.get("/teapot", &token)).await.0, 418);
}

#[tokio::test]
async fn a_body_can_be_cut_in_the_middle() {
    let world = World::new().await;
    for sized in [true, false] {
        let canned = Answer::status(200).body("half");
        let canned = if sized { canned.header("content-length", "8") } else { canned };
        world.api.script().push(canned.piece(Piece::Cut));
        let response = world.get("/", "").send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.content_length()), (200, sized.then_some(8)));
        assert!(response.text().await.is_err(), "sized: {sized}");
    }
}

#[tokio::test]
async fn a_body_can_stall_and_trail() {
    let world = World::new().await;
    let pause = Piece::Pause(Duration::from_millis(30));
    world.api.script().push(Answer::status(200).body("a").piece(pause).piece(Piece::Send("b".into())));
    let asked = Instant::now();
    let response = world.get("/", "").send().await.unwrap();
    assert_eq!(response.content_length(), Some(2));
    assert_eq!(response.text().await.unwrap(), "ab");
    assert!(asked.elapsed() >= Duration::from_millis(30));

    world.api.script().push(Answer::status(200).body("a").piece(Piece::Stall));
    let mut response = world.get("/", "").send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "a");
    assert!(tokio::time::timeout(Duration::from_millis(20), response.chunk()).await.is_err());

    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("16"))]);
    world.api.script().push(Answer::status(200).body("a").piece(Piece::Trailers(trailers)));
    let get = "GET / HTTP/1.1\r\nhost: localhost\r\nte: trailers\r\nconnection: close\r\n\r\n";
    let (answer, _) = exchange(&mut world.connect().await, get).await;
    assert!(answer.ends_with("\r\n1\r\na\r\n0\r\ngrpc-status: 16\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn bodies_are_seen_as_they_come() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    world.api.script().push(Answer::Mirror);
    let mut stream = world.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"3\r\nabc\r\n").await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"3\r\nabc\r\n") {
        tokio::time::timeout(PATIENCE, stream.read_buf(&mut read)).await.unwrap().unwrap();
    }
    let seen = world.api.requests().remove(0);
    assert_eq!((seen.body_len, seen.body_sha256, seen.verdict), (3, None, Verdict::Missing));
    stream.write_all(b"0\r\nx-sum: 1\r\n\r\n").await.unwrap();
    while !read.ends_with(b"0\r\n\r\n") {
        tokio::time::timeout(PATIENCE, stream.read_buf(&mut read)).await.unwrap().unwrap();
    }
    let seen = world.api.requests().remove(0);
    assert!(seen.body_sha256.is_some() && !seen.body_cut);
    assert_eq!(seen.trailers.unwrap()["x-sum"], "1");
}

#[tokio::test]
async fn a_request_cut_short_is_noticed() {
    use tokio::io::AsyncWriteExt;
    let world = World::new().await;
    let mut stream = world.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    world.api.wait_for(1, PATIENCE).await.unwrap();
    drop(stream);
    let cut = async {
        while !world.api.requests()[0].body_cut {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.unwrap();
    assert_eq!(world.api.requests()[0].body_len, 4);
}

#[tokio::test]
async fn answers_can_be_held_until_told() {
    let world = World::new().await;
    let latch = Latch::new();
    world.api.script().always(Answer::status(200).body("ok").held_by(&latch));
    let requests: Vec<_> = (0..50).map(|_| tokio::spawn(world.get("/", "").send())).collect();
    world.api.wait_for(50, PATIENCE).await.unwrap();
    assert_eq!(world.api.counts().in_flight.now(), 50);
    latch.open();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "ok");
    }
    assert_eq!((world.api.counts().in_flight.peak(), world.api.counts().accepted()), (50, 50));
}

#[tokio::test]
async fn loads_are_counted_without_being_logged() {
    let world = World::new().await;
    let token = world.token().await;
    world.api.set_logging(false);
    world.api.script().always(Answer::status(200).body("ok"));
    for _ in 0..50 {
        let request = world.client.post(world.api.url()).bearer_auth(&token).body("body");
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), "ok");
    }
    assert_eq!((world.api.count(), world.api.count_of(Verdict::Good), world.api.body_bytes()), (50, 50, 200));
    assert!(world.api.requests().is_empty());
    assert_eq!((world.api.counts().in_flight.peak(), world.api.counts().accepted()), (1, 1));
}

#[tokio::test]
async fn it_can_be_plain_and_open_and_of_another_header() {
    let settings = Settings { header: "x-api-token".parse().unwrap(), scheme: String::new(), ..Settings::plain() };
    let api = Api::start(settings).await.unwrap();
    assert!(api.addr().ip().is_loopback());
    let client = client(&Ca::new().unwrap());
    let (status, echo): (u16, Value) = answer(client.get(api.url()).header("x-api-token", "opaque")).await;
    let shown = Fingerprint::of(b"opaque").to_string();
    assert_eq!((status, echo["headers"].as_array().unwrap().contains(&json!(["x-api-token", shown]))), (200, true));
    assert_eq!(answer(client.get(api.url())).await.0, 200);
}
