//! An API that breaks off, stands still, floods or speaks out of turn, at every point of an exchange: the app gets the
//! right word for it, or an answer that is visibly cut; never a cut answer that looks whole.
//!
//! What single answers may look like is in `tests/corpus`; here is what becomes of them in time.

use std::time::Duration;

use bearerd::demo::answer::Answer as Said;
use bearerd::demo::steps::Step;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{in_time, last, read_until, rig_with, targets};
use crate::support::{App, Options, Rig, eventually};

const CONTENT: &[u8] = b"hello world";

/// Answers in each framing, with that content.
const ANSWERS: [(&str, &str); 3] = [
    ("length", "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"),
    ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    ("end", "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello world"),
];

/// What becomes of the connection behind the part that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Fin,
    Reset,
    Stall,
}

/// Serves `/ROUTE/INDEX/POINT/END`: so much of that answer, and then that.
async fn serve(mut stream: TcpStream) {
    let head = read_until(&mut stream, "\r\n\r\n").await;
    let words: Vec<&str> = head.split(' ').nth(1).unwrap().split('/').collect();
    let [index, point] = [2, 3].map(|at| words[at].parse::<usize>().unwrap());
    stream.write_all(&ANSWERS[index].1.as_bytes()[..point]).await.unwrap();
    match words[4] {
        "Fin" => {}
        "Reset" => stream.set_zero_linger().unwrap(),
        _ => _ = stream.read_u8().await,
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_stands_still_at_any_point_does_not_look_whole() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    // Only where nothing more comes is a time limit short: what is slow here is this test.
    let route = |path: &str, timeouts: &str| {
        format!(
            "  - {{upstream: 'http://{address}', token: main, match: {{path: /{path}}}, timeouts: {{{timeouts}}}}}\n"
        )
    };
    let routes = [route("patient", ""), route("head", "headers: 300ms"), route("body", "body_idle: 300ms")].concat();
    let rig = rig_with(|_| format!("routes:\n{routes}")).await;
    let (end, mut ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = upstream.accept() => connections.spawn(serve(accepted.unwrap().0)),
                _ = &mut ended => return connections.len(),
            };
        }
    });
    let mut apps = JoinSet::new();
    for (index, (_, answer)) in ANSWERS.iter().enumerate() {
        for point in 0..=answer.len() {
            for then in [Then::Fin, Then::Reset, Then::Stall] {
                let address = rig.proxy.address;
                apps.spawn(async move { wrong(App::connect(address).await, index, point, then).await });
            }
        }
    }
    let asked = apps.len();
    let wrong: Vec<String> = apps.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    drop(end);
    assert_eq!(in_time(serving).await.unwrap(), asked, "none was asked for twice");
}

/// What is wrong with what the app got.
async fn wrong(mut app: App, index: usize, point: usize, then: Then) -> Option<String> {
    let (framing, answer) = ANSWERS[index];
    let head = answer.find("\r\n\r\n").unwrap() + 4;
    let route = match then {
        Then::Fin | Then::Reset => "patient",
        Then::Stall if point < head => "head",
        Then::Stall => "body",
    };
    let got = app.get(&format!("/{route}/{index}/{point}/{then:?}")).await;
    let is_right = if point < head {
        let expected = if then == Then::Stall { (504, "upstream_timeout") } else { (502, "upstream_reset") };
        (got.status, got.reason().as_str()) == expected
    } else {
        // Only a polite end is one to a body that has no other.
        let is_whole = if framing == "end" { then == Then::Fin } else { point == answer.len() };
        let is_begun = if is_whole && framing != "end" { got.body == CONTENT } else { CONTENT.starts_with(&got.body) };
        (got.status, got.complete, is_begun) == (200, is_whole, true)
    };
    (!is_right).then(|| {
        let (sent, body) = (&answer[..point], got.body.escape_ascii());
        format!("{framing}, {then:?} behind {sent:?}: {}, complete: {}, {body}", got.status, got.complete)
    })
}

/// Sends an upload of so many bytes while it reads the answer.
async fn upload(rig: &Rig, path: &str, length: usize) -> crate::support::Answer {
    let app = rig.app().await;
    let head = app.head(&format!("POST {path} HTTP/1.1\nContent-Length: {length}"));
    let (reader, mut writer) = tokio::io::split(app.into_stream());
    let writing = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'x'; 64 * 1024];
        // Whoever was answered may be hung up on.
        for at in (0..length).step_by(piece.len()) {
            if writer.write_all(&piece[..piece.len().min(length - at)]).await.is_err() {
                break;
            }
        }
        // Ended, its side would tell that the app has gone.
        writer
    });
    let mut app = App::over(tokio::io::join(reader, tokio::io::sink()), &"localhost");
    let answer = app.answer().await;
    writing.abort();
    answer
}

/// Far more than anybody on the way takes of a body that nobody reads.
const UPLOAD: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn an_early_answer_to_an_upload_arrives_whatever_the_api_does_next() {
    let rig = Rig::ready(Options::default()).await;
    let said: bytes::Bytes = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large".into();
    let (answer, part) = (Step::Send(said.clone()), Step::Read(100_000));
    let wait = Step::Pause(Duration::from_millis(50));
    for steps in [
        // It reads no more, and does not say so.
        vec![answer.clone(), Step::Stall],
        vec![part.clone(), answer.clone(), Step::Stall],
        // It reads on.
        vec![answer.clone(), Step::Hold],
        // It hangs up, with or without a word. What was sent before a reset has to have time to arrive.
        vec![answer.clone()],
        vec![part.clone(), answer.clone()],
        vec![answer.clone(), Step::Cut],
        vec![part, answer, wait, Step::Reset],
    ] {
        rig.api.script().push(Said::Raw(steps.clone()));
        let answer = upload(&rig, "/x", UPLOAD).await;
        assert_eq!((answer.status, answer.text(), answer.complete), (413, "too large", true), "{steps:?}");
        assert_eq!(rig.get("/next").await.status, 200, "{steps:?}");
    }
    assert_eq!(targets(&rig).iter().filter(|target| *target == "/x").count(), 7, "none was sent twice");
}

#[tokio::test]
async fn an_upload_that_the_api_breaks_off_without_an_answer_is_told_as_that() {
    let rig = Rig::ready(Options::default()).await;
    for steps in [vec![Step::Read(100_000)], vec![Step::Read(100_000), Step::Reset], vec![Step::Reset], vec![Step::Cut]]
    {
        rig.api.script().push(Said::Raw(steps.clone()));
        let answer = upload(&rig, "/x", UPLOAD).await;
        assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_reset"), "{steps:?}");
    }
    assert_eq!(targets(&rig).len(), 4, "none was sent twice");
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let rig = Rig::ready(Options::default()).await;
    for (begin, more) in [
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 OK\r\nX: ", "xxxxxxxx"),
        ("HTTP/1.1 200 ", "xxxxxxxx"),
        ("HTTP/1.1 200 OK\r\n", "x"),
        ("HTTP/1.1 103 Early Hints\r\nX: ", "xxxxxxxx"),
    ] {
        let more = bytes::Bytes::from(more.repeat(8 * 1024));
        let mut steps = vec![Step::Send(begin.into())];
        steps.extend(std::iter::repeat_n(Step::Send(more), 10_000));
        rig.api.script().push(Said::Raw(steps));
        let answer = rig.get("/x").await;
        assert_eq!((answer.status, answer.reason().as_str()), (502, "bad_upstream"), "{begin:?}");
        eventually("the connection is closed", || rig.api.counts().open.now() == 0).await;
    }
}

/// What is there before the request may be taken for its answer, for nobody can tell; it is nobody else's.
#[tokio::test]
async fn an_answer_before_the_request_is_no_other_requests_answer() {
    let rig = Rig::ready(Options::default()).await;
    let early = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
    for steps in [
        vec![Step::Send(early.into()), Step::ReadHead, Step::ReadHead],
        vec![Step::Send(early.repeat(3).into()), Step::Hold],
        vec![Step::Send(early.into())],
        vec![Step::Send(early.into()), Step::Reset],
    ] {
        rig.api.restart().await.unwrap();
        rig.api.script().on_connect(steps.clone());
        let mut app = rig.app().await;
        let answer = app.get("/x").await;
        assert!(answer.status == 502 || answer.status == 200 && answer.text() == "early", "{answer:?}");
        for _ in 0..3 {
            assert_eq!(app.get("/next").await.json()["path"], "/next", "{steps:?}");
        }
    }
}

/// An API that stops in the middle of an upload and of its own answer at once.
#[tokio::test]
async fn an_early_answer_that_breaks_off_is_cut() {
    let rig = Rig::ready(Options::default()).await;
    let begun = Step::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n".into());
    let wait = Step::Pause(Duration::from_millis(50));
    for steps in [
        vec![begun.clone()],
        vec![begun.clone(), Step::Cut],
        vec![Step::Read(100_000), begun.clone(), wait.clone(), Step::Reset],
        vec![begun, wait, Step::Reset],
    ] {
        rig.api.script().push(Said::Raw(steps.clone()));
        let answer = upload(&rig, "/x", UPLOAD).await;
        assert_eq!((answer.status, answer.complete, answer.text()), (200, false, "begun"), "{steps:?}");
    }
    assert_eq!(last(&rig).method, "POST");
}
