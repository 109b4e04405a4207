//! Who may ask: not a name that was made to point here, not a web page; for the proxy and the admin pages alike.

use super::{rig_with, route, targets};
use crate::support::{API, App, Options, Rig};

pub(super) const FOREIGN: [&str; 7] = [
    "rebind.attacker.test",
    "rebind.attacker.test:4280",
    "localhost.attacker.test",
    "notlocalhost",
    "192.168.1.1",
    "0.0.0.0",
    "[::2]",
];

#[tokio::test]
async fn only_hosts_that_are_ours_are_served() {
    let rig = rig_with(|rig| {
        let routes = route(rig, "api", "", "") + &route(rig, "other", "", "match: {host: billing.internal}");
        format!("callers: {{hosts: [proxy.corp.test]}}\nroutes:\n{routes}")
    })
    .await;
    let mut app = rig.app().await;
    for host in FOREIGN {
        let answer = app.ask(&format!("GET /x HTTP/1.1\nHost: {host}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (421, "host_not_ours"), "{host}");
    }
    assert!(targets(&rig).is_empty());
    for host in [
        "localhost",
        "LOCALHOST.:1",
        "app.localhost",
        "127.0.0.1",
        "127.9.8.7:80",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:4280",
        API,
        "billing.internal",
        "Proxy.Corp.Test:81",
    ] {
        assert_eq!(app.ask(&format!("GET /x HTTP/1.1\nHost: {host}")).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn a_web_page_may_not_call_unless_its_origin_is_ours_or_named() {
    let rig =
        Rig::ready(Options { top: "callers: {origins: ['https://app.example.test']}", ..Options::default() }).await;
    let mut app = rig.app().await;
    let own = format!("http://{}", rig.proxy.address);
    let origins = [
        (None, true),
        (Some(own.as_str()), true),
        (Some("https://app.example.test"), true),
        (Some("https://APP.example.test"), true),
        (Some("null"), false),
        (Some(""), false),
        (Some("https://evil.test"), false),
        (Some("http://127.0.0.1:1"), false),
        (Some("https://app.example.test.evil.test"), false),
        (Some("http://app.example.test"), false),
    ];
    let sites = [None, Some("none"), Some("same-origin"), Some("same-site"), Some("cross-site")];
    for method in ["GET", "POST", "OPTIONS"] {
        for (origin, may) in origins {
            for site in sites {
                let named = origin.is_some_and(|origin| origin.to_lowercase() == "https://app.example.test");
                let expected = may && (named || !matches!(site, Some("same-site" | "cross-site")));
                let line =
                    |name, value: Option<&str>| value.map_or(String::new(), |value| format!("\n{name}: {value}"));
                let lines = line("Origin", origin) + &line("Sec-Fetch-Site", site);
                let before = targets(&rig).len();
                let answer = app.ask(&format!("{method} /x HTTP/1.1{lines}")).await;
                if expected {
                    assert_eq!(answer.status, 200, "{method} {lines}");
                } else {
                    assert_eq!((answer.status, answer.reason().as_str()), (403, "web_origin"), "{method} {lines}");
                }
                assert_eq!(targets(&rig).len() - before, usize::from(expected), "{method} {lines}");
                assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{answer:?}");
            }
        }
    }
    let answer = app.ask(&format!("GET http://{API}/x HTTP/1.1\nHost: {API}\nOrigin: https://evil.test")).await;
    assert_eq!(answer.reason(), "web_origin");
    let answer = app.ask(&format!("GET /x HTTP/1.1\nOrigin: {own}\nOrigin: https://evil.test")).await;
    assert_eq!(answer.reason(), "web_origin");
}

#[tokio::test]
async fn the_admin_pages_have_the_same_guards() {
    let rig = Rig::ready(Options::default()).await;
    for page in ["/", "/page/main.js", "/status", "/metrics", "/livez", "/readyz"] {
        // One page a connection.
        let admin = || App::connect(rig.proxy.admin);
        assert_eq!(admin().await.get(page).await.status, 200, "{page}");
        for host in FOREIGN {
            assert_eq!(
                admin().await.ask(&format!("GET {page} HTTP/1.1\nHost: {host}")).await.status,
                421,
                "{page} {host}"
            );
        }
        for line in
            ["Origin: https://evil.test", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]
        {
            assert_eq!(admin().await.ask(&format!("GET {page} HTTP/1.1\n{line}")).await.status, 403, "{page} {line}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = admin().await.ask(&format!("{method} {page} HTTP/1.1")).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {page}");
        }
        let mut admin = admin().await;
        admin.send(admin.head(&format!("HEAD {page} HTTP/1.1"))).await;
        assert_eq!(admin.answer_to_head().await.status, 200, "{page}");
    }
    assert_eq!(rig.proxy.page("/quit").await.status, 404);
    assert_eq!(rig.proxy.page("/../status").await.status, 400);
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn the_health_listener_serves_its_four_pages_to_any_host() {
    let rig = rig_with(|rig| format!("health: 127.0.0.1:0\nroutes:\n{}", route(rig, "api", "", ""))).await;
    let health = || App::connect(rig.proxy.health[0]);
    for page in ["/livez", "/startupz", "/readyz", "/metrics"] {
        for host in ["10.1.2.3:4282", "pod.internal", "localhost"] {
            assert_eq!(
                health().await.ask(&format!("GET {page} HTTP/1.1\nHost: {host}")).await.status,
                200,
                "{page} {host}"
            );
        }
        assert_eq!(health().await.ask(&format!("GET {page} HTTP/1.1\nOrigin: https://evil.test")).await.status, 403);
        assert_eq!(health().await.ask(&format!("POST {page} HTTP/1.1")).await.status, 405);
    }
    for page in ["/status", "/", "/page/main.js", "/x"] {
        assert_eq!(health().await.get(page).await.status, 404, "{page}");
    }
}
