//! Every way of proving who asks, from the configuration's words to the token request as the provider sees it.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bearerd::demo::answer::Answer;
use bearerd::demo::seen::TokenCall;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::child::{Child, bearerd};
use super::stage::Stage;
use crate::support::{CLIENT, SECRET};

const KEY: &str = include_str!("../../../src/config/tests/rsa.pem");

/// What the provider is sent by `bearerd token` with a token of these keys.
async fn sent(stage: &Stage, keys: &str) -> TokenCall {
    stage.folder.write("key.pem", KEY);
    stage.folder.write("foreign.jwt", "eyJ.x-canary.sig\n");
    let usual = stage.usual();
    let own = format!("    client_id: {CLIENT}\n    client_secret: {{file: secret}}\n");
    assert!(usual.contains(&own));
    let keys: String = keys.lines().map(|line| format!("    {}\n", line.trim_start())).collect();
    stage.folder.write("bearerd.yaml", &usual.replace(&own, &keys));
    stage.provider.script().clear();
    stage.provider.script().always(Answer::json(200, &json!({"access_token": "eyJx", "token_type": "bearer"})));
    stage.provider.log().clear();
    let variables = [("CREDENTIALS_DIRECTORY", stage.at("."))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let ended = Child::spawn(&["token", "--config", &stage.file()], &variables).ended_with_token().await.with(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("eyJx\n", ""), "{keys}");
    stage.provider.calls().remove(0)
}

/// Header and claims of a JWT that nobody verifies.
fn parts(jwt: &str) -> [Value; 2] {
    let mut parts = jwt.split('.');
    [(); 2].map(|()| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap()).unwrap())
}

#[tokio::test]
async fn a_jwt_is_made_of_the_secret_or_the_key() {
    let stage = Stage::new().await;
    let id = format!("client_id: {CLIENT}\n");
    let call = sent(&stage, &format!("{id}auth: client_secret_jwt\nclient_secret: {{systemd: secret}}")).await;
    let [header, claims] = parts(call.field("client_assertion").unwrap());
    assert_eq!((&header["alg"], &claims["aud"]), (&json!("HS256"), &json!(stage.provider.token_url())));
    assert_eq!((call.field("client_id"), call.field("client_secret")), (Some(CLIENT), None));
    let keys = "auth: private_key_jwt\nprivate_key: {file: key.pem}\nkey_id: k1\n\
                assertion: {alg: PS256, audience: 'https://id.example', claims: {scope: a b}}";
    let call = sent(&stage, &format!("{id}{keys}")).await;
    let [header, claims] = parts(call.field("client_assertion").unwrap());
    assert_eq!((&header["alg"], &header["kid"]), (&json!("PS256"), &json!("k1")));
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!("https://id.example"), &json!("a b")));
}

#[tokio::test]
async fn an_assertion_is_dated_by_the_providers_clock_once_that_is_known() {
    const HOUR: u64 = 3_600;
    let stage = Stage::new().await;
    for (theirs, date) in [
        ("behind", SystemTime::now() - Duration::from_secs(HOUR)),
        ("ahead", SystemTime::now() + Duration::from_secs(HOUR)),
        ("within what nobody minds", SystemTime::now() + Duration::from_secs(10)),
    ] {
        stage.folder.write(
            "bearerd.yaml",
            &stage
                .usual()
                .replace("client_secret: {file: secret}", "client_secret: {file: secret}\n    auth: client_secret_jwt"),
        );
        stage.provider.log().clear();
        let date = httpdate::fmt_http_date(date);
        let granted = json!({"access_token": "eyJx", "token_type": "bearer", "expires_in": HOUR});
        stage.provider.script().push(Answer::json(401, &json!({"error": "invalid_client"})).header("date", &date));
        stage.provider.script().push(Answer::json(200, &granted).header("date", &date));
        let running = stage.run(&[]).await.ready().await;
        running.child.end_by(Signal::TERM).await.with(0);
        let [refused, taken]: [TokenCall; 2] = stage.provider.calls().try_into().unwrap();
        let [first, second] = [refused, taken].map(|call| {
            let [_, claims] = parts(call.field("client_assertion").unwrap());
            assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60, "{theirs}");
            claims["iat"].as_i64().unwrap()
        });
        // Some time passes in between; less than half of an hour.
        let by = second - first;
        let half = i64::try_from(HOUR).unwrap() / 2;
        assert_eq!((by < -half, by > half), (theirs == "behind", theirs == "ahead"), "{theirs}: {by} s");
    }
}

#[tokio::test]
async fn a_foreign_assertion_and_a_command_are_read() {
    let stage = Stage::new().await;
    let id = format!("client_id: {CLIENT}\n");
    let call = sent(&stage, &format!("{id}auth: client_assertion\nassertion: {{file: foreign.jwt}}")).await;
    assert_eq!(call.field("client_assertion"), Some("eyJ.x-canary.sig"));
    let secret = stage.at("secret");
    let call =
        sent(&stage, &format!("{id}auth: client_secret_post\nclient_secret: {{exec: [/bin/cat, '{secret}']}}")).await;
    assert_eq!(call.field("client_secret"), Some(SECRET));
}

#[tokio::test]
async fn a_preset_makes_the_request_of_its_provider() {
    let stage = Stage::new().await;
    let keys = "provider: google-sa\nclient_id: a@b.example\nprivate_key: {file: key.pem}\n\
                assertion: {claims: {scope: read}}";
    let call = sent(&stage, keys).await;
    let names: Vec<&str> = call.form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grant_type", "assertion"]);
    let [header, claims] = parts(call.field("assertion").unwrap());
    assert_eq!((&header["alg"], &claims["iss"]), (&json!("RS256"), &json!("a@b.example")));
    assert_eq!((&claims["scope"], &claims["aud"]), (&json!("read"), &json!(stage.provider.token_url())));
    let keys = "provider: zoom\nclient_id: c\nclient_secret: {file: secret}\nparams: {account_id: x}";
    let call = sent(&stage, keys).await;
    assert_eq!(call.field("grant_type"), Some("account_credentials"));
    assert_eq!(call.field("account_id"), Some("x"));
}

#[tokio::test]
async fn the_stand_by_is_asked_with_when_the_current_one_is_rejected() {
    let stage = Stage::new().await;
    stage.folder.write("old", "x-canary-old");
    let own = format!("    client_id: {CLIENT}\n    client_secret: {{file: secret}}\n");
    let sets = format!(
        "    credentials:\n      - {{client_id: {CLIENT}, client_secret: {{file: old}}}}\n      - {{client_id: {CLIENT}, client_secret: {{file: secret}}}}\n"
    );
    stage.folder.write("bearerd.yaml", &stage.usual().replace(&own, &sets));
    let ended = Child::spawn(&["token", "--config", &stage.file()], &[]).ended_with_token().await.with(0);
    assert!(ended.out.starts_with("eyJ"), "{ended:?}");
    assert_eq!(stage.provider.count(), 2);
}

#[tokio::test]
async fn a_certificate_that_is_none_is_told_by_the_check() {
    let stage = Stage::new().await;
    stage.folder.write("key.pem", KEY);
    let own = format!("    client_id: {CLIENT}\n    client_secret: {{file: secret}}\n");
    let keys = "    auth: tls_client_auth\n    client_id: app\n    cert_file: secret\n    key_file: key.pem\n";
    stage.folder.write("bearerd.yaml", &stage.usual().replace(&own, keys));
    bearerd(&["check", "--config", &stage.file()], &[]).await.with(78).silent().says(&["token `main`: app: "]);
}

#[tokio::test]
async fn health_is_asked_while_the_key_is_being_replaced() {
    let stage = Stage::new().await;
    let own = format!("    client_id: {CLIENT}\n    client_secret: {{file: secret}}\n");
    let keys = "    auth: private_key_jwt\n    client_id: app\n    private_key: {file: key.pem}\n";
    stage.folder.write("bearerd.yaml", &stage.usual().replace(&own, keys));
    for content in [None, Some("-----BEGIN PRIV")] {
        if let Some(half) = content {
            stage.folder.write("key.pem", half);
        }
        // Nobody runs, which is told, and not that the configuration were wrong.
        bearerd(&["health", "--config", &stage.file()], &[]).await.with(1).silent();
        bearerd(&["check", "--config", &stage.file()], &[]).await.with(78).silent();
    }
}

#[tokio::test]
async fn a_folder_for_the_state_takes_it() {
    let stage = Stage::new().await;
    std::fs::create_dir(stage.folder.path("state")).unwrap();
    stage.configure(&format!("state_dir: {}\n", stage.at("state")));
    let checked = bearerd(&["check", "--config", &stage.file()], &[]).await.with(0);
    assert!(checked.out.contains(&format!("state_dir: {}", stage.at("state"))), "{}", checked.out);
    stage.configure(&format!("state_dir: {}\n", stage.at("secret")));
    bearerd(&["check", "--config", &stage.file()], &[]).await.with(78).silent().says(&["is not a folder"]);
}
