//! A provider that is away: shorter than a token lives, longer, and for a token that nobody uses.

use std::time::Duration;

use bearerd::demo::api::Verdict;

use super::{Bench, EAGER, LIFE, grants, no_token, times_said, until_served};
use crate::support::{PATIENCE, Rig, eventually};

async fn ready(life: Duration, token: &str) -> Rig {
    let rig = Bench::with(|settings| settings.life = life, |_| {}).await.start(token);
    rig.proxy.until_ready().await;
    rig
}

#[tokio::test]
async fn an_outage_that_a_token_outlives_fails_no_request() {
    let rig = ready(LIFE, EAGER).await;
    rig.provider.stop().await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // Longer than the first backoff.
    while times_said(&rig, "no token as app: ") < 2 {
        assert!(tokio::time::Instant::now() < deadline, "{}", rig.proxy.said());
        let answer = rig.get("/").await;
        assert_eq!(answer.status, 200, "{answer:?}\n{}", rig.proxy.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rig.proxy.page("/status").await.json()["tokens"][0]["state"], "stale");
    let held = grants(&rig);
    rig.provider.restart().await.unwrap();
    eventually("it is renewed", || grants(&rig) > held).await;
    assert_eq!(until_served(&rig).await, 0);
    assert_eq!(rig.api.count_of(Verdict::Good), rig.api.count());
    assert_eq!(rig.proxy.page("/status").await.json()["tokens"][0]["state"], "fresh");
}

#[tokio::test]
async fn after_an_expired_token_nothing_is_forwarded_until_there_is_another() {
    let rig = ready(Duration::from_secs(3), "").await;
    assert_eq!(rig.get("/").await.status, 200);
    rig.provider.stop().await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let first = loop {
        let answer = rig.get("/").await;
        if answer.status != 200 {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", rig.proxy.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    no_token(&first);
    let forwarded = rig.api.count();
    for _ in 0..20 {
        let answer = rig.get("/").await;
        assert!(no_token(&answer) <= 30, "{answer:?}");
    }
    assert_eq!(rig.api.count(), forwarded);
    assert_eq!(rig.proxy.page("/status").await.json()["tokens"][0]["state"], "expired");
    assert_eq!(rig.proxy.page("/readyz").await.status, 200, "another replica would fare no better");
    rig.provider.restart().await.unwrap();
    until_served(&rig).await;
    assert_eq!(rig.api.count_of(Verdict::Good), rig.api.count(), "and none with an expired token");
}

#[tokio::test]
async fn a_token_that_nobody_uses_is_not_renewed_if_it_need_not_be() {
    let rig = ready(Duration::from_secs(2), "refresh: {when_idle: off}").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while rig.proxy.page("/status").await.json()["tokens"][0]["state"] != "expired" {
        assert!(tokio::time::Instant::now() < deadline, "{}", rig.proxy.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rig.provider.count(), 1);
    assert_eq!(rig.get("/").await.status, 200, "who wants one waits for one");
    assert_eq!(rig.provider.count(), 2);
    // That one was used, so it is renewed without being asked for.
    rig.provider.wait_for(3, PATIENCE).await.unwrap();
    assert_eq!(rig.api.count_of(Verdict::Good), rig.api.count());
}
