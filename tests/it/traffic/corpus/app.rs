//! What an app may send: exactly the intended request arrives, or none, and what is in doubt ends the connection.
//!
//! Two oracles have to agree. The API's log says what an HTTP server made of it, and the bytes that went to the API are
//! read a second time by a reader that forgives nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bearerd::demo::api::{self, Api, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::format::{Class, classes};
use super::strict::{Message, messages};
use crate::support::{API, App, PATIENCE, Rig, eventually};
use crate::traffic::rig_with;

const KEYS: [&str; 7] = ["verdict", "status", "method", "body", "header", "lacks", "trailer"];

/// What arrived under one target.
type Arrived = BTreeMap<String, Vec<Message>>;

/// All bytes that went to the API, by connection.
type Streams = Arc<Mutex<Vec<Vec<u8>>>>;

#[tokio::test]
async fn what_an_app_sends_arrives_as_what_it_is_or_not_at_all() {
    let classes = classes("app", &KEYS, 108);
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = way.local_addr().unwrap();
    let route =
        format!("  - upstream: http://{API}\n    connect_to: {to}\n    token: main\n    allow_plaintext: true\n");
    let rig = rig_with(|_| format!("routes:\n{route}")).await;
    let verifier = Some(rig.provider.verifier());
    let api = Api::start(api::Settings { verifier, ..api::Settings::plain() }).await.unwrap();
    let streams = Streams::default();
    tokio::spawn(tapped(way, api.addr(), Arc::clone(&streams)));

    let (mut failures, mut cases) = (Vec::new(), Vec::new());
    for class in &classes {
        for payload in &class.payloads {
            for at_once in [true, false] {
                let number = cases.len() + 1;
                let answers = answers(&rig, &payload.bytes(number), number, at_once).await;
                let right = statuses(class);
                if !right.contains(&answers) {
                    failures.push(format!("{}: answered {answers:?} instead of {right:?}", payload.place));
                }
                cases.push((class, &payload.place));
            }
        }
    }

    eventually("all is answered or given up", || api.counts().in_flight.now() == 0).await;
    let mut arrived = Arrived::new();
    for stream in streams.lock().unwrap().iter() {
        let (messages, wrong) = messages(stream);
        messages.into_iter().for_each(|one| arrived.entry(one.target.clone()).or_default().push(one));
        failures.extend(wrong.map(|why| format!("the API was sent what is no request: {why}")));
    }
    failures.extend(disagreements(&arrived, &api));
    for (number, (class, place)) in (1..).zip(cases) {
        let mut of = |target: String| arrived.remove(&target).unwrap_or_default();
        let (own, behind) = (of(format!("/{number}")), of(format!("/smuggled-{number}")));
        failures.extend(wrong(class, &own, &behind).map(|why| format!("{place} (/{number}): {why}")));
    }
    failures.extend(arrived.keys().map(|target| format!("nobody meant to send {target}")));
    super::assert_none(&failures);
    // But for the name of a host, where it is one.
    let said = rig.proxy.said().replace("evil.test:443", "").replace("evil.test", "");
    for theirs in ["smuggled", "stolen", "evil"] {
        assert!(!said.contains(theirs), "an app's bytes are not told: {theirs}");
    }
}

/// Sends a message and one more request behind it, all at once or byte by byte; the statuses of the answers.
async fn answers(rig: &Rig, message: &[u8], number: usize, at_once: bool) -> Vec<u16> {
    let behind = format!("GET /smuggled-{number} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let all = [message, behind.as_bytes()].concat();
    let mut app: App = rig.app().await;
    // Long ones in as many pieces as others have bytes.
    let piece = if at_once { all.len() } else { all.len().div_ceil(512) };
    for piece in all.chunks(piece) {
        app.send(piece).await;
        tokio::task::yield_now().await;
    }
    let mut heard = Vec::new();
    // An end by a reset is an end.
    let ended = tokio::time::timeout(PATIENCE, app.into_stream().read_to_end(&mut heard)).await.is_ok();
    let heard = String::from_utf8_lossy(&heard);
    let status = |answer: &str| answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut statuses: Vec<u16> = heard.split("HTTP/1.").skip(1).map(status).filter(|status| *status != 100).collect();
    // No answer is called this.
    statuses.extend((!ended).then_some(0));
    statuses
}

/// What the app may hear, the answer to the request behind included.
fn statuses(class: &Class) -> Vec<Vec<u16>> {
    let usual = match class.must("verdict") {
        "refused" | "broken" => "400",
        "one" | "one-then-closed" => "200",
        other => panic!("no verdict is called {other}"),
    };
    let behind = if class.get("verdict") == Some("one") { " 200" } else { "" };
    let read = |one: &str| {
        let words = format!("{one}{behind}");
        let words = words.split_whitespace().filter(|word| *word != "none");
        words.map(|status| status.parse().unwrap()).collect()
    };
    class.get("status").unwrap_or(usual).split(" | ").map(read).collect()
}

/// What is wrong about what arrived of a message and of the request behind it.
fn wrong(class: &Class, own: &[Message], behind: &[Message]) -> Option<String> {
    let verdict = class.must("verdict");
    let served_behind = behind.len() == 1 && behind[0].whole && behind[0].body.is_empty();
    if !behind.is_empty() && (verdict != "one" || !served_behind) || verdict == "one" && behind.is_empty() {
        return Some(format!("of the request behind it there arrived {behind:?}"));
    }
    match (verdict, own) {
        ("refused" | "broken", []) => None,
        ("broken", [one]) if !one.whole => None,
        ("one" | "one-then-closed", [one]) => {
            let is_meant = one.whole && one.method == class.must("method") && one.body == class.bytes("body");
            let has = |line: &str| line.split_once(": ").is_some_and(|(name, value)| one.header(name) == [value]);
            let trailers: Vec<_> = one.trailers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let is_so = class.all("header").all(has)
                && class.all("lacks").all(|name| one.header(name).is_empty())
                && class.all("trailer").eq(trailers.iter().map(String::as_str));
            (!is_meant || !is_so).then(|| format!("{one:?} arrived"))
        }
        (_, all) => Some(format!("there arrived {all:?}")),
    }
}

/// Where the API's log and the strict reading of the same bytes differ, and what no request may bring along.
fn disagreements(arrived: &Arrived, api: &Api) -> Vec<String> {
    let mut found = Vec::new();
    let mut log: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for seen in api.requests() {
        if (seen.verdict, seen.authorization_lines, seen.host.as_deref()) != (Verdict::Good, 1, Some(API)) {
            found.push(format!("a credential or a host that is not ours: {seen:?}"));
        }
        let whole = log.entry(seen.target.clone()).or_default();
        whole.extend(seen.body_sha256.is_some().then(|| (seen.method.to_string(), seen.body_len)));
    }
    for one in arrived.values().flatten() {
        let hop = ["connection", "keep-alive", "te", "upgrade", "expect", "proxy-authorization"];
        // What holds for one hop is said anew for the next, in our words; a WebSocket is all that is asked for.
        let is_ours = |name: &str| match (name, &one.header(name)[..]) {
            ("connection", ["upgrade"]) => one.header("upgrade") == ["websocket"],
            ("upgrade", ["websocket"]) => one.header("connection") == ["upgrade"],
            ("connection", ["te"]) => one.header("te") == ["trailers"],
            ("te", ["trailers"]) => one.header("connection") == ["te"],
            ("expect", ["100-continue"]) => true,
            _ => false,
        };
        let stayed: Vec<_> = hop.iter().filter(|name| !one.header(name).is_empty() && !is_ours(name)).collect();
        if !stayed.is_empty() || one.header("authorization").len() != 1 || one.header("host") != [API] {
            found.push(format!("headers that are not for the API, or none that are: {one:?}"));
        }
    }
    let targets: std::collections::BTreeSet<_> = arrived.keys().chain(log.keys()).collect();
    for target in targets {
        let whole = arrived.get(target).into_iter().flatten().filter(|one| one.whole);
        let strict: Vec<_> = whole.map(|one| (one.method.clone(), one.body.len() as u64)).collect();
        let lenient = log.get(target).cloned().unwrap_or_default();
        if strict != lenient {
            found.push(format!("{target}: the API took {lenient:?} and the strictest reader {strict:?}"));
        }
    }
    found
}

/// Passes connections on and keeps what comes over them.
async fn tapped(way: TcpListener, to: std::net::SocketAddr, streams: Streams) {
    while let Ok((mut proxy, _)) = way.accept().await {
        let streams = Arc::clone(&streams);
        tokio::spawn(async move {
            let mut api = TcpStream::connect(to).await.unwrap();
            let index = {
                let mut streams = streams.lock().unwrap();
                streams.push(Vec::new());
                streams.len() - 1
            };
            let ((mut from_proxy, mut to_proxy), (mut from_api, mut to_api)) = (proxy.split(), api.split());
            let up = async {
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = from_proxy.read(&mut piece).await {
                    streams.lock().unwrap()[index].extend(&piece[..length]);
                    to_api.write_all(&piece[..length]).await.unwrap();
                }
            };
            // Whichever side ends, both end.
            tokio::select! {
                () = up => {}
                _ = tokio::io::copy(&mut from_api, &mut to_proxy) => {}
            }
        });
    }
}
