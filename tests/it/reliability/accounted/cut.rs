//! R8a, R8c: connections that end, behind an answer or within it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::load::{Load, grown};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::lasting;

#[tokio::test]
async fn an_answer_that_is_cut_is_never_taken_for_a_whole_one() {
    let mut proof = Proof::new("R8c", "answers that are cut by FIN and by reset, with a length and in chunks");
    let trials = lasting(200, 1_000, 20_000);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let turn = AtomicU64::new(0);
    let api = upstream(&world.books, None, move || {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        Act::Cut { chunked: turn & 1 == 0, rudely: turn & 2 == 0 }
    })
    .await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    let apps = Load { connections: 8, pace: Duration::from_millis(1), ..Load::new(bearerd.address(), &world.names) }
        .start(&world.books);
    grown("requests", trials, || world.books.asked()).await;
    apps.stop().await;
    // A reset may come before any of it was read: then there was no answer to cut.
    proof.every_cut_was_seen(&world.books.balance());
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn an_api_that_ends_its_connections_fails_nobody_and_gets_nothing_twice() {
    let mut proof = Proof::new("R8a", "an API that ends every third connection behind an answer");
    let trials = lasting(500, 5_000, 250_000);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let turn = AtomicU64::new(0);
    let api = upstream(&world.books, None, move || {
        if turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) { Act::ServeAndEnd } else { Act::SERVE }
    })
    .await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    let load = Load { connections: 8, pace: Duration::from_millis(1), ..Load::new(bearerd.address(), &world.names) };
    let gets = load.clone().start(&world.books);
    grown("requests", trials, || world.books.asked()).await;
    gets.stop().await;
    proof.nothing_lost(&world.books.balance());
    proof.survived(trials / 3);
    bearerd.end().await;
    proof.end();
}
