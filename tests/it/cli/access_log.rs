//! Where the access log goes: standard output, which may be closed or full, and files, which may not be there.

use std::io::Read as _;

use rustix::process::Signal;
use serde_json::Value;

use super::child::{Child, bearerd, command};
use super::stage::{Running, Stage};

#[tokio::test]
async fn standard_output_carries_a_line_for_each_request_and_nothing_else() {
    let stage = Stage::new().await;
    stage.configure("access_log: stdout\n");
    let mut running = stage.run(&[]).await.ready().await;
    for path in ["/a?x-canary", "/b", "/c"] {
        assert_eq!(running.get(path).await.status, 200);
    }
    // While it runs, and not at its end.
    running.child.until_out("\"/c\"").await;
    assert_eq!(running.get("/d").await.status, 200);
    let ended = running.child.end_by(Signal::TERM).await.with(0);
    let path = |line| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned();
    let paths: Vec<String> = ended.out.lines().map(path).collect();
    assert_eq!(paths, ["/a", "/b", "/c", "/d"]);
    assert!(!ended.err.contains("access_log_lost"), "{}", ended.err);
}

#[tokio::test]
async fn a_standard_output_that_is_closed_or_that_nobody_reads_holds_up_nobody() {
    let stage = Stage::new().await;
    stage.configure("access_log: stdout\n");
    let file = stage.file();
    /// More than can be tried one after the other while it ends.
    const MANY: u64 = 1_000;
    for closed in [true, false] {
        let (reader, writer) = std::io::pipe().unwrap();
        let held = (!closed).then_some(reader);
        let child = Child::into(command(&["run", "--config", &file], &[]), writer);
        let running = Running::of(child).await.ready().await;
        for _ in 0..MANY {
            assert_eq!(running.get("/x").await.status, 200);
        }
        // Its end is soon as well, whatever is left.
        let begun = std::time::Instant::now();
        let ended = running.child.end_by(Signal::TERM).await.with(0).says(&["\"event\":\"access_log_lost\""]);
        assert!(begun.elapsed() < crate::support::PATIENCE / 2, "{}", ended.err);
        let lost: u64 = ended
            .err
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["event"] == "access_log_lost")
            .map(|line| line["lines"].as_u64().unwrap())
            .sum();
        if closed {
            assert_eq!(lost, MANY, "{}", ended.err);
        } else {
            // 64 KiB of them are in the pipe, and of all others it is told that they are lost.
            let mut text = String::new();
            held.unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text.lines().count() as u64 + lost, MANY, "{}", ended.err);
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_a_mistake_in_the_configuration() {
    let stage = Stage::new().await;
    for (to, why, cure) in [
        (stage.at("none/access.log"), "No such file or directory", "make its folder first"),
        (stage.at(""), "Is a directory", "name a file in it"),
    ] {
        stage.configure(&format!("access_log: '{to}'\n"));
        let told = format!("error: access_log: `{to}` cannot be written to: {why}");
        bearerd(&["run", "--config", &stage.file()], &[]).await.with(78).silent().says(&[&told, cure]);
        // Which is seen before, by `check` as a doubt: it may look at another machine's configuration.
        let told = format!("access_log: `{to}` cannot be written to: {why}");
        bearerd(&["check", "--config", &stage.file()], &[]).await.with(0).says(&["warning: ", &told, cure]);
        let ended = bearerd(&["doctor", "--config", &stage.file()], &[]).await.with(1);
        let line = ended.out.lines().find(|line| line.starts_with("FAIL  access_log")).unwrap();
        assert!(line.contains(why) && ended.out.contains(&format!("hint: {cure}")), "{ended:?}");
    }
    // Neither makes it.
    stage.configure(&format!("access_log: '{}'\n", stage.at("access.log")));
    assert!(!bearerd(&["check", "--config", &stage.file()], &[]).await.with(0).err.contains("access_log"));
    let ended = bearerd(&["doctor", "--config", &stage.file()], &[]).await.with(0);
    assert!(ended.out.contains("access.log: can be written to"), "{ended:?}");
    assert!(!stage.folder.path("access.log").exists());
}

#[tokio::test]
async fn a_command_has_its_standard_output_to_itself() {
    let stage = Stage::new().await;
    for to in ["stdout", "access.log"] {
        stage.configure(&format!("access_log: {to}\n"));
        let file = stage.file();
        let ended = bearerd(&["exec", "--config", &file, "--", "/bin/echo", "done"], &[]).await.with(0);
        assert_eq!(ended.out, "done\n");
        assert_eq!(ended.err.contains("is left out: standard output is the command's"), to == "stdout", "{ended:?}");
    }
}
