//! Bodies far larger than memory should ever see: they arrive as they were, the process does not grow by them, and a
//! peer that does not read holds the other one back.
//!
//! bearerd is a process of its own here, so that what it keeps in memory can be told from what this test does.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use bearerd::demo::provider::{self, Provider};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::wire::{Api, Head, Wire};
use crate::cli::child::{self, Child};
use crate::cli::stage::Running;
use crate::support::{CLIENT, Folder, PATIENCE, SECRET, report, scaled};

const KIBIBYTE: usize = 1024;
const MEBIBYTE: usize = 1024 * KIBIBYTE;

/// How much the process may grow by a body of any size.
const GROWTH: usize = 4 * MEBIBYTE;

/// How much bearerd may have taken from a peer that sends, and not passed on to one that does not read. What the kernel
/// has of it, which may be megabytes, is not for bearerd to say.
const BETWEEN: usize = 2 * MEBIBYTE;

/// Far more than it and the kernel would ever take.
const TRIED: usize = 64 * MEBIBYTE;

/// bearerd as a process, with one route. Dropped, it is killed.
struct Process {
    running: Running,
    _provider: Provider,
    _folder: Folder,
}

impl Process {
    async fn to(api: SocketAddr) -> Self {
        let clients = vec![(CLIENT.to_owned(), SECRET.to_owned())];
        let provider = Provider::start(provider::Settings { clients, ..provider::Settings::plain() }).await.unwrap();
        let folder = Folder::new();
        folder.write("secret", SECRET);
        let yaml = format!(
            "listen: [127.0.0.1:0]\nadmin: off\ntokens:\n  main: {{token_url: '{}', client_id: {CLIENT}, \
             client_secret: {{file: secret}}}}\nroutes:\n  - {{name: api, token: main, upstream: 'http://{api}'}}\n",
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
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.child.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * KIBIBYTE
    }
}

/// A body that is made while it is sent, and never the same for long.
struct Source {
    block: Vec<u8>,
    left: usize,
    hash: Context,
}

impl Source {
    fn of(length: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let block = std::iter::repeat_with(|| random.u8(..)).take(MEBIBYTE).collect();
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
}

fn hex(hash: Context) -> String {
    hash.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn framing(length: usize, chunked: bool) -> String {
    if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {length}") }
}

/// Sends a body; its hash. `look` is called with each piece of it.
async fn send(wire: &mut Wire, length: usize, chunked: bool, mut look: impl FnMut(usize)) -> String {
    let mut source = Source::of(length);
    while let Some(piece) = source.next() {
        look(piece.len());
        let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        wire.send(if chunked { &framed } else { piece }).await.unwrap();
    }
    if chunked {
        wire.send(b"0\r\n\r\n").await.unwrap();
    }
    hex(source.hash)
}

/// The same for one that comes.
async fn receive(wire: &mut Wire, head: &Head, mut look: impl FnMut(usize)) -> String {
    let mut hash = Context::new(&SHA256);
    if head.only(b"transfer-encoding").is_some() {
        loop {
            let line = wire.line().await.unwrap();
            let size = usize::from_str_radix(str::from_utf8(&line).unwrap(), 16).unwrap();
            let piece = wire.exactly(size).await.unwrap();
            assert_eq!(wire.line().await.unwrap(), "");
            if size == 0 {
                break;
            }
            hash.update(&piece);
            look(size);
        }
    } else {
        let mut left = str::from_utf8(head.only(b"content-length").unwrap()).unwrap().parse::<usize>().unwrap();
        while left > 0 {
            let size = left.min(64 * KIBIBYTE);
            hash.update(&wire.exactly(size).await.unwrap());
            left -= size;
            look(size);
        }
    }
    hex(hash)
}

/// The API: what comes it answers with its hash; and to `/down/…` with a body of that many bytes, framed as the path
/// says.
async fn serve(mut wire: Wire) {
    while let Ok(Some(head)) = wire.head().await {
        let words: Vec<&str> = head.target().split('/').skip(1).collect();
        if let ["down", framed, length] = words[..] {
            let (chunked, length) = (framed == "chunked", length.parse().unwrap());
            wire.send(format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(length, chunked)).as_bytes()).await.unwrap();
            send(&mut wire, length, chunked, |_| {}).await;
        } else {
            let hash = receive(&mut wire, &head, |_| {}).await;
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{hash}", hash.len()).as_bytes())
                .await
                .unwrap();
        }
    }
}

/// One body each way; the most by which the process was larger than `base` meanwhile.
async fn both_ways(process: &Process, length: usize, chunked: bool, base: usize) -> usize {
    let mut most = 0;
    let mut since = 0;
    let mut look = |size: usize| {
        since += size;
        if since >= 4 * MEBIBYTE {
            since = 0;
            most = most.max(process.resident().saturating_sub(base));
        }
    };
    let mut wire = Wire::connect(process.running.address).await;
    let framed = if chunked { "chunked" } else { "length" };
    wire.send(format!("GET /down/{framed}/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let head = wire.head().await.unwrap().unwrap();
    assert_eq!(head.status(), 200, "{head:?}");
    assert_eq!(head.only(b"content-length").is_none(), chunked, "{head:?}");
    let mut expected = Source::of(length);
    while expected.next().is_some() {}
    assert_eq!(receive(&mut wire, &head, &mut look).await, hex(expected.hash), "it came down as it was");

    let framing = framing(length, chunked);
    wire.send(format!("PUT /up HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
    let sent = send(&mut wire, length, chunked, &mut look).await;
    let head = wire.head().await.unwrap().unwrap();
    let body = wire.body(&head).await.unwrap();
    assert_eq!((head.status(), String::from_utf8(body.data).unwrap()), (200, sent), "it went up as it was");
    most.max(process.resident().saturating_sub(base))
}

#[tokio::test]
async fn a_body_of_any_size_arrives_as_it_was_and_costs_no_memory() {
    let length = scaled(64 * MEBIBYTE, KIBIBYTE * MEBIBYTE);
    let mut api = Api::start(serve).await;
    let process = Process::to(api.address).await;
    let measured = async {
        for chunked in [false, true] {
            // What a first body costs, in code that is read and in buffers that stay, is not what is asked here.
            both_ways(&process, 8 * MEBIBYTE, chunked, 0).await;
            let (base, begun) = (process.resident(), Instant::now());
            let growth = both_ways(&process, length, chunked, base).await;
            assert!(growth <= GROWTH, "{growth} bytes more than {base}; chunked: {chunked}");
            report(&format!(
                "big bodies: {} MiB each way, chunked: {chunked}; {} KiB and at most {} KiB more; {:.1} s",
                length / MEBIBYTE,
                base / KIBIBYTE,
                growth / KIBIBYTE,
                begun.elapsed().as_secs_f64()
            ));
        }
    };
    tokio::select! {
        biased;
        never = api.lives() => never,
        () = measured => {}
    }
}

/// A socket whose kernel buffers are small and stay so: what is held back shows, and not what the kernel takes.
fn small() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(64 * 1024).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    // With the loopback's own segments of 64 KiB, the other end's buffers begin with megabytes.
    socket2::SockRef::from(&socket).set_tcp_mss(1_400).unwrap();
    socket
}

/// Sends until nobody takes any more, or too much was taken.
async fn fill(stream: &mut TcpStream) -> usize {
    let piece = vec![b'x'; 64 * KIBIBYTE];
    let mut taken = 0;
    while taken < TRIED {
        match tokio::time::timeout(Duration::from_millis(500), stream.write(&piece)).await {
            Ok(count) => taken += count.unwrap(),
            Err(_) => break,
        }
    }
    taken
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

async fn drain(stream: &mut TcpStream, length: usize) {
    let mut piece = vec![0; 64 * KIBIBYTE];
    let mut left = length;
    while left > 0 {
        let most = left.min(piece.len());
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut piece[..most])).await.expect("more").unwrap();
        assert!(count > 0, "it ends {left} bytes before {length}");
        left -= count;
    }
}

#[tokio::test]
async fn whoever_does_not_read_holds_the_other_side_back() {
    let listener = small();
    listener.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener: TcpListener = listener.listen(8).unwrap();
    let process = Process::to(listener.local_addr().unwrap()).await;
    for up in [true, false] {
        let mut app = small().connect(process.running.address).await.unwrap();
        let length = 1 << 30;
        let method =
            if up { format!("POST /x HTTP/1.1\r\nContent-Length: {length}") } else { "GET /x HTTP/1.1".into() };
        app.write_all(format!("{method}\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let (mut api, _) = listener.accept().await.unwrap();
        // What comes before the request is no answer to it.
        assert_ne!(api.read(&mut [0; 64]).await.unwrap(), 0);
        if !up {
            api.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes()).await.unwrap();
        }
        let (sender, reader) = if up { (&mut app, &mut api) } else { (&mut api, &mut app) };
        let taken = fill(sender).await;
        let queued = queued(&[process.running.address.port(), listener.local_addr().unwrap().port()]);
        let held = taken.saturating_sub(queued);
        assert!(taken < TRIED && held < BETWEEN, "{held} bytes of {taken} are held, and none was read; up: {up}");
        report(&format!(
            "big bodies: of {} KiB that a sender sent and nobody read, {} KiB are in bearerd; up: {up}",
            taken / KIBIBYTE,
            held / KIBIBYTE
        ));
        // It goes on as soon as somebody reads.
        drain(reader, taken).await;
        sender.write_all(&[b'x'; KIBIBYTE]).await.unwrap();
        drain(reader, KIBIBYTE).await;
    }
}
