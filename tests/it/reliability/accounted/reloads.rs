//! R17: another configuration again and again, with traffic all the while: no request fails, and nothing is left behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;

use super::books::Books;
use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, World};
use crate::reliability::wire::told;
use crate::support::{App, App2, eventually, lasting};

/// One plan of two, with something that no other has: `t0` is the same in all, `t1` changes, and `t2` is in every second one.
fn document(world: &World, api: &str, number: u64) -> String {
    let odd = number % 2 == 1;
    let url = world.provider.token_url();
    let token = |name: &str, more: &str| {
        format!("  {name}: {{token_url: '{url}', client_id: {name}, client_secret: {{file: secret}}{more}}}\n")
    };
    let route = |name: &str, more: &str| {
        format!("  - {{name: {name}, match: {{path: /{name}}}, upstream: '{api}', token: {name}{more}}}\n")
    };
    let changes = format!(", wait: {}s", 10 + number % 7);
    let mut tokens = token("t0", "") + &token("t1", if odd { &changes } else { "" });
    let mut routes = route("t0", "") + &route("t1", if odd { ", via: true" } else { "" });
    if odd {
        tokens += &token("t2", &format!(", params: {{turn: '{number}'}}"));
        routes += &route("t2", ", warm: 1");
    }
    let headers = if odd { 90 } else { 100 };
    format!(
        "listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0\nlimits: {{headers: {headers}}}\ntokens:\n{tokens}routes:\n{routes}"
    )
}

impl Bearerd {
    fn said(&self, event: &str) -> usize {
        self.log().matches(&format!("\"event\":\"{event}\"")).count()
    }

    /// Has it read this, and waits until it has said what came of it.
    async fn read(&self, world: &World, document: &str, event: &str) {
        let before = self.said(event);
        world.folder.replace("bearerd.yaml", document);
        self.signal(Signal::HUP);
        eventually(&format!("it says {event}"), || self.said(event) > before).await;
    }

    /// What the system watches for it.
    fn watches(&self) -> u64 {
        let files = std::fs::read_dir(self.place("fdinfo")).unwrap();
        // One may be closed meanwhile.
        let all = files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
        all.map(|info| info.lines().filter(|line| line.starts_with("inotify wd")).count() as u64).sum()
    }

    /// The names of all that is measured.
    async fn series(&self) -> BTreeSet<String> {
        let metrics = App::connect(self.at("admin")).await.get("/metrics").await;
        let lines = metrics.text().lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_owned()).collect()
    }
}

/// An app that speaks HTTP/2, over one connection until it is told to stop.
async fn by_http2(address: std::net::SocketAddr, books: Arc<Books>, over: Arc<AtomicBool>) {
    let mut app = App2::connect(address).await;
    for route in ["t0", "t1"].into_iter().cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let number = books.ask();
        let own = format!("/{route}/{number}");
        let answer = app.get(&own).await;
        books.answered(number, answer.status, answer.complete && answer.text() == own);
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

#[tokio::test]
async fn reloads_under_traffic_fail_nobody_and_leave_nothing_behind() {
    let mut proof = Proof::new("R17", "another configuration again and again, under load");
    let reloads = lasting(14, 40, 200);
    let world = World::new(3, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    let address = format!("http://{}", api.address);
    let document = |number| document(&world, &address, number);
    world.folder.write("bearerd.yaml", &document(0));
    let bearerd = world.start_ready().await;
    let asked_always = &world.names[..2];
    let load = Load { connections: 4, pace: Duration::from_millis(8), ..Load::new(bearerd.address(), asked_always) };
    let apps = [
        load.clone().start(&world.books),
        Load { per_connection: 1, ..load.clone() }.start(&world.books),
        Load { body: Some(20_000), ..load.clone() }.start(&world.books),
    ];
    let over = Arc::new(AtomicBool::new(false));
    let mut by_http2 = JoinSet::new();
    for _ in 0..2 {
        by_http2.spawn(self::by_http2(bearerd.address(), Arc::clone(&world.books), Arc::clone(&over)));
    }
    let comes_and_goes = Load { connections: 1, ..Load::new(bearerd.address(), &world.names[2..]) };
    let put = async |number: u64| {
        bearerd.read(&world, &document(number), "reloaded").await;
        if number % 2 == 1 {
            comes_and_goes.clone().once(&world.books).await;
        }
    };
    let until_more = async || {
        let more = world.books.balance().served + 50;
        eventually("traffic flows", || world.books.balance().served >= more).await;
    };

    // The first of them cost what stays: code that is read, memory that is kept.
    let warm = 6;
    for number in 1..=warm {
        put(number).await;
    }
    until_more().await;
    let (descriptors, watches, threads, resident, series) =
        (bearerd.descriptors(), bearerd.watches(), bearerd.threads(), bearerd.resident(), bearerd.series().await);
    for number in warm + 1..=warm + reloads {
        put(number).await;
    }
    until_more().await;
    // What a route that is gone had open closes a moment later.
    bearerd.until_descriptors(descriptors + 8).await;
    eventually("no thread is left", || bearerd.threads() <= threads + 1).await;
    proof.at_most("descriptors more than before", bearerd.descriptors().saturating_sub(descriptors), 8);
    proof.at_most("watched folders more than before", bearerd.watches().saturating_sub(watches), 0);
    proof.at_most("threads more than before", bearerd.threads().saturating_sub(threads), 1);
    proof.is("series of metrics that came or went", bearerd.series().await.symmetric_difference(&series).count(), 0);
    proof.at_most("KiB resident more than before", bearerd.resident().saturating_sub(resident), 5 * 1_024);
    proof.figure("KiB resident before", resident);
    let of = |client: &str| bearerd.log().matches(&format!("{client}: got token")).count();
    proof.is("token requests for the token that never changed", of("t0"), 1);
    let all = usize::try_from(warm + reloads).unwrap();
    proof.at_most("token requests for the one that always did", of("t1"), 1 + all);

    // Wrong in one place, and right in another that would do.
    let wrong = document(1).replace("token: t1", "token: t9");
    let line = 1 + wrong.lines().position(|line| line.contains("t9")).unwrap();
    bearerd.read(&world, &wrong, "reload_refused").await;
    let (log, place) = (bearerd.log(), format!("bearerd.yaml:{line}:"));
    let says = |line: &&str| line.contains("\"event\":\"reload_refused\"") && line.contains(&place);
    proof.is("a wrong one: refusals that say the place", log.lines().filter(says).count(), 1);
    let number = world.books.ask();
    let absent = App::connect(bearerd.address()).await.get(&format!("/t2/{number}")).await;
    world.books.turned_away(number);
    proof.is("status of the route that it would have brought", absent.status, 404);
    until_more().await;
    for apps in apps {
        apps.stop().await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = by_http2.join_next().await {
        told(ended);
    }
    let balance = world.books.balance();
    proof.is("requests that failed", balance.asked - balance.served - 1, 0);
    proof.nothing_wrong(&balance);
    proof.asked(balance.asked);
    proof.survived(all as u64);
    bearerd.end().await;
    proof.end();
}
