//! What a route lets through: methods and paths, by the bytes that are sent, and nothing that says other ones.

use super::{last, rig_with, route, targets};
use crate::support::{API, App, Options, Rig};

pub(super) const RULES: &str =
    "allow: [{methods: [GET], path: /v2/reports/**}, {methods: [POST, PURGE], path: '/v2/jobs/*.json'}]";

/// By paths of our own, below a route with [`RULES`] and one that strips its prefix; and what arrives.
pub(super) const ALLOWED: [(&str, &str); 6] = [
    ("GET /v2/reports", "/base/v2/reports"),
    ("GET /v2/reports/a/b?c=/../x", "/base/v2/reports/a/b?c=/../x"),
    ("GET /v2/reports/%C3%BC", "/base/v2/reports/%C3%BC"),
    ("POST /v2/jobs/x.json", "/base/v2/jobs/x.json"),
    ("PURGE /v2/jobs/.json", "/base/v2/jobs/.json"),
    ("PUT /s/reports/x", "/other/reports/x"),
];

/// What nothing there allows.
pub(super) const REFUSED: [&str; 14] = [
    "GET /v2/reportsx",
    "GET /v2",
    "GET /",
    "GET /V2/reports",
    "GET /%76%32/reports",
    "HEAD /v2/jobs/x.json",
    "POST /v2/reports/x",
    "PURGE /v2/reports/x",
    "get /v2/reports",
    "POST /v2/jobs/a/x.json",
    "GET /base/v2/reports",
    "GET /s/reports/a/b",
    "GET /s/other",
    "PROPFIND /s/reports/x",
];

/// What two servers read in two ways.
pub(super) const UNCLEAR: [&str; 10] = [
    "/v2/reports/a%2fb",
    "/v2/reports/..%2F..%2Fadmin",
    "/v2/reports//a",
    "//v2/reports",
    "/v2/reports/a\\b",
    "/v2/reports/a%5cb",
    "/v2/reports/a%00",
    "/v2/reports/%252e%252e/x",
    "/v2/reports/..;x/y",
    "/v2/reports/%c0%ae%c0%ae/x",
];

/// Headers that frameworks take for the method or the path.
pub(super) const OVERRIDES: [&str; 5] =
    ["x-http-method-override", "X-HTTP-Method", "x-method-override", "x-original-url", "X-Rewrite-URL"];

async fn ask(app: &mut App, line: &str) -> (u16, String) {
    let host = line.split_once("http://").map_or("localhost", |(_, rest)| rest.split('/').next().unwrap());
    let answer = app.ask(&format!("{line} HTTP/1.1\nHost: {host}")).await;
    let reason = if answer.status == 200 { String::new() } else { answer.reason() };
    (answer.status, reason)
}

#[tokio::test]
async fn only_what_is_listed_gets_through() {
    let rig = rig_with(|rig| {
        let based = route(rig, "based", "/base", RULES);
        let stripped = "match: {path: /s}\nstrip_prefix: true\nallow: [{path: /reports/*}]";
        format!("routes:\n{based}{}", route(rig, "stripped", "/other", stripped))
    })
    .await;
    let mut app = rig.app().await;
    let of_urls = [
        (format!("GET http://{API}/base/v2/reports/x"), "/base/v2/reports/x"),
        (format!("DELETE http://{API}/other/reports/x"), "/other/reports/x"),
    ];
    let of_urls = of_urls.iter().map(|(line, arrived)| (line.as_str(), *arrived));
    for (line, arrived) in ALLOWED.into_iter().chain(of_urls) {
        assert_eq!(ask(&mut app, line).await.0, 200, "{line}");
        assert_eq!(last(&rig).target, arrived, "{line}");
    }
    rig.api.log().clear();
    let of_urls = [format!("GET http://{API}/base/v2/x"), format!("GET http://{API}/other/x")];
    for line in REFUSED.into_iter().chain(of_urls.iter().map(String::as_str)) {
        let mut app = rig.app().await;
        if line.starts_with("HEAD") {
            app.send(app.head(&format!("{line} HTTP/1.1"))).await;
            assert_eq!(app.answer_to_head().await.status, 403, "{line}");
        } else {
            assert_eq!(ask(&mut app, line).await, (403, "not_allowed".to_owned()), "{line}");
        }
    }
    for path in UNCLEAR {
        assert_eq!(ask(&mut app, &format!("GET {path}")).await, (400, "bad_path".to_owned()), "{path}");
    }
    assert!(targets(&rig).is_empty(), "{:?}", targets(&rig));
    assert_eq!(ask(&mut app, "GET /v2/reports").await.0, 200, "a refusal is no reason to hang up");
}

#[tokio::test]
async fn without_rules_paths_are_free_and_methods_are_the_usual_ones() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for path in ["/a%2fb", "//a//b", "/a\\b", "/a%00", "/%252e%252e/x"] {
        assert_eq!(ask(&mut app, &format!("GET {path}")).await.0, 200, "{path}");
        assert_eq!(last(&rig).target, path);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(ask(&mut app, &format!("{method} /")).await.0, 200, "{method}");
    }
    rig.api.log().clear();
    for method in ["PURGE", "PROPFIND", "get", "X", "TRACE"] {
        assert_eq!(ask(&mut app, &format!("{method} /")).await, (403, "not_allowed".to_owned()), "{method}");
    }
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn nothing_says_another_method_or_path_than_the_one_that_was_allowed() {
    let rig = rig_with(|rig| {
        let free = route(rig, "free", "", "match: {path: /free}");
        format!("routes:\n{free}{}", route(rig, "ruled", "", "allow: [{path: /ruled/**}]"))
    })
    .await;
    let lines: String =
        OVERRIDES.iter().map(|name| format!("\n{name}: /admin\n{}: x", name.replace('-', "_"))).collect();
    let mut app = rig.app().await;
    assert_eq!(app.ask(&format!("GET /ruled/x HTTP/1.1{lines}\nX-Stays: y")).await.status, 200);
    let seen = last(&rig);
    for name in OVERRIDES {
        assert!(seen.header(name).is_empty() && seen.header(&name.replace('-', "_")).is_empty(), "{seen:?}");
    }
    assert_eq!(seen.header("x-stays"), ["y"]);
    assert_eq!(app.ask(&format!("GET /free HTTP/1.1{lines}")).await.status, 200);
    assert_eq!(last(&rig).header("x-http-method-override"), ["/admin"], "no rule depends on it");
}

#[tokio::test]
async fn other_spellings_of_what_is_ours_are_dropped() {
    let rig = Rig::ready(Options { route: "headers: {X-Tenant: acme}", ..Options::default() }).await;
    let aliases = [
        "Authorization_",
        "_Authorization",
        "Proxy_Authorization",
        "X_Tenant",
        "x_tenant_",
        "Transfer_Encoding",
        "Content_Length",
        "Proxy_Connection",
        "Keep_Alive",
    ];
    let lines: String = aliases.iter().map(|name| format!("\n{name}: chunked")).collect();
    assert_eq!(rig.app().await.ask(&format!("GET / HTTP/1.1{lines}\nX_Other: y")).await.status, 200);
    let seen = last(&rig);
    for name in aliases {
        assert!(seen.header(name).is_empty(), "{name}: {seen:?}");
    }
    assert_eq!((seen.header("x-tenant"), seen.header("x_other")), (vec!["acme"], vec!["y"]));
}
