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
use std::time::{Duration, Instant};

use bearerd::demo::certs::Ca;
use fastrand::Rng;
use tokio::task::JoinSet;

use super::Stage;
use super::wire::{Api, Head, Wire, told};
use crate::support::{API, Folder, report, scaled, seed};

const APPS: usize = 16;

#[tokio::test]
async fn no_get_fails_and_no_post_is_sent_twice_when_idle_connections_end() {
    hold("stale connections", scaled(3_200, 200_000), scaled(800, 50_000), None).await;
}

/// With TLS there is more between a request and its bytes, and a connection can also end without saying so.
#[tokio::test]
async fn nor_over_tls() {
    let ca = Ca::new().unwrap();
    hold("stale connections with TLS", scaled(800, 40_000), scaled(200, 10_000), Some(ca)).await;
}

async fn hold(what: &str, gets: usize, posts: usize, ca: Option<Ca>) {
    let (seed, begun) = (seed(), Instant::now());
    let books = Arc::new(Books::default());
    let ledger = Arc::clone(&books);
    let tls = ca.as_ref().map(|ca| Arc::new(ca.server(&[API]).unwrap()));
    let mut api = Api::start(move |wire| {
        let number = ledger.connections.fetch_add(1, Ordering::Relaxed);
        let (random, ledger, tls) = (Rng::with_seed(seed.wrapping_add(number)), Arc::clone(&ledger), tls.clone());
        async move {
            let wire = match tls {
                Some(config) => wire.shake_hands(config).await,
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
    let lost_gets: Vec<_> = failed.iter().filter(|(target, _)| !is_post(target)).collect();
    assert!(lost_gets.is_empty(), "{} GETs failed: {:?}", lost_gets.len(), lost_gets.first());
    let (mut repeated, mut taken, mut unread, mut unseen) = (0, 0, 0, 0);
    for (target, Came { read, late }) in &*came {
        let times = read + late;
        if !is_post(target) {
            // Once over what was idle, and once over a connection of its own.
            assert!((1..=2).contains(&times), "{target} came {times} times");
            repeated += times - 1;
            continue;
        }
        assert_eq!(times, 1, "{target} was sent {times} times");
        match (failed.get(target), read) {
            (None, _) => assert_eq!(*read, 1, "{target} was answered and not read"),
            (Some(_), 1) => taken += 1,
            (Some(_), _) => unread += 1,
        }
    }
    for (target, Failed { status, reason }) in &failed {
        assert_eq!((*status, reason.as_str()), (502, "upstream_reset"), "{target}");
        // Nothing that came may be missing here but what a reset threw away.
        unseen += u64::from(!came.contains_key(target));
    }
    let resets = books.resets.load(Ordering::Relaxed);
    assert!(unseen <= resets, "{unseen} were lost in {resets} resets");
    assert!(repeated > 0 && taken > 0, "nothing happened at a bad moment");
    report(&format!(
        "{what}: {gets} GETs, none failed ({repeated} sent a second time); {posts} POSTs, none sent twice, \
         {} answered, {} told 502 ({taken} read by the API, {unread} came as it closed, {unseen} lost in a reset); {} \
         connections; {:.1} s",
        posts - failed.len(),
        failed.len(),
        books.connections.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    ));
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
