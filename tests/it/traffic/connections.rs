//! Connections to the API: used again while they serve, left when they do not, and no request is ever sent twice that
//! may have been taken.

use bearerd::demo::answer::Answer;
use bearerd::demo::steps::Step;

use super::{last, moment, rig_with, route, targets};
use crate::support::{App, Options, Rig, eventually};

async fn post(app: &mut App, path: &str, body: &str) -> crate::support::Answer {
    app.send(app.head(&format!("POST {path} HTTP/1.1\nContent-Length: {}", body.len()))).await;
    app.send(body).await;
    app.answer().await
}

#[tokio::test]
async fn one_connection_serves_many_requests_of_many_apps() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for _ in 0..10 {
        assert_eq!(app.get("/kept").await.status, 200);
        assert_eq!(rig.get("/new").await.status, 200);
        assert_eq!(post(&mut app, "/post", "body").await.status, 200);
    }
    assert_eq!((rig.api.count(), rig.api.counts().accepted()), (30, 1));
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let rig = Rig::ready(Options { route: "timeouts: {pool_idle: 100ms}", ..Options::default() }).await;
    rig.get("/").await;
    assert_eq!(rig.api.counts().accepted(), 1);
    eventually("it is closed", || rig.api.counts().open.now() == 0).await;
    rig.get("/").await;
    moment(150).await;
    rig.get("/").await;
    assert_eq!(rig.api.counts().accepted(), 3, "too old to be used, whether it was closed yet or not");
}

#[tokio::test]
async fn an_old_connection_carries_nothing_more_however_busy_it_is() {
    let rig = Rig::ready(Options { route: "timeouts: {max_age: 400ms}", ..Options::default() }).await;
    let mut app = rig.app().await;
    let begun = std::time::Instant::now();
    while begun.elapsed().as_millis() < 1_000 {
        assert_eq!(app.get("/").await.status, 200);
        moment(10).await;
    }
    let connections = rig.api.counts().accepted();
    assert!((2..=4).contains(&connections), "{connections}");
}

#[tokio::test]
async fn two_routes_never_share_a_connection() {
    let rig = rig_with(|rig| {
        format!("routes:\n{}{}", route(rig, "one", "", ""), route(rig, "two", "", "match: {path: /two}"))
    })
    .await;
    for _ in 0..3 {
        rig.get("/one").await;
        rig.get("/two").await;
    }
    let by: Vec<_> = rig.api.requests().iter().map(|seen| seen.connection_id).collect();
    assert_eq!(by, [by[0], by[1], by[0], by[1], by[0], by[1]]);
    assert_ne!(by[0], by[1]);
}

/// Serves one request honestly, and does `then` with its connection.
fn served_then(then: Vec<Step>) -> Answer {
    let served = Step::Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst".into());
    Answer::Raw([vec![served], then].concat())
}

#[tokio::test]
async fn a_connection_that_the_api_closed_meanwhile_is_no_failure() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for then in [vec![], vec![Step::Cut], vec![Step::Reset]] {
        for method in ["GET", "POST"] {
            rig.api.script().push(served_then(then.clone()));
            assert_eq!(app.get("/first").await.text(), "first");
            eventually("the API closes it", || rig.api.counts().open.now() == 0).await;
            let before = rig.api.count();
            let answer = app.ask(&format!("{method} /second HTTP/1.1\nContent-Length: 0")).await;
            assert_eq!((answer.status, rig.api.count() - before), (200, 1), "{method} after {then:?}: {answer:?}");
            eventually("the next begins anew", || rig.api.script().left() == 0).await;
            rig.api.restart().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_that_is_safe_to_repeat_is_repeated_once_and_nobody_notices() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        rig.api.script().push(served_then(vec![Step::ReadHead, Step::Cut]));
        assert_eq!(app.get("/first").await.text(), "first");
        let before = rig.api.count();
        app.send(app.head(&format!("{method} /second HTTP/1.1\nContent-Length: 4"))).await;
        app.send("body").await;
        let answer = if method == "HEAD" { app.answer_to_head().await } else { app.answer().await };
        assert_eq!((answer.status, rig.api.count() - before), (200, 1), "{method}");
        assert_eq!((last(&rig).body_len, last(&rig).method.as_str()), (4, method));
        rig.api.restart().await.unwrap();
    }
    // Once: an API that does it again has its answer told.
    rig.get("/").await;
    rig.api.script().push(Answer::close());
    rig.api.script().push(Answer::close());
    rig.api.log().clear();
    let answer = app.get("/second").await;
    assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_reset"));
    assert_eq!(targets(&rig).len(), 2);
}

#[tokio::test]
async fn a_request_that_may_have_been_taken_is_never_sent_twice() {
    let rig =
        Rig::ready(Options { route: "allow: [{methods: [GET, POST, PATCH, PURGE]}]", ..Options::default() }).await;
    for reused in [false, true] {
        for (method, answer) in [
            ("POST", Answer::close()),
            ("POST", Answer::reset()),
            ("PATCH", Answer::close()),
            ("PURGE", Answer::close()),
            ("POST", Answer::raw("HTTP/1.1 200 OK\r\nConten")),
        ] {
            rig.api.restart().await.unwrap();
            let mut app = rig.app().await;
            if reused {
                assert_eq!(app.get("/first").await.status, 200);
            }
            rig.api.log().clear();
            rig.api.script().push(answer.clone());
            app.send(app.head(&format!("{method} /once HTTP/1.1\nContent-Length: 4"))).await;
            app.send("body").await;
            let got = app.answer().await;
            assert_eq!((got.status, got.reason().as_str()), (502, "upstream_reset"), "{method} {answer:?} {reused}");
            assert_eq!(targets(&rig), ["/once"], "{method} {answer:?} {reused}");
        }
    }
}

#[tokio::test]
async fn a_head_that_was_taken_and_cut_is_never_sent_twice() {
    let rig = Rig::ready(Options::default()).await;
    for steps in
        [vec![Step::ReadHead, Step::Cut], vec![Step::ReadHead, Step::Reset], vec![Step::ReadHead, Step::Read(4)]]
    {
        rig.api.script().push(served_then(steps.clone()));
        let mut app = rig.app().await;
        app.get("/first").await;
        rig.api.log().clear();
        let answer = post(&mut app, "/once", "body").await;
        assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_reset"), "{steps:?}");
        assert!(targets(&rig).is_empty(), "{:?}", targets(&rig));
        rig.api.restart().await.unwrap();
    }
}

#[tokio::test]
async fn an_api_that_is_down_is_refused_and_served_again_when_it_is_back() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for _ in 0..3 {
        assert_eq!(app.get("/").await.status, 200);
        rig.api.stop().await;
        for method in ["GET", "POST"] {
            let answer = app.ask(&format!("{method} / HTTP/1.1\nContent-Length: 0")).await;
            assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_refused"), "{method}");
        }
        rig.api.restart().await.unwrap();
    }
    assert_eq!(app.get("/").await.status, 200);
}
