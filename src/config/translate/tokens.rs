//! Entries of `tokens`: one way to the endpoint, one identity, nothing said twice.

use std::sync::Arc;

use http::{HeaderName, header};

use super::super::formats;
use super::super::problem::{Complaint, Path};
use super::super::words::{Named, OneOrMany, SecretWord};
use super::super::written::{self, Auth};
use super::{Scribe, hop_by_hop};
use crate::secret::Secret;
use crate::token::policy::Refresh;
use crate::token::settings::{
    BasicEncoding, CLIENT_CREDENTIALS, ClientAuth, Credential, Endpoint, Proof, RequestFormat, SecretSource, Settings,
};

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
    let endpoint = endpoint(scribe, path, token.issuer, token.token_url);
    let auth = match (token.auth, token.basic_encoding) {
        (Auth::ClientSecretBasic, written::BasicEncoding::Form) => ClientAuth::Basic(BasicEncoding::Form),
        (Auth::ClientSecretBasic, written::BasicEncoding::Raw) => ClientAuth::Basic(BasicEncoding::Raw),
        (Auth::ClientSecretPost, encoding) => {
            if encoding == written::BasicEncoding::Raw {
                let complaint = Complaint::new("has no effect with `auth: client_secret_post`");
                scribe.key_warning(&path.with("basic_encoding"), complaint);
            }
            ClientAuth::Post
        }
    };
    // With another way to say who the client is, or a preset that would know, these two may rightly be absent.
    for (key, there) in [("client_id", token.client_id.is_some()), ("client_secret", token.client_secret.is_some())] {
        if !there && !scribe.is_bad(path) && !scribe.any_bad(path, &[key, "auth", "credentials"]) {
            scribe.missing(path, &[key]);
        }
    }
    let params = params(scribe, &path.with("params"), token.params);
    let headers = scribe.headers(&path.with("headers"), token.headers, owned);
    let tls = scribe.tls(&path.with("tls"), token.tls);
    let scope = token.scope.map(|scopes| {
        let words: Vec<&str> = scopes.0.iter().flat_map(|scope| scope.split_whitespace()).collect();
        words.join(" ")
    });
    let credential = Credential {
        client_id: Arc::from(token.client_id?),
        proof: Proof::Secret(match token.client_secret? {
            SecretWord::File(path) => SecretSource::File(path),
            SecretWord::Inline(secret) => SecretSource::Inline(secret),
        }),
    };
    let refresh = token.refresh;
    Some(Settings {
        name: name.into(),
        endpoint: endpoint?,
        auth,
        grant_type: CLIENT_CREDENTIALS.to_owned(),
        request_format: RequestFormat::Form,
        credentials: vec![credential],
        scope: scope.filter(|scope| !scope.is_empty()),
        audience: token.audience.0,
        resource: token.resource.0,
        params,
        headers,
        tls,
        proxy: None,
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

fn endpoint(
    scribe: &mut Scribe<'_>,
    path: &Path,
    issuer: Option<String>,
    token_url: Option<String>,
) -> Option<Endpoint> {
    match (issuer, token_url) {
        (Some(_), Some(_)) => {
            let complaint = Complaint::new("`token_url` is there too, and either says it all");
            scribe.key_problem(&path.with("issuer"), complaint.hint("keep one of the two"));
            None
        }
        (Some(issuer), None) => Some(Endpoint::Issuer(issuer)),
        (None, Some(url)) => formats::token_url(&url).ok().map(Endpoint::TokenUrl),
        (None, None) => {
            if !scribe.is_bad(path) && !scribe.any_bad(path, &["issuer", "token_url", "provider"]) {
                scribe.missing(path, &["token_url", "issuer"]);
            }
            None
        }
    }
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
