//! R20: bugs of our own, wherever there is a task.
//!
//! A build with debug assertions panics where it is told to (`src/bug.rs`); others have nothing to show here, and say so.

use std::time::{Duration, Instant};

use bearerd::demo::api::{self, Api};
use bearerd::demo::certs::Ca;
use rustix::process::Signal;
use serde_json::Value;

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, Lines, World};
use crate::support::{App, PATIENCE, eventually, lasting};

/// bearerd with these bugs; `None` where there can be none.
async fn start(id: &str, world: &World, bugs: &str) -> Option<Bearerd> {
    if !cfg!(debug_assertions) {
        Proof::skipped(id, "a build without debug assertions has no bugs on purpose");
        return None;
    }
    let wanted = |mut command: std::process::Command| {
        command.env("BEARERD_PANIC", bugs);
        command
    };
    Some(world.start_by(wanted).await)
}

/// How often the log has this event.
fn told(bearerd: &Bearerd, event: &str) -> usize {
    bearerd.log().matches(&format!("\"event\":\"{event}\"")).count()
}

#[tokio::test]
async fn a_panic_costs_its_own_request_and_leaves_nothing_behind() {
    let mut proof =
        Proof::new("R20", "panics in the path of every second request, before it is sent and behind its answer");
    let panics = lasting(50, 200, 1_000);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    // A place that is not given back is missed at once.
    let lines = Lines { route: "limits: {in_flight: 8, queue: 8, queue_wait: 100ms}", ..Lines::default() };
    world.configure(&format!("http://{}", api.address), lines);
    let Some(bearerd) = start("R20", &world, "request:/3,answer:/4").await else { return };
    let bearerd = bearerd.ready().await;
    let load = Load { connections: 8, pace: Duration::from_millis(2), ..Load::new(bearerd.address(), &world.names) };
    load.clone().once(&world.books).await;
    let (descriptors, resident) = (bearerd.descriptors(), bearerd.resident());
    let apps = load.start(&world.books);
    let failed = || world.books.balance().other.get(&500).copied().unwrap_or_default();
    let begun = Instant::now();
    while failed() < panics {
        assert!(begun.elapsed() < 6 * PATIENCE, "waited for {panics} panics, there were {}", failed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    apps.stop().await;
    let balance = world.books.balance();
    let failed = failed();
    proof.is("requests that had neither a 200 of their own nor a 500", balance.asked - balance.served - failed, 0);
    proof.at_most("requests that failed, of twelve", (failed * 12).div_ceil(balance.asked), 7);
    proof.nothing_wrong(&balance);
    let most = failed as usize;
    eventually("each panic is told", || told(&bearerd, "panicked") >= most).await;
    proof.at_most("MiB that it grew by", bearerd.resident().saturating_sub(resident) / 1024, 8);
    proof.asked(balance.asked);
    proof.survived(failed);
    bearerd.until_descriptors(descriptors + 8).await;
    bearerd.end().await;
    proof.end();
}

/// Each task that there is once, and each that there is for a connection.
const BUGS: &str = "driver:1,token:1,acceptor:2,order:1,access-log:1,reloader:1,files:1,page:1,pages:1,http1:1,dial:1,\
                    lookup:1,tend:1,history:1";

#[tokio::test]
async fn a_task_that_panics_is_started_again() {
    let mut proof = Proof::new("R20b", "a panic in each kind of task, one after the other and all at once");
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    let url = format!("http://localhost:{}", api.address.port());
    let log = format!("access_log: {}\nworkers: 2", world.folder.path("access.log").display()).leak();
    world.configure(&url, Lines { top: log, ..Lines::default() });
    let Some(bearerd) = start("R20b", &world, BUGS).await else { return };
    let bearerd = bearerd.ready().await;
    let load = Load { connections: 8, ..Load::new(bearerd.address(), &world.names) };
    let mut cost = 0;
    let begun = Instant::now();
    loop {
        let before = world.books.balance();
        load.ask(&mut None, 0, &world.books).await;
        if world.books.balance().served > before.served {
            break;
        }
        cost += 1;
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for a request that is served: {}", bearerd.log());
    }
    let lost = world.books.balance();
    let apps = load.start(&world.books);
    // The pages come back as well, and a reload is seen.
    let log = format!("{log}\nlimits: {{connections: 500}}").leak();
    world.configure(&url, Lines { top: log, ..Lines::default() });
    eventually("a changed configuration is in force", || told(&bearerd, "reloaded") > 0).await;
    let is_up = async || {
        let asking = App::connect(bearerd.at("admin")).await;
        let (mut app, path) = (asking, "/livez");
        app.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        tokio::time::timeout(PATIENCE, app.hears_until_end()).await.unwrap().starts_with(b"HTTP/1.1 200")
    };
    let mut pages = 0;
    while !is_up().await {
        pages += 1;
        assert!(pages < 10, "the pages do not come back");
    }
    tokio::time::sleep(Duration::from_secs(lasting(0, 1, 20))).await;
    apps.stop().await;
    let balance = world.books.balance();
    proof.at_most("requests that it cost", cost, 6);
    proof.at_most("requests of the admin pages that it cost", pages, 1);
    proof.is(
        "requests behind them without a 200 of their own",
        (balance.asked - balance.served) - (lost.asked - lost.served),
        0,
    );
    proof.nothing_wrong(&balance);
    let bugs = BUGS.split(',').count() + 1;
    let tasks: std::collections::BTreeSet<String> = bearerd
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["event"] == "task_panicked")
        .map(|line| line["task"].as_str().unwrap().to_owned())
        .collect();
    proof.is("panics that were told, with their places", told(&bearerd, "panicked"), bugs);
    for task in [
        "a token's loop",
        "an acceptor",
        "a worker's loop",
        "the watch over files",
        "the configuration's reloader",
        "the admin pages' acceptor",
    ] {
        proof.is(
            &format!("times that {task} was told of as started again, at least"),
            u64::from(tasks.contains(task)),
            1,
        );
    }
    let lines = std::fs::read_to_string(world.folder.path("access.log")).unwrap().lines().count() as u64;
    proof.at_least("lines of the access log, for each request behind its panic", lines, balance.served / 2);
    proof.asked(balance.asked);
    proof.survived(bugs as u64);
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn an_http2_connection_whose_driver_panics_takes_no_more_requests() {
    let mut proof = Proof::new("R20c", "a panic in what drives a connection of HTTP/2");
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let ca = Ca::new().unwrap();
    let settings = api::Settings::new(ca.server(&["localhost"]).unwrap(), world.provider.verifier());
    let api = Api::start(api::Settings { http2: Some(100), ..settings }).await.unwrap();
    world.folder.write("ca.pem", &ca.pem());
    world.configure(api.url(), Lines { route: "tls: {ca_file: ca.pem}", ..Lines::default() });
    // Its driver is called a handful of times for each request: it ends within some of them.
    let Some(bearerd) = start("R20c", &world, "http2:/9").await else { return };
    let bearerd = bearerd.ready().await;
    let (requests, mut served, mut slowest) = (lasting(20, 50, 1_000), 0, Duration::ZERO);
    for number in 0..requests {
        let begun = Instant::now();
        let answer = App::connect(bearerd.address()).await.get(&format!("/t0/{number}")).await;
        slowest = slowest.max(begun.elapsed());
        served += u64::from(answer.status == 200);
        assert!([200, 502].contains(&answer.status), "{} {}", answer.status, answer.text());
    }
    let bugs = told(&bearerd, "panicked") as u64;
    proof.at_least("panics", bugs, 2);
    proof.at_most("requests that they cost", requests - served, bugs);
    proof.at_most(
        "s for the slowest answer, where nobody waits for a connection without a driver",
        slowest.as_secs(),
        10,
    );
    proof.asked(requests);
    proof.survived(bugs);
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn a_worker_that_is_lost_takes_the_process_with_it() {
    let mut proof = Proof::new("R20d", "a worker that ends by a panic outside of all that is contained");
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(
        &format!("http://{}", api.address),
        Lines { top: "workers: 2\nshutdown: {delay: 0s}", ..Lines::default() },
    );
    let Some(bearerd) = start("R20d", &world, "worker:1").await else { return };
    let ended = bearerd.ended().await;
    proof.is("times that it is told", ended.err.matches("\"event\":\"worker_fell\"").count(), 1);
    proof.is("exit code", ended.code.unwrap_or(-1), 1);
    let Some(bearerd) = start("R20d", &world, "farewell:1").await else { return };
    let ended = bearerd.ready().await.end_by(Signal::TERM).await;
    proof.is("the same behind SIGTERM: told", ended.err.matches("\"event\":\"worker_fell\"").count(), 1);
    proof.is("exit code", ended.code.unwrap_or(-1), 1);
    proof.survived(2);
    proof.end();
}
