//! R8e, R8f: networks that are slow and narrow, and that end connections, between bearerd and the API and the provider.

use std::time::Duration;

use bearerd::demo::certs::Ca;

use super::http2::{Answers, Habits, upstream2};
use super::load::{Load, grown, quantile};
use super::proof::Proof;
use super::relay::{Network, Relay};
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::{lasting, scaled};

/// Far away, little at a time, and not much of it: 60 ms there and back, and a token's request in some twenty pieces.
const BAD: Network = Network {
    latency: Duration::from_millis(30),
    piece: 200,
    pause: Duration::from_millis(1),
    bandwidth: 200_000.0,
    cuts: None,
};

const LINES: Lines = Lines { token: "tls: {ca_file: ca.pem}", route: "tls: {ca_file: ca.pem}", top: "" };

fn token_url(provider: &Relay) -> String {
    format!("https://{}/oauth2/token", provider.address())
}

/// A world and its APIs behind networks: one of HTTP/1.1 and one of HTTP/2, and the provider of each token.
struct Far {
    world: World,
    apis: [Relay; 2],
    providers: Vec<Relay>,
    _servers: [crate::reliability::wire::Api; 2],
}

impl Far {
    async fn new(tokens: usize, life: Duration, to_api: Network, to_provider: Network) -> Self {
        let ca = Ca::new().unwrap();
        let world = World::over_tls(tokens, life, &ca).await;
        let tls = std::sync::Arc::new(ca.server(&["127.0.0.1"]).unwrap());
        let servers = [
            upstream(&world.books, Some(tls), || Act::ServeInParts).await,
            upstream2(&world.books, &ca, Habits { answers: Answers::InParts, ..Habits::default() }).await.0,
        ];
        let apis = [Relay::to(servers[0].address, to_api).await, Relay::to(servers[1].address, to_api).await];
        let mut providers = Vec::new();
        for _ in 0..tokens {
            providers.push(Relay::to(world.provider.addr(), to_provider).await);
        }
        world.configure_each(
            LINES,
            |number| token_url(&providers[number]),
            |number| format!("https://{}", apis[number % 2].address()),
        );
        Self { world, apis, providers, _servers: servers }
    }

    fn cuts(&self) -> u64 {
        self.apis.iter().map(Relay::cuts).sum()
    }
}

#[tokio::test]
async fn a_slow_and_narrow_network_loses_nothing() {
    let mut proof =
        Proof::new("R8e", "latency, pieces of a few bytes and little bandwidth, to the API and the provider");
    let trials = lasting(150, 400, 8_000);
    let far = Far::new(2, Duration::from_secs(3_600), BAD, BAD).await;
    let world = &far.world;
    let bearerd = world.start_ready().await;
    let load = Load { connections: scaled(8, 16), ..Load::new(bearerd.address(), &world.names) };
    let gets = load.clone().start(&world.books);
    let posts = Load { body: Some(1_000), ..load }.start(&world.books);
    grown("requests", trials, || world.books.asked()).await;
    let mut samples = gets.stop().await;
    samples.extend(posts.stop().await);
    let balance = world.books.balance();
    proof.nothing_lost(&balance);
    proof.is("requests that came to the API twice", balance.doubled, 0);
    proof.took("p50, with 60 ms there and back", quantile(&samples, 500));
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn a_network_that_cuts_mixes_nothing_and_doubles_no_upload() {
    let mut proof = Proof::new("R8e2", "connections to the API that end at any moment, by FIN and by reset");
    let cuts = lasting(20, 200, 5_000);
    let network = Network {
        latency: Duration::from_millis(2),
        piece: 400,
        pause: Duration::from_millis(1),
        cuts: Some((1, Duration::from_secs(1))),
        ..Network::GOOD
    };
    let far = Far::new(2, Duration::from_secs(3_600), network, Network::GOOD).await;
    let world = &far.world;
    let bearerd = world.start_ready().await;
    let load = Load { pace: Duration::from_millis(4), ..Load::new(bearerd.address(), &world.names) };
    let gets = load.clone().start(&world.books);
    let posts = Load { body: Some(3_000), ..load }.start(&world.books);
    grown("cuts", cuts, || far.cuts()).await;
    gets.stop().await;
    posts.stop().await;
    let balance = world.books.balance();
    let failed = balance.other.get(&502).copied().unwrap_or_default();
    proof.asked(balance.asked);
    proof.is(
        "requests that ended in no way of these: an own answer, the cut of one, a 502",
        balance.asked - balance.served - balance.broken - failed,
        0,
    );
    proof.nothing_wrong(&balance);
    proof.is("uploads that came to the API twice", balance.doubled_once, 0);
    proof.at_most("times that any request came to the API", balance.most_arrivals, 2);
    proof.at_least("requests that were served", balance.served, 1);
    proof.survived(far.cuts());
    proof.figure("cut answers", balance.broken);
    proof.figure("answers of 502", failed);
    proof.figure("requests that came twice", balance.doubled);
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn renewals_come_through_a_network_that_cuts() {
    let mut proof = Proof::new("R8f", "connections to the provider of which every second one ends at any moment");
    let (tokens, rounds) = lasting((6, 1), (12, 1), (12, 20));
    // An exchange takes some 150 ms. A renewal is tried again within a second, which is to be well before the token's end.
    let network = Network { cuts: Some((2, Duration::from_millis(200))), ..BAD };
    let far = Far::new(tokens, Duration::from_secs(12), Network::GOOD, network).await;
    let world = &far.world;
    let bearerd = world.start_ready().await;
    let apps = Load::new(bearerd.address(), &world.names).start(&world.books);
    let granted = async || bearerd.token_requests(|outcome| outcome == "granted").await;
    while granted().await < (tokens * (1 + rounds)) as u64 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    apps.stop().await;
    let failed = bearerd.token_requests(|outcome| outcome != "granted").await;
    proof.nothing_lost(&world.books.balance());
    let refused = world.provider.calls().iter().filter(|call| call.issued.is_none()).count();
    proof.is("token requests that came to the provider and were no good", refused, 0);
    proof.at_least("token requests that failed, of which nobody else knows", failed, 1);
    proof.survived(failed);
    proof.renewed(world.renewals());
    proof.figure("connections to the provider", far.providers.iter().map(Relay::connections).sum::<u64>());
    bearerd.end().await;
    proof.end();
}
