//! What a child process talks to: the demo's provider and API in this process, and a folder with its files.

use std::net::SocketAddr;
use std::time::Duration;

use bearerd::demo::api::{self, Api};
use bearerd::demo::certs::Ca;
use bearerd::demo::provider::{self, Provider};

use super::child::Child;
use crate::support::{Answer, App, CLIENT, Folder, SECRET};

pub(super) struct Stage {
    /// Whom the servers' certificates are signed by.
    pub(super) ca: Ca,
    pub(super) provider: Provider,
    pub(super) api: Api,
    /// Holds `bearerd.yaml`, `ca.pem` and `secret`.
    pub(super) folder: Folder,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let ca = Ca::new().unwrap();
        let provider = Provider::start(provider::Settings {
            clients: vec![(CLIENT.to_owned(), SECRET.to_owned())],
            life: Duration::from_secs(3_600),
            ..provider::Settings::new(ca.server(&["localhost"]).unwrap())
        });
        let provider = provider.await.unwrap();
        let api = api::Settings::new(ca.server(&["localhost"]).unwrap(), provider.verifier());
        let api = Api::start(api).await.unwrap();
        let folder = Folder::new();
        folder.write("ca.pem", &ca.pem());
        folder.write("secret", SECRET);
        let stage = Self { ca, provider, api, folder };
        stage.configure("");
        stage
    }

    /// Writes the usual configuration with more at its end.
    pub(super) fn configure(&self, more: &str) {
        self.folder.write("bearerd.yaml", &format!("{}{more}", self.usual()));
    }

    /// Without `listen` and `admin` beside `more`, a free port for each.
    pub(super) fn usual(&self) -> String {
        format!(
            "listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0\ntokens:\n  main:\n    token_url: {}\n    client_id: {CLIENT}\n    \
             client_secret: {{file: secret}}\n    tls: {{ca_file: ca.pem}}\n    \
             refresh: {{timeout: 20s}}\nroutes:\n  - name: api\n    \
             upstream: {}\n    token: main\n    tls: {{ca_file: ca.pem}}\n",
            self.provider.token_url(),
            self.api.url(),
        )
    }

    pub(super) fn at(&self, name: &str) -> String {
        self.folder.path(name).display().to_string()
    }

    pub(super) fn file(&self) -> String {
        self.at("bearerd.yaml")
    }

    /// What one route needs, as variables.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("BEARERD_UPSTREAM", self.api.url().to_owned()),
            ("BEARERD_TOKEN_URL", self.provider.token_url()),
            ("BEARERD_CLIENT_ID", CLIENT.to_owned()),
            ("BEARERD_CLIENT_SECRET_FILE", self.at("secret")),
            ("BEARERD_CA_FILE", self.at("ca.pem")),
            ("BEARERD_LISTEN", "127.0.0.1:0".to_owned()),
            ("BEARERD_ADMIN", "127.0.0.1:0".to_owned()),
        ]
    }

    /// `bearerd run` with the folder's configuration and more arguments, its sockets bound.
    pub(super) async fn run(&self, more: &[&str]) -> Running {
        let file = self.file();
        let mut arguments = vec!["run", "--config", &file];
        arguments.extend(more);
        Running::of(Child::spawn(&arguments, &[])).await
    }
}

/// Borrows what [`command`](super::child::command) wants borrowed.
pub(super) fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A `run` whose log is JSON, and where it listens.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Waits until it listens for apps, which it tells last.
    pub(crate) async fn of(mut child: Child) -> Self {
        child.until_err("\"event\":\"listening\"").await;
        let mut address = None;
        crate::support::eventually("it says where it listens for apps", || {
            address = listening(&child.err(), |name| name != "admin" && name != "health");
            address.is_some()
        })
        .await;
        Self { child, address: address.unwrap() }
    }

    pub(crate) async fn ready(mut self) -> Self {
        self.child.until_err("\"event\":\"ready\"").await;
        self
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        App::connect(self.address).await.get(path).await
    }

    /// Where `admin` or `health` listens.
    pub(crate) fn page(&self, name: &str) -> SocketAddr {
        listening(&self.child.err(), |one| one == name).unwrap()
    }
}

/// The address of the first listener with a wanted name.
fn listening(log: &str, wanted: impl Fn(&str) -> bool) -> Option<SocketAddr> {
    // The last line may not be whole yet.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).find_map(|line| {
        let is = line["event"] == "listening" && wanted(line["listener"].as_str().unwrap());
        // A unix socket is where the configuration says.
        is.then(|| line["address"].as_str().unwrap().parse().ok()).flatten()
    })
}
