//! An upstream that goes on and on without answering costs time, which has a limit, and no memory.
#![cfg(target_os = "linux")]

use bearerd::demo::answer::Answer;
use bearerd::demo::steps::Step;
use bytes::Bytes;
use rustix::process::Signal;

use super::child::Child;
use super::stage::Stage;

/// What the upstream says before it answers, far more than the head of an answer may have.
const SAID: usize = 32 * 1024 * 1024;

/// More than what a connection and its buffers take, far less than what was said.
const GROWTH: usize = SAID / 4;

/// A line of `/proc/PID/status`, in bytes.
pub(super) fn memory(child: &Child, line: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    let value = status.lines().find_map(|one| one.strip_prefix(line)).unwrap();
    value.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn hints_before_an_answer_are_not_kept() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await.ready().await;
    assert_eq!(running.get("/warm").await.status, 200);
    let before = memory(&running.child, "VmHWM:");
    let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "x".repeat(1_000));
    let many = Bytes::from(hint.repeat(64));
    let mut steps = vec![Step::Send(many.clone()); SAID / many.len()];
    steps.push(Step::Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".into()));
    stage.api.script().push(Answer::Raw(steps));
    let answer = running.get("/x").await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    let grown = memory(&running.child, "VmHWM:") - before;
    assert!(grown < GROWTH, "{grown} bytes for {SAID}");
    running.child.end_by(Signal::TERM).await.with(0);
}
