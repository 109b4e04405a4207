//! What somebody can do to HTTP/2 by frames written by hand: it ends the stream or the connection that it comes by, costs
//! a bounded amount of memory, and nobody else notices. A process of its own, so that the memory is its own.
#![cfg(target_os = "linux")]

use std::net::SocketAddr;
use std::time::Duration;

use bearerd::demo::answer::Answer;
use rustix::process::Signal;

use super::stage::Stage;
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, fields, frame, get,
};
use crate::support::{App, App2};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What an attack may use beside what was there before: the most is for 200 answers that nobody takes, each with a
/// connection to the API and what was read of it.
const MEMORY: u64 = 48 * 1024 * 1024;

/// Short, so that what is never going to ask anything is gone soon; and a route that waits for nobody.
const LIMITS: &str = "    timeouts: {body_idle: 2s}\nlimits: {head: 1s, idle: 1s}\n";

/// The resident memory of a process, in bytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// How an attack ended: with the code of a GOAWAY, if there was one.
fn goaway(frames: &[Frame]) -> Option<u32> {
    frames.iter().rev().find(|frame| frame.kind == GOAWAY).map(Frame::code)
}

fn resets(frames: &[Frame]) -> Vec<u32> {
    frames.iter().filter(|frame| frame.kind == RST_STREAM).map(Frame::code).collect()
}

/// Ordinary requests by both versions, one after the other, for as long as an attack lasts and some more. They come from
/// a thread of their own: what an attack costs this test must not make them late.
async fn bystand(address: SocketAddr, attack: impl Future<Output = ()>) {
    let (over, seen) = tokio::sync::watch::channel(());
    let asking = async move {
        let mut some_more = 10;
        while some_more > 0 {
            // Anew each time, since the limits on what is idle are short here.
            assert_eq!(App2::connect(address).await.get("/ordinary").await.status, 200);
            assert_eq!(App::connect(address).await.get("/ordinary").await.status, 200);
            some_more -= i32::from(seen.has_changed().is_err());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (tell, ended) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(asking);
        let _ = tell.send(());
    });
    attack.await;
    drop(over);
    // An error is its end by a panic, which is passed on.
    let _ = ended.await;
    thread.join().unwrap();
}

/// Runs an attack beside the bystander, and looks at the memory all the while.
async fn attacked(attack: impl AsyncFnOnce(SocketAddr, &Stage)) {
    let stage = Stage::new().await;
    stage.configure(LIMITS);
    stage.api.script().when(|head| {
        let large = || Answer::status(200).body(vec![b'x'; 256 * 1024]);
        match head.uri.path() {
            "/large" => Some(large().into()),
            "/held" => Some(Answer::hang()),
            _ => None,
        }
    });
    let running = stage.run(&[]).await.ready().await;
    let (address, pid) = (running.address, running.child.pid());
    // What ordinary traffic needs is there before.
    bystand(address, tokio::time::sleep(Duration::from_millis(200))).await;
    let before = memory(pid);
    let mut most = before;
    let watching = async {
        loop {
            most = most.max(memory(pid));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = bystand(address, attack(address, &stage)) => {}
        () = watching => {}
    }
    let more = most - before;
    assert!(more < MEMORY, "{} KiB more than {} KiB", more / 1024, before / 1024);
    assert!(!running.child.err().contains("panicked"));
    running.child.end_by(Signal::TERM).await.with(0);
}

/// A frame again and again, some at a time.
fn again(bytes: &[u8]) -> impl FnMut() -> Vec<u8> + use<> {
    let piece = bytes.repeat((16 * 1024usize).div_ceil(bytes.len()));
    move || piece.clone()
}

/// Streams of the app's own, each with what `of` says; a hundred at a time.
fn streams(of: impl Fn(u32) -> Vec<u8>) -> impl FnMut() -> Vec<u8> {
    let mut next = 1;
    move || {
        let piece = (0..100).flat_map(|number| of(next + 2 * number)).collect();
        next += 200;
        piece
    }
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once() {
    attacked(async |address, stage| {
        for reads in [true, false] {
            let flood =
                streams(|stream| [get(stream, "/held"), frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat());
            let heard = Frames::connect(address).await.flood(reads, flood).await;
            assert!(goaway(&heard).is_none_or(|code| code == ENHANCE_YOUR_CALM), "{heard:?}");
            assert!(!reads || goaway(&heard).is_some(), "{heard:?}");
        }
        assert!(stage.api.requests().iter().filter(|seen| seen.target == "/held").count() < 1_000);
    })
    .await;
}

#[tokio::test]
async fn requests_that_make_us_reset_them() {
    attacked(async |address, _| {
        // By a window that overflows (CVE-2025-8671).
        let overflow = |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffffu32.to_be_bytes());
        let flood = streams(|stream| [get(stream, "/held"), overflow(stream)].concat());
        let heard = Frames::connect(address).await.flood(true, flood).await;
        assert_eq!(goaway(&heard), Some(ENHANCE_YOUR_CALM));
        assert!(resets(&heard).iter().all(|code| [FLOW_CONTROL_ERROR, REFUSED_STREAM].contains(code)));
    })
    .await;
}

#[tokio::test]
async fn a_head_that_goes_on_for_ever() {
    attacked(async |address, _| {
        // Of nothing, and of fields that are never the last.
        for piece in [Vec::new(), block(&[("x", "y")]).repeat(2_000)] {
            let mut app = Frames::connect(address).await;
            app.send(frame(HEADERS, END_STREAM, 1, &block(&fields("GET", "/never", &[])))).await;
            let heard = app.flood(true, again(&frame(CONTINUATION, 0, 1, &piece))).await;
            assert!(goaway(&heard).is_some_and(|code| code != 0), "{heard:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn heads_that_unfold() {
    attacked(async |address, stage| {
        let mut app = Frames::connect(address).await;
        // A value of 4,000 bytes goes into the table, by the first request, and 16,000 times out of it by each other.
        let value = "x".repeat(4_000);
        let mut first = block(&fields("GET", "/first", &[]));
        first.extend([0x40, 1, b'x', 127]);
        let (low, high) = ((4_000 - 127) % 128, (4_000 - 127) / 128);
        first.extend([u8::try_from(low).unwrap() | 128, u8::try_from(high).unwrap()]);
        first.extend(value.as_bytes());
        app.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &first)).await;
        let bomb = [block(&fields("GET", "/bomb", &[])), vec![0x80 | 62; 16_000]].concat();
        for number in 1..200 {
            app.send(frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, &bomb)).await;
        }
        app.lives().await;
        let targets: Vec<_> = stage.api.requests().into_iter().map(|seen| seen.target).collect();
        assert!(!targets.iter().any(|target| target == "/bomb"));
    })
    .await;
}

#[tokio::test]
async fn frames_that_ask_for_an_answer_each() {
    attacked(async |address, _| {
        for one in [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, b"flooding")] {
            for reads in [true, false] {
                // It ends as one that asks nothing, or takes nothing.
                Frames::connect(address).await.flood(reads, again(&one)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn frames_that_say_nothing() {
    attacked(async |address, _| {
        for one in [
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
            frame(SETTINGS, ACK, 0, &[]),
            frame(PING, ACK, 0, b"unasked!"),
            frame(GOAWAY, 0, 0, &[0; 8]),
            // Of a kind that nobody knows.
            frame(0xfa, 0, 0, b"whatever"),
        ] {
            Frames::connect(address).await.flood(true, again(&one)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn bodies_of_nothing() {
    attacked(async |address, _| {
        let mut app = Frames::connect(address).await;
        app.send(frame(HEADERS, END_HEADERS, 1, &block(&fields("POST", "/x", &[])))).await;
        let heard = app.flood(true, again(&frame(DATA, 0, 1, &[]))).await;
        assert_eq!(goaway(&heard), Some(ENHANCE_YOUR_CALM));
    })
    .await;
}

/// A byte of a body is kept for another attempt; the buffer that it came in, with whatever else was in there, is not.
#[tokio::test]
async fn bodies_of_a_byte_between_frames_that_are_large() {
    attacked(async |address, _| {
        /// No kind of frame that there is.
        const UNKNOWN: u8 = 0xbb;
        let mut app = Frames::connect(address).await;
        let streams = (0..20).map(|number| 1 + 2 * number);
        for stream in streams.clone() {
            app.send(frame(HEADERS, END_HEADERS, stream, &block(&fields("POST", "/x", &[])))).await;
        }
        let large = frame(UNKNOWN, 0, 0, &[0; 16 * 1024]);
        for _ in 0..500 {
            for stream in streams.clone() {
                assert!(app.send([&large[..], &frame(DATA, 0, stream, b"x")].concat()).await);
            }
        }
        assert!(app.lives().await);
    })
    .await;
}

#[tokio::test]
async fn answers_that_are_not_taken() {
    attacked(async |address, _| {
        // SETTINGS_INITIAL_WINDOW_SIZE: not even a byte, and one.
        for window in [0, 1] {
            let mut app = Frames::with(address, &[(4, window)]).await;
            let asked: u32 = 150;
            for number in 0..asked {
                app.send(get(1 + 2 * number, "/large")).await;
            }
            let mut reset = 0;
            while reset < asked {
                let frame = app.next_of(RST_STREAM).await.expect("the connection goes on");
                assert_eq!(frame.code(), CANCEL);
                reset += 1;
            }
            // With nothing more to do, it is told to leave.
            assert_eq!(goaway(&app.until_end().await), Some(0));
        }
        // Nor is anything read.
        let mut app = Frames::with(address, &[(4, 0x7fff_ffff)]).await;
        app.send(frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes())).await;
        let flood = streams(|stream| get(stream, "/large"));
        app.flood(false, flood).await;
    })
    .await;
}

#[tokio::test]
async fn more_requests_at_a_time_than_there_may_be() {
    attacked(async |address, stage| {
        let mut app = Frames::connect(address).await;
        for number in 0..300 {
            app.send(get(1 + 2 * number, "/held")).await;
        }
        let mut refused = Vec::new();
        while refused.len() < 100 {
            let frame = app.next_of(RST_STREAM).await.expect("the connection goes on");
            assert_eq!(frame.code(), REFUSED_STREAM);
            refused.push(frame.stream);
        }
        assert!(refused.iter().all(|stream| *stream > 400), "{refused:?}");
        assert!(app.lives().await);
        assert!(stage.api.requests().iter().filter(|seen| seen.target == "/held").count() <= 200);
    })
    .await;
}

#[tokio::test]
async fn frames_that_cannot_be() {
    attacked(async |address, stage| {
        let most = (1u32 << 31) - 1;
        let head = |fields_of_one| frame(HEADERS, END_HEADERS, 1, &block(&fields("POST", "/x", fields_of_one)));
        for (bytes, code) in [
            (frame(WINDOW_UPDATE, 0, 0, &most.to_be_bytes()), FLOW_CONTROL_ERROR),
            // RFC 9113 has words of its own for these; to h2 they are all frames that make no sense.
            (frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]), PROTOCOL_ERROR),
            (frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL_ERROR),
            (frame(SETTINGS, 0, 0, &[0, 4, 0]), PROTOCOL_ERROR),
            (frame(PING, 0, 0, b"short"), PROTOCOL_ERROR),
            (frame(DATA, 0, 1, b"of nothing"), PROTOCOL_ERROR),
            (frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), PROTOCOL_ERROR),
            (frame(CONTINUATION, END_HEADERS, 1, &[]), PROTOCOL_ERROR),
            (frame(HEADERS, END_HEADERS, 2, &[]), PROTOCOL_ERROR),
            (frame(HEADERS, END_HEADERS, 0, &[]), PROTOCOL_ERROR),
            (frame(RST_STREAM, 0, 1, &[0; 4]), PROTOCOL_ERROR),
            // Longer than a frame may be, of which only the head is sent.
            (vec![0xff, 0xff, 0xff, HEADERS, END_HEADERS, 0, 0, 0, 1], FRAME_SIZE_ERROR),
            ([frame(HEADERS, 0, 1, &[]), frame(PING, 0, 0, b"between!")].concat(), PROTOCOL_ERROR),
        ] {
            let mut app = Frames::connect(address).await;
            app.send(&bytes).await;
            assert_eq!(goaway(&app.until_end().await), Some(code), "{bytes:?}");
        }
        for (bytes, code) in [
            ([head(&[]), frame(WINDOW_UPDATE, 0, 1, &most.to_be_bytes())].concat(), FLOW_CONTROL_ERROR),
            ([head(&[("content-length", "1")]), frame(DATA, END_STREAM, 1, b"two")].concat(), PROTOCOL_ERROR),
            ([head(&[("content-length", "9")]), frame(DATA, END_STREAM, 1, b"two")].concat(), PROTOCOL_ERROR),
        ] {
            let mut app = Frames::connect(address).await;
            app.send(&bytes).await;
            assert_eq!(app.next_of(RST_STREAM).await.map(|frame| frame.code()), Some(code), "{bytes:?}");
            assert!(app.lives().await);
        }
        assert!(stage.api.requests().iter().filter(|seen| seen.target == "/x").all(|seen| seen.body_sha256.is_none()));
    })
    .await;
}
