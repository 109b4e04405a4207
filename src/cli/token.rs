//! `bearerd token`: one token request, now, and its outcome.

use clap::ArgMatches;
use serde_json::Value;
use tokio::runtime::Builder;

use super::{Failed, complain, load, print};
use crate::tls::ClientConfigs;
use crate::token::grant::{AskError, Grant};
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
    let grant = runtime.block_on(ask(&endpoint)).map_err(|error| Failed::Because(error.to_string()))?;
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
        let rejected = error.failed().kind == FailureKind::Rejected;
        if !rejected || credential + 1 == credentials {
            return Err(error);
        }
        complain(&format!("warning: {}: {error}; trying the next credential", endpoint.client_id(credential)));
        credential += 1;
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
