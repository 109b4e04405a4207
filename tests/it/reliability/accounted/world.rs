//! bearerd as a process, with a provider of its own: what a proof of this folder is made on.
//!
//! Tokens, clients and routes are called `t0`, `t1` and so on, each route of the token with its name. What a process takes is
//! read from the kernel.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bearerd::demo::certs::Ca;
use bearerd::demo::provider::{self, Provider};

use super::books::Books;
use super::canary;
use crate::cli::child::{BINARY, Child, Ended, command, copy_binary, secret_in};
use crate::cli::stage::Running;
use crate::support::{App, Folder, PATIENCE, SECRET, eventually};

pub(super) struct World {
    pub(super) provider: Provider,
    pub(super) books: std::sync::Arc<Books>,
    /// Holds `bearerd.yaml` and `secret`.
    pub(super) folder: Folder,
    pub(super) names: Vec<String>,
}

/// Lines of YAML below each token, below each route, and at the top.
#[derive(Clone, Copy, Default)]
pub(super) struct Lines {
    pub(super) token: &'static str,
    pub(super) route: &'static str,
    pub(super) top: &'static str,
}

impl World {
    /// So many clients, and tokens that live so long.
    pub(super) async fn new(tokens: usize, life: Duration) -> Self {
        // Without TLS: what is at stake here happens behind it.
        Self::with(tokens, life, provider::Settings::plain()).await
    }

    /// The same with a provider that speaks TLS, and the authority's certificate in `ca.pem`.
    pub(super) async fn over_tls(tokens: usize, life: Duration, ca: &Ca) -> Self {
        let tls = ca.server(&["localhost", "127.0.0.1"]).unwrap();
        let world = Self::with(tokens, life, provider::Settings::new(tls)).await;
        world.folder.write("ca.pem", &ca.pem());
        world
    }

    async fn with(tokens: usize, life: Duration, settings: provider::Settings) -> Self {
        let names: Vec<String> = (0..tokens).map(|number| format!("t{number}")).collect();
        let clients = names.iter().map(|name| (name.clone(), SECRET.to_owned())).collect();
        let provider = Provider::start(provider::Settings { clients, life, ..settings }).await.unwrap();
        let folder = Folder::new();
        folder.write("secret", SECRET);
        Self { books: Books::new(provider.verifier()), provider, folder, names }
    }

    /// Tokens that were granted, less the first of each.
    pub(super) fn renewals(&self) -> usize {
        let granted = self.provider.calls().iter().filter(|call| call.issued.is_some()).count();
        granted.saturating_sub(self.names.len())
    }

    /// Writes the configuration, with each route to this API, where `{name}` is the route's.
    pub(super) fn configure(&self, api: &str, lines: Lines) {
        self.configure_each(lines, |_| self.provider.token_url(), |number| api.replace("{name}", &self.names[number]));
    }

    /// The same with a token URL for each token and an API for each route, by their numbers.
    pub(super) fn configure_each(
        &self,
        lines: Lines,
        token_url: impl Fn(usize) -> String,
        api: impl Fn(usize) -> String,
    ) {
        let mut yaml = format!("listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0\n{}\ntokens:\n", lines.top);
        let below = |yaml: &mut String, more: &str| more.lines().for_each(|line| writeln!(yaml, "    {line}").unwrap());
        for (number, name) in self.names.iter().enumerate() {
            writeln!(yaml, "  {name}:").unwrap();
            let url = token_url(number);
            below(
                &mut yaml,
                &format!("token_url: {url}\nclient_id: {name}\nclient_secret: {{file: secret}}\n{}", lines.token),
            );
        }
        yaml.push_str("routes:\n");
        for (number, name) in self.names.iter().enumerate() {
            writeln!(yaml, "  - name: {name}").unwrap();
            let api = api(number);
            below(&mut yaml, &format!("match: {{path: /{name}}}\nupstream: {api}\ntoken: {name}\n{}", lines.route));
        }
        self.folder.write("bearerd.yaml", &yaml);
    }

    /// bearerd with that configuration, listening.
    pub(super) async fn start(&self) -> Bearerd {
        self.start_by(|command| command).await
    }

    /// The same with its tokens.
    pub(super) async fn start_ready(&self) -> Bearerd {
        self.start().await.ready().await
    }

    /// The same, run as `change` has it.
    pub(super) async fn start_by(&self, change: impl FnOnce(Command) -> Command) -> Bearerd {
        let file = self.folder.path("bearerd.yaml").display().to_string();
        let own = self.folder.path("own");
        std::fs::create_dir_all(&own).unwrap();
        let mut command = command(&["run", "--config", &file], &[]);
        // Where it would leave what it should not leave.
        command.env("TMPDIR", &own).current_dir(&own);
        let command = change(command);
        let has_bugs = command.get_envs().any(|(name, _)| name == "BEARERD_PANIC");
        Bearerd { has_bugs, ..self.of(Child::start(command)).await }
    }

    /// What was started otherwise.
    pub(super) async fn of(&self, child: Child) -> Bearerd {
        Bearerd { running: Running::of(child).await, folder: self.folder.path(""), has_bugs: false }
    }
}

/// The process.
pub(super) struct Bearerd {
    running: Running,
    folder: PathBuf,
    /// Bugs on purpose.
    has_bugs: bool,
}

impl Bearerd {
    /// Waits for its tokens.
    pub(super) async fn ready(self) -> Self {
        Self { running: self.running.ready().await, ..self }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Token requests that came to this, such as `granted`, of all tokens.
    pub(super) async fn token_requests(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let text = self.page("/metrics").await;
        let counted =
            text.lines().filter_map(|line| line.strip_prefix("bearerd_token_requests_total{")?.rsplit_once("} "));
        let outcome = |labels: &str| labels.split("outcome=\"").nth(1).unwrap().trim_end_matches('"').to_owned();
        counted.filter(|(labels, _)| wanted(&outcome(labels))).map(|(_, count)| count.parse::<u64>().unwrap()).sum()
    }

    /// Waits until each of these tokens is `fresh`, or `expired`, as its metrics say.
    pub(super) async fn until_tokens_are(&self, state: &str, tokens: &[String]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.page("/metrics").await;
            let is = |token: &String| {
                text.contains(&format!("bearerd_token_state{{token=\"{token}\",state=\"{state}\"}} 1"))
            };
            if tokens.iter().all(is) {
                return;
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} until {tokens:?} were {state}: {text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        self.running.child.signal(signal);
    }

    /// Ends it politely. What it said, shows and leaves behind holds no secret and no token.
    pub(super) async fn end(self) {
        for path in canary::PAGES {
            let page = self.page(path).await;
            assert_eq!(secret_in(page.as_bytes()), None, "{path}: {page}");
        }
        self.end_by(rustix::process::Signal::TERM).await.with(0);
    }

    pub(super) async fn end_by(self, signal: rustix::process::Signal) -> Ended {
        self.signal(signal);
        self.ended().await
    }

    /// What its admin listener answers.
    pub(super) async fn page(&self, path: &str) -> String {
        App::connect(self.running.page("admin")).await.get(path).await.text().to_owned()
    }

    /// Resident, in KiB.
    pub(super) fn resident(&self) -> u64 {
        let text = self.of_process("status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// Stopped by a signal.
    pub(super) fn stands_still(&self) -> bool {
        self.of_process("status").lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.child.pid()
    }

    pub(super) fn threads(&self) -> u64 {
        std::fs::read_dir(self.place("task")).unwrap().count() as u64
    }

    pub(super) fn descriptors(&self) -> u64 {
        std::fs::read_dir(self.place("fd")).unwrap().count() as u64
    }

    /// Time on a processor so far.
    pub(super) fn spent(&self) -> Duration {
        // One that ends meanwhile takes its own with it.
        let tasks = std::fs::read_dir(self.place("task")).unwrap();
        let each = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
        Duration::from_nanos(each.map(|text| text.split(' ').next().unwrap().parse::<u64>().unwrap()).sum())
    }

    /// Waits until it has so few descriptors again.
    pub(super) async fn until_descriptors(&self, most: u64) {
        eventually(&format!("it has {most} descriptors or fewer"), || self.descriptors() <= most).await;
    }

    pub(super) fn place(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.running.child.pid())
    }

    fn of_process(&self, what: &str) -> String {
        std::fs::read_to_string(self.place(what)).unwrap()
    }
}

/// A process that has limits from before its first moment on, or another user's; and what is asked of it by hand.
impl World {
    /// bearerd within these limits, as a user that has no other process; root is not limited by all of them. It may not come
    /// to listen.
    pub(super) fn start_within(&self, limits: &[(&str, u64)]) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read go; exec \"$@\"", "sh"]).env_clear();
        if rustix::process::geteuid().is_root() {
            static USERS: AtomicU32 = AtomicU32::new(0);
            let user = 60_000 + (std::process::id() * 8 + USERS.fetch_add(1, Ordering::Relaxed)) % 5_000;
            let own = self.folder.path("bearerd");
            if !own.exists() {
                copy_binary(&own);
            }
            for entry in std::fs::read_dir(self.folder.path("")).unwrap() {
                std::os::unix::fs::chown(entry.unwrap().path(), Some(user), Some(user)).unwrap();
            }
            std::os::unix::fs::chown(self.folder.path(""), Some(user), Some(user)).unwrap();
            command.arg(own).uid(user).gid(user);
        } else {
            command.arg(BINARY);
        }
        let (child, mut keys) = Child::with_keys({
            command.args(["run", "--config"]).arg(self.folder.path("bearerd.yaml"));
            command
        });
        for (what, most) in limits {
            // Both of them: it raises the soft one to the hard one if it can.
            limit(child.pid(), what, &most.to_string());
        }
        keys.write_all(b"\n").unwrap();
        child
    }
}

impl Bearerd {
    /// From now on it may have so much of this, such as `nofile`; what was in force. The hard limit stays: only root may raise
    /// that again.
    pub(super) fn limit(&self, what: &str, most: &str) -> String {
        limit(self.running.child.pid(), what, &format!("{most}:"))
    }

    /// Where `admin` or `health` listens.
    pub(super) fn at(&self, listener: &str) -> SocketAddr {
        self.running.page(listener)
    }

    /// Its log so far.
    pub(super) fn log(&self) -> String {
        self.running.child.err()
    }

    /// Waits until its log says this.
    pub(super) async fn until_said(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), || self.log().contains(text)).await;
    }

    /// The status of a page of `admin` or `health`.
    pub(super) async fn status(&self, listener: &str, path: &str) -> u16 {
        App::connect(self.running.page(listener)).await.get(path).await.status
    }

    /// Of its memory that is its own to write to, in bytes: what `RLIMIT_DATA` counts.
    pub(super) fn data(&self) -> u64 {
        let text = self.of_process("status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
        1_024 * line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
    }

    /// Waits for its end, however it comes.
    pub(super) async fn ended(self) -> Ended {
        let ended = self.running.child.ended().await;
        // A panic is outlived, and would else go unnoticed.
        assert!(self.has_bugs || !ended.err.contains("\"event\":\"panicked\""), "{}", ended.err);
        canary::search(&self.folder);
        ended
    }
}

/// Sets a limit of another process in prlimit(1)'s words; what the soft one was.
fn limit(process: u32, what: &str, most: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    let user: u32 = line.split_whitespace().next().unwrap().parse().unwrap();
    // Not every root may do that to everybody.
    let prlimit = |limit: &str| {
        let mut command = Command::new("prlimit");
        command.arg("--pid").arg(process.to_string()).arg(limit).args(["--output", "SOFT", "--noheadings"]);
        if rustix::process::geteuid().is_root() {
            command.uid(user).gid(user);
        }
        let done = command.output().expect("prlimit of util-linux");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let before = prlimit(&format!("--{what}"));
    prlimit(&format!("--{what}={most}"));
    before
}

/// Waits until so many tokens were asked for.
pub(super) async fn until_calls(provider: &Provider, calls: usize) {
    provider.wait_for(calls, PATIENCE).await.unwrap();
}
