//! R19: everything at once for a long time, and at its end nothing is other than at its beginning.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::books::Books;
use super::load::{Load, quantile};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, Lines, World};
use crate::reliability::wire::{Api, Wire, told};
use crate::support::{App2, SECRET, full, lasting, whole};

/// Renewed after two thirds, which is every fourth or fifth round or so.
const LIFE: Duration = Duration::from_secs(18);

/// An API ends one connection of so many answers, and refuses a token once in so many.
const ENDS: u64 = 500;

#[tokio::test]
async fn after_hours_of_everything_it_is_as_it_was() {
    let mut proof =
        Proof::new("R19", "everything at once: HTTP/1.1, HTTP/2, WebSockets, tunnels, and a fault every few seconds");
    let lasts = Duration::from_secs(lasting(3, 15, 3_600));
    let world = World::new(2, LIFE).await;
    let (refuse, refused) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default());
    let (answers, refuses, counted) = (AtomicU64::new(0), Arc::clone(&refuse), Arc::clone(&refused));
    let api = upstream(&world.books, None, move || {
        let ends = answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(ENDS);
        match (ends, refuses.swap(false, Ordering::Relaxed)) {
            (_, true) => {
                counted.fetch_add(1, Ordering::Relaxed);
                Act::Refuse
            }
            (true, false) => Act::ServeAndEnd,
            (false, false) => Act::SERVE,
        }
    })
    .await;
    let (websockets, tunnelled) = (Api::start(websocket_echo).await, Api::start(echo).await);
    let upstreams = [api.address, websockets.address, tunnelled.address];
    configure(&world, upstreams, 0);
    let bearerd = world.start_ready().await;
    let begun = Instant::now();
    let began = State::of(&bearerd);

    let rate = half_of_capacity(&world, &bearerd).await;
    // As many apps as make half of what there can be, of which a tenth sends bodies and a tenth connects anew each time.
    let load = Load { connections: 16, ..Load::new(bearerd.address(), &world.names) };
    let at = |share: f64, connections: usize| Load {
        connections,
        pace: Duration::from_secs_f64(connections as f64 / (rate * share)),
        ..load.clone()
    };
    let apps = [
        at(0.6, 16).start(&world.books),
        Load { body: Some(1_000), ..at(0.1, 4) }.start(&world.books),
        Load { per_connection: 1, ..at(0.1, 4) }.start(&world.books),
    ];
    let over = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    for number in 0..4 {
        let pace = Duration::from_secs_f64(4.0 / (rate * 0.2));
        let app = Multiplexed { address: bearerd.address(), route: world.names[number % 2].clone(), pace };
        others.spawn(app.run(Arc::clone(&world.books), Arc::clone(&over)));
        let stream = if number % 2 == 0 {
            open(bearerd.address(), WEBSOCKET, 101).await
        } else {
            open(bearerd.address(), &format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", tunnelled.address), 200).await
        };
        others.spawn(talk(stream, Arc::clone(&over)));
    }

    let mut faults = Faults { world: &world, bearerd: &bearerd, upstreams, refuse, rounds: 0 };
    let mut looks = Vec::new();
    loop {
        faults.round().await;
        looks.push((begun.elapsed(), bearerd.resident()));
        if begun.elapsed() >= lasts {
            break;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut samples = Vec::new();
    for apps in apps {
        samples.extend(apps.stop().await);
    }
    let mut said = 0;
    while let Some(ended) = others.join_next().await {
        said += told(ended);
    }
    bearerd.until_descriptors(began.descriptors).await;
    let ends = State::of(&bearerd);

    // The first comes again and again, from apps that leave in the middle of it.
    proof.all_served(&world.books.balance());
    proof.at_most(
        "descriptors at the end, beside those of the beginning",
        ends.descriptors.saturating_sub(began.descriptors),
        0,
    );
    // One or two more may stand ready for the next lookup or file.
    proof.at_most("threads at the end, beside those of the beginning", ends.threads.saturating_sub(began.threads), 2);
    if lasts >= Duration::from_secs(1_800) {
        proof.at_most("MiB that it grows by in ten minutes", slope(&looks[looks.len() / 10..]), 1.0);
    }
    proof.figure(
        "resident at the beginning, and at the end",
        format!("{:.1} and {:.1} MiB", began.resident as f64 / 1024.0, ends.resident as f64 / 1024.0),
    );
    proof.figure("requests a second, of twice as many that these apps can make", format!("{rate:.0}"));
    proof.figure("messages over WebSockets and tunnels, of which none was lost", said);
    proof.took("p99 of the requests over HTTP/1.1", quantile(&samples, 990));
    proof.at_least("tokens that the API refused", refused.load(Ordering::Relaxed), faults.rounds);
    let reloads = bearerd.log().matches("\"event\":\"reloaded\"").count() as u64;
    proof.at_least("reloads", reloads, faults.rounds);
    proof.figure("renewals", world.renewals());
    proof.figure("token requests that failed", bearerd.token_requests(|outcome| outcome != "granted").await);
    proof.survived(faults.rounds * 6);
    proof.renewed(world.renewals());
    bearerd.end().await;
    proof.end();
}

struct State {
    resident: u64,
    descriptors: u64,
    threads: u64,
}

impl State {
    fn of(bearerd: &Bearerd) -> Self {
        Self { resident: bearerd.resident(), descriptors: bearerd.descriptors(), threads: bearerd.threads() }
    }
}

fn configure(world: &World, [api, websockets, tunnelled]: [SocketAddr; 3], round: u64) {
    world.configure(
        &format!("http://{api}"),
        Lines { route: "timeouts: {pool_idle: 2s}", token: "refresh: {after_401: 1s}", ..Lines::default() },
    );
    let path = world.folder.path("bearerd.yaml");
    let usual = std::fs::read_to_string(path).unwrap();
    // What is new in each round is a number that nothing meets.
    let more = format!(
        "  - {{name: talk, match: {{path: /talk}}, upstream: 'http://{websockets}', token: t0, limits: {{in_flight: {}}}}}\n\
         tunnel: ['{tunnelled}']\n",
        100 + round % 2
    );
    world.folder.replace("bearerd.yaml", &(usual + &more));
}

/// What one request after the other makes in two seconds, on sixteen connections; half of it for a second, and at most what
/// the books hold for an hour.
async fn half_of_capacity(world: &World, bearerd: &Bearerd) -> f64 {
    let before = world.books.balance().asked;
    let load = Load { connections: 16, pace: Duration::ZERO, ..Load::new(bearerd.address(), &world.names) };
    let begun = Instant::now();
    let apps = load.start(&world.books);
    tokio::time::sleep(Duration::from_secs(1)).await;
    apps.stop().await;
    let rate = (world.books.balance().asked - before) as f64 / begun.elapsed().as_secs_f64();
    (rate / 2.0).clamp(20.0, 2_500.0)
}

/// Least squares, in MiB for ten minutes.
fn slope(looks: &[(Duration, u64)]) -> f64 {
    let points: Vec<(f64, f64)> =
        looks.iter().map(|(at, kib)| (at.as_secs_f64() / 600.0, *kib as f64 / 1024.0)).collect();
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (up, below) = points
        .iter()
        .fold((0.0, 0.0), |(up, below), point| (up + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2)));
    if below == 0.0 { 0.0 } else { (up / below * 100.0).round() / 100.0 }
}

#[test]
fn a_slope_is_seen_for_what_it_is() {
    let look = |seconds: u64, kib| (Duration::from_secs(seconds), kib);
    assert_eq!(slope(&[look(0, 1_024), look(600, 3_072), look(1_200, 5_120)]), 2.0);
    assert_eq!(slope(&[look(0, 2_048), look(60, 1_024), look(120, 2_048)]), 0.0);
    assert_eq!(slope(&[look(5, 1)]), 0.0);
}

/// What befalls it, round by round: none of it is anything that an app may notice.
struct Faults<'a> {
    world: &'a World,
    bearerd: &'a Bearerd,
    upstreams: [SocketAddr; 3],
    refuse: Arc<AtomicBool>,
    rounds: u64,
}

impl Faults<'_> {
    async fn round(&mut self) {
        let pause = || tokio::time::sleep(Duration::from_millis(200));
        self.rounds += 1;
        // A rotated secret, with both good for a while.
        let (old, new) = (secret(self.rounds - 1), secret(self.rounds));
        for client in &self.world.names {
            self.world.provider.set_secrets(client, &[&old, &new]);
        }
        self.world.folder.replace("secret", &new);
        pause().await;
        // A change of the configuration.
        configure(self.world, self.upstreams, self.rounds);
        self.bearerd.signal(Signal::HUP);
        pause().await;
        // A token that the API takes no more.
        self.refuse.store(true, Ordering::Relaxed);
        pause().await;
        // A process that stands still.
        self.bearerd.signal(Signal::STOP);
        pause().await;
        self.bearerd.signal(Signal::CONT);
        // Apps that leave in the middle of a head, and of a body.
        for part in ["GET /t0/", "POST /t0/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf"] {
            let _ = Wire::connect(self.bearerd.address()).await.send(part.as_bytes()).await;
        }
        pause().await;
        // A provider that is away for a while.
        self.world.provider.stop().await;
        tokio::time::sleep(LIFE / 12).await;
        self.world.provider.restart().await.unwrap();
        // A token that is refused before the provider was asked again has nothing to be replaced by: the app is told what
        // the API says. Here each fault is to meet what the one before it has left in order.
        self.bearerd.until_tokens_are("fresh", &self.world.names).await;
    }
}

fn secret(round: u64) -> String {
    if round == 0 { SECRET.to_owned() } else { format!("{SECRET}-{round}") }
}

/// An app that speaks HTTP/2.
struct Multiplexed {
    address: SocketAddr,
    route: String,
    pace: Duration,
}

impl Multiplexed {
    async fn run(self, books: Arc<Books>, over: Arc<AtomicBool>) -> u64 {
        let mut app = App2::connect(self.address).await;
        while !over.load(Ordering::Relaxed) {
            let number = books.ask();
            let own = format!("/{}/{number}", self.route);
            match app.send(app.request(&format!("GET {own}"), full(""))).await {
                Ok(response) => {
                    let (answer, _) = whole(response).await;
                    if answer.complete {
                        books.answered(number, answer.status, answer.body == own.as_bytes());
                    } else {
                        books.broken(number);
                    }
                }
                Err(_) => {
                    books.broken(number);
                    app = App2::connect(self.address).await;
                }
            }
            tokio::time::sleep(self.pace).await;
        }
        0
    }
}

/// The key is the example's (RFC 6455, 1.3).
const WEBSOCKET: &str = "GET /talk HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

async fn open(address: SocketAddr, head: &str, agreed: u16) -> TcpStream {
    let mut wire = Wire::connect(address).await;
    wire.send(head.as_bytes()).await.unwrap();
    let answer = wire.head().await.unwrap().expect("an answer");
    assert_eq!(answer.status(), agreed, "{answer:?}");
    wire.into_tcp()
}

/// Says something ten times a second and hears it; how often.
async fn talk(mut stream: TcpStream, over: Arc<AtomicBool>) -> u64 {
    let mut said = 0;
    while !over.load(Ordering::Relaxed) {
        let words: Vec<u8> = (0..fastrand::usize(1..5_000)).map(|_| fastrand::u8(..)).collect();
        stream.write_all(&words).await.unwrap();
        let mut heard = vec![0; words.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert!(heard == words);
        said += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    said
}

/// Agrees to a WebSocket, and says what it hears.
async fn websocket_echo(mut wire: Wire) {
    let head = wire.head().await.unwrap().unwrap();
    assert!(head.only(b"authorization").is_some_and(|value| value.starts_with(b"Bearer ")), "{head:?}");
    let agrees = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    wire.send(agrees.as_bytes()).await.unwrap();
    echo(wire).await;
}

async fn echo(wire: Wire) {
    let (mut read, mut write) = wire.into_tcp().into_split();
    // Its end is the app's.
    let _ = tokio::io::copy(&mut read, &mut write).await;
}
