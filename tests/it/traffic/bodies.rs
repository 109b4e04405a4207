//! Large bodies, whole and unaltered, in both directions and both framings; and bodies that nobody reads.

use aws_lc_rs::digest::{Context, SHA256};
use bearerd::demo::answer::{Answer, Piece};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{in_time, last, read_until};
use crate::support::{Options, Rig};

const MEBIBYTE: usize = 1024 * 1024;
const LARGE: usize = 64 * MEBIBYTE;

fn hex(hash: Context) -> String {
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends 64 MiB, piece by piece; its hash.
async fn upload(stream: &mut TcpStream, chunked: bool) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut hash = Context::new(&SHA256);
    for _ in 0..LARGE / MEBIBYTE {
        let piece: Vec<u8> =
            std::iter::repeat_with(|| random.u64(..)).take(MEBIBYTE / 8).flat_map(u64::to_le_bytes).collect();
        hash.update(&piece);
        let framed = if chunked { [&b"100000\r\n"[..], &piece, b"\r\n"].concat() } else { piece };
        in_time(stream.write_all(&framed)).await.unwrap();
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    }
    hex(hash)
}

#[tokio::test]
async fn sixty_four_mebibytes_go_up() {
    let rig = Rig::ready(Options::default()).await;
    for (framing, chunked) in
        [(format!("Content-Length: {LARGE}"), false), ("Transfer-Encoding: chunked".to_owned(), true)]
    {
        let app = rig.app().await;
        let head = app.head(&format!("PUT /large HTTP/1.1\n{framing}"));
        let mut stream = app.into_stream();
        stream.write_all(head.as_bytes()).await.unwrap();
        let hash = upload(&mut stream, chunked).await;
        assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        let seen = last(&rig);
        assert_eq!((seen.body_len, seen.body_sha256), (LARGE as u64, Some(hash)), "{framing}");
    }
}

#[tokio::test]
async fn sixty_four_mebibytes_come_down() {
    let rig = Rig::ready(Options::default()).await;
    let mut expected = Context::new(&SHA256);
    for byte in [b'x', b'y'] {
        for _ in 0..LARGE / 2 / MEBIBYTE {
            expected.update(&vec![byte; MEBIBYTE]);
        }
    }
    let expected = hex(expected);
    let half = LARGE as u64 / 2;
    let body = Answer::status(200).piece(Piece::Repeat(b'x', half)).piece(Piece::Repeat(b'y', half));
    for canned in [body.clone(), body.chunked()] {
        rig.api.script().push(canned);
        let answer = rig.get("/large").await;
        let mut hash = Context::new(&SHA256);
        hash.update(&answer.body);
        assert!(answer.complete);
        assert_eq!((answer.body.len(), hex(hash)), (LARGE, expected.clone()));
    }
}

#[tokio::test]
async fn an_early_answer_to_an_unread_upload_arrives() {
    let rig = Rig::ready(Options::default()).await;
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        rig.api.script().push(Answer::status(413).body("too large").early());
        let mut app = rig.app().await;
        app.send(app.head(&format!("POST /x HTTP/1.1\n{framing}"))).await;
        app.send([b"1000\r\n".to_vec(), vec![b'x'; 0x1000]].concat()).await;
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.text()), (413, "too large"), "{framing}");
    }
}

/// An app that writes all of its request before it reads must not find its connection reset.
#[tokio::test]
async fn a_refusal_arrives_at_an_app_that_is_still_uploading() {
    let rig = Rig::ready(Options::default()).await;
    for _ in 0..20 {
        let app = rig.app().await;
        let length = 200 * 1024;
        let head = app.head(&format!("POST /../x HTTP/1.1\nContent-Length: {length}"));
        let mut stream = app.into_stream();
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..200 {
            stream.write_all(&[b'x'; 1024]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = read_until(&mut stream, "}").await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("bad_path"), "{answer}");
    }
}
