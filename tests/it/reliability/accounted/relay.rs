//! A network between two who speak TCP: as slow and as narrow as a proof wants it, and as little to be relied on.
//!
//! Must never look at what passes.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::reliability::wire::Api;
use crate::support::seed;

#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    /// Everything comes so much later than it was sent.
    pub(super) latency: Duration,
    /// In pieces of at most so many bytes.
    pub(super) piece: usize,
    /// Between two of them.
    pub(super) pause: Duration,
    /// So many in a second, each way of each connection.
    pub(super) bandwidth: f64,
    /// Of so many connections one ends, at any moment of this time, by FIN or by reset.
    pub(super) cuts: Option<(u64, Duration)>,
}

impl Network {
    pub(super) const GOOD: Self =
        Self { latency: Duration::ZERO, piece: BUFFER, pause: Duration::ZERO, bandwidth: f64::INFINITY, cuts: None };
}

const BUFFER: usize = 16 * 1024;

/// Leads to one address. Dropped, it ends what it carries.
pub(super) struct Relay {
    api: Api,
    silence: watch::Sender<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    cuts: AtomicU64,
}

impl Relay {
    pub(super) async fn to(to: SocketAddr, network: Network) -> Self {
        let (silence, counts) = (watch::Sender::new(()), Arc::<Counts>::default());
        let (silenced, counting, seed) = (silence.clone(), Arc::clone(&counts), seed());
        let api = Api::start(move |wire| {
            let number = counting.connections.fetch_add(1, Ordering::Relaxed) + 1;
            let random = Rng::with_seed(seed.wrapping_add(number));
            let cut = network.cuts.filter(|(each, _)| number.is_multiple_of(*each)).map(|(_, within)| within);
            carry(wire.into_tcp(), to, network, cut, random, silenced.subscribe(), Arc::clone(&counting))
        })
        .await;
        Self { api, silence, counts }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.api.address
    }

    /// From now on not a byte passes over what is connected, and nobody is told. New connections are as good as ever.
    pub(super) fn silence(&self) {
        self.silence.send_replace(());
    }

    /// How many connections it has ended.
    pub(super) fn cuts(&self) -> u64 {
        self.counts.cuts.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut near: TcpStream,
    to: SocketAddr,
    network: Network,
    cut: Option<Duration>,
    mut random: Rng,
    mut silence: watch::Receiver<()>,
    counts: Arc<Counts>,
) {
    // Who connects to nobody sees it end.
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    far.set_nodelay(true).unwrap();
    let (when, rudely) = (random.f64(), random.bool());
    let end = async move {
        match cut {
            Some(within) => tokio::time::sleep(within.mul_f64(when)).await,
            None => pending().await,
        }
    };
    let silenced = async {
        // Without its sender there is none to come.
        if silence.changed().await.is_err() {
            pending::<()>().await;
        }
    };
    let (from_near, to_near) = near.split();
    let (from_far, to_far) = far.split();
    let there = pass(from_near, to_far, network, random.fork());
    let back = pass(from_far, to_near, network, random);
    tokio::select! {
        biased;
        // Both sockets are held for as long as the relay is.
        () = silenced => return pending().await,
        () = end => {}
        _ = async { tokio::join!(there, back) } => return,
    }
    counts.cuts.fetch_add(1, Ordering::Relaxed);
    if rudely {
        for stream in [&near, &far] {
            let _ = stream.set_zero_linger();
        }
    }
}

/// One way, until its end.
fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, network: Network, mut random: Rng) -> impl Future<Output = ()> {
    let (queue, mut queued) = mpsc::channel(64);
    let reading = async move {
        let mut buffer = vec![0; BUFFER];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if queue.send((Instant::now() + network.latency, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(random.usize(1..=network.piece).min(rest.len()));
                if to.write_all(piece).await.is_err() {
                    return;
                }
                rest = more;
                let pause = network.pause + Duration::from_secs_f64(piece.len() as f64 / network.bandwidth);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        }
        let _ = to.shutdown().await;
    };
    async {
        tokio::join!(reading, writing);
    }
}
