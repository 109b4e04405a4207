//! R15: names that lead elsewhere from one moment to the next, or nowhere, or whose server says nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::books::Books;
use super::load::Load;
use super::proof::Proof;
use super::resolver::{NameServer, Says};
use super::upstream::{Act, upstream_on};
use super::world::{Bearerd, Lines, World};
use crate::reliability::wire::Api;
use crate::support::{Answer, App, PATIENCE, eventually, lasting};

/// The provider's, which is not the same as the API's.
const PROVIDER: &str = "idp.localhost";

/// A route's API, below `localhost` so that it may be spoken to in clear.
fn name_of(route: &str) -> String {
    format!("{route}.localhost")
}

/// A name server, unless there can be none here, which is told.
async fn name_server(id: &str, world: &World) -> Option<NameServer> {
    let server = NameServer::start(&world.folder).await;
    server.inspect_err(|why| Proof::skipped(id, &format!("there cannot be a name server: {why}"))).ok()
}

/// Each route leads to its own name at this port, and each token is asked for by the provider's name, which leads there.
fn configure(world: &World, names: &NameServer, port: u16, lines: Lines) {
    world.configure(&format!("http://{{name}}.localhost:{port}"), lines);
    let file = world.folder.path("bearerd.yaml");
    let yaml = std::fs::read_to_string(file).unwrap();
    world.folder.write("bearerd.yaml", &yaml.replace("//localhost:", &format!("//{PROVIDER}:")));
    names.says(PROVIDER, Says::At(vec![Ipv4Addr::LOCALHOST]));
}

async fn start(world: &World, names: &NameServer) -> Bearerd {
    world.start_by(|command| names.wrap(&world.folder, &command)).await.ready().await
}

/// An API at this address, and how many requests it got.
async fn api_at(world: &World, address: Ipv4Addr, port: u16) -> (Api, Arc<AtomicU64>) {
    let count = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&count);
    let listener = TcpListener::bind((address, port)).await.unwrap();
    let act = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Act::SERVE
    };
    (upstream_on(listener, &world.books, None, act), count)
}

#[tokio::test]
async fn an_api_whose_name_moves_is_followed() {
    const AGE: Duration = Duration::from_millis(500);
    let mut proof = Proof::new("R15", "an API whose name moves from one address to another and back, under load");
    let moves = lasting(1, 3, 100);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let Some(names) = name_server("R15", &world).await else { return };
    let (here, there) = (names.near(1), names.near(2));
    let (first, at_first) = api_at(&world, here, 0).await;
    let port = first.address.port();
    let (_second, at_second) = api_at(&world, there, port).await;
    let name = name_of("t0");
    names.says(&name, Says::At(vec![here]));
    configure(&world, &names, port, Lines { route: "timeouts: {max_age: 500ms}", ..Lines::default() });
    let bearerd = start(&world, &names).await;
    let apps = Load::new(bearerd.address(), &world.names).start(&world.books);
    let (mut slowest, mut late) = (Duration::ZERO, 0);
    let (mut from, mut to, mut next) = (&at_first, &at_second, there);
    for number in 0..moves {
        let seen = from.load(Ordering::Relaxed);
        eventually("the address is in use", || from.load(Ordering::Relaxed) > seen + 16).await;
        let dead = (3..40).map(|number| names.near(number));
        names.says(
            &name,
            match number % 3 {
                // Behind some where nobody is, in an answer too long for UDP.
                0 => Says::At(dead.chain([next]).collect()),
                1 => Says::Late(Duration::from_millis(200), next),
                _ => Says::At(vec![next]),
            },
        );
        let moved = Instant::now();
        let mut last = from.load(Ordering::Relaxed);
        let mut last_at = moved;
        eventually("nobody is where it was for as long as a connection may last", || {
            let count = from.load(Ordering::Relaxed);
            if count != last {
                (last, last_at) = (count, Instant::now());
            }
            last_at.elapsed() > AGE
        })
        .await;
        slowest = slowest.max(last_at - moved);
        let arrived = to.load(Ordering::Relaxed);
        eventually("the new address is in use", || to.load(Ordering::Relaxed) > arrived + 16).await;
        tokio::time::sleep(AGE).await;
        late += from.load(Ordering::Relaxed) - last;
        next = if next == there { here } else { there };
        (from, to) = (to, from);
    }
    apps.stop().await;
    proof.nothing_lost(&world.books.balance());
    proof.is("requests to the address before behind the last of its connections", late, 0);
    proof.at_most(
        "s from a move until the last request to the address before, with connections of at most half a second",
        slowest.as_secs_f64().ceil(),
        10.0,
    );
    proof.took("the same", slowest);
    proof.survived(moves);
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_ends_no_connection_and_comes_back_by_itself() {
    let mut proof =
        Proof::new("R15b", "names whose server fails, knows them not, or says nothing, and then knows them again");
    let rounds = lasting(1, 1, 30);
    let world = World::new(2, Duration::from_secs(3_600)).await;
    let Some(names) = name_server("R15b", &world).await else { return };
    // More connections than are used behind the beginning, none of which may be missing then: each waits for the others.
    let pause = Arc::new(AtomicU64::new(300));
    let paused = Arc::clone(&pause);
    let listener = TcpListener::bind((names.near(1), 0)).await.unwrap();
    let act = move || Act::Serve(Duration::from_millis(paused.load(Ordering::Relaxed)));
    let living = upstream_on(listener, &world.books, None, act);
    let port = living.address.port();
    // No connection of the other is there for the next request.
    let listener = TcpListener::bind((names.near(2), port)).await.unwrap();
    let _new = upstream_on(listener, &world.books, None, || Act::ServeAndEnd);
    let known = || {
        names.says(&name_of("t0"), Says::At(vec![names.near(1)]));
        names.says(&name_of("t1"), Says::At(vec![names.near(2)]));
    };
    known();
    let lines =
        Lines { top: "workers: 1", route: "timeouts: {connect: 1s, pool_idle: 1h, max_age: 1h}", ..Lines::default() };
    configure(&world, &names, port, lines);
    let bearerd = start(&world, &names).await;
    let load = Load { connections: 32, ..Load::new(bearerd.address(), &world.names[..1]) };
    load.clone().once(&world.books).await;
    pause.store(0, Ordering::Relaxed);
    let apps = Load { connections: 8, ..load }.start(&world.books);
    let (mut asked, mut wrong) = (0, 0);
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        // Whoever comes when the system is about to give up waits no longer than that.
        for (says, may_be) in [
            (Says::Fails, &[(502, "upstream_dns")][..]),
            (Says::Nowhere, &[(502, "upstream_dns")]),
            (Says::Nothing, &[(504, "upstream_timeout"), (502, "upstream_dns")]),
        ] {
            for name in &world.names {
                names.says(&name_of(name), says.clone());
            }
            for _ in 0..3 {
                let answer = ask(&world, &bearerd).await;
                asked += 1;
                if !may_be.contains(&(answer.status, &answer.reason())) {
                    wrong += 1;
                    proof.figure("another answer", format!("{} to {says:?}: {}", answer.status, answer.text()));
                }
            }
            known();
            let back = Instant::now();
            while ask(&world, &bearerd).await.status != 200 {
                asked += 1;
                assert!(
                    back.elapsed() < PATIENCE,
                    "waited {PATIENCE:?} for a name that is known again, after {says:?}"
                );
            }
            slowest = slowest.max(back.elapsed());
        }
    }
    apps.stop().await;
    let balance = world.books.balance();
    let refused: u64 = balance.other.values().sum();
    proof.is(
        "requests over connections that were there, without a 200 of their own",
        balance.asked - balance.served - refused,
        0,
    );
    proof.is("requests for a new one that failed otherwise than while its name was not known", refused, asked);
    proof.is("answers that do not say so", wrong, 0);
    proof.nothing_wrong(&balance);
    proof.asked(balance.asked);
    proof.survived(rounds * 3);
    proof.took(
        "the longest until a name that is known again was found, of which the system waits for up to 1 s",
        slowest,
    );
    bearerd.end().await;
    proof.end();
}

/// Ends the one that the last token came over, once it has come: the next is asked for over another.
async fn forget_connection(world: &World, bearerd: &Bearerd) {
    let count = world.provider.count();
    world.provider.wait_for(count + 1, PATIENCE).await.unwrap();
    while bearerd.token_requests(|outcome| outcome == "granted").await < world.provider.count() as u64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.provider.restart().await.unwrap();
}

/// Asks for something that takes a new connection.
async fn ask(world: &World, bearerd: &Bearerd) -> Answer {
    let number = world.books.ask();
    let answer = App::connect(bearerd.address()).await.get(&format!("/t1/{number}")).await;
    world.books.answered(number, answer.status, answer.text() == format!("/t1/{number}"));
    answer
}

#[tokio::test]
async fn a_name_whose_server_says_nothing_holds_up_nobody_elses() {
    let mut proof = Proof::new(
        "R15c",
        "hundreds of requests that wait for one name, beside others, and a provider whose name is lost",
    );
    let hung = lasting(100, 300, 600);
    // Renewed every second or so.
    let world = World::new(2, Duration::from_secs(12)).await;
    let Some(names) = name_server("R15c", &world).await else { return };
    let listener = TcpListener::bind((names.near(1), 0)).await.unwrap();
    let api = upstream_on(listener, &world.books, None, || Act::SERVE);
    names.says(&name_of("t0"), Says::At(vec![names.near(1)]));
    names.says(&name_of("t1"), Says::Nothing);
    let lines = Lines {
        token: "refresh: {early: 90%}",
        // Whose name is well is looked up all the time.
        route: "timeouts: {connect: 1s, max_age: 50ms}\nlimits: {in_flight: 1000, queue: 1000}",
        ..Lines::default()
    };
    configure(&world, &names, api.address.port(), lines);
    let bearerd = start(&world, &names).await;
    let well = Load::new(bearerd.address(), &world.names[..1]).start(&world.books);
    forget_connection(&world, &bearerd).await;
    let (begun, threads) = (names.asked(&name_of("t0")), bearerd.threads());
    let (granted, sought) = (world.provider.count(), names.asked(PROVIDER));
    let waiting = Books::new(world.provider.verifier());
    let load = Load { connections: hung, ..Load::new(bearerd.address(), &world.names[1..]) };
    let renewed = || (world.provider.count() - granted).min(usize::try_from(names.asked(PROVIDER) - sought).unwrap());
    let mut most = 0;
    while waiting.balance().asked == 0 || renewed() == 0 {
        let mut over = Box::pin(load.clone().once(&waiting));
        while tokio::time::timeout(Duration::from_millis(20), &mut over).await.is_err() {
            most = most.max(bearerd.threads());
        }
    }
    let (looked_up, renewed, balance) = (names.asked(&name_of("t0")) - begun, renewed(), waiting.balance());
    // The system gives up at some time, and whoever comes shortly before that is told of it.
    let told: u64 = [502, 504].iter().filter_map(|status| balance.other.get(status)).sum();
    proof.is("requests that waited for the name and were not told so (504, 502)", balance.asked - told, 0);
    proof.at_most("threads besides those that were there", most.saturating_sub(threads), 8);
    proof.at_least("times that another API's name was looked up meanwhile", looked_up, 2);
    proof.at_least("tokens renewed meanwhile, for which the provider's name was looked up", renewed, 1);

    let failed = async || bearerd.token_requests(|outcome| outcome != "granted").await;
    proof.is("token requests that failed meanwhile", failed().await, 0);
    let mut outages = 0;
    for says in [Says::Fails, Says::Nothing, Says::Nowhere].into_iter().take(lasting(1, 2, 3)) {
        forget_connection(&world, &bearerd).await;
        let before = failed().await;
        names.says(PROVIDER, says);
        let begun = Instant::now();
        while failed().await == before {
            assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for a renewal that finds no provider");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let granted = world.provider.count();
        names.says(PROVIDER, Says::At(vec![Ipv4Addr::LOCALHOST]));
        world.provider.wait_for(granted + 1, PATIENCE).await.unwrap();
        outages += 1;
    }
    well.stop().await;
    proof.nothing_lost(&world.books.balance());
    proof.at_least("token requests that found no provider, of which nobody else knows", failed().await, outages);
    proof.asked(balance.asked);
    proof.survived(1 + outages);
    proof.renewed(world.renewals());
    bearerd.end().await;
    proof.end();
}
