//! Steady traffic through many renewals: what the program is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bearerd::demo::api::Verdict;
use tokio::task::JoinSet;

use super::Bench;
use crate::support::App;

const REQUESTS: usize = 10_000;
const CONNECTIONS: usize = 6;
const RENEWALS: usize = 3;

/// Three quarters of nine tenths of four seconds, and a tenth off at most.
const SOONEST_RENEWAL: Duration = Duration::from_millis(2_430);

#[tokio::test]
async fn ten_thousand_requests_pass_through_renewals_and_none_fails() {
    let bench = Bench::with(|settings| settings.life = Duration::from_secs(4), |_| {}).await;
    let rig = bench.start("");
    rig.proxy.until_ready().await;
    rig.api.set_logging(false);

    let (sent, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut apps = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut app = App::connect(rig.proxy.address).await;
        let (sent, enough) = (Arc::clone(&sent), Arc::clone(&enough));
        apps.spawn(async move {
            while !enough.load(Ordering::Relaxed) {
                let answer = app.get("/steady").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let watching = async {
        while sent.load(Ordering::Relaxed) < REQUESTS || rig.provider.count() <= RENEWALS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        enough.store(true, Ordering::Relaxed);
    };
    // The end comes by enough of both, or by an app that failed; each answer has its own deadline.
    tokio::select! {
        () = watching => {}
        Some(ended) = apps.join_next() => ended.unwrap(),
    }
    while let Some(ended) = apps.join_next().await {
        ended.unwrap();
    }

    let sent = sent.load(Ordering::Relaxed) as u64;
    assert!(sent >= REQUESTS as u64);
    assert_eq!(rig.api.count(), sent, "each was forwarded once");
    assert_eq!(rig.api.count_of(Verdict::Good), sent);
    assert_eq!(rig.api.count_of(Verdict::Expired), 0);
    let calls = rig.provider.calls();
    for two in calls.windows(2) {
        // What is logged is when a request arrived, which may be a little after it was sent.
        assert!(two[1].at - two[0].at > SOONEST_RENEWAL / 2, "{:?}", two[1].at - two[0].at);
    }
    let (first, last) = (calls[0].at, calls[calls.len() - 1].at);
    let most = (last - first).as_secs_f64() / SOONEST_RENEWAL.as_secs_f64();
    assert!((calls.len() - 1) as f64 <= most.ceil(), "{} renewals in {:?}", calls.len() - 1, last - first);
}
