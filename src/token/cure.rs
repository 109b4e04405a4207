//! What a provider's "no" most likely means, and what to do: by its error word, by how the client proves who it is, and
//! by who the provider is.
//!
//! Providers use these words as they like: a wrong secret alone has five of them. So a cure names the likeliest cause
//! first. Where it is known from stands in `docs/providers.md`. Pure.

use http::StatusCode;

use super::grant::{AskError, ClockOff, What};
use super::settings::{ClientAuth, Endpoint, Settings};
use super::source::NoDocument;
use crate::wire::fault::{Fault, TlsFault};

/// `off` is how far this machine's clock is from the provider's, if it is. `None` where the error says itself what to do,
/// or where nothing but a report of a bug helps.
pub(super) fn cure(error: &AskError, off: Option<ClockOff>, settings: &Settings) -> Option<String> {
    let (status, code) = match &error.what {
        What::Status(status, code) => (Some(*status), code.as_str()),
        What::ErrorIn200(code) => (None, code.as_str()),
        What::Unreachable(fault) => return of_fault(*fault, settings),
        What::Timeout(_) => return of_fault(Fault::Timeout, settings),
        What::Discovery(_, NoDocument::Fault(fault)) => return of_fault(*fault, settings),
        What::Secret(_)
        | What::Discovery(..)
        | What::TooLong
        | What::NotJson
        | What::NoAccessToken
        | What::BadAccessToken
        | What::TokenType
        | What::ExpiresIn
        | What::Assertion(_)
        | What::Panicked => return without_answer(settings, &error.what).map(str::to_owned),
    };
    let special = of_provider(settings.preset.unwrap_or_default(), code.unwrap_or_default(), status);
    let told = special.map_or_else(|| by_word(settings, status, code), str::to_owned);
    // What is signed first carries the time of this machine.
    let signs = matches!(settings.auth, ClientAuth::SecretJwt(_) | ClientAuth::PrivateKeyJwt(_));
    let is_client_error = status.is_none_or(|status| status.is_client_error());
    Some(match off.filter(|_| signs && is_client_error) {
        Some(off) => format!("first set this machine's clock, which is {off} the provider's (NTP); then: {told}"),
        None => told,
    })
}

/// The key that says where the provider is.
fn key(settings: &Settings) -> &'static str {
    if settings.endpoint.token_url().is_some() { "token_url" } else { "issuer" }
}

/// The way to the provider. What is wrong with a certificate mostly says itself what to do.
fn of_fault(fault: Fault, settings: &Settings) -> Option<String> {
    let key = key(settings);
    match fault {
        Fault::Dns => Some(format!(
            "is the host in `{key}` spelt right? where only a corporate proxy knows such names, set the token's `proxy`"
        )),
        Fault::Refused | Fault::Reset | Fault::Timeout | Fault::Other => Some(format!(
            "are host and port of `{key}` right, is the provider up, and may this machine connect to it? where a \
             corporate proxy leads there, set the token's `proxy`"
        )),
        Fault::Tls(TlsFault::Expired) => {
            Some("have the provider renew it, or set this machine's clock (NTP)".to_owned())
        }
        Fault::Tls(TlsFault::NotYetValid) => Some("set this machine's clock (NTP)".to_owned()),
        Fault::Protocol => Some(format!("if TLS is spoken there, write `https://` in `{key}`; else compare its port")),
        Fault::Tls(TlsFault::Alert) => {
            Some("if it wants a client certificate, set `tls.cert_file` and `tls.key_file` of the token".to_owned())
        }
        Fault::Tls(
            TlsFault::UnknownIssuer
            | TlsFault::WrongName
            | TlsFault::BadCertificate
            | TlsFault::NotTls
            | TlsFault::Other,
        )
        | Fault::Prohibited
        | Fault::Loop
        | Fault::Busy
        | Fault::Proxy(_)
        | Fault::Overloaded
        | Fault::Version => None,
    }
}

/// What is the same with all providers.
fn by_word(settings: &Settings, status: Option<StatusCode>, code: Option<&str>) -> String {
    let list = |values: &[String]| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    match code {
        Some("invalid_client") => credential(settings),
        Some("unauthorized_client") => format!(
            "the provider knows the client, and does not let it use `grant_type: {}`: allow that at the client; some \
             say so of a wrong secret, too",
            settings.grant_type
        ),
        Some("invalid_scope" | "scope_invalid") => match &settings.scope {
            Some(scope) => format!(
                "`scope` asks for `{scope}`: each word has to exist at the provider and be allowed for this client; \
                 compare letter by letter"
            ),
            None => "the provider wants a `scope`: write one that is allowed for this client".to_owned(),
        },
        Some("invalid_target" | "invalid_resource") => match (&settings.resource[..], &settings.audience[..]) {
            ([], []) => "the provider wants to know for which API: write `resource` or `audience`".to_owned(),
            (resource, audience) => format!(
                "the provider does not know {} as an API, or not for this client; many take only one, and compare \
                 letter by letter, a slash at the end included",
                list(&[resource, audience].concat())
            ),
        },
        Some("unsupported_grant_type") => format!(
            "the provider gives no tokens for `grant_type: {}` at this URL: is `token_url` the token endpoint, and does \
             the provider have this grant?",
            settings.grant_type
        ),
        Some("access_denied") => match &settings.audience[..] {
            [] => "the provider knows the client and gives it nothing: it has to be allowed to use this API".to_owned(),
            audience => format!(
                "the provider knows the client, and does not let it use {}: authorise the client for that API",
                list(audience)
            ),
        },
        Some("invalid_grant") => match settings.auth {
            ClientAuth::PrivateKeyJwt(_) | ClientAuth::SecretJwt(_) | ClientAuth::Assertion { .. } => format!(
                "the assertion is refused: {}",
                assertion(settings)
            ),
            ClientAuth::Basic(_) | ClientAuth::Post | ClientAuth::Tls => {
                "the provider refuses the grant for this client: some want a user to run as, or DPoP, which bearerd does \
                 not speak"
                    .to_owned()
            }
        },
        Some("use_dpop_nonce" | "invalid_dpop_proof") => {
            "the provider wants DPoP for this client, which bearerd does not speak: switch it off at the client".to_owned()
        }
        Some("slow_down" | "x_rate_limited" | "too_many_requests") => WAIT.to_owned(),
        Some("temporarily_unavailable" | "server_error") => OF_THE_PROVIDER.to_owned(),
        Some("invalid_request") => {
            let missing = match (settings.scope.is_some(), settings.audience.is_empty() && settings.resource.is_empty()) {
                (false, true) => "many want a `scope`, an `audience` or a `resource`, of which there is none",
                (true, true) => "many want an `audience` or a `resource` beside `scope`",
                (false, false) => "many want a `scope`, too",
                (true, false) => "something is written otherwise than it wants it",
            };
            format!("the provider does not like the request: {missing}; and {}", credential(settings))
        }
        Some(_) | None => by_status(settings, status),
    }
}

const WAIT: &str = "the provider limits token requests: wait, and run fewer instances with one client; `bearerd` itself \
                    waits as long as it is told, and `budget` keeps it below a limit";

const OF_THE_PROVIDER: &str = "the provider is in trouble: look at its status page, and try again";

fn by_status(settings: &Settings, status: Option<StatusCode>) -> String {
    match status {
        Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE) => {
            endpoint(settings).to_owned()
        }
        Some(StatusCode::TOO_MANY_REQUESTS) => WAIT.to_owned(),
        Some(StatusCode::UNSUPPORTED_MEDIA_TYPE) => {
            "the provider wants the request in another form: try the other `request_format`, `json` or `form`"
                .to_owned()
        }
        Some(status) if status.is_redirection() => {
            format!(
                "the provider sends the request elsewhere, and secrets are not sent after it: {}",
                endpoint(settings)
            )
        }
        Some(status) if status.is_server_error() => OF_THE_PROVIDER.to_owned(),
        Some(_) | None => credential(settings),
    }
}

fn endpoint(settings: &Settings) -> &'static str {
    match settings.endpoint {
        Endpoint::Issuer(_) => "the token endpoint that the issuer names is none: is `issuer` the right one?",
        Endpoint::TokenUrl(_) | Endpoint::Both { .. } => {
            "is `token_url` the token endpoint, letter by letter? It often ends in `/token`; what answers may be a login page"
        }
    }
}

/// A credential that is rejected.
fn credential(settings: &Settings) -> String {
    let compare = "compare `client_id` and `client_secret` with the provider's; a secret that has expired or was replaced \
                   is answered the same";
    match settings.auth {
        ClientAuth::Basic(_) => format!(
            "{compare}. If both are right, the client may be registered for `auth: client_secret_post`, or the secret's \
             special characters be read otherwise: `basic_encoding: raw`"
        ),
        ClientAuth::Post => {
            format!("{compare}. If both are right, the client may be registered for `auth: client_secret_basic`")
        }
        ClientAuth::SecretJwt(_) | ClientAuth::PrivateKeyJwt(_) | ClientAuth::Assertion { .. } => {
            format!("the client's assertion is refused: {}", assertion(settings))
        }
        ClientAuth::Tls => {
            "the provider does not know the client certificate for this `client_id`: register it, or its \
                            subject, at the client; it may want to be asked at another host (`token_url`)"
                .to_owned()
        }
    }
}

fn assertion(settings: &Settings) -> String {
    match &settings.auth {
        ClientAuth::Assertion { .. } => "the provider has to trust who issued it, for this subject and with its own \
                                         audience in it; and the file must not be out of date"
            .to_owned(),
        ClientAuth::PrivateKeyJwt(own) | ClientAuth::SecretJwt(own) => {
            let audience = own.audience.as_deref().map_or_else(
                || "the issuer, or the token URL where there is none".to_owned(),
                |audience| format!("`{audience}`"),
            );
            format!(
                "does the provider have the public half of this key, under this `key_id` if it wants one? Is \
                 `assertion.audience` what it expects (it is {audience})? Is this machine's clock right?"
            )
        }
        ClientAuth::Basic(_) | ClientAuth::Post | ClientAuth::Tls => String::new(),
    }
}

/// What one provider means by a word, where that is something of its own.
fn of_provider(preset: &str, code: &str, status: Option<StatusCode>) -> Option<&'static str> {
    Some(match (preset, code) {
        ("keycloak" | "verint-coaching", "unauthorized_client" | "invalid_client") => {
            "Keycloak says so of a wrong secret: copy it anew (Clients > your client > Credentials); and the client needs \
             `Client authentication` and `Service accounts roles` on"
        }
        ("authgear", "invalid_request") => {
            "Authgear says so of a wrong secret: copy it anew from the portal; and `resource` must be there"
        }
        ("authgear", "invalid_target") => {
            "`resource` has to be the URI of an API resource that the portal lists, and that this client may use"
        }
        ("okta", "invalid_scope") => {
            "`scope` needs custom scopes of this authorization server (Security > API > your server > Scopes), not \
             `openid` and its like; Okta's own `okta.*` scopes take `provider: okta-org`"
        }
        ("okta", "access_denied") => {
            "an access policy of the authorization server has to have a rule for this client and the grant client \
             credentials (Security > API > your server > Access Policies)"
        }
        ("okta-org", "invalid_scope") => {
            "the org authorization server has `okta.*` scopes alone, each granted to the app (Okta API Scopes); for \
             custom ones use `provider: okta`"
        }
        ("okta-org", "invalid_client") => {
            "Okta takes a signed assertion alone here: is the public half of the key at the app, under this `key_id`, and \
             is this machine's clock right?"
        }
        ("auth0", "access_denied") => {
            "authorise the application for the API: Applications > APIs > your API > Machine to Machine Applications; and \
             `audience` is the API's identifier, letter by letter"
        }
        ("auth0", "unauthorized_client") => {
            "switch the grant on at the application: Advanced Settings > Grant Types > Client Credentials"
        }
        ("entra", "invalid_client") => {
            "take the secret's value and not its ID; it may have expired: App registrations > your app > Certificates & \
             secrets"
        }
        ("entra", "unauthorized_client") => {
            "the application is not known in this directory: `client_id` is the application ID, and `token_url` has the \
             directory (tenant) ID of the same app registration"
        }
        ("entra", "invalid_scope" | "invalid_resource" | "invalid_target") => {
            "`scope` is the Application ID URI of one API with `/.default` behind it, and that API has to be known in this \
             directory"
        }
        ("servicenow", "access_denied" | "server_error" | "unauthorized_client" | "invalid_client") => {
            "compare the secret; and ServiceNow needs `glide.oauth.inbound.client.credential.grant_type.enabled` set to \
             true and an OAuth Application User at the application"
        }
        ("salesforce", "invalid_grant" | "unsupported_grant_type") => {
            "switch the client credentials flow on at the connected app, with a user to run as; and `token_url` is My \
             Domain"
        }
        ("cognito", "invalid_scope" | "invalid_grant" | "unauthorized_client") => {
            "the app client has to allow the client credentials grant and each custom scope, as RESOURCE-SERVER/SCOPE"
        }
        ("zoom", "unsupported_grant_type" | "invalid_request") => {
            "Zoom wants `grant_type: account_credentials` and the account: `params: {account_id: …}`"
        }
        ("google-sa", "invalid_grant") => {
            "is this machine's clock right, and is the key still one of the service account's? `client_id` is its \
             `client_email`"
        }
        ("verint-identity", _) if matches!(status, Some(StatusCode::UNAUTHORIZED)) => {
            "compare identifier and secret: Verint gives two whole sets, current and standby, and each identifier goes \
             with its own secret; if they are right, try `auth: client_secret_post`"
        }
        (_, _) => return None,
    })
}

/// The provider was not heard, or not understood.
fn without_answer(settings: &Settings, what: &What) -> Option<&'static str> {
    match what {
        What::Assertion(_) => Some("`private_key` has to be a key of the kind that `assertion.alg` signs with"),
        What::Discovery(_, NoDocument::Status(_) | NoDocument::TooLong | NoDocument::NotAUrl) => Some(
            "`issuer` is what stands in front of `/.well-known/`, its path included; a provider without such a document \
             has a `token_url`",
        ),
        What::NotJson | What::TooLong => Some(endpoint(settings)),
        What::NoAccessToken => Some(
            "the answer has no token: is this the token endpoint for `grant_type`, and `request_format` the one that it \
             wants?",
        ),
        What::BadAccessToken => Some("the provider gives tokens that HTTP cannot carry: nothing here cures that"),
        What::TokenType => Some("have the client registered for plain bearer tokens, without DPoP or MAC"),
        What::ExpiresIn => Some("the provider says nonsense of the token's life: tell whoever runs it"),
        What::Secret(_)
        | What::Discovery(..)
        | What::Unreachable(_)
        | What::Timeout(_)
        | What::Status(..)
        | What::ErrorIn200(_)
        | What::Panicked => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::presets;

    #[test]
    fn what_is_said_of_a_provider_is_of_one_that_there_is() {
        let source = include_str!("cure.rs");
        let arms = source.lines().filter_map(|line| line.trim().strip_prefix('(').filter(|arm| arm.ends_with("=> {")));
        let presets: Vec<&str> = arms
            .filter_map(|arm| arm.split_once("\", "))
            .flat_map(|(presets, _)| presets.split(" | ").map(|name| name.trim_matches('"')))
            .collect();
        assert!(presets.len() > 15, "{presets:?}");
        for name in presets {
            assert!(presets::find(name).is_some(), "{name}");
        }
    }
}
