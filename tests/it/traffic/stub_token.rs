//! A placeholder token for SDKs that insist on fetching one: well-formed, worth nothing, and never sent on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bearerd::demo::answer::Answer;
use serde_json::Value;

use super::{last, rig_with, route, targets};
use crate::support::{App, Options, Rig, eventually};

const STUB: &str = "stub_token: /oauth2/token";

/// What an SDK sends, with a secret of its own making.
const FORM: &str = "grant_type=client_credentials&client_id=sdk&client_secret=made-up-canary&scope=read%20write";

async fn rig(more: &'static str) -> Rig {
    let route = if more.is_empty() { STUB.to_owned() } else { format!("{STUB}\n{more}") };
    rig_with(|rig| format!("routes:\n{}", super::route(rig, "api", "", &route))).await
}

/// Asks for a token as an SDK does.
async fn fetch(app: &mut App, target: &str, more: &str) -> crate::support::Answer {
    let form = "Content-Type: application/x-www-form-urlencoded";
    app.send(app.head(&format!("POST {target} HTTP/1.1\n{form}\nContent-Length: {}{more}", FORM.len()))).await;
    app.send(FORM).await;
    app.answer().await
}

#[tokio::test]
async fn an_sdk_gets_a_token_that_is_none_and_its_requests_get_the_real_one() {
    let rig = rig("").await;
    let asked = rig.provider.calls().len();
    let mut app = rig.app().await;
    let answer = fetch(&mut app, "/oauth2/token", "\nAuthorization: Basic c2RrOm1hZGUtdXAtY2FuYXJ5").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
    assert_eq!((answer.header("connection"), answer.header("proxy-status")), (None, None));
    let told = answer.json();
    assert_eq!((told["token_type"].as_str(), told["expires_in"].as_u64()), (Some("Bearer"), Some(3_600)), "{told}");
    assert_eq!(told.as_object().unwrap().len(), 3, "no scope is the one that was asked for: {told}");
    let token = told["access_token"].as_str().unwrap().to_owned();
    let parts: Vec<Value> = token
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    assert_eq!((parts[0]["alg"].as_str(), token.split('.').count()), (Some("HS256"), 3));
    assert_eq!(URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap().len(), 32);
    let (issued, expires) = (parts[1]["iat"].as_u64().unwrap(), parts[1]["exp"].as_u64().unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(expires - issued == 3_600 && now - 60 < issued && issued <= now, "{parts:?}");
    // Signed each time with another key.
    let again = fetch(&mut app, "/oauth2/token", "").await.json();
    assert_ne!(again["access_token"].as_str().unwrap().rsplit('.').next(), token.rsplit('.').next());
    assert_eq!(targets(&rig), [""; 0], "nothing went upstream");

    assert_eq!(app.ask(&format!("GET /orders HTTP/1.1\nAuthorization: Bearer {token}")).await.status, 200);
    let seen = last(&rig);
    assert_eq!((seen.authorization_lines, seen.verdict), (1, bearerd::demo::api::Verdict::Good));
    assert_eq!(rig.provider.calls().len(), asked, "nor to the provider");
    let metrics = rig.proxy.page("/metrics").await;
    assert!(metrics.text().contains("bearerd_requests_total{route=\"api\",code=\"200\"} 3\n"), "{}", metrics.text());
    let said = rig.proxy.said();
    assert!(!said.contains("canary") && !said.contains(&token), "{said}");
}

#[tokio::test]
async fn it_is_where_the_app_asks_for_it_and_other_methods_are_requests() {
    let rig = rig("match: {path: /v2}\nstrip_prefix: true").await;
    let mut app = rig.app().await;
    let is_stub = |answer: &crate::support::Answer| answer.status == 200 && answer.text().contains("access_token");
    assert!(is_stub(&fetch(&mut app, "/oauth2/token", "").await));
    assert!(is_stub(&fetch(&mut app, "http://api.example.test/oauth2/token", "\nHost: api.example.test").await));
    assert_eq!(fetch(&mut app, "/oauth2/token/", "").await.reason(), "no_route");
    assert_eq!(targets(&rig), [""; 0]);
    assert!(!is_stub(&fetch(&mut app, "/v2/oauth2/token", "").await));
    assert_eq!(app.ask("GET http://api.example.test/oauth2/token HTTP/1.1\nHost: api.example.test").await.status, 200);
    assert_eq!(targets(&rig), ["/oauth2/token", "/oauth2/token"], "neither is a POST where the placeholder is");
}

#[tokio::test]
async fn within_an_interception_it_is_a_path_on_the_upstream() {
    let rig = super::intercept::rig(STUB, "").await;
    let mut app = super::intercept::inside(&rig, "").await;
    let head = app.head(&format!("POST /oauth2/token HTTP/1.1\nContent-Length: {}", FORM.len()));
    app.send(format!("{head}{FORM}")).await;
    assert!(app.answer().await.json()["access_token"].is_string());
    assert_eq!(targets(&rig), [""; 0]);
}

#[tokio::test]
async fn who_may_not_call_gets_not_even_a_placeholder() {
    let rig = rig_with(|rig| {
        let client = "callers: {clients: [{name: billing, password: {file: secret}}]}";
        let more = format!("{STUB}\ncallers: billing");
        format!("{client}\nroutes:\n{}", route(rig, "api", "", &more))
    })
    .await;
    for (more, status, reason) in [
        ("\nOrigin: https://evil.example", 403, "web_origin"),
        ("\nHost: rebound.example", 421, "host_not_ours"),
        ("\nAuthorization: Basic c2RrOm1hZGUtdXA=", 401, "caller_unknown"),
        ("", 401, "caller_unknown"),
    ] {
        let answer = fetch(&mut rig.app().await, "/oauth2/token", more).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{more}");
    }
    // A proxy client has a header of its own for its name, which the SDK's token does not take the place of.
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("billing:{}", crate::support::SECRET));
    let named = format!("\nHost: api.example.test\nProxy-Authorization: Basic {credentials}");
    let mut app = rig.app().await;
    assert_eq!(fetch(&mut app, "http://api.example.test/oauth2/token", &named).await.status, 200);
    let head = format!("GET http://api.example.test/x HTTP/1.1\nAuthorization: Bearer placeholder{named}");
    assert_eq!(app.ask(&head).await.status, 200);
    assert_eq!(targets(&rig), ["/x"]);
}

#[tokio::test]
async fn it_needs_no_token_and_no_provider() {
    let rig = Rig::with(Options { route: STUB, ..Options::default() }).await;
    rig.provider.script().always(Answer::status(500));
    assert_eq!(fetch(&mut rig.app().await, "/oauth2/token", "").await.status, 200);
}

#[tokio::test]
async fn what_the_sdk_sends_is_read_within_bounds() {
    let rig = rig("timeouts: {body_idle: 300ms}").await;
    // In pieces, and in chunks: the connection goes on behind it.
    let mut app = rig.app().await;
    app.send(app.head("POST /oauth2/token HTTP/1.1\nTransfer-Encoding: chunked")).await;
    super::moment(50).await;
    app.send("5\r\ngrant\r\n").await;
    super::moment(50).await;
    app.send("0\r\n\r\n").await;
    assert_eq!(app.answer().await.status, 200);
    assert_eq!(fetch(&mut app, "/oauth2/token", "").await.status, 200);
    // Behind trailers there is no telling where the next request begins.
    app.send(app.head("POST /oauth2/token HTTP/1.1\nTransfer-Encoding: chunked")).await;
    app.send("5\r\ngrant\r\n0\r\nx-sum: 1\r\n\r\n").await;
    let answer = app.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(app.is_closed().await);
    for (framing, body) in [
        ("Content-Length: 70000", "x".repeat(70_000)),
        ("Transfer-Encoding: chunked", format!("{:x}\r\n{}\r\n", 70_000, "x".repeat(70_000))),
        // It stands still.
        ("Content-Length: 10", "grant".to_owned()),
    ] {
        let mut app = rig.app().await;
        app.send(format!("{}{body}", app.head(&format!("POST /oauth2/token HTTP/1.1\n{framing}")))).await;
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_request"), "{framing}");
        assert!(app.is_closed().await);
    }
    eventually("nothing went upstream", || rig.api.counts().accepted() == 0).await;
}
