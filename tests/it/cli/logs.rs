//! What `run` says: events on standard error, of the level and in the format that were asked for, and nothing else.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use serde_json::Value;

use super::child::Child;
use super::stage::Stage;
use crate::support::App;

#[tokio::test]
async fn away_from_a_terminal_every_line_is_json_with_stable_names() {
    let stage = Stage::new().await;
    let running = stage.run(&["--log-level", "debug"]).await.ready().await;
    running.get("/orders/7").await;
    let ended = running.child.end_by(Signal::TERM).await.with(0).silent();
    let lines: Vec<Value> = ended.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut events = Vec::new();
    for line in &lines {
        for name in ["time", "level", "event", "message"] {
            assert!(line[name].as_str().is_some_and(|text| !text.is_empty()), "{name} in {line}");
        }
        assert!(["error", "warn", "info", "debug"].contains(&line["level"].as_str().unwrap()), "{line}");
        events.push(line["event"].as_str().unwrap());
    }
    for event in ["listening", "token_asked", "token_granted", "ready", "exchange", "draining", "stopped"] {
        assert!(events.contains(&event), "{event} in {events:?}");
    }
    let exchange = lines.iter().find(|line| line["event"] == "exchange").unwrap();
    assert_eq!((&exchange["route"], &exchange["status"]), (&"api".into(), &200.into()), "{exchange}");
}

#[tokio::test]
async fn pretty_is_one_sentence_a_line_without_colour() {
    let stage = Stage::new().await;
    stage.configure("log: {format: pretty}\n");
    let mut child = Child::spawn(&["run", "--config", &stage.file()], &[]);
    child.until_err("ready: every required token has been held once").await;
    let ended = child.end_by(Signal::TERM).await.with(0).silent();
    for line in ended.err.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T') && rest.starts_with("info  "), "{line}");
        assert!(!line.contains('\u{1b}') && !line.contains('{'), "{line}");
    }
}

#[tokio::test]
async fn a_level_leaves_out_what_is_below_it() {
    let stage = Stage::new().await;
    let levels = |log: &str| -> Vec<String> {
        let level = |line: &str| serde_json::from_str::<Value>(line).unwrap()["level"].as_str().unwrap().to_owned();
        log.lines().map(level).collect()
    };
    let ended = stage.run(&["--log-level", "info"]).await.ready().await.child.end_by(Signal::TERM).await.with(0);
    assert!(levels(&ended.err).iter().all(|level| level == "info"), "{}", ended.err);

    // Nothing to read for now, so the provider tells when it is up.
    stage.provider.script().push(bearerd::demo::answer::Answer::status(500));
    let mut child = Child::spawn(&["run", "--config", &stage.file(), "--log-level", "error"], &[]);
    child.until_err("\"event\":\"token_failed\"").await;
    let ended = child.end_by(Signal::TERM).await.with(0).silent();
    assert_eq!(levels(&ended.err), ["error"], "{}", ended.err);
}

#[tokio::test]
async fn a_warning_of_the_configuration_is_an_event() {
    let stage = Stage::new().await;
    let running = Child::spawn(&["run", "--config", &stage.file()], &[("BEARERD_UPSTREAN", "x")]);
    let running = super::stage::Running::of(running).await;
    let ended = running.child.end_by(Signal::TERM).await.with(0);
    let line: Value = serde_json::from_str(ended.err.lines().next().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["level"]), (&"config_warning".into(), &"warn".into()));
    assert!(line["message"].as_str().unwrap().contains("did you mean `BEARERD_UPSTREAM`?"), "{line}");

    // One that has a hint is one line as well.
    std::fs::set_permissions(stage.at("secret"), Permissions::from_mode(0o644)).unwrap();
    let running = super::stage::Running::of(Child::spawn(&["run", "--config", &stage.file()], &[])).await;
    let ended = running.child.end_by(Signal::TERM).await.with(0);
    let line: Value = serde_json::from_str(ended.err.lines().next().unwrap()).unwrap();
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("; hint: ") && !message.contains('\n'), "{line}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_keeps_no_request_waiting() {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::Stdio;

    let stage = Stage::new().await;
    let mut command = super::child::command(&["run", "--config", &stage.file(), "--log-level", "debug"], &[]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = BufReader::new(child.stderr.take().unwrap());
    let begins = tokio::task::spawn_blocking(move || {
        let (mut address, mut line) = (None, String::new());
        while !line.contains("\"event\":\"ready\"") {
            line.clear();
            assert!(pipe.read_line(&mut line).unwrap() > 0, "it ended");
            let told: Value = serde_json::from_str(&line).unwrap();
            if told["event"] == "listening" && told["listener"] != "admin" {
                address = Some(told["address"].as_str().unwrap().parse().unwrap());
            }
        }
        (pipe, address.unwrap())
    });
    let (mut pipe, address) = begins.await.unwrap();
    let mut app = App::connect(address).await;
    // Several times what a pipe holds, at a line each.
    for number in 0..1_500 {
        assert_eq!(app.get("/").await.status, 200, "request {number}");
    }
    let reading = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        pipe.read_to_string(&mut rest).unwrap();
        rest
    });
    // Until there is room again.
    for _ in 0..100 {
        assert_eq!(app.get("/").await.status, 200);
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    let rest = reading.await.unwrap();
    assert!(child.wait().unwrap().success());
    let lines: Vec<Value> =
        rest.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let lost: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
    let told = lines.iter().filter(|line| line["event"] == "exchange").count();
    assert!(lost > 100, "{lost} lost, {told} told");
    // But for the odd line of another event.
    assert!((1_600..1_620).contains(&(u64::try_from(told).unwrap() + lost)), "{lost} lost, {told} told");
}

/// The first line about a refusal for this reason, once it is there.
async fn refusal(child: &mut Child, reason: &str) -> Value {
    child.until_err(&format!("\"reason\":\"{reason}\"")).await;
    let mut found = None;
    crate::support::eventually(&format!("a line about {reason}"), || {
        let log = child.err();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        found = lines.find(|line| line["reason"] == reason && line["event"] != "exchange");
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test]
async fn a_refusal_says_what_was_asked_by_whom_and_what_to_do() {
    let stage = Stage::new().await;
    stage.configure("    allow: [{methods: [GET], path: /open/**}]\ncallers: {hosts: [proxy.test]}\n");
    let mut running = stage.run(&[]).await.ready().await;
    // A listener without a name has its address, as it was written.
    let listener = "127.0.0.1:0";
    for (head, reason, host, why) in [
        (
            "GET / HTTP/1.1\nHost: Rebind.attacker.test:80",
            "host_not_ours",
            "rebind.attacker.test:80",
            "`callers.hosts`",
        ),
        ("GET / HTTP/1.1\nHost: localhost\nOrigin: https://Evil.test", "web_origin", "localhost", "`callers.origins`"),
        ("CONNECT db.test:5432 HTTP/1.1\nHost: db.test:5432", "no_route", "db.test:5432", "`tunnel`"),
        ("FROB-canary /open/x HTTP/1.1\nHost: proxy.test", "not_allowed", "proxy.test", "`allow`"),
        ("GET /a/../canary HTTP/1.1\nHost: localhost", "bad_path", "", "dot segment"),
        ("GET /open/canary?canary HTTP/1.1\nHost: <b>canary</b>", "ambiguous_host", "", "Host is not a host"),
    ] {
        let mut app = App::connect(running.address).await;
        let answer = app.ask(head).await;
        assert_eq!(answer.reason(), reason, "{answer:?}");
        let line = refusal(&mut running.child, reason).await;
        let is = |name: &str, value: &str| line[name] == value || value.is_empty() && line[name].is_null();
        assert!(is("event", "refused") && is("level", "warn") && is("fault", "app"), "{line}");
        assert!(is("host", host) && is("listener", listener), "{line}");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["why"].as_str().unwrap().contains(why) && line["suppressed"] == 0, "{line}");
        let method = head.split(' ').next().unwrap();
        assert!(is("method", if method.contains("canary") { "other" } else { method }), "{line}");
        let (message, said) = (line["message"].as_str().unwrap(), line["why"].as_str().unwrap());
        assert!(message.contains(said) && message.contains(host) && message.contains(reason), "{line}");
    }
    assert_eq!(refusal(&mut running.child, "web_origin").await["origin"], "https://evil.test");
    assert_eq!(refusal(&mut running.child, "not_allowed").await["route"], "api");
    let log = running.child.err();
    assert!(!log.contains("canary"), "{log}");
    let status = App::connect(running.page("admin")).await.get("/status").await;
    let refused = &status.json()["refused"]["last"];
    let kinds: Vec<_> = refused.as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ambiguous_host", "bad_path", "not_allowed", "no_route", "web_origin", "host_not_ours"]);
    let first = refusal(&mut running.child, "host_not_ours").await;
    let what = format!("GET for rebind.attacker.test:80: {}", first["why"].as_str().unwrap());
    assert_eq!((&refused[5]["what"], &refused[5]["times"]), (&what.into(), &1.into()), "{refused}");
    assert_eq!((&refused[5]["listener"], &refused[2]["route"]), (&listener.into(), &"api".into()), "{refused}");
    assert!(!status.text().contains("canary"), "{}", status.text());
    let last = running.child.end_by(Signal::TERM).await.with(0);
    assert!(!last.err.contains("canary"), "{}", last.err);
}

#[tokio::test]
async fn a_caller_is_told_by_its_uid_or_its_name_and_a_turned_away_connection_by_its_listener() {
    let stage = Stage::new().await;
    stage.folder.write("billing", "b");
    let socket = stage.at("app.sock");
    let listen = format!("listen: ['127.0.0.1:0', {{name: legacy, address: 'unix:{socket}'}}]\n");
    let usual = stage.usual().replace("listen: [127.0.0.1:0]\n", &listen);
    stage.folder.write(
        "bearerd.yaml",
        &format!(
            "{usual}    allow: [{{path: /open}}]\ncallers: {{clients: [{{name: billing, password: {{file: billing}}}}]}}\n"
        ),
    );
    let mut running = stage.run(&[]).await.ready().await;
    let mut app = App::connect_to(std::path::Path::new(&socket)).await;
    assert_eq!(app.get("/closed").await.reason(), "not_allowed");
    let line = refusal(&mut running.child, "not_allowed").await;
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!((&line["uid"], &line["peer"], &line["listener"]), (&uid.into(), &Value::Null, &"legacy".into()));
    assert!(
        line["message"].as_str().unwrap().contains(&format!("GET for localhost from uid {uid} at legacy")),
        "{line}"
    );

    let mut app = App::connect(running.address).await;
    let named = "GET /../x HTTP/1.1\nHost: rebind.test\nAuthorization: Basic YmlsbGluZzpi";
    assert_eq!(app.ask(named).await.reason(), "bad_path");
    let mut app = App::connect(running.address).await;
    let named = "GET /x HTTP/1.1\nHost: rebind.test\nAuthorization: Basic YmlsbGluZzpi";
    assert_eq!(app.ask(named).await.reason(), "host_not_ours");
    let line = refusal(&mut running.child, "host_not_ours").await;
    assert_eq!(line["caller"], "billing", "{line}");

    let mut app = App::connect(running.address).await;
    app.send("canary\r\n\r\n").await;
    app.hears_until_end().await;
    let line = refusal(&mut running.child, "bad_request").await;
    let log = running.child.end_by(Signal::TERM).await.with(0).err;
    assert!(line["why"].as_str().unwrap().contains("it is not HTTP") && line["peer"].is_string(), "{line}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn an_outage_of_the_upstream_and_of_the_provider_have_an_end_in_the_log() {
    let stage = Stage::new().await;
    stage.provider.script().push(bearerd::demo::answer::Answer::status(500));
    let running = stage.run(&[]).await.ready().await;
    let events = |log: &str, event: &str| -> Vec<Value> {
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == event).collect()
    };
    let granted = &events(&running.child.err(), "token_granted")[0];
    assert_eq!(granted["failures"], 1, "{granted}");
    assert!(granted["failed_for_seconds"].as_f64().unwrap() > 0.0, "{granted}");
    assert!(granted["message"].as_str().unwrap().contains("the provider grants again, after "), "{granted}");

    assert_eq!(running.get("/").await.status, 200);
    stage.api.stop().await;
    let begun = std::time::Instant::now();
    let mut failed = 0;
    // What is shorter is no outage.
    while begun.elapsed() < std::time::Duration::from_secs(5) {
        assert_eq!(running.get("/").await.status, 502);
        failed += 1;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    stage.api.restart().await.unwrap();
    for _ in 0..3 {
        assert_eq!(running.get("/").await.status, 200);
    }
    let log = running.child.end_by(Signal::TERM).await.with(0).err;
    let failures = events(&log, "upstream_failed");
    assert!((2..=20).contains(&failures.len()), "at most one a second: {log}");
    assert!(failures.iter().all(|line| line["route"] == "api" && line["fault"] == "upstream"), "{log}");
    let recovered = events(&log, "upstream_recovered");
    let [recovered] = &recovered[..] else { panic!("{log}") };
    assert_eq!((&recovered["route"], &recovered["failed"]), (&"api".into(), &failed.into()));
    assert!(recovered["lasted_seconds"].as_f64().unwrap() >= 5.0, "{recovered}");
}
