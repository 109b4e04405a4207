//! `bearerd check`: every problem at once, or the plan that would run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::ArgMatches;

use super::doctor::certificate::{SOON, day};
use super::run::hint_of_log;
use super::{Failed, complain, load, print};
use crate::config::files::why;
use crate::config::{Disk, Files as _, Plan, redacted};
use crate::inbound::listener::BindFault;
use crate::inbound::{ListenAddress, owners};
use crate::observe::access::{Sheet, SheetError};
use crate::outbound::Destinations;
use crate::rules::RouteId;
use crate::tls::{ClientConfigs, Protocols, TlsSettings, certificate, certificates, server_config};
use crate::token::settings::Proof;

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let loaded = load(matches)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    for (name, fault) in strangers(&loaded.plan) {
        complain(&format!("warning: listener `{name}`: {fault} on this machine, so `run` would not start here"));
    }
    if let Some(why) = no_authority(&loaded.plan) {
        complain(&format!("warning: intercept.ca_dir: {why}, so `run` would not start here"));
    }
    if let Some(SheetError { path, error }) = no_access_log(&loaded.plan) {
        complain(&format!(
            "warning: access_log: `{path}` cannot be written to: {error}, so `run` would not start here{}",
            hint_of_log(&error)
        ));
    }
    files(&loaded.plan)?;
    for certificate in expiring(&loaded.plan, SystemTime::now()) {
        complain(&format!("warning: {certificate}"));
    }
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

/// Why the access log cannot be opened here, if so. It is not made, since `run` may be another user's.
pub(super) fn no_access_log(plan: &Plan) -> Option<SheetError> {
    Sheet::could_open(plan.access_log.as_ref()?).err()
}

/// Why the local authority could not be kept where it is to be, if a route needs it: the folder, or what it would be made
/// in, is not this user's to write to.
fn no_authority(plan: &Plan) -> Option<String> {
    // `run` makes what is missing of the path.
    let nearest = plan.ca_dir.ancestors().find(|folder| folder.exists()).filter(|_| plan.intercepts())?;
    let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
    let error = Disk.folder(nearest).err()?;
    Some(format!("`{}` {}", nearest.display(), why(&error)))
}

/// The certificates of the configuration that have expired or soon will, each with its file.
pub(super) fn expiring(plan: &Plan, now: SystemTime) -> Vec<String> {
    let listeners = plan.listeners.iter().chain(&plan.admin).filter_map(|listener| {
        let tls = listener.tls.as_ref()?;
        Some((format!("listener `{}`", listener.name), vec![&tls.certificate], tls.client_ca.iter().collect()))
    });
    let tokens = plan.tokens.iter().map(|token| {
        let (mut shown, trusted) = files_of(&token.tls);
        shown.extend(token.credentials.iter().filter_map(|credential| match &credential.proof {
            Proof::Certificate { certificate, .. } => Some(certificate),
            Proof::Secret(_) | Proof::Key { .. } | Proof::Assertion(_) => None,
        }));
        (format!("token `{}`", token.name), shown, trusted)
    });
    let routes = plan.routes.iter().map(|route| {
        let (shown, trusted) = files_of(&route.tls);
        (format!("route `{}`", route.name), shown, trusted)
    });
    // Ten thousand routes may name one bundle, which takes milliseconds to read.
    let mut known: HashMap<&Path, Option<Life>> = HashMap::new();
    let mut life = |file| *known.entry(file).or_insert_with(|| Life::of(file));
    let mut told = Vec::new();
    for (whose, shown, trusted) in listeners.chain(tokens).chain(routes) {
        let shown: Vec<_> = shown.into_iter().filter_map(|file| Some((file, life(file)?.first))).collect();
        // Of many authorities some have always expired; it matters when the last of them has.
        let trusted = trusted.into_iter().filter_map(|file| Some((file, life(file)?.last)));
        for (file, end) in shown.into_iter().chain(trusted) {
            let what = match end.duration_since(now) {
                Err(_) => "has expired",
                Ok(left) if left < SOON => "expires soon",
                Ok(_) => continue,
            };
            told.push(format!(
                "{whose}: tls: the certificate in `{}` {what}: {}\n  hint: have it renewed and put in its place",
                file.display(),
                day(end),
            ));
        }
    }
    told
}

/// When the certificates of a file end.
#[derive(Clone, Copy)]
struct Life {
    first: SystemTime,
    last: SystemTime,
}

impl Life {
    /// `None` where they cannot be read, which is told elsewhere.
    fn of(file: &Path) -> Option<Self> {
        let certificates = certificates(file).ok()?;
        let ends = || certificates.iter().filter_map(|one| Some(certificate::validity(one)?.until));
        Some(Self { first: ends().min()?, last: ends().max()? })
    }
}

/// What a client shows, and whom it trusts.
fn files_of(tls: &TlsSettings) -> (Vec<&PathBuf>, Vec<&PathBuf>) {
    let shown = tls.identity.iter().map(|(certificate, _)| certificate).collect();
    (shown, tls.ca_file.iter().chain(&tls.extra_ca_file).collect())
}

/// Whether the TLS files hold what they should: all that do not, at once.
pub(super) fn files(plan: &Plan) -> Result<(), Failed> {
    let problems = wrong_files(plan);
    if problems.is_empty() {
        return Ok(());
    }
    let hint = "  hint: a PEM file holds `-----BEGIN …-----` blocks; \
                `openssl x509 -in FILE -inform DER` makes one of a `.cer` or `.der` file";
    Err(Failed::configuration(&format!("{}\n{hint}", problems.join("\n")), problems.len()))
}

/// Each TLS file that does not hold what it should.
pub(super) fn wrong_files(plan: &Plan) -> Vec<String> {
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
        destinations
            .add(RouteId::unique(), route, configs)
            .err()
            .map(|error| format!("route `{}`: tls: {error}", route.name))
    });
    let listeners = plan.listeners.iter().chain(&plan.admin).filter_map(|listener| {
        let error = server_config(listener.tls.as_ref()?, Protocols::Either).err()?;
        Some(format!("listener `{}`: tls: {error}", listener.name))
    });
    listeners.chain(tokens).chain(routes).collect()
}
