//! Standby credentials: whatever the order in which files, provider and proxy see a rotation, no request fails.

use std::time::Duration;

use bearerd::demo::api::Verdict;

use super::Bench;
use crate::support::{App, PATIENCE, Rig, eventually};

/// A provider that knows both clients, and bearerd with both of their secrets in files.
async fn rig(life: Duration) -> Rig {
    let bench = Bench::new().await;
    bench.provider.set_life(life);
    bench.provider.set_secrets("one", &["first secret"]);
    bench.provider.set_secrets("two", &["second secret"]);
    bench.folder.write("one", "first secret");
    bench.folder.write("two", "second secret");
    let token = format!(
        "token_url: {}\ntls: {{ca_file: ca.pem}}\nrefresh: {{min_interval: 100ms}}\ncredentials:\n  \
         - {{client_id: one, client_secret: {{file: one}}}}\n  - {{client_id: two, client_secret: {{file: two}}}}\n",
        bench.provider.token_url()
    );
    let route = bench.route();
    let rig = bench.run(&[("main", &token)], &[("api", &route)]);
    rig.proxy.until_ready().await;
    rig
}

/// Requests without a pause, until it is told to stop; every one must be answered by the API.
async fn traffic(mut app: App, mut stop: tokio::sync::oneshot::Receiver<()>) -> usize {
    let mut requests = 0;
    while stop.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
        let answer = app.get("/steady").await;
        assert_eq!(answer.status, 200, "request {requests}: {answer:?}");
        requests += 1;
        tokio::task::yield_now().await;
    }
    requests
}

fn clients(rig: &Rig) -> Vec<String> {
    rig.provider.calls().iter().filter(|call| call.issued.is_some()).filter_map(|call| call.client_id.clone()).collect()
}

async fn until_client(rig: &Rig, client: &str) {
    eventually(&format!("a token was granted to {client}"), || clients(rig).last().is_some_and(|last| last == client))
        .await;
}

#[tokio::test]
async fn when_the_current_is_removed_the_standby_serves_and_everybody_is_told() {
    let rig = rig(Duration::from_secs(3)).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let steady = tokio::spawn(traffic(rig.app().await, stopped));
    assert_eq!(clients(&rig), ["one"]);
    rig.provider.set_secrets("one", &[]);
    until_client(&rig, "two").await;
    rig.proxy.until_said("the provider rejected the credential one; two is used now").await;

    let status = rig.proxy.page("/status").await.json();
    let credentials = &status["tokens"][0]["credentials"];
    assert_eq!(credentials[0]["client_id"], "one");
    assert_eq!(credentials[0]["in_use"], false);
    let what = credentials[0]["rejected"]["what"].as_str().unwrap();
    assert_eq!(what, "the token endpoint answered 401 Unauthorized (invalid_client)");
    assert!(credentials[0]["rejected"]["at"].as_str().unwrap().starts_with("20"));
    assert_eq!(credentials[1]["in_use"], true);
    assert!(credentials[1]["rejected"].is_null());
    let metrics = rig.proxy.page("/metrics").await;
    for line in [
        "bearerd_token_credential_in_use{token=\"main\",credential=\"one\"} 0",
        "bearerd_token_credential_in_use{token=\"main\",credential=\"two\"} 1",
        "bearerd_token_credential_rejections_total{token=\"main\",credential=\"one\"} 1",
    ] {
        assert!(metrics.text().contains(line), "{line}");
    }

    // Not by a timer: three renewals on, the first has been asked with no more.
    let known = rig.provider.count();
    rig.provider.wait_for(known + 3, PATIENCE).await.unwrap();
    let asked_as_one = rig.provider.calls().iter().filter(|call| call.client_id.as_deref() == Some("one")).count();
    assert_eq!(asked_as_one, 2, "its first token, and the one rejection");

    // The operator puts a new secret where the first is read from: it is current again.
    rig.provider.set_secrets("one", &["third secret"]);
    rig.folder.replace("one", "third secret");
    until_client(&rig, "one").await;
    drop(stop);
    assert!(steady.await.unwrap() > 100);
    assert_eq!(rig.api.count_of(Verdict::Good), rig.api.count());
}

/// Current and standby change roles; the provider and the two files learn of it in every order.
#[tokio::test]
async fn no_order_of_a_rotation_costs_a_request() {
    for order in ["provider first", "files first", "first file only", "second file only"] {
        let rig = rig(Duration::from_secs(2)).await;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let steady = tokio::spawn(traffic(rig.app().await, stopped));
        let at_the_provider = || {
            rig.provider.set_secrets("one", &["fourth secret"]);
            rig.provider.set_secrets("two", &["second secret"]);
        };
        match order {
            "provider first" => {
                at_the_provider();
                until_client(&rig, "two").await;
                rig.folder.replace("one", "fourth secret");
            }
            "files first" => {
                rig.folder.replace("one", "fourth secret");
                // The new secret is rejected for now, and the standby bridges that.
                until_client(&rig, "two").await;
                at_the_provider();
                rig.folder.replace("one", "fourth secret\n");
            }
            "first file only" => {
                rig.folder.replace("one", "fourth secret");
                at_the_provider();
            }
            _ => {
                rig.folder.replace("two", "fourth secret, and wrong");
                at_the_provider();
                rig.folder.replace("one", "fourth secret");
            }
        }
        let known = rig.provider.count();
        rig.provider.wait_for(known + 2, PATIENCE).await.unwrap();
        until_client(&rig, "one").await;
        drop(stop);
        assert!(steady.await.unwrap() > 0, "{order}");
        assert_eq!(rig.api.count_of(Verdict::Good), rig.api.count(), "{order}");
    }
}

#[tokio::test]
async fn a_hundred_swaps_under_traffic_cost_no_request() {
    use std::os::unix::fs::symlink;
    let rig = rig(Duration::from_secs(2)).await;
    let at = |name: &str| rig.folder.path(name);
    std::fs::create_dir(at("..0")).unwrap();
    std::fs::write(at("..0/one"), "first secret").unwrap();
    symlink("..0", at("..data")).unwrap();
    std::fs::remove_file(at("one")).unwrap();
    symlink("..data/one", at("one")).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let steady = tokio::spawn(traffic(rig.app().await, stopped));
    let mut valid = vec!["first secret".to_owned()];
    for swap in 1..=100 {
        let secret = format!("secret number {swap}");
        // The provider knows the last two, as providers with an overlap do.
        valid.push(secret.clone());
        if valid.len() > 2 {
            valid.remove(0);
        }
        rig.provider.set_secrets("one", &valid.iter().map(String::as_str).collect::<Vec<_>>());
        let folder = format!("..{swap}");
        std::fs::create_dir(at(&folder)).unwrap();
        // Every tenth swap brings a broken file: what was there last goes on serving.
        std::fs::write(at(&folder).join("one"), if swap % 10 == 5 { "" } else { &secret }).unwrap();
        symlink(&folder, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        std::fs::remove_dir_all(at(&format!("..{}", swap - 1))).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until_client(&rig, "one").await;
    drop(stop);
    assert!(steady.await.unwrap() > 100);
    assert_eq!(rig.api.count_of(Verdict::Good), rig.api.count());
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_gives_way_to_the_standby() {
    let bench = Bench::new().await;
    bench.provider.set_secrets("two", &["second secret"]);
    bench.folder.write("two", "second secret");
    let token = format!(
        "token_url: {}\ntls: {{ca_file: ca.pem}}\ncredentials:\n  \
         - {{client_id: one, client_secret: {{exec: [/bin/false]}}}}\n  - {{client_id: two, client_secret: {{file: two}}}}\n",
        bench.provider.token_url()
    );
    let route = bench.route();
    let rig = bench.run(&[("main", &token)], &[("api", &route)]);
    rig.proxy.until_ready().await;
    rig.proxy.until_said("the credential one cannot be used; two is used now").await;
    assert_eq!(clients(&rig), ["two"]);
    assert_eq!(rig.get("/").await.status, 200);
}
