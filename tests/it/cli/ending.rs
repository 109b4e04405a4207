//! How `run` ends, by what, and with which exit code; and what does not end it.

use bearerd::demo::answer::{Answer, Latch};
use rustix::process::Signal;

use super::child::bearerd;
use super::stage::Stage;
use crate::support::{App, PATIENCE};

#[tokio::test]
async fn both_signals_end_it_with_0() {
    let stage = Stage::new().await;
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let running = stage.run(&[]).await;
        let ended = running.child.end_by(signal).await.with(0).silent();
        ended.says(&[&format!("{name}: finishing what is in flight"), "every exchange was finished"]);
    }
}

#[tokio::test]
async fn what_is_in_flight_is_finished_first() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await.ready().await;
    let latch = Latch::new();
    stage.api.script().push(Answer::Held(latch.clone(), Box::new(Answer::Serve)));
    let mut app = App::connect(running.address).await;
    app.send(app.head("GET /slow HTTP/1.1")).await;
    stage.api.log().wait_for(1, PATIENCE).await.unwrap();
    let mut child = running.child;
    child.signal(Signal::TERM);
    child.until_err("\"event\":\"draining\"").await;
    latch.open();
    assert_eq!(app.answer().await.status, 200);
    child.ended().await.with(0).says(&["every exchange was finished"]);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let stage = Stage::new().await;
    for shutdown in ["shutdown: {timeout: 1h}\n", "shutdown: {delay: 1h, timeout: 1h}\n"] {
        stage.configure(shutdown);
        let running = stage.run(&[]).await.ready().await;
        stage.api.log().clear();
        stage.api.script().push(Answer::Held(Latch::new(), Box::new(Answer::Serve)));
        let mut app = App::connect(running.address).await;
        app.send(app.head("GET /never HTTP/1.1")).await;
        stage.api.log().wait_for(1, PATIENCE).await.unwrap();
        let mut child = running.child;
        child.signal(Signal::TERM);
        child.until_err("\"event\":\"draining\"").await;
        child.signal(Signal::INT);
        child.ended().await.with(0).says(&["1 request was cut off"]);
    }
}

#[tokio::test]
async fn what_was_cut_off_is_told_from_what_an_app_left() {
    let stage = Stage::new().await;
    let log = stage.folder.path("access.log");
    for hurried in [false, true] {
        let timeout = if hurried { "1h" } else { "100ms" };
        stage.configure(&format!("access_log: {}\nshutdown: {{timeout: {timeout}}}\n", log.display()));
        let running = stage.run(&[]).await.ready().await;
        stage.api.log().clear();
        let held = || Answer::Held(Latch::new(), Box::new(Answer::Serve));
        stage.api.script().push(held());
        let mut leaver = App::connect(running.address).await;
        leaver.send(leaver.head("GET /left HTTP/1.1")).await;
        stage.api.log().wait_for(1, PATIENCE).await.unwrap();
        drop(leaver);
        let lines = || std::fs::read_to_string(&log).unwrap_or_default();
        crate::support::eventually("the line of who left", || lines().contains("/left")).await;
        stage.api.script().push(held());
        let mut app = App::connect(running.address).await;
        app.send(app.head("GET /cut HTTP/1.1")).await;
        stage.api.log().wait_for(2, PATIENCE).await.unwrap();
        let mut child = running.child;
        child.signal(Signal::TERM);
        child.until_err("\"event\":\"draining\"").await;
        if hurried {
            child.signal(Signal::TERM);
        }
        child.ended().await.with(0).says(&["1 request was cut off"]);
        let told: Vec<_> = lines()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| (line["path"].clone(), line["status"].clone(), line["reason"].clone()))
            .collect();
        let of = |path: &str, reason: serde_json::Value| (path.into(), 499.into(), reason);
        assert_eq!(told, [of("/left", serde_json::Value::Null), of("/cut", "draining".into())]);
        std::fs::remove_file(&log).unwrap();
    }
}

#[tokio::test]
async fn nothing_in_flight_is_nothing_cut_off() {
    let stage = Stage::new().await;
    stage.configure("workers: 2\nshutdown: {delay: 1h}\n");
    let mut child = stage.run(&[]).await.child;
    child.signal(Signal::TERM);
    child.until_err("\"event\":\"draining\"").await;
    child.end_by(Signal::TERM).await.with(0).says(&["every exchange was finished"]);
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do() {
    let stage = Stage::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["listen: [127.0.0.1:0]", "admin: 127.0.0.1:0"] {
        let with = key.replace("127.0.0.1:0", &address);
        stage.folder.write("bearerd.yaml", &stage.usual().replace(key, &with));
        let ended = bearerd(&["run", "--config", &stage.file()], &[]).await.with(1).silent();
        ended.says(&[
            &format!("error: cannot listen on {address}: "),
            "\n  hint: another program has it",
            "`listen` (`--listen`)",
        ]);
    }
    stage
        .folder
        .write("bearerd.yaml", &stage.usual().replace("listen: [127.0.0.1:0]", "listen: [127.0.0.1:0, 'localhost:0']"));
    // Two of our own are no conflict.
    stage.run(&[]).await.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn neither_a_provider_nor_an_upstream_that_is_away_ends_it() {
    let stage = Stage::new().await;
    stage.provider.stop().await;
    let mut running = stage.run(&[]).await;
    running.child.until_err("\"event\":\"token_failed\"").await;
    let answer = running.get("/").await;
    assert_eq!((answer.status, &*answer.reason()), (503, "no_token"));
    stage.provider.restart().await.unwrap();
    let running = running.ready().await;
    assert_eq!(running.get("/").await.status, 200);
    stage.api.stop().await;
    assert_eq!(running.get("/").await.status, 502);
    stage.api.restart().await.unwrap();
    assert_eq!(running.get("/").await.status, 200);
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn an_upstream_that_has_no_name_ends_nothing_either() {
    let stage = Stage::new().await;
    let nowhere = stage.usual().replace(stage.api.url(), "https://api.nowhere.invalid");
    stage.folder.write("bearerd.yaml", &nowhere);
    let running = stage.run(&[]).await.ready().await;
    let answer = running.get("/").await;
    assert!([502, 504].contains(&answer.status), "{answer:?}");
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn a_command_that_prints_a_password_does_not_hold_up_the_end() {
    let stage = Stage::new().await;
    stage.configure("callers: {clients: [{name: a, password: {exec: [/bin/sleep, '600'], timeout: 5m}}]}\n");
    let running = stage.run(&[]).await;
    running.child.end_by(Signal::TERM).await.with(0);
}
