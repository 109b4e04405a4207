//! Whatever a request says, the API receives exactly one field that could be taken for the route's credential, and it
//! is ours.
//!
//! The API reads bytes and compares names as the laxest server would, in any case and with `_` for `-`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;

use super::Stage;
use super::proof::Proof;
use super::random::{field, space, text, word};
use super::wire::{Api, Body, Head, Wire, told};
use crate::support::{lasting, seed};

/// So many connections of apps, and so many requests on the way on each.
const APPS: u64 = 8;
const PIPELINED: usize = 16;

/// A route as its requests know it.
#[derive(Clone)]
struct Route {
    /// What origin-form requests for it begin with.
    prefix: &'static str,
    /// Whom absolute-form requests for it name.
    authority: String,
}

/// A request, and how its answer is told from others.
struct Request {
    bytes: Vec<u8>,
    target: String,
    is_head: bool,
}

#[tokio::test]
async fn every_request_arrives_with_one_credential_and_it_is_ours() {
    let mut proof = Proof::new("R24b", "whatever a request says, one credential, and ours");
    let (seed, wanted) = (seed(), lasting(5_000, 30_000, 1_000_000));
    // The token exists only when bearerd runs, and bearerd must be told the address before.
    let credentials = [Arc::new(Expected::new("authorization")), Arc::new(Expected::new("x-api-key"))];
    let mut apis = Vec::new();
    for expected in &credentials {
        let expected = Arc::clone(expected);
        apis.push(Api::start(move |wire| check(wire, Arc::clone(&expected))).await);
    }
    let [bearer, key] = [&apis[0], &apis[1]].map(|api| api.address.to_string());
    let rest = format!(
        "routes:\n  - {{name: bearer, upstream: 'http://{bearer}', token: app}}\n  - {{name: key, upstream: \
         'http://{key}', token: app, match: {{path: /key}}, inject: {{header: X-Api-Key, scheme: ''}}}}\n"
    );
    let stage = Stage::new(Duration::from_secs(3_600), &["app".to_owned()], "", &rest).await;
    let token = stage.provider.calls()[0].token.clone().unwrap();
    for (expected, (authority, value)) in
        credentials.iter().zip([(&bearer, format!("Bearer {}", token.expose())), (&key, token.expose().clone())])
    {
        expected.host_and_value.set((authority.clone(), value)).unwrap();
    }

    let routes = [Route { prefix: "/", authority: bearer }, Route { prefix: "/key/", authority: key }];
    let mut apps = tokio::task::JoinSet::new();
    for app in 0..APPS {
        let random = Rng::with_seed(seed.wrapping_add(app));
        apps.spawn(send(stage.proxy.address, routes.clone(), random, wanted / APPS));
    }
    let [first, second] = &mut apis[..] else { panic!("there are two") };
    let sent = async {
        let mut connections = 0;
        while let Some(ended) = apps.join_next().await {
            connections += told(ended);
        }
        connections
    };
    let connections = tokio::select! {
        biased;
        never = first.lives() => never,
        never = second.lives() => never,
        connections = sent => connections,
    };
    let [bearers, keys] = [&credentials[0], &credentials[1]].map(|expected| expected.requests.load(Ordering::Relaxed));
    proof.asked(wanted);
    proof.is(
        "requests that came to the API, each with our credential alone or the proof had ended there",
        bearers + keys,
        wanted,
    );
    proof.at_least("of these, with Authorization", bearers, wanted / 4);
    proof.at_least("of these, with X-Api-Key", keys, wanted / 4);
    proof.figure("connections", connections);
    proof.end();
}

/// What an API expects of every request.
struct Expected {
    /// The field that is ours, as it would be compared.
    name: &'static str,
    host_and_value: std::sync::OnceLock<(String, String)>,
    requests: AtomicU64,
}

impl Expected {
    fn new(name: &'static str) -> Self {
        Self { name, host_and_value: std::sync::OnceLock::new(), requests: AtomicU64::new(0) }
    }

    fn check(&self, head: &Head) {
        let (host, value) = self.host_and_value.get().unwrap();
        let (mut hosts, mut ours) = (0, 0);
        for (name, is) in head.fields() {
            let name: Vec<u8> =
                name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
            match name.as_slice() {
                b"host" => {
                    assert_eq!(is, host.as_bytes(), "{head:?}");
                    hosts += 1;
                }
                name if name == self.name.as_bytes() => {
                    assert_eq!(is, value.as_bytes(), "{head:?}");
                    ours += 1;
                }
                // Our own, for an app that takes trailers.
                b"connection" => assert_eq!(is, b"te", "{head:?}"),
                b"te" => assert_eq!(is, b"trailers", "{head:?}"),
                b"trailer" => self.check_trailer(is, head),
                // Another's credential, or a word of the app's own about its hop.
                b"authorization" | b"proxy-authorization" | b"upgrade" => {
                    panic!("{} got through: {head:?}", name.escape_ascii());
                }
                _ => {}
            }
        }
        assert_eq!((hosts, ours), (1, 1), "{head:?}");
    }

    /// The name of a trailer, announced or there: no credential comes behind the body.
    fn check_trailer(&self, name: &[u8], head: &Head) {
        let is_credential = |own: &str| name.eq_ignore_ascii_case(own.as_bytes());
        assert!(!is_credential(self.name) && !is_credential("authorization"), "{} in {head:?}", name.escape_ascii());
    }
}

/// The API's side of a connection: looks at every request, and says to which target it was.
async fn check(mut wire: Wire, expected: Arc<Expected>) {
    // An error is the end of the run.
    while let Ok(Some(head)) = wire.head().await {
        expected.check(&head);
        if head.only(b"expect").is_some() && wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return;
        }
        let Ok(body) = wire.body(&head).await else { return };
        for line in &body.trailers {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            expected.check_trailer(name, &head);
        }
        assert!(body.data.iter().all(|byte| *byte == b'b'), "{head:?} {body:?}");
        expected.requests.fetch_add(1, Ordering::Relaxed);
        let target = head.target();
        let with_body = if head.first_line().starts_with(b"HEAD ") { "" } else { target };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{with_body}", target.len());
        if wire.send(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// An app that has so many requests answered; yields how many connections that took.
async fn send(address: std::net::SocketAddr, routes: [Route; 2], mut random: Rng, requests: u64) -> u64 {
    let (mut made, mut connections) = (0, 0);
    let mut waiting: VecDeque<Request> = VecDeque::new();
    while made < requests || !waiting.is_empty() {
        let mut wire = Wire::connect(address).await;
        connections += 1;
        let mut answered = 0;
        'connection: while made < requests || !waiting.is_empty() {
            while made < requests && waiting.len() < PIPELINED {
                waiting.push_back(Request::any(&mut random, &routes, made));
                made += 1;
            }
            // On a new connection, what the last one left unanswered goes first. Nothing of it was taken: the API
            // counts.
            let batch: Vec<u8> = waiting.iter().flat_map(|request| &request.bytes).copied().collect();
            // A connection that was ended behind an answer takes nothing more; reading tells.
            let _ = wire.send(&batch).await;
            while let Some(request) = waiting.front() {
                let Ok(Some(head)) = wire.head().await else { break 'connection };
                if head.status() == 100 {
                    continue;
                }
                let body = if request.is_head { None } else { Some(wire.body(&head).await.unwrap()) };
                request.assert_answered(&head, body);
                waiting.pop_front();
                answered += 1;
            }
        }
        let request = waiting.front();
        assert!(answered > 0 || request.is_none(), "a connection ended at once: {}", request.unwrap());
    }
    connections
}

impl Request {
    fn assert_answered(&self, head: &Head, body: Option<Body>) {
        assert_eq!(head.status(), 200, "{head:?} {body:?} to {self}");
        if let Some(body) = body {
            assert_eq!(String::from_utf8(body.data).unwrap(), self.target, "{head:?} to {self}");
        }
    }

    /// One that is legal, and says whatever could move, double or hide a credential.
    fn any(random: &mut Rng, routes: &[Route; 2], number: u64) -> Self {
        let route = &routes[random.usize(..2)];
        let is_old = random.u8(..100) == 0;
        let method = random.choice(["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY"]);
        let method = method.unwrap();
        let tail =
            random.choice(["", "?q=%2F&authorization=Bearer%20x", "/;a=b//c", "/%00%e4?", "/~:@!$'()*+,"]).unwrap();
        let (whole, target, host) = if random.bool() {
            let target = format!("{}{number}{tail}", route.prefix);
            let host = random.choice(["localhost", "LOCALHOST:1", "127.0.0.1", "a.localhost:80", "[::1]:4280"]);
            (target.clone(), target, host.unwrap().to_owned())
        } else {
            let target = format!("/{number}{tail}");
            (format!("http://{}{target}", route.authority), target, route.authority.clone())
        };
        let mut lines = vec![field(random, "Host", host.as_bytes())];
        if is_old && random.bool() {
            lines.clear();
        }
        for (name, most) in [
            ("Authorization", 4),
            ("Proxy-Authorization", 2),
            ("Proxy_Authorization", 1),
            ("X-Api-Key", 2),
            ("X_Api_Key", 1),
            ("X_Api-Key", 1),
            ("X-Api_Key", 1),
        ] {
            for _ in 0..seldom(random, most) {
                let value = credential(random);
                lines.push(field(random, name, &value));
            }
        }
        for _ in 0..seldom(random, 5) {
            let value = options(random);
            lines.push(field(random, "Connection", &value));
        }
        for (name, value) in [
            ("TE", "trailers, gzip;q=0.5"),
            ("Trailer", "Authorization, X-Api-Key"),
            ("Upgrade", "websocket, h2c"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            ("Keep-Alive", "timeout=5, authorization"),
            ("Proxy-Connection", "keep-alive, authorization"),
            ("Cookie", "authorization=Bearer; b=\"c\""),
            ("X-Forwarded-Authorization", "Bearer stolen"),
            ("Authorization-", "Bearer stolen"),
            ("X-Authorization", "Bearer stolen"),
        ] {
            if random.u8(..8) == 0 {
                lines.push(field(random, name, value.as_bytes()));
            }
        }
        for _ in 0..seldom(random, 4) {
            let (name, value) = (word(random), text(random));
            lines.push(field(random, &name, &value));
        }
        let mut body = Vec::new();
        match random.u8(..10) {
            0 => lines.push(field(random, "Content-Length", b"0")),
            1 | 2 => {
                body.resize(random.usize(1..600), b'b');
                lines.push(field(random, "Content-Length", body.len().to_string().as_bytes()));
            }
            // Which HTTP/1.0 does not know.
            3 if !is_old => {
                for _ in 0..random.u8(..3) {
                    let size = random.usize(1..300);
                    body.extend_from_slice(format!("{size:x};ext=\"authorization\"\r\n").as_bytes());
                    body.resize(body.len() + size, b'b');
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"0\r\n");
                if random.bool() {
                    body.extend_from_slice(b"Authorization: Bearer trailing\r\nX-Api-Key: trailing\r\n");
                }
                body.extend_from_slice(b"\r\n");
                lines.push(field(random, "Transfer-Encoding", b"chunked"));
            }
            _ => {}
        }
        if !body.is_empty() && random.u8(..10) == 0 {
            lines.push(field(random, "Expect", b"100-continue"));
        }
        random.shuffle(&mut lines);
        let version = if is_old { "1.0" } else { "1.1" };
        let mut bytes = format!("{method} {whole} HTTP/{version}\r\n").into_bytes();
        bytes.extend(lines.concat());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(body);
        Self { bytes, target, is_head: method == "HEAD" }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes.escape_ascii())
    }
}

/// Nothing in half of all cases, up to so many in the others.
fn seldom(random: &mut Rng, most: u8) -> u8 {
    if random.bool() { 0 } else { random.u8(..=most) }
}

fn credential(random: &mut Rng) -> Vec<u8> {
    let known = ["Bearer stolen", "Basic eDp5", "bearer", "", ",", "\"Bearer x\", Bearer y", "Digest a=\"b,c\", d=e"];
    match random.choice(known) {
        Some(known) if random.bool() => known.into(),
        _ => text(random),
    }
}

/// A Connection line's value: names of what should not go, and what is no name.
fn options(random: &mut Rng) -> Vec<u8> {
    let known = [
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "x_api_key",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "cookie",
        "",
        "\"authorization\"",
        "authorization;q=1",
        "author ization",
        "@",
        "\u{e9}",
    ];
    let mut value = Vec::new();
    for at in 0..random.u8(..6) {
        if at > 0 {
            value.push(b',');
        }
        value.extend_from_slice(space(random));
        match random.u8(..40) {
            0 => value.extend_from_slice(word(random).as_bytes()),
            1 if random.u8(..4) == 0 => value.extend_from_slice(b"close"),
            _ => {
                let known = random.choice(known).unwrap();
                value.extend(if random.bool() { known.to_ascii_uppercase() } else { known.to_owned() }.bytes());
            }
        }
        value.extend_from_slice(space(random));
    }
    value
}
