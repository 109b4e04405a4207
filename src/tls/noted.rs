//! A client's configuration that notes what the server shows and asks for, believed or not: for whoever looks for what
//! is wrong with it.
//!
//! Its verdict is the one of any other configuration of these settings, and must never be another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};

use super::named::Verdict;
use super::{TlsError, TlsSettings, client_config};

/// What a server did in the first handshake with the configuration that came with this.
#[derive(Debug, Default)]
pub struct Noted {
    chain: OnceLock<Vec<CertificateDer<'static>>>,
    asked: AtomicBool,
}

impl Noted {
    /// Its certificate first, then those that it sent along; nothing where it came to none.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.chain.get().map_or(&[], Vec::as_slice)
    }

    /// The first chain is kept.
    pub(super) fn is_shown<'a>(&self, chain: impl Iterator<Item = &'a CertificateDer<'a>>) {
        let _ = self.chain.set(chain.map(|one| one.clone().into_owned()).collect());
    }

    /// Whether it asked for a certificate of ours.
    pub fn asked_for_certificate(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// As [`ClientConfigs::fresh`](super::ClientConfigs::fresh) makes it, for one handshake.
///
/// # Errors
/// A file of the settings cannot be read or is not what it should be.
pub fn noting(settings: &TlsSettings) -> Result<(ClientConfig, Arc<Noted>), TlsError> {
    let mut config = client_config(settings)?;
    let noted = Arc::new(Noted::default());
    let verdict = Verdict::new(settings, Some(Arc::clone(&noted)))?;
    config.dangerous().set_certificate_verifier(Arc::new(verdict));
    let own = Arc::clone(&config.client_auth_cert_resolver);
    config.client_auth_cert_resolver = Arc::new(Asked { own, noted: Arc::clone(&noted) });
    Ok((config, noted))
}

#[derive(Debug)]
struct Asked {
    own: Arc<dyn ResolvesClientCert>,
    noted: Arc<Noted>,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.noted.asked.store(true, Ordering::Relaxed);
        self.own.resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        self.own.has_certs()
    }
}
