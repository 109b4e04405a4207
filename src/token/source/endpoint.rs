//! One token request over HTTP: puts it together, sends it, and hands what came back to `grant`.
//!
//! reqwest is told to do none of what it would by itself: no system proxy (in a pod that sets HTTP_PROXY to us, the
//! token request would come back to us), no redirects (307 replays the secret elsewhere), no plain HTTP but loopback.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::redirect::Policy;
use url::Url;
use zeroize::Zeroizing;

use super::{Source, basic, discovery, post, secret_file};
use crate::secret::{Fingerprint, Secret};
use crate::tls::{ClientConfigs, TlsError};
use crate::token::grant::{self, AskError, Grant, MAX_ANSWER, What};
use crate::token::settings::{ClientAuth, Endpoint, SecretSource, Settings};
use crate::wire::fault::Fault;

/// Long enough for a lost SYN and its second repetition (1 s + 2 s), short enough to leave time for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Discovery and the token request that follows may share a connection; between two renewals none is kept.
const POOL_IDLE: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("bearerd/", env!("CARGO_PKG_VERSION"));

/// Why a token's client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// A token endpoint and all that it needs to be asked.
#[derive(Debug)]
pub struct TokenEndpoint {
    settings: Settings,
    client: reqwest::Client,
    /// What discovery found. Asked anew after a failure: endpoints move.
    discovered: Mutex<Option<Url>>,
    /// What was last sent as each credential's secret.
    sent: Mutex<Vec<Option<Fingerprint>>>,
}

impl TokenEndpoint {
    /// # Errors
    /// A TLS file is not what it should be.
    pub fn new(settings: Settings, configs: &ClientConfigs) -> Result<Self, SourceError> {
        let tls = rustls::ClientConfig::clone(&*configs.get(&settings.tls)?);
        let plain = match &settings.endpoint {
            Endpoint::TokenUrl(url) => url.scheme() == "http",
            Endpoint::Issuer(issuer) => issuer.starts_with("http:"),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(Policy::none())
            .https_only(!plain)
            .connect_timeout(CONNECT_TIMEOUT.min(settings.refresh.timeout))
            .timeout(settings.refresh.timeout)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(USER_AGENT)
            .default_headers(HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]))
            .build()?;
        let sent = Mutex::new(vec![None; settings.credentials.len()]);
        Ok(Self { settings, client, discovered: Mutex::default(), sent })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The identifier of a credential, for logs and pages.
    pub fn client_id(&self, credential: usize) -> &str {
        self.settings.credentials.get(credential).map_or("", |credential| &credential.client_id)
    }

    async fn request(&self, credential: usize) -> Result<Grant, AskError> {
        let secret = self.secret(credential)?;
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)[credential] = Some(secret.fingerprint());
        let request = self.token_request(self.token_url().await?, credential, &secret);
        drop(secret);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body =
            read_capped(response).await.map_err(|error| error.map_or(What::TooLong, |e| self.unreachable(&e)))?;
        let scope = self.settings.scope.as_deref();
        grant::read(status, &headers, &body, scope, self.settings.refresh.assumed_lifetime, SystemTime::now())
    }

    fn token_request(&self, url: Url, credential: usize, secret: &Secret<String>) -> reqwest::RequestBuilder {
        let mut form = Form::new(&self.settings);
        let mut headers = HeaderMap::from_iter(self.settings.headers.iter().cloned());
        let id = self.client_id(credential);
        match self.settings.auth {
            ClientAuth::Basic(encoding) => {
                if let Some(authorization) = basic::authorization(id, secret, encoding) {
                    headers.insert(header::AUTHORIZATION, authorization);
                }
            }
            ClientAuth::Post => post::add(&mut form, id, secret),
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.client.post(url).headers(headers).body(form.finish())
    }

    fn secret(&self, credential: usize) -> Result<Secret<String>, What> {
        match &self.settings.credentials[credential].client_secret {
            SecretSource::Inline(secret) => Ok(Secret::new(secret.expose().clone())),
            SecretSource::File(path) => secret_file::read(path).map_err(|error| What::Secret(error.to_string())),
        }
    }

    async fn token_url(&self) -> Result<Url, What> {
        let issuer = match &self.settings.endpoint {
            Endpoint::TokenUrl(url) => return Ok(url.clone()),
            Endpoint::Issuer(issuer) => issuer,
        };
        let known = self.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(url) = known {
            return Ok(url);
        }
        // Most issuers have one of the two documents, so that the other is not there explains nothing.
        let mut failed = None;
        for url in discovery::well_known(issuer) {
            match self.discover(&url, issuer).await {
                Ok(found) => {
                    *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
                    return Ok(found);
                }
                Err(why) => failed = failed.or(why.map(|why| (url, why))),
            }
        }
        let (url, why) = failed.unwrap_or_else(|| (issuer.clone(), "there is no document".to_owned()));
        Err(What::Discovery(url, why))
    }

    /// The error is `None` if nothing is there.
    async fn discover(&self, url: &str, issuer: &str) -> Result<Url, Option<String>> {
        let response = self.client.get(url).send().await.map_err(|error| self.unreachable(&error).to_string())?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(None),
            status => return Err(Some(format!("the answer is {status}"))),
        }
        let body = read_capped(response)
            .await
            .map_err(|error| error.map_or(What::TooLong, |error| self.unreachable(&error)).to_string())?;
        discovery::token_endpoint(&body, issuer).map_err(|error| Some(error.to_string()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> What {
        if error.is_timeout() {
            return What::Timeout(self.settings.refresh.timeout);
        }
        // The outermost message holds the URL, and a token URL may hold a tenant's name; the cause is told without it.
        What::Unreachable(error.source().map_or(Fault::Other, Fault::of).to_string())
    }
}

impl Source for TokenEndpoint {
    async fn ask(&self, credential: usize) -> Result<Grant, AskError> {
        let timeout = self.settings.refresh.timeout;
        let outcome = tokio::time::timeout(timeout, self.request(credential)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(What::Timeout(timeout).into()));
        if outcome.as_ref().is_err_and(AskError::doubts_the_url) {
            *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    fn changed(&self, credential: usize) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner)[credential];
        let now = self.secret(credential).ok().map(|secret| secret.fingerprint());
        now.is_some() && now != sent
    }
}

/// The whole body, unless it is longer than [`MAX_ANSWER`]: then the error is `None`.
async fn read_capped(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, Option<reqwest::Error>> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(Some)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The body of a token request (RFC 6749, 4.4.2).
pub(super) struct Form(form_urlencoded::Serializer<'static, String>);

impl Form {
    fn new(settings: &Settings) -> Self {
        let mut form = Self(form_urlencoded::Serializer::new(String::new()));
        form.add("grant_type", "client_credentials");
        let scope = settings.scope.iter().map(|scope| ("scope", scope.as_str()));
        let audience = settings.audience.iter().map(|audience| ("audience", audience.as_str()));
        let resource = settings.resource.iter().map(|resource| ("resource", resource.as_str()));
        let params = settings.params.iter().map(|(name, value)| (name.as_str(), value.expose().as_str()));
        scope.chain(audience).chain(resource).chain(params).for_each(|(name, value)| form.add(name, value));
        form
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.0.append_pair(name, value);
    }

    fn finish(mut self) -> String {
        self.0.finish()
    }
}
