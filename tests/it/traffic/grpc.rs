//! gRPC, over HTTP/2 on both sides: four kinds of call, deadlines, cancellation, and what a status means to the token.

use std::time::{Duration, Instant};

use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::net::TcpListener;

use super::{in_time, moment, rig_with};
use crate::support::{App2, Call, GrpcServer, Messages, Rig, Sender, eventually, full, pipe, reset_reason};

/// A server and a rig that leads to it; `more` is further lines of the route.
async fn rig_to_grpc(more: &str) -> (Rig, GrpcServer) {
    let server = GrpcServer::start().await;
    let upstream = server.address;
    let route = format!("  - upstream: http://{upstream}\n    token: main\n    http: http2\n    {more}\n");
    (rig_with(|_| format!("routes:\n{route}")).await, server)
}

const CALL: &str = "Content-Type: application/grpc+proto\nTE: trailers\nUser-Agent: grpc-test/1";

/// Begins a call, to which more can be said.
async fn begin(app: &mut App2, path: &str, more: &str) -> (Sender<std::io::Error>, Response<Incoming>) {
    let (say, body) = pipe();
    say.say("hello");
    let request = app.request(&format!("POST {path}\n{CALL}{more}"), body.boxed_unsync());
    (say, app.send(request).await.unwrap())
}

/// Makes a call with one message: the answer's head, messages and trailers.
async fn call(rig: &Rig, path: &str, more: &str) -> (HeaderMap, Vec<String>, Option<HeaderMap>) {
    let mut app = rig.app2().await;
    let (say, body) = pipe();
    say.say("hello");
    drop(say);
    let request = app.request(&format!("POST {path}\n{CALL}{more}"), body.boxed_unsync());
    let response = app.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let mut messages = Messages::of(response.into_body());
    (headers, in_time(messages.rest()).await, messages.trailers)
}

fn status(trailers: &HeaderMap) -> &str {
    trailers["grpc-status"].to_str().unwrap()
}

fn tokens(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.headers["authorization"].to_str().unwrap()).collect()
}

#[tokio::test]
async fn calls_of_all_four_kinds_arrive_and_are_answered() {
    let (rig, server) = rig_to_grpc("").await;
    for (path, answer) in [("/unary", vec!["hello"]), ("/three", vec!["one", "two", "three"]), ("/count", vec!["1"])] {
        let (headers, messages, trailers) = call(&rig, path, "\nGrpc-Timeout: 00012S\nX-Bin: AAEC").await;
        assert_eq!(
            (messages, headers["content-type"].as_bytes()),
            (answer.iter().map(ToString::to_string).collect(), b"application/grpc".as_slice())
        );
        let trailers = trailers.unwrap();
        assert_eq!((status(&trailers), &trailers["x-detail"]), ("0", &"yes".parse().unwrap()), "{path}");
        let seen = server.last();
        let seen = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        for (name, value) in [
            ("te", "trailers"),
            ("content-type", "application/grpc+proto"),
            ("grpc-timeout", "00012S"),
            ("x-bin", "AAEC"),
            ("user-agent", "grpc-test/1"),
        ] {
            assert_eq!(seen(name).as_deref(), Some(value), "{path}");
        }
        assert!(seen("connection").is_none() && seen("authorization").unwrap().starts_with("Bearer "));
        eventually("the server has all of it", || server.last().end == Some(Ok(()))).await;
        assert_eq!(server.last().messages, ["hello"]);
    }
}

#[tokio::test]
async fn each_message_passes_while_the_call_goes_on() {
    let (rig, server) = rig_to_grpc("").await;
    let mut app = rig.app2().await;
    let (say, response) = begin(&mut app, "/chat", "").await;
    let mut answers = Messages::of(response.into_body());
    assert_eq!(in_time(answers.next()).await.unwrap().as_deref(), Some("hello"));
    for number in 0..20 {
        say.say(&number.to_string());
        assert_eq!(in_time(answers.next()).await.unwrap(), Some(number.to_string()));
    }
    drop(say);
    assert_eq!(in_time(answers.rest()).await, [""; 0]);
    assert_eq!(status(answers.trailers.as_ref().unwrap()), "0");
    assert_eq!(server.last().messages.len(), 21);
}

#[tokio::test]
async fn a_call_is_as_silent_as_it_likes() {
    let (rig, server) = rig_to_grpc("timeouts: {headers: 150ms, body_idle: 150ms}").await;
    // The head late, with a deadline and without one; and nothing at all for long, in either direction.
    for more in ["", "\ngrpc-timeout: 9S"] {
        let (_, _, trailers) = call(&rig, "/slow", more).await;
        assert_eq!(status(&trailers.unwrap()), "0", "{more}");
    }
    let mut app = rig.app2().await;
    let (say, response) = begin(&mut app, "/chat", "").await;
    let mut answers = Messages::of(response.into_body());
    in_time(answers.next()).await.unwrap();
    moment(800).await;
    say.say("later");
    assert_eq!(in_time(answers.next()).await.unwrap().as_deref(), Some("later"));
    // All else has the route's limits, on the same connection.
    let other = app.ask("GET /hang").await;
    assert_eq!((other.status, other.reason().as_str()), (504, "upstream_timeout"));
    assert_eq!(server.last().path, "/hang");
}

#[tokio::test]
async fn a_call_whose_deadline_has_passed_is_given_up() {
    let (rig, server) = rig_to_grpc("timeouts: {headers: 100ms}").await;
    let begun = Instant::now();
    let (headers, ..) = call(&rig, "/hang", "\ngrpc-timeout: 400m").await;
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    // It may have been carried out: not what retries are for.
    assert_eq!((status(&headers), &headers["bearerd-reason"]), ("4", &"upstream_timeout".parse().unwrap()));
    eventually("the server hears of it", || matches!(server.last().end, Some(Err(_)) | Some(Ok(())))).await;
}

#[tokio::test]
async fn a_refusal_of_our_own_is_an_answer_of_trailers_alone() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let routes = format!(
        "routes:\n  - {{upstream: 'http://{dead}', token: main, match: {{path: /dead}}}}\n  \
         - {{upstream: 'http://{dead}', token: main, match: {{path: /few}}, allow: [{{methods: [GET], path: /few}}]}}\n"
    );
    let rig = rig_with(|_| routes).await;
    let mut app = rig.app2().await;
    for (path, code, reason) in [
        ("/elsewhere", "12", "no_route"),
        ("/few", "7", "not_allowed"),
        ("/dead/../x", "13", "bad_path"),
        ("/dead", "14", "upstream_refused"),
    ] {
        let request = app.request(&format!("POST {path}\n{CALL}"), full(""));
        let response = app.send(request).await.unwrap();
        let headers = response.headers().clone();
        assert_eq!((response.status().as_u16(), status(&headers)), (200, code), "{path}");
        assert!(response.body().is_end_stream(), "{path}: nothing stands behind the head");
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["bearerd-reason"], reason);
        assert!(headers["proxy-status"].to_str().unwrap().starts_with("bearerd; error="), "{headers:?}");
        assert!(headers["grpc-message"].to_str().unwrap().starts_with("bearerd: "), "{headers:?}");
        let other = app.ask(&format!("POST {path}\nContent-Type: application/grpc-web")).await;
        assert_eq!(other.reason(), reason, "what is no gRPC is told as ever");
    }
    assert!(rig.proxy.page("/metrics").await.text().contains("code=\"502\""), "counted as what it means");
}

#[tokio::test]
async fn a_call_that_is_refused_for_its_token_is_made_again_with_a_new_one() {
    for path in ["/refuses/only", "/refuses/behind"] {
        let (rig, server) = rig_to_grpc("").await;
        call(&rig, "/unary", "").await;
        server.reject();
        let (_, messages, trailers) = call(&rig, path, "").await;
        assert_eq!((messages, status(&trailers.unwrap())), (vec!["hello".to_owned()], "0"), "{path}");
        let calls = server.calls();
        let tokens = tokens(&calls);
        assert_eq!((calls.len(), calls[2].messages.as_slice()), (3, &["hello".to_owned()][..]), "{path}");
        assert!(tokens[0] == tokens[1] && tokens[1] != tokens[2], "{path}");
    }
}

#[tokio::test]
async fn a_refusal_behind_messages_stands_and_renews_the_token() {
    let (rig, server) = rig_to_grpc("").await;
    call(&rig, "/unary", "").await;
    server.reject();
    let asked = rig.provider.count();
    let (_, messages, trailers) = call(&rig, "/refuses/late", "").await;
    assert_eq!((messages, status(&trailers.unwrap())), (vec!["before".to_owned()], "16"));
    assert_eq!(server.calls().len(), 2, "it is not made again");
    eventually("there is another token", || rig.provider.count() == asked + 1).await;
    let (_, messages, _) = call(&rig, "/refuses/late", "").await;
    assert_eq!(messages, ["hello"], "and it is taken");
}

#[tokio::test]
async fn a_call_that_the_app_gives_up_ends_at_the_server() {
    let (rig, server) = rig_to_grpc("").await;
    // Before there is an answer, and in the middle of one.
    let mut app = rig.app2().await;
    let (say, body) = pipe::<std::io::Error>();
    say.say("hello");
    let request = app.request(&format!("POST /hang\n{CALL}"), body.boxed_unsync());
    let asking = tokio::time::timeout(Duration::from_millis(300), app.send(request));
    assert!(asking.await.is_err(), "no answer");
    drop(say);
    eventually("the server hears of it", || server.last().end.is_some()).await;
    assert!(matches!(server.last().end, Some(Err(_))), "{:?}", server.last().end);
    for reason in [h2::Reason::CANCEL, h2::Reason::ENHANCE_YOUR_CALM] {
        let (say, _response) = begin(&mut app, "/chat", "").await;
        assert_eq!(server.last().end, None);
        say.cancel(reason);
        eventually("the server hears of it", || server.last().end.is_some()).await;
        assert_eq!(server.last().end, Some(Err(Some(reason))));
    }
}

#[tokio::test]
async fn a_call_that_the_server_resets_is_reset_for_the_app() {
    let (rig, _server) = rig_to_grpc("").await;
    let mut app = rig.app2().await;
    for (path, reason) in [("/reset", h2::Reason::INADEQUATE_SECURITY), ("/reset/quietly", h2::Reason::INTERNAL_ERROR)]
    {
        let (_say, response) = begin(&mut app, path, "").await;
        let mut answers = Messages::of(response.into_body());
        assert_eq!(in_time(answers.next()).await.unwrap().as_deref(), Some("before"));
        let error = in_time(answers.next()).await.expect_err("no clean end");
        assert_eq!(reset_reason(&error), Some(reason), "{path}");
    }
    assert_eq!(app.get("/unary").await.status, 200, "the connection goes on");
}
