//! The main job, and nothing else.

use crate::support::{API, Options, Rig};

#[tokio::test]
async fn plain_http_to_localhost_is_answered_by_an_api_that_demands_a_token() {
    let rig = Rig::new().await;
    let answer = rig.get("/orders/7?full=yes").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["path"], "/orders/7?full=yes");
    let seen = &rig.api.requests()[0];
    assert_eq!(seen.authorization_lines, 1);
    assert_eq!(seen.host.as_deref(), Some(API));
}

#[tokio::test]
async fn a_proxy_client_is_served_as_well() {
    let rig = Rig::ready(Options::default()).await;
    let answer = rig.app().await.ask(&format!("GET http://{API}/anything HTTP/1.1\nHost: {API}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["host"], API);
}
