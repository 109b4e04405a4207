//! Upstreams that cannot be reached or are not who they should be: which word the app gets, and which cure the log names.

use bearerd::demo::answer::Answer;
use bearerd::demo::certs::Ca;
use tokio::net::TcpListener;

use super::{rig_with, route};
use crate::support::{API, Options, Proxy, Rig};

#[tokio::test]
async fn a_name_without_an_address_is_told_as_such() {
    let rig = rig_with(|_| "routes:\n  - upstream: https://nowhere.invalid\n    token: main\n".to_owned()).await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_dns"));
    rig.proxy.until_said("its name has no address").await;
}

#[tokio::test]
async fn an_api_that_cannot_prove_its_name_gets_no_request_and_the_log_names_the_cure() {
    let mut rig = Rig::ready(Options::default()).await;
    let foreign = Ca::new().unwrap();
    for (server, cure) in [
        (rig.ca.misnamed_server().unwrap(), "set `tls.server_name`"),
        (rig.ca.expired_server(&[API]).unwrap(), "this machine's clock is ahead"),
        (foreign.server(&[API]).unwrap(), "set `tls.ca_file`"),
        (rig.ca.server_for_clients(&[API]).unwrap(), "it may want a client certificate"),
    ] {
        rig.api.restart_with(server).await.unwrap();
        // Anew, because the log says only the first of many failures of one kind.
        rig.proxy = Proxy::start(&rig.folder);
        rig.proxy.until_ready().await;
        let answer = rig.get("/").await;
        assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_tls"), "{cure}");
        rig.proxy.until_said(cure).await;
        assert!(rig.api.requests().is_empty(), "{cure}");
        assert!(!rig.proxy.said().contains("somebody-else"), "a peer's bytes are not told");
    }
    rig.api.restart_with(rig.ca.server(&[API]).unwrap()).await.unwrap();
    assert_eq!(rig.get("/").await.status, 200, "and back it is");
}

#[tokio::test]
async fn another_name_is_believed_where_the_route_says_so() {
    let rig = rig_with(|rig| {
        let route = route(rig, "api", "", "");
        format!("routes:\n{}", route.replace("ca.pem}", "ca.pem, server_name: somebody-else.invalid}"))
    })
    .await;
    assert_eq!(rig.get("/").await.reason(), "upstream_tls", "then the first name is wrong");
    rig.api.restart_with(rig.ca.misnamed_server().unwrap()).await.unwrap();
    assert_eq!(rig.get("/").await.json()["host"], API, "Host stays the upstream's");
}

#[tokio::test]
async fn a_server_without_tls_is_a_tls_failure() {
    let api = bearerd::demo::api::Api::start(bearerd::demo::api::Settings::plain()).await.unwrap();
    api.script().always(Answer::status(200));
    let address = api.addr();
    let rig = rig_with(|rig| {
        let route = route(rig, "api", "", "");
        format!("routes:\n{}", route.replace(&rig.api.addr().to_string(), &address.to_string()))
    })
    .await;
    assert_eq!(rig.get("/").await.reason(), "upstream_tls");
    rig.proxy.until_said("it does not speak TLS on this port").await;
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn a_server_that_hangs_up_during_the_handshake_is_a_reset() {
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = peer.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = peer.accept().await {
            drop(stream);
        }
    });
    let rig = rig_with(|rig| {
        let route = route(rig, "api", "", "");
        format!("routes:\n{}", route.replace(&rig.api.addr().to_string(), &address.to_string()))
    })
    .await;
    assert_eq!(rig.get("/").await.reason(), "upstream_reset");
}
