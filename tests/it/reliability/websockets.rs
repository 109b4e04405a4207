//! Random bytes through WebSockets, sent ahead of the answer and behind it: whatever the upstream answers, exactly one
//! request reaches it, and once it has agreed exactly those bytes, in order, both ways.
//!
//! Both ends make a case up from the seed and its number, so each knows what the other has to hear.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;

use super::Stage;
use super::proof::Proof;
use super::wire::{Api, Wire, told};
use crate::support::{lasting, seed};

/// So many at a time.
const APPS: u64 = 8;

/// What all of them have: the example of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What the upstream answers, and whether that agrees.
const ANSWERS: [(&str, bool); 8] = [
    (AGREES, true),
    (AGREES, true),
    (AGREES, true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
    ("HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false),
    ("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n", false),
    ("HTTP/1.1 204 No Content\r\n\r\n", false),
    ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", false),
];
const AGREES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn bytes_around_a_handshake_arrive_as_they_are_or_not_at_all() {
    let mut proof = Proof::new("R25b", "random bytes around and through WebSockets");
    let (seed, wanted) = (seed(), lasting(2_000, 10_000, 200_000));
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let counting = Arc::clone(&counts);
    let mut api = Api::start(move |wire| serve(wire, seed, Arc::clone(&counting))).await;
    let rest = format!("routes:\n  - {{name: api, upstream: 'http://{}', token: app}}\n", api.address);
    let stage = Stage::new(Duration::from_secs(3_600), &["app".to_owned()], "", &rest).await;

    let mut apps = tokio::task::JoinSet::new();
    for app in 0..APPS {
        let address = stage.proxy.address;
        apps.spawn(async move {
            let mut agreed = 0;
            for number in (0..wanted).filter(|number| number % APPS == app) {
                agreed += u64::from(ask(Wire::connect(address).await, seed, number).await);
            }
            agreed
        });
    }
    let asking = async {
        let mut agreed = 0;
        while let Some(ended) = apps.join_next().await {
            agreed += told(ended);
        }
        agreed
    };
    let agreed = tokio::select! {
        biased;
        never = api.lives() => never,
        agreed = asking => agreed,
    };
    // What a connection of the upstream came to is known only when it has come to its end.
    crate::support::eventually("every request has been served", || counts[1].load(Ordering::Relaxed) == wanted).await;
    proof.asked(wanted);
    proof.withstood(wanted - agreed);
    proof.is(
        "requests that came to the upstream, with every byte in its place or the proof had ended there",
        counts[0].load(Ordering::Relaxed),
        wanted,
    );
    proof.at_least("of these, WebSockets that were agreed to", agreed, wanted / 4);
    proof.at_most("the same", agreed, wanted / 4 * 3);
    proof.end();
}

struct Case {
    /// Sent right behind the head, and once the answer is there.
    ahead: Vec<u8>,
    behind: Vec<u8>,
    answer: &'static [u8],
    agrees: bool,
    /// The upstream's: right behind its answer, and when it has heard all.
    welcome: Vec<u8>,
    farewell: Vec<u8>,
    /// Goes on behind both, for what else is random.
    random: Rng,
}

impl Case {
    fn new(seed: u64, number: u64) -> Self {
        let mut random = Rng::with_seed(seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let (answer, agrees) = ANSWERS[random.usize(..ANSWERS.len())];
        Self {
            ahead: bytes(&mut random),
            behind: bytes(&mut random),
            answer: answer.as_bytes(),
            agrees,
            welcome: if agrees { bytes(&mut random) } else { Vec::new() },
            farewell: bytes(&mut random),
            random,
        }
    }
}

/// Nothing, a request that nobody meant to send, or anything; now and then more than a buffer holds.
fn bytes(random: &mut Rng) -> Vec<u8> {
    let most = if random.u8(..20) == 0 { 100_000 } else { 200 };
    match random.u8(..4) {
        0 => Vec::new(),
        1 => b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer mine\r\n\r\n"
            .repeat(random.usize(1..4)),
        _ => (0..random.usize(1..most)).map(|_| random.u8(..)).collect(),
    }
}

/// The app's side; whether it was agreed to.
async fn ask(mut wire: Wire, seed: u64, number: u64) -> bool {
    let mut case = Case::new(seed, number);
    let head = format!(
        "GET /{number} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let ahead = [head.as_bytes(), &case.ahead].concat();
    let cut = case.random.usize(..=ahead.len());
    for piece in [&ahead[..cut], &ahead[cut..]] {
        // What is refused is not read to its end.
        let _ = wire.send(piece).await;
        tokio::task::yield_now().await;
    }
    let answer = wire.head().await.unwrap_or_else(|error| panic!("{number}: {error}")).expect("an answer");
    if !case.agrees {
        assert_ne!(answer.status(), 101, "{number}");
        assert!(answer.only(b"connection").is_some_and(|value| value == b"close"), "{number}: {answer:?}");
        let body = wire.body(&answer).await.unwrap();
        assert!(answer.status() == 502 || body.data.len() <= 2, "{number}: {answer:?}");
        assert_eq!(wire.leftovers().await, b"", "{number}: one answer, and no more");
        return false;
    }
    assert_eq!((answer.status(), answer.only(b"sec-websocket-accept")), (101, Some(ACCEPT.as_bytes())), "{number}");
    assert!(wire.exactly(case.welcome.len()).await.unwrap() == case.welcome, "{number}");
    wire.send(&case.behind).await.unwrap();
    assert!(wire.exactly(case.farewell.len()).await.unwrap() == case.farewell, "{number}");
    wire.finish(false).await;
    assert_eq!(wire.leftovers().await, b"", "{number}");
    true
}

/// The upstream's side.
async fn serve(mut wire: Wire, seed: u64, counts: Arc<[AtomicU64; 2]>) {
    counts[0].fetch_add(1, Ordering::Relaxed);
    let head = wire.head().await.unwrap().expect("a request");
    let number: u64 = head.target()[1..].parse().unwrap_or_else(|_| panic!("nobody meant to send {head:?}"));
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-key", KEY)] {
        assert_eq!(head.only(name.as_bytes()), Some(value.as_bytes()), "{head:?}");
    }
    let case = Case::new(seed, number);
    wire.send(&[case.answer, &case.welcome].concat()).await.unwrap();
    let (mut heard, said) = (Vec::new(), [&case.ahead[..], &case.behind].concat());
    if case.agrees {
        heard.extend_from_slice(&wire.exactly(said.len()).await.unwrap());
        wire.send(&case.farewell).await.unwrap();
    }
    heard.extend(wire.leftovers().await);
    assert!(heard == if case.agrees { said } else { Vec::new() }, "{number}: {}", heard.escape_ascii());
    counts[1].fetch_add(1, Ordering::Relaxed);
}
