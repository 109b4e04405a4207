//! The life of tokens as a user sees it: how they are asked for, what a provider may do without an app noticing, and
//! what is shown of it all.

mod bad_answers;
mod discovery;
mod first;
mod outage;
mod presets;
mod refused;
mod replay;
mod request;
mod rotation;
mod secrecy;
mod shown;
mod standby;
mod steady;
mod through_a_proxy;

use std::fmt::Write as _;

use bearerd::config::Environment;
use bearerd::demo::api::{self, Api};
use bearerd::demo::certs::Ca;
use bearerd::demo::provider::{self, Provider};
use bearerd::secret::Fingerprint;
use tokio::task::JoinSet;

use crate::support::{API, Answer, App, CLIENT, Folder, PATIENCE, Proxy, Rig, SECRET};

/// A [`Rig`] before bearerd is started: its provider can be told first what to say, its configuration is a test's own.
struct Bench {
    ca: Ca,
    provider: Provider,
    api: Api,
    folder: Folder,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    async fn with(
        change_provider: impl FnOnce(&mut provider::Settings),
        change_api: impl FnOnce(&mut api::Settings),
    ) -> Self {
        let ca = Ca::new().unwrap();
        let mut settings = provider::Settings::new(ca.server(&["localhost"]).unwrap());
        settings.clients.push((CLIENT.to_owned(), SECRET.to_owned()));
        settings.life = std::time::Duration::from_secs(3_600);
        change_provider(&mut settings);
        let provider = Provider::start(settings).await.unwrap();
        let mut settings = api::Settings::new(ca.server(&[API]).unwrap(), provider.verifier());
        settings.host = API.to_owned();
        change_api(&mut settings);
        let api = Api::start(settings).await.unwrap();
        let folder = Folder::new();
        folder.write("ca.pem", &ca.pem());
        folder.write("secret", SECRET);
        Self { ca, provider, api, folder }
    }

    /// The lines of a token that is asked for in the usual way.
    fn usual(&self) -> String {
        format!(
            "token_url: {}\nclient_id: {CLIENT}\nclient_secret: {{file: secret}}\ntls: {{ca_file: ca.pem}}\n",
            self.provider.token_url()
        )
    }

    /// The lines of a route to the API.
    fn route(&self) -> String {
        format!("upstream: https://{API}\nconnect_to: {}\ntls: {{ca_file: ca.pem}}\n", self.api.addr())
    }

    /// With one token that is asked for in the usual way, and these lines besides.
    fn start(self, token: &str) -> Rig {
        let token = self.usual() + token;
        let route = self.route();
        self.run(&[("main", &token)], &[("api", &route)])
    }

    /// With these tokens and routes.
    fn run(self, tokens: &[(&str, &str)], routes: &[(&str, &str)]) -> Rig {
        self.run_in(&Environment::new(), tokens, routes)
    }

    fn run_in(self, environment: &Environment, tokens: &[(&str, &str)], routes: &[(&str, &str)]) -> Rig {
        let mut yaml = "listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0\naccess_log: access.log\ntokens:\n".to_owned();
        for (name, lines) in tokens {
            writeln!(yaml, "  {name}:").unwrap();
            lines.lines().for_each(|line| writeln!(yaml, "    {line}").unwrap());
        }
        yaml.push_str("routes:\n");
        for (name, lines) in routes {
            writeln!(yaml, "  - name: {name}").unwrap();
            lines.lines().for_each(|line| writeln!(yaml, "    {line}").unwrap());
        }
        self.folder.write("bearerd.yaml", &yaml);
        let proxy = Proxy::start_in(&self.folder, environment);
        let Self { ca, provider, api, folder } = self;
        Rig { ca, provider, api, proxy, folder }
    }
}

/// Lines of a token that is renewed as soon as a tenth of its life is over: with [`LIFE`], a second after it came.
const EAGER: &str = "refresh: {early: 90%, min_interval: 100ms}\n";

/// The life that goes with [`EAGER`]. Most of it is left when renewal starts, so that much can go wrong meanwhile.
const LIFE: std::time::Duration = std::time::Duration::from_secs(12);

/// How often the log says something.
fn times_said(rig: &Rig, text: &str) -> usize {
    rig.proxy.said().matches(text).count()
}

fn grants(rig: &Rig) -> usize {
    times_said(rig, ": got token ")
}

fn asks(rig: &Rig) -> usize {
    times_said(rig, ": asking for a token ")
}

/// The newest token that the provider issued.
fn newest(rig: &Rig) -> Fingerprint {
    rig.provider.calls().iter().rev().find_map(|call| call.issued).expect("a token was issued")
}

/// Waits until a refusal may force a renewal: `min_interval`, at its shortest, after the token was asked for.
async fn renewable(rig: &Rig) {
    let asked = rig.provider.calls().last().unwrap().at;
    tokio::time::sleep_until((asked + std::time::Duration::from_millis(150)).into()).await;
}

/// So many `GET`s at once, each by a connection of its own, all sent before any answer is read.
async fn burst(rig: &Rig, count: usize) -> JoinSet<Answer> {
    let mut answers = JoinSet::new();
    for _ in 0..count {
        let mut app = rig.app().await;
        let head = app.head("GET /burst HTTP/1.1");
        app.send(head).await;
        answers.spawn(async move { App::answer(&mut app).await });
    }
    answers
}

/// Checks that bearerd refused for want of a token, and yields the seconds to wait.
fn no_token(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.reason(), "no_token");
    let seconds = answer.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!(seconds >= 1, "{answer:?}");
    seconds
}

/// Asks until the answer is a 200, and yields how many were not.
async fn until_served(rig: &Rig) -> usize {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut failed = 0;
    while rig.get("/").await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} to be served:\n{}", rig.proxy.said());
        failed += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    failed
}
