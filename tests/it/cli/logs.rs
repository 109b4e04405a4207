//! What `run` says: events on standard error, of the level and in the format that were asked for, and nothing else.

use rustix::process::Signal;
use serde_json::Value;

use super::child::Child;
use super::stage::Stage;

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
}
