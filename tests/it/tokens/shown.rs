//! What dashboards and people see of tokens, and that each route carries its own.

use std::time::{Duration, SystemTime};

use bearerd::demo::answer::Answer;
use bearerd::demo::api::Verdict;
use serde_json::json;

use super::{Bench, EAGER, LIFE, grants, newest};
use crate::support::{CLIENT, Rig, SECRET, eventually};

async fn metrics(rig: &Rig) -> String {
    rig.proxy.page("/metrics").await.text().to_owned()
}

/// The value of a sample.
fn value(metrics: &str, sample: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// The state whose gauge is 1, after checking that the others are 0.
fn state(metrics: &str) -> &'static str {
    let of = |state: &str| value(metrics, &format!("bearerd_token_state{{token=\"main\",state=\"{state}\"}}"));
    let states = ["none", "fresh", "stale", "expired"];
    let on: Vec<_> = states.into_iter().filter(|state| of(state) == Some(1.0)).collect();
    assert_eq!(states.into_iter().filter(|state| of(state) == Some(0.0)).count(), 3, "{metrics}");
    assert_eq!(on.len(), 1, "{metrics}");
    on[0]
}

#[tokio::test]
async fn metrics_count_token_requests_by_outcome_and_show_one_state() {
    let bench = Bench::with(|settings| settings.life = LIFE, |_| {}).await;
    bench.provider.script().push(Answer::status(500));
    bench.provider.script().push(Answer::json(401, &json!({"error": "invalid_client"})));
    let rig = bench.start("refresh: {early: 25%}");
    rig.proxy.until_said("answered 500").await;
    let early = metrics(&rig).await;
    assert_eq!(state(&early), "none");
    assert_eq!(value(&early, "bearerd_token_expiry_timestamp_seconds{token=\"main\"}"), None);
    rig.proxy.until_ready().await;
    let text = metrics(&rig).await;
    let count =
        |outcome| value(&text, &format!("bearerd_token_requests_total{{token=\"main\",outcome=\"{outcome}\"}}"));
    assert_eq!([count("failed"), count("rejected"), count("granted")], [Some(1.0); 3], "{text}");
    assert_eq!(state(&text), "fresh");
    let expiry = value(&text, "bearerd_token_expiry_timestamp_seconds{token=\"main\"}").unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let left = expiry - now;
    assert!(left > 0.0 && left < LIFE.as_secs_f64(), "{left} s left of {LIFE:?}");
    assert!(text.contains("# EOF"), "{text}");
}

#[tokio::test]
async fn status_tells_of_a_token_all_but_the_token() {
    let rig = Bench::with(|settings| settings.life = LIFE, |_| {}).await.start(EAGER);
    rig.proxy.until_ready().await;
    let token = |status: &serde_json::Value| status["tokens"][0].clone();
    let fresh = token(&rig.proxy.page("/status").await.json());
    assert_eq!(fresh["name"], "main");
    assert_eq!(fresh["state"], "fresh");
    assert_eq!(fresh["required"], true);
    assert_eq!(fresh["generation"], grants(&rig));
    assert_eq!(fresh["credential"], json!({"client_id": CLIENT, "index": 0}));
    assert_eq!(fresh["failures"], 0);
    assert_eq!(fresh["last_error"], json!(null));
    assert!(
        fresh["usable_for_seconds"].as_f64().is_some_and(|left| left > 0.0 && left < LIFE.as_secs_f64()),
        "{fresh}"
    );
    assert!(fresh["usable_until"].as_str().is_some_and(|until| humantime::parse_rfc3339(until).is_ok()), "{fresh}");

    rig.provider.script().always(Answer::status(500));
    rig.proxy.until_said("answered 500").await;
    let stale = token(&rig.proxy.page("/status").await.json());
    assert_eq!(stale["state"], "stale");
    assert_eq!(stale["last_error"]["what"], "the token endpoint answered 500 Internal Server Error");
    assert!(stale["failures"].as_u64().is_some_and(|failures| failures >= 1), "{stale}");
    assert!(stale["asking"] == true || stale["next_attempt_in_seconds"].as_f64().is_some(), "{stale}");

    let held = grants(&rig);
    rig.provider.script().clear();
    eventually("it is renewed", || grants(&rig) > held).await;
    let again = token(&rig.proxy.page("/status").await.json());
    assert_eq!((&again["state"], &again["last_error"]), (&json!("fresh"), &json!(null)));
    assert_eq!(again["fingerprint"], newest(&rig).to_string());
    let routes = rig.proxy.page("/status").await.json()["routes"].clone();
    assert_eq!((&routes[0]["name"], &routes[0]["token"]), (&json!("api"), &json!("main")));
}

#[tokio::test]
async fn what_the_provider_answered_is_told_and_what_was_bought() {
    let bench = Bench::with(|settings| settings.life = Duration::from_secs(3_600), |_| {}).await;
    bench.provider.script().push(Answer::json(401, &json!({"error": "invalid_client"})));
    bench.provider.script().push(Answer::status(500));
    bench.provider.script().push(Answer::status(503).header("retry-after", "1"));
    let rig = bench.start("budget: 60/1h");
    rig.proxy.until_ready().await;
    let status = rig.proxy.page("/status").await.json();
    let token = &status["tokens"][0];
    let answers = token["answers"].as_array().unwrap();
    let told: Vec<_> = answers.iter().map(|answer| (answer["outcome"].as_str(), answer["what"].as_str())).collect();
    let expected = [
        (Some("granted"), None),
        (Some("limited"), Some("the token endpoint answered 503 Service Unavailable; it asks to be left alone for 1s")),
        (Some("failed"), Some("the token endpoint answered 500 Internal Server Error")),
        (Some("rejected"), Some("the token endpoint answered 401 Unauthorized (invalid_client)")),
    ];
    assert_eq!(told, expected, "{token:#}");
    for answer in answers {
        assert_eq!(answer["credential"], CLIENT);
        assert!(answer["took_seconds"].as_f64().is_some_and(|took| (0.0..20.0).contains(&took)), "{answer}");
        assert!(answer["at"].as_str().is_some_and(|at| humantime::parse_rfc3339(at).is_ok()), "{answer}");
    }
    assert_eq!(answers[0]["fingerprint"], newest(&rig).to_string());
    assert_eq!(answers[1]["fingerprint"], json!(null));
    // Midnight may come between the grant and the look; then it is another day.
    let bought = token["bought_today"].as_u64().unwrap();
    assert!(
        bought == 1 || answers[0]["at"].as_str().unwrap()[..10] != status["now"].as_str().unwrap()[..10],
        "{token:#}"
    );
    assert_eq!(token["budget"], json!({"limit": 60, "per_seconds": 3_600, "left": 56}));
    assert_eq!(token["life_seconds"], 3_600.0);
    assert_eq!(token["next_attempt_why"], "a planned renewal");
    let at = |key: &str| humantime::parse_rfc3339(token[key].as_str().unwrap()).unwrap();
    let renewal = at("renew_at").duration_since(at("issued_at")).unwrap().as_secs();
    assert!((2_400..=2_700).contains(&renewal), "{renewal} s after it was asked for: {token:#}");
    let ahead = |key: &str| token[key].as_f64().unwrap();
    assert!((ahead("renew_in_seconds") - ahead("next_attempt_in_seconds")).abs() < 0.01, "{token:#}");

    let text = metrics(&rig).await;
    for (sample, expected) in [
        ("bearerd_token_requests_total{token=\"main\",outcome=\"limited\"}", 1.0),
        ("bearerd_token_requests_total{token=\"main\",outcome=\"granted\"}", 1.0),
        ("bearerd_token_request_duration_seconds_count{token=\"main\"}", 4.0),
        ("bearerd_token_lifetime_seconds{token=\"main\"}", 3_600.0),
        ("bearerd_token_budget_limit{token=\"main\"}", 60.0),
        ("bearerd_token_budget_left{token=\"main\"}", 56.0),
        ("bearerd_token_waits_total{token=\"main\"}", 0.0),
        ("bearerd_token_refused_total{token=\"main\"}", 0.0),
    ] {
        assert_eq!(value(&text, sample), Some(expected), "{sample} in\n{text}");
    }
    let renewal = value(&text, "bearerd_token_renewal_timestamp_seconds{token=\"main\"}").unwrap();
    let expiry = value(&text, "bearerd_token_expiry_timestamp_seconds{token=\"main\"}").unwrap();
    assert!(expiry - renewal > 800.0 && expiry - renewal < 1_200.0, "{renewal} {expiry}");
    let next = value(&text, "bearerd_token_next_request_timestamp_seconds{token=\"main\"}").unwrap();
    assert!((next - renewal).abs() < 1.0, "{next} {renewal}");
    let again = metrics(&rig).await;
    assert_eq!(
        value(&again, "bearerd_token_renewal_timestamp_seconds{token=\"main\"}"),
        Some(renewal),
        "it does not move"
    );
}

#[tokio::test]
async fn why_it_asks_next_is_told_and_who_waits_is_counted() {
    let bench = Bench::new().await;
    bench.provider.script().push(Answer::status(429).header("retry-after", "2"));
    let rig = bench.start("");
    rig.proxy.until_said("answered 429").await;
    let token = rig.proxy.page("/status").await.json()["tokens"][0].clone();
    assert_eq!(token["next_attempt_why"], "the provider said Retry-After", "{token:#}");
    // In the second before it asks again a request waits for that.
    rig.proxy.until_ready().await;
    let latch = bearerd::demo::answer::Latch::new();
    rig.provider.script().push(Answer::Serve.held_by(&latch));
    rig.api.script().push(Answer::status(401));
    let asking = tokio::spawn({
        let mut app = rig.app().await;
        async move { app.get("/").await.status }
    });
    eventually("the request waits", || rig.provider.count() == 3).await;
    let token = rig.proxy.page("/status").await.json()["tokens"][0].clone();
    assert_eq!((&token["asking"], &token["next_attempt_in_seconds"]), (&json!(true), &json!(null)));
    assert_eq!(token["next_attempt_why"], "an upstream refused the last one");
    latch.open();
    assert_eq!(asking.await.unwrap(), 200);
    let text = metrics(&rig).await;
    assert_eq!(value(&text, "bearerd_token_waits_total{token=\"main\"}"), Some(1.0), "{text}");
    assert_eq!(value(&text, "bearerd_token_refused_total{token=\"main\"}"), Some(1.0), "{text}");
    assert!(
        value(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6)
            || cfg!(not(target_os = "linux"))
    );
}

#[tokio::test]
async fn tokens_of_two_routes_never_mix() {
    let bench = Bench::with(
        |settings| {
            settings.clients.push(("other".to_owned(), "another secret".to_owned()));
            settings.life = Duration::from_secs(2);
        },
        |_| {},
    )
    .await;
    bench.folder.write("other", "another secret");
    let main = bench.usual();
    let other = main.replace(CLIENT, "other").replace("{file: secret}", "{file: other}");
    assert_ne!(SECRET, "another secret");
    let a = bench.route() + "token: main\nmatch: {path: /a}\n";
    let b = bench.route() + "token: other\nmatch: {path: /b}\n";
    let rig = bench.run(&[("main", &main), ("other", &other)], &[("a", &a), ("b", &b)]);
    rig.proxy.until_ready().await;
    let mut app = rig.app().await;
    let renewed = || rig.provider.calls().len() >= 6;
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while !renewed() {
        assert!(tokio::time::Instant::now() < deadline, "{}", rig.proxy.said());
        assert_eq!(app.get("/a/x").await.status, 200);
        assert_eq!(app.get("/b/x").await.status, 200);
    }
    let calls = rig.provider.calls();
    for seen in rig.api.requests() {
        assert_eq!(seen.verdict, Verdict::Good, "{seen:?}");
        let call = calls.iter().find(|call| call.issued == seen.token_fingerprint).unwrap();
        let client = if seen.target == "/a/x" { CLIENT } else { "other" };
        assert_eq!(call.client_id.as_deref(), Some(client), "{seen:?}");
    }
    assert!(calls.iter().any(|call| call.client_id.as_deref() == Some("other")));
}
