//! The provider: who gets a token, and what its script can make it do.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::{NAMES, PATIENCE, World, answer, client};
use crate::demo::answer::{Answer, Piece};
use crate::demo::certs::Ca;
use crate::demo::provider::{BasicDialect, Method, Provider, Settings};
use crate::demo::token::Verdict;
use crate::secret::Fingerprint;

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

#[tokio::test]
async fn basic_and_post_both_get_a_token() {
    let world = World::new().await;
    let (status, reply) = world.ask("reports", "s3cret", &[GRANT, ("scope", "read write")]).await;
    assert_eq!((status, &reply["token_type"], &reply["expires_in"]), (200, &json!("Bearer"), &json!(20)));
    assert_eq!(reply["scope"], "read write");
    let post = [GRANT, ("client_id", "reports"), ("client_secret", "s3cret")];
    let (status, reply) = answer(world.form(&post)).await;
    assert_eq!(status, 200, "{reply}");

    let token = reply["access_token"].as_str().unwrap();
    assert_eq!(world.provider.verifier().verify(token, SystemTime::now()), Verdict::Good);
    let calls = world.provider.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[1].issued, Some(Fingerprint::of(token.as_bytes())));
    assert_eq!(calls[1].client_id.as_deref(), Some("reports"));
    assert_eq!((calls[0].status, calls[0].field("scope")), (Some(200), Some("read write")));
    let printed = format!("{calls:?}");
    assert!(!printed.contains("s3cret") && !printed.contains(token), "{printed}");
}

#[tokio::test]
async fn odd_characters_survive_both_dialects() {
    let (id, secret) = ("app:b@sic", "p+a/s%s:w=r d&~\"x");
    for dialect in [BasicDialect::Form, BasicDialect::Raw] {
        let world = World::with(|settings| {
            settings.basic = dialect;
            settings.clients = vec![(id.into(), secret.into()), ("app".into(), secret.into())];
        })
        .await;
        let (encoded, _) = world.ask(id, secret, &[GRANT]).await;
        assert_eq!(encoded == 200, dialect == BasicDialect::Form);
        let raw = world.form(&[GRANT]).basic_auth("app", Some(secret));
        assert_eq!(answer(raw).await.0 == 200, dialect == BasicDialect::Raw);
        let post = world.form(&[GRANT, ("client_id", id), ("client_secret", secret)]);
        assert_eq!(answer(post).await.0, 200);
    }
}

#[tokio::test]
async fn what_the_rfc_forbids_is_refused() {
    let world = World::new().await;
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], u16, &'static str);
    let cases: [Case; 7] = [
        ("reports", "wrong", &[GRANT], 401, "invalid_client"),
        ("nobody", "s3cret", &[GRANT], 401, "invalid_client"),
        ("reports", "s3cret", &[], 400, "invalid_request"),
        ("reports", "s3cret", &[("grant_type", "")], 400, "invalid_request"),
        ("reports", "s3cret", &[GRANT, GRANT], 400, "invalid_request"),
        ("reports", "s3cret", &[("grant_type", "password")], 400, "unsupported_grant_type"),
        ("reports", "s3cret", &[GRANT, ("client_secret", "s3cret")], 400, "invalid_request"),
    ];
    for (id, secret, form, status, error) in cases {
        let (got, reply) = world.ask(id, secret, form).await;
        assert_eq!((got, reply["error"].as_str()), (status, Some(error)), "{form:?}");
    }
    let json = world.client.post(world.provider.token_url()).header("content-type", "application/json").body("{}");
    assert_eq!(answer(json).await.1["error"], "invalid_request");
    let refused = world.form(&[GRANT]).basic_auth("reports", Some("wrong")).send().await.unwrap();
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    assert_eq!(answer(world.client.get(world.provider.token_url())).await.0, 405);
}

#[tokio::test]
async fn a_provider_may_take_one_method_only() {
    let world = World::with(|settings| settings.only = Some(Method::Post)).await;
    assert_eq!(world.ask("reports", "s3cret", &[GRANT]).await.0, 401);
    let post = world.form(&[GRANT, ("client_id", "reports"), ("client_secret", "s3cret")]);
    assert_eq!(answer(post).await.0, 200);
}

#[tokio::test]
async fn secrets_rotate_while_it_runs() {
    let world = World::new().await;
    let ask = async |secret| world.ask("reports", secret, &[GRANT]).await.0;
    world.provider.set_secrets("reports", &["s3cret", "next"]);
    assert_eq!((ask("s3cret").await, ask("next").await), (200, 200));
    world.provider.set_secrets("reports", &["next"]);
    assert_eq!((ask("s3cret").await, ask("next").await), (401, 200));
    world.provider.set_secrets("reports", &[]);
    assert_eq!(ask("next").await, 401);
    let secrets: Vec<_> = world.provider.calls().iter().map(|call| call.secret).collect();
    assert_eq!(secrets[1], Some(Fingerprint::of(b"next")));
}

#[tokio::test]
async fn discovery_is_found_in_both_places() {
    let world = World::with(|settings| settings.path = "/tenant".into()).await;
    let port = world.provider.addr().port();
    let issuer = format!("https://localhost:{port}/tenant");
    assert_eq!(world.provider.issuer(), issuer);
    let places = [
        format!("{issuer}/.well-known/openid-configuration"),
        format!("https://localhost:{port}/.well-known/oauth-authorization-server/tenant"),
    ];
    for place in places {
        let (status, document) = answer(world.client.get(&place)).await;
        assert_eq!((status, document["issuer"].as_str()), (200, Some(issuer.as_str())), "{place}");
        assert_eq!(document["token_endpoint"], world.provider.token_url());
        let (_, keys) = answer(world.client.get(document["jwks_uri"].as_str().unwrap())).await;
        assert_eq!(keys["keys"][0]["crv"], "P-256");
    }
    assert_eq!(world.provider.discoveries().len(), 2);
    let misplaced = format!("https://localhost:{port}/.well-known/openid-configuration");
    assert_eq!(answer(world.client.get(misplaced)).await.0, 404);

    world.provider.discovery_script().push(Answer::edit(|document| {
        document.insert("issuer".into(), "https://evil.example".into());
    }));
    let (_, document) = answer(world.client.get(format!("{issuer}/.well-known/openid-configuration"))).await;
    assert_eq!(document["issuer"], "https://evil.example");
}

#[tokio::test]
async fn tokens_name_whom_they_are_for() {
    let world = World::new().await;
    let form = [GRANT, ("resource", "https://a.example"), ("resource", "https://b.example")];
    let (_, reply) = world.ask("reports", "s3cret", &form).await;
    let token = reply["access_token"].as_str().unwrap();
    let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap();
    assert_eq!(claims["aud"], json!(["https://a.example", "https://b.example"]));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 20);
    let verifier = world.provider.verifier();
    assert_eq!(verifier.verify(token, SystemTime::now()), Verdict::WrongAudience);
    assert_eq!(verifier.for_audience("https://b.example").verify(token, SystemTime::now()), Verdict::Good);
    let other = World::new().await.token().await;
    assert_eq!(verifier.verify(&other, SystemTime::now()), Verdict::Forged);
}

#[tokio::test]
async fn a_token_expires_to_the_millisecond() {
    let world = World::with(|settings| settings.life = Duration::from_millis(1500)).await;
    let before = SystemTime::now();
    let (_, reply) = world.ask("reports", "s3cret", &[GRANT]).await;
    let after = SystemTime::now();
    assert_eq!(reply["expires_in"], 1.5);
    let (token, verifier) = (reply["access_token"].as_str().unwrap(), world.provider.verifier());
    assert_eq!(verifier.verify(token, before + Duration::from_millis(1498)), Verdict::Good);
    assert_eq!(verifier.verify(token, after + Duration::from_millis(1500)), Verdict::Expired);
}

#[tokio::test]
async fn the_script_is_followed_in_order() {
    let world = World::new().await;
    let script = world.provider.script();
    script.always(Answer::json(503, &json!({"error": "temporarily_unavailable"})));
    script.push(Answer::status(429).header("retry-after", "7").body("Too Many Requests"));
    script.push(Answer::edit(|reply| {
        reply.insert("expires_in".into(), "3600".into());
        reply.remove("token_type");
    }));
    script.push(Answer::json(200, &json!({"access_token": "opaque", "token_type": "bearer"})));
    let ask = async || world.ask("reports", "s3cret", &[GRANT]).await;
    assert_eq!(ask().await.0, 429);
    let (_, edited) = ask().await;
    assert_eq!((&edited["expires_in"], edited.get("token_type")), (&json!("3600"), None));
    assert_eq!(ask().await.1["access_token"], "opaque");
    assert_eq!(script.left(), 0);
    assert_eq!((ask().await.0, ask().await.0), (503, 503));
    script.clear();
    assert_eq!(ask().await.0, 200);

    let calls = world.provider.calls();
    let statuses: Vec<_> = calls.iter().map(|call| call.status.unwrap()).collect();
    assert_eq!(statuses, [429, 200, 200, 503, 503, 200]);
    assert_eq!(calls[2].issued, Some(Fingerprint::of(b"opaque")));
    assert!(calls[0].issued.is_none() && calls[1].issued.is_some());
}

#[tokio::test]
async fn bad_connections_can_be_scripted() {
    let world = World::new().await;
    let script = world.provider.script();
    let send = |patience| world.form(&[GRANT]).basic_auth("reports", Some("s3cret")).timeout(patience).send();

    script.push(Answer::close());
    assert!(send(PATIENCE).await.unwrap_err().is_request());
    script.push(Answer::reset());
    assert!(send(PATIENCE).await.unwrap_err().is_request());
    script.push(Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"));
    assert_eq!(send(PATIENCE).await.unwrap().text().await.unwrap(), "hello");
    script.push(Answer::hang());
    tokio::select! {
        answered = send(PATIENCE) => panic!("{answered:?}"),
        hung = world.provider.wait_for(4, PATIENCE) => assert_eq!(hung.unwrap()[3].status, None),
    }

    let drip = Piece::Drip("slowly".into(), Duration::from_millis(5));
    script.push(Answer::status(200).piece(drip).after(Duration::from_millis(20)));
    let asked = Instant::now();
    assert_eq!(send(PATIENCE).await.unwrap().text().await.unwrap(), "slowly");
    assert!(asked.elapsed() >= Duration::from_millis(50));

    script.push(Answer::status(200).piece(Piece::Repeat(b'x', u64::MAX)).chunked());
    let mut endless = send(PATIENCE).await.unwrap();
    let mut read = 0;
    while read < 1_000_000 {
        read += endless.chunk().await.unwrap().unwrap().len();
    }
    let statuses: Vec<_> = world.provider.calls().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [None, None, None, None, Some(200), Some(200)]);
}

#[tokio::test]
async fn it_stops_and_starts_again_on_the_same_port() {
    let world = World::new().await;
    world.token().await;
    let addr = world.provider.addr();
    world.provider.stop().await;
    assert_eq!(world.provider.counts().open.now(), 0);
    let down = world.form(&[GRANT]).send().await.unwrap_err();
    assert!(down.is_connect(), "{down:?}");
    world.provider.restart().await.unwrap();
    assert_eq!(world.provider.addr(), addr);
    world.token().await;
    assert_eq!((world.provider.count(), world.provider.counts().accepted()), (2, 2));
}

#[tokio::test]
async fn waiting_ends_when_the_call_is_there_or_the_patience_is_not() {
    let world = World::new().await;
    let wait = world.provider.wait_for(1, PATIENCE);
    let (calls, _) = tokio::join!(wait, world.token());
    assert_eq!(calls.unwrap().len(), 1);
    let late = world.provider.wait_for(2, Duration::from_millis(10)).await.unwrap_err();
    assert_eq!((late.wanted, late.found), (2, 1));
    assert_eq!(world.provider.log().beyond(0).await.len(), 1);
    world.provider.log().clear();
    assert_eq!(world.provider.count(), 0);
}

#[tokio::test]
async fn certificates_can_be_wrong() {
    let ca = Ca::new().unwrap();
    let provider = Provider::start(Settings::new(ca.expired_server(NAMES).unwrap())).await.unwrap();
    let refuses = async |times| {
        assert!(client(&ca).get(provider.token_url()).send().await.is_err());
        // The client is the first to know.
        let told = async {
            while provider.counts().failed_handshakes() < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap();
    };
    refuses(1).await;
    provider.restart_with(ca.misnamed_server().unwrap()).await.unwrap();
    refuses(2).await;
    provider.restart_with(Ca::new().unwrap().server(NAMES).unwrap()).await.unwrap();
    refuses(3).await;
    provider.restart_with(ca.server_for_clients(NAMES).unwrap()).await.unwrap();
    refuses(4).await;
    provider.restart_with(ca.server(NAMES).unwrap()).await.unwrap();
    assert!(client(&ca).get(provider.token_url()).send().await.is_ok());
}
