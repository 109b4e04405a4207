//! An OAuth 2.0 authorization server with one grant, client credentials, and the strictness of the RFCs.
//!
//! It tells the truth unless its script says otherwise, and logs every token request. Must never know the proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;

use super::Error;
pub use super::client_auth::{BasicDialect, Method};
use super::desk::Desk;
use super::log::{Late, Log};
use super::script::{Script, held};
use super::seen::TokenCall;
use super::server::{Counts, Host, Listener};
use super::token::{Grant, Mint, Verifier, random_hex};
use crate::secret::Secret;

/// What a provider is like at start.
pub struct Settings {
    /// On 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// None is plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// The host in the issuer and in everything below it.
    pub host: String,
    /// The issuer's path: empty, or as `/tenant`.
    pub path: String,
    /// Identifiers and their secrets; at first nobody may have a token. See [`random_secret`].
    pub clients: Vec<(String, String)>,
    /// How long a token lives.
    pub life: Duration,
    /// Whom a token is for when the client asks for no resource or audience.
    pub audience: String,
    pub basic: BasicDialect,
    /// The one method that clients may use, if not either.
    pub only: Option<Method>,
}

impl Settings {
    pub fn new(tls: ServerConfig) -> Self {
        Self { tls: Some(Arc::new(tls)), ..Self::plain() }
    }

    /// Without TLS.
    pub fn plain() -> Self {
        Self {
            port: 0,
            tls: None,
            host: "localhost".to_owned(),
            path: String::new(),
            clients: Vec::new(),
            // Short enough to watch it being renewed.
            life: Duration::from_secs(20),
            audience: "https://api.example.test".to_owned(),
            basic: BasicDialect::Form,
            only: None,
        }
    }
}

/// A secret for a client that is registered for one run.
pub fn random_secret() -> String {
    random_hex()
}

/// A running provider. Dropping it stops it.
pub struct Provider {
    desk: Arc<Desk>,
    host: Host<Desk>,
}

impl Provider {
    /// Serves on the runtime that this is called on, until it is stopped or dropped.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let listener = Listener::bind(settings.port)?;
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let issuer = format!("{scheme}://{}:{}{}", settings.host, listener.addr.port(), settings.path);
        let mint = Mint::new(issuer.clone())?;
        let desk = Arc::new(Desk {
            issuer,
            path: settings.path,
            verifier: mint.verifier(&settings.audience)?,
            mint,
            audience: settings.audience,
            basic: settings.basic,
            only: settings.only,
            clients: Mutex::default(),
            life: Mutex::new(settings.life),
            script: Script::default(),
            discovery: Script::default(),
            calls: Log::new(),
            discoveries: Log::new(),
        });
        let provider = Self { host: Host::start(listener, settings.tls, None, desk.clone()), desk };
        for (client, secret) in &settings.clients {
            provider.set_secrets(client, &[secret]);
        }
        Ok(provider)
    }

    pub fn addr(&self) -> SocketAddr {
        self.host.addr()
    }

    pub fn issuer(&self) -> &str {
        &self.desk.issuer
    }

    pub fn token_url(&self) -> String {
        format!("{}/oauth2/token", self.desk.issuer)
    }

    /// What an API needs to know tokens of this provider that are for the default audience.
    pub fn verifier(&self) -> Verifier {
        self.desk.verifier.clone()
    }

    /// The secrets that a client may use from now on; several during a rotation, none to lock it out.
    pub fn set_secrets(&self, client: &str, secrets: &[&str]) {
        let secrets = secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect();
        held(&self.desk.clients).insert(client.to_owned(), secrets);
    }

    /// The life of the tokens issued from now on.
    pub fn set_life(&self, life: Duration) {
        *held(&self.desk.life) = life;
    }

    /// A token that nobody asked for and no log shows; a life of zero has expired.
    pub fn mint(&self, client: &str, audience: &str, life: Duration) -> Result<String, Error> {
        self.desk.mint.issue(&Grant { client, audience: vec![audience.to_owned()], scope: None, life })
    }

    /// What the token endpoint says; `on_connect` holds for the whole server.
    pub fn script(&self) -> &Script {
        &self.desk.script
    }

    /// What both discovery documents say.
    pub fn discovery_script(&self) -> &Script {
        &self.desk.discovery
    }

    /// The token requests.
    pub fn log(&self) -> &Log<TokenCall> {
        &self.desk.calls
    }

    /// The token requests so far.
    pub fn calls(&self) -> Vec<TokenCall> {
        self.desk.calls.all()
    }

    /// How many token requests there were.
    pub fn count(&self) -> usize {
        self.desk.calls.len()
    }

    /// Waits until there were at least so many token requests, and yields them.
    pub async fn wait_for(&self, calls: usize, within: Duration) -> Result<Vec<TokenCall>, Late> {
        self.desk.calls.wait_for(calls, within).await
    }

    /// The discovery requests, as their targets.
    pub fn discoveries(&self) -> &Log<String> {
        &self.desk.discoveries
    }

    pub fn counts(&self) -> &Counts {
        self.host.counts()
    }

    /// Drops the listener and every connection; both are gone when this returns.
    pub async fn stop(&self) {
        self.host.stop().await;
    }

    /// Listens on the same port again, dropping what is open.
    pub async fn restart(&self) -> Result<(), Error> {
        self.host.restart().await
    }

    /// The same with another certificate.
    pub async fn restart_with(&self, tls: ServerConfig) -> Result<(), Error> {
        self.host.restart_with(tls).await
    }
}
