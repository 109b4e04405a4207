//! The HTTP clients of a token: one for all credentials, or, where the certificate is the credential, one for each, made
//! anew when its files change.

use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Proxy};
use zeroize::Zeroizing;

use super::SourceError;
use crate::life::{Stock, aside};
use crate::secret::Fingerprint;
use crate::tls::{ClientConfigs, TlsSettings, named};
use crate::token::grant::What;
use crate::token::settings::{Proof, Settings};
use crate::wire::fault::Fault;

/// Long enough for a lost SYN and its second repetition (1 s + 2 s), short enough to leave time for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Discovery and the token request that follows may share a connection; between two renewals none is kept.
const POOL_IDLE: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("bearerd/", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
pub(super) struct Clients {
    /// By credential, each with what its certificate's files held when it was made; `None` where there are no files.
    made: Mutex<Vec<(Option<Fingerprint>, Client)>>,
}

impl Clients {
    pub(super) fn new(settings: &Settings, configs: &ClientConfigs) -> Result<Self, SourceError> {
        let one = |index: usize| {
            let tls = tls(settings, index);
            let held = held(&tls);
            Ok((held, client(settings, rustls::ClientConfig::clone(&*configs.get(&tls, None)?))?))
        };
        let made = (0..settings.credentials.len()).map(one).collect::<Result<_, SourceError>>()?;
        Ok(Self { made: Mutex::new(made) })
    }

    /// The client to ask with; a certificate that was renewed is used from now on.
    pub(super) fn get(&self, settings: &Settings, credential: usize) -> Result<Client, What> {
        let tls = tls(settings, credential);
        let now = held(&tls);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, client) = &mut made[credential];
        if now.is_some() && now != *then {
            // Half of a new pair does not fit the other half of the old one: what was there goes on serving.
            let fresh = ClientConfigs::fresh(&tls).map_err(SourceError::from);
            match fresh.and_then(|config| self::client(settings, config)) {
                Ok(renewed) => (*then, *client) = (now, renewed),
                Err(error) if then.is_none() => return Err(What::Secret(error.to_string())),
                Err(_) => {}
            }
        }
        Ok(client.clone())
    }

    /// Whether the credential's certificate is another one than was last used.
    pub(super) fn changed(&self, settings: &Settings, credential: usize) -> bool {
        let now = held(&tls(settings, credential));
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        now.is_some() && now != made[credential].0
    }
}

/// The TLS settings that a credential is used with.
fn tls(settings: &Settings, credential: usize) -> TlsSettings {
    let mut tls = settings.tls.clone();
    if let Proof::Certificate { certificate, key } = &settings.credentials[credential].proof {
        tls.identity = Some((certificate.clone(), key.clone()));
    }
    tls
}

/// What a client certificate's files hold; `None` if there are none, or they cannot be read now.
fn held(tls: &TlsSettings) -> Option<Fingerprint> {
    let (certificate, key) = tls.identity.as_ref()?;
    let read = |path: &Path| std::fs::read(path).map(Zeroizing::new).ok();
    let (certificate, key) = (read(certificate)?, read(key)?);
    Some(Fingerprint::of(&Zeroizing::new([&certificate[..], &key[..]].concat())))
}

fn client(settings: &Settings, tls: rustls::ClientConfig) -> Result<Client, SourceError> {
    let is_plain = |url: &str| url.starts_with("http:");
    let plain = settings.endpoint.issuer().is_some_and(is_plain)
        || settings.endpoint.token_url().is_some_and(|url| is_plain(url.as_str()));
    let mut builder = Client::builder()
        .tls_backend_preconfigured(named(tls, &settings.tls)?)
        .no_proxy()
        .redirect(Policy::none())
        .https_only(!plain)
        .connect_timeout(CONNECT_TIMEOUT.min(settings.refresh.timeout))
        .timeout(settings.refresh.timeout)
        .pool_idle_timeout(POOL_IDLE)
        .user_agent(USER_AGENT)
        .dns_resolver(Arc::new(Lookup(Stock::of(MOST_LOOKUPS))))
        .default_headers(HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]));
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(Proxy::all(proxy.0.clone())?);
    }
    Ok(builder.build()?)
}

/// Two, since one that hangs is left by whoever waited for it and goes on holding its thread.
const MOST_LOOKUPS: usize = 2;

/// The system's lookup, on a thread of its own: reqwest's panics where there is none to be had.
struct Lookup(Stock);

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let place = self.0.take();
        Box::pin(async move {
            let place = place.ok_or(Fault::Timeout)?;
            let looking = aside("lookup", move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(place);
                found
            });
            Ok(Box::new(looking.map_err(|_| Fault::Overloaded)?.await??) as Addrs)
        })
    }
}
