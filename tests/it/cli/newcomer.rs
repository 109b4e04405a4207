//! What a newcomer meets when the configuration reads well and is wrong all the same: each mistake is told by one message,
//! with its cause and its cure. What `check` finds by itself stands in `mistakes`.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use bearerd::demo::answer::{Answer, Canned};
use bearerd::demo::api::{self, Api};
use bearerd::demo::certs::Ca;
use bearerd::demo::provider::{self, Method, Provider};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::child::{Child, Ended, bearerd};
use super::stage::{Running, Stage};
use crate::support::{App, CLIENT, SECRET};

/// What the usual configuration is written as instead.
fn instead(stage: &Stage, right: &str, wrong: &str) {
    let usual = stage.usual();
    assert!(usual.contains(right), "{right} in {usual}");
    stage.folder.write("bearerd.yaml", &usual.replacen(right, wrong, 1));
}

/// `bearerd token` fails with these words, and with nothing besides; and the log of `run` has them in one event, and no
/// other that alarms.
async fn no_token(stage: &Stage, words: &[&str]) {
    let file = stage.file();
    let ended = bearerd(&["token", "--config", &file], &[]).await.with(1).silent().says(words);
    assert!(ended.err.starts_with("error: no token `main` from "), "{}", ended.err);
    assert_eq!((ended.err.matches("error").count(), ended.err.matches("hint: ").count()), (1, 1), "{}", ended.err);

    let mut child = Child::spawn(&["run", "--config", &file], &[]);
    child.until_err("\"event\":\"token_failed\"").await;
    let ended = child.end_by(Signal::TERM).await.with(0);
    one_event(&ended, "token_failed", words);
}

/// The only thing that alarms in this log, with these words in its sentence.
fn one_event(ended: &Ended, event: &str, words: &[&str]) {
    let lines: Vec<Value> = ended.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let alarms = lines.iter().filter(|line| matches!(line["level"].as_str(), Some("warn" | "error")));
    let events: BTreeSet<&str> = alarms.clone().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, BTreeSet::from([event]), "{}", ended.err);
    for line in alarms {
        let sentence = line["message"].as_str().unwrap();
        for word in words {
            assert!(sentence.contains(word), "no {word:?} in {sentence}");
        }
    }
}

/// A refusal of the provider (RFC 6749, 5.2).
fn refusal(status: u16, code: &str) -> Canned {
    Answer::json(status, &json!({"error": code}))
}

#[tokio::test]
async fn what_the_provider_refuses_is_told_with_what_to_compare() {
    let stage = Stage::new().await;
    let id = "client_id: app";
    let compare: &[&str] = &["401", "invalid_client", "compare `client_id` and `client_secret`", "client_secret_post"];
    let endpoint = "is `token_url` the token endpoint";
    let cases: [(&str, Option<Canned>, &[&str]); 12] = [
        ("client_id: ap", None, compare),
        (
            "client_id: app\n    auth: client_secret_post",
            Some(refusal(401, "invalid_client")),
            &["client_secret_basic`"],
        ),
        ("client_id: app\n    scope: raed", Some(refusal(400, "invalid_scope")), &["invalid_scope", "asks for `raed`"]),
        (id, Some(refusal(400, "invalid_scope")), &["invalid_scope", "wants a `scope`"]),
        ("client_id: app\n    audience: x", Some(refusal(403, "access_denied")), &["use `x`: authorise the client"]),
        (
            "client_id: app\n    resource: 'a:b'",
            Some(refusal(400, "invalid_target")),
            &["does not know `a:b` as an API"],
        ),
        (id, Some(refusal(400, "invalid_request")), &["invalid_request", "many want a `scope`, an `audience`"]),
        (id, Some(refusal(400, "unauthorized_client")), &["use `grant_type: client_credentials`: allow that"]),
        ("client_id: app\n    grant_type: x", Some(refusal(400, "unsupported_grant_type")), &["for `grant_type: x`"]),
        (id, Some(Answer::status(429)), &["429", "wait", "`budget`"]),
        (id, Some(Answer::status(302).header("location", "/login")), &["302", "elsewhere", endpoint, "login page"]),
        (id, Some(Answer::status(200).body("<html>")), &["not a JSON object", endpoint, "login page"]),
    ];
    for (wrong, answer, words) in cases {
        stage.provider.script().clear();
        if let Some(answer) = answer {
            stage.provider.script().always(answer);
        }
        instead(&stage, id, wrong);
        no_token(&stage, words).await;
    }

    stage.provider.script().clear();
    stage.configure("");
    stage.folder.write("secret", "wrong-x-canary");
    no_token(&stage, compare).await;
    stage.folder.write("secret", SECRET);
    instead(&stage, "/oauth2/token", "/oauth/token");
    no_token(&stage, &["404", endpoint]).await;
}

#[tokio::test]
async fn a_method_that_the_client_is_not_registered_for_is_told_with_the_other() {
    let stage = Stage::new().await;
    let ca = Ca::new().unwrap();
    stage.folder.write("ca.pem", &ca.pem());
    let provider = Provider::start(provider::Settings {
        clients: vec![(CLIENT.to_owned(), SECRET.to_owned())],
        only: Some(Method::Post),
        ..provider::Settings::new(ca.server(&["localhost"]).unwrap())
    });
    let provider = provider.await.unwrap();
    instead(&stage, &stage.provider.token_url(), &provider.token_url());
    no_token(&stage, &["invalid_client", "the client may be registered for `auth: client_secret_post`"]).await;
}

#[tokio::test]
async fn a_provider_that_is_elsewhere_is_told_by_what_is_wrong_with_the_way() {
    let stage = Stage::new().await;
    let ca = Ca::new().unwrap();
    let url = stage.provider.token_url();

    let private: &[&str] = &["not signed by a trusted authority", "set `tls.ca_file`"];
    stage.provider.restart_with(ca.server(&["localhost"]).unwrap()).await.unwrap();
    certificate(&stage, private).await;
    instead(&stage, "    tls: {ca_file: ca.pem}\n", "");
    certificate(&stage, private).await;
    stage.folder.write("ca.pem", &ca.pem());
    stage.configure("");
    stage.provider.restart_with(ca.misnamed_server().unwrap()).await.unwrap();
    certificate(&stage, &["is for another name", "set `tls.server_name`"]).await;
    stage.provider.restart_with(ca.expired_server(&["localhost"]).unwrap()).await.unwrap();
    no_token(&stage, &["has expired", "have the provider renew it, or set this machine's clock"]).await;

    let plain = Provider::start(provider::Settings::plain()).await.unwrap();
    instead(&stage, &url, &plain.token_url().replace("http:", "https:"));
    certificate(&stage, &["it does not speak TLS on this port; compare the port, or write `http://`"]).await;
    instead(&stage, &url, &url.replace("https:", "http:"));
    no_token(&stage, &["does not answer with proper HTTP", "write `https://` in `token_url`"]).await;

    stage.provider.restart_with(ca.server(&["localhost"]).unwrap()).await.unwrap();
    let issuer = |suffix: &str| format!("issuer: {}{suffix}", stage.provider.issuer());
    instead(&stage, &format!("token_url: {url}"), &issuer("/realms/x"));
    no_token(&stage, &["/realms/x/.well-known/", "404", "`issuer` is what stands in front of `/.well-known/`"]).await;
    instead(&stage, &format!("token_url: {url}"), &issuer("/"));
    certificate(&stage, &["has no `/` at its end; leave it out of `issuer`, too"]).await;

    instead(&stage, &url, "https://id.nowhere.invalid/token");
    no_token(&stage, &["its name has no address", "is the host in `token_url` spelt right?"]).await;
    stage.configure("");
    stage.provider.stop().await;
    no_token(&stage, &["the connection was refused", "are host and port of `token_url` right"]).await;
}

/// As [`no_token`], where the cause says itself what to do.
async fn certificate(stage: &Stage, words: &[&str]) {
    let file = stage.file();
    let ended = bearerd(&["token", "--config", &file], &[]).await.with(1).silent().says(words);
    assert_eq!((ended.err.matches("error").count(), ended.err.lines().count()), (1, 1), "{}", ended.err);
    let mut child = Child::spawn(&["run", "--config", &file], &[]);
    child.until_err("\"event\":\"token_failed\"").await;
    one_event(&child.end_by(Signal::TERM).await.with(0), "token_failed", words);
}

#[tokio::test]
async fn a_clock_that_is_off_by_an_hour_is_told() {
    let stage = Stage::new().await;
    let hour = Duration::from_secs(3_600);
    let an_hour_ago = httpdate::fmt_http_date(SystemTime::now() - hour);
    let granted = json!({"access_token": "opaque", "token_type": "Bearer", "expires_in": 3_600});
    stage.provider.script().always(Answer::json(200, &granted).header("date", &an_hour_ago));
    let token = Child::spawn(&["token", "--config", &stage.file()], &[]).ended_with_token().await.with(0);
    assert_eq!(token.out, "opaque\n");
    token.says(&["warning: this machine's clock is 1h", "ahead of the provider's\n  hint: set it (NTP)"]);
    let ended = stage.run(&[]).await.ready().await.child.end_by(Signal::TERM).await.with(0);
    one_event(&ended, "clock_off", &["clock is 1h", "ahead of the provider's: set it (NTP)"]);

    // What is signed says when it was, and is refused by the time.
    stage.provider.script().always(refusal(401, "invalid_client").header("date", &an_hour_ago));
    instead(&stage, "client_id: app", "client_id: app\n    auth: client_secret_jwt");
    no_token(&stage, &["invalid_client", "first set this machine's clock, which is 1h", "ahead of the provider's"])
        .await;
    let soon = httpdate::fmt_http_date(SystemTime::now() + hour);
    stage.provider.script().always(refusal(401, "invalid_client").header("date", &soon));
    no_token(&stage, &["set this machine's clock", "behind the provider's"]).await;
}

#[tokio::test]
async fn a_scope_that_the_provider_cuts_is_told() {
    let stage = Stage::new().await;
    instead(&stage, "client_id: app", "client_id: app\n    scope: read write");
    stage.provider.script().always(Answer::edit(|answer| {
        answer.insert("scope".into(), "read".into());
    }));
    let ended = stage.run(&[]).await.ready().await.child.end_by(Signal::TERM).await.with(0);
    one_event(&ended, "scope_differs", &["granted another scope", "compare `scope`"]);
}

/// The answer to a request, and how `run` ended after it.
async fn asked(stage: &Stage, request: &str, event: &str) -> (crate::support::Answer, Ended) {
    let Running { mut child, address } = stage.run(&[]).await.ready().await;
    let answer = App::connect(address).await.ask(request).await;
    child.until_err(&format!("\"event\":\"{event}\"")).await;
    (answer, child.end_by(Signal::TERM).await.with(0))
}

const GET: &str = "GET /x HTTP/1.1";

/// One of ours, with this status, and these words in the log.
async fn failed(stage: &Stage, status: u16, words: &[&str]) {
    let (answer, ended) = asked(stage, GET, "upstream_failed").await;
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(answer.text().contains("bearerd's log says more"), "{}", answer.text());
    one_event(&ended, "upstream_failed", words);
}

#[tokio::test]
async fn an_upstream_that_is_elsewhere_is_told_by_what_is_wrong_with_the_way() {
    let stage = Stage::new().await;
    stage.api.restart_with(Ca::new().unwrap().server(&["localhost"]).unwrap()).await.unwrap();
    failed(&stage, 502, &["not signed by a trusted authority", "set `tls.ca_file`"]).await;
    let plain = Api::start(api::Settings::plain()).await.unwrap();
    instead(&stage, stage.api.url(), &plain.url().replace("http:", "https:"));
    failed(&stage, 502, &["it does not speak TLS on this port; compare the port"]).await;
    instead(&stage, stage.api.url(), "https://api.nowhere.invalid");
    failed(&stage, 502, &["its name has no address; is the host in `upstream` spelt right?"]).await;
    stage.configure("");
    stage.api.stop().await;
    failed(&stage, 502, &["the connection was refused", "are host and port in `upstream` right"]).await;
}

#[tokio::test]
async fn what_the_api_says_of_the_token_is_told_to_who_can_change_it() {
    let stage = Stage::new().await;
    // For another audience than the API's: each fresh token is as bad.
    instead(&stage, "client_id: app", "client_id: app\n    audience: https://other.example.test");
    let Running { mut child, address } = stage.run(&[]).await.ready().await;
    assert_eq!(App::connect(address).await.ask(GET).await.status, 401);
    child.until_err("\"event\":\"token_no_better\"").await;
    let ended = child.end_by(Signal::TERM).await.with(0);
    let told = ended.err.lines().find(|line| line.contains("token_no_better")).unwrap();
    for word in ["does not take fresh tokens either", "compare `audience`", "`bearerd token --claims`"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(ended.err.matches("token_no_better").count(), 1, "{}", ended.err);

    stage.configure("");
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"x-canary\"";
    stage.api.script().always(Answer::status(403).header("www-authenticate", challenge));
    let (answer, ended) = asked(&stage, GET, "scope_insufficient").await;
    assert_eq!(answer.status, 403);
    one_event(&ended, "scope_insufficient", &["insufficient_scope", "the token's `scope`", "at the provider"]);
}

#[tokio::test]
async fn a_base_path_that_comes_twice_is_told() {
    let stage = Stage::new().await;
    instead(&stage, stage.api.url(), &format!("{}/v2", stage.api.url()));
    stage.api.script().always(Answer::status(404));
    let (answer, ended) = asked(&stage, "GET /v2/x HTTP/1.1", "base_path_twice").await;
    assert_eq!((answer.status, stage.api.log().all()[0].target.as_str()), (404, "/v2/v2/x"));
    one_event(&ended, "base_path_twice", &["has the path of `upstream` twice", "apps leave it out"]);
    // Any other path that is not there is the app's business.
    let Running { child, address } = stage.run(&[]).await.ready().await;
    assert_eq!(App::connect(address).await.ask(GET).await.status, 404);
    let ended = child.end_by(Signal::TERM).await.with(0);
    assert!(!ended.err.contains("base_path_twice"), "{}", ended.err);
}

#[tokio::test]
async fn an_app_that_asks_in_the_wrong_way_is_told_how() {
    let stage = Stage::new().await;
    let place = stage.api.url().trim_start_matches("https://");
    let connect = |to: &str| format!("CONNECT {to} HTTP/1.1\nHost: {to}");
    let cases: [(&str, u16, &[&str]); 5] = [
        // HTTPS_PROXY, for the API and for anything else.
        (&connect(place), 403, &["does not `intercept`", "ask for http:// by this proxy instead of https://"]),
        (&connect("other.example.com:443"), 403, &["no entry of `tunnel`", "`intercept`"]),
        ("GET http://other.example.com/ HTTP/1.1\nHost: other.example.com", 403, &["as its `upstream`"]),
        ("GET / HTTP/1.1\nHost: proxy.corp", 421, &["`callers.hosts`"]),
        ("GET / HTTP/1.1\nOrigin: https://app.example.com", 403, &["web page", "`callers.origins`"]),
    ];
    for (request, status, words) in cases {
        let (answer, ended) = asked(&stage, request, "refused").await;
        assert_eq!(answer.status, status, "{}", answer.text());
        for word in words {
            assert!(answer.text().contains(word), "no {word:?} in {}", answer.text());
        }
        one_event(&ended, "refused", &[answer.json()["reason"].as_str().unwrap()]);
    }
    // `https://` in the app's base URL: what comes is a ClientHello.
    let Running { mut child, address } = stage.run(&[]).await.ready().await;
    App::connect(address).await.send("\u{16}\u{3}\u{1}\u{2}\r\n\r\n").await;
    child.until_err("\"event\":\"refused\"").await;
    one_event(&child.end_by(Signal::TERM).await.with(0), "refused", &["an app that speaks TLS here", "`http://`"]);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let stage = Stage::new().await;
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (key, right) in [("--listen", "listen: [127.0.0.1:0]"), ("--admin", "admin: 127.0.0.1:0")] {
        let taken = right.replace("127.0.0.1:0", &other.local_addr().unwrap().to_string());
        instead(&stage, right, &taken);
        let ended = bearerd(&["run", "--config", &stage.file()], &[]).await.with(1).silent();
        let ended = ended.says(&[&other.local_addr().unwrap().to_string(), "hint: another program has it", key]);
        assert_eq!(ended.err.matches("error: ").count(), 1, "{}", ended.err);
    }
}
