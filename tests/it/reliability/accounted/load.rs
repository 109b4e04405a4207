//! Apps that ask and ask, and write down what they got. None of them ever asks for the same thing twice.
//!
//! Must never wait for another's answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::books::Books;
use crate::cli::child::secret_in;
use crate::reliability::wire::{Wire, told};

/// What is asked, and how often.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    /// Taken in turn.
    pub(super) routes: Arc<Vec<String>>,
    pub(super) connections: usize,
    /// From one request of a connection to its next, where the answer is there by then.
    pub(super) pace: Duration,
    /// How many bytes a request brings along, as a POST; `None` is a GET.
    pub(super) body: Option<usize>,
    /// After so many requests an app connects anew; 0 is never.
    pub(super) per_connection: u64,
    /// What TLS is spoken with, from each connection's beginning to its end.
    pub(super) tls: Option<watch::Receiver<Arc<ClientConfig>>>,
}

/// Apps at work, until they are told to stop.
pub(super) struct Apps {
    over: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Sample>>,
}

/// When a request was sent, and how long its answer took.
pub(super) type Sample = (Instant, Duration);

/// How long an app goes without an answer before it calls it none: longer than anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

impl Load {
    pub(super) fn new(address: SocketAddr, routes: &[String]) -> Self {
        Self {
            address,
            routes: Arc::new(routes.to_vec()),
            connections: 16,
            pace: Duration::from_millis(16),
            body: None,
            per_connection: 0,
            tls: None,
        }
    }

    pub(super) fn start(self, books: &Arc<Books>) -> Apps {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for first in 0..self.connections {
            tasks.spawn(self.clone().app(first, Arc::clone(books), Arc::clone(&over)));
        }
        Apps { over, tasks }
    }

    /// Each connection asks for one thing, all at the same time.
    pub(super) async fn once(self, books: &Arc<Books>) -> Vec<Sample> {
        let mut tasks = JoinSet::new();
        for first in 0..self.connections {
            let (load, books) = (self.clone(), Arc::clone(books));
            tasks.spawn(async move {
                let mut wire = None;
                load.ask(&mut wire, first, &books).await
            });
        }
        tasks.join_all().await
    }

    async fn app(self, first: usize, books: Arc<Books>, over: Arc<AtomicBool>) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut wire = None;
        // Not all at the same moment.
        let lot = u32::try_from(self.connections).unwrap();
        tokio::time::sleep(self.pace * u32::try_from(first).unwrap() / lot).await;
        let mut next = tokio::time::Instant::now();
        let mut asked = 0;
        while !over.load(Ordering::Relaxed) {
            samples.push(self.ask(&mut wire, first + samples.len(), &books).await);
            asked += 1;
            if self.per_connection > 0 && asked % self.per_connection == 0 {
                wire = None;
            }
            next = (next + self.pace).max(tokio::time::Instant::now());
            tokio::time::sleep_until(next).await;
        }
        samples
    }

    /// One request, over this connection if it is open, or a new one that stays there.
    pub(super) async fn ask(&self, wire: &mut Option<Wire>, turn: usize, books: &Books) -> Sample {
        let number = if self.body.is_some() { books.ask_once() } else { books.ask() };
        let begun = Instant::now();
        let own = format!("/{}/{number}", self.routes[turn % self.routes.len()]);
        if wire.is_none() {
            match self.connect().await {
                Ok(connected) => *wire = Some(connected),
                Err(_) => {
                    books.turned_away(number);
                    return (begun, begun.elapsed());
                }
            }
        }
        let open = wire.as_mut().expect("it was just made");
        match tokio::time::timeout(PATIENCE, self.exchange(open, &own)).await {
            Ok(Some(answer)) => {
                books.answered(number, answer.status, answer.is_own);
                if answer.is_last {
                    *wire = None;
                }
            }
            Ok(None) | Err(_) => {
                books.broken(number);
                *wire = None;
            }
        }
        (begun, begun.elapsed())
    }

    async fn connect(&self) -> io::Result<Wire> {
        let wire = Wire::new(TcpStream::connect(self.address).await?);
        match &self.tls {
            Some(tls) => {
                let config = Arc::clone(&tls.borrow());
                wire.shake_hands_with(config).await
            }
            None => Ok(wire),
        }
    }

    async fn exchange(&self, wire: &mut Wire, own: &str) -> Option<Answer> {
        let request = match self.body {
            None => format!("GET {own} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            Some(length) => {
                format!(
                    "POST {own} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{}",
                    "x".repeat(length)
                )
            }
        };
        wire.send(request.as_bytes()).await.ok()?;
        let head = wire.head().await.ok()??;
        let body = wire.body(&head).await.ok()?;
        assert_eq!(secret_in(&body.data), None, "{head:?} {}", body.data.escape_ascii());
        let is_last = head.only(b"connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        Some(Answer { status: head.status(), is_own: body.data == own.as_bytes(), is_last })
    }
}

struct Answer {
    status: u16,
    is_own: bool,
    is_last: bool,
}

impl Apps {
    /// Lets each have its last answer.
    pub(super) async fn stop(mut self) -> Vec<Sample> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            all.extend(told(ended));
        }
        all
    }
}

/// The time within which so many of a thousand were answered.
pub(super) fn quantile(samples: &[Sample], thousandths: usize) -> Duration {
    let mut times: Vec<Duration> = samples.iter().map(|(_, took)| *took).collect();
    times.sort_unstable();
    let at = (times.len() * thousandths / 1_000).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

/// Waits until there are so many, for as long as they grow.
pub(super) async fn grown(what: &str, wanted: u64, count: impl Fn() -> u64) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = count();
        if now >= wanted {
            return;
        }
        if now != last {
            (last, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < 2 * PATIENCE, "{what}: {now} of {wanted}, and no more come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
