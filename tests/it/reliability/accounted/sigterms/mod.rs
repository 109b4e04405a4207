//! R9: process after process is told to end while a thousand or two requests a second come over connections that are
//! kept: no request that was accepted stays without its answer.
//!
//! The clients never send a request twice. One that was written while its connection was open in both directions was
//! accepted; what was written behind the end of a connection, or finds nobody who listens, was not, and whoever sent it
//! knows. That is read from the sockets and not from a clock, so it holds however busy the machine is. The API's log is
//! the other oracle: whatever it was asked has been answered to whom it came from.

mod http1;
mod http2;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bearerd::demo::provider::{self, Provider};
use rustix::process::Signal;
use tokio::task::JoinSet;

use super::proof::Proof;
use crate::cli::child::{self, Child};
use crate::cli::stage::Running;
use crate::reliability::wire::{Api, Wire, told};
use crate::support::{CLIENT, Folder, SECRET, eventually, lasting, seed};

/// Of all clients together, in a second, where the machine is quick enough.
fn rate() -> u64 {
    lasting(1_000, 1_000, 2_000)
}

/// Answers of a process before it is told to end; then it goes on for a random while.
const BEFORE: u64 = 100;

/// What is drained: one worker or two, with a delay or without. The first and the last are the most different ones.
const KINDS: [(u8, &str); 4] = [(1, "0s"), (2, "0s"), (1, "300ms"), (2, "300ms")];

/// What became of requests.
#[derive(Default)]
struct Books {
    /// Each of them is one that the API was asked.
    asked: Mutex<HashSet<u64>>,
    answered: Mutex<HashSet<u64>>,
    lost: Mutex<Vec<String>>,
    sent: AtomicU64,
    /// Written behind the end of a connection, or told to be unprocessed.
    late: AtomicU64,
    /// Of those who found nobody who listens.
    turned_away: AtomicU64,
    over: AtomicBool,
}

impl Books {
    fn next(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed)
    }

    fn answered(&self, number: u64) {
        assert!(self.answered.lock().unwrap().insert(number), "two answers to {number}");
    }

    fn lost(&self, number: u64, how: &dyn std::fmt::Debug) {
        self.lost.lock().unwrap().push(format!("{number}: {how:?}"));
    }

    fn late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Answers every request with its number, after a while.
async fn serve(mut wire: Wire, books: Arc<Books>) {
    while let Ok(Some(head)) = wire.head().await {
        let target = head.target().to_owned();
        let number = target[1..].parse().unwrap();
        assert!(books.asked.lock().unwrap().insert(number), "{number} came twice");
        let _ = wire.body(&head).await;
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..20_000))).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len());
        if wire.send(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// So many processes, each told to end; `clients` are those of one of them, which end when it is over.
async fn hold<F: Future<Output = ()> + Send + 'static>(
    mut proof: Proof,
    clients: impl Fn(Place, Arc<Books>) -> Vec<F>,
) {
    let seed = seed();
    fastrand::seed(seed);
    let rounds = lasting(2, KINDS.len(), 50);
    let given = vec![(CLIENT.to_owned(), SECRET.to_owned())];
    let settings = provider::Settings { clients: given, ..provider::Settings::plain() };
    let provider = Provider::start(settings).await.unwrap();
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let books = Arc::new(Books::default());
    let ledger = Arc::clone(&books);
    let mut api = Api::start(move |wire| serve(wire, Arc::clone(&ledger))).await;

    let (mut rates, mut ends) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (workers, delay) = KINDS[3 * round % KINDS.len()];
        let mut yaml = "listen: [127.0.0.1:0, {name: file, address: 'unix:app.sock'}]\nadmin: off\n".to_owned();
        write!(
            yaml,
            "workers: {workers}\nshutdown: {{delay: {delay}}}\ntokens:\n  main: {{token_url: '{}', client_id: {CLIENT}, \
             client_secret: {{file: secret}}}}\nroutes:\n  - {{name: api, token: main, upstream: 'http://{}'}}\n",
            provider.token_url(),
            api.address,
        )
        .unwrap();
        let yaml = yaml.replace("app.sock", &folder.path("app.sock").display().to_string());
        folder.write("bearerd.yaml", &yaml);
        let file = folder.path("bearerd.yaml").display().to_string();
        let running = Running::of(Child::start(child::command(&["run", "--config", &file], &[]))).await.ready().await;
        books.over.store(false, Ordering::Relaxed);
        let place = Place { address: running.address, file: folder.path("app.sock") };
        let mut sending = JoinSet::new();
        for client in clients(place, Arc::clone(&books)) {
            sending.spawn(client);
        }
        let so_far = || u64::try_from(books.answered.lock().unwrap().len()).unwrap();
        let (first, since) = (so_far(), Instant::now());
        let round = async {
            eventually("there is traffic", || so_far() >= first + BEFORE).await;
            tokio::time::sleep(Duration::from_micros(fastrand::u64(..300_000))).await;
            rates.push((so_far() - first) as f64 / since.elapsed().as_secs_f64());
            running.child.signal(Signal::TERM);
            let signalled = Instant::now();
            running.child.ended().await.with(0).says(&["every exchange was finished"]);
            ends.push(signalled.elapsed().as_secs_f64());
            books.over.store(true, Ordering::Relaxed);
            while let Some(ended) = sending.join_next().await {
                told(ended);
            }
        };
        tokio::select! {
            biased;
            never = api.lives() => never,
            () = round => {}
        }
    }

    let average = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let (asked, answered) = (books.asked.lock().unwrap(), books.answered.lock().unwrap());
    let lost = books.lost.lock().unwrap();
    proof.survived(rounds as u64);
    proof.asked(books.sent.load(Ordering::Relaxed));
    proof.is("requests that were accepted and not answered", lost.len(), 0);
    proof.is("requests that came to the API and were not answered", asked.difference(&answered).count(), 0);
    proof.at_least("answers for each SIGTERM", answered.len() / rounds, usize::try_from(BEFORE).unwrap());
    if !lost.is_empty() {
        proof.figure("the first that were lost", format!("{:?}", &lost[..lost.len().min(5)]));
    }
    proof.figure("requests in a second", format!("{:.0}", average(&rates)));
    proof.figure(
        "written behind the end of a connection, or told to be unprocessed",
        books.late.load(Ordering::Relaxed),
    );
    proof.figure("connects that found nobody", books.turned_away.load(Ordering::Relaxed));
    let most = ends.iter().copied().fold(0.0, f64::max);
    proof.figure("from the signal to the end", format!("{:.2} s on average, {most:.2} s at most", average(&ends)));
    proof.end();
}

/// When a client's next request is due. Who is a little late makes up for it, for the sake of the rate.
fn next(due: tokio::time::Instant, pause: Duration) -> tokio::time::Instant {
    due.max(tokio::time::Instant::now() - Duration::from_millis(200)) + pause
}

/// Where a process listens.
#[derive(Clone)]
struct Place {
    address: std::net::SocketAddr,
    file: std::path::PathBuf,
}
