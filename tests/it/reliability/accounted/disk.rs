//! R27: a disk that is full, under the access log and the state, and has room again.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::load::{Load, quantile};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, Lines, World};
use crate::cli::child::{BINARY, Child};
use crate::support::{App, eventually, lasting};

/// What makes a disk of 64 KiB that one more line or two fit on, for the process alone and all that it runs.
const WITH_A_FULL_DISK: &str = "mount -t tmpfs -o size=64k none \"$1\" && \
     mkdir \"$1/state\" && \
     head -c 61440 /dev/zero > \"$1/ballast\" && \
     shift && exec \"$@\"";

impl Bearerd {
    /// A file as the process sees it.
    fn sees(&self, file: &std::path::Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.pid(), file.display()))
    }

    async fn lost_lines(&self) -> u64 {
        let page = App::connect(self.at("admin")).await.get("/metrics").await;
        let line = page.text().lines().find_map(|line| line.strip_prefix("bearerd_access_log_dropped_total "));
        line.unwrap().parse().unwrap()
    }
}

/// Whether a user may mount something where nobody else sees it.
fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

#[tokio::test]
async fn a_full_disk_costs_lines_and_nothing_else() {
    if !can_mount() {
        return Proof::skipped("R27", "this system lets a user mount nothing (`unshare -Urm`)");
    }
    let mut proof = Proof::new("R27", "a full disk under the access log and `state_dir`");
    let world = World::new(1, Duration::from_secs(2)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    let top = "access_log: disk/access.log\nstate_dir: disk/state";
    // What was asked is remembered for its sake.
    let lines = Lines { token: "budget: 10000/1h", top, ..Lines::default() };
    world.configure(&format!("http://{}", api.address), lines);
    let disk = world.folder.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-Urm", "/bin/sh", "-c", WITH_A_FULL_DISK, "sh"]).arg(&disk);
    command.args([BINARY, "run", "--config"]).arg(world.folder.path("bearerd.yaml")).env_clear();
    command.env("PATH", std::env::var("PATH").unwrap());
    let bearerd = world.of(Child::start(command)).await.ready().await;
    let (log, state) = (bearerd.sees(&disk.join("access.log")), bearerd.sees(&disk.join("state").join("t0.json")));
    let written = || std::fs::read_to_string(&log).unwrap();

    let load = Load { connections: 8, ..Load::new(bearerd.address(), &world.names) };
    let apps = load.clone().start(&world.books);
    bearerd.until_said("\"event\":\"access_log_lost\"").await;
    bearerd.until_said("\"event\":\"state_unwritable\"").await;
    let calls = world.provider.count();
    tokio::time::sleep(Duration::from_secs(lasting(1, 3, 30))).await;
    super::world::until_calls(&world.provider, calls + 1).await;
    let samples = apps.stop().await;
    proof.took("p99 while no line is written", quantile(&samples, 990));
    let asked = world.books.balance().asked;
    let counted = async || written().lines().count() as u64 + bearerd.lost_lines().await;
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while counted().await < asked && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lost = bearerd.lost_lines().await;
    proof.at_least("lines that were lost", lost, asked / 2);
    // A line of which a part was written is counted as lost, and stands there in part.
    proof.at_most("lines that are neither written nor counted, or both", counted().await.abs_diff(asked), 1);

    std::fs::remove_file(bearerd.sees(&disk.join("ballast"))).unwrap();
    let first = world.books.ask();
    world.books.turned_away(first);
    let apps = load.start(&world.books);
    eventually("lines come again", || {
        let number = |line: &str| line.split("\"path\":\"/t0/").nth(1)?.split('"').next()?.parse::<u64>().ok();
        written().lines().filter_map(number).any(|number| number > first)
    })
    .await;
    eventually("so does the state", || state.exists()).await;
    apps.stop().await;
    let balance = world.books.balance();
    proof.is("requests that failed, but for the mark in between", balance.asked - balance.served - 1, 0);
    proof.nothing_wrong(&balance);
    proof.asked(balance.asked - 1);
    proof.is("lines that are lost since", bearerd.lost_lines().await, lost);
    proof.is("token requests that failed", bearerd.token_requests(|outcome| outcome != "granted").await, 0);
    proof.survived(1);
    bearerd.end().await;
    proof.end();
}
