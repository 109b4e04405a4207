//! CONNECT to a route that intercepts: an app that asks for `https://` gets its token, if it trusts the local authority.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bearerd::tls::{ClientConfigs, TlsSettings};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{in_time, last, rig_with, route, targets};
use crate::support::{API, Answer, App, App2, Proxy, Rig, eventually};

pub(super) type Inside = App<TlsStream<TcpStream>>;

/// A rig with a route that intercepts, and its authority in `ca`.
pub(super) async fn rig(more: &str, top: &str) -> Rig {
    rig_with(|rig| {
        std::fs::create_dir(rig.folder.path("ca")).unwrap();
        format!(
            "intercept: {{ca_dir: {}}}\n{top}\nroutes:\n{}",
            rig.folder.path("ca").display(),
            route(rig, "api", "/v1", &format!("intercept: true\n{more}"))
        )
    })
    .await
}

/// What an app trusts.
fn trusting(file: &Path) -> ClientConfig {
    let settings = TlsSettings { ca_file: Some(file.to_owned()), ..TlsSettings::default() };
    ClientConfigs::fresh(&settings).unwrap()
}

/// CONNECT to `place`, with further lines of its head.
async fn connect(rig: &Rig, place: &str, lines: &str) -> (Answer, App) {
    let mut app = rig.app().await;
    app.send(app.head(&format!("CONNECT {place} HTTP/1.1\nHost: {place}{lines}"))).await;
    (app.answer_to_head().await, app)
}

/// The same, and TLS inside for `name`.
async fn inside_as(rig: &Rig, config: ClientConfig, name: &str, lines: &str) -> io::Result<Inside> {
    let (answer, app) = connect(rig, &format!("{API}:443"), lines).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let name = ServerName::try_from(name.to_owned()).unwrap();
    Ok(App::over(in_time(TlsConnector::from(Arc::new(config)).connect(name, app.into_stream())).await?, &API))
}

pub(super) async fn inside(rig: &Rig, lines: &str) -> Inside {
    inside_as(rig, trusting(&rig.folder.path("ca/ca.pem")), API, lines).await.unwrap()
}

#[tokio::test]
async fn an_app_that_asks_for_https_gets_its_token() {
    for workers in [1, 2] {
        let rig = rig("", &format!("workers: {workers}")).await;
        let mut app = inside(&rig, "").await;
        // A URL of the upstream: its base path is written, and neither put on nor taken off.
        for path in ["/v1/orders?x=1", "/v1/%61"] {
            assert_eq!(app.get(path).await.status, 200, "{path}");
            let seen = last(&rig);
            assert_eq!((seen.target.as_str(), &*seen.header("host")), (path, &[API][..]));
            let [bearer] = &seen.header("authorization")[..] else { panic!("{seen:?}") };
            assert!(bearer.starts_with("Bearer "), "{seen:?}");
        }
        let answer = app.get("/v2").await;
        assert_eq!((answer.status, answer.reason().as_str()), (403, "no_route"));
        assert_eq!(targets(&rig).len(), 2);
    }
}

#[tokio::test]
async fn http_2_is_spoken_inside_where_an_app_agrees_to_it() {
    let rig = rig("", "").await;
    for (offered, is_http2) in [(&["h2", "http/1.1"][..], true), (&["http/1.1"], false), (&[], false)] {
        let mut config = trusting(&rig.folder.path("ca/ca.pem"));
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = inside_as(&rig, config, API, "").await.unwrap().into_stream();
        assert_eq!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), is_http2, "{offered:?}");
        if !is_http2 {
            assert_eq!(App::over(stream, &API).get("/v1/1").await.status, 200, "{offered:?}");
            continue;
        }
        let mut app = App2::over(stream, &API).await;
        assert_eq!(app.ask("GET /v1/2").await.status, 200);
        let seen = last(&rig);
        let [bearer] = &seen.header("authorization")[..] else { panic!("{seen:?}") };
        assert!(bearer.starts_with("Bearer "));
        let answer = app.ask("GET /v1/2\nHost: other.test").await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "ambiguous_host"));
    }
    assert_eq!(targets(&rig), ["/v1/2", "/v1/1", "/v1/1"]);
}

#[tokio::test]
async fn a_place_is_the_upstreams_own() {
    let rig = rig("", "").await;
    let there = format!("https://{API}/v1/there");
    rig.api.script().push(bearerd::demo::answer::Answer::status(302).header("location", &there));
    let answer = inside(&rig, "").await.get("/v1/here").await;
    assert_eq!(answer.header("location"), Some(there.as_str()));
}

/// CONNECT × SNI × Host: whatever is not all three the same is refused, and nothing goes anywhere.
#[tokio::test]
async fn connect_and_sni_and_host_agree() {
    let rig = rig("", "tunnel: ['other.test:443']").await;
    // Who does not look at what it is shown, so that the refusal is ours.
    let blind = || trusting(&rig.folder.path("ca/ca.pem"));
    for place in [API, "other.test", "third.test"] {
        let (answer, app) = connect(&rig, &format!("{place}:443"), "").await;
        match place {
            API => assert_eq!(answer.status, 200),
            "other.test" => assert_eq!(answer.status, 502, "a tunnel to nobody"),
            _ => assert_eq!(answer.status, 403),
        }
        drop(app);
    }
    let counted = |count| format!("bearerd_refused_total{{reason=\"ambiguous_host\"}} {count}\n");
    for (refused, sni) in [(1, "other.test"), (2, "third.test")] {
        let error = inside_as(&rig, blind(), sni, "").await.map(drop).unwrap_err();
        assert!(error.to_string().contains("alert"), "{error}");
        let line = counted(refused);
        let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
        while !rig.proxy.page("/metrics").await.text().contains(&line) {
            assert!(tokio::time::Instant::now() < deadline, "{line}");
            super::moment(5).await;
        }
    }
    rig.proxy.until_said("for another host (SNI)").await;
    for host in ["other.test", "third.test", "localhost", &format!("{API}:444")] {
        let mut app = inside(&rig, "").await;
        let answer = app.ask(&format!("GET /v1/x HTTP/1.1\nHost: {host}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "ambiguous_host"), "{host}");
        assert!(app.is_closed().await);
    }
    for head in [
        format!("GET http://{API}/v1/x HTTP/1.1\nHost: {API}"),
        format!("GET http://{API}:443/v1/x HTTP/1.1\nHost: {API}:443"),
        "GET https://other.test/v1/x HTTP/1.1\nHost: other.test".to_owned(),
    ] {
        let answer = inside(&rig, "").await.ask(&head).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "ambiguous_host"), "{head}");
    }
    assert!(targets(&rig).is_empty());
    for host in [API.to_owned(), format!("{API}:443"), API.to_uppercase()] {
        let answer = inside(&rig, "").await.ask(&format!("GET /v1/x HTTP/1.1\nHost: {host}")).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    let answer = inside(&rig, "").await.ask(&format!("GET https://{API}/v1/x HTTP/1.1\nHost: {API}")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn inside_there_is_no_other_connect() {
    let rig = rig("", &format!("tunnel: ['{API}:443', '127.0.0.1:1']")).await;
    for place in [format!("{API}:443"), "127.0.0.1:1".to_owned()] {
        let mut app = inside(&rig, "").await;
        let answer = app.ask(&format!("CONNECT {place} HTTP/1.1\nHost: {place}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (403, "no_route"));
        assert!(app.is_closed().await);
    }
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn who_names_itself_at_the_connect_has_that_name_inside() {
    let callers =
        "callers: {clients: [{name: billing, password: {file: billing}}, {name: batch, password: {file: batch}}]}";
    let rig = rig_with(|rig| {
        rig.folder.write("billing", "b-canary-1");
        rig.folder.write("batch", "b-canary-2");
        format!(
            "intercept: {{ca_dir: {}}}\n{callers}\nroutes:\n{}",
            rig.folder.path("ca").display(),
            route(rig, "api", "/v1", "intercept: true\ncallers: [billing]")
        )
    })
    .await;
    let named = |pair: &str| format!("\nProxy-Authorization: Basic {}", STANDARD.encode(pair));
    let (answer, mut app) = connect(&rig, &format!("{API}:443"), "").await;
    assert_eq!((answer.status, answer.header("proxy-authenticate").is_some()), (407, true));
    assert_eq!(answer.header("connection"), Some("close"));
    app.hears_until_end().await;
    assert_eq!(connect(&rig, &format!("{API}:443"), &named("billing:wrong")).await.0.status, 407);
    assert_eq!(connect(&rig, &format!("{API}:443"), &named("batch:b-canary-2")).await.0.status, 403);
    let mut app = inside(&rig, &named("billing:b-canary-1")).await;
    assert_eq!(app.get("/v1/x").await.status, 200);
    assert!(last(&rig).header("proxy-authorization").is_empty());
    assert!(!rig.proxy.said().contains("b-canary"));
}

#[tokio::test]
async fn an_app_that_does_not_trust_the_authority_is_told_of_in_the_log() {
    let rig = rig("", "").await;
    let error = inside_as(&rig, trusting(&rig.folder.path("ca.pem")), API, "").await.map(drop).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    rig.proxy.until_said("the app does not trust the local authority: let it read `ca.pem`").await;
    let (_, mut app) = connect(&rig, &format!("{API}:443"), "").await;
    app.send("GET / HTTP/1.1\r\n\r\n").await;
    app.hears_until_end().await;
    let counted = "bearerd_refused_total{reason=\"app_tls\"} 2\n";
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while !rig.proxy.page("/metrics").await.text().contains(counted) {
        assert!(tokio::time::Instant::now() < deadline, "{counted}");
        super::moment(5).await;
    }
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn limits_and_the_end_hold_inside_as_outside() {
    let rig = rig("", "limits: {head: 300ms, idle: 60s}").await;
    // Nobody shakes hands.
    let (answer, mut app) = connect(&rig, &format!("{API}:443"), "").await;
    assert_eq!(answer.status, 200);
    assert!(app.is_closed().await);
    rig.proxy.until_said("inside a CONNECT did not end in time").await;
    // Nothing is asked; and something is, slowly.
    assert!(inside(&rig, "").await.is_closed().await);
    let mut slow = inside(&rig, "").await;
    slow.send("GET /v1/slow HT").await;
    assert!(slow.is_closed().await);
    // Nor over HTTP/2, where hyper has no limit of its own.
    let mut config = trusting(&rig.folder.path("ca/ca.pem"));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = inside_as(&rig, config, API, "").await.unwrap().into_stream();
    let _ = App2::over(stream, &API).await.ends().await;
    let (mut idle, mut held) = (inside(&rig, "").await, inside(&rig, "").await);
    assert_eq!(idle.get("/v1/idle").await.status, 200);
    let latch = bearerd::demo::answer::Latch::new();
    rig.api.script().push(bearerd::demo::answer::Answer::Serve.held_by(&latch));
    held.send(held.head("GET /v1/held HTTP/1.1")).await;
    rig.api.wait_for(2, crate::support::PATIENCE).await.unwrap();
    let Rig { proxy, api, .. } = rig;
    let ended = tokio::spawn(proxy.end());
    assert!(idle.is_closed().await);
    latch.open();
    assert_eq!(held.answer().await.status, 200);
    assert!(held.is_closed().await);
    assert_eq!(ended.await.unwrap().cut_off, 0);
    drop(api);
}

#[tokio::test]
async fn the_authority_outlives_a_restart_and_its_key_is_ours_alone() {
    let rig = rig("", "").await;
    let read = |name: &str| std::fs::read_to_string(rig.folder.path("ca").join(name)).unwrap();
    let mode = |name: &str| std::fs::metadata(rig.folder.path("ca").join(name)).unwrap().permissions().mode() & 0o777;
    let before = read("ca.pem");
    assert_eq!((mode("ca.key"), mode("ca.pem"), mode("bundle.pem")), (0o600, 0o644, 0o644));
    assert!(read("bundle.pem").starts_with(&before));
    // Another that runs beside it, too.
    let second = Proxy::start(&rig.folder);
    second.until_ready().await;
    second.until_said("apps of routes that intercept trust").await;
    assert_eq!(read("ca.pem"), before);
    second.end().await;
    assert_eq!(inside(&rig, "").await.get("/v1/x").await.status, 200);
    let said = rig.proxy.said().clone();
    assert!(!said.contains("PRIVATE KEY") && !said.contains(read("ca.key").lines().nth(1).unwrap()));
}

/// Where there is a curl, as people will use it.
#[tokio::test]
async fn curl_is_served_by_https_proxy() {
    let rig = rig("", "").await;
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sS", "--proxy", &format!("http://{}", rig.proxy.address), "--cacert"]);
    curl.arg(rig.folder.path("ca/ca.pem")).arg(format!("https://{API}/v1/curl")).env_clear();
    let output = match curl.stdin(Stdio::null()).output().await {
        Ok(output) => output,
        // There is none on this machine.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => panic!("{error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(targets(&rig), ["/v1/curl"]);
    eventually("it is an exchange", || rig.proxy.said().contains("GET by api ended with 200")).await;
}
