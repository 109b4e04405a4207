//! Who calls: named by a password, a uid or a certificate, and which routes that opens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tls::{NAME, client, connect_to, write};
use super::{last, rig_with, route, targets};
use crate::support::{API, Answer, App, Rig, eventually};

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

async fn rig(more: &str) -> Rig {
    let more = more.to_owned();
    rig_with(move |rig| {
        rig.folder.write("billing", "b-canary-1\n");
        let billing = route(rig, "billing", "", &format!("match: {{path: /billing}}\ncallers: [billing]\n{more}"));
        let both = route(rig, "both", "/both", "match: {path: /both}\ncallers: [billing, batch]");
        let open = route(rig, "open", "/open", "");
        format!(
            "callers:\n  clients:\n  - {{name: billing, password: {{file: billing}}}}\n  \
             - {{name: batch, password: {{exec: [/bin/echo, b-canary-2]}}}}\nroutes:\n{billing}{both}{open}"
        )
    })
    .await
}

async fn ask(rig: &Rig, path: &str, header: &str, pair: Option<&str>) -> Answer {
    let line = pair.map_or(String::new(), |pair| format!("\n{header}: {}", basic(pair)));
    let host = if path.starts_with("http") { API } else { "localhost" };
    rig.app().await.ask(&format!("GET {path} HTTP/1.1\nHost: {host}{line}")).await
}

#[tokio::test]
async fn a_password_opens_the_routes_of_its_client_and_no_others() {
    let rig = rig("").await;
    let (own, proxys) = ("Authorization", "Proxy-Authorization");
    let absolute = format!("http://{API}/both/both");
    for (path, header, pair) in [
        ("/billing", own, Some("billing:b-canary-1")),
        ("/both", own, Some("billing:b-canary-1")),
        ("/both", own, Some("batch:b-canary-2")),
        (&absolute, proxys, Some("batch:b-canary-2")),
        ("/x", own, None),
        ("/x", own, Some("billing:wrong")),
        ("/x", own, Some("somebody:else")),
    ] {
        let answer = ask(&rig, path, header, pair).await;
        assert_eq!(answer.status, 200, "{path} {pair:?}: {answer:?}");
        let seen = last(&rig);
        assert!(seen.header("proxy-authorization").is_empty(), "{seen:?}");
        let [bearer] = &seen.header("authorization")[..] else { panic!("{seen:?}") };
        assert!(bearer.starts_with("Bearer "), "{seen:?}");
    }
    rig.api.log().clear();
    for (path, header, pair) in [
        ("/billing", own, None),
        ("/billing", own, Some("billing:wrong")),
        ("/billing", own, Some("billing:")),
        ("/billing", own, Some("batch:b-canary-1")),
        ("/billing", proxys, Some("billing:b-canary-1")),
        (&absolute, proxys, None),
        (&absolute, proxys, Some("batch:b-canary-1")),
        (&absolute, own, Some("batch:b-canary-2")),
    ] {
        let answer = ask(&rig, path, header, pair).await;
        let (status, challenge) = match path {
            "/billing" => (401, "www-authenticate"),
            _ => (407, "proxy-authenticate"),
        };
        assert_eq!((answer.status, answer.reason().as_str()), (status, "caller_unknown"), "{path} {pair:?}");
        assert_eq!(answer.header(challenge), Some("Basic realm=\"bearerd\", charset=\"UTF-8\""));
    }
    let answer = ask(&rig, "/billing", own, Some("batch:b-canary-2")).await;
    assert_eq!((answer.status, answer.reason().as_str()), (403, "not_allowed"));
    assert!(targets(&rig).is_empty());
    let metrics = rig.proxy.page("/metrics").await;
    assert!(metrics.text().contains("bearerd_refused_total{reason=\"caller_unknown\"} 8\n"), "{}", metrics.text());
    for page in ["/metrics", "/status"] {
        assert!(!rig.proxy.page(page).await.text().contains("b-canary"), "{page}");
    }
    assert!(!rig.proxy.said().contains("b-canary"), "{}", rig.proxy.said());
}

#[tokio::test]
async fn what_names_the_caller_is_no_credential_of_its_own() {
    let rig = rig("authorization: reject").await;
    assert_eq!(ask(&rig, "/billing", "Authorization", Some("billing:b-canary-1")).await.status, 200);
    let mut app = rig.app().await;
    let ours = basic("billing:b-canary-1");
    let answer = app.ask(&format!("GET /billing HTTP/1.1\nAuthorization: {ours}\nAuthorization: {ours}")).await;
    assert_eq!(answer.reason(), "caller_unknown", "two are none");
    assert_eq!(targets(&rig).len(), 1);
}

#[tokio::test]
async fn a_password_file_that_changes_is_read_again_and_a_broken_one_is_not_believed() {
    let rig = rig("").await;
    let ask = async |pair: &str| ask(&rig, "/billing", "Authorization", Some(pair)).await.status;
    assert_eq!(ask("billing:b-canary-1").await, 200);
    rig.folder.replace("billing", "");
    eventually("the broken file is told of", || rig.proxy.said().contains("client billing: the password")).await;
    assert_eq!(ask("billing:b-canary-1").await, 200);
    rig.folder.replace("billing", "b-canary-3");
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while ask("billing:b-canary-3").await != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the new password counts");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(ask("billing:b-canary-1").await, 401);
    assert!(!rig.proxy.said().contains("b-canary"), "{}", rig.proxy.said());
}

#[tokio::test]
async fn by_the_uid_at_the_other_end_of_a_unix_socket() {
    let ours = rustix::process::geteuid().as_raw();
    let rig = rig_with(|rig| {
        let mine = route(rig, "mine", "", "match: {path: /mine}\ncallers: [me]");
        let others = route(rig, "others", "", "match: {path: /others}\ncallers: [other]");
        format!(
            "listen: 'unix:{}'\ncallers: {{clients: [{{name: me, uid: {ours}}}, {{name: other, uid: {}}}]}}\n\
             routes:\n{mine}{others}",
            rig.folder.path("app.sock").display(),
            ours + 1,
        )
    })
    .await;
    let mut app = App::connect_to(&rig.folder.path("app.sock")).await;
    assert_eq!(app.get("/mine").await.status, 200);
    let answer = app.get("/others").await;
    assert_eq!((answer.status, answer.reason().as_str()), (403, "not_allowed"));
    assert_eq!(targets(&rig), ["/mine"]);
}

#[tokio::test]
async fn by_a_certificate_or_a_password_and_nobody_without_a_name() {
    let rig = rig_with(|rig| {
        write(rig, "", &rig.ca.identity(&[NAME]).unwrap());
        write(rig, "edge-", &rig.ca.identity(&["edge.corp.test"]).unwrap());
        write(rig, "other-", &rig.ca.identity(&["other.corp.test"]).unwrap());
        rig.folder.write("billing", "b-canary-1");
        let tls = "cert_file: cert.pem, key_file: key.pem";
        let edge = route(rig, "edge", "", "match: {path: /edge}\ncallers: [edge]");
        format!(
            "listen:\n- {{name: certs, address: '127.0.0.1:0', allow_remote: true, tls: {{{tls}, client_ca_file: ca.pem}}}}\n\
             - {{name: names, address: '127.0.0.1:0', allow_remote: true, tls: {{{tls}}}}}\n\
             callers:\n  hosts: [{NAME}]\n  clients:\n  - {{name: edge, cert_san: Edge.Corp.Test}}\n  \
             - {{name: billing, password: {{file: billing}}}}\nroutes:\n{edge}{}",
            route(rig, "open", "", "")
        )
    })
    .await;
    let certificate =
        |name: &str| [rig.folder.path(&format!("{name}-cert.pem")), rig.folder.path(&format!("{name}-key.pem"))];
    let (certs, names) = (rig.proxy.addresses[0], rig.proxy.addresses[1]);
    for (name, path, status) in
        [("edge", "/edge", 200), ("edge", "/x", 200), ("other", "/x", 200), ("other", "/edge", 401)]
    {
        let [cert, key] = certificate(name);
        let mut app = connect_to(certs, client(&rig, Some([&cert, &key]))).await.unwrap();
        assert_eq!(app.get(path).await.status, status, "{name} {path}");
    }
    let mut app = connect_to(names, client(&rig, None)).await.unwrap();
    let right = basic("billing:b-canary-1");
    assert_eq!(app.ask(&format!("GET /x HTTP/1.1\nAuthorization: {right}")).await.status, 200);
    rig.api.log().clear();
    for (line, status) in [("GET /x", 401), ("GET /nowhere", 401), (&format!("GET http://{API}/x"), 407)] {
        let host = if status == 407 { API } else { NAME };
        let answer = app.ask(&format!("{line} HTTP/1.1\nHost: {host}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, "caller_unknown"), "{line}");
    }
    let answer = app.ask(&format!("GET /edge HTTP/1.1\nAuthorization: {right}")).await;
    assert_eq!((answer.status, answer.reason().as_str()), (403, "not_allowed"));
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn the_pages_of_other_machines_are_for_the_named_alone() {
    let rig = rig_with(|rig| {
        write(rig, "", &rig.ca.identity(&[NAME]).unwrap());
        rig.folder.write("billing", "b-canary-1");
        format!(
            "admin: {{address: '127.0.0.1:0', allow_remote: true, tls: {{cert_file: cert.pem, key_file: key.pem}}}}\n\
             callers: {{hosts: [{NAME}], clients: [{{name: billing, password: {{file: billing}}}}]}}\nroutes:\n{}",
            route(rig, "api", "", "")
        )
    })
    .await;
    for (pair, status) in [(None, 401), (Some("billing:wrong"), 401), (Some("billing:b-canary-1"), 200)] {
        let line = pair.map_or(String::new(), |pair| format!("\nAuthorization: {}", basic(pair)));
        let mut app = connect_to(rig.proxy.admin, client(&rig, None)).await.unwrap();
        assert_eq!(app.ask(&format!("GET /status HTTP/1.1{line}")).await.status, status, "{pair:?}");
    }
}
