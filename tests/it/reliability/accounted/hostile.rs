//! R5: a provider that answers everything but what it should, to as many tokens as there are ways, in one process.
//!
//! Each of the answers by itself, and what the log says of it, is in `tokens::bad_answers`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bearerd::demo::answer::{Answer, Piece};
use serde_json::{Value, json};

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::{PATIENCE, lasting};

/// Long enough for two more tries behind the one that fails, before the token that is held ends.
const LIFE: Duration = Duration::from_secs(16);

fn but(member: &str, value: Value) -> Answer {
    let mut answer = json!({"access_token": "a-token", "token_type": "Bearer", "expires_in": 60});
    answer[member] = value;
    Answer::json(200, &answer).into()
}

fn answers() -> Vec<Answer> {
    let deep = |member| format!("{{\"{member}\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let good = json!({"access_token": "a-token", "token_type": "Bearer", "expires_in": 60}).to_string();
    let whole = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    vec![
        Answer::status(200).into(),
        Answer::status(204).into(),
        Answer::status(200).header("content-type", "text/html").body("<html>down for maintenance</html>").into(),
        Answer::status(200).body("null").into(),
        Answer::status(200).body("[]").into(),
        Answer::status(200).body("{\"access_token\": \"a-tok").into(),
        Answer::status(200).body(&b"{\"access_token\": \"a\xff\"}"[..]).into(),
        Answer::status(200).body(deep("access_token")).into(),
        Answer::status(200).body(deep("other")).into(),
        Answer::status(200).header("content-encoding", "gzip").body(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]).into(),
        but("access_token", json!(null)),
        but("access_token", json!("")),
        but("access_token", json!(7)),
        but("access_token", json!("a\r\nX-Evil: 1")),
        but("access_token", json!("a token")),
        but("access_token", json!("a\u{0}token")),
        but("access_token", json!("ä-token")),
        but("access_token", json!("x".repeat(1_000_000))),
        but("expires_in", json!(0)),
        but("expires_in", json!(-1)),
        but("expires_in", json!("soon")),
        but("expires_in", json!([])),
        but("token_type", json!("mac")),
        but("token_type", json!("DPoP")),
        but("error", json!("invalid_scope")),
        // A hundred megabytes, and a body that never ends.
        Answer::status(200).piece(Piece::Repeat(b'x', 100 << 20)).into(),
        Answer::status(200).chunked().body("{").piece(Piece::Stall).into(),
        Answer::status(200).piece(Piece::Drip(good.clone().into(), Duration::from_secs(1))).into(),
        Answer::status(200).chunked().body("{\"access_token\": ").piece(Piece::Cut).into(),
        Answer::status(301).header("location", "http://127.0.0.1:9/").into(),
        Answer::status(307).header("location", "http://127.0.0.1:9/").into(),
        Answer::status(500).into(),
        Answer::status(503).header("retry-after", "1").into(),
        Answer::status(429).header("retry-after", "soon").into(),
        Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n"),
        Answer::raw(format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(1_000_000))),
        Answer::raw(whole(&good).replace("HTTP/1.1", "HTTP/7.7")),
        Answer::raw("SSH-2.0-OpenSSH_9.2\r\n"),
        Answer::close(),
        Answer::reset(),
        Answer::hang(),
    ]
}

#[tokio::test]
async fn no_answer_of_a_providers_costs_a_request() {
    let mut proof = Proof::new("R5", "everything that a provider may answer instead of a token, each at a renewal");
    let (answers, rounds) = (answers(), lasting(1, 1, 20));
    let tokens = answers.len();
    let world = World::new(tokens, LIFE).await;
    let asked: Mutex<HashMap<usize, u64>> = Mutex::default();
    let given = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&given);
    world.provider.script().when(move |head| {
        // Basic, of tNUMBER and the secret.
        let credentials = head.headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?.to_owned();
        let credentials = BASE64_STANDARD.decode(credentials).ok()?;
        let number = str::from_utf8(&credentials).ok()?.split(':').next()?.strip_prefix('t')?.parse::<usize>().ok()?;
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(number).or_default();
        *times += 1;
        // The truth first, and at every other time.
        let turn = number + usize::try_from(*times / 2).unwrap();
        times.is_multiple_of(2).then(|| {
            counted.fetch_add(1, Ordering::Relaxed);
            answers[turn % answers.len()].clone()
        })
    });
    let api = upstream(&world.books, None, || Act::SERVE).await;
    let lines = Lines { token: "refresh: {timeout: 1s}", ..Lines::default() };
    world.configure(&format!("http://{}", api.address), lines);
    let bearerd = world.start_ready().await;
    let apps = Load::new(bearerd.address(), &world.names).start(&world.books);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let resident = bearerd.resident();
    let granted = async || bearerd.token_requests(|outcome| outcome == "granted").await;
    let failed = async || bearerd.token_requests(|outcome| outcome != "granted").await;
    for round in 1..=rounds {
        // Each token had one bad answer more, and got a good one behind it.
        let deadline = tokio::time::Instant::now() + LIFE + PATIENCE;
        while granted().await < (1 + round) * tokens as u64 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "waited for a good answer to each, there are {}",
                granted().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let grown = bearerd.resident().saturating_sub(resident);
    apps.stop().await;
    let failed = failed().await;
    proof.nothing_lost(&world.books.balance());
    proof.at_least("token requests that failed", failed, rounds * tokens as u64);
    proof.at_most("the same, of as many bad answers", failed, given.load(Ordering::Relaxed));
    proof.at_most("token requests for one token within a second", busiest(&world), 2);
    // Three of them are a megabyte, which is as much as is read, and may come at once.
    proof.at_most("MiB that it grew by", grown / 1024, 7);
    proof.withstood(failed);
    proof.renewed(world.renewals());
    bearerd.end().await;
    proof.end();
}

/// The most token requests that a client made within a second.
fn busiest(world: &World) -> usize {
    let mut times: HashMap<Box<str>, Vec<Instant>> = HashMap::new();
    for call in world.provider.calls() {
        times.entry(call.client_id.as_deref().unwrap_or_default().into()).or_default().push(call.at);
    }
    let within = |times: &Vec<Instant>| {
        let from =
            |from: &Instant| times.iter().filter(|at| (*from..*from + Duration::from_secs(1)).contains(*at)).count();
        times.iter().map(from).max().unwrap_or_default()
    };
    times.values().map(within).max().unwrap_or_default()
}
