//! Secrets that change while bearerd runs: however they are put there, the next token request carries the new one.

use std::ffi::OsString;
use std::os::unix::fs::symlink;

use bearerd::config::Environment;
use bearerd::demo::answer::{Answer, Latch};
use bearerd::secret::Fingerprint;
use serde_json::json;

use super::{Bench, EAGER, LIFE, grants, until_served};
use crate::support::{CLIENT, PATIENCE, Rig, SECRET, eventually};

const NEXT: &str = "the next secret";

async fn bench() -> Bench {
    let bench = Bench::with(|settings| settings.life = LIFE, |_| {}).await;
    bench.provider.set_secrets(CLIENT, &[SECRET, NEXT]);
    bench
}

/// Waits until a token was granted for the next secret, and checks that nobody noticed.
async fn is_used(rig: &Rig) {
    let next = Fingerprint::of(NEXT.as_bytes());
    eventually("the new secret is used", || rig.provider.calls().iter().any(|call| call.secret == Some(next))).await;
    rig.proxy.until_said("main: a secret file changed; its new content is used from now on").await;
    let calls = rig.provider.calls();
    let from = calls.iter().position(|call| call.secret == Some(next)).unwrap();
    assert!(calls[from..].iter().all(|call| call.secret == Some(next)), "{calls:?}");
    assert_eq!(until_served(rig).await, 0);
    assert!(!rig.proxy.said().contains("no token as"), "{}", rig.proxy.said());
}

#[tokio::test]
async fn a_secret_that_is_renamed_into_place_is_used_next() {
    let rig = bench().await.start(EAGER);
    rig.proxy.until_ready().await;
    rig.folder.replace("secret", &format!("{NEXT}\n"));
    is_used(&rig).await;
}

#[tokio::test]
async fn a_secret_that_is_written_in_place_is_used_next() {
    let bench = bench().await;
    bench.folder.write("secret", &format!("{SECRET}\n"));
    let rig = bench.start(EAGER);
    rig.proxy.until_ready().await;
    // As an editor without a temporary file does it, but in one go: a renewal may be reading.
    let mut file = std::fs::OpenOptions::new().write(true).open(rig.folder.path("secret")).unwrap();
    std::io::Write::write_all(&mut file, format!("{NEXT}\r\n").as_bytes()).unwrap();
    file.set_len(NEXT.len() as u64 + 2).unwrap();
    eventually("the new secret is used", || {
        let next = Fingerprint::of(NEXT.as_bytes());
        rig.provider.calls().iter().any(|call| call.secret == Some(next) && call.status == Some(200))
    })
    .await;
    rig.proxy.until_said("main: a secret file changed; its new content is used from now on").await;
    assert_eq!(until_served(&rig).await, 0);
}

#[tokio::test]
async fn a_secret_that_kubelet_swaps_is_used_next() {
    let bench = bench().await;
    let at = |name: &str| bench.folder.path(name);
    for (version, content) in [("..2026_1", SECRET), ("..2026_2", NEXT)] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("client-secret"), content).unwrap();
    }
    symlink("..2026_1", at("..data")).unwrap();
    symlink("..data/client-secret", at("client-secret")).unwrap();
    let token = bench.usual().replace("{file: secret}", "{file: client-secret}") + EAGER;
    let route = bench.route();
    let rig = bench.run(&[("main", &token)], &[("api", &route)]);
    rig.proxy.until_ready().await;
    let at = |name: &str| rig.folder.path(name);
    symlink("..2026_2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    std::fs::remove_dir_all(at("..2026_1")).unwrap();
    is_used(&rig).await;
}

#[tokio::test]
async fn a_secret_that_was_replaced_while_the_old_one_was_on_its_way_is_tried_at_once() {
    let bench = Bench::new().await;
    let latch = Latch::new();
    bench.provider.script().push(Answer::json(401, &json!({"error": "invalid_client"})).held_by(&latch));
    let rig = bench.start("");
    rig.provider.wait_for(1, PATIENCE).await.unwrap();
    rig.provider.set_secrets(CLIENT, &[NEXT]);
    // In place, which the watch leaves to settle for two seconds.
    rig.folder.write("secret", NEXT);
    latch.open();
    rig.proxy.until_said("answered 401 Unauthorized (invalid_client); trying again at once").await;
    rig.proxy.until_ready().await;
    assert_eq!(rig.provider.count(), 2);
    assert_eq!(rig.provider.calls()[1].secret, Some(Fingerprint::of(NEXT.as_bytes())));
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn a_new_secret_ends_the_backoff_that_the_old_one_earned() {
    let bench = Bench::new().await;
    bench.provider.set_secrets(CLIENT, &[NEXT]);
    let rig = bench.start("");
    rig.provider.wait_for(2, PATIENCE).await.unwrap();
    assert_eq!(rig.proxy.page("/readyz").await.status, 503);
    rig.folder.replace("secret", NEXT);
    rig.proxy.until_ready().await;
    let next = Fingerprint::of(NEXT.as_bytes());
    let (new, old): (Vec<_>, Vec<_>) = rig.provider.calls().into_iter().partition(|call| call.secret == Some(next));
    assert!(new.len() == 1 && old.len() < 5, "{} with the new one, {} with the old", new.len(), old.len());
    assert_eq!(rig.get("/").await.status, 200);
}

#[tokio::test]
async fn a_secret_file_that_goes_away_or_is_emptied_costs_nothing_and_is_named() {
    let rig = bench().await.start(EAGER);
    rig.proxy.until_ready().await;
    let path = rig.folder.path("secret").display().to_string();
    std::fs::remove_file(&path).unwrap();
    rig.proxy.until_said(&format!("the secret cannot be read: {path}: entity not found")).await;
    assert_eq!(until_served(&rig).await, 0);
    rig.folder.replace("secret", "\n");
    rig.proxy.until_said(&format!("the secret cannot be read: {path}: the file is empty")).await;
    assert_eq!(until_served(&rig).await, 0);
    let held = grants(&rig);
    rig.folder.replace("secret", NEXT);
    eventually("it is renewed again", || grants(&rig) > held).await;
    assert_eq!(until_served(&rig).await, 0);
}

#[tokio::test]
async fn a_secret_may_come_from_the_environment() {
    let bench = Bench::new().await;
    let token = bench.usual().replace("{file: secret}", "{env: APP_SECRET}");
    let route = bench.route();
    let environment = Environment::from([("APP_SECRET".to_owned(), OsString::from(SECRET))]);
    let rig = bench.run_in(&environment, &[("main", &token)], &[("api", &route)]);
    rig.proxy.until_ready().await;
    assert_eq!(rig.provider.calls()[0].secret, Some(Fingerprint::of(SECRET.as_bytes())));
    assert_eq!(rig.get("/").await.status, 200);
}
