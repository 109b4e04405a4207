//! Fifty routes with a credential each: no request ever carries another route's token, however many workers, renewals
//! and replays there are.
//!
//! The API reads from the token itself whose it is, and from the path which route the request took and which it meant.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bearerd::demo::api::{Verdict, Verifier};
use fastrand::Rng;
use serde_json::Value;
use tokio::task::JoinSet;

use super::Stage;
use super::proof::Proof;
use super::wire::{Api, Head, Wire, told};
use crate::support::{PATIENCE, lasting, seed};

const ROUTES: usize = 50;

const APPS: u64 = 16;

/// Renewed as soon as a tenth is over, so that most of it is left when the machine is busy.
const LIFE: Duration = Duration::from_secs(12);
const REFRESH: &str = "refresh: {early: 90%, min_interval: 100ms, after_401: 1s}";

/// How a route is found, and where it leads. Some are below others, so that the longest path must win.
struct Route {
    /// What its requests begin with in origin-form, and the Host they name.
    local: String,
    host: String,
    base: String,
    rule: String,
}

impl Route {
    fn new(number: usize) -> Self {
        let (plain, base) = ("localhost".to_owned(), format!("/r/{number}"));
        match number % 3 {
            0 => {
                let local = format!("/t/{number}");
                let rule = format!("match: {{path: {local}}}, strip_prefix: {}", number.is_multiple_of(2));
                Self { local, host: plain, base, rule }
            }
            1 => {
                let host = format!("tenant-{number}.localhost");
                let rule = format!("match: {{host: {host}}}");
                Self { local: String::new(), host, base, rule }
            }
            _ => {
                let (local, base) = (format!("/t/{}/deep", number - 2), format!("/r/{}/deep", number - 2));
                let rule = format!("match: {{path: {local}}}");
                Self { local, host: plain, base, rule }
            }
        }
    }

    /// Which route it was that led here.
    fn of(target: &str) -> usize {
        let mut words = target.split('/').skip(2);
        let number: usize = words.next().unwrap().parse().unwrap();
        if words.next() == Some("deep") { number + 2 } else { number }
    }
}

#[tokio::test]
async fn no_request_carries_another_routes_token() {
    let mut proof = Proof::new("R24", "fifty routes with a credential each, two workers, and tokens that are refused");
    let (seed, wanted) = (seed(), lasting(2_000, 20_000, 1_000_000));
    let books = Arc::new(Books::default());
    let ledger = Arc::clone(&books);
    let mut api = Api::start(move |wire| serve(wire, Arc::clone(&ledger))).await;
    let routes: Arc<Vec<Route>> = Arc::new((0..ROUTES).map(Route::new).collect());
    let mut rest = "workers: 2\nroutes:\n".to_owned();
    for (number, Route { base, rule, .. }) in routes.iter().enumerate() {
        let address = api.address;
        rest.push_str(&format!(
            "  - {{name: route-{number}, upstream: 'http://{address}{base}', token: client-{number}, {rule}}}\n"
        ));
    }
    let clients: Vec<String> = (0..ROUTES).map(|number| format!("client-{number}")).collect();
    let stage = Stage::new(LIFE, &clients, REFRESH, &rest).await;
    books.with(|books| books.verifier = Some(stage.provider.verifier()));

    let first = stage.provider.count();
    let mut apps = JoinSet::new();
    let enough = Arc::new(AtomicBool::new(false));
    for app in 0..APPS {
        let random = Rng::with_seed(seed.wrapping_add(app));
        let meant = Meant { proxy: stage.proxy.address, api: api.address, routes: Arc::clone(&routes), app };
        apps.spawn(send(meant, random, wanted / APPS, Arc::clone(&enough)));
    }
    let renewed = async {
        // Each once, planned or forced: the fewest requests are over before that.
        stage.provider.wait_for(first + ROUTES, PATIENCE).await.unwrap();
        enough.store(true, Ordering::Relaxed);
        std::future::pending().await
    };
    let sent = async {
        let mut sent = Sent::default();
        while let Some(ended) = apps.join_next().await {
            let Sent { served, refused } = told(ended);
            sent = Sent { served: sent.served + served, refused: sent.refused + refused };
        }
        sent
    };
    let sent = tokio::select! {
        biased;
        never = api.lives() => never,
        never = renewed => never,
        sent = sent => sent,
    };

    let renewals = stage.provider.count() - first;
    books.with(|books| {
        let requests = sent.served + sent.refused;
        proof.asked(requests);
        proof.renewed(renewals);
        proof.survived(books.refused);
        proof.at_least("requests, each with its own route's token or the proof had ended there", requests, wanted);
        proof.is("of these, those that came to the API", books.ids.len() as u64, requests);
        proof.is(
            "requests that came to it in all, those sent again included",
            books.arrived,
            requests + books.repeated,
        );
        proof.at_least("requests sent again with a newer token", books.repeated, 1);
        proof.at_least("renewals", renewals, ROUTES);
        proof.figure("tokens", books.clients.len());
        proof.figure("401 that an app was told, where no renewal was due", sent.refused);
    });
    proof.end();
}

/// What the API knows.
#[derive(Default)]
struct Books(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    verifier: Option<Verifier>,
    /// Whose a token is, by the token.
    clients: HashMap<String, usize>,
    rejected: HashSet<String>,
    ids: HashSet<String>,
    arrived: u64,
    repeated: u64,
    refused: u64,
}

impl Books {
    fn with<T>(&self, look: impl FnOnce(&mut Entries) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

impl Entries {
    /// The answer's status.
    fn judge(&mut self, head: &Head) -> u16 {
        let target = head.target();
        let mut words = target.rsplit('/');
        let (id, wish, meant) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let meant: usize = meant.strip_prefix("meant-").unwrap().parse().unwrap();
        let token = head.only(b"authorization").and_then(|value| value.strip_prefix(b"Bearer "));
        let token = str::from_utf8(token.unwrap_or_else(|| panic!("no token: {head:?}"))).unwrap();
        let client = *self.clients.entry(token.to_owned()).or_insert_with(|| client(token));
        assert_eq!((Route::of(target), client), (meant, meant), "route and token are not those of {head:?}");

        self.arrived += 1;
        if !self.ids.insert(id.to_owned()) {
            self.repeated += 1;
        } else if wish == "reject" {
            self.rejected.insert(token.to_owned());
        }
        let verdict = self.verifier.as_ref().unwrap().verify(token, SystemTime::now());
        // Expired is what a request can become that waits for the machine, and no concern of this test.
        assert!(matches!(verdict, Verdict::Good | Verdict::Expired), "{verdict:?} of {head:?}");
        if verdict == Verdict::Good && !self.rejected.contains(token) {
            return 200;
        }
        self.refused += 1;
        401
    }
}

/// Whom the token names.
fn client(token: &str) -> usize {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], claims["client_id"]);
    claims["sub"].as_str().unwrap().strip_prefix("client-").unwrap().parse().unwrap()
}

async fn serve(mut wire: Wire, books: Arc<Books>) {
    // An error is the end of the run.
    while let Ok(Some(head)) = wire.head().await {
        let Ok(body) = wire.body(&head).await else { return };
        let length = if head.first_line().starts_with(b"POST ") { 700 } else { 0 };
        assert!(body.data.len() == length && body.data.iter().all(|byte| *byte == b'b'), "{head:?} {body:?}");
        let answer = match books.with(|books| books.judge(&head)) {
            200 => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", head.target().len(), head.target()),
            _ => "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer error=\"invalid_token\"\r\n\
                  content-length: 0\r\n\r\n"
                .to_owned(),
        };
        if wire.send(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What an app needs to know.
struct Meant {
    proxy: SocketAddr,
    api: SocketAddr,
    routes: Arc<Vec<Route>>,
    app: u64,
}

#[derive(Default)]
struct Sent {
    served: u64,
    refused: u64,
}

/// Sends so many requests, and more until it is told that it is enough.
async fn send(meant: Meant, mut random: Rng, requests: u64, enough: Arc<AtomicBool>) -> Sent {
    let Meant { proxy, api, routes, app } = meant;
    let mut wire = Wire::connect(proxy).await;
    let mut sent = Sent::default();
    for number in 0.. {
        if number >= requests && enough.load(Ordering::Relaxed) {
            break;
        }
        let which = random.usize(..ROUTES);
        let Route { local, host, base, .. } = &routes[which];
        let wish = if random.u8(..200) == 0 { "reject" } else { "serve" };
        let rest = format!("/x/meant-{which}/{wish}/{app}-{number}");
        let (method, body) = if random.u8(..4) == 0 { ("POST", "b".repeat(700)) } else { ("GET", String::new()) };
        let (target, host) = if random.bool() {
            (format!("{local}{rest}"), host.clone())
        } else {
            (format!("http://{api}{base}{rest}"), api.to_string())
        };
        let length = body.len();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}");
        wire.send(request.as_bytes()).await.unwrap();
        let head = wire.head().await.unwrap().expect("an answer");
        let body = wire.body(&head).await.unwrap();
        match head.status() {
            200 => {
                assert!(body.data.ends_with(rest.as_bytes()), "{} to {target}", body.data.escape_ascii());
                sent.served += 1;
            }
            // The API's own, where no renewal was due: it is no other route's.
            401 => sent.refused += 1,
            _ => panic!("{head:?} {} to {target}", body.data.escape_ascii()),
        }
    }
    sent
}
