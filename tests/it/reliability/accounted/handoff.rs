//! R9b: restarts with a socket that somebody else holds, as systemd does.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::load::{Load, quantile};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::cli::activation::{activated, on_loopback};
use crate::cli::child::Child;
use crate::support::{eventually, lasting};

#[tokio::test]
async fn a_restart_behind_an_inherited_socket_turns_nobody_away() {
    let mut proof = Proof::new("R9b", "restarts with a handed-over socket, and a new connection for each request");
    let restarts = lasting(2, 5, 20);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let (socket, address) = on_loopback();
    let text = std::fs::read_to_string(world.folder.path("bearerd.yaml")).unwrap();
    world.folder.write("bearerd.yaml", &text.replace("listen: [127.0.0.1:0]", &format!("listen: ['{address}']")));
    let file = world.folder.path("bearerd.yaml").display().to_string();
    let start = async || world.of(Child::start(activated(&["run", "--config", &file], &[], &[&socket]))).await;

    let mut bearerd = start().await.ready().await;
    // As fast as they can.
    let load = Load { connections: 16, per_connection: 1, pace: Duration::ZERO, ..Load::new(address, &world.names) };
    let (begun, apps) = (Instant::now(), load.start(&world.books));
    let until_more = async || {
        let enough = world.books.balance().served + 100;
        eventually("a hundred more are served", || world.books.balance().served >= enough).await;
    };
    for _ in 0..restarts {
        until_more().await;
        bearerd.signal(Signal::TERM);
        bearerd.ended().await.with(0).says(&["every exchange was finished"]);
        bearerd = start().await;
    }
    until_more().await;
    let rate = world.books.balance().asked as f64 / begun.elapsed().as_secs_f64();
    let samples = apps.stop().await;
    let balance = world.books.balance();
    proof.is("connections that were refused", balance.turned_away, 0);
    proof.is("connections that were reset, or ended without an answer", balance.broken, 0);
    proof.nothing_lost(&balance);
    proof.survived(restarts);
    proof.figure("new connections in a second, restarts included", format!("{rate:.0}"));
    proof.took("the longest wait, over a restart", quantile(&samples, 1_000));
    bearerd.end().await;
    proof.end();
}
