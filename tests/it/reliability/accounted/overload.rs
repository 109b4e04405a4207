//! R21: ten times as much as an API takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::load::{Load, quantile};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::lasting;

/// What the API takes at a time, and how long for each: 160 a second.
const IN_FLIGHT: u64 = 8;
const TAKES: Duration = Duration::from_millis(50);

#[tokio::test]
async fn ten_times_too_much_is_refused_and_the_rest_is_served() {
    let mut proof = Proof::new("R21", "ten times as many requests as a route admits");
    let seconds = lasting(2, 10, 60);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = (Arc::clone(&now), Arc::clone(&most));
    let api = upstream(&world.books, None, move || {
        let under_way = counts.0.fetch_add(1, Ordering::Relaxed) + 1;
        counts.1.fetch_max(under_way, Ordering::Relaxed);
        Act::ServeOneOf(TAKES, Arc::clone(&counts.0))
    })
    .await;
    let lines = Lines { route: "limits: {in_flight: 8, queue: 8, queue_wait: 1s}", ..Lines::default() };
    world.configure(&format!("http://{}", api.address), lines);
    let bearerd = world.start_ready().await;
    let rest = bearerd.resident();
    let load = Load { connections: 80, pace: TAKES, ..Load::new(bearerd.address(), &world.names) };
    let apps = load.clone().start(&world.books);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let grown = bearerd.resident().saturating_sub(rest);
    let samples = apps.stop().await;
    let balance = world.books.balance();
    let refused = balance.other.get(&503).copied().unwrap_or_default();
    proof.asked(balance.asked);
    proof.is("answers that were neither 200 nor 503", balance.asked - balance.served - refused, 0);
    proof.nothing_wrong(&balance);
    proof.at_most("requests at the API at a time", most.load(Ordering::Relaxed), IN_FLIGHT);
    proof.at_most("MiB that it grew by", grown / 1024, 64);
    let capacity = seconds as f64 * IN_FLIGHT as f64 / TAKES.as_secs_f64();
    let share = (100.0 * balance.served as f64 / capacity).round();
    // Where other tests run beside it, it is theirs to fail.
    proof.at_least("served, in percent of what the API could take", share, lasting(30.0, 50.0, 90.0));
    proof.figure("answers of 503", refused);
    proof.took("half of all answers came within", quantile(&samples, 500));

    let served = balance.served;
    Load { connections: 4, ..load }.once(&world.books).await;
    proof.is("requests behind it that were served", world.books.balance().served - served, 4);
    bearerd.end().await;
    proof.end();
}
