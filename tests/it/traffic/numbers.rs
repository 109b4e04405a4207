//! The numbers: known requests, and what `/status` and `/metrics` say of them afterwards.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::{Instant, SystemTime};

use bearerd::demo::answer::{Answer, Latch};
use bearerd::tls::certificate::validity;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{moment, rig_with, route};
use crate::support::{self, App, Options, PATIENCE, Proxy, Rig};

/// `/status`, once `holds` does of it: an exchange is counted at its very end, which is a moment behind its last byte.
async fn status_when(rig: &Rig, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = rig.proxy.page("/status").await.json();
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:#}");
        moment(10).await;
    }
}

/// The value of a sample of `/metrics`.
async fn metric(rig: &Rig, sample: &str) -> Option<f64> {
    let page = rig.proxy.page("/metrics").await;
    page.text().lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

fn named<'a>(status: &'a Value, route: &str) -> &'a Value {
    status["routes"].as_array().unwrap().iter().find(|other| other["name"] == route).unwrap()
}

/// Where nothing listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Three routes (`api`, of which POST is not allowed; `away`, where nothing listens; `quiet`, which nobody asks).
async fn three_routes() -> Rig {
    rig_with(|rig| {
        let api = route(rig, "api", "", "allow: [{methods: [GET], path: /**}]\nlimits: {in_flight: 1, queue: 5}");
        let away = closed_port();
        format!(
            "listen: {{name: app, address: '127.0.0.1:0'}}\nlimits: {{connections: 77}}\nroutes:\n{api}  - name: away\n    \
             upstream: http://127.0.0.1:{away}\n    token: main\n    match: {{path: /away}}\n  - name: quiet\n    \
             upstream: http://127.0.0.1:{away}\n    token: none\n    match: {{path: /quiet}}\n"
        )
    })
    .await
}

#[tokio::test]
async fn known_requests_are_counted_to_the_last_one() {
    let rig = three_routes().await;
    let mut app = rig.app().await;
    for _ in 0..5 {
        assert_eq!(app.get("/ok").await.status, 200);
    }
    for _ in 0..2 {
        rig.api.script().push(Answer::status(404));
        assert_eq!(app.get("/lost").await.status, 404);
    }
    assert_eq!(app.ask("POST /ok HTTP/1.1\nContent-Length: 0").await.reason(), "not_allowed");
    for _ in 0..3 {
        assert_eq!(app.get("/away").await.reason(), "upstream_refused");
    }
    assert_eq!(app.ask("GET /ok HTTP/1.1\nOrigin: https://evil.test").await.reason(), "web_origin");

    let total = |status: &Value| {
        let routes = status["routes"].as_array().unwrap();
        routes.iter().map(|route| route["requests"].as_u64().unwrap()).sum::<u64>()
    };
    let status = status_when(&rig, |status| total(status) >= 11).await;
    assert_eq!(total(&status), 11, "{status:#}");
    let api = named(&status, "api");
    assert_eq!((&api["requests"], &api["failed"]), (&json!(8), &json!(1)), "{api:#}");
    assert_eq!(api["statuses"], json!({"2xx": 5, "4xx": 3}));
    assert_eq!(api["reasons"], json!({"not_allowed": 1}));
    assert_eq!((&api["upstream_connections"], &api["in_flight"], &api["queued"]), (&json!(1), &json!(0), &json!(0)));
    let latency = &api["latency_seconds"];
    let [p50, p90, p99] = ["p50", "p90", "p99"].map(|which| latency[which].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= 60.0, "{latency}");
    let away = named(&status, "away");
    assert_eq!((&away["requests"], &away["failed"]), (&json!(3), &json!(3)), "{away:#}");
    assert_eq!((&away["statuses"], &away["reasons"]), (&json!({"5xx": 3}), &json!({"upstream_refused": 3})));
    let quiet = named(&status, "quiet");
    for (key, nothing) in
        [("requests", json!(0)), ("reasons", json!({})), ("statuses", json!({})), ("latency_seconds", json!(null))]
    {
        assert_eq!(quiet[key], nothing, "{key}");
    }
    assert_eq!(quiet["history"], json!(null));
    assert_eq!(status["refused"]["totals"], json!({"not_allowed": 1, "upstream_refused": 3, "web_origin": 1}));
    assert_eq!((&status["history"]["step_seconds"], &status["history"]["points"]), (&json!(15), &json!(60)));

    let text = rig.proxy.page("/metrics").await.text().to_owned();
    for line in [
        "bearerd_requests_total{route=\"api\",code=\"200\"} 5",
        "bearerd_requests_total{route=\"api\",code=\"404\"} 2",
        "bearerd_requests_total{route=\"api\",code=\"403\"} 1",
        "bearerd_requests_total{route=\"away\",code=\"502\"} 3",
        "bearerd_failures_total{route=\"api\",reason=\"not_allowed\"} 1",
        "bearerd_failures_total{route=\"away\",reason=\"upstream_refused\"} 3",
        "bearerd_request_duration_seconds_count{route=\"api\"} 8",
        "bearerd_request_duration_seconds_bucket{le=\"+Inf\",route=\"away\"} 3",
        "bearerd_refused_total{reason=\"web_origin\"} 1",
        "bearerd_upstream_connections{route=\"api\"} 1",
        "bearerd_requests_in_flight{route=\"api\"} 0",
        "bearerd_connections{listener=\"app\"} 1",
        "bearerd_connections_limit 77",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing from\n{text}");
    }
    assert!(!text.contains("quiet"), "of what nobody asks nothing is told:\n{text}");
    assert!(!text.contains("listener=\"admin\""), "who watches does not count:\n{text}");

    let times = ["now", "started_at"].map(|key| humantime::parse_rfc3339(status[key].as_str().unwrap()).unwrap());
    assert!(times[0] >= times[1] && times[0] <= SystemTime::now(), "{times:?}");
    assert!(status["uptime_seconds"].as_f64().unwrap() > 0.0);
    humantime::parse_rfc3339(status["history"]["until"].as_str().unwrap()).unwrap();
}

fn ask(rig: &Rig, path: &'static str) -> JoinHandle<support::Answer> {
    let address = rig.proxy.address;
    tokio::spawn(async move { App::connect(address).await.get(path).await })
}

#[tokio::test]
async fn gauges_say_what_is_under_way_and_return_to_zero() {
    let rig = three_routes().await;
    let latch = Latch::new();
    let by = latch.clone();
    rig.api.script().when(move |_| Some(Answer::Serve.held_by(&by)));
    let asked: Vec<_> = (0..3).map(|_| ask(&rig, "/held")).collect();
    let status = status_when(&rig, |status| named(status, "api")["queued"] == 2).await;
    assert_eq!(named(&status, "api")["in_flight"], 1);
    assert_eq!(named(&status, "api")["requests"], 0, "none has ended");
    for (sample, value) in [
        ("bearerd_requests_in_flight{route=\"api\"}", 1.0),
        ("bearerd_requests_queued{route=\"api\"}", 2.0),
        ("bearerd_connections{listener=\"app\"}", 3.0),
    ] {
        assert_eq!(metric(&rig, sample).await, Some(value), "{sample}");
    }
    latch.open();
    for one in asked {
        assert_eq!(one.await.unwrap().status, 200);
    }
    // Apps whose connection goes away with the tab and the request.
    for sample in [
        "bearerd_requests_in_flight{route=\"api\"}",
        "bearerd_requests_queued{route=\"api\"}",
        "bearerd_connections{listener=\"app\"}",
    ] {
        let deadline = Instant::now() + PATIENCE;
        while metric(&rig, sample).await != Some(0.0) {
            assert!(Instant::now() < deadline, "{sample} returns to zero");
            moment(10).await;
        }
    }
    // The upstream's goes with the upstream.
    rig.api.stop().await;
    let deadline = Instant::now() + PATIENCE;
    while metric(&rig, "bearerd_upstream_connections{route=\"api\"}").await != Some(0.0) {
        assert!(Instant::now() < deadline, "upstream connections return to zero");
        moment(10).await;
    }
}

#[tokio::test]
async fn the_end_of_a_listeners_certificate_is_told() {
    let rig = rig_with(|rig| {
        let identity = rig.ca.identity(&["localhost"]).unwrap();
        rig.folder.write("cert.pem", &identity.cert_pem);
        rig.folder.write("key.pem", &identity.key_pem);
        let route = route(rig, "api", "", "");
        format!(
            "listen: {{name: egress, address: '127.0.0.1:0', tls: {{cert_file: cert.pem, key_file: key.pem}}}}\n\
             routes:\n{route}"
        )
    })
    .await;
    let certificate = CertificateDer::from_pem_file(rig.folder.path("cert.pem")).unwrap();
    let end = validity(&certificate).unwrap().until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert_eq!(metric(&rig, "bearerd_certificate_expiry_timestamp_seconds{listener=\"egress\"}").await, Some(end));
}

#[tokio::test]
async fn ten_thousand_routes_make_no_large_scrape_and_a_bounded_status() {
    let mut rig = Rig::ready(Options::default()).await;
    let mut document = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nroutes:\n".to_owned();
    for index in 0..10_000 {
        writeln!(
            document,
            "- {{name: route-{index}, token: none, upstream: 'http://127.0.0.1:9', match: {{host: a-{index}.test}}}}"
        )
        .unwrap();
    }
    rig.folder.write("bearerd.yaml", &document);
    rig.proxy = Proxy::start(&rig.folder);
    rig.proxy.until_ready().await;
    let mut app = rig.app().await;
    assert_eq!(app.ask("GET / HTTP/1.1\nHost: a-77.test").await.reason(), "upstream_refused");
    let status = status_when(&rig, |status| status["routes"][77]["requests"] == 1).await;
    assert_eq!(status["routes"].as_array().unwrap().len(), 10_000);
    assert!(status["routes"].as_array().unwrap().iter().all(|route| route["history"].is_null()));
    let length = rig.proxy.page("/status").await.body.len();
    assert!(length < 10_000 * 300, "{length} bytes");
    let length = rig.proxy.page("/metrics").await.body.len();
    assert!(length < 16 * 1024, "{length} bytes");
}
