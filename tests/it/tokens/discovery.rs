//! From an issuer to its token endpoint: both places are looked at, and nobody else's document is believed.

use bearerd::demo::answer::Answer;

use super::{Bench, EAGER, LIFE, grants, no_token};
use crate::support::{CLIENT, PATIENCE, Rig, eventually};

fn run(bench: Bench, more: &str) -> Rig {
    let issuer = bench.provider.issuer();
    let token = format!(
        "issuer: {issuer}\nclient_id: {CLIENT}\nclient_secret: {{file: secret}}\ntls: {{ca_file: ca.pem}}\nwait: 0s\n{more}"
    );
    let route = bench.route();
    bench.run(&[("main", &token)], &[("api", &route)])
}

const OPENID: &str = "/tenant/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server/tenant";

async fn tenant() -> Bench {
    Bench::with(
        |settings| {
            settings.path = "/tenant".to_owned();
            settings.life = LIFE;
        },
        |_| {},
    )
    .await
}

#[tokio::test]
async fn an_issuer_is_looked_up_once_and_not_at_each_renewal() {
    let rig = run(tenant().await, EAGER);
    rig.provider.wait_for(3, PATIENCE).await.unwrap();
    eventually("three tokens came", || grants(&rig) >= 3).await;
    assert_eq!(rig.provider.discoveries().all(), [OPENID]);
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn without_an_openid_document_the_oauth_one_serves() {
    let bench = tenant().await;
    bench
        .provider
        .discovery_script()
        .when(|request| (request.uri.path() == OPENID).then(|| Answer::status(404).body("<html>canary</html>").into()));
    let rig = run(bench, "");
    rig.proxy.until_ready().await;
    assert_eq!(rig.provider.discoveries().all(), [OPENID, OAUTH]);
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn the_document_of_another_issuer_is_refused_and_said_to_be() {
    let bench = tenant().await;
    bench.provider.discovery_script().when(|request| {
        let other = Answer::edit(|document| {
            document.insert("issuer".to_owned(), "https://canary.example".into());
        });
        Some(if request.uri.path() == OPENID { other } else { Answer::status(404).into() })
    });
    let rig = run(bench, "");
    rig.proxy.until_said("the document is of another issuer").await;
    no_token(&rig.get("/").await);
    assert_eq!(rig.provider.count(), 0, "no secret goes where it leads");
    assert!(!rig.proxy.said().contains("canary.example"));
    rig.provider.discovery_script().clear();
    rig.proxy.until_ready().await;
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_without_tls_is_not_asked() {
    let bench = tenant().await;
    bench.provider.discovery_script().always(Answer::edit(|document| {
        document.insert("token_endpoint".to_owned(), "http://127.0.0.1:9/token".into());
    }));
    let rig = run(bench, "");
    rig.proxy.until_said("is not an https URL").await;
    no_token(&rig.get("/").await);
    assert_eq!(rig.provider.count(), 0);
}

#[tokio::test]
async fn where_discovery_fails_a_token_url_beside_the_issuer_serves() {
    let bench = Bench::new().await;
    bench.provider.discovery_script().always(Answer::status(500));
    let token = format!("issuer: {}\n{}", bench.provider.issuer(), bench.usual());
    let route = bench.route();
    let rig = bench.run(&[("main", &token)], &[("api", &route)]);
    rig.proxy.until_ready().await;
    assert_eq!(rig.get("/").await.status, 200);
}
