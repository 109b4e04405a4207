//! Another configuration two hundred times, with traffic all the while: no request fails, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bearerd::demo::api::{self, Api};
use bearerd::demo::provider::{self, Provider};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::cli::child::{Child, command};
use crate::cli::stage::Running;
use crate::support::{App, App2, Folder, SECRET, eventually, report, scaled};

/// What a process may have grown by: an allocator keeps what a busy moment took.
const GROWTH: usize = 24 * 1024;

struct Stage {
    folder: Folder,
    token_url: String,
    api: String,
    running: Running,
}

impl Stage {
    async fn new(provider: &Provider, api: &Api) -> Self {
        let folder = Folder::new();
        folder.write("secret", SECRET);
        let (token_url, api) = (provider.token_url(), api.url().to_owned());
        folder.write("bearerd.yaml", &document(&token_url, &api, 0));
        let file = folder.path("bearerd.yaml").display().to_string();
        let child = Child::start(command(&["run", "--config", &file], &[]));
        let running = Running::of(child).await.ready().await;
        Self { folder, token_url, api, running }
    }

    fn log(&self, text: &str) -> usize {
        self.running.child.err().matches(text).count()
    }

    async fn put(&self, number: u64) {
        let before = self.log("\"event\":\"reloaded\"");
        self.folder.replace("bearerd.yaml", &document(&self.token_url, &self.api, number));
        self.running.child.signal(Signal::HUP);
        eventually("it is in force", || self.log("\"event\":\"reloaded\"") > before).await;
    }

    fn of_process(&self, place: &str) -> String {
        format!("/proc/{}/{place}", self.running.child.pid())
    }

    fn entries(&self, place: &str) -> usize {
        fs::read_dir(self.of_process(place)).unwrap().count()
    }

    /// What the system watches for it.
    fn watches(&self) -> usize {
        let files = fs::read_dir(self.of_process("fdinfo")).unwrap();
        // One may be closed meanwhile.
        let all = files.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
        all.map(|info| info.lines().filter(|line| line.starts_with("inotify wd")).count()).sum()
    }

    fn resident(&self) -> usize {
        let status = fs::read_to_string(self.of_process("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// The names of all that is measured.
    async fn series(&self) -> BTreeSet<String> {
        let metrics = App::connect(self.running.page("admin")).await.get("/metrics").await;
        let lines = metrics.text().lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_owned()).collect()
    }
}

/// One plan of two, with something that no other has.
fn document(token_url: &str, api: &str, number: u64) -> String {
    let token = |name: &str, more: &str| {
        format!("  {name}: {{token_url: '{token_url}', client_id: app, client_secret: {{file: secret}}{more}}}\n")
    };
    let route = |name: &str, token: &str, more: &str| {
        format!("  - {{name: {name}, match: {{path: /{name}}}, upstream: '{api}', token: {token}{more}}}\n")
    };
    let odd = number % 2 == 1;
    let changes = format!(", wait: {}s", 10 + number % 7);
    let mut tokens = token("steady", "") + &token("changing", if odd { &changes } else { "" });
    let mut routes =
        route("steady", "steady", "") + &route("changing", "changing", if odd { ", via: true" } else { "" });
    if odd {
        tokens += &token(&format!("new-{number}"), "");
        routes += &route(&format!("new-{number}"), &format!("new-{number}"), ", warm: 1");
    }
    let headers = if odd { 90 } else { 100 };
    format!(
        "listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0\nlimits: {{headers: {headers}}}\ntokens:\n{tokens}routes:\n{routes}"
    )
}

#[tokio::test]
async fn two_hundred_reloads_under_traffic_fail_nobody_and_leave_nothing_behind() {
    let reloads: u64 = scaled(40, 200);
    let begun = Instant::now();
    let clients = vec![("app".to_owned(), SECRET.to_owned())];
    let settings = provider::Settings { clients, life: Duration::from_secs(3_600), ..provider::Settings::plain() };
    let provider = Provider::start(settings).await.unwrap();
    let api = api::Settings { verifier: Some(provider.verifier()), ..api::Settings::plain() };
    let api = Api::start(api).await.unwrap();
    api.set_logging(false);
    let stage = Stage::new(&provider, &api).await;

    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut apps = JoinSet::new();
    for app in 0..6 {
        let (over, answered, address) = (Arc::clone(&over), Arc::clone(&answered), stage.running.address);
        apps.spawn(async move {
            let (mut one, mut two) = (App::connect(address).await, App2::connect(address).await);
            for path in ["/steady", "/changing"].into_iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let answer = if app % 3 == 2 { two.get(path).await } else { one.get(path).await };
                assert!(answer.status == 200 && answer.complete, "{answer:?}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // The first of them cost what stays: code that is read, threads that read files.
    let warm = 6;
    for number in 1..=warm {
        stage.put(number).await;
    }
    let more = answered.load(Ordering::Relaxed) + 50;
    eventually("traffic flows", || answered.load(Ordering::Relaxed) > more).await;
    let (descriptors, watches, resident, series) =
        (stage.entries("fd"), stage.watches(), stage.resident(), stage.series().await);
    for number in warm + 1..=reloads {
        stage.put(number).await;
        assert!(!apps.is_empty() && apps.try_join_next().is_none(), "an app has ended");
    }
    let more = answered.load(Ordering::Relaxed) + 50;
    eventually("traffic flows", || answered.load(Ordering::Relaxed) > more).await;
    // What a route that is gone had open closes a moment later, and a thread that read files goes after ten seconds.
    eventually("no descriptor is left", || stage.entries("fd") <= descriptors).await;
    eventually("no watch is left", || stage.watches() <= watches).await;
    eventually("no thread is left", || stage.entries("task") <= 6).await;
    assert_eq!(stage.series().await, series);
    let grown = stage.resident().saturating_sub(resident);
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = apps.join_next().await {
        ended.unwrap();
    }
    let steady = provider.calls().len();
    report(&format!(
        "reloads: {reloads} under traffic, {} requests and none failed, {steady} token requests, {grown} KiB more than \
         {resident}; {:.1} s",
        answered.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    ));
    assert!(grown <= GROWTH, "{grown} KiB");
    // The one that did not change was asked for once; the other two for each plan that has them anew.
    assert_eq!(stage.log("steady: got token"), 1);
}
