//! One token request over HTTP: puts it together, sends it, and hands what came back to `grant`.
//!
//! reqwest is told to do none of what it would by itself: no system proxy (in a pod that sets HTTP_PROXY to us, the
//! token request would come back to us), no redirects (307 replays the secret elsewhere), no plain HTTP but loopback.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::Client;
use url::Url;
use zeroize::Zeroizing;

use super::assertion::AssertionSettings;
use super::client::Clients;
use super::discovery::{self, Described, Discovered, NoDocument};
use super::form::Form;
use super::key::{OwnWords, SigningKey};
use super::secrets::Secrets;
use super::{Source, SourceError, assertion, basic};
use crate::clock::Now;
use crate::secret::Secret;
use crate::tls::ClientConfigs;
use crate::token::cure::cure;
use crate::token::grant::{self, AskError, ClockOff, Grant, MAX_ANSWER, What};
use crate::token::settings::{ClientAuth, Endpoint, JWT_BEARER_GRANT, Proof, Settings};
use crate::wire::fault::Fault;

/// A clock that is a day off is no clock that drifts: it is one that was never set, and not for a provider to set.
const MOST_OFF: Duration = Duration::from_secs(24 * 3_600);

/// A token endpoint and all that it needs to be asked.
#[derive(Debug)]
pub struct TokenEndpoint {
    settings: Settings,
    clients: Clients,
    secrets: Secrets,
    /// What discovery found. Asked anew when the endpoint is in doubt: endpoints move.
    discovered: Mutex<Option<Discovered>>,
    /// What time the provider last said that it was, and when that was here, on the clock since boot.
    date: Mutex<Option<(SystemTime, Duration)>>,
}

impl TokenEndpoint {
    /// # Errors
    /// A TLS file is not what it should be.
    pub fn new(settings: Settings, configs: &ClientConfigs) -> Result<Self, SourceError> {
        let clients = Clients::new(&settings, configs)?;
        let secrets = Secrets::new(settings.credentials.len());
        Ok(Self { settings, clients, secrets, discovered: Mutex::default(), date: Mutex::default() })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The identifier of a credential, for logs and pages.
    pub fn client_id(&self, credential: usize) -> &str {
        self.settings.credentials.get(credential).map_or("", |credential| &credential.client_id)
    }

    async fn request(&self, credential: usize) -> Result<Grant, AskError> {
        let client = self.clients.get(&self.settings, credential)?;
        let proof = &self.settings.credentials[credential].proof;
        let (secret, stale_secret) = match proof.source() {
            Some(source) => {
                let (secret, stale) = self.secrets.read(credential, source).await?;
                (Some(secret), stale)
            }
            None => (None, None),
        };
        let endpoint = self.endpoint(&client).await?;
        let request = self.token_request(&client, &endpoint, credential, secret.as_ref())?;
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body =
            read_capped(response).await.map_err(|error| error.map_or(What::TooLong, |e| self.unreachable(&e)))?;
        let scope = self.settings.scope.as_deref();
        let assumed = self.settings.refresh.assumed_lifetime;
        let now = Now::read();
        let mut outcome = grant::read(status, &headers, &body, scope, assumed, now.wall);
        if let Some(date) = outcome.as_ref().map_or_else(|error| error.date, |grant| grant.date) {
            *self.date.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, now.mono));
        }
        if let (Err(error), Some(secret)) = (&mut outcome, &secret) {
            error.redact(secret.expose());
        }
        outcome.map(|grant| Grant { stale_secret, ..grant })
    }

    fn token_request(
        &self,
        client: &Client,
        endpoint: &Discovered,
        credential: usize,
        secret: Option<&Secret<String>>,
    ) -> Result<reqwest::RequestBuilder, What> {
        let settings = &self.settings;
        let mut form = Form::new(settings);
        let mut headers = HeaderMap::from_iter(settings.headers.iter().cloned());
        let id = self.client_id(credential);
        let is_grant = settings.grant_type == JWT_BEARER_GRANT;
        match (&settings.auth, secret) {
            (ClientAuth::Basic(encoding), Some(secret)) => {
                if let Some(authorization) = basic::authorization(id, secret, *encoding) {
                    headers.insert(header::AUTHORIZATION, authorization);
                }
            }
            (ClientAuth::Post, Some(secret)) => {
                form.add("client_id", id);
                form.add("client_secret", secret.expose());
            }
            (ClientAuth::SecretJwt(own) | ClientAuth::PrivateKeyJwt(own), Some(secret)) => {
                let (key, names, alg) = match &settings.credentials[credential].proof {
                    Proof::Key { names, .. } => {
                        let said = OwnWords::of(secret.expose());
                        let (alg, mut names) = (said.alg(), names.clone());
                        names.key_id = names.key_id.or(said.kid);
                        (SigningKey::parse(secret.expose())?, names, alg)
                    }
                    Proof::Secret(_) | Proof::Certificate { .. } | Proof::Assertion(_) => {
                        let secret = Zeroizing::new(secret.expose().as_bytes().to_vec());
                        (SigningKey::Hmac(secret), assertion::KeyNames::default(), None)
                    }
                };
                let own = &AssertionSettings { alg: own.alg.or(alg), ..own.clone() };
                let audience = own.audience.as_deref().or(settings.endpoint.issuer());
                let audience = audience.unwrap_or(endpoint.token_url.as_str());
                let now = Now::read();
                let issued = self.their_time(now).unwrap_or(now.wall);
                let jwt = assertion::make(own, &names, &key, id, audience, issued)?;
                if is_grant {
                    form.add("assertion", jwt.expose());
                } else {
                    form.add("client_id", id);
                    form.add("client_assertion_type", &own.assertion_type);
                    form.add("client_assertion", jwt.expose());
                }
            }
            (ClientAuth::Assertion { .. }, Some(secret)) if is_grant => form.add("assertion", secret.expose()),
            (ClientAuth::Assertion { assertion_type }, Some(secret)) => {
                form.add("client_id", id);
                form.add("client_assertion_type", assertion_type);
                form.add("client_assertion", secret.expose());
            }
            // The certificate says it all, but the form must say whose it is (RFC 8705, 2).
            (ClientAuth::Tls, _) => form.add("client_id", id),
            // The configuration gives every method its proof.
            (_, None) => return Err(What::Secret("there is none".to_owned())),
        }
        let url = self.token_url(endpoint);
        let (content_type, body) = form.finish();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(client.post(url.clone()).headers(headers).body(body))
    }

    /// The time by the provider's clock, where ours is known to be wrong: what is signed is judged by that one. `None` if it
    /// is more than a day off, since whoever answers at the token URL need not be the one that an assertion is for.
    fn their_time(&self, now: Now) -> Option<SystemTime> {
        let (date, then) = (*self.date.lock().unwrap_or_else(PoisonError::into_inner))?;
        let theirs = date.checked_add(now.mono.saturating_sub(then))?;
        let apart = theirs.duration_since(now.wall).unwrap_or_else(|earlier| earlier.duration());
        (apart <= MOST_OFF && ClockOff::of(theirs, now.wall).is_some()).then_some(theirs)
    }

    /// Where to ask: as configured, or as the issuer says.
    async fn endpoint(&self, client: &Client) -> Result<Discovered, What> {
        let (issuer, fallback) = match &self.settings.endpoint {
            Endpoint::TokenUrl(url) => return Ok(Discovered::at(url.clone())),
            Endpoint::Issuer(issuer) => (issuer, None),
            Endpoint::Both { issuer, token_url } => (issuer, Some(token_url)),
        };
        let known = self.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        match (self.look_for(client, issuer, &mut Described::default()).await, fallback) {
            (Ok(found), _) => Ok(found),
            (Err(_), Some(url)) => Ok(Discovered::at(url.clone())),
            (Err(what), None) => Err(what),
        }
    }

    /// Asks the issuer, and keeps what it says; `described` is the last document that was seen, followed or not.
    async fn look_for(&self, client: &Client, issuer: &str, described: &mut Described) -> Result<Discovered, What> {
        let mut told = None;
        for url in discovery::well_known(issuer) {
            match self.discover(client, &url, issuer, described).await {
                Ok(found) => {
                    *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
                    return Ok(found);
                }
                // That one of the two documents is missing is no news.
                Err(why) if told.is_none() || why != NoDocument::Status(StatusCode::NOT_FOUND) => {
                    told = Some(What::Discovery(url, why));
                }
                Err(_) => {}
            }
        }
        Err(told.unwrap_or_else(|| What::Discovery(issuer.to_owned(), NoDocument::NotAUrl)))
    }

    /// Asks the issuer now, if there is one: what it says, and where tokens are to be asked for with the first
    /// credential.
    pub async fn look_at_issuer(&self) -> Option<(Described, Result<Url, What>)> {
        let issuer = self.settings.endpoint.issuer()?;
        let mut described = Described::default();
        let looking = async {
            let client = self.clients.get(&self.settings, 0)?;
            let found = self.look_for(&client, issuer, &mut described).await?;
            Ok(self.token_url(&found).clone())
        };
        let timeout = self.settings.refresh.timeout;
        let found = tokio::time::timeout(timeout, looking).await.unwrap_or(Err(What::Timeout(timeout)));
        Some((described, found))
    }

    /// A client that shows a certificate may have to ask elsewhere.
    fn token_url<'a>(&self, endpoint: &'a Discovered) -> &'a Url {
        match (&self.settings.auth, &endpoint.mtls_token_url) {
            (ClientAuth::Tls, Some(alias)) => alias,
            (_, _) => &endpoint.token_url,
        }
    }

    /// What a well-known URL answers, or why it is of no use.
    async fn discover(
        &self,
        client: &Client,
        url: &str,
        issuer: &str,
        described: &mut Described,
    ) -> Result<Discovered, NoDocument> {
        let fault = |error: &reqwest::Error| NoDocument::Fault(Self::why(error));
        let response = client.get(url).send().await.map_err(|error| fault(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(NoDocument::Status(status));
        }
        let body = read_capped(response).await;
        let body = body.map_err(|error| error.map_or(NoDocument::TooLong, |error| fault(&error)))?;
        *described = discovery::describe(&body);
        Ok(discovery::read(&body, issuer)?)
    }

    fn unreachable(&self, error: &reqwest::Error) -> What {
        if error.is_timeout() {
            return What::Timeout(self.settings.refresh.timeout);
        }
        What::Unreachable(Self::why(error))
    }

    /// The outermost message of an error holds the URL, and that may hold a tenant's name; the cause is told without it.
    fn why(error: &reqwest::Error) -> Fault {
        if error.is_timeout() { Fault::Timeout } else { error.source().map_or(Fault::Other, Fault::of) }
    }
}

impl Source for TokenEndpoint {
    async fn ask(&self, credential: usize) -> Result<Grant, AskError> {
        let timeout = self.settings.refresh.timeout;
        let is_known = self.their_time(Now::read()).is_some();
        let outcome = tokio::time::timeout(timeout, self.request(credential)).await;
        let mut outcome = outcome.unwrap_or_else(|_| Err(What::Timeout(timeout).into()));
        if let Err(error) = &mut outcome {
            // What was dated by their clock was not refused for ours.
            let off = error.date.filter(|_| !is_known).and_then(|date| ClockOff::of(date, SystemTime::now()));
            error.cure = cure(error, off, &self.settings).map(Into::into);
        }
        if outcome.as_ref().is_err_and(AskError::doubts_the_url) {
            *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    async fn changed(&self, credential: usize) -> bool {
        let proof = &self.settings.credentials[credential].proof;
        match proof.source() {
            Some(source) => self.secrets.changed(credential, source).await,
            None => self.clients.changed(&self.settings, credential),
        }
    }
}

/// The whole body, unless it is longer than [`MAX_ANSWER`]: then the error is `None`.
async fn read_capped(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, Option<reqwest::Error>> {
    // Room for the usual answer at once: a buffer that grows leaves copies of a token behind in freed memory.
    let mut body = Zeroizing::new(Vec::with_capacity(64 * 1024));
    while let Some(chunk) = response.chunk().await.map_err(Some)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
