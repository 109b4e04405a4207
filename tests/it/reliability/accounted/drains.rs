//! R9a: what is under way when SIGTERM comes, and takes long.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, Lines, World};
use crate::reliability::wire::{Api, Wire};
use crate::support::{eventually, lasting};

/// Between two pieces of a stream.
const PIECE: Duration = Duration::from_millis(100);

/// An API whose every answer is so many pieces.
async fn streaming(pieces: u64) -> Api {
    Api::start(move |mut wire: Wire| async move {
        while let Ok(Some(_)) = wire.head().await {
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            for number in 0..pieces {
                wire.send(format!("8\r\n{number:08}\r\n").as_bytes()).await.unwrap();
                tokio::time::sleep(PIECE).await;
            }
            wire.send(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_stream_that_is_under_way_comes_to_its_end() {
    let mut proof = Proof::new("R9a", "SIGTERM while answers stream");
    const APPS: u64 = 8;
    let pieces = lasting(20, 20, 100);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = streaming(pieces).await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    let mut apps = tokio::task::JoinSet::new();
    for _ in 0..APPS {
        let mut wire = Wire::connect(bearerd.address()).await;
        wire.send(b"GET /t0/0 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        // Its head is there, and the rest is on its way.
        let head = wire.head().await.unwrap().unwrap();
        apps.spawn(async move { wire.body(&head).await.map(|body| (body.data, Instant::now())) });
    }
    bearerd.signal(Signal::TERM);
    let ended = bearerd.ended();
    let (outcomes, ended) = tokio::join!(apps.join_all(), async { (ended.await, Instant::now()) });
    let expected: Vec<u8> = (0..pieces).flat_map(|number| format!("{number:08}").into_bytes()).collect();
    let whole: Vec<Instant> =
        outcomes.into_iter().flatten().filter(|(data, _)| *data == expected).map(|(_, at)| at).collect();
    proof.is("streams that came whole", whole.len() as u64, APPS);
    proof.asked(APPS);
    proof.survived(1);
    let (ended, at) = ended;
    ended.with(0).says(&["every exchange was finished: 8 requests"]);
    let last = whole.into_iter().max().unwrap();
    let after = at.saturating_duration_since(last);
    proof.at_most("seconds from the last byte to the end of the process", after.as_secs(), 10);
    proof.figure("from the last byte to the end of the process", format!("{after:.0?}"));
    proof.figure("of streams that take", format!("{:.0?}", PIECE * u32::try_from(pieces).unwrap()));
    proof.end();
}

/// With requests that never end under way, and told to end.
async fn held(shutdown: &'static str, requests: usize, end: impl AsyncFnOnce(Bearerd)) -> World {
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::Serve(Duration::from_secs(3_600))).await;
    world.configure(&format!("http://{}", api.address), Lines { top: shutdown, ..Lines::default() });
    let bearerd = world.start_ready().await;
    let load = Load { connections: requests, ..Load::new(bearerd.address(), &world.names) };
    let ending = async {
        let arrived = || world.books.balance().arrived == requests as u64;
        eventually("all are with the API", arrived).await;
        bearerd.signal(Signal::TERM);
        bearerd.until_said("\"event\":\"draining\"").await;
        end(bearerd).await;
    };
    tokio::join!(load.once(&world.books), ending);
    drop(api);
    world
}

#[tokio::test]
async fn what_never_ends_is_cut_off_at_the_cap_or_by_a_second_signal() {
    let mut proof = Proof::new("R9d", "SIGTERM while 5 requests never end: the drain's cap, and a second signal");
    for (shutdown, again) in [("shutdown: {timeout: 1s}", false), ("shutdown: {delay: 1h, timeout: 1h}", true)] {
        let begun = Instant::now();
        let world = held(shutdown, 5, async |bearerd| {
            if again {
                bearerd.signal(Signal::TERM);
            }
            bearerd.ended().await.with(0).says(&["5 requests were cut off"]);
        })
        .await;
        let balance = world.books.balance();
        let what = if again { "a second signal" } else { "a cap of 1 s" };
        proof.is(&format!("{what}: requests that the app knows to be cut"), balance.broken, 5);
        proof.nothing_wrong(&balance);
        proof.figure(&format!("{what}: from the start to the end"), format!("{:.1?}", begun.elapsed()));
        proof.asked(balance.asked);
        proof.survived(1);
    }
    proof.end();
}
