//! bearerd as a process, with a provider of its own: what a proof of this folder is made on.
//!
//! Tokens, clients and routes are called `t0`, `t1` and so on, each route of the token with its name. What a process takes is
//! read from the kernel.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use bearerd::demo::provider::{self, Provider};

use super::books::Books;
use crate::cli::child::{Child, Ended, command};
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
        let names: Vec<String> = (0..tokens).map(|number| format!("t{number}")).collect();
        let clients = names.iter().map(|name| (name.clone(), SECRET.to_owned())).collect();
        // Without TLS: what is at stake here happens behind it.
        let settings = provider::Settings { clients, life, ..provider::Settings::plain() };
        let provider = Provider::start(settings).await.unwrap();
        let folder = Folder::new();
        folder.write("secret", SECRET);
        Self { books: Books::new(provider.verifier()), provider, folder, names }
    }

    /// Writes the configuration, with each route to this API, where `{name}` is the route's.
    pub(super) fn configure(&self, api: &str, lines: Lines) {
        let mut yaml = format!("listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0\n{}\ntokens:\n", lines.top);
        let below = |yaml: &mut String, more: &str| more.lines().for_each(|line| writeln!(yaml, "    {line}").unwrap());
        for name in &self.names {
            writeln!(yaml, "  {name}:").unwrap();
            let url = self.provider.token_url();
            below(
                &mut yaml,
                &format!("token_url: {url}\nclient_id: {name}\nclient_secret: {{file: secret}}\n{}", lines.token),
            );
        }
        yaml.push_str("routes:\n");
        for name in &self.names {
            writeln!(yaml, "  - name: {name}").unwrap();
            below(
                &mut yaml,
                &format!(
                    "match: {{path: /{name}}}\nupstream: {}\ntoken: {name}\n{}",
                    api.replace("{name}", name),
                    lines.route
                ),
            );
        }
        self.folder.write("bearerd.yaml", &yaml);
    }

    /// bearerd with that configuration, listening.
    pub(super) async fn start(&self) -> Bearerd {
        self.start_by(|command| command).await
    }

    /// The same, run as `change` has it.
    pub(super) async fn start_by(&self, change: impl FnOnce(Command) -> Command) -> Bearerd {
        let file = self.folder.path("bearerd.yaml").display().to_string();
        Bearerd(Running::of(Child::start(change(command(&["run", "--config", &file], &[])))).await)
    }

    /// The same with its tokens.
    pub(super) async fn start_ready(&self) -> Bearerd {
        self.start().await.ready().await
    }
}

/// The process.
pub(super) struct Bearerd(Running);

impl Bearerd {
    /// Waits for its tokens.
    pub(super) async fn ready(self) -> Self {
        Self(self.0.ready().await)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Token requests that came to this, such as `granted`, of all tokens.
    pub(super) async fn token_requests(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let page = App::connect(self.0.page("admin")).await.get("/metrics").await;
        let text = page.text();
        let counted =
            text.lines().filter_map(|line| line.strip_prefix("bearerd_token_requests_total{")?.rsplit_once("} "));
        let outcome = |labels: &str| labels.split("outcome=\"").nth(1).unwrap().trim_end_matches('"').to_owned();
        counted.filter(|(labels, _)| wanted(&outcome(labels))).map(|(_, count)| count.parse::<u64>().unwrap()).sum()
    }

    /// Waits until each of these tokens is `fresh`, or `expired`, as its metrics say.
    pub(super) async fn until_tokens_are(&self, state: &str, tokens: &[String]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = App::connect(self.0.page("admin")).await.get("/metrics").await;
            let text = page.text();
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

    /// What it has said so far.
    pub(super) fn err(&self) -> String {
        self.0.child.err()
    }

    pub(super) fn admin(&self) -> SocketAddr {
        self.0.page("admin")
    }

    /// Waits for its end, by itself.
    pub(super) async fn ended(self) -> Ended {
        self.0.child.ended().await
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        self.0.child.signal(signal);
    }

    /// Ends it politely. What it said holds no secret and no token.
    pub(super) async fn end(self) {
        self.signal(rustix::process::Signal::TERM);
        self.0.child.ended().await.with(0);
    }

    /// Resident, in KiB.
    pub(super) fn resident(&self) -> u64 {
        let text = self.of_process("status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    pub(super) fn descriptors(&self) -> u64 {
        std::fs::read_dir(self.place("fd")).unwrap().count() as u64
    }

    pub(super) fn threads(&self) -> u64 {
        std::fs::read_dir(self.place("task")).unwrap().count() as u64
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

    fn place(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.0.child.pid())
    }

    fn of_process(&self, what: &str) -> String {
        std::fs::read_to_string(self.place(what)).unwrap()
    }
}

/// Waits until so many tokens were asked for.
pub(super) async fn until_calls(provider: &Provider, calls: usize) {
    provider.wait_for(calls, PATIENCE).await.unwrap();
}
