//! A token that the API does not take: one renewal, shared and rationed, and the API's own answer where that is no cure.

use std::time::Duration;

use bearerd::demo::answer::{Answer, Latch};
use bearerd::demo::api::Verdict;
use http::HeaderName;
use serde_json::json;

use super::{Bench, burst, newest, renewable, times_said};
use crate::support::{PATIENCE, Rig, eventually};

/// Refusals may force a renewal almost at once.
const QUICK: &str = "refresh: {min_interval: 100ms}";

async fn ready(token: &str) -> Rig {
    let rig = Bench::new().await.start(token);
    rig.proxy.until_ready().await;
    renewable(&rig).await;
    rig
}

#[tokio::test]
async fn a_token_that_the_api_refuses_is_renewed_and_the_request_sent_again() {
    let rig = ready(QUICK).await;
    let first = newest(&rig);
    rig.api.reject(first);
    let answer = rig.get("/orders?a=1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(rig.provider.count(), 2);
    let seen = rig.api.requests();
    let verdicts: Vec<_> = seen.iter().map(|seen| seen.verdict).collect();
    assert_eq!(verdicts, [Verdict::Rejected, Verdict::Good]);
    assert_eq!(seen[0].token_fingerprint, Some(first));
    assert_eq!(seen[1].token_fingerprint, Some(newest(&rig)));
    assert_eq!((seen[1].target.as_str(), seen[1].authorization_lines), ("/orders?a=1", 1));
    rig.proxy.until_said("an upstream did not take token 1; renewing it").await;
    assert_eq!(rig.get("/").await.status, 200);
    assert_eq!(rig.provider.count(), 2);
}

#[tokio::test]
async fn a_hundred_refused_requests_share_one_renewal() {
    const REQUESTS: usize = 100;
    let rig = ready(QUICK).await;
    rig.api.reject(newest(&rig));
    let latch = Latch::new();
    rig.api.script().always(Answer::Serve.held_by(&latch));
    let answers = burst(&rig, REQUESTS).await;
    // Each was judged when it arrived; now all hear of it at once.
    rig.api.wait_for(REQUESTS, PATIENCE).await.unwrap();
    latch.open();
    for answer in answers.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(rig.provider.count(), 2);
    assert_eq!(rig.api.count_of(Verdict::Rejected), REQUESTS as u64);
    assert_eq!(rig.api.count_of(Verdict::Good), REQUESTS as u64);
}

#[tokio::test]
async fn an_api_that_takes_no_token_costs_the_provider_next_to_nothing() {
    let rig = ready(QUICK).await;
    rig.api.script().always(Answer::json(401, &json!({"error": "the API's own"})).header("x-own", "yes"));
    let since = tokio::time::Instant::now();
    let mut requests = 0;
    while since.elapsed() < Duration::from_secs(3) {
        let answer = rig.get("/").await;
        assert_eq!((answer.status, answer.header("x-own")), (401, Some("yes")), "{answer:?}");
        assert_eq!(answer.json()["error"], "the API's own");
        requests += 1;
    }
    assert!(requests > 3);
    // The first token and one renewal; the next may be forced after `after_401`, ten seconds.
    assert!(rig.provider.count() as u64 <= 2 + since.elapsed().as_secs() / 10, "{}", rig.proxy.said());
    assert!(rig.api.count() <= requests + 2, "no more than one replay for each renewal");
}

#[tokio::test]
async fn a_provider_that_grants_the_same_token_again_is_not_asked_in_a_loop() {
    let bench = Bench::new().await;
    let same = json!({"access_token": "the-same-again", "token_type": "Bearer", "expires_in": 3600});
    bench.provider.script().always(Answer::json(200, &same));
    let rig = bench.start("refresh: {min_interval: 100ms, after_401: 1s}");
    rig.proxy.until_ready().await;
    renewable(&rig).await;
    let since = tokio::time::Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert_eq!(rig.get("/").await.status, 401, "nobody signed that token");
    }
    // Forced at 0 s, at 1 s, and then no sooner than at 3 s.
    assert!(rig.provider.count() as u64 <= 3 + since.elapsed().as_secs() / 2, "{}", rig.proxy.said());
    rig.api.accept("the-same-again");
    assert_eq!(rig.get("/").await.status, 200, "a refusal withdraws nothing");
}

#[tokio::test]
async fn a_refusal_while_the_provider_is_away_withdraws_nothing() {
    let rig = ready(QUICK).await;
    let token = newest(&rig);
    rig.provider.stop().await;
    rig.api.reject(token);
    let answer = rig.get("/").await;
    assert_eq!((answer.status, &*answer.json()["error"].to_string()), (401, "\"invalid_token\""), "{answer:?}");
    rig.proxy.until_said("no token as app: ").await;
    rig.api.forgive(token);
    assert_eq!(rig.get("/").await.status, 200);
    assert_eq!(rig.api.requests().last().unwrap().token_fingerprint, Some(token));
    rig.provider.restart().await.unwrap();
    eventually("the renewal is made up for", || times_said(&rig, ": got token ") == 2).await;
}

#[tokio::test]
async fn what_a_fresh_token_would_not_cure_renews_nothing() {
    let rig = ready(QUICK).await;
    for (status, challenge) in [
        (401, "Basic realm=\"x\""),
        (401, "Bearer error=\"insufficient_scope\", scope=\"admin\""),
        (403, "Bearer error=\"insufficient_scope\""),
        (403, "Bearer error=\"invalid_token\""),
        (407, "Bearer"),
    ] {
        rig.api.script().push(Answer::status(status).header("www-authenticate", challenge).body("own"));
        let answer = rig.get("/").await;
        assert_eq!((answer.status, answer.text()), (status, "own"), "{challenge}");
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "the app may read why");
    }
    assert_eq!(rig.get("/").await.status, 200);
    assert_eq!((rig.provider.count(), rig.api.count()), (1, 6));
    assert_eq!(times_said(&rig, "did not take token"), 0);
}

#[tokio::test]
async fn renewal_on_refusal_can_be_turned_off_and_extended() {
    let bench = Bench::new().await;
    let token = bench.usual() + QUICK;
    let off = bench.route() + "match: {path: /off}\nrenew_on: off\n";
    let more = bench.route() + "renew_on: {statuses: [401, 419]}\n";
    let rig = bench.run(&[("main", &token)], &[("off", &off), ("more", &more)]);
    rig.proxy.until_ready().await;
    renewable(&rig).await;
    rig.api.reject(newest(&rig));
    for _ in 0..3 {
        assert_eq!(rig.get("/off").await.status, 401);
    }
    assert_eq!((rig.provider.count(), rig.api.count()), (1, 3));
    rig.api.forgive(newest(&rig));
    rig.api.script().push(Answer::status(419));
    assert_eq!(rig.get("/").await.status, 200);
    assert_eq!(rig.provider.count(), 2);
}

#[tokio::test]
async fn a_token_goes_where_and_as_the_route_says() {
    for (header, scheme) in [("x-api-token", ""), ("x-api-token", "Token"), ("authorization", "OAuth")] {
        let bench = Bench::with(
            |_| {},
            |api| {
                api.header = HeaderName::from_static(header);
                api.scheme = scheme.to_owned();
            },
        )
        .await;
        let token = bench.usual() + QUICK;
        let route = bench.route() + &format!("inject: {{header: {header}, scheme: '{scheme}'}}\n");
        let rig = bench.run(&[("main", &token)], &[("api", &route)]);
        rig.proxy.until_ready().await;
        renewable(&rig).await;
        let ask = format!("GET / HTTP/1.1\n{header}: Forged one\n{header}: two");
        assert_eq!(rig.app().await.ask(&ask).await.status, 200, "{header}: {scheme}");
        rig.api.reject(newest(&rig));
        assert_eq!(rig.app().await.ask(&ask).await.status, 200, "{header}: {scheme}, after a refusal");
        for seen in rig.api.requests() {
            assert_eq!(seen.authorization_lines, 1, "{seen:?}");
            assert!(header == "authorization" || seen.header("authorization").is_empty(), "{seen:?}");
        }
        assert_eq!(rig.provider.count(), 2);
    }
}
