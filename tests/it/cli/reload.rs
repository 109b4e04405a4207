//! SIGHUP and watched files, from outside.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use bearerd::secret::Fingerprint;
use rustix::process::Signal;

use super::child::{Child, command};
use super::stage::{Running, Stage};
use crate::support::{CLIENT, SECRET, eventually};

fn events(log: &str, event: &str) -> Vec<serde_json::Value> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let lines = whole.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

async fn until(running: &Running, event: &str, many: usize) -> serde_json::Value {
    eventually(&format!("{many} of {event}"), || events(&running.child.err(), event).len() >= many).await;
    events(&running.child.err(), event).pop().unwrap()
}

/// The usual route under another name.
fn renamed(stage: &Stage, name: &str) -> String {
    stage.usual().replace("name: api", &format!("name: {name}"))
}

#[tokio::test]
async fn sighup_reads_the_configuration_again_and_says_what_came_of_it() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await.ready().await;
    running.child.signal(Signal::HUP);
    until(&running, "reload_unchanged", 1).await;
    // In place: a watch would leave it to settle.
    stage.folder.write("bearerd.yaml", &renamed(&stage, "other"));
    running.child.signal(Signal::HUP);
    let told = until(&running, "reloaded", 1).await;
    assert_eq!((&told["what"], &told["level"]), (&"routes: +other -api".into(), &"info".into()));
    assert_eq!(running.get("/").await.status, 200);
    stage.folder.write("bearerd.yaml", &stage.usual().replace("token: main", "token: mian"));
    running.child.signal(Signal::HUP);
    let told = until(&running, "reload_refused", 1).await;
    let problem = told["problems"].as_str().unwrap();
    assert_eq!((problem.lines().count(), &told["level"]), (1, &"warn".into()));
    assert!(problem.contains("bearerd.yaml:") && problem.contains("did you mean `main`"), "{problem}");
    assert_eq!(running.get("/").await.status, 200);
    assert_eq!(stage.provider.count(), 1);
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn a_configuration_that_kubelet_swaps_is_in_force() {
    let stage = Stage::new().await;
    let at = |name: &str| stage.folder.path(name);
    for (version, name) in [("..2026_1", "first"), ("..2026_2", "second")] {
        std::fs::create_dir(at(version)).unwrap();
        // Secrets and roots are looked for beside the configuration.
        for file in ["secret", "ca.pem"] {
            std::fs::copy(at(file), at(version).join(file)).unwrap();
        }
        std::fs::write(at(version).join("config.yaml"), renamed(&stage, name)).unwrap();
    }
    symlink("..2026_1", at("..data")).unwrap();
    let config = format!("{}/config.yaml", at("..data").display());
    let mut running = Running::of(Child::start(command(&["run", "--config", &config], &[]))).await.ready().await;
    symlink("..2026_2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    std::fs::remove_dir_all(at("..2026_1")).unwrap();
    running.child.until_err("routes: +second -first").await;
    assert_eq!((running.get("/").await.status, stage.provider.count()), (200, 1));
    running.child.end_by(Signal::TERM).await.with(0);
}

/// A volume as a kubelet keeps it: its files lead through `..data` to the folder of the last version, and the others are
/// gone.
struct Volume {
    folder: PathBuf,
    versions: usize,
}

impl Volume {
    fn new(folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).unwrap();
        Self { folder, versions: 0 }
    }

    fn put(&mut self, name: &str, content: &str) {
        let at = |name: &str| self.folder.join(name);
        let (last, next) = (format!("..2026_{}", self.versions), format!("..2026_{}", self.versions + 1));
        std::fs::create_dir(at(&next)).unwrap();
        std::fs::write(at(&next).join(name), content).unwrap();
        symlink(&next, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        match self.versions {
            0 => symlink(format!("..data/{name}"), at(name)).unwrap(),
            _ => std::fs::remove_dir_all(at(&last)).unwrap(),
        }
        self.versions += 1;
    }
}

#[tokio::test]
async fn configuration_and_secret_are_swapped_again_and_again() {
    let stage = Stage::new().await;
    // Renewed every few seconds: whoever's secret is old then gets nothing.
    stage.provider.set_life(Duration::from_secs(4));
    let (mut config, mut secret) =
        (Volume::new(stage.folder.path("config")), Volume::new(stage.folder.path("secrets")));
    let document = |name: &str| {
        let text = renamed(&stage, name).replace("{file: secret}", "{file: ../secrets/client-secret}");
        text.replace("ca_file: ca.pem", "ca_file: ../ca.pem")
    };
    config.put("config.yaml", &document("route-0"));
    secret.put("client-secret", SECRET);
    let file = stage.folder.path("config").join("config.yaml").display().to_string();
    let mut running = Running::of(Child::start(command(&["run", "--config", &file], &[]))).await.ready().await;
    for round in 1..=3 {
        let next = format!("x-canary-{round}");
        stage.provider.set_secrets(CLIENT, &[&next]);
        // Both at once, now the one first and now the other.
        if round % 2 == 0 {
            secret.put("client-secret", &next);
        }
        config.put("config.yaml", &document(&format!("route-{round}")));
        if round % 2 == 1 {
            secret.put("client-secret", &next);
        }
        running.child.until_err(&format!("routes: +route-{round} -route-{}", round - 1)).await;
        let next = Fingerprint::of(next.as_bytes());
        eventually("a token is granted for the new secret", || {
            stage.provider.calls().iter().any(|call| call.secret == Some(next) && call.status == Some(200))
        })
        .await;
        assert_eq!(running.get("/").await.status, 200);
    }
    let ended = running.child.end_by(Signal::TERM).await.with(0);
    assert!(!ended.err.contains("can be read by every user"), "{}", ended.err);
}

/// A secret is its token's business, and `run` has nothing to say of it.
#[tokio::test]
async fn a_secret_that_changes_is_no_other_configuration() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await.ready().await;
    stage.folder.replace("secret", &format!("{SECRET}\n"));
    until(&running, "secret_changed", 1).await;
    // What comes behind it has been looked at as well.
    stage.folder.replace("bearerd.yaml", &renamed(&stage, "other"));
    until(&running, "reloaded", 1).await;
    let log = running.child.err();
    assert_eq!(events(&log, "reload_unchanged").len() + events(&log, "reload_refused").len(), 0, "{log}");
    assert_eq!(stage.provider.count(), 1);
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn a_configuration_from_a_pipe_is_read_once() {
    let stage = Stage::new().await;
    let (child, mut keys) = {
        let mut command = command(&["run", "--config", "/dev/stdin"], &[]);
        command.current_dir(stage.folder.path(""));
        Child::with_keys(command)
    };
    let document = stage.usual();
    let document = ["secret", "ca.pem"].iter().fold(document, |document, file| {
        document.replace(&format!("file: {file}"), &format!("file: {}", stage.at(file)))
    });
    keys.write_all(document.as_bytes()).unwrap();
    drop(keys);
    let running = Running::of(child).await.ready().await;
    running.child.signal(Signal::HUP);
    let told = until(&running, "reload_refused", 1).await;
    assert!(told["problems"].as_str().unwrap().contains("can be read only once"), "{told}");
    assert_eq!(running.get("/").await.status, 200);
    running.child.end_by(Signal::TERM).await.with(0);
}
