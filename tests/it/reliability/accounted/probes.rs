//! R18: what a kubelet asks, and what it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, Lines, World};
use crate::cli::child::{Child, command};
use crate::reliability::wire::Wire;
use crate::support::lasting;

/// How long tokens live.
const LIFE: Duration = Duration::from_secs(2);

/// What the pages say, of both listeners and by `bearerd health`, whose exit code says 200 by 0.
async fn told(bearerd: &Bearerd, path: &str) -> u16 {
    let (admin, health) = (bearerd.status("admin", path).await, bearerd.status("health", path).await);
    let address = bearerd.at("admin").to_string();
    let mut arguments = vec!["health", "--admin", &address];
    if path == "/readyz" {
        arguments.push("--ready");
    }
    let code = Child::start(command(&arguments, &[])).ended().await.code;
    assert_eq!((admin, admin == 200), (health, code == Some(0)), "{path}: the two, and `bearerd health`: {code:?}");
    admin
}

/// Asks for `/livez` again and again: how often it was, and how often the answer was another than 200.
struct Prober {
    counts: Arc<[AtomicU64; 2]>,
    asking: JoinSet<()>,
}

impl Prober {
    fn start(bearerd: &Bearerd) -> Self {
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let (address, ours) = (bearerd.at("health"), Arc::clone(&counts));
        let mut asking = JoinSet::new();
        asking.spawn(async move {
            loop {
                let mut wire = Wire::connect(address).await;
                wire.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
                let status = wire.head().await.unwrap().unwrap().status();
                ours[0].fetch_add(1, Ordering::Relaxed);
                ours[1].fetch_add(u64::from(status != 200), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { counts, asking }
    }

    async fn end(mut self) -> (u64, u64) {
        self.asking.abort_all();
        if let Some(Err(error)) = self.asking.join_next().await {
            assert!(error.is_cancelled(), "a probe had no answer: {error}");
        }
        let [asked, other] = &*self.counts;
        (asked.load(Ordering::Relaxed), other.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn it_lives_without_anybody_and_is_ready_from_its_first_token_to_its_end() {
    let mut proof = Proof::new("R18", "probes, while the provider and the API come and go");
    let world = World::new(1, LIFE).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    let (address, delay) = (api.address, "health: 127.0.0.1:0\nshutdown: {delay: 1h}");
    world.configure(&format!("http://{address}"), Lines { top: delay, ..Lines::default() });

    // Nobody is there.
    drop(api);
    world.provider.stop().await;
    let bearerd = world.start().await;
    let prober = Prober::start(&bearerd);
    bearerd.until_said("\"event\":\"token_failed\"").await;
    tokio::time::sleep(Duration::from_secs(lasting(0, 1, 20))).await;
    proof.is("without provider and API from the start: /livez", told(&bearerd, "/livez").await, 200);
    proof.is("/readyz", told(&bearerd, "/readyz").await, 503);
    proof.is("/startupz", bearerd.status("health", "/startupz").await, 503);

    world.provider.restart().await.unwrap();
    let bearerd = bearerd.ready().await;
    proof.is("with the first token, and no API: /readyz", told(&bearerd, "/readyz").await, 200);
    proof.is("/livez", told(&bearerd, "/livez").await, 200);
    proof.is("/startupz", bearerd.status("health", "/startupz").await, 200);

    world.provider.stop().await;
    bearerd.until_tokens_are("expired", &world.names).await;
    // A pod that is not ready for its own app gets no better by being restarted.
    proof.is("in an outage, the token expired: /livez", told(&bearerd, "/livez").await, 200);
    proof.is("/readyz", told(&bearerd, "/readyz").await, 200);
    world.provider.restart().await.unwrap();
    bearerd.until_tokens_are("fresh", &world.names).await;

    bearerd.signal(Signal::TERM);
    bearerd.until_said("\"event\":\"draining\"").await;
    let (live, ready) = (bearerd.status("health", "/livez").await, bearerd.status("health", "/readyz").await);
    proof.is("from SIGTERM on: /livez", live, 200);
    proof.is("/readyz", ready, 503);
    let (asked, other) = prober.end().await;
    bearerd.signal(Signal::TERM);
    bearerd.ended().await.with(0).says(&["every exchange was finished"]);
    proof.is("answers of /livez all the while that were not 200", other, 0);
    proof.asked(asked);
    proof.survived(3);
    proof.end();
}

#[tokio::test]
async fn a_token_that_is_not_required_is_not_waited_for() {
    let mut proof = Proof::new("R18b", "probes, with `required: false` and no provider");
    let world = World::new(1, LIFE).await;
    world.provider.stop().await;
    world.configure(
        "http://127.0.0.1:9",
        Lines { token: "required: false", top: "health: 127.0.0.1:0", ..Lines::default() },
    );
    let bearerd = world.start_ready().await;
    bearerd.until_said("\"event\":\"token_failed\"").await;
    proof.is("/readyz", told(&bearerd, "/readyz").await, 200);
    proof.is("/livez", told(&bearerd, "/livez").await, 200);
    proof.is("/startupz", bearerd.status("health", "/startupz").await, 200);
    bearerd.end().await;
    proof.end();
}

/// As a native sidecar it is told to end when the app has ended.
#[tokio::test]
async fn behind_an_app_that_has_ended_it_ends_at_once() {
    let mut proof = Proof::new("R18c", "SIGTERM when all apps have ended");
    let rounds = lasting(2, 5, 50);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let bearerd = world.start_ready().await;
        Load { connections: 8, ..Load::new(bearerd.address(), &world.names) }.once(&world.books).await;
        bearerd.signal(Signal::TERM);
        let signalled = Instant::now();
        bearerd.ended().await.with(0).says(&["every exchange was finished"]);
        slowest = slowest.max(signalled.elapsed());
    }
    proof.nothing_lost(&world.books.balance());
    proof.survived(rounds);
    // The drain may take 25 seconds where there is something to drain.
    proof.at_most("seconds that the slowest end took", slowest.as_secs(), 10);
    proof.figure("the slowest end", format!("{slowest:.0?}"));
    proof.end();
}
