//! R6: an API that refuses every token, and a provider that does not feel it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::lasting;

#[tokio::test]
async fn a_storm_of_401_does_not_become_a_storm_of_token_requests() {
    let mut proof = Proof::new("R6", "every request is refused with 401");
    let seconds = lasting(3, 15, 60);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let refuses = Arc::new(AtomicBool::new(true));
    let mood = Arc::clone(&refuses);
    let act = move || if mood.load(Ordering::Relaxed) { Act::Refuse } else { Act::SERVE };
    let api = upstream(&world.books, None, act).await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    let load = Load { connections: 16, pace: Duration::from_millis(16), ..Load::new(bearerd.address(), &world.names) };
    let gets = load.clone().start(&world.books);
    let posts = Load { connections: 4, body: Some(1_000), ..load.clone() }.start(&world.books);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let _ = (gets.stop().await, posts.stop().await);
    let balance = world.books.balance();
    proof.asked(balance.asked);
    proof.is("answers that were no 401", balance.asked - balance.other.get(&401).copied().unwrap_or_default(), 0);
    proof.at_most("times that a request came to the API", balance.most_arrivals, 2);
    proof.at_most("token requests because of it", world.provider.count() - 1, 6);
    proof.survived(1);

    refuses.store(false, Ordering::Relaxed);
    let served = world.books.balance().served;
    load.once(&world.books).await;
    proof.is("requests behind it that were served", world.books.balance().served - served, 16);
    bearerd.end().await;
    proof.end();
}
