//! A process that may open few descriptors, and a crowd: nobody is kept waiting, tokens are renewed, and it goes on.
#![cfg(target_os = "linux")]

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::child::{BINARY, Child};
use super::stage::{Running, Stage};
use crate::support::{App, PATIENCE};

async fn with_few(stage: &Stage, descriptors: u32) -> Running {
    let mut command = Command::new("sh");
    let line = format!("ulimit -n {descriptors}; exec \"$0\" run --config \"$1\"");
    command.args(["-c", &line, BINARY, &stage.file()]).env_clear();
    Running::of(Child::start(command)).await
}

/// Processor time that it has used, in hundredths of a second.
fn used(running: &Running) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.child.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_crowd_takes_no_descriptor_that_a_token_needs() {
    let stage = Stage::new().await;
    stage.provider.stop().await;
    let mut running = with_few(&stage, 256).await;
    running.child.until_err("\"event\":\"few_descriptors\"").await;
    running.child.until_err("\"event\":\"token_failed\"").await;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(running.address).await.unwrap());
    }
    // 96 are kept, and all others end without having asked for anything.
    let (mut ended, mut answered) = (0, 0);
    for one in &mut crowd[96..] {
        let mut heard = Vec::new();
        let end = tokio::time::timeout(PATIENCE, one.read_to_end(&mut heard)).await;
        assert!(end.is_ok(), "one too many is neither served nor refused");
        ended += 1;
        answered += usize::from(heard.starts_with(b"HTTP/1.1 503 "));
    }
    assert!(ended == 304 && answered > 0, "{answered} of {ended} were told why");
    // Meanwhile it does not spin: a core would be a hundred.
    let before = used(&running);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(used(&running) - before < 60, "{} hundredths of a second in one", used(&running) - before);
    stage.provider.restart().await.unwrap();
    let mut running = running.ready().await;
    // Those who are in are served, and the next ones as soon as there is room.
    let mut first = App::of(crowd.swap_remove(0));
    assert_eq!(first.get("/first").await.status, 200);
    drop(crowd);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while running.get("/again").await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "there is room again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.child.until_err("\"event\":\"turned_away\"").await;
    running.child.end_by(Signal::TERM).await.with(0);
}
