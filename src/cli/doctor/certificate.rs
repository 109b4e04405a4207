//! The certificates in files of ours: when each holds, and who signed it. That they fit their keys, the configuration's
//! check has told.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;

use super::Round;
use super::report::{Report, begin, shown, spell};
use crate::config::Plan;
use crate::inbound::ListenSettings;
use crate::tls::{self, certificate};
use crate::token::settings::Proof;

/// What ends sooner deserves a warning: two weeks hold a weekend, a holiday, and whoever has to sign it.
pub(in crate::cli) const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Each file once, however often it is named.
pub(super) fn look(round: &mut Round<'_>, plan: &Plan) {
    let mut files: Vec<(String, &Path)> = Vec::new();
    for token in &plan.tokens {
        for credential in &token.credentials {
            if let Proof::Certificate { certificate, .. } = &credential.proof {
                files.push((format!("token {}, {}", token.name, credential.client_id), certificate));
            }
        }
        let identity = token.tls.identity.as_ref();
        files.extend(identity.map(|(file, _)| (format!("token {}", token.name), file.as_path())));
    }
    for route in &plan.routes {
        let identity = route.tls.identity.as_ref();
        files.extend(identity.map(|(file, _)| (format!("route {}", route.name), file.as_path())));
    }
    let listeners = plan.listeners.iter().chain(&plan.admin).chain(&plan.health);
    for ListenSettings { name, tls, .. } in listeners {
        files.extend(tls.as_ref().map(|tls| (format!("listener {name}"), tls.certificate.as_path())));
    }
    let mut seen = Vec::new();
    for (whose, file) in files {
        if !seen.contains(&file) {
            seen.push(file);
            one(round.report, &whose, file);
        }
    }
}

fn one(report: &mut Report, whose: &str, file: &Path) {
    let begun = begin("certificate", format!("{whose}: {}", file.display()));
    let chain = match tls::certificates(file) {
        Ok(chain) => chain,
        Err(error) => {
            report.fail(
                begun,
                error.to_string(),
                "write it as PEM, the certificate itself before those that signed it",
            );
            return;
        }
    };
    match chain.first().map(|leaf| (leaf, life(leaf))) {
        Some((leaf, Life::Good(until))) => report.ok(begun, format!("by {}, until {}", by(leaf), day(until))),
        Some((leaf, Life::Short(until, left))) => {
            let what = format!("by {}, ends in {} ({})", by(leaf), spell(left), day(until));
            report.warn(begun, what, "have it renewed; a file that is replaced is read again, without a restart");
        }
        Some((leaf, Life::Over(until))) => {
            let what = format!("by {}, has ended on {}", by(leaf), day(until));
            report.fail(begun, what, "have it renewed; a file that is replaced is read again, without a restart");
        }
        Some((leaf, Life::Early(from))) => {
            let what = format!("by {}, holds from {} on", by(leaf), day(from));
            report.fail(begun, what, "wait, or set this machine's clock if it is behind");
        }
        Some((_, Life::Unknown)) | None => report.leave(begun, "it does not say when it holds"),
    }
}

/// Where a certificate stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    Good(SystemTime),
    /// It ends soon, and what is left.
    Short(SystemTime, Duration),
    Over(SystemTime),
    /// It has yet to begin.
    Early(SystemTime),
    Unknown,
}

pub(super) fn life(certificate: &CertificateDer<'_>) -> Life {
    let now = SystemTime::now();
    match certificate::validity(certificate) {
        None => Life::Unknown,
        Some(validity) if now < validity.from => Life::Early(validity.from),
        Some(validity) => match validity.until.duration_since(now) {
            Err(_) => Life::Over(validity.until),
            Ok(left) if left < SOON => Life::Short(validity.until, left),
            Ok(_) => Life::Good(validity.until),
        },
    }
}

/// Who signed it.
pub(super) fn by(certificate: &CertificateDer<'_>) -> String {
    certificate::issuer(certificate).map_or_else(|| "somebody without a name".to_owned(), |name| shown(&name))
}

/// A date, UTC.
pub(in crate::cli) fn day(at: SystemTime) -> String {
    // What is behind the year 9999 is no date to humantime, and displaying it an error.
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let text = humantime::format_rfc3339_seconds(at.min(latest)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
