//! An API that ends idle connections at the worst moments: no GET fails for it, and no POST is ever sent twice.
//!
//! The first request of a connection is always answered, as it is by real servers: there is nothing else to go by. What
//! an API can do to any later one, this one does, by FIN or by reset: end the connection right behind an answer, some
//! time later, with the request's first bytes, or after it has read them. It writes down all that came to it, what it
//! never looked at included.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bearerd::demo::certs::Ca;
use fastrand::Rng;
use tokio::task::JoinSet;

use super::Stage;
use super::proof::Proof;
use super::wire::{Api, Head, Wire, told};
use crate::support::{API, Folder, lasting, seed};

const APPS: usize = 16;

#[tokio::test]
async fn no_get_fails_and_no_post_is_sent_twice_when_idle_connections_end() {
    let proof = Proof::new("R8a2", "an API that ends idle connections at the worst moments");
    hold(proof, lasting(3_200, 12_000, 200_000), lasting(800, 3_000, 50_000), None).await;
}

/// With TLS there is more between a request and its bytes, and a connection can also end without saying so.
#[tokio::test]
async fn nor_over_tls() {
    let ca = Ca::new().unwrap();
    let proof = Proof::new("R8a3", "the same over TLS");
    hold(proof, lasting(800, 6_000, 40_000), lasting(200, 1_500, 10_000), Some(ca)).await;
}

async fn hold(mut proof: Proof, gets: usize, posts: usize, ca: Option<Ca>) {
    let seed = seed();
    let books = Arc::new(Books::default());
    let ledger = Arc::clone(&books);
    let tls = ca.as_ref().map(|ca| Arc::new(ca.server(&[API]).unwrap()));
    let mut api = Api::start(move |wire| {
        let number = ledger.connections.fetch_add(1, Ordering::Relaxed);
        let (random, ledger, tls) = (Rng::with_seed(seed.wrapping_add(number)), Arc::clone(&ledger), tls.clone());
        async move {
            let wire = match tls {
                Some(config) => wire.shake_hands(config).await.unwrap(),
                None => wire,
            };
            serve(wire, random, ledger).await;
        }
    })
    .await;
    let folder = Folder::new();
    let place = match &ca {
        None => format!("upstream: 'http://{}'", api.address),
        Some(ca) => {
            folder.write("ca.pem", &ca.pem());
            let file = folder.path("ca.pem").display().to_string();
            format!("upstream: 'https://{API}', connect_to: '{}', tls: {{ca_file: '{file}'}}", api.address)
        }
    };
    let rest = format!("routes:\n  - {{name: api, token: app, {place}}}\n");
    let stage = Stage::new(Duration::from_secs(3_600), &["app".to_owned()], "", &rest).await;

    let mut apps = JoinSet::new();
    for app in 0..APPS {
        let random = Rng::with_seed(seed.wrapping_sub(1 + app as u64));
        apps.spawn(send(stage.proxy.address, app, random, gets / APPS, posts / APPS));
    }
    let sent = async {
        let mut failed = Vec::new();
        while let Some(ended) = apps.join_next().await {
            failed.extend(told(ended));
        }
        failed
    };
    let failed: HashMap<String, Failed> = tokio::select! {
        biased;
        never = api.lives() => never,
        failed = sent => failed.into_iter().collect(),
    };

    let came = books.came.lock().unwrap();
    let (mut most, mut repeated, mut doubled, mut invented, mut taken) = (0, 0, 0, 0, 0);
    for (target, Came { read, late }) in &*came {
        let times = read + late;
        if !is_post(target) {
            most = times.max(most);
            repeated += times - 1;
            continue;
        }
        doubled += u64::from(times > 1);
        let was_read = *read > 0;
        let is_failed = failed.contains_key(target);
        invented += u64::from(!was_read && !is_failed);
        taken += u64::from(was_read && is_failed);
    }
    let lost_gets = failed.keys().filter(|target| !is_post(target)).count();
    let lost_posts = failed.len() - lost_gets;
    let other =
        failed.values().filter(|Failed { status, reason }| (*status, reason.as_str()) != (502, "upstream_reset"));
    // Nothing that came may be missing here but what a reset threw away.
    let unseen = failed.keys().filter(|target| !came.contains_key(*target)).count() as u64;
    proof.asked((gets + posts) as u64);
    proof.is("GETs that failed", lost_gets, 0);
    proof.at_most("times that a GET came: over what was idle, and over a connection of its own", most, 2);
    proof.is("POSTs that came twice", doubled, 0);
    proof.is("POSTs that were answered and not read", invented, 0);
    proof.is("failures that were not told as 502 `upstream_reset`", other.count(), 0);
    proof.at_most(
        "failures of what the API knows nothing of, for its resets",
        unseen,
        books.resets.load(Ordering::Relaxed),
    );
    proof.at_least("GETs that were sent a second time", repeated, 1);
    proof.at_least("POSTs that the API took and ended at", taken, 1);
    proof.survived(repeated + lost_posts as u64);
    proof.figure("POSTs that were told 502", lost_posts);
    proof.figure("connections", books.connections.load(Ordering::Relaxed));
    proof.end();
}

/// What came to the API.
#[derive(Default)]
struct Books {
    came: Mutex<HashMap<String, Came>>,
    connections: AtomicU64,
    /// How often it threw away what might have been there.
    resets: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Came {
    read: u64,
    /// Over a connection that was at its end, and never looked at.
    late: u64,
}

impl Books {
    fn read(&self, head: &Head) {
        self.came.lock().unwrap().entry(head.target().to_owned()).or_default().read += 1;
    }

    fn late(&self, target: &str) {
        self.came.lock().unwrap().entry(target.to_owned()).or_default().late += 1;
    }
}

fn is_post(target: &str) -> bool {
    target.starts_with("/post/")
}

/// What becomes of a connection behind an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Serve,
    /// It ends after so many turns of everybody else: in less time than clocks tell.
    EndAfterTurns(u8),
    /// It ends at a time, unless a request has come by then.
    EndAfter(Duration),
    /// It ends as soon as a request's first bytes are there.
    EndAtBytes,
    /// It ends after so much of a request was read, or of its answer was sent.
    EndWithin(Within),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Head,
    Request,
    Answer,
}

impl Next {
    fn any(random: &mut Rng) -> Self {
        match random.u8(..100) {
            0..70 => Self::Serve,
            70..76 => Self::EndAfterTurns(0),
            76..84 => Self::EndAfterTurns(random.u8(1..40)),
            84..90 => Self::EndAfter(Duration::from_micros(random.u64(..50_000))),
            90..95 => Self::EndAtBytes,
            _ => Self::EndWithin(random.choice([Within::Head, Within::Request, Within::Answer]).unwrap()),
        }
    }
}

async fn serve(mut wire: Wire, mut random: Rng, books: Arc<Books>) {
    let mut next = Next::Serve;
    loop {
        match next {
            Next::Serve | Next::EndWithin(_) => {}
            Next::EndAfterTurns(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                return end(wire, &mut random, &books).await;
            }
            Next::EndAfter(time) => {
                if tokio::time::timeout(time, wire.tcp().readable()).await.is_err() {
                    return end(wire, &mut random, &books).await;
                }
            }
            Next::EndAtBytes => {
                let _ = wire.tcp().readable().await;
                return end(wire, &mut random, &books).await;
            }
        }
        let Ok(Some(head)) = wire.head().await else { return };
        books.read(&head);
        if next == Next::EndWithin(Within::Head) {
            return end(wire, &mut random, &books).await;
        }
        if wire.body(&head).await.is_err() {
            return;
        }
        if next == Next::EndWithin(Within::Request) {
            return end(wire, &mut random, &books).await;
        }
        let (target, length) = (head.target(), head.target().len());
        let answer = match random.u8(..4) {
            0 => format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{target}\r\n0\r\n\r\n"),
            _ => format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}"),
        };
        let answer = answer.as_bytes();
        let whole = next != Next::EndWithin(Within::Answer);
        // Of an answer that breaks off within its head, nothing was said yet.
        let said = if whole { answer } else { &answer[..random.usize(1..20)] };
        if wire.send(said).await.is_err() {
            return;
        }
        if !whole {
            return end(wire, &mut random, &books).await;
        }
        next = Next::any(&mut random);
    }
}

/// Ends a connection, and writes down what came over it meanwhile.
async fn end(mut wire: Wire, random: &mut Rng, books: &Books) {
    if random.bool() {
        // Whoever sends a FIN may go on reading, as careful servers do.
        wire.finish(random.bool()).await;
        let _ = tokio::time::timeout(Duration::from_millis(100), async {
            while let Ok(Some(head)) = wire.head().await {
                let Some(target) = target(head.first_line()) else { continue };
                books.late(target);
                let _ = wire.body(&head).await;
            }
        })
        .await;
        return;
    }
    let mut there = [0; 256];
    let length = tokio::select! {
        biased;
        length = wire.tcp().peek(&mut there) => length.unwrap_or_default(),
        () = std::future::ready(()) => 0,
    };
    match target(&there[..length]) {
        Some(target) => books.late(target),
        None => _ = books.resets.fetch_add(1, Ordering::Relaxed),
    }
    let _ = wire.tcp().set_zero_linger();
}

/// The target in a request line; the rest of a body has none.
fn target(bytes: &[u8]) -> Option<&str> {
    let target = str::from_utf8(bytes).ok()?.split(' ').nth(1)?;
    (target.starts_with("/post/") || target.starts_with("/get/")).then_some(target)
}

/// What an app got instead of its answer.
#[derive(Debug)]
struct Failed {
    status: u16,
    reason: String,
}

/// An app that sends so many of each, in any order; yields the targets that were not answered by the API.
async fn send(
    proxy: SocketAddr,
    app: usize,
    mut random: Rng,
    mut gets: usize,
    mut posts: usize,
) -> Vec<(String, Failed)> {
    let mut failed = Vec::new();
    let mut wire = Wire::connect(proxy).await;
    while gets + posts > 0 {
        let request;
        let target;
        if random.usize(..gets + posts) < gets {
            target = format!("/get/{app}-{gets}");
            request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            gets -= 1;
        } else {
            target = format!("/post/{app}-{posts}");
            request = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{}", body(&mut random));
            posts -= 1;
        }
        // Who refuses a body need not read all of it; the answer is there all the same.
        let _ = wire.send(request.as_bytes()).await;
        let head = wire.head().await;
        let head = head.unwrap().unwrap_or_else(|| panic!("the connection ended instead of an answer to {target}"));
        let body = wire.body(&head).await.unwrap();
        match head.status() {
            200 => assert_eq!(str::from_utf8(&body.data), Ok(target.as_str())),
            status => {
                let problem: serde_json::Value = serde_json::from_slice(&body.data).unwrap();
                failed.push((target, Failed { status, reason: problem["reason"].as_str().unwrap().to_owned() }));
            }
        }
        if head.only(b"connection") == Some(b"close") {
            wire = Wire::connect(proxy).await;
        }
        // So that connections are idle for as long as nothing, and for longer than the API is patient.
        let pause: Range<u64> = match random.u16(..1_000) {
            0..2 => 0..60_000,
            2..50 => 0..4_000,
            _ => continue,
        };
        tokio::time::sleep(Duration::from_micros(random.u64(pause))).await;
    }
    failed
}

/// A length, the end of the head, and the body; or the same in chunks.
fn body(random: &mut Rng) -> String {
    let length = if random.u8(..100) == 0 { 100_000 } else { random.usize(..2_000) };
    let data = "b".repeat(length);
    if length == 0 || random.bool() {
        format!("Content-Length: {length}\r\n\r\n{data}")
    } else {
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{data}\r\n0\r\n\r\n")
    }
}
