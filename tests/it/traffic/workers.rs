//! Several workers share the connections of apps evenly, whatever these speak and however they come and go.

use std::any::Any;
use std::collections::BTreeMap;

use super::{last, moment, rig_with, route};
use crate::support::{App, PATIENCE, Rig};

const WORKERS: usize = 4;
const EACH: usize = 16;

#[derive(Clone, Copy)]
enum Kind {
    Http1,
    Http2,
    Unix,
}

const KINDS: [Kind; 3] = [Kind::Http1, Kind::Http2, Kind::Unix];

async fn rig() -> Rig {
    rig_with(|rig| {
        let (socket, route) = (rig.folder.path("app.sock"), route(rig, "api", "", ""));
        format!("listen: ['127.0.0.1:0', 'unix:{}']\nworkers: {WORKERS}\nroutes:\n{route}", socket.display())
    })
    .await
}

/// An app's connection, and the worker that carries it: a worker has connections to the API of its own, and one request
/// at a time needs one of them.
async fn app(rig: &Rig, kind: Kind) -> (u64, Box<dyn Any>) {
    let app: Box<dyn Any> = match kind {
        Kind::Http1 => {
            let mut app = rig.app().await;
            assert_eq!(app.get("/").await.status, 200);
            Box::new(app)
        }
        Kind::Http2 => {
            let mut app = rig.app2().await;
            assert_eq!(app.get("/").await.status, 200);
            Box::new(app)
        }
        Kind::Unix => {
            let mut app = App::connect_to(&rig.folder.path("app.sock")).await;
            assert_eq!(app.get("/").await.status, 200);
            Box::new(app)
        }
    };
    (last(rig).connection_id, app)
}

/// Waits until so many connections of apps are open.
async fn until_open(rig: &Rig, wanted: usize) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let page = rig.proxy.page("/metrics").await.text().to_owned();
        let counts = page.lines().filter(|line| line.starts_with("bearerd_connections{"));
        let open: usize = counts.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        if open == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{open} are open, and not {wanted}");
        moment(5).await;
    }
}

#[tokio::test]
async fn each_has_as_many_connections_as_the_next() {
    let rig = rig().await;
    let mut by: BTreeMap<u64, Vec<Box<dyn Any>>> = BTreeMap::new();
    for kind in KINDS.into_iter().cycle().take(WORKERS * EACH) {
        let (worker, app) = app(&rig, kind).await;
        by.entry(worker).or_default().push(app);
    }
    let counts = |by: &BTreeMap<u64, Vec<Box<dyn Any>>>| by.values().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(counts(&by), [EACH; WORKERS]);
    // Whatever left one of them is made up for there.
    for worker in by.keys().copied().collect::<Vec<_>>() {
        by.get_mut(&worker).unwrap().clear();
        until_open(&rig, (WORKERS - 1) * EACH).await;
        for kind in KINDS.into_iter().cycle().take(EACH) {
            let (new, app) = app(&rig, kind).await;
            assert_eq!(new, worker);
            by.get_mut(&new).unwrap().push(app);
        }
        assert_eq!(counts(&by), [EACH; WORKERS]);
    }
}

#[tokio::test]
async fn connections_that_come_and_go_leave_nothing_behind() {
    let rig = rig().await;
    for kind in KINDS.into_iter().cycle().take(300) {
        drop(app(&rig, kind).await);
    }
    until_open(&rig, 0).await;
    let mut by: BTreeMap<u64, usize> = BTreeMap::new();
    let mut open = Vec::new();
    for kind in KINDS.into_iter().cycle().take(WORKERS * EACH) {
        let (worker, app) = app(&rig, kind).await;
        *by.entry(worker).or_default() += 1;
        open.push(app);
    }
    assert_eq!(by.into_values().collect::<Vec<_>>(), [EACH; WORKERS]);
}
