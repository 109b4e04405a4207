//! R1: a thousand renewals and more under load, and not one request that is the worse for them.

use std::time::{Duration, Instant};

use super::load::{Load, Sample, grown, quantile};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World, until_calls};
use crate::support::{lasting, scaled};

const LIFE: Duration = Duration::from_secs(2);

/// As near to a renewal as this a request may have met it.
const NEAR: Duration = Duration::from_millis(100);

#[tokio::test]
async fn renewals_under_load_fail_nobody() {
    let mut proof = Proof::new("R1", "renewals under load");
    let (tokens, renewals) = (scaled(40, 150), lasting(60, 1_000, 100_000));
    let world = World::new(tokens, LIFE).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines { top: "workers: 2", ..Lines::default() });
    let bearerd = world.start_ready().await;
    let first = world.provider.count();
    let load = Load {
        connections: 32,
        pace: Duration::from_millis(lasting(64, 24, 24)),
        ..Load::new(bearerd.address(), &world.names)
    };
    let apps = load.start(&world.books);
    grown("token requests", (first + renewals) as u64, || world.provider.count() as u64).await;
    let samples = apps.stop().await;
    let calls = world.provider.calls();
    let refused = calls.iter().filter(|call| call.issued.is_none()).count();
    proof.nothing_lost(&world.books.balance());
    proof.at_least("renewals", calls.len() - tokens, renewals);
    proof.is("token requests that were refused", refused, 0);
    proof.renewed(calls.len() - tokens);
    let near = near(&samples, calls.iter().map(|call| call.at));
    proof.took("p99 of all requests", quantile(&samples, 990));
    proof.took("p99 of those within 100 ms of a renewal of any token", quantile(&near, 990));
    bearerd.end().await;
    proof.end();
}

/// The samples that were under way near one of these moments.
fn near(samples: &[Sample], moments: impl Iterator<Item = Instant>) -> Vec<Sample> {
    let mut moments: Vec<Instant> = moments.collect();
    moments.sort_unstable();
    let is_near = |(begun, took): &Sample| {
        let from = *begun - NEAR;
        let next = moments.partition_point(|moment| *moment < from);
        moments.get(next).is_some_and(|moment| *moment <= *begun + *took + NEAR)
    };
    samples.iter().copied().filter(is_near).collect()
}

/// One token among many, so that most requests are far from its renewals: what these cost is seen.
#[tokio::test]
async fn a_request_near_a_renewal_is_as_quick_as_any() {
    let mut proof = Proof::new("R1b", "latency near a renewal");
    let renewals = lasting(2, 8, 400);
    let world = World::new(1, LIFE).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    let apps = Load { connections: 8, pace: Duration::from_millis(8), ..Load::new(bearerd.address(), &world.names) }
        .start(&world.books);
    until_more(&world, renewals).await;
    let samples = apps.stop().await;
    let calls = world.provider.calls();
    proof.nothing_lost(&world.books.balance());
    proof.renewed(calls.len() - 1);
    let (all, near) = (quantile(&samples, 990), quantile(&near(&samples, calls.iter().map(|call| call.at)), 990));
    proof.took("p99 of all requests", all);
    let bar = all.mul_f64(1.2).max(all + Duration::from_millis(1));
    proof.within("p99 of those within 100 ms of a renewal, to be no fifth more, or no millisecond", near, bar);
    bearerd.end().await;
    proof.end();
}

async fn until_more(world: &World, renewals: usize) {
    let wanted = world.provider.count() + renewals;
    let mut known = world.provider.count();
    while known < wanted {
        known += 1;
        until_calls(&world.provider, known).await;
    }
}
