//! Bodies far larger than memory should ever see: they arrive as they were, the process does not grow by them, and a
//! peer that does not read holds the other one back.
//!
//! bearerd is a process of its own here, so that what it keeps in memory can be told from what this test does.

mod http1;
mod http2;

use std::fmt::Write as _;
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};
use bearerd::demo::provider::{self, Provider};

use super::proof::Proof;
use crate::cli::child::{self, Child};
use crate::cli::stage::Running;
use crate::support::{CLIENT, Folder, SECRET, lasting};

const KIBIBYTE: usize = 1024;
const MEBIBYTE: usize = 1024 * KIBIBYTE;

/// How much the process may grow by a body of any size. Over HTTP/2 there may be 16 MiB of all that a connection carries;
/// one body needs no more than over HTTP/1.
const GROWTH: usize = 4 * MEBIBYTE;

/// Far more than bearerd and the kernel would ever take from a peer that sends, while another does not read.
const TRIED: usize = 64 * MEBIBYTE;

/// bearerd as a process, with one route. Dropped, it is killed.
struct Process {
    running: Running,
    _provider: Provider,
    _folder: Folder,
}

impl Process {
    /// `ca` is who signed the upstream's certificate, in PEM.
    async fn to(upstream: &str, ca: Option<&str>) -> Self {
        let clients = vec![(CLIENT.to_owned(), SECRET.to_owned())];
        let provider = Provider::start(provider::Settings { clients, ..provider::Settings::plain() }).await.unwrap();
        let folder = Folder::new();
        folder.write("secret", SECRET);
        let tls = ca.map_or("", |pem| {
            folder.write("ca.pem", pem);
            ", tls: {ca_file: ca.pem}"
        });
        let yaml = format!(
            "listen: [127.0.0.1:0]\nadmin: off\ntokens:\n  main: {{token_url: '{}', client_id: {CLIENT}, \
             client_secret: {{file: secret}}}}\nroutes:\n  - {{name: api, token: main, upstream: '{upstream}'{tls}}}\n",
            provider.token_url()
        );
        folder.write("bearerd.yaml", &yaml);
        let file = folder.path("bearerd.yaml").display().to_string();
        let running = Running::of(Child::start(child::command(&["run", "--config", &file], &[]))).await;
        Self { running: running.ready().await, _provider: provider, _folder: folder }
    }

    /// Bytes of it that are in memory now. (`smaps_rollup` would say the same, and nobody but root may read it of a
    /// process that does not let its memory be read.)
    fn resident(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The most that there ever were of them.
    fn peak(&self) -> usize {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.child.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * KIBIBYTE
    }
}

/// While `exchange` sends as much each way as it is told to, the process is never much larger than before.
async fn grows_little(proof: &mut Proof, process: &Process, what: &str, exchange: impl AsyncFn(usize)) {
    let length = lasting(32 * MEBIBYTE, 64 * MEBIBYTE, KIBIBYTE * MEBIBYTE);
    // What a first body costs, in code that is read and in buffers that stay, is not what is asked here.
    exchange(8 * MEBIBYTE).await;
    let (base, begun) = (process.resident(), Instant::now());
    exchange(length).await;
    let grown = process.peak().saturating_sub(base);
    proof.asked(4);
    proof.at_most(
        &format!("KiB that it grew by, {what}, {} MiB each way", length / MEBIBYTE),
        grown / KIBIBYTE,
        GROWTH / KIBIBYTE,
    );
    let rate = 2.0 * length as f64 / MEBIBYTE as f64 / begun.elapsed().as_secs_f64();
    proof.figure(&format!("MiB a second, {what}"), format!("{rate:.0}"));
}

/// A body that is made while it is sent, and never the same for long.
struct Source {
    block: Vec<u8>,
    left: usize,
    hash: Context,
}

impl Source {
    /// In pieces of at most so many bytes.
    fn of(length: usize, most: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let block = std::iter::repeat_with(|| random.u8(..)).take(most).collect();
        Self { block, left: length, hash: Context::new(&SHA256) }
    }

    /// The next piece, of no round size.
    fn next(&mut self) -> Option<&[u8]> {
        let size = self.left.min(self.block.len() - 7 * (self.left % 1_000));
        self.block[..8].copy_from_slice(&self.left.to_le_bytes());
        self.left -= size;
        let piece = &self.block[..size];
        self.hash.update(piece);
        (size > 0).then_some(piece)
    }

    /// The hash of all of it.
    fn hash(mut self) -> String {
        while self.next().is_some() {}
        hex(self.hash)
    }
}

fn hex(hash: Context) -> String {
    hash.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// How many bytes wait in the kernel, at either end of the connections to these ports.
fn queued(ports: &[u16]) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let port = |address: &str| u16::try_from(hex(address.split_once(':').unwrap().1)).unwrap();
    let ours = rows.filter(|row| ports.contains(&port(row[1])) || ports.contains(&port(row[2])));
    // `tx_queue:rx_queue`; of a listener they are something else.
    let queues = ours.filter(|row| row[3] == "01").map(|row| row[4].split_once(':').map(|(tx, rx)| hex(tx) + hex(rx)));
    queues.map(Option::unwrap).sum()
}
