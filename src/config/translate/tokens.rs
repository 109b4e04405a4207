//! Entries of `tokens`: one way to the endpoint, one identity, nothing said twice.

use http::{HeaderName, header};

use super::super::formats;
use super::super::presets::{self, Preset};
use super::super::problem::{Complaint, Path};
use super::super::tree::{Style, Value};
use super::super::words::{Named, OneOrMany};
use super::super::written::{self, Auth};
use super::credentials::{self, Sets};
use super::{Scribe, hop_by_hop, provider};
use crate::secret::Secret;
use crate::token::policy::Refresh;
use crate::token::settings::{BasicEncoding, ClientAuth, Endpoint, JWT_BEARER_GRANT, RequestFormat, Settings};
use crate::token::source::assertion::AssertionSettings;
use crate::token::source::key::Alg;
use crate::wire::proxy::ForwardProxy;

/// What a route says when it wants no token.
pub(super) const NO_TOKEN: &str = "none";

pub(super) fn translate(scribe: &mut Scribe<'_>, tokens: Named<written::Token>) -> Vec<Settings> {
    let root = Path::default().with("tokens");
    tokens.0.into_iter().filter_map(|(name, token)| one(scribe, &root.with(name.as_str()), &name, token)).collect()
}

fn one(scribe: &mut Scribe<'_>, path: &Path, name: &str, token: written::Token) -> Option<Settings> {
    if name == NO_TOKEN {
        let complaint = Complaint::new("`none` is what a route says when it wants no token");
        scribe.key_problem(path, complaint.hint("give the token another name"));
    }
    let preset = token.provider.as_deref().and_then(presets::find);
    if let Some(preset) = preset {
        provider::check(scribe, path, preset, &token);
    }
    let endpoint = endpoint(scribe, path, token.issuer, token.token_url, preset);
    let alg = alg(scribe, path, token.auth, token.assertion.alg.as_deref());
    let own = written::Credential {
        client_id: token.client_id,
        client_secret: token.client_secret,
        private_key: token.private_key,
        key_id: token.key_id,
        x5t: token.x5t,
        x5t_s256: token.x5t_s256,
        cert_file: token.cert_file,
        key_file: token.key_file,
        assertion: None,
    };
    let sets = Sets { own, assertion_file: token.assertion.file.clone(), list: token.credentials };
    let credentials = credentials::translate(scribe, path, token.auth, alg, sets);
    doubt(scribe, path, token.auth, token.basic_encoding);
    jwt_bearer(scribe, path, token.auth, &token.grant_type, &token.params);
    let assertion = AssertionSettings {
        alg,
        typ: token.assertion.typ,
        audience: token.assertion.audience,
        lifetime: token.assertion.lifetime.0,
        assertion_type: token.assertion.kind,
        claims: claims(scribe, &path.with("assertion").with("claims"), token.assertion.claims),
    };
    let auth = match (token.auth, token.basic_encoding) {
        (Auth::ClientSecretBasic, written::BasicEncoding::Form) => ClientAuth::Basic(BasicEncoding::Form),
        (Auth::ClientSecretBasic, written::BasicEncoding::Raw) => ClientAuth::Basic(BasicEncoding::Raw),
        (Auth::ClientSecretPost, _) => ClientAuth::Post,
        (Auth::ClientSecretJwt, _) => ClientAuth::SecretJwt(assertion),
        (Auth::PrivateKeyJwt, _) => ClientAuth::PrivateKeyJwt(assertion),
        (Auth::TlsClientAuth, _) => ClientAuth::Tls,
        (Auth::ClientAssertion, _) => ClientAuth::Assertion { assertion_type: assertion.assertion_type },
    };
    let proxy = proxy(scribe, &path.with("proxy"), token.proxy.as_deref());
    let params = params(scribe, &path.with("params"), token.params);
    let headers = scribe.headers(&path.with("headers"), token.headers, owned);
    let tls = scribe.tls(&path.with("tls"), token.tls);
    if token.scope.iter().flat_map(|scopes| &scopes.0).flat_map(|scope| scope.split_whitespace()).any(is_listed) {
        let complaint = Complaint::new("a comma is a part of a scope, and does not stand between two");
        scribe.key_warning(&path.with("scope"), complaint.hint("put spaces between them, or write a YAML list"));
    }
    let scope = token.scope.map(|scopes| {
        let words: Vec<&str> = scopes.0.iter().flat_map(|scope| scope.split_whitespace()).collect();
        words.join(" ")
    });
    let refresh = token.refresh;
    Some(Settings {
        name: name.into(),
        preset: preset.map(|preset| preset.name),
        endpoint: endpoint?,
        auth,
        grant_type: token.grant_type,
        request_format: match token.request_format {
            written::RequestFormat::Form => RequestFormat::Form,
            written::RequestFormat::Json => RequestFormat::Json,
        },
        credentials: credentials?,
        scope: scope.filter(|scope| !scope.is_empty()),
        audience: token.audience.0,
        resource: token.resource.0,
        params,
        headers,
        tls,
        proxy,
        required: token.required,
        wait: token.wait.0,
        refresh: Refresh {
            early: refresh.early.on().map(|early| early.0),
            margin: refresh.margin.0,
            min_interval: refresh.min_interval.0,
            after_401: refresh.after_401.0,
            assumed_lifetime: refresh.assumed_lifetime.0,
            timeout: refresh.timeout.0,
            when_idle: refresh.when_idle,
        },
        budget: token.budget.on().map(|rate| rate.0),
    })
}

/// `read,` of `read, write`; RFC 6749, 3.3 allows it, and hardly a provider has such.
fn is_listed(scope: &str) -> bool {
    scope.ends_with(',')
}

fn endpoint(
    scribe: &mut Scribe<'_>,
    path: &Path,
    issuer: Option<String>,
    token_url: Option<String>,
    preset: Option<&Preset>,
) -> Option<Endpoint> {
    match (issuer, token_url) {
        (Some(issuer), Some(url)) => {
            formats::token_url(&url).ok().map(|token_url| Endpoint::Both { issuer, token_url })
        }
        (Some(issuer), None) => Some(Endpoint::Issuer(issuer)),
        (None, Some(url)) => formats::token_url(&url).ok().map(Endpoint::TokenUrl),
        (None, None) => {
            if !scribe.is_bad(path) && !scribe.any_bad(path, &["issuer", "token_url", "provider"]) {
                let hint = preset.map(|preset| preset.find_endpoint.to_owned());
                scribe.missing(path, &["token_url", "issuer"], hint);
            }
            None
        }
    }
}

/// The algorithm, which must be of the kind that the method signs with.
fn alg(scribe: &mut Scribe<'_>, path: &Path, auth: Auth, written: Option<&str>) -> Option<Alg> {
    let alg = Alg::ALL.into_iter().find(|alg| Some(alg.as_str()) == written)?;
    let complaint = if auth == Auth::PrivateKeyJwt && alg.is_hmac() {
        Complaint::new(format!("{alg} is made with a secret and not with a key"))
            .hint("use `ES256`, `PS256` or `RS256`, or leave it out: the key decides")
    } else if auth == Auth::ClientSecretJwt && !alg.is_hmac() {
        Complaint::new(format!("{alg} needs a key, and there is a secret"))
            .hint("use `HS256`, `HS384` or `HS512`, or `auth: private_key_jwt`")
    } else {
        return Some(alg);
    };
    scribe.problem(&path.with("assertion").with("alg"), complaint);
    None
}

/// Settings that change nothing with this method.
fn doubt(scribe: &mut Scribe<'_>, path: &Path, auth: Auth, encoding: written::BasicEncoding) {
    let word = auth.word();
    let told = || Complaint::new(format!("has no effect with `auth: {word}`"));
    if encoding == written::BasicEncoding::Raw && auth != Auth::ClientSecretBasic {
        scribe.key_warning(&path.with("basic_encoding"), told());
    }
    let keys = ["alg", "typ", "audience", "lifetime", "claims", "type"];
    let idle: &[&str] = match auth {
        Auth::ClientSecretJwt | Auth::PrivateKeyJwt => &[],
        Auth::ClientAssertion => &keys[..5],
        Auth::ClientSecretBasic | Auth::ClientSecretPost | Auth::TlsClientAuth => &keys,
    };
    let around = path.with("assertion");
    let known = !scribe.any_bad(path, &["auth"]);
    for key in idle {
        let path = around.with(*key);
        if known && scribe.is_there(&path) && !scribe.is_of_a_preset(&path) {
            scribe.key_warning(&path, told());
        }
    }
}

/// With this grant an assertion is what the token is given for, so there must be one.
fn jwt_bearer(scribe: &mut Scribe<'_>, path: &Path, auth: Auth, grant_type: &str, params: &Named<OneOrMany<String>>) {
    let has_own = params.0.iter().any(|(name, _)| name == "assertion");
    let makes = auth.makes_jwt() || auth == Auth::ClientAssertion;
    if grant_type != JWT_BEARER_GRANT || scribe.any_bad(path, &["auth", "params"]) || makes != has_own {
        return;
    }
    if has_own {
        let complaint = Complaint::new(format!("with `auth: {}` bearerd sends this parameter itself", auth.word()));
        scribe.key_problem(&path.with("params").with("assertion"), complaint.hint("remove it"));
    } else {
        let complaint = Complaint::new("this grant needs an assertion, and nothing makes one");
        let hint = "use `auth: private_key_jwt`, which makes one, or `auth: client_assertion`, which reads one";
        scribe.problem(&path.with("grant_type"), complaint.hint(hint));
    }
}

fn claims(scribe: &mut Scribe<'_>, path: &Path, claims: Named<String>) -> Vec<(String, String)> {
    for (name, _) in &claims.0 {
        let instead = match name.as_str() {
            "iss" | "sub" => Some("`client_id` of the credential"),
            "aud" => Some("`audience` of the assertion"),
            "exp" => Some("`lifetime` of the assertion"),
            "iat" | "jti" => None,
            _ => continue,
        };
        let mut complaint = Complaint::new("bearerd sets this claim itself");
        complaint.hint = instead.map(|key| format!("it is made of the key {key}"));
        scribe.key_problem(&path.with(name.as_str()), complaint);
    }
    claims.0
}

/// The proxy on the way to a provider or an upstream.
pub(super) fn proxy(scribe: &mut Scribe<'_>, path: &Path, written: Option<&str>) -> Option<ForwardProxy> {
    let url = formats::proxy(written?).ok()?;
    let scalar = scribe.written.tree.find(path).map(|node| &node.value);
    if url.password().is_some() && matches!(scalar, Some(Value::Scalar(scalar)) if scalar.style != Style::Given) {
        let complaint = Complaint::new("a secret is written in the configuration");
        scribe.key_warning(path, complaint.hint("use `{file: PATH}` or `{env: NAME}` for the whole URL"));
    }
    Some(ForwardProxy(url))
}

fn params(scribe: &mut Scribe<'_>, path: &Path, params: Named<OneOrMany<String>>) -> Vec<(String, Secret<String>)> {
    let mut done = Vec::new();
    for (name, values) in params.0 {
        let instead = match name.as_str() {
            "client_id" | "client_secret" | "scope" | "audience" | "resource" | "grant_type" => Some(name.as_str()),
            "client_assertion" | "client_assertion_type" => Some("auth"),
            _ => None,
        };
        match instead {
            Some(key) => {
                let complaint = Complaint::new("bearerd sends this parameter itself");
                scribe.key_problem(
                    &path.with(name.as_str()),
                    complaint.hint(format!("use the key `{key}` of the token")),
                );
            }
            None => done.extend(values.0.into_iter().map(|value| (name.clone(), Secret::new(value)))),
        }
    }
    done
}

/// What the token request carries anyway.
fn owned(name: &HeaderName) -> Option<Complaint> {
    let ours = [header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_LENGTH, header::HOST];
    if ours.contains(name) {
        return Some(Complaint::new("bearerd sets this header itself"));
    }
    hop_by_hop(name).then(|| Complaint::new("this header belongs to the connection"))
}
