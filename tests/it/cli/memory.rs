//! The memory of a process that holds tokens is nobody else's: no core dump, and no reading by the same user.
#![cfg(target_os = "linux")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;

use bearerd::demo::answer::Answer;
use rustix::process::Signal;

use super::child::{self, Child};
use super::stage::{Running, Stage};
use crate::support::PATIENCE;

/// Anybody's but root's.
const NOBODY: u32 = 65_534;

/// How large a core dump of it may be: the soft limit and the hard one.
fn core_limits(child: &Child) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    core.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn there_are_no_core_dumps() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await;
    assert_eq!(core_limits(&running.child), ["0", "0"]);
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn nor_of_a_command_that_asks_for_a_token() {
    let stage = Stage::new().await;
    stage.provider.script().push(Answer::hang());
    let child = Child::spawn(&["token", "--config", &stage.file()], &[]);
    stage.provider.wait_for(1, PATIENCE).await.unwrap();
    assert_eq!(core_limits(&child), ["0", "0"]);
}

/// A process that is not dumpable shows in its `/proc` folder belonging to root, whoever runs it. Root's own shows
/// nothing, so as root it is run as nobody.
#[tokio::test]
async fn nobody_reads_its_memory() {
    let stage = Stage::new().await;
    let file = stage.file();
    let mut command = child::command(&["run", "--config", &file], &[]);
    if rustix::process::geteuid().is_root() {
        let binary = stage.folder.path("bearerd");
        child::copy_binary(&binary);
        for (name, mode) in
            [("", 0o755), ("bearerd", 0o755), ("bearerd.yaml", 0o644), ("ca.pem", 0o644), ("secret", 0o644)]
        {
            std::fs::set_permissions(stage.folder.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        command = std::process::Command::new(binary);
        command.args(["run", "--config", &file]).env_clear().uid(NOBODY).gid(NOBODY);
    }
    let running = Running::of(Child::start(command)).await;
    let owner = |name: &str| std::fs::metadata(format!("/proc/{}/{name}", running.child.pid())).unwrap().uid();
    assert_eq!((owner("environ"), owner("mem"), owner("fd")), (0, 0, 0));
    running.child.signal(Signal::TERM);
    running.child.ended().await.with(0);
}
