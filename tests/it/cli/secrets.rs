//! No failure at any log level shows a secret or a token. What a process said is searched when it ends, by
//! [`Child::ended`](super::child::Child::ended); the tests here make it fail in every way.

use bearerd::demo::answer::Answer;
use rustix::process::Signal;
use serde_json::json;

use super::child::{Child, bearerd};
use super::stage::{Running, Stage, borrowed};
use crate::support::{App, SECRET};

/// A provider's answers that are no grant, each with what it should not have repeated.
fn bad_answers() -> Vec<Answer> {
    let echo = format!("you sent {SECRET} and get eyJhbGciOiJub25lIn0.e30.x-canary");
    vec![
        Answer::status(500).body(echo.clone()).into(),
        Answer::status(401).header("www-authenticate", "Basic realm=\"x-canary\"").body(echo.clone()).into(),
        Answer::json(400, &json!({"error": "x-canary eyJ", "error_description": echo})).into(),
        Answer::json(200, &json!({"error": "invalid_client", "error_description": echo})).into(),
        Answer::json(200, &json!({"token": echo})).into(),
        Answer::json(200, &json!({"access_token": "eyJ x-canary\r\nHost: x", "token_type": "Bearer"})).into(),
        Answer::json(200, &json!({"access_token": "eyJx-canary", "token_type": "x-canary", "expires_in": "x-canary"}))
            .into(),
        Answer::json(200, &json!({"access_token": "eyJx-canary", "token_type": "Bearer", "expires_in": -1})).into(),
        Answer::status(307).header("location", "https://localhost/?x-canary").into(),
        Answer::status(503).header("retry-after", "x-canary").body(echo).into(),
        Answer::raw("x-canary is not HTTP\r\n\r\n"),
        Answer::close(),
        Answer::reset(),
    ]
}

#[tokio::test]
async fn a_provider_that_fails_in_every_way_makes_nobody_talk() {
    let stage = Stage::new().await;
    for (index, answer) in bad_answers().into_iter().enumerate() {
        stage.provider.script().clear();
        stage.provider.script().always(answer);
        let ended = bearerd(&["token", "--config", &stage.file(), "--log-level", "trace"], &[]).await;
        if ended.code == Some(1) {
            ended.silent().says(&["error: no token `main` from `localhost`: "]);
        } else {
            panic!("answer {index} was taken: {ended:?}");
        }
        let mut running = stage.run(&["--log-level", "trace"]).await;
        running.child.until_err("\"event\":\"token_failed\"").await;
        assert_eq!(running.get("/").await.reason(), "no_token");
        assert_pages_are_clean(&running).await;
        running.child.end_by(Signal::TERM).await.with(0);
    }
}

async fn assert_pages_are_clean(running: &Running) {
    for path in ["/status", "/metrics", "/readyz", "/startupz"] {
        let answer = App::connect(running.page("admin")).await.get(path).await;
        assert!(!answer.text().contains("x-canary") && !answer.text().contains("eyJ"), "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_good_day_and_a_bad_upstream_show_nothing_at_trace() {
    let stage = Stage::new().await;
    let mut variables = stage.variables();
    variables.retain(|(name, _)| *name != "BEARERD_CLIENT_SECRET_FILE");
    variables.push(("BEARERD_CLIENT_SECRET", SECRET.to_owned()));
    variables.push(("BEARERD_LOG_LEVEL", "trace".to_owned()));
    let running = Running::of(Child::spawn(&["run"], &borrowed(&variables))).await.ready().await;
    assert_eq!(running.get("/orders?key=x-canary").await.status, 200);
    let mut app = App::connect(running.address).await;
    app.ask("GET /x-canary HTTP/1.1\nAuthorization: Bearer eyJx-canary\nX-Api-Key: x-canary\nCookie: x-canary").await;
    for answer in [Answer::raw("x-canary is not HTTP\r\n\r\n"), Answer::close(), Answer::reset()] {
        stage.api.script().always(answer);
        assert_eq!(running.get("/").await.status, 502);
    }
    stage.api.script().clear();
    stage.api.script().push(Answer::status(401).header("www-authenticate", "Bearer error=\"x-canary\""));
    // Whether the renewal came in time is not the question here.
    assert!([200, 401].contains(&running.get("/").await.status));
    // A host and an origin that are one are told, and nothing else that stands there.
    let refusals = [
        "GET /../x-canary HTTP/1.1",
        "GET / HTTP/1.1\nOrigin: https://evil.example/x-canary",
        "GET / HTTP/1.1\nOrigin: https://x-canary@evil.example",
        "GET / HTTP/1.1\nHost: x-canary@evil.example",
        "GET /x-canary HTTP/1.1\nHost: evil.example\nX-Api-Key: x-canary",
    ];
    for refused in refusals {
        let answer = App::connect(running.address).await.ask(refused).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
        assert!(!answer.text().contains("x-canary"), "{answer:?}");
    }
    assert_pages_are_clean(&running).await;
    running.child.end_by(Signal::TERM).await.with(0).silent();
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_not_repeated() {
    let stage = Stage::new().await;
    let usual = stage.usual();
    for (right, wrong) in [
        ("client_id: app", "client_id: {x-canary: 1}"),
        ("{file: secret}", "{x-canary}"),
        ("{file: secret}", "{env: }"),
        ("{file: secret}", "[x-canary]"),
        ("{file: secret}", "\"x-canary\\n\""),
        ("token_url: https://", "token_url: https://app:x-canary@"),
        ("token: main", "token: x-canary"),
        ("token: main", "token: main\n    headers: {X-Key: \"x-canary\\u0001\"}"),
        ("token: main", "token: main\n    inject: {scheme: \"x-canary \\u00e9\"}"),
        ("listen: [127.0.0.1:0]", "listen: x-canary"),
        ("admin: 127.0.0.1:0", "admin: x-canary"),
        ("admin: 127.0.0.1:0", "workers: x-canary"),
        ("admin: 127.0.0.1:0", "log: {level: x-canary}"),
        ("admin: 127.0.0.1:0", "shutdown: {delay: x-canary}"),
    ] {
        stage.folder.write("bearerd.yaml", &usual.replacen(right, wrong, 1));
        for command in ["check", "run", "token", "health"] {
            let ended = Child::spawn(&[command, "--config", &stage.file()], &[]).ended_with_token().await;
            // The name of a key is no value, and the typist needs it.
            let told = ended.err.replace("x-canary: ", "").replace("[\"x-canary\"]", "").replace(".x-canary", "");
            assert!(ended.code == Some(78) && !told.contains("x-canary"), "{command} with {wrong}: {ended:#?}");
        }
    }
}

#[tokio::test]
async fn a_command_that_prints_one_secret_is_not_told_the_others() {
    let stage = Stage::new().await;
    let (secret, heard) = (stage.at("secret"), stage.at("heard"));
    let document = stage
        .usual()
        .replace("{file: secret}", &format!("{{exec: [/bin/sh, -c, 'env > {heard}; cat {secret}']}}"))
        .replace(
            "tokens:\n",
            "tokens:\n  other: {token_url: 'https://localhost:1', client_id: app, client_secret: {env: OTHERS}, required: off}\n",
        );
    let more =
        "    headers: {X-Key: {env: HEADER}}\n  - {match: {path: /o}, upstream: 'https://localhost:1', token: other}\n";
    stage.folder.write("bearerd.yaml", &(document + more));
    let variables = [
        ("OTHERS", SECRET),
        ("HEADER", "x-canary-header"),
        ("NOTIFY_SOCKET", "/nowhere"),
        ("LISTEN_FDS", "1"),
        ("WATCHDOG_USEC", "1000000"),
        ("VAULT_ADDR", "https://vault.example"),
    ];
    let file = stage.file();
    let running = Running::of(Child::spawn(&["run", "--config", &file], &variables)).await.ready().await;
    let heard = std::fs::read_to_string(&heard).unwrap();
    assert!(heard.contains("VAULT_ADDR="), "what it needs itself it gets: {heard}");
    for name in ["OTHERS", "HEADER", "NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "canary"] {
        assert!(!heard.contains(name), "{name} in {heard}");
    }
    running.child.end_by(Signal::TERM).await.with(0);
}
