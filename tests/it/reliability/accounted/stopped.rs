//! R14: a process that stood still for longer than its token lived, as in a suspended machine or under a debugger.

use std::time::Duration;

use rustix::process::Signal;

use super::books::Balance;
use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::{eventually, lasting};

const LIFE: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 16;

#[tokio::test]
async fn a_token_that_ended_while_the_process_stood_still_is_not_sent() {
    let mut proof = Proof::new("R14", "a process that is stopped for twice the life of its token, and goes on");
    let stops = lasting(1, 3, 100);
    let world = World::new(1, LIFE).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines { top: "workers: 1", ..Lines::default() });
    let bearerd = world.start_ready().await;
    let load = Load { connections: CONNECTIONS, ..Load::new(bearerd.address(), &world.names) };
    let apps = load.start(&world.books);
    let (mut most, mut asked_by_then) = (0, Vec::new());
    for _ in 0..stops {
        // Some life, so that it is stopped at another moment of the token's each time.
        tokio::time::sleep(LIFE.mul_f64(0.2 + fastrand::f64())).await;
        bearerd.signal(Signal::STOP);
        eventually("it stands still", || bearerd.stands_still()).await;
        asked_by_then.push(world.books.asked());
        tokio::time::sleep(2 * LIFE).await;
        let before = world.provider.count();
        bearerd.signal(Signal::CONT);
        // Shorter than it is until the new token is renewed.
        tokio::time::sleep(LIFE / 2).await;
        most = most.max(world.provider.count() - before);
    }
    apps.stop().await;
    let balance = world.books.balance();
    // Between its look at a token and the write it can be stopped like anywhere, and then has each request of that turn of
    // its loop in between. The 401 that follows is cured.
    let under_way = stops * CONNECTIONS as u64;
    proof.at_most(
        "expired tokens that were sent, of requests that were under way at a stop",
        balance.expired,
        under_way,
    );
    // What is asked of a process that stands still is looked at when it goes on.
    let of_late = |number: &u64| {
        !asked_by_then.iter().any(|then| (then.saturating_sub(CONNECTIONS as u64)..*then).contains(number))
    };
    let late = world.books.expired().into_iter().filter(of_late).count();
    proof.is("expired tokens that were sent with any other request", late, 0);
    proof.nothing_lost_though_repeated(&Balance { expired: 0, ..balance });
    proof.at_least("token requests as soon as it goes on", most, 1);
    proof.at_most("token requests within a second of that", most, 2);
    proof.survived(stops);
    bearerd.end().await;
    proof.end();
}
