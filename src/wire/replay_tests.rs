//! The clock is a paused one: it goes on when nothing else does, so "nothing comes" is known and not guessed.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::pending;

use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::*;

const AWHILE: Duration = Duration::from_secs(3600);

/// Yields the bodies of requests, and answers none.
fn service() -> (
    impl hyper::service::HttpService<Incoming, ResBody = Empty<Bytes>, Error = Infallible, Future: Send> + Send,
    mpsc::UnboundedReceiver<Incoming>,
) {
    let (heard, hears) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let _ = heard.send(request.into_body());
        pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    (service, hears)
}

/// An app that has sent these header lines by HTTP/1 and what follows them, and the body that it sends.
async fn app(head: &str, body: &str) -> (DuplexStream, Incoming) {
    let (mut app, near) = duplex(1024 * 1024);
    let (service, mut hears) = service();
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(near), service));
    app.write_all(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    (app, hears.recv().await.unwrap())
}

/// The same by HTTP/2, without a length.
async fn app2() -> (h2::SendStream<Bytes>, Incoming) {
    let (app, near) = duplex(1024 * 1024);
    let (service, mut hears) = service();
    tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(near), service));
    let (mut sender, connection) = h2::client::handshake(app).await.unwrap();
    tokio::spawn(connection);
    // For as much of a window as there is.
    sleep(AWHILE).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let (response, stream) = sender.send_request(request, false).unwrap();
    tokio::spawn(response);
    (stream, hears.recv().await.unwrap())
}

/// A body by HTTP/1 that is kept up to a limit, without the trailer `x-drop`.
fn kept(body: Incoming, limit: usize) -> Replay {
    let replay = Replay::new(body, Version::HTTP_11, false);
    replay.prepare(limit, |trailers| _ = trailers.remove("x-drop"));
    replay
}

async fn next(attempt: &mut Attempt) -> Option<Result<Frame<Bytes>, BodyError>> {
    timeout(AWHILE, attempt.frame()).await.expect("nothing comes")
}

async fn data(attempt: &mut Attempt) -> Bytes {
    next(attempt).await.unwrap().unwrap().into_data().unwrap()
}

async fn waits(attempt: &mut Attempt) -> bool {
    timeout(AWHILE, attempt.frame()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_sent_again_and_then_the_rest() {
    let (mut app, body) = app("content-length: 10", "hello").await;
    let replay = kept(body, 10);
    let mut first = replay.attempt().unwrap();
    assert_eq!((replay.length(), first.size_hint().exact()), (Some(10), Some(10)));
    assert_eq!(data(&mut first).await, "hello");
    assert!(waits(&mut first).await && !first.is_end_stream());
    let mut second = replay.attempt().unwrap();
    assert!(matches!(next(&mut first).await, Some(Err(BodyError::Superseded))));
    assert_eq!(second.size_hint().exact(), Some(10));
    assert_eq!(data(&mut second).await, "hello");
    assert!(waits(&mut second).await && !second.is_end_stream());
    app.write_all(b"world").await.unwrap();
    assert_eq!(data(&mut second).await, "world");
    assert!(second.is_end_stream() && next(&mut second).await.is_none());
    let mut third = replay.attempt().unwrap();
    assert!(!second.is_end_stream(), "it must not look complete");
    for piece in ["hello", "world"] {
        assert!(!third.is_end_stream());
        assert_eq!(data(&mut third).await, piece);
    }
    assert!(third.is_end_stream() && next(&mut third).await.is_none());
    assert!(replay.can_repeat());
}

#[tokio::test(start_paused = true)]
async fn no_body_is_sent_as_often_as_one_likes() {
    let (_app, body) = app("content-length: 0", "").await;
    let replay = Replay::new(body, Version::HTTP_11, true);
    for _ in 0..2 {
        let mut attempt = replay.attempt().unwrap();
        assert!(attempt.is_end_stream() && next(&mut attempt).await.is_none());
        assert_eq!(attempt.size_hint().exact(), Some(0));
    }
    assert_eq!((replay.length(), replay.progress()), (Some(0), None));
    assert!(replay.can_repeat() && replay.is_over().await);
    assert!(!replay.has_trailers() && !replay.is_unasked() && replay.leave_unasked().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_longer_than_the_limit_is_sent_once() {
    const ONE: &str = "1\r\na\r\n";
    let (chunks, bytes) = ("5\r\nhello\r\n5\r\nworld\r\n".to_owned(), ONE.repeat(66));
    for (head, body, limit, repeats) in [
        // Known beforehand: nothing of it is kept.
        ("content-length: 10", "helloworld", 9, 0),
        ("content-length: 10", "helloworld", 10, 1),
        ("content-length: 10", "helloworld", 100, 1),
        ("transfer-encoding: chunked", &chunks, 4, 0),
        ("transfer-encoding: chunked", &chunks, 5, 1),
        ("transfer-encoding: chunked", &chunks, 9, 1),
        ("transfer-encoding: chunked", &chunks, 10, 2),
        // Of small pieces, some cost no more than their bytes.
        ("transfer-encoding: chunked", &bytes, 63, 63),
        ("transfer-encoding: chunked", &bytes, 127, 64),
        ("transfer-encoding: chunked", &bytes, 128, 65),
        ("transfer-encoding: chunked", &bytes, 192, 66),
    ] {
        let (_app, incoming) = app(head, body).await;
        let replay = kept(incoming, limit);
        let mut attempt = replay.attempt().unwrap();
        let pieces = if head.starts_with('c') { 1 } else { body.matches("\r\n").count() / 2 };
        for piece in 1..=pieces {
            assert!(!data(&mut attempt).await.is_empty());
            assert_eq!(replay.can_repeat(), piece <= repeats, "{limit}: {piece}");
        }
        assert_eq!(replay.attempt().is_some(), pieces <= repeats, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_known_to_be_too_long_is_not_kept_from_its_first_byte() {
    let (_app, body) = app("content-length: 10", "h").await;
    let replay = kept(body, 9);
    assert!(replay.can_repeat(), "nothing of it went out");
    assert_eq!(data(&mut replay.attempt().unwrap()).await, "h");
    assert!(!replay.can_repeat());
    // And one that nobody said anything of is not kept at all.
    let (_app, body) = app("content-length: 10", "h").await;
    let replay = Replay::new(body, Version::HTTP_11, false);
    assert_eq!(data(&mut replay.attempt().unwrap()).await, "h");
    assert!(!replay.can_repeat());
}

#[tokio::test(start_paused = true)]
async fn chunks_end_with_their_last_one() {
    let (mut app, body) = app("transfer-encoding: chunked", "2\r\nhi\r\n").await;
    let replay = kept(body, 10);
    let mut attempt = replay.attempt().unwrap();
    assert_eq!(data(&mut attempt).await, "hi");
    assert!(waits(&mut attempt).await && !attempt.is_end_stream() && !replay.progress().unwrap().finished);
    app.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(next(&mut attempt).await.is_none() && attempt.is_end_stream() && replay.progress().unwrap().finished);
    assert!(replay.can_repeat() && !replay.has_trailers());
}

#[tokio::test(start_paused = true)]
async fn trailers_are_sent_clean_and_again() {
    let chunked = "transfer-encoding: chunked\r\ntrailer: x-sum, x-drop";
    let (_app, body) = app(chunked, "2\r\nhi\r\n0\r\nx-sum: 1\r\nx-drop: 2\r\n\r\n").await;
    let replay = kept(body, 10);
    assert!(!replay.has_trailers() && replay.length().is_none());
    for _ in 0..3 {
        let mut attempt = replay.attempt().unwrap();
        assert_eq!(data(&mut attempt).await, "hi");
        assert!(!attempt.is_end_stream());
        let trailers = next(&mut attempt).await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers, HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))]));
        assert!(attempt.is_end_stream() && next(&mut attempt).await.is_none());
        assert!(replay.has_trailers());
    }
    let (_app, body) = app(chunked, "2\r\nhi\r\n0\r\nx-drop: 2\r\n\r\n").await;
    let replay = kept(body, 10);
    for _ in 0..2 {
        let mut attempt = replay.attempt().unwrap();
        assert_eq!(data(&mut attempt).await, "hi");
        assert!(next(&mut attempt).await.is_none() && attempt.is_end_stream(), "nothing is left of them");
        assert!(replay.has_trailers(), "and yet there were some");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_an_error_and_is_not_sent_again() {
    let (app, body) = app("content-length: 10", "hello").await;
    let replay = kept(body, 10);
    let mut attempt = replay.attempt().unwrap();
    assert_eq!(data(&mut attempt).await, "hello");
    assert!(!replay.progress().unwrap().broken && replay.can_repeat());
    drop(app);
    let error = next(&mut attempt).await.unwrap().unwrap_err();
    assert!(matches!(error, BodyError::App(None)) && error.source().is_none(), "{error:?}");
    assert_eq!(error.to_string(), "the app broke off its request");
    let progress = replay.progress().unwrap();
    assert!(progress.broken && !progress.finished && !replay.can_repeat() && replay.attempt().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_is_cut_whatever_its_code() {
    for (reason, told) in [(h2::Reason::NO_ERROR, None), (h2::Reason::CANCEL, Some(h2::Reason::CANCEL))] {
        let (mut stream, body) = app2().await;
        let replay = Replay::new(body, Version::HTTP_2, false);
        let mut attempt = replay.attempt().unwrap();
        stream.send_data("some".into(), false).unwrap();
        assert_eq!(data(&mut attempt).await, "some");
        stream.send_reset(reason);
        let error = next(&mut attempt).await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::App(_)), "{error:?}");
        // It is reset by the same on its way.
        let why = error.source().map(|why| why.downcast_ref::<h2::Error>().unwrap().reason().unwrap());
        assert_eq!(why, told);
        assert!(replay.progress().unwrap().broken && !attempt.is_end_stream());
    }
    let (mut stream, body) = app2().await;
    let replay = Replay::new(body, Version::HTTP_2, false);
    stream.send_data("all".into(), true).unwrap();
    sleep(AWHILE).await;
    assert!(replay.is_over().await && !replay.progress().unwrap().broken);
}

#[tokio::test(start_paused = true)]
async fn how_far_it_is_and_who_waits_is_known() {
    let (mut app, body) = app("content-length: 10", "hello").await;
    let replay = kept(body, 10);
    let tally = Arc::<Tally>::default();
    replay.count(Some(&tally));
    let begun = Instant::now();
    let at = |finished, moved, waits_for_app| Some(Progress { finished, broken: false, moved, waits_for_app });
    assert_eq!(replay.progress(), at(false, begun, false));
    let mut attempt = replay.attempt().unwrap();
    data(&mut attempt).await;
    assert_eq!(replay.progress(), at(false, begun, false));
    assert!(waits(&mut attempt).await);
    assert_eq!(replay.progress(), at(false, begun, true));
    let later = Instant::now();
    app.write_all(b"world").await.unwrap();
    data(&mut attempt).await;
    assert_eq!(replay.progress(), at(true, later, false));
    // What is sent again was read once.
    data(&mut replay.attempt().unwrap()).await;
    assert!(format!("{tally:?}").contains("read: 10"), "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn an_app_is_asked_when_there_is_word_or_none_for_long() {
    const PATIENCE: Duration = Duration::from_secs(1);
    let expects = "content-length: 5\r\nexpect: 100-continue";
    for (given, let_go) in [(true, false), (false, true), (false, false)] {
        let (mut app, body) = app(expects, "").await;
        let replay = Replay::new(body, Version::HTTP_11, true);
        replay.prepare(10, |_| {});
        let mut attempt = replay.attempt().unwrap();
        let word = attempt.hold(PATIENCE);
        assert!(timeout(PATIENCE / 2, attempt.frame()).await.is_err());
        assert!(replay.is_unasked() && !replay.progress().unwrap().waits_for_app);
        assert!(timeout(Duration::from_millis(1), app.read_u8()).await.is_err());
        let before = Instant::now();
        if given {
            word.give();
        }
        if let_go {
            attempt.let_go();
        }
        let asked = async {
            let mut line = [0; 25];
            app.read_exact(&mut line).await.unwrap();
            assert_eq!(line, *b"HTTP/1.1 100 Continue\r\n\r\n");
            let waited = before.elapsed();
            assert_eq!(waited > Duration::from_millis(10), !given && !let_go, "{waited:?}");
            assert_eq!(replay.progress().unwrap().moved > before, !given && !let_go, "the wait for word is over");
            assert!(!replay.is_unasked());
            app.write_all(b"hello").await.unwrap();
        };
        assert_eq!(tokio::join!(data(&mut attempt), asked).0, "hello");
        // What there is does not go back because of it.
        assert!(replay.leave_unasked().is_none());
        replay.withhold();
        assert!(next(&mut attempt).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_is_not_asked_once_it_was_answered_unless_it_is_tried_again() {
    let (_app, body) = app("content-length: 5\r\nexpect: 100-continue", "hello").await;
    let replay = Replay::new(body, Version::HTTP_11, true);
    let mut attempt = replay.attempt().unwrap();
    replay.withhold();
    assert!(waits(&mut attempt).await && replay.is_unasked());
    // Who is held hears of it that there is another.
    let (superseded, again) = tokio::join!(next(&mut attempt), async { replay.attempt() });
    assert!(matches!(superseded, Some(Err(BodyError::Superseded))));
    assert_eq!(data(&mut again.unwrap()).await, "hello");
    assert!(!replay.is_unasked());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_asked_for_has_no_end_before_its_answer_has() {
    let (_app, body) = app("content-length: 5\r\nexpect: 100-continue", "").await;
    let replay = Replay::new(body, Version::HTTP_11, true);
    assert!(!replay.is_over().await && replay.is_unasked(), "nobody may look whether it is there");
    let mut attempt = replay.attempt().unwrap();
    replay.withhold();
    let unasked = replay.leave_unasked().unwrap();
    assert!(waits(&mut attempt).await && !attempt.is_end_stream());
    let (end, ()) = tokio::join!(next(&mut attempt), async { drop(unasked) });
    assert!(matches!(end, Some(Err(BodyError::Superseded))) && !attempt.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn whoever_answers_early_drops_what_is_there_within_bounds() {
    for (there, ends, is_over) in [
        (0, true, true),
        (0, false, false),
        (5, true, true),
        (5, false, false),
        (64 * 1024, true, true),
        (64 * 1024 + 1, true, false),
    ] {
        let (mut stream, body) = app2().await;
        let replay = Replay::new(body, Version::HTTP_2, false);
        let mut attempt = replay.attempt().unwrap();
        stream.send_data(vec![b'x'; there].into(), ends).unwrap();
        sleep(AWHILE).await;
        assert_eq!(replay.is_over().await, is_over, "{there} {ends}");
        assert!(matches!(next(&mut attempt).await, Some(Err(BodyError::Superseded))));
    }
    // What is broken is over as little.
    let (app, body) = app("content-length: 10", "hello").await;
    drop(app);
    sleep(AWHILE).await;
    assert!(!kept(body, 10).is_over().await);
}

#[tokio::test(start_paused = true)]
async fn what_lasts_for_the_sending_is_let_go_with_it() {
    let (_app, body) = app("content-length: 1", "").await;
    let replay = kept(body, 10);
    let lasts: Rc<dyn Any> = Rc::new(());
    let mut attempt = replay.attempt().unwrap();
    for end in [Attempt::holds as fn(&mut Attempt, _), |attempt, _| *attempt = Replay(None).attempt().unwrap()] {
        attempt.holds(Some(Rc::clone(&lasts)));
        assert_eq!(Rc::strong_count(&lasts), 2);
        end(&mut attempt, None);
        assert_eq!(Rc::strong_count(&lasts), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_an_app_sends_is_printed() {
    let (_app, body) = app("content-length: 6", "canary").await;
    let replay = kept(body, 10);
    let mut attempt = replay.attempt().unwrap();
    data(&mut attempt).await;
    let printed = format!("{attempt:?}");
    assert!(printed.contains("number: 1") && printed.contains("kept_bytes: 6"), "{printed}");
    assert!(!printed.contains("canary") && !format!("{replay:?}").contains("canary"), "{printed}");
}
