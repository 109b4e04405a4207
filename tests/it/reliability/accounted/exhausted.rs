//! R13: descriptors, threads and memory that run out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, Lines, World, until_calls};
use crate::support::{App, eventually, lasting, scaled};

/// Apps that were there first.
const FIRST: usize = 8;

fn first(bearerd: &Bearerd, world: &World) -> Load {
    Load { connections: FIRST, pace: Duration::from_millis(100), ..Load::new(bearerd.address(), &world.names) }
}

/// Waits until each of them has its connection.
async fn until_settled(world: &World) {
    eventually("everybody was served", || world.books.balance().served >= 10 * FIRST as u64).await;
}

/// How much of a processor's time it took while this went on, in percent.
async fn share(bearerd: &Bearerd, meanwhile: impl Future<Output = ()>) -> u64 {
    let (begun, spent) = (Instant::now(), bearerd.spent());
    meanwhile.await;
    let percent = 100.0 * bearerd.spent().saturating_sub(spent).as_secs_f64() / begun.elapsed().as_secs_f64();
    percent.ceil() as u64
}

#[tokio::test]
async fn a_crowd_beyond_the_descriptors_costs_nobody_who_is_in_anything() {
    let mut proof = Proof::new("R13", "256 descriptors, and 400 connections that stay");
    // `limits.connections` that there are descriptors for, as docs/logs.md says of `few_descriptors`.
    const ROOM: u64 = 96;
    const CROWD: u64 = 400;
    let world = World::new(1, Duration::from_secs(2)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines { top: "limits: {head: 10m}", ..Lines::default() });
    let bearerd = world.of(world.start_within(&[("nofile", 256)])).await.ready().await;
    let apps = first(&bearerd, &world).start(&world.books);
    until_settled(&world).await;

    let (ended, told) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let mut stream = TcpStream::connect(bearerd.address()).await.unwrap();
        let (ended, told) = (Arc::clone(&ended), Arc::clone(&told));
        crowd.spawn(async move {
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            told.fetch_add(u64::from(heard.starts_with(b"HTTP/1.1 503 ")), Ordering::Relaxed);
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    let out = CROWD + FIRST as u64 - ROOM;
    eventually("there is no place for the others", || ended.load(Ordering::Relaxed) >= out).await;
    let calls = world.provider.count();
    let percent = share(&bearerd, async {
        for more in 1..=lasting(2, 3, 30) {
            until_calls(&world.provider, calls + more).await;
        }
        proof.is("status of /livez meanwhile", bearerd.status("admin", "/livez").await, 200);
        proof.is("status of /readyz", bearerd.status("admin", "/readyz").await, 200);
        proof.is("status of /metrics", bearerd.status("admin", "/metrics").await, 200);
        let newcomer = App::connect(bearerd.address()).await.get("/t0/0").await;
        proof.is("status that one more connection gets", newcomer.status, 503);
    })
    .await;
    proof.at_most("percent of a processor that it takes", percent, lasting(50, 50, 20));
    proof.is("connections of the crowd that were turned away", ended.load(Ordering::Relaxed), out);
    proof.figure("of these, told why by a 503", told.load(Ordering::Relaxed));
    proof.at_least("tokens meanwhile", world.provider.count() - calls, 2);
    proof.is("token requests that failed", bearerd.token_requests(|outcome| outcome != "granted").await, 0);
    proof.renewed(world.provider.count() - calls);

    let left = Instant::now();
    crowd.shutdown().await;
    let status = async || App::connect(bearerd.address()).await.get("/t0/0").await.status;
    while status().await == 503 {
        assert!(left.elapsed() < crate::support::PATIENCE, "there is room again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proof.figure("from when they leave to the first one who is served", format!("{:.0?}", left.elapsed()));
    apps.stop().await;
    proof.survived(1);
    // The first is asked for once more by hand.
    proof.nothing_lost_though_repeated(&world.books.balance());
    bearerd.end().await;
    proof.end();
}

/// How often accept(2) failed, as far as it was told.
fn refusals(log: &str) -> u64 {
    let lines = log.lines().filter(|line| line.contains("\"event\":\"accept_failed\""));
    lines.map(|line| 1 + serde_json::from_str::<Value>(line).unwrap()["suppressed"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn whoever_comes_while_there_is_no_descriptor_waits_and_is_served() {
    let mut proof = Proof::new("R13b", "connections that come while accept(2) says EMFILE");
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    // No new one has so low a number, whatever is closed meanwhile.
    let before = bearerd.limit("nofile", "8");
    // Long enough for what goes unsaid to be told.
    let seconds = lasting(2, 3, 20);
    let late = Load { connections: 50, ..first(&bearerd, &world) };
    let begun = Instant::now();
    let meanwhile = async {
        let waiting = async {
            bearerd.until_said("\"event\":\"accept_failed\"").await;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        };
        let percent = share(&bearerd, waiting).await;
        bearerd.limit("nofile", &before);
        percent
    };
    let (percent, samples) = tokio::join!(meanwhile, late.once(&world.books));
    proof.at_most("percent of a processor that it takes", percent, lasting(50, 50, 20));
    let tries = refusals(&bearerd.log()) as f64 / begun.elapsed().as_secs_f64();
    proof.at_most("times a second that it tries to accept", tries.round(), 20.0);
    proof.is("connections that waited", samples.len(), 50);
    proof.survived(1);
    proof.nothing_lost(&world.books.balance());
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn without_threads_it_says_so_and_what_runs_goes_on() {
    let mut proof = Proof::new("R13c", "no thread is to be had: from the first moment on, and while it runs");
    let world = World::new(2, Duration::from_secs(2)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines { top: "access_log: access.log", ..Lines::default() });
    let text = std::fs::read_to_string(world.folder.path("bearerd.yaml")).unwrap().replace("localhost", "127.0.0.1");
    world.folder.write("bearerd.yaml", &text);

    let (mut refused, mut ran) = (0, 0);
    let starts = scaled(5, 8);
    for threads in 0..starts {
        let child = world.start_within(&[("nproc", threads)]);
        let mut over = false;
        eventually("it runs, or has ended", || {
            over = child.err().contains("error: ") || child.err().contains("panicked");
            over || child.err().contains("\"event\":\"ready\"")
        })
        .await;
        if over {
            child.ended().await.with(1).says(&["error: the system gives no thread for `"]);
            refused += 1;
        } else {
            let bearerd = world.of(child).await;
            proof.is("status of /livez", bearerd.status("admin", "/livez").await, 200);
            assert!(!bearerd.log().contains("panicked"), "{}", bearerd.log());
            bearerd.end().await;
            ran += 1;
        }
    }
    proof.is("starts with few threads that were refused with a reason, or ran", refused + ran, starts);
    proof.at_least("of these, refused", refused, 1);
    proof.figure("of these, ran", ran);

    // The second route's upstream has a name, which nobody has looked up yet.
    let (most, last) = text.rsplit_once("127.0.0.1").unwrap();
    world.folder.write("bearerd.yaml", &format!("{most}localhost{last}"));
    let bearerd = world.of(world.start_within(&[])).await.ready().await;
    // Threads that have nothing to do any more, and were begun at the start.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = bearerd.limit("nproc", "0");
    let apps = Load { routes: Arc::new(vec!["t0".to_owned()]), ..first(&bearerd, &world) }.start(&world.books);
    until_settled(&world).await;
    let ask = async |path: &str| App::connect(bearerd.address()).await.get(path).await;
    let unnamed = ask("/t1/0").await;
    proof.is("status where a name was to be looked up", unnamed.status, 503);
    let changed = format!("{most}localhost{last}\nlog: {{level: debug}}\n");
    world.folder.write("bearerd.yaml", &changed);
    bearerd.signal(rustix::process::Signal::HUP);
    bearerd.until_said("\"event\":\"reload_refused\"").await;
    proof.is(
        "refusals that say which thread there was not",
        bearerd.log().matches("the system gives no thread for `reload`").count().min(1),
        1,
    );
    let calls = world.provider.count();
    until_calls(&world.provider, calls + scaled(2, 4)).await;
    bearerd.limit("nproc", &before);
    // By itself.
    bearerd.until_said("\"event\":\"reloaded\"").await;
    let left = Instant::now();
    while ask("/t1/0").await.status == 503 {
        assert!(left.elapsed() < crate::support::PATIENCE, "names are looked up again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    apps.stop().await;
    proof.is("token requests that failed", bearerd.token_requests(|outcome| outcome != "granted").await, 0);
    proof.is("panics", bearerd.log().matches("panicked").count(), 0);
    proof.survived(3);
    // As above.
    proof.nothing_lost_though_repeated(&world.books.balance());
    bearerd.end().await;
    proof.end();
}

/// What it may grow by, in bytes.
const MEMORY: u64 = 24 << 20;

/// A head of 60 KiB that does not come to its end, over each of so many connections, which are there for as long as what
/// comes back is; a connection that is told something is dropped.
async fn half_heads(bearerd: &Bearerd, connections: usize) -> Vec<TcpStream> {
    let head = format!("GET /t0/0 HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(60 << 10));
    let mut all = Vec::new();
    for _ in 0..connections {
        // Who is gone takes nothing.
        let Ok(mut stream) = TcpStream::connect(bearerd.address()).await else { break };
        let _ = stream.write_all(head.as_bytes()).await;
        all.push(stream);
    }
    all
}

/// Whether one more connection is told that it is too many.
async fn turned_away(bearerd: &Bearerd) -> bool {
    let mut stream = TcpStream::connect(bearerd.address()).await.unwrap();
    let mut heard = Vec::new();
    let _ = stream.write_all(b"GET /t0/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let _ = stream.read_to_end(&mut heard).await;
    heard.starts_with(b"HTTP/1.1 503 ")
}

#[tokio::test]
async fn memory_that_runs_out_is_a_limit_or_an_end_and_never_a_halt() {
    let mut proof = Proof::new("R13d", "heads of 60 KiB that stay, and 24 MiB of memory for them");
    const HEADS: usize = 800;
    for bounded in [true, false] {
        let world = World::new(1, Duration::from_secs(3_600)).await;
        let api = upstream(&world.books, None, || Act::SERVE).await;
        let top = if bounded { "limits: {connections: 64, head: 10m}" } else { "limits: {head: 10m}" };
        world.configure(&format!("http://{}", api.address), Lines { top, ..Lines::default() });
        let bearerd = world.start_ready().await;
        // It takes what it needs for itself first.
        Load { connections: FIRST, ..first(&bearerd, &world) }.once(&world.books).await;
        bearerd.limit("data", &(bearerd.data() + MEMORY).to_string());
        let heads = half_heads(&bearerd, HEADS).await;
        if bounded {
            proof.is("with `limits.connections: 64`, status of /livez", bearerd.status("admin", "/livez").await, 200);
            // The last of those who are told have to be gone first.
            let begun = Instant::now();
            while !turned_away(&bearerd).await {
                assert!(begun.elapsed() < crate::support::PATIENCE, "one more is told that it is too many");
            }
            drop(heads);
            bearerd.until_descriptors(40).await;
            Load { connections: FIRST, ..first(&bearerd, &world) }.once(&world.books).await;
            proof.nothing_lost(&world.books.balance());
            bearerd.end().await;
        } else {
            let ended = bearerd.ended().await;
            proof.is("without, ends by a signal that say why", u64::from(ended.code.is_none()), 1);
            proof.is("words for it", ended.err.matches("memory allocation of").count(), 1);
        }
    }
    proof.survived(2);
    proof.end();
}
