//! The provider's endpoints: the token endpoint, discovery and the keys.
//!
//! Must never know the sockets it is reached through.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Payload, altered};
use super::client_auth::{self, BasicDialect, Claimed, Method, Unclear};
use super::log::Log;
use super::script::{Script, held};
use super::seen::{TokenCall, target};
use super::server::{Answering, Outcome, Service};
use super::steps::Step;
use super::token::{Grant, Mint, Verifier};
use crate::secret::Secret;

pub(super) struct Desk {
    pub issuer: String,
    /// The issuer's path, which RFC 8414 puts behind the well-known one.
    pub path: String,
    pub mint: Mint,
    pub verifier: Verifier,
    pub audience: String,
    pub basic: BasicDialect,
    pub only: Option<Method>,
    pub clients: Mutex<HashMap<String, Vec<Secret<String>>>>,
    pub life: Mutex<Duration>,
    pub script: Script,
    pub discovery: Script,
    pub calls: Log<TokenCall>,
    pub discoveries: Log<String>,
}

/// A token request's body is some hundred bytes; assertions make it a few thousand.
const LONGEST_FORM: usize = 64 * 1024;

impl Service for Desk {
    fn answer(self: Arc<Self>, request: Request<Incoming>, _connection: u64) -> Answering {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path();
            let oidc = path.strip_suffix("/.well-known/openid-configuration");
            let oauth = path.strip_prefix("/.well-known/oauth-authorization-server");
            if oidc.or(oauth) == Some(&self.path) {
                return self.describe(&parts).await;
            }
            match path.strip_prefix(self.path.as_str()) {
                Some("/oauth2/token") if parts.method == HttpMethod::POST => self.token(parts, body).await,
                Some("/oauth2/token") => {
                    let mut refusal = reply(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "invalid_request"}));
                    refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
                    Outcome::Respond(refusal)
                }
                Some("/jwks") => Outcome::Respond(reply(StatusCode::OK, &self.mint.jwks())),
                _ => Outcome::Respond(reply(StatusCode::NOT_FOUND, &json!({"error": "not_found"}))),
            }
        })
    }

    fn opening(&self) -> Option<Vec<Step>> {
        self.script.opening()
    }
}

impl Desk {
    async fn describe(&self, parts: &Parts) -> Outcome {
        self.discoveries.push(target(parts));
        let answer = self.discovery.next(parts);
        let mut document = Map::new();
        document.insert("issuer".to_owned(), self.issuer.as_str().into());
        document.insert("token_endpoint".to_owned(), format!("{}/oauth2/token", self.issuer).into());
        document.insert("jwks_uri".to_owned(), format!("{}/jwks", self.issuer).into());
        document.insert("grant_types_supported".to_owned(), json!(["client_credentials"]));
        document.insert("response_types_supported".to_owned(), json!([]));
        document.insert("token_endpoint_auth_methods_supported".to_owned(), self.methods());
        match answer.due().await {
            Answer::Respond(canned) => return Outcome::Respond(canned.into_response()),
            Answer::Raw(steps) => return Outcome::Take(steps),
            Answer::Edit(edit) => edit(&mut document),
            Answer::Serve | Answer::Mirror | Answer::After(..) | Answer::Held(..) => {}
        }
        Outcome::Respond(reply(StatusCode::OK, &Value::Object(document)))
    }

    fn methods(&self) -> Value {
        match self.only {
            None => json!(["client_secret_basic", "client_secret_post"]),
            Some(Method::Basic) => json!(["client_secret_basic"]),
            Some(Method::Post) => json!(["client_secret_post"]),
        }
    }

    async fn token(&self, parts: Parts, body: Incoming) -> Outcome {
        let at = Instant::now();
        // Too long, or the client went away before the end: there is nobody to tell.
        let Ok(body) = Limited::new(body, LONGEST_FORM).collect().await else { return Outcome::Take(Vec::new()) };
        let form: Vec<_> = form_urlencoded::parse(&body.to_bytes()).into_owned().collect();
        let claimed = client_auth::read(&parts.headers, &form, self.basic);

        let answer = self.script.next(&parts);
        // Decided now, however late it is said: a slow provider's token has aged when it arrives.
        let truth = answer.is_truth().then(|| self.decide(&parts.headers, &form, claimed.as_ref()));
        let issued = truth.as_ref().and_then(|truth| truth.as_ref().ok()).and_then(access_token);
        let mut headers = parts.headers;
        if let Some(value) = headers.get_mut(header::AUTHORIZATION) {
            value.set_sensitive(true);
        }
        let claimed = claimed.ok();
        let call = self.calls.push(TokenCall {
            at,
            headers,
            form,
            client_id: claimed.as_ref().map(|claimed| claimed.id.clone()),
            secret: claimed.as_ref().map(|claimed| claimed.secret.fingerprint()),
            status: None,
            issued: issued.as_ref().map(Secret::fingerprint),
            token: issued.map(Arc::new),
        });

        let response = match (answer.due().await, truth) {
            (Answer::Raw(steps), _) => return Outcome::Take(steps),
            (Answer::Respond(canned), _) => {
                let issued = canned.text().and_then(|text| serde_json::from_slice(text).ok());
                let issued = issued.as_ref().and_then(access_token).map(Arc::new);
                self.calls.update(call, |call| {
                    call.issued = issued.as_ref().map(|token| token.fingerprint());
                    call.token = issued;
                });
                canned.into_response()
            }
            (_, Some(Err(refusal))) => refusal.into_response(),
            (answer, Some(Ok(grant))) => reply(StatusCode::OK, &altered(grant, &answer)),
            // Only a truth is left to be told, and it has been decided above.
            (_, None) => Refusal::ours().into_response(),
        };
        self.calls.update(call, |call| call.status = Some(response.status().as_u16()));
        Outcome::Respond(response)
    }

    fn decide(
        &self,
        headers: &HeaderMap,
        form: &[(String, String)],
        claimed: Result<&Claimed, &Unclear>,
    ) -> Result<Value, Refusal> {
        let bad = |why| Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", why);
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(bad("the body must be application/x-www-form-urlencoded"));
        }
        // `resource` and `audience` alone may be repeated (RFC 6749, 3.2; RFC 8707, 2).
        let repeatable = |name: &str| matches!(name, "resource" | "audience");
        if form.iter().any(|(name, _)| !repeatable(name) && values(form, name).count() > 1) {
            return Err(bad("a parameter is repeated"));
        }

        let nobody = |why| Refusal::new(StatusCode::UNAUTHORIZED, "invalid_client", why);
        let claimed = claimed.map_err(|unclear| match unclear {
            Unclear::Nobody => nobody("no client authentication"),
            Unclear::TwoMethods => bad("more than one client authentication method"),
            Unclear::BadBasic => bad("the Authorization header is not properly encoded"),
        })?;
        if self.only.is_some_and(|only| only != claimed.method) {
            return Err(nobody("the client is not registered for this authentication method"));
        }
        let right = held(&self.clients).get(&claimed.id).is_some_and(|secrets| {
            let same = |secret: &Secret<String>| {
                let (ours, theirs) = (secret.expose().as_bytes(), claimed.secret.expose().as_bytes());
                constant_time::verify_slices_are_equal(ours, theirs).is_ok()
            };
            secrets.iter().any(same)
        });
        if !right {
            return Err(nobody("unknown client, or not its secret"));
        }

        let one = |name: &str| values(form, name).next();
        match one("grant_type") {
            Some("client_credentials") => {}
            Some(_) => return Err(Refusal::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", "not offered")),
            None => return Err(bad("grant_type is missing")),
        }
        let mut audience: Vec<String> =
            values(form, "resource").chain(values(form, "audience")).map(str::to_owned).collect();
        if audience.is_empty() {
            audience.push(self.audience.clone());
        }
        let grant = Grant { client: &claimed.id, audience, scope: one("scope"), life: *held(&self.life) };
        let token = self.mint.issue(&grant).map_err(|_| Refusal::ours())?;
        let mut reply = json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds(grant.life) });
        if let Some(scope) = grant.scope {
            reply["scope"] = scope.into();
        }
        Ok(reply)
    }
}

/// What a field was given; an empty value counts as none (RFC 6749, 3.2).
fn values<'a>(form: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    form.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// A whole number where it is one: that is what `expires_in` should be, and half a second is for tests.
fn seconds(life: Duration) -> Value {
    if life.subsec_nanos() == 0 { life.as_secs().into() } else { life.as_secs_f64().into() }
}

fn access_token(reply: &Value) -> Option<Secret<String>> {
    reply.get("access_token")?.as_str().map(|token| Secret::new(token.to_owned()))
}

/// An error answer (RFC 6749, 5.2).
struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: &'static str,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, description: &'static str) -> Self {
        Self { status, error, description }
    }

    fn ours() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the token could not be signed")
    }

    fn into_response(self) -> Response<Payload> {
        let mut response = reply(self.status, &json!({"error": self.error, "error_description": self.description}));
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"bearerd demo\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn reply(status: StatusCode, body: &Value) -> Response<Payload> {
    let mut response = Response::new(Payload::full(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
