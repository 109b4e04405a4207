//! The rig: an identity provider, an API and bearerd between them, in this process; and an app that speaks in bytes.

mod app;
mod app2;
mod corporate;
mod folder;
pub(crate) mod frames;
mod grpc;
mod scale;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub(crate) use app::{Answer, App};
pub(crate) use app2::{AnyBody, App2, full, whole};
use bearerd::app::{Bound, Ended, Reading, Reload, Service};
use bearerd::config::files::Noted;
use bearerd::config::{self, Disk, Environment, Files, Loaded, Problems, Sources};
use bearerd::demo::api::{self, Api};
use bearerd::demo::certs::Ca;
use bearerd::demo::provider::{self, Provider};
use bearerd::inbound::Inherited;
use bearerd::observe::Observer;
use bearerd::observe::log::{Format, Level, Log, LogSettings};
pub(crate) use corporate::Corporate;
pub(crate) use folder::Folder;
pub(crate) use grpc::{Call, GrpcServer, Messages, Sender, pipe, reset_reason};
pub(crate) use scale::{lasting, report, scaled, seed};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The API's name; nothing resolves it, `connect_to` leads there.
pub(crate) const API: &str = "api.example.test";

pub(crate) const CLIENT: &str = "app";

/// A secret with every character that the two dialects of Basic disagree about.
pub(crate) const SECRET: &str = "p+a/s%s:w=r d&~\"x-canary";

/// No wait in a test is longer; nothing that works takes a tenth of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What differs from one test to the next.
pub(crate) struct Options {
    /// How long tokens live.
    pub(crate) life: Duration,
    /// Lines of YAML below the token, below the route, and at the top level.
    pub(crate) token: &'static str,
    pub(crate) route: &'static str,
    pub(crate) top: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { life: Duration::from_secs(3_600), token: "", route: "", top: "" }
    }
}

/// Everything up and running. Dropped, all of it is gone.
pub(crate) struct Rig {
    pub(crate) ca: Ca,
    pub(crate) provider: Provider,
    pub(crate) api: Api,
    pub(crate) proxy: Proxy,
    /// Holds `bearerd.yaml`, `ca.pem` and `secret`.
    pub(crate) folder: Folder,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let ca = Ca::new().unwrap();
        let provider = Provider::start(provider::Settings {
            clients: vec![(CLIENT.to_owned(), SECRET.to_owned())],
            life: options.life,
            ..provider::Settings::new(ca.server(&["localhost"]).unwrap())
        })
        .await
        .unwrap();
        let api = Api::start(api::Settings {
            host: API.to_owned(),
            ..api::Settings::new(ca.server(&[API]).unwrap(), provider.verifier())
        })
        .await
        .unwrap();
        let folder = Folder::new();
        folder.write("ca.pem", &ca.pem());
        folder.write("secret", SECRET);
        folder.write("bearerd.yaml", &configuration(&provider, &api, &options));
        let proxy = Proxy::start(&folder);
        Self { ca, provider, api, proxy, folder }
    }

    /// The same, once the first token is there.
    pub(crate) async fn ready(options: Options) -> Self {
        let rig = Self::with(options).await;
        rig.provider.wait_for(1, PATIENCE).await.unwrap();
        rig.proxy.until_ready().await;
        rig
    }

    /// An app that connects to the proxy.
    pub(crate) async fn app(&self) -> App {
        App::connect(self.proxy.address).await
    }

    /// The same by HTTP/2.
    pub(crate) async fn app2(&self) -> App2 {
        App2::connect(self.proxy.address).await
    }

    /// One `GET` by a new connection.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.app().await.get(path).await
    }
}

fn configuration(provider: &Provider, api: &Api, options: &Options) -> String {
    let mut yaml = format!(
        "listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0\ntokens:\n  main:\n    token_url: {}\n    client_id: {CLIENT}\n    \
         client_secret: {{file: secret}}\n    tls: {{ca_file: ca.pem}}\n",
        provider.token_url(),
    );
    let mut add = |indent: &str, lines: &str| {
        for line in lines.lines() {
            writeln!(yaml, "{indent}{line}").unwrap();
        }
    };
    add("    ", options.token);
    add("", &format!("routes:\n  - name: api\n    upstream: https://{API}\n    connect_to: {}", api.addr()));
    add("    ", &format!("token: main\ntls: {{ca_file: ca.pem}}\n{}", options.route));
    add("", options.top);
    yaml
}

fn load(file: &str, environment: &Environment, files: &dyn Files) -> Result<Loaded, Problems> {
    let flags = [("config".to_owned(), file.to_owned())];
    config::load(&Sources { flags: &flags, environment, files, parallelism: 2 })
}

/// A running bearerd, and all that it said.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// All of them, in the order of the configuration.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) health: Vec<SocketAddr>,
    said: Arc<Mutex<String>>,
    stop: mpsc::Sender<&'static str>,
    running: JoinHandle<std::io::Result<Ended>>,
}

impl Proxy {
    /// With the folder's `bearerd.yaml`, at log level trace.
    pub(crate) fn start(folder: &Folder) -> Self {
        Self::start_in(folder, &Environment::new())
    }

    /// The same in an environment.
    pub(crate) fn start_in(folder: &Folder, environment: &Environment) -> Self {
        Self::start_after(folder, environment, || {})
    }

    /// The same, with something done between the binding of its sockets and its start.
    pub(crate) fn start_after(folder: &Folder, environment: &Environment, done: impl FnOnce()) -> Self {
        Self::start_at(Level::Trace, folder, environment, done)
    }

    /// At log level info, which says nothing of a request that goes well: for loads of them.
    pub(crate) fn start_quietly(folder: &Folder) -> Self {
        Self::start_at(Level::Info, folder, &Environment::new(), || {})
    }

    /// The same as [`Self::start`], and it reloads: when a file changes, and when it is told to.
    pub(crate) fn start_reloading(folder: &Folder) -> (Self, mpsc::Sender<()>) {
        let (wish, wishes) = mpsc::channel(1);
        let file = folder.path("bearerd.yaml").display().to_string();
        let first = Noted::default();
        let _ = load(&file, &Environment::new(), &first);
        let found = first.found();
        let read = move || {
            let noted = Noted::default();
            let outcome = load(&file, &Environment::new(), &noted);
            let told = |problems: Problems| problems.problems.iter().map(ToString::to_string).collect();
            let outcome = outcome.map(|loaded| (loaded.plan, Vec::new())).map_err(told);
            Reading { outcome, found: noted.found() }
        };
        let reload = Reload { origin: "a test's".to_owned(), found, repeatable: true, read: Arc::new(read), wishes };
        let change = |bound: Bound| bound.reloading(reload);
        (Self::start_as(Level::Trace, folder, &Environment::new(), change), wish)
    }

    /// The same as [`Self::start`], and it tells a service manager.
    pub(crate) fn start_telling(folder: &Folder, service: Service) -> Self {
        Self::start_as(Level::Trace, folder, &Environment::new(), |bound| bound.telling(service))
    }

    fn start_at(level: Level, folder: &Folder, environment: &Environment, done: impl FnOnce()) -> Self {
        let change = |bound| {
            done();
            bound
        };
        Self::start_as(level, folder, environment, change)
    }

    fn start_as(level: Level, folder: &Folder, environment: &Environment, change: impl FnOnce(Bound) -> Bound) -> Self {
        let file = folder.path("bearerd.yaml").display().to_string();
        let plan = load(&file, environment, &Disk).unwrap_or_else(|problems| panic!("{problems}")).plan;
        let said = Arc::new(Mutex::new(String::new()));
        let ear = Arc::clone(&said);
        let settings = LogSettings { level, format: Format::Pretty };
        let observer = Observer::new(Log::to(settings, move |line| ear.lock().unwrap().push_str(line)));
        let bound = Bound::new(plan, Inherited::default(), observer).unwrap();
        let (addresses, admins, health) = (bound.addresses(), bound.admin_addresses(), bound.health_addresses());
        // What listens on a unix socket alone has none.
        let first = |addresses: &[SocketAddr]| addresses.first().copied().unwrap_or(([0, 0, 0, 0], 0).into());
        let (address, admin) = (first(&addresses), first(&admins));
        let (stop, stopped) = mpsc::channel(2);
        let running = tokio::spawn(change(bound).run(stopped));
        Self { address, addresses, admin, health, said, stop, running }
    }

    /// Everything that was logged so far.
    pub(crate) fn said(&self) -> MutexGuard<'_, String> {
        self.said.lock().unwrap()
    }

    /// The same, for when it is gone.
    pub(crate) fn log(&self) -> Arc<Mutex<String>> {
        Arc::clone(&self.said)
    }

    /// Waits until a line holds `text`.
    pub(crate) async fn until_said(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), || self.said().contains(text)).await;
    }

    pub(crate) async fn until_ready(&self) {
        self.until_said("ready: every required token").await;
    }

    /// One `GET` of an admin page.
    pub(crate) async fn page(&self, path: &str) -> Answer {
        App::connect(self.admin).await.get(path).await
    }

    /// Asks it to end, as SIGTERM does.
    pub(crate) async fn signal(&self) {
        self.stop.send("SIGTERM").await.unwrap();
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn end(self) -> Ended {
        self.signal().await;
        tokio::time::timeout(PATIENCE, self.running).await.expect("it ends").unwrap().unwrap()
    }
}

/// Waits until something holds that nobody can be woken by.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
