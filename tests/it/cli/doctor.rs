//! `bearerd doctor`: one line for each step, and the cure for what fails. Every failure here is a real one, on real sockets.

use std::time::{Duration, SystemTime};

use bearerd::demo::answer::Answer;
use bearerd::demo::api::{self, Api};
use bearerd::demo::certs::Ca;
use bearerd::demo::steps::Step;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::child::{Ended, bearerd};
use super::stage::Stage;
use crate::support::Corporate;

/// Runs it on the stage's configuration.
async fn doctor(stage: &Stage) -> Ended {
    bearerd(&["doctor", "--config", &stage.file()], &[]).await
}

/// The marks and the checks, in order.
fn checks(ended: &Ended) -> Vec<(String, String)> {
    let lines = ended.out.lines().filter(|line| !line.starts_with(' ') && !line.contains(" checks: "));
    let words = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    };
    lines.map(words).collect()
}

/// The line of a check and the hint below it.
fn told<'a>(ended: &'a Ended, mark: &str, check: &str) -> &'a str {
    let start = format!("{mark:<4}  {check:<13}  ");
    let at = ended.out.lines().scan(0, |at, line| {
        let begun = *at;
        *at += line.len() + 1;
        Some((begun, line))
    });
    let mut at = at.skip_while(|(_, line)| !line.starts_with(&start));
    let Some((begun, _)) = at.next() else { panic!("no {start:?} in {ended:#?}") };
    let end = at.find(|(_, line)| !line.starts_with(' ')).map_or(ended.out.len(), |(end, _)| end);
    &ended.out[begun..end]
}

/// What is told of a check holds each of these.
#[track_caller]
fn says(ended: &Ended, mark: &str, check: &str, texts: &[&str]) {
    let told = told(ended, mark, check);
    for text in texts {
        assert!(told.contains(text), "no {text:?} in {told:?} of {ended:#?}");
    }
    assert_eq!(told.contains("hint: "), matches!(mark, "warn" | "FAIL"), "{told}");
}

fn of(marks: &[(&str, &str)]) -> Vec<(String, String)> {
    marks.iter().map(|(mark, check)| ((*mark).to_owned(), (*check).to_owned())).collect()
}

/// The stage's configuration with something in place of something else, as often as it stands there.
fn change(stage: &Stage, from: &str, to: &str) {
    let usual = stage.usual();
    assert!(usual.contains(from), "{from} in {usual}");
    stage.folder.write("bearerd.yaml", &usual.replace(from, to));
}

#[tokio::test]
async fn what_is_well_is_told_in_the_order_of_the_way() {
    let stage = Stage::new().await;
    let ended = doctor(&stage).await.with(0);
    assert_eq!(ended.err, "");
    let expected = [
        "configuration",
        "secret",
        "dns",
        "tcp",
        "tls",
        "clock",
        "token",
        "dns",
        "tcp",
        "tls",
        "upstream",
        "clock",
        "listener",
        "listener",
    ];
    assert_eq!(checks(&ended), of(&expected.map(|check| ("ok", check))), "{}", ended.out);
    says(&ended, "ok", "configuration", &[&stage.file(), "1 token, 1 route"]);
    says(&ended, "ok", "secret", &["token main, app", &stage.at("secret"), "can be read"]);
    says(&ended, "ok", "dns", &["localhost", "127.0.0.1"]);
    says(&ended, "ok", "tls", &["TLS 1.3", "`bearerd demo CA`", "until 4"]);
    says(&ended, "ok", "token", &["a JWT (", "good for 1h"]);
    says(&ended, "ok", "upstream", &["route api, GET /", "answers 200 by HTTP/1.1 to the token"]);
    says(&ended, "ok", "listener", &["127.0.0.1:0", "free"]);
    assert!(ended.out.ends_with("14 checks: nothing failed\n"), "{}", ended.out);
    assert_eq!((stage.provider.count(), stage.api.count()), (1, 1), "one request each");
    let seen = &stage.api.requests()[0];
    assert_eq!((seen.authorization_lines, seen.method.as_str()), (1, "GET"));
    let token = stage.provider.calls()[0].token.clone().unwrap();
    assert!(ended.out.contains(&token.fingerprint().to_string()));
}

#[tokio::test]
async fn json_is_one_document_with_the_same() {
    let stage = Stage::new().await;
    stage.folder.write("secret", "wrong-x-canary");
    let ended = bearerd(&["doctor", "--json", "--config", &stage.file()], &[]).await.with(1);
    ended.is_clean();
    assert_eq!(ended.err, "error: 1 of 13 checks failed\n");
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(document["ok"], false);
    let checks = document["checks"].as_array().unwrap();
    for check in checks {
        let keys: Vec<&str> = check.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["check", "cure", "outcome", "subject", "took_seconds", "what"]);
        assert!(check["took_seconds"].is_f64() && check["subject"].is_string(), "{check}");
        assert_eq!(
            check["cure"].is_string(),
            ["warn", "fail"].contains(&check["outcome"].as_str().unwrap()),
            "{check}"
        );
    }
    let outcome = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap()["outcome"].clone();
    assert_eq!([outcome("token"), outcome("upstream"), outcome("tls")], ["fail", "skip", "ok"]);

    stage.folder.write("secret", crate::support::SECRET);
    let ended = bearerd(&["doctor", "--json", "--config", &stage.file()], &[]).await.with(0);
    assert_eq!(ended.err, "");
    assert_eq!(serde_json::from_str::<Value>(&ended.out).unwrap()["ok"], true);
}

#[tokio::test]
async fn a_wrong_configuration_is_78_and_a_document_all_the_same() {
    let stage = Stage::new().await;
    change(&stage, "token: main", "token: mian");
    doctor(&stage).await.with(78).silent().says(&["no token is called that", "error: 1 problem in the configuration"]);
    let ended = bearerd(&["doctor", "--json", "--config", &stage.file()], &[]).await.with(78);
    let ended = ended.says(&["no token is called that"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&document["ok"], &document["checks"][0]["check"]), (&json!(false), &json!("configuration")));
    assert!(document["checks"][0]["what"].as_str().unwrap().contains("no token is called that"), "{document}");
    assert_eq!(stage.provider.count(), 0);
}

#[tokio::test]
async fn what_is_doubtful_in_the_configuration_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::new().await;
    std::fs::set_permissions(stage.folder.path("secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = doctor(&stage).await.with(0);
    says(&ended, "warn", "configuration", &["can be read by every user of this machine", "chmod"]);
    assert!(ended.out.contains("nothing failed, 1 with a warning"), "{}", ended.out);
}

#[tokio::test]
async fn secrets_that_are_hardly_meant_are_doubted() {
    let stage = Stage::new().await;
    for (content, texts) in [
        ("\u{feff}x-canary", &["byte order mark (BOM)", "without BOM"][..]),
        ("x-canary ", &["ends with white space, which is sent", "the secret alone stands there"]),
        ("\"x-canary\"", &["stands in quotes", "the secret alone stands there"]),
        ("${x-canary}", &["looks like a placeholder", "that the provider shows"]),
        ("<x-canary>\n", &["looks like a placeholder", "that the provider shows"]),
        ("changeme", &["looks like a placeholder", "that the provider shows"]),
    ] {
        stage.folder.write("secret", content);
        let ended = doctor(&stage).await.with(1);
        says(&ended, "warn", "secret", texts);
        ended.is_clean();
    }
    stage.folder.write("secret", &format!("{}\n", crate::support::SECRET));
    let ended = doctor(&stage).await.with(0);
    says(&ended, "ok", "secret", &["the newline at its end is not part of it"]);
}

#[tokio::test]
async fn a_secret_file_without_a_secret_is_told_before_anybody_is_asked() {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::new().await;
    for (content, text) in [("", "empty"), ("\n", "empty"), ("x-canary\n\n", "line break")] {
        stage.folder.write("secret", content);
        let ended = doctor(&stage).await.with(78).silent();
        ended.is_clean();
        ended.says(&["tokens.main.client_secret: ", text]);
    }
    // Root may read everything.
    if !rustix::process::geteuid().is_root() {
        stage.folder.write("secret", "x-canary");
        std::fs::set_permissions(stage.folder.path("secret"), std::fs::Permissions::from_mode(0o000)).unwrap();
        doctor(&stage).await.with(78).silent().says(&["may not be read by this user"]);
    }
    assert_eq!(stage.provider.count(), 0);
}

#[tokio::test]
async fn a_command_that_prints_no_secret_is_told_and_asked_once() {
    let stage = Stage::new().await;
    change(&stage, "{file: secret}", "{exec: [/bin/sh, -c, 'echo x-canary; exit 7']}");
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "secret", &["`/bin/sh` ended with exit status: 7", "hint: run the command as bearerd's user"]);
    says(&ended, "FAIL", "token", &["the secret cannot be read", "see `secret` above"]);
    assert_eq!(stage.provider.count(), 0);
}

#[tokio::test]
async fn a_name_without_an_address_and_what_is_skipped_for_it() {
    let stage = Stage::new().await;
    change(&stage, stage.provider.issuer(), "https://id.nowhere.invalid");
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "dns", &["id.nowhere.invalid", "hint: "]);
    for check in ["tcp", "tls", "token"] {
        says(&ended, "skip", check, &["`dns token main, id.nowhere.invalid` failed"]);
    }
    says(&ended, "skip", "upstream", &["`dns token main, id.nowhere.invalid` failed"]);
    // The way to the API is looked at all the same.
    says(&ended, "ok", "tls", &["route api"]);
    assert_eq!(stage.api.count(), 0);
    ended.says(&["error: 1 of 12 checks failed"]);
}

#[tokio::test]
async fn nobody_listens() {
    let stage = Stage::new().await;
    stage.provider.stop().await;
    stage.api.stop().await;
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "tcp", &["127.0.0.1: the connection is refused", "nobody listens on that port"]);
    assert_eq!(checks(&ended)[3], ("FAIL".to_owned(), "tcp".to_owned()), "{}", ended.out);
    says(&ended, "skip", "tls", &["`tcp token main"]);
    says(&ended, "skip", "upstream", &["`tcp route api"]);
}

#[tokio::test]
async fn a_port_that_speaks_plain_http() {
    let stage = Stage::new().await;
    let plain = Api::start(api::Settings::plain()).await.unwrap();
    change(&stage, stage.api.url(), &plain.url().replace("http:", "https:"));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "tls", &["this port speaks plain HTTP", "write the port that speaks TLS"]);
    says(&ended, "skip", "upstream", &["`tls route api"]);
}

#[tokio::test]
async fn a_port_that_speaks_tls_and_is_asked_in_clear() {
    let stage = Stage::new().await;
    change(&stage, stage.api.url(), &stage.api.url().replace("https:", "http:"));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "upstream", &["is it a port for TLS?", "write `https://` in `upstream`"]);
}

#[tokio::test]
async fn certificates_that_are_not_believed() {
    let stage = Stage::new().await;
    stage.provider.restart_with(stage.ca.expired_server(&["localhost"]).unwrap()).await.unwrap();
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "tls", &["token main", "its certificate has expired on 2020-01-01", "renew", "clock right"]);
    says(&ended, "skip", "token", &["`tls token main"]);

    stage.provider.restart_with(stage.ca.misnamed_server().unwrap()).await.unwrap();
    let ended = doctor(&stage).await.with(1);
    let texts = ["token main", "is for `somebody-else.invalid`, and not for localhost", "write the host"];
    says(&ended, "FAIL", "tls", &texts);

    stage.provider.restart_with(Ca::new().unwrap().server(&["localhost"]).unwrap()).await.unwrap();
    let ended = doctor(&stage).await.with(1);
    let texts = [
        "is signed by `bearerd demo CA`, which nobody here trusts",
        "its proxy that looks into TLS",
        "`tls.extra_ca_file` of token main",
        "replaces the system's authorities",
    ];
    says(&ended, "FAIL", "tls", &texts);
}

#[tokio::test]
async fn a_certificate_for_another_name_has_a_cure_that_works() {
    let stage = Stage::new().await;
    stage.api.restart_with(stage.ca.misnamed_server().unwrap()).await.unwrap();
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "tls", &["route api", "is for `somebody-else.invalid`", "`tls.server_name` of route api"]);
    let usual = stage.usual();
    let (before, after) = usual.rsplit_once("ca.pem}").unwrap();
    stage.folder.write("bearerd.yaml", &format!("{before}ca.pem, server_name: somebody-else.invalid}}{after}"));
    doctor(&stage).await.with(0);
}

#[tokio::test]
async fn a_providers_certificate_for_another_name_has_the_same_cure() {
    let stage = Stage::new().await;
    stage.provider.restart_with(stage.ca.misnamed_server().unwrap()).await.unwrap();
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "tls", &["token main", "is for `somebody-else.invalid`", "`tls.server_name` of token main"]);
    for (name, code) in [("another.invalid", 1), ("somebody-else.invalid", 0)] {
        let named = stage.usual().replacen("ca.pem}", &format!("ca.pem, server_name: {name}}}"), 1);
        stage.folder.write("bearerd.yaml", &named);
        doctor(&stage).await.with(code);
        bearerd(&["token", "--claims", "--config", &stage.file()], &[]).await.with(code);
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate() {
    let stage = Stage::new().await;
    stage.api.restart_with(stage.ca.server_for_clients(&["localhost"]).unwrap()).await.unwrap();
    let ended = doctor(&stage).await.with(1);
    let texts = ["it wants a client certificate", "`tls: {cert_file: …, key_file: …}` of route api"];
    says(&ended, "FAIL", "tls", &texts);

    let ours = stage.ca.identity(&["app"]).unwrap();
    stage.folder.write("cert.pem", &ours.cert_pem);
    stage.folder.write("key.pem", &ours.key_pem);
    let usual = stage.usual();
    let (before, after) = usual.rsplit_once("{ca_file: ca.pem}").unwrap();
    let with = "{ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}";
    stage.folder.write("bearerd.yaml", &format!("{before}{with}{after}"));
    let ended = doctor(&stage).await.with(0);
    says(&ended, "ok", "certificate", &["route api: ", "cert.pem", "`bearerd demo CA`", "until 4"]);
    assert!(ended.out.contains("; takes ours"), "{}", ended.out);
}

#[tokio::test]
async fn a_corporate_proxy_on_the_way() {
    let stage = Stage::new().await;
    let with_proxy = |proxy: &Corporate| {
        let proxy = format!("token: main\n    proxy: http://{}\n", proxy.address);
        change(&stage, "token: main\n", &proxy);
    };
    let proxy = Corporate::start("HTTP/1.1 200 OK\r\n\r\n", Some(stage.api.addr())).await;
    with_proxy(&proxy);
    let ended = doctor(&stage).await.with(0);
    says(&ended, "ok", "proxy", &["route api, localhost:", "makes a tunnel there"]);
    assert!(ended.out.contains("the proxy 127.0.0.1: an address, nothing to look up"), "{}", ended.out);
    assert!(proxy.heads.lock().unwrap()[0].starts_with("CONNECT localhost:"));

    let proxy = Corporate::start("HTTP/1.1 200 OK\r\n\r\n", Some(stage.provider.addr())).await;
    change(&stage, "client_id: app\n", &format!("client_id: app\n    proxy: http://{}\n", proxy.address));
    let ended = doctor(&stage).await.with(0);
    says(&ended, "ok", "proxy", &["token main, localhost:", "makes a tunnel there"]);
    assert_eq!(proxy.heads.lock().unwrap().len(), 2, "one to look, one to ask for the token");

    let proxy = Corporate::start("HTTP/1.1 407 Who?\r\nX: x-canary\r\n\r\n", None).await;
    with_proxy(&proxy);
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "proxy", &["(407)", "`http://NAME:PASSWORD@HOST:PORT`"]);
    says(&ended, "skip", "tls", &["`proxy route api"]);
    ended.is_clean();
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_told_before_what_it_breaks() {
    let stage = Stage::new().await;
    let date = |at: SystemTime| httpdate::fmt_http_date(at);
    let refusal = json!({"error": "invalid_client"});
    let hour = Duration::from_secs(3_600);
    for (at, how) in [(SystemTime::now() + hour, "behind"), (SystemTime::now() - hour, "ahead of")] {
        stage.provider.script().push(Answer::json(401, &refusal).header("date", &date(at)));
        let ended = doctor(&stage).await.with(1);
        let clock = told(&ended, "FAIL", "clock");
        assert!(clock.contains(&format!("{how} the one there")) && clock.contains("NTP"), "{clock}");
        assert!(clock.contains("is 1h") || clock.contains("is 59m"), "{clock}");
        says(&ended, "FAIL", "token", &["invalid_client", "hint: first the clock"]);
        let order = checks(&ended);
        let at = |check: &str| order.iter().position(|(_, one)| one == check).unwrap();
        assert!(at("clock") < at("token"), "{order:?}");
    }
    let short = SystemTime::now() + Duration::from_secs(30);
    stage.api.script().push(Answer::status(200).header("date", &date(short)));
    let ended = doctor(&stage).await.with(0);
    says(&ended, "warn", "clock", &["route api", "behind", "Strict providers"]);
}

#[tokio::test]
async fn discovery_and_what_is_wrong_with_it() {
    let stage = Stage::new().await;
    let issuer = stage.provider.issuer().to_owned();
    change(&stage, &format!("token_url: {}", stage.provider.token_url()), &format!("issuer: {issuer}"));
    let ended = doctor(&stage).await.with(0);
    says(&ended, "ok", "discovery", &["token main", "the issuer's document is its own"]);

    let script = stage.provider.discovery_script();
    script.always(Answer::edit(|document| {
        document.insert("issuer".into(), "https://other.example\u{1b}[31m".into());
    }));
    let ended = doctor(&stage).await.with(1);
    let texts = ["is of another issuer", "the document says `https://other.example\u{fffd}[31m`", "exactly like that"];
    says(&ended, "FAIL", "discovery", &texts);
    says(&ended, "skip", "token", &["`discovery token main` failed"]);

    script.always(Answer::status(404));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "discovery", &["404", "ISSUER/.well-known/openid-configuration", "`token_url` instead"]);

    script.always(Answer::edit(|document| {
        document.insert("grant_types_supported".into(), json!(["authorization_code"]));
    }));
    let ended = doctor(&stage).await.with(0);
    says(&ended, "warn", "discovery", &["does not list the grant `client_credentials`"]);

    script.always(Answer::edit(|document| {
        document.insert("token_endpoint_auth_methods_supported".into(), json!(["private_key_jwt"]));
    }));
    let ended = doctor(&stage).await.with(0);
    says(&ended, "warn", "discovery", &["does not list `auth: client_secret_basic`; it lists `private_key_jwt`"]);
}

#[tokio::test]
async fn a_wrong_secret() {
    let stage = Stage::new().await;
    stage.folder.write("secret", "wrong-x-canary");
    let ended = doctor(&stage).await.with(1);
    ended.is_clean();
    let texts =
        ["token main, app", "401", "invalid_client", "compare `client_id` and `client_secret`", "client_secret_post"];
    says(&ended, "FAIL", "token", &texts);
    says(&ended, "skip", "upstream", &["`token token main, app` failed"]);
    assert_eq!(stage.provider.count(), 1, "nothing is tried twice");
}

#[tokio::test]
async fn every_error_word_has_its_cure() {
    let stage = Stage::new().await;
    let usual = stage
        .usual()
        .replace("client_id: app\n", "client_id: app\n    scope: red blue\n    audience: https://a.example\n");
    let cases: [(u16, &str, &str); 9] = [
        (400, "invalid_scope", "`scope` asks for `red blue`"),
        (400, "unauthorized_client", "does not let it use `grant_type: client_credentials`"),
        (400, "unsupported_grant_type", "is `token_url` the token endpoint"),
        (400, "invalid_target", "does not know `https://a.example` as an API"),
        (403, "access_denied", "authorise the client for that API"),
        (400, "use_dpop_nonce", "switch it off at the client"),
        (429, "slow_down", "limits token requests"),
        (503, "temporarily_unavailable", "the provider is in trouble"),
        (404, "x", "is `token_url` the token endpoint, letter by letter?"),
    ];
    stage.folder.write("bearerd.yaml", &usual);
    for (status, word, cure) in cases {
        let answer = json!({"error": word, "error_description": "no \u{1b}[2J because"});
        stage.provider.script().push(Answer::json(status, &answer));
        let ended = doctor(&stage).await.with(1);
        says(&ended, "FAIL", "token", &[word, "it says `no", "because`", cure]);
        assert!(!ended.out.contains('\u{1b}'), "{}", ended.out);
    }
    // The same word means something of its own with some.
    stage.folder.write("bearerd.yaml", &usual.replace("client_id: app", "provider: auth0\n    client_id: app"));
    stage.provider.script().push(Answer::json(403, &json!({"error": "access_denied"})));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "token", &["Machine to Machine Applications"]);
}

#[tokio::test]
async fn what_was_granted_is_held_against_what_was_asked_for() {
    let stage = Stage::new().await;
    let wanted = "client_id: app\n    scope: read write\n    audience: https://other.example\n";
    stage.folder.write("bearerd.yaml", &stage.usual().replace("client_id: app\n", wanted));
    let script = stage.provider.script();
    script.push(Answer::edit(|answer| {
        answer.insert("scope".into(), "read".into());
    }));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "warn", "token", &["`write` is not in it", "take it out of `scope`"]);

    let other = stage.provider.mint("app", "https://third.example", Duration::from_secs(600)).unwrap();
    script.push(Answer::json(200, &json!({"access_token": other, "token_type": "Bearer", "expires_in": 600})));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "warn", "token", &["it is for `https://third.example`, and `https://other.example` was asked for"]);

    script.push(Answer::json(200, &json!({"access_token": other, "token_type": "Bearer", "expires_in": 36_000})));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "warn", "token", &["by its own words it lives for 10m", "`expires_in` and `exp`"]);

    script
        .push(Answer::json(200, &json!({"access_token": "opaque-x-canary", "token_type": "bearer", "expires_in": 60})));
    let ended = doctor(&stage).await.with(1);
    ended.is_clean();
    says(&ended, "ok", "token", &["an opaque token", "good for 1m", "for all of `read write`"]);
}

#[tokio::test]
async fn each_credential_is_tried_once_the_standby_too() {
    let stage = Stage::new().await;
    stage.folder.write("standby", crate::support::SECRET);
    stage.folder.write("secret", "wrong-x-canary");
    let list = "credentials: [{client_id: app, client_secret: {file: secret}}, {client_id: app, client_secret: {file: standby}}]\n";
    let usual = stage.usual().replace("client_id: app\n    client_secret: {file: secret}\n", list);
    stage.folder.write("bearerd.yaml", &usual);
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "token", &["token main, app:", "invalid_client"]);
    says(&ended, "ok", "token", &["app (standby)", "a JWT"]);
    says(&ended, "ok", "upstream", &["200"]);
    assert_eq!(stage.provider.count(), 2);
}

#[tokio::test]
async fn an_api_that_does_not_take_the_token() {
    let stage = Stage::new().await;
    let issuer = stage.provider.issuer().to_owned();
    let challenge = |text: &str| Answer::status(401).header("www-authenticate", text);
    let cases: [(Answer, &str, &[&str]); 8] = [
        (Answer::status(401).into(), "FAIL", &["does not say why", "`https://api.example.test`", &issuer, "`inject`"]),
        (
            challenge("Bearer error=\"invalid_token\", error_description=\"no \u{fffd} audience\"").into(),
            "FAIL",
            &["invalid_token (`no", "expect this issuer and this audience", &issuer],
        ),
        (challenge("Basic realm=\"x\"").into(), "FAIL", &["a name and a password (Basic)", "OAuth tokens at this URL"]),
        (
            Answer::status(403).header("www-authenticate", "Bearer error=insufficient_scope, scope=\"a b\"").into(),
            "FAIL",
            &["wants the scope `a b`", "add it to the token's `scope`"],
        ),
        (Answer::status(403).into(), "warn", &["does not allow this", "a role or a scope"]),
        (Answer::status(407).into(), "FAIL", &["a proxy wants a name", "`proxy`"]),
        (Answer::status(503).into(), "warn", &["answers 503", "in trouble"]),
        (Answer::status(404).into(), "ok", &["answers 404", "says nothing against the token"]),
    ];
    for (answer, mark, texts) in cases {
        stage.api.script().push(answer);
        let ended = doctor(&stage).await;
        let ended = ended.with(i32::from(mark == "FAIL"));
        says(&ended, mark, "upstream", texts);
    }
}

#[tokio::test]
async fn an_api_that_repeats_the_token_has_it_not_printed() {
    let stage = Stage::new().await;
    stage.provider.script().always(Answer::edit(|answer| {
        answer.insert("access_token".into(), "opaque-canary-token-of-36-characters".into());
    }));
    for challenge in [
        "Bearer error=\"invalid_token\", error_description=\"opaque-canary-token-of-36-characters is unknown\"",
        "Bearer error_description=\"unknown: opaque-canary-token-o\"",
        "Bearer error=insufficient_scope, scope=\"opaque-canary-token-of-36-characters\"",
    ] {
        stage.api.script().always(Answer::status(401).header("www-authenticate", challenge));
        for json in [&[][..], &["--json"]] {
            let file = stage.file();
            let ended = bearerd(&[&["doctor", "--config", &file], json].concat(), &[]).await.with(1);
            assert!(ended.out.contains("[token]"), "{ended:#?}");
            assert!(!ended.out.contains("canary") && !ended.err.contains("canary"), "{ended:#?}");
        }
    }
}

#[tokio::test]
async fn the_request_keeps_to_the_routes_rules() {
    let stage = Stage::new().await;
    let allowed = |rules: &str| {
        let route = format!("token: main\n    match: {{path: /v2}}\n    allow: {rules}\n");
        change(&stage, "token: main\n", &route);
    };
    for (rules, asked) in [
        ("[{methods: [GET], path: /v2/reports/**}]", "GET /v2/reports"),
        ("[{methods: [POST], path: /v2}, {methods: [HEAD], path: /v2/x}]", "HEAD /v2/x"),
        ("[{path: /**}]", "GET /v2"),
    ] {
        allowed(rules);
        let ended = doctor(&stage).await.with(0);
        says(&ended, "ok", "upstream", &[asked]);
    }
    let seen = stage.api.requests();
    allowed("[{methods: [POST], path: /**}, {methods: [GET], path: /*/x}]");
    let ended = doctor(&stage).await.with(0);
    says(&ended, "skip", "upstream", &["not asked: no rule of `allow`"]);
    assert_eq!(stage.api.requests().len(), seen.len());
}

#[tokio::test]
async fn an_api_that_speaks_http_2() {
    let stage = Stage::new().await;
    let tls = stage.ca.server(&["localhost"]).unwrap();
    let settings = api::Settings { http2: Some(100), ..api::Settings::new(tls, stage.provider.verifier()) };
    let api = Api::start(settings).await.unwrap();
    change(&stage, stage.api.url(), api.url());
    says(&doctor(&stage).await.with(0), "ok", "upstream", &["answers 200 by HTTP/2 to the token"]);
    assert_eq!(api.requests()[0].authorization_lines, 1);
}

#[tokio::test]
async fn an_api_that_does_not_speak_http() {
    let stage = Stage::new().await;
    // The first connection is looked at and says nothing.
    stage.api.script().on_connect(vec![Step::Hold]);
    stage.api.script().on_connect(vec![Step::Send("220 hello\r\n".into())]);
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "upstream", &["does not answer with proper HTTP", "hint: "]);
}

#[tokio::test]
async fn a_port_that_is_taken_and_one_that_is_ours() {
    let stage = Stage::new().await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    change(&stage, "listen: [127.0.0.1:0]", &format!("listen: [127.0.0.1:{port}]"));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "listener", &["another program listens at 127.0.0.1:", "ss -ltnp", "choose another address"]);

    // A bearerd that runs has its own.
    stage.configure("");
    let running = stage.run(&[]).await;
    let (app, admin) = (running.address, running.page("admin"));
    let own = stage
        .usual()
        .replace("listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0", &format!("listen: ['{app}']\nadmin: '{admin}'"));
    stage.folder.write("own.yaml", &own);
    let ended = bearerd(&["doctor", "--config", &stage.at("own.yaml")], &[]).await.with(0);
    says(&ended, "ok", "listener", &["a running bearerd has it"]);
    assert!(!ended.out.contains("free"), "{}", ended.out);

    // Which says, if so, that it did not take what it read last.
    stage.folder.replace("bearerd.yaml", &stage.usual().replace("client_id: ", "client_ids: "));
    let mut running = running;
    running.child.signal(rustix::process::Signal::HUP);
    running.child.until_err("\"event\":\"reload_refused\"").await;
    let ended = bearerd(&["doctor", "--config", &stage.at("own.yaml")], &[]).await.with(0);
    says(&ended, "ok", "listener", &["a running bearerd has it"]);
    let refused = "it refused the configuration that is written: ";
    says(&ended, "warn", "listener", &["admin at", "a running bearerd has it", refused, "client_ids", "/status"]);
}

#[tokio::test]
async fn a_unix_socket_needs_a_folder() {
    let stage = Stage::new().await;
    let at = stage.at("run");
    change(&stage, "listen: [127.0.0.1:0]", &format!("listen: ['unix:{at}/app.sock']"));
    doctor(&stage).await.with(78).silent().says(&["the socket's folder", "does not exist", "RuntimeDirectory="]);
    std::fs::create_dir(&at).unwrap();
    says(&doctor(&stage).await.with(0), "ok", "listener", &["app.sock: free"]);
    std::fs::write(format!("{at}/app.sock"), "").unwrap();
    says(&doctor(&stage).await.with(1), "FAIL", "listener", &["no socket", "choose another path"]);
}

/// A blocking connect waits until somebody accepts.
#[tokio::test]
async fn a_program_that_listens_and_does_not_accept_keeps_doctor_not_waiting() {
    let stage = Stage::new().await;
    let at = stage.at("app.sock");
    change(&stage, "listen: [127.0.0.1:0]", &format!("listen: ['unix:{at}']"));
    let address = SocketAddrUnix::new(&at).unwrap();
    let new = || socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    let busy = new();
    bind(&busy, &address).unwrap();
    listen(&busy, 0).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        waiting.push(new());
        if let Err(error) = connect(waiting.last().unwrap(), &address) {
            break error;
        }
    };
    assert_eq!(full, Errno::AGAIN);
    says(&doctor(&stage).await.with(1), "FAIL", "listener", &["another program listens there"]);
}

#[tokio::test]
async fn what_leads_back_to_bearerd_is_told() {
    let stage = Stage::new().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let usual = stage.usual().replace("listen: [127.0.0.1:0]", &format!("listen: ['{free}']"));
    stage.folder.write("bearerd.yaml", &usual.replace(stage.api.url(), &format!("https://localhost:{}", free.port())));
    let ended = doctor(&stage).await.with(1);
    says(&ended, "FAIL", "dns", &["route api", "one of bearerd's own listeners", "come back for ever"]);
}

#[tokio::test]
async fn one_upstream_of_two_routes_is_looked_at_once() {
    let stage = Stage::new().await;
    let second = format!(
        "  - name: second\n    upstream: {}\n    match: {{path: /second}}\n    token: none\n    tls: {{ca_file: ca.pem}}\n",
        stage.api.url()
    );
    stage.configure(&second);
    stage.api.script().when(|request| request.uri.path().starts_with("/second").then(|| Answer::status(401).into()));
    let ended = doctor(&stage).await.with(0);
    assert_eq!(checks(&ended).iter().filter(|(_, check)| check == "tls").count(), 2, "{}", ended.out);
    says(&ended, "warn", "upstream", &["route second, GET /second", "it wants a credential", "name a token"]);
}
