//! R2: however many ask first, the provider is asked once.

use std::time::Duration;

use bearerd::demo::answer::Answer;

use super::load::{Load, quantile};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World, until_calls};
use crate::support::{eventually, scaled};

#[tokio::test]
async fn a_thousand_first_requests_ask_the_provider_once() {
    let mut proof = Proof::new("R2", "a thousand requests before there is a token");
    let apps = scaled(200, 1_000);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    world.provider.script().push(Answer::Serve.after(Duration::from_millis(500)));
    let api = upstream(&world.books, None, || Act::SERVE).await;
    // A route queues what is more than it may have under way.
    let lines = Lines { route: "limits: {in_flight: 256, queue: 2000, queue_wait: 20s}", ..Lines::default() };
    world.configure(&format!("http://{}", api.address), lines);
    let bearerd = world.start().await;
    let load = Load { connections: apps, ..Load::new(bearerd.address(), &world.names) };
    let samples = load.once(&world.books).await;
    proof.nothing_lost(&world.books.balance());
    proof.is("token requests", world.provider.count(), 1);
    proof.took("the slowest first request, of which the provider took 500 ms", quantile(&samples, 1_000));
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn without_a_provider_all_are_told_so_and_it_is_asked_once_meanwhile() {
    let mut proof = Proof::new("R2b", "a thousand requests, and a provider that answers nothing");
    let apps = scaled(200, 1_000);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    world.provider.script().always(Answer::hang());
    let api = upstream(&world.books, None, || Act::SERVE).await;
    // As many places as there are apps who stay.
    let route = if apps == 200 { "limits: {in_flight: 200, queue: 0}" } else { "limits: {in_flight: 1000, queue: 0}" };
    let lines = Lines { token: "wait: 1s\nrequired: false\nrefresh: {timeout: 20s}", route, ..Lines::default() };
    world.configure(&format!("http://{}", api.address), lines);
    let bearerd = world.start().await;
    until_calls(&world.provider, 1).await;
    // Some of those who wait leave: what they waited for is nobody's then.
    let leaving = Load { connections: apps / 10, ..Load::new(bearerd.address(), &world.names) }.start(&world.books);
    eventually("they wait", || world.books.asked() == apps as u64 / 10).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(leaving);
    let load = Load { connections: apps, ..Load::new(bearerd.address(), &world.names) };
    let samples = load.once(&world.books).await;
    let balance = world.books.balance();
    proof.asked(balance.asked);
    proof.is("answers of 503", balance.other.get(&503).copied().unwrap_or_default(), apps as u64);
    proof.is("requests that came to the API", balance.most_arrivals, 0);
    proof.is("token requests", world.provider.count(), 1);
    let metrics = bearerd.page("/metrics").await;
    let places = metrics.lines().find_map(|line| line.strip_prefix("bearerd_refused_total{reason=\"overloaded\"} "));
    proof.is("of these, for a place that somebody kept who had left", places.unwrap().parse::<u64>().unwrap(), 0);
    proof.survived(1);
    proof.took("the slowest 503, with a wait of 1 s", quantile(&samples, 1_000));
    bearerd.end().await;
    proof.end();
}
