//! `bearerd check`: every problem at once, or the plan that would run.

use clap::ArgMatches;

use super::{Failed, complain, load, print};
use crate::config::{Plan, redacted};
use crate::inbound::listener::BindFault;
use crate::inbound::{ListenAddress, owners};
use crate::outbound::Destinations;
use crate::tls::{ClientConfigs, Protocols, TlsSettings, server_config};
use crate::token::settings::Proof;

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let loaded = load(matches)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    for (name, fault) in strangers(&loaded.plan) {
        complain(&format!("warning: listener `{name}`: {fault} on this machine, so `run` would not start here"));
    }
    files(&loaded.plan)?;
    print(&format!("# {}: fine\n{}", loaded.origin, redacted::text(&loaded.plan)))
}

/// Listeners whose owner or group nobody knows here; the configuration may be another machine's.
fn strangers(plan: &Plan) -> impl Iterator<Item = (&str, BindFault)> {
    let listeners = plan.listeners.iter().chain(&plan.admin);
    listeners.filter_map(|listener| match &listener.addresses {
        ListenAddress::Unix(socket) => owners(socket).err().map(|fault| (&*listener.name, fault)),
        ListenAddress::Localhost(_) | ListenAddress::At(_) => None,
    })
}

/// Whether the TLS files hold what they should: all that do not, at once.
pub(super) fn files(plan: &Plan) -> Result<(), Failed> {
    let configs = &ClientConfigs::default();
    let tokens = plan.tokens.iter().flat_map(|token| {
        let name = &token.name;
        let tls = configs.get(&token.tls, None).err().map(|error| format!("token `{name}`: tls: {error}"));
        tls.into_iter().chain(token.credentials.iter().filter_map(move |credential| {
            let Proof::Certificate { certificate, key } = &credential.proof else { return None };
            let tls = TlsSettings { identity: Some((certificate.clone(), key.clone())), ..token.tls.clone() };
            // What is wrong with the rest has been told.
            configs.get(&token.tls, None).ok()?;
            configs.get(&tls, None).err().map(|error| format!("token `{name}`: {}: {error}", credential.client_id))
        }))
    });
    let mut destinations = Destinations::default();
    let routes = plan.routes.iter().filter_map(|route| {
        destinations.add(route, configs).err().map(|error| format!("route `{}`: tls: {error}", route.name))
    });
    let listeners = plan.listeners.iter().chain(&plan.admin).filter_map(|listener| {
        let error = server_config(listener.tls.as_ref()?, Protocols::Either).err()?;
        Some(format!("listener `{}`: tls: {error}", listener.name))
    });
    let problems: Vec<_> = listeners.chain(tokens).chain(routes).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let hint = "  hint: a PEM file holds `-----BEGIN …-----` blocks; \
                `openssl x509 -in FILE -inform DER` makes one of a `.cer` or `.der` file";
    Err(Failed::configuration(&format!("{}\n{hint}", problems.join("\n")), problems.len()))
}
