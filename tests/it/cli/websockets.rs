//! A thousand WebSockets at once: they cost a bounded amount of memory each, and a drain finishes or cuts every one.
#![cfg(target_os = "linux")]

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::hints::memory;
use super::stage::Stage;
use crate::support::{App, PATIENCE, report, scaled};

/// The example of RFC 6455, 1.3.
const ASKING: &str = "GET /chat HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const AGREEING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What goes through each, both ways: more than is read at a time.
const PIECE: usize = 32 * 1024;

/// What each may cost, in an unoptimised build: less than if it kept a buffer.
const COST: usize = 20 * 1024;

/// So many are still open when the drain ends.
const LEFT: usize = 10;

#[tokio::test]
async fn a_thousand_cost_little_each_and_a_drain_ends_them_all() {
    // Each is four descriptors, two of them here.
    let number = scaled(300, 1_000);
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::new().await;
    let address = upstream.local_addr().unwrap();
    let route = format!("  - {{name: chat, upstream: 'http://{address}', token: main, match: {{path: /chat}}}}\n");
    stage.configure(&format!("{route}shutdown: {{timeout: 2s}}\n"));
    let _api = tokio::spawn(serve(upstream));
    let running = stage.run(&[]).await.ready().await;
    let mut first = open(&running).await;
    echo(&mut first).await;
    let before = memory(&running.child, "VmRSS:");

    let mut open_ones = vec![first];
    while open_ones.len() < number {
        open_ones.push(open(&running).await);
    }
    let quiet = memory(&running.child, "VmRSS:").saturating_sub(before) / number;
    all_echo(&mut open_ones).await;
    let used = memory(&running.child, "VmHWM:").saturating_sub(before) / number;
    report(&format!("websockets: {number} at once cost {quiet} bytes each before, and {used} when all were in use"));
    assert!(used < COST, "{used} bytes each");

    // They are in flight: each goes on, and those that end are finished.
    running.child.signal(Signal::TERM);
    all_echo(&mut open_ones).await;
    for mut one in open_ones.drain(LEFT..) {
        one.shutdown().await.unwrap();
        assert_eq!(one.read(&mut [0]).await.unwrap(), 0);
    }
    running.child.ended().await.with(0).says(&[&format!("\"cut_off\":{LEFT}")]);
    for mut one in open_ones {
        assert!(matches!(one.read(&mut [0]).await, Ok(0) | Err(_)), "cut off");
    }
}

/// An API that agrees to everything and sends back what comes.
async fn serve(upstream: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = upstream.accept().await.unwrap();
        connections.spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            stream.write_all(AGREEING).await.unwrap();
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
    }
}

async fn open(running: &super::stage::Running) -> TcpStream {
    let mut app = App::connect(running.address).await;
    assert_eq!(app.ask(ASKING).await.status, 101);
    app.into_stream()
}

/// At the same time.
async fn all_echo(open_ones: &mut Vec<TcpStream>) {
    let mut echoing = JoinSet::new();
    for mut one in open_ones.drain(..) {
        echoing.spawn(async move {
            echo(&mut one).await;
            one
        });
    }
    *open_ones = echoing.join_all().await;
}

async fn echo(stream: &mut TcpStream) {
    let (mut from, mut to) = stream.split();
    let mut heard = vec![0; PIECE];
    let both = async { tokio::join!(to.write_all(&[b'x'; PIECE]), from.read_exact(&mut heard)) };
    let (sent, read) = tokio::time::timeout(PATIENCE, both).await.expect("in time");
    sent.unwrap();
    read.unwrap();
    assert!(heard.iter().all(|byte| *byte == b'x'));
}
