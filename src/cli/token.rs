//! `bearerd token`: one token request, now, and its outcome.

use std::time::SystemTime;

use clap::ArgMatches;
use serde_json::Value;
use tokio::runtime::Builder;
use url::Url;

use super::run::on_its_own;
use super::{Failed, complain, load, print};
use crate::tls::ClientConfigs;
use crate::token::grant::{AskError, ClockOff, Grant};
use crate::token::machine::FailureKind;
use crate::token::source::{Source as _, TokenEndpoint};

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let tokens = load(matches)?.plan.tokens;
    let names: Vec<_> = tokens.iter().map(|token| token.name.to_string()).collect();
    let settings = match matches.get_one::<String>("name") {
        Some(name) => tokens
            .into_iter()
            .find(|token| *token.name == **name)
            .ok_or_else(|| Failed::Because(format!("there is no token `{name}`; there is {}", quoted(&names))))?,
        None => {
            let mut tokens = tokens.into_iter();
            match (tokens.next(), tokens.next()) {
                (Some(only), None) => only,
                (None, _) => return Err(Failed::Because("the configuration has no token".into())),
                (Some(_), Some(_)) => {
                    return Err(Failed::Because(format!("say which token: {}", quoted(&names))));
                }
            }
        }
    };
    let endpoint = TokenEndpoint::new(settings, &ClientConfigs::default())?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let grant = on_its_own(runtime, |runtime| runtime.block_on(ask(&endpoint)))
        .map_err(|error| Failed::Because(told(&endpoint, &error)))?;
    if grant.other_scope {
        let asked = endpoint.settings().scope.as_deref().unwrap_or_default();
        complain(&format!(
            "warning: `{asked}` was asked for, and the provider granted another scope\n  hint: compare `scope` with the \
             scopes that this client may have at the provider"
        ));
    }
    if let Some(off) = grant.date.and_then(|date| ClockOff::of(date, SystemTime::now())) {
        complain(&format!("warning: this machine's clock is {off} the provider's\n  hint: set it (NTP)"));
    }
    let token = grant.access_token.expose();
    if !matches.get_flag("claims") {
        return print(&format!("{token}\n"));
    }
    // Not verified, only shown: to a client a token is opaque.
    match jsonwebtoken::dangerous::insecure_decode_claims::<Value>(token) {
        Ok(claims) => print(&format!("{claims:#}\n")),
        Err(_) => Err(Failed::Because("the token is opaque (not a JWT): it has no claims to show".into())),
    }
}

/// With each credential in turn, as long as the provider rejects them.
async fn ask(endpoint: &TokenEndpoint) -> Result<Grant, AskError> {
    let credentials = endpoint.settings().credentials.len();
    let mut credential = 0;
    loop {
        let error = match endpoint.ask(credential).await {
            Ok(grant) => return Ok(grant),
            Err(error) => error,
        };
        let another = matches!(error.failed().kind, FailureKind::Rejected | FailureKind::Unusable);
        if !another || credential + 1 == credentials {
            return Err(error);
        }
        complain(&format!("warning: {}: {error}; trying the next credential", endpoint.client_id(credential)));
        credential += 1;
    }
}

/// What became of it, where, and what to look at.
fn told(endpoint: &TokenEndpoint, error: &AskError) -> String {
    let settings = endpoint.settings();
    // The host alone: a path may name a tenant, a query may hold a key.
    let endpoint = &settings.endpoint;
    let url = endpoint.token_url().cloned().or_else(|| Url::parse(endpoint.issuer()?).ok());
    let host = url.and_then(|url| url.host_str().map(str::to_owned));
    let hint = error.cure.as_ref().map(|cure| format!("\n  hint: {cure}")).unwrap_or_default();
    let (name, host) = (&settings.name, host.unwrap_or_default());
    let words = error.words.as_ref().map(|words| format!("\n  the provider says: {}", words.as_str()));
    let words = words.unwrap_or_default();
    format!("no token `{name}` from `{host}`: {error}{words}{hint}")
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
