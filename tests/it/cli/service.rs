//! bearerd as a service of systemd's: what its manager hears, by a socket that stands for it.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use bearerd::app::Service;
use bearerd::demo::answer::Answer;
use rustix::process::Signal;
use serde_json::json;

use super::child::Child;
use super::stage::{Running, Stage};
use crate::support::{App, Folder, Options, Proxy, Rig, eventually};

/// The manager's ear, and all that it heard.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
    /// Where it is.
    path: String,
}

impl Manager {
    fn new(folder: &Folder) -> Self {
        let path = folder.path("notify").display().to_string();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, heard: Vec::new(), path }
    }

    /// Has its queue be full from now on. One who sends may have so many on their way, and so it takes several.
    fn hang(&self) {
        let said = || {
            let sender = UnixDatagram::unbound().unwrap();
            sender.set_nonblocking(true).unwrap();
            // Those that were sent stay when their sender goes.
            (0..).take_while(|_| sender.send_to(b"X=1", &self.path).is_ok()).count()
        };
        while said() > 0 {}
    }

    fn listen(&mut self) {
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            self.heard.push(String::from_utf8(message[..length].to_vec()).unwrap());
        }
    }

    /// How often it heard that the service lives.
    fn pings(&mut self) -> usize {
        self.listen();
        self.heard.iter().filter(|message| *message == "WATCHDOG=1").count()
    }

    /// Waits for one more of those.
    async fn until_pinged(&mut self) {
        let before = self.pings();
        eventually("it says once more that it lives", || self.pings() > before).await;
    }

    /// Waits until this is the last sentence that it was told.
    async fn until_sentence(&mut self, sentence: &str) {
        eventually(&format!("{sentence:?} is the sentence"), || {
            self.listen();
            let last = self.heard.iter().rev().find_map(|message| message.split_once("STATUS="));
            last.is_some_and(|(_, last)| last == sentence)
        })
        .await;
    }

    /// Waits until it was told this after `before`, and forgets all of it.
    async fn until(&mut self, told: &[&str]) {
        eventually(&format!("{told:?} is told"), || {
            self.listen();
            let others: Vec<_> = self.heard.iter().filter(|message| *message != "WATCHDOG=1").collect();
            assert!(others.len() <= told.len(), "{others:?} instead of {told:?}");
            others.len() == told.len() && others.iter().zip(told).all(|(heard, told)| heard.starts_with(told))
        })
        .await;
        self.heard.clear();
    }
}

#[tokio::test]
async fn a_manager_hears_all_of_its_life_in_order() {
    let stage = Stage::new().await;
    stage.configure("shutdown: {delay: 100ms, timeout: 40s}\n");
    let mut manager = Manager::new(&stage.folder);
    stage.provider.stop().await;
    let (file, path) = (stage.file(), manager.path.clone());
    let variables = [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "300000")];
    let mut running = Running::of(Child::spawn(&["run", "--config", &file], &variables)).await;
    // A provider that is away is no reason not to be there.
    manager.until(&["READY=1\nSTATUS=Waiting for token main"]).await;
    App::connect(running.address).await;
    manager.until_pinged().await;
    manager.until_pinged().await;
    stage.provider.restart().await.unwrap();
    manager.until(&["STATUS=Ready"]).await;

    for (more, told) in [
        ("shutdown: {delay: 100ms, timeout: 50s}\n", "\"event\":\"reloaded\""),
        ("workers: 2\n", "\"event\":\"reload_refused\""),
        ("nonsense: 1\n", "nonsense"),
    ] {
        // By the signal alone: a file that changes is nobody's wish.
        stage.configure(more);
        running.child.until_err(told).await;
        running.child.signal(Signal::HUP);
        manager.until(&["RELOADING=1\nMONOTONIC_USEC=", "READY=1"]).await;
    }
    stage.configure("shutdown: {delay: 100ms, timeout: 50s}\n");
    running.child.signal(Signal::HUP);
    manager.until(&["RELOADING=1\nMONOTONIC_USEC=", "READY=1"]).await;
    manager.until_pinged().await;

    let ended = running.child.end_by(Signal::TERM).await.with(0);
    // Delay, timeout and five seconds for the rest.
    manager.until(&["STOPPING=1\nEXTEND_TIMEOUT_USEC=55100000\nSTATUS=Draining"]).await;
    assert!(!ended.err.contains("NOTIFY_SOCKET"), "{}", ended.err);
}

#[tokio::test]
async fn a_token_that_expires_is_told_and_so_is_the_next() {
    let stage = Stage::new().await;
    let mut manager = Manager::new(&stage.folder);
    stage.provider.set_life(Duration::from_secs(4));
    let (file, path) = (stage.file(), manager.path.clone());
    let down = Answer::json(503, &json!({"error": "temporarily_unavailable"}));
    let running = Child::spawn(&["run", "--config", &file], &[("NOTIFY_SOCKET", &path)]);
    let running = Running::of(running).await.ready().await;
    manager.until_sentence("Ready").await;
    stage.provider.script().always(down);
    manager.until_sentence("Waiting for a new token, since the last has expired: main").await;
    stage.provider.set_life(Duration::from_secs(3_600));
    stage.provider.script().clear();
    manager.until_sentence("Ready").await;
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn a_manager_that_cannot_be_reached_ends_nothing() {
    let stage = Stage::new().await;
    let file = stage.file();
    for (socket, told) in [
        ("/nowhere/notify", "the service manager cannot be told that bearerd is ready (`NOTIFY_SOCKET`)"),
        ("vsock:2:1", "`NOTIFY_SOCKET` leads nowhere"),
    ] {
        let running = Running::of(Child::spawn(&["run", "--config", &file], &[("NOTIFY_SOCKET", socket)])).await;
        let mut running = running.ready().await;
        running.child.until_err(told).await;
        running.child.signal(Signal::HUP);
        running.child.until_err("reload_unchanged").await;
        running.child.end_by(Signal::TERM).await.with(0);
    }
}

#[tokio::test]
async fn a_manager_that_hangs_holds_up_nothing() {
    let stage = Stage::new().await;
    let manager = Manager::new(&stage.folder);
    manager.hang();
    let variables = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "300000")];
    let running = Running::of(Child::spawn(&["run", "--config", &stage.file()], &variables)).await;
    let running = running.ready().await;
    let asked = Instant::now();
    let ended = running.child.end_by(Signal::TERM).await.with(0);
    // It would be told for five seconds at the least that it is ready, and then for as long that this is the end.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert!(!ended.err.contains("NOTIFY_SOCKET"), "{}", ended.err);
    drop(manager);
}

#[tokio::test]
async fn a_worker_that_hangs_is_not_said_to_live() {
    let rig = Rig::with(Options { top: "workers: 2\n", ..Options::default() }).await;
    let mut manager = Manager::new(&rig.folder);
    let path = manager.path.clone();
    let service = Service::of(|name| match name {
        "NOTIFY_SOCKET" => Some(path.clone().into()),
        "WATCHDOG_USEC" => Some("30000".into()),
        _ => None,
    });
    let proxy = Proxy::start_telling(&rig.folder, service.unwrap());
    proxy.until_ready().await;
    manager.until_pinged().await;
    // Whoever writes a line waits for this, and so does the worker that has one to write about a request.
    let (log, (tell, told), (release, released)) =
        (proxy.log(), std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let holder = std::thread::spawn(move || {
        let held = log.lock().unwrap();
        tell.send(()).unwrap();
        let _ = released.recv_timeout(Duration::from_secs(60));
        drop(held);
    });
    told.recv().unwrap();
    let mut app = App::connect(proxy.address).await;
    app.send("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    // It hangs once that was taken up; until then it lives, however long that takes.
    let mut before = manager.pings();
    let mut quiet = tokio::time::Instant::now();
    eventually("for a hundred times as long as it may take nothing is said", || {
        let pings = manager.pings();
        if pings != before {
            (before, quiet) = (pings, tokio::time::Instant::now());
        }
        quiet.elapsed() > Duration::from_secs(3)
    })
    .await;
    assert_eq!(proxy.page("/livez").await.status, 200, "the control plane is well");
    release.send(()).unwrap();
    holder.join().unwrap();
    assert_eq!(app.answer().await.status, 421);
    manager.until_pinged().await;
    proxy.end().await;
}
