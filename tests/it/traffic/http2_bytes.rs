//! What only frames written by hand can say: requests that are given up, and fields that HTTP/1 could not carry.

use std::time::{Duration, Instant};

use bearerd::demo::answer::Answer;

use super::{in_time, last, targets};
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM, block, fields,
    frame, get,
};
use crate::support::{Options, PATIENCE, Rig, eventually};

#[tokio::test]
async fn an_upload_that_is_given_up_never_looks_whole() {
    let rig = Rig::ready(Options::default()).await;
    // Also with no error at all, which to hyper is the end of a body like any other.
    for (number, code) in [0u32, 0, 0, 0, 0, 5, 8, 8].into_iter().enumerate() {
        let mut app = Frames::connect(rig.proxy.address).await;
        app.send(frame(HEADERS, END_HEADERS, 1, &block(&fields("POST", "/upload", &[])))).await;
        app.send(frame(DATA, 0, 1, b"some of it")).await;
        rig.api.wait_for(number + 1, PATIENCE).await.unwrap();
        app.send(frame(RST_STREAM, 0, 1, &code.to_be_bytes())).await;
        eventually("the upload ends", || {
            let seen = &rig.api.requests()[number];
            assert_eq!(seen.body_sha256, None, "it looks whole: {code}");
            seen.body_cut
        })
        .await;
        assert!(app.lives().await, "{code}");
    }
}

/// What became of one request: its status, or the code that it was reset with.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Status(String),
    Reset(u32),
    /// The connection ended, for this.
    Ended(u32),
}

/// The `:status` at the beginning of a header block, by the static table (RFC 7541, appendix A).
fn status(block: &[u8]) -> String {
    let indexed = ["200", "204", "206", "304", "400", "404", "500"];
    match block {
        [first @ 0x88..=0x8e, ..] => indexed[usize::from(first - 0x88)].to_owned(),
        // A literal with the name's index; digits are five to six bits each in Huffman's code, '0' to '2' five.
        [0x48, length, value @ ..] if length & 0x80 == 0 => {
            String::from_utf8_lossy(&value[..usize::from(*length)]).into_owned()
        }
        [0x48, length, value @ ..] => huffman_digits(&value[..usize::from(length & 0x7f)]),
        other => panic!("no status at the beginning of {other:?}"),
    }
}

fn huffman_digits(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut rest, mut digits) = (bits.as_str(), String::new());
    while digits.len() < 3 {
        let code: u8 = u8::from_str_radix(&rest[..5], 2).unwrap();
        if code <= 2 {
            digits.push(char::from(b'0' + code));
            rest = &rest[5..];
        } else {
            // 3 to 9 are 0x19 to 0x1f, of six bits.
            let code = u8::from_str_radix(&rest[..6], 2).unwrap();
            digits.push(char::from(b'3' + code - 0x19));
            rest = &rest[6..];
        }
    }
    digits
}

/// Sends frames that make one request of stream 1, and reads on until something became of it.
async fn outcome(rig: &Rig, frames: impl AsRef<[u8]>) -> Outcome {
    let mut app = Frames::connect(rig.proxy.address).await;
    app.send(frames).await;
    while let Some(frame) = app.next().await {
        match frame.kind {
            HEADERS => return Outcome::Status(status(&frame.payload)),
            RST_STREAM => return Outcome::Reset(frame.code()),
            GOAWAY => return Outcome::Ended(frame.code()),
            _ => {}
        }
    }
    panic!("the connection ended without a word");
}

/// Whether it was answered with this status, or else ended, with the stream or the whole connection, as an error.
fn is_right(outcome: &Outcome, status: Option<&str>) -> bool {
    match outcome {
        Outcome::Status(answered) => status == Some(answered),
        Outcome::Reset(code) | Outcome::Ended(code) => status.is_none() && *code != 0,
    }
}

/// The two classes of bugs of proxies from HTTP/2 to HTTP/1, and their kin: what would be another header in HTTP/1, or
/// none, or another message.
#[tokio::test]
async fn fields_that_http1_would_read_otherwise_reach_nobody() {
    let rig = Rig::ready(Options::default()).await;
    // By our own answer, or by h2.
    let (refused, malformed) = (Some("400"), None);
    let mut wrong = Vec::new();
    for (fields_of_one, right) in [
        // White space around values, which is stripped in HTTP/1.
        (&[("x", " a")][..], refused),
        (&[("x", "a ")], refused),
        (&[("x", "\ta")], refused),
        (&[("x", "a\t")], refused),
        (&[("content-length", " 0")], malformed),
        (&[("transfer-encoding", " chunked")], malformed),
        (&[("host", " localhost")], refused),
        // Empty names, which end a head or begin with a colon there.
        (&[("", "a")], malformed),
        (&[("", "")], malformed),
        // And what is in a name or value that cannot be.
        (&[("x y", "a")], malformed),
        (&[("x:", "a")], malformed),
        (&[("x ", "a")], malformed),
        (&[(" x", "a")], malformed),
        (&[("X", "a")], malformed),
        (&[("x\r\ny", "a")], malformed),
        (&[("x", "a\r\ny: z")], malformed),
        (&[("x", "a\ny: z")], malformed),
        (&[("x", "a\0b")], malformed),
        // What frames a message, or belongs to one hop, there.
        (&[("transfer-encoding", "chunked")], malformed),
        (&[("connection", "x")], malformed),
        (&[("keep-alive", "x")], malformed),
        (&[("upgrade", "websocket")], malformed),
        (&[("proxy-connection", "x")], malformed),
        (&[("te", "gzip")], malformed),
        (&[("content-length", "5")], malformed),
        (&[("content-length", "+0")], malformed),
        (&[("content-length", "0"), ("content-length", "5")], malformed),
        (&[("content-length", "0"), ("content-length", "0")], refused),
        (&[("content-length", "00")], refused),
        (&[("content-length", "")], refused),
        // Whom it is for.
        (&[("host", "evil.test")], refused),
        (&[("host", "localhost"), ("host", "localhost")], refused),
        (&[("host", "")], refused),
        (&[(":path", "/twice")], malformed),
        (&[(":authority", "evil.test")], malformed),
        (&[("x", "y"), (":path", "/behind")], malformed),
        (&[(":protocol", "websocket")], malformed),
        (&[(":status", "200")], malformed),
        (&[(":unknown", "x")], malformed),
    ] {
        let head = block(&fields("GET", "/never", fields_of_one));
        let outcome = outcome(&rig, frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
        if !is_right(&outcome, right) {
            wrong.push(format!("{fields_of_one:?}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(targets(&rig), [""; 0]);
}

#[tokio::test]
async fn targets_that_http1_would_read_otherwise_reach_nobody() {
    let rig = Rig::ready(Options::default()).await;
    let of = |pseudo: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(pseudo));
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/never")];
    let with = |name: &str, value: &'static str| usual.map(|(one, own)| (one, if one == name { value } else { own }));
    let without = |name: &str| usual.into_iter().filter(|(one, _)| *one != name).collect::<Vec<_>>();
    let mut wrong = Vec::new();
    for (pseudo, right) in [
        (with(":path", "").to_vec(), None),
        (with(":path", "never").to_vec(), None),
        (with(":path", "*").to_vec(), Some("400")),
        (with(":path", "http://evil.test/").to_vec(), None),
        (with(":path", "/a b").to_vec(), None),
        (with(":path", "/a HTTP/1.1\r\nx: y").to_vec(), None),
        (with(":path", "/../x").to_vec(), Some("400")),
        (with(":path", "/%2e%2e/x").to_vec(), Some("400")),
        (with(":method", "GET /evil HTTP/1.1").to_vec(), None),
        (with(":method", "").to_vec(), None),
        (with(":method", "TRACE").to_vec(), Some("403")),
        (with(":scheme", "ftp").to_vec(), Some("400")),
        (with(":scheme", "").to_vec(), Some("400")),
        (with(":authority", "evil.test").to_vec(), Some("421")),
        (with(":authority", "u@localhost").to_vec(), Some("400")),
        (with(":authority", "localhost:99999").to_vec(), Some("400")),
        (with(":authority", "localhost, evil.test").to_vec(), None),
        (with(":authority", "").to_vec(), None),
        (without(":authority"), Some("400")),
        (without(":method"), None),
        (without(":scheme"), None),
        (without(":path"), None),
        (vec![(":method", "GET"), (":scheme", "http"), ("host", "localhost")], Some("400")),
        // A tunnel, in all of its forms.
        (vec![(":method", "CONNECT"), (":authority", "api.example.test:443")], Some("403")),
        (with(":method", "CONNECT").to_vec(), None),
        (vec![(":method", "CONNECT"), (":authority", "localhost:443"), ("host", "evil.test")], Some("400")),
    ] {
        let outcome = outcome(&rig, of(&pseudo)).await;
        if !is_right(&outcome, right) {
            wrong.push(format!("{pseudo:?}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(targets(&rig), [""; 0]);
    // By Host alone, and by both; over another scheme, too, which says nothing of the way to us.
    let host = [without(":authority"), vec![("host", "localhost")]].concat();
    let both = [with(":scheme", "https").to_vec(), vec![("host", "LOCALHOST:443")]].concat();
    for pseudo in [host, both] {
        assert_eq!(outcome(&rig, of(&pseudo)).await, Outcome::Status("200".to_owned()), "{pseudo:?}");
        assert_eq!(last(&rig).target, "/never");
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let rig = Rig::ready(Options { top: "limits: {head: 300ms, idle: 500ms}", ..Options::default() }).await;
    let head = block(&fields("GET", "/never", &[]));
    for begun in [false, true] {
        let mut app = Frames::connect(rig.proxy.address).await;
        if begun {
            app.send(get(1, "/first")).await;
            app.next_of(HEADERS).await.unwrap();
        }
        app.send(frame(HEADERS, END_STREAM, 3, &head[..10])).await;
        app.send(frame(CONTINUATION, 0, 3, &head[10..])).await;
        // Whether there is a word for it depends on whether it reads on.
        app.until_end().await;
    }
    assert_eq!(targets(&rig), ["/first"]);
}

#[tokio::test]
async fn pings_alone_keep_nothing_open() {
    let rig = Rig::ready(Options { top: "limits: {head: 300ms, idle: 1s}", ..Options::default() }).await;
    for begun in [false, true] {
        let since = Instant::now();
        let mut app = Frames::connect(rig.proxy.address).await;
        if begun {
            app.send(get(1, "/first")).await;
        }
        let pinging = async {
            let mut all = vec![];
            app.send(frame(PING, 0, 0, b"still on")).await;
            while let Some(came) = app.next().await {
                if came.kind == PING && came.flags == ACK {
                    app.send(frame(PING, 0, 0, b"still on")).await;
                } else {
                    all.push(came);
                }
            }
            all
        };
        let heard: Vec<Frame> = in_time(pinging).await;
        // Nor do they take from what it has.
        assert!(since.elapsed() >= Duration::from_millis(if begun { 1_000 } else { 300 }));
        assert!(heard.iter().any(|frame| frame.kind == GOAWAY && frame.code() == 0), "{heard:?}");
    }
}

#[tokio::test]
async fn who_answers_no_ping_is_gone() {
    let rig = Rig::ready(Options { top: "limits: {idle: 700ms}", ..Options::default() }).await;
    rig.api.script().always(Answer::hang());
    let (mut app, mut gone) = (Frames::connect(rig.proxy.address).await, Frames::connect(rig.proxy.address).await);
    gone.answers_pings = false;
    for one in [&mut app, &mut gone] {
        one.send(get(1, "/held")).await;
    }
    rig.api.wait_for(2, PATIENCE).await.unwrap();
    let alive = async { while app.next().await.is_some() {} };
    tokio::select! {
        () = alive => panic!("what answers pings is there, however long its request takes"),
        _ = gone.until_end() => {}
    }
}
