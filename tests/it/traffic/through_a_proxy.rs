//! An upstream that is reached through a corporate proxy: what the proxy is asked for, what it sees, and what an app is
//! told when it makes no tunnel.

use http::Version;
use tokio::net::TcpListener;

use super::http2_api::{again, rig_to_http1, rig_to_http2};
use super::last;
use crate::support::{API, App, Corporate, Folder, Proxy, Rig};

const MADE: &str = "HTTP/1.1 200 Connection established\r\nProxy-Agent: corporate\r\nX-Long: 0123456789\r\n\r\n";

/// The same rig with a route that leads through it. Nothing else knows where the API is.
async fn through(rig: Rig, proxy: &str, upstream: &str) -> Rig {
    let route = format!(
        "routes:\n  - upstream: {upstream}\n    token: main\n    tls: {{ca_file: ca.pem}}\n    proxy: {proxy}\n    \
         allow_plaintext: true\n"
    );
    again(rig, &route).await
}

#[tokio::test]
async fn it_is_asked_for_a_tunnel_by_name_and_sees_nothing() {
    for http2 in [false, true] {
        let rig = if http2 { rig_to_http2(100, "").await } else { rig_to_http1("").await };
        let proxy = Corporate::start(MADE, Some(rig.api.addr())).await;
        let rig = through(rig, &format!("http://us%40er:p%3Ass%2F@{}", proxy.address), &format!("https://{API}")).await;
        for _ in 0..2 {
            assert_eq!(rig.get("/x").await.status, 200);
        }
        assert_eq!(last(&rig).version, if http2 { Version::HTTP_2 } else { Version::HTTP_11 });
        assert_eq!(last(&rig).host.as_deref(), Some(API));
        let heads = proxy.heads.lock().unwrap();
        // `us@er:p:ss/`, decoded.
        let expected = format!(
            "CONNECT {API}:443 HTTP/1.1\r\nHost: {API}:443\r\nProxy-Authorization: Basic dXNAZXI6cDpzcy8=\r\n\r\n"
        );
        assert_eq!(*heads, [expected]);
        let said = rig.proxy.said();
        assert!(!said.contains("p%3Ass") && !said.contains("p:ss"), "{said}");
    }
}

#[tokio::test]
async fn what_is_not_tls_goes_through_a_tunnel_as_well() {
    let rig = super::http2_api::rig_to(None, false, "").await;
    let proxy = Corporate::start(MADE, Some(rig.api.addr())).await;
    let rig = through(rig, &format!("http://{}", proxy.address), "http://api.example.test:8080").await;
    assert_eq!(rig.get("/x").await.status, 200);
    let heads = proxy.heads.lock().unwrap();
    assert_eq!(*heads, ["CONNECT api.example.test:8080 HTTP/1.1\r\nHost: api.example.test:8080\r\n\r\n"]);
}

#[tokio::test]
async fn what_it_says_instead_is_told() {
    let long: &'static str = format!("HTTP/1.1 200 OK\r\nX-Long: {}", "x".repeat(40_000)).leak();
    let mut rig = rig_to_http1("").await;
    for (answer, told) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            "a name and a password (407)",
        ),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ncanary", "refuses to go there"),
        ("HTTP/1.0 502 Bad Gateway\r\n\r\n", "does not get there"),
        ("HTTP/1.1 302 Found\r\nLocation: http://login.corp/\r\n\r\n", "does not answer as a proxy"),
        ("SSH-2.0-canary\r\n\r\n", "does not answer as a proxy"),
        (long, "does not answer as a proxy"),
        ("HTTP/1.1 200 OK\r\n", "cannot be reached"),
        ("", "cannot be reached"),
    ] {
        let proxy = Corporate::start(answer, None).await;
        rig = through(rig, &format!("http://{}", proxy.address), &format!("https://{API}")).await;
        let got = rig.get("/").await;
        assert_eq!((got.status, got.reason().as_str()), (502, "upstream_refused"), "{answer}");
        rig.proxy.until_said(told).await;
        assert!(!rig.proxy.said().contains("canary"));
    }
    assert!(rig.api.requests().is_empty());
}

#[tokio::test]
async fn one_that_is_not_there_is_not_taken_for_the_upstream() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rig = through(rig_to_http1("").await, &format!("http://{nobody}"), &format!("https://{API}")).await;
    assert_eq!(rig.get("/").await.reason(), "upstream_refused");
    rig.proxy.until_said("the proxy on the way to it").await;
}

/// The address that is dialled is the proxy's: where none must lead, its name must not either.
#[tokio::test]
async fn its_address_is_looked_at_as_an_upstreams_is() {
    // A port that is free, for a listener that its own configuration names as a proxy.
    let own = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rig = rig_to_http1("").await;
    let head = std::fs::read_to_string(rig.folder.path("bearerd.yaml")).unwrap();
    let head = head.split("routes:").next().unwrap().replace("listen: [127.0.0.1:0]", &format!("listen: [\"{own}\"]"));
    let folder = Folder::new();
    for file in ["ca.pem", "secret"] {
        folder.write(file, &std::fs::read_to_string(rig.folder.path(file)).unwrap());
    }
    let route = format!("routes:\n  - upstream: https://{API}\n    token: main\n    proxy: http://{own}\n");
    folder.write("bearerd.yaml", &(head + &route));
    let proxy = Proxy::start(&folder);
    proxy.until_ready().await;
    let answer = App::connect(own).await.get("/").await;
    assert_eq!((answer.status, answer.reason().as_str()), (508, "loop"));
}

#[tokio::test]
async fn a_proxy_that_says_nothing_takes_no_longer_than_a_connection_may() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let rig = rig_to_http1("").await;
    let route = format!(
        "routes:\n  - upstream: https://{API}\n    token: main\n    proxy: http://{address}\n    timeouts: {{connect: 300ms}}\n"
    );
    let rig = again(rig, &route).await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.reason().as_str()), (504, "upstream_timeout"));
}
