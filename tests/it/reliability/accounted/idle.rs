//! R10: connections that were used once and stay.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::load::{Load, quantile};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::lasting;

#[tokio::test]
async fn idle_connections_cost_little_and_give_everything_back() {
    let mut proof = Proof::new("R10", "connections that have had an answer and ask no more");
    // bearerd keeps two descriptors for each, one of them for an upstream; what it has besides is a few hundred.
    let most = getrlimit(Resource::Nofile).maximum.map_or(10_000, |most| (most as usize / 2).saturating_sub(200));
    let count: usize = lasting(500, 2_000, 10_000.min(most));
    proof.figure("of them", count);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    let lines = Lines { top: "limits: {connections: 10100}", ..Lines::default() };
    world.configure(&format!("http://{}", api.address), lines);
    let bearerd = world.start_ready().await;
    let load = Load { connections: 1, ..Load::new(bearerd.address(), &world.names) };
    load.clone().once(&world.books).await;
    let (resident, descriptors) = (bearerd.resident(), bearerd.descriptors());
    let mut idle = Vec::new();
    for turn in 0..count {
        let mut wire = None;
        load.ask(&mut wire, turn, &world.books).await;
        idle.push(wire);
    }
    let each = bearerd.resident().saturating_sub(resident) as f64 / count as f64;
    proof.at_most("KiB resident for each", each.ceil(), 25.0);
    // One that was open at the beginning may be gone.
    let besides = bearerd.descriptors().saturating_sub(descriptors + count as u64);
    proof.at_most("descriptors besides one for each", besides, 8);
    let spent = bearerd.spent();
    tokio::time::sleep(Duration::from_secs(1)).await;
    proof.took("processor time that they take in a second", bearerd.spent().saturating_sub(spent));
    let apps = Load { connections: 8, pace: Duration::from_millis(16), ..load.clone() }.start(&world.books);
    tokio::time::sleep(Duration::from_secs(lasting(1, 3, 20))).await;
    let samples = apps.stop().await;
    proof.took("p99 of 500 requests a second beside them", quantile(&samples, 990));
    // Each of them is still good.
    for (turn, wire) in idle.iter_mut().enumerate() {
        load.ask(wire, turn, &world.books).await;
    }
    proof.nothing_lost(&world.books.balance());
    drop(idle);
    bearerd.until_descriptors(descriptors + 8).await;
    bearerd.end().await;
    proof.end();
}
