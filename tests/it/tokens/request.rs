//! The token request on the wire: what providers of both dialects must be able to read, and what strict ones refuse.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bearerd::demo::answer::Answer;
use bearerd::demo::provider::{BasicDialect, Method};
use http::header;
use serde_json::json;

use super::Bench;
use crate::support::{CLIENT, PATIENCE, SECRET};

/// An identifier with what breaks a naive Basic header.
const ODD_CLIENT: &str = "team a:app+1";

fn pair(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

#[tokio::test]
async fn basic_credentials_are_form_encoded_with_percent_20_for_a_space() {
    let bench = Bench::with(
        |settings| {
            settings.clients = vec![(ODD_CLIENT.to_owned(), SECRET.to_owned())];
            settings.only = Some(Method::Basic);
        },
        |_| {},
    )
    .await;
    let token = bench.usual().replace(&format!("client_id: {CLIENT}"), &format!("client_id: '{ODD_CLIENT}'"));
    let route = bench.route();
    let rig = bench.run(&[("main", &token)], &[("api", &route)]);
    rig.proxy.until_ready().await;
    let call = &rig.provider.calls()[0];
    assert_eq!(
        call.headers[header::AUTHORIZATION],
        pair("team%20a%3Aapp%2B1", "p%2Ba%2Fs%25s%3Aw%3Dr%20d%26~%22x-canary")
    );
    assert_eq!(call.headers[header::ACCEPT], "application/json");
    assert_eq!(call.headers[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
    assert_eq!(call.headers[header::USER_AGENT], concat!("bearerd/", env!("CARGO_PKG_VERSION")));
    assert_eq!(call.form, [("grant_type".to_owned(), "client_credentials".to_owned())], "and nothing of the client");
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn raw_basic_credentials_are_left_as_they_are() {
    let bench = Bench::with(|settings| settings.basic = BasicDialect::Raw, |_| {}).await;
    let rig = bench.start("basic_encoding: raw");
    rig.proxy.until_ready().await;
    assert_eq!(rig.provider.calls()[0].headers[header::AUTHORIZATION], pair(CLIENT, SECRET));
}

#[tokio::test]
async fn credentials_in_the_form_come_without_an_authorization_header() {
    let bench = Bench::with(|settings| settings.only = Some(Method::Post), |_| {}).await;
    let rig = bench.start("auth: client_secret_post");
    rig.proxy.until_ready().await;
    let call = &rig.provider.calls()[0];
    assert_eq!(call.headers.get(header::AUTHORIZATION), None);
    assert_eq!(call.field("client_id"), Some(CLIENT));
    assert!(call.form.contains(&("client_secret".to_owned(), SECRET.to_owned())));
    assert_eq!(call.form.len(), 3, "{call:?}");
}

#[tokio::test]
async fn everything_that_is_configured_is_sent_and_nothing_twice() {
    let bench = Bench::new().await;
    let token = "opaque";
    bench.api.accept(token);
    bench.provider.script().always(Answer::json(200, &json!({"access_token": token, "token_type": "bearer"})));
    let rig = bench.start(
        "scope: [read, write all]\naudience: https://a.example/x y\n\
         resource: ['https://r.example/1', 'https://r.example/2']\n\
         params: {organization: 'acme & söhne', tag: [one, two, one]}\nheaders: {X-Tenant: acme, X-Trace: a=b}\n",
    );
    rig.proxy.until_ready().await;
    let call = &rig.provider.calls()[0];
    let mut form: Vec<_> = call.form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    form.sort_unstable();
    assert_eq!(
        form,
        [
            ("audience", "https://a.example/x y"),
            ("grant_type", "client_credentials"),
            ("organization", "acme & söhne"),
            ("resource", "https://r.example/1"),
            ("resource", "https://r.example/2"),
            ("scope", "read write all"),
            ("tag", "one"),
            ("tag", "one"),
            ("tag", "two"),
        ]
    );
    assert_eq!(call.headers["x-tenant"], "acme");
    assert_eq!(call.headers["x-trace"], "a=b");
    for name in call.headers.keys() {
        assert_eq!(call.headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert_eq!(rig.get("/").await.status, 200);
    let seen = &rig.api.wait_for(1, PATIENCE).await.unwrap()[0];
    assert!(seen.header("authorization")[0].starts_with("Bearer "), "exactly so, whatever the provider calls it");
}
