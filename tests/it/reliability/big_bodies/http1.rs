//! HTTP/1 on both sides, in bytes.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{KIBIBYTE, MEBIBYTE, Process, Source, TRIED, grows_little, hex, queued};
use crate::reliability::proof::Proof;
use crate::reliability::wire::{Api, Head, Wire};
use crate::support::PATIENCE;

/// How much bearerd may have taken from a peer that sends, and not passed on to one that does not read. What the kernel
/// has of it, which may be megabytes, is not for bearerd to say.
const BETWEEN: usize = 2 * MEBIBYTE;

fn framing(length: usize, chunked: bool) -> String {
    if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {length}") }
}

/// Sends a body; its hash.
async fn send(wire: &mut Wire, length: usize, chunked: bool) -> String {
    let mut source = Source::of(length, MEBIBYTE);
    while let Some(piece) = source.next() {
        let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        wire.send(if chunked { &framed } else { piece }).await.unwrap();
    }
    if chunked {
        wire.send(b"0\r\n\r\n").await.unwrap();
    }
    hex(source.hash)
}

/// The same for one that comes.
async fn receive(wire: &mut Wire, head: &Head) -> String {
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
        }
    } else {
        let mut left = str::from_utf8(head.only(b"content-length").unwrap()).unwrap().parse::<usize>().unwrap();
        while left > 0 {
            let size = left.min(64 * KIBIBYTE);
            hash.update(&wire.exactly(size).await.unwrap());
            left -= size;
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
            send(&mut wire, length, chunked).await;
        } else {
            let hash = receive(&mut wire, &head).await;
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{hash}", hash.len()).as_bytes())
                .await
                .unwrap();
        }
    }
}

/// One body each way.
async fn both_ways(process: &Process, length: usize, chunked: bool) {
    let mut wire = Wire::connect(process.running.address).await;
    let framed = if chunked { "chunked" } else { "length" };
    wire.send(format!("GET /down/{framed}/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let head = wire.head().await.unwrap().unwrap();
    assert_eq!(head.status(), 200, "{head:?}");
    assert_eq!(head.only(b"content-length").is_none(), chunked, "{head:?}");
    let expected = Source::of(length, MEBIBYTE).hash();
    assert_eq!(receive(&mut wire, &head).await, expected, "it came down as it was");

    let framing = framing(length, chunked);
    wire.send(format!("PUT /up HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
    let sent = send(&mut wire, length, chunked).await;
    let head = wire.head().await.unwrap().unwrap();
    let body = wire.body(&head).await.unwrap();
    assert_eq!((head.status(), String::from_utf8(body.data).unwrap()), (200, sent), "it went up as it was");
}

#[tokio::test]
async fn a_body_of_any_size_arrives_as_it_was_and_costs_no_memory() {
    let mut proof = Proof::new("R12", "large bodies by HTTP/1.1, with a length and in chunks");
    let mut api = Api::start(serve).await;
    let process = Process::to(&format!("http://{}", api.address), None).await;
    let measured = async {
        for chunked in [false, true] {
            let what = format!("HTTP/1, chunked: {chunked}");
            grows_little(&mut proof, &process, &what, async |length| both_ways(&process, length, chunked).await).await;
        }
    };
    tokio::select! {
        biased;
        never = api.lives() => never,
        () = measured => {}
    }
    proof.end();
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
    let mut proof = Proof::new("R12b", "a peer that does not read, by HTTP/1.1");
    let listener = small();
    listener.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener: TcpListener = listener.listen(8).unwrap();
    let process = Process::to(&format!("http://{}", listener.local_addr().unwrap()), None).await;
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
        let way = if up { "up" } else { "down" };
        proof.at_most(&format!("KiB that are held {way}, which nobody read"), held / KIBIBYTE, BETWEEN / KIBIBYTE);
        proof.at_most(&format!("KiB that were taken {way}"), taken / KIBIBYTE, TRIED / KIBIBYTE - 1);
        proof.asked(1);
        // It goes on as soon as somebody reads.
        drain(reader, taken).await;
        sender.write_all(&[b'x'; KIBIBYTE]).await.unwrap();
        drain(reader, KIBIBYTE).await;
    }
    proof.end();
}
