//! Which route a request takes, and what becomes of its path.

use super::{last, rig_with, route, targets};
use crate::support::{API, App, Rig};

async fn arrives(rig: &Rig, host: &str, path: &str) -> String {
    let answer = rig.app().await.ask(&format!("GET {path} HTTP/1.1\nHost: {host}")).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    last(rig).target
}

#[tokio::test]
async fn the_longest_prefix_wins_and_the_base_path_is_put_in_front() {
    let rig = rig_with(|rig| {
        let routes = [
            route(rig, "rest", "", ""),
            route(rig, "v2", "/base", "match: {path: /v2}"),
            route(rig, "deep", "/deep", "match: {path: /v2/deep}"),
            route(rig, "stripped", "/stripped", "match: {path: /s/t}\nstrip_prefix: true"),
            route(rig, "bare", ":8443", "match: {path: /bare}\nstrip_prefix: true"),
        ];
        format!("routes:\n{}", routes.concat())
    })
    .await;
    for (path, arrived) in [
        ("/", "/"),
        ("/v20/x", "/v20/x"),
        ("/V2/x", "/V2/x"),
        ("/%762/x", "/%762/x"),
        ("//v2/x", "//v2/x"),
        ("/v2", "/base/v2"),
        ("/v2/", "/base/v2/"),
        ("/v2?q=/v2/deep", "/base/v2?q=/v2/deep"),
        ("/v2/deeper", "/base/v2/deeper"),
        ("/v2/deep", "/deep/v2/deep"),
        ("/v2/deep/x%2Fy?a", "/deep/v2/deep/x%2Fy?a"),
        ("/s/t", "/stripped"),
        ("/s/t/", "/stripped/"),
        ("/s/t//x?y", "/stripped//x?y"),
        ("/s/t?y", "/stripped?y"),
        ("/s/", "/s/"),
        ("/bare", "/"),
        ("/bare?y", "/?y"),
        ("/bare/x", "/x"),
    ] {
        assert_eq!(arrives(&rig, "localhost", path).await, arrived, "{path}");
    }
    // A URL is the upstream's own: neither joined nor stripped.
    for path in ["/x", "/base/x", "/deep/v2/deep", "/stripped/s/t"] {
        let answer = rig.app().await.ask(&format!("GET http://{API}{path} HTTP/1.1\nHost: {API}")).await;
        assert_eq!((answer.status, last(&rig).target.as_str()), (200, path));
    }
    let answer = rig.app().await.ask(&format!("GET http://{API}:8443/y HTTP/1.1\nHost: {API}:8443")).await;
    assert_eq!((answer.status, last(&rig).target.as_str()), (200, "/y"));
    assert_eq!(last(&rig).host, Some(format!("{API}:8443")));
}

#[tokio::test]
async fn what_no_route_takes_is_not_found_and_the_connection_lives() {
    let rig = rig_with(|rig| format!("routes:\n{}", route(rig, "v2", "/v2", "match: {path: /v2}"))).await;
    let mut app = rig.app().await;
    for path in ["/", "/v", "/v20", "/V2"] {
        let answer = app.get(path).await;
        assert_eq!((answer.status, answer.reason().as_str()), (404, "no_route"), "{path}");
    }
    assert!(targets(&rig).is_empty());
    assert_eq!(app.get("/v2").await.status, 200);
    // The base path bounds URLs as well.
    let answer = app.ask(&format!("GET http://{API}/v20 HTTP/1.1\nHost: {API}")).await;
    assert_eq!((answer.status, answer.reason().as_str()), (403, "no_route"));
}

#[tokio::test]
async fn a_host_beats_a_longer_path() {
    let rig = rig_with(|rig| {
        let routes = [
            route(rig, "rest", "/rest", ""),
            route(rig, "path", "/path", "match: {path: /x/y}"),
            route(rig, "host", "/host", "match: {host: billing.localhost}"),
            route(rig, "both", "/both", "match: {host: billing.internal, path: /x}"),
        ];
        format!("routes:\n{}", routes.concat())
    })
    .await;
    for (host, path, arrived) in [
        ("localhost", "/x/y", "/path/x/y"),
        ("billing.localhost", "/x/y", "/host/x/y"),
        ("BILLING.localhost.:99", "/z", "/host/z"),
        ("billing.internal", "/x/z", "/both/x/z"),
        ("billing.internal", "/z", "/rest/z"),
        ("127.0.0.1", "/z", "/rest/z"),
    ] {
        assert_eq!(arrives(&rig, host, path).await, arrived, "{host} {path}");
    }
}

#[tokio::test]
async fn a_route_can_belong_to_one_listener() {
    let rig = rig_with(|rig| {
        let routes = [
            route(rig, "rest", "/rest", "match: {path: /shared}"),
            route(rig, "mine", "/mine", "match: {listen: second}"),
        ];
        let listen = "listen: [{name: first, address: '127.0.0.1:0'}, {name: second, address: '127.0.0.1:0'}]\n";
        format!("{listen}routes:\n{}", routes.concat())
    })
    .await;
    let [first, second] = rig.proxy.addresses[..] else { panic!("two listeners") };
    assert_eq!(App::connect(first).await.get("/x").await.reason(), "no_route");
    assert_eq!(App::connect(first).await.get("/shared").await.status, 200);
    assert_eq!(App::connect(second).await.get("/x").await.status, 200);
    assert_eq!(App::connect(second).await.get("/shared").await.status, 200);
    assert_eq!(targets(&rig), ["/rest/shared", "/mine/x", "/mine/shared"]);
    let url = format!("GET http://{API}/mine/x HTTP/1.1\nHost: {API}");
    assert_eq!(App::connect(first).await.ask(&url).await.reason(), "no_route");
    assert_eq!(App::connect(second).await.ask(&url).await.status, 200);
}
