//! Whom a certificate has to be for: the name that was dialled, or the one that the settings say.
//!
//! For a dialler that can be told only one name (reqwest takes the URL's): the name that is sent as SNI stays the dialled
//! one. Everything else is the verdict of rustls, and must never be another.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::noted::Noted;
use super::{TlsError, TlsSettings, trust};

/// Has the peer's certificate carry `server_name`, where there is one.
///
/// # Errors
/// A file of the settings cannot be read or is not what it should be.
pub fn named(mut config: ClientConfig, settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    if settings.server_name.is_some() {
        config.dangerous().set_certificate_verifier(Arc::new(Verdict::new(settings, None)?));
    }
    Ok(config)
}

/// What rustls says of a certificate.
#[derive(Debug)]
pub(super) struct Verdict {
    rustls: Arc<dyn ServerCertVerifier>,
    name: Option<ServerName<'static>>,
    /// Where what was shown is written down, believed or not.
    noted: Option<Arc<Noted>>,
}

impl Verdict {
    pub(super) fn new(settings: &TlsSettings, noted: Option<Arc<Noted>>) -> Result<Self, TlsError> {
        Ok(Self { rustls: trust::verifier(settings)?, name: settings.server_name.clone(), noted })
    }
}

impl ServerCertVerifier for Verdict {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        along: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(noted) = &self.noted {
            noted.is_shown([certificate].into_iter().chain(along));
        }
        let name = self.name.as_ref().unwrap_or(dialled);
        self.rustls.verify_server_cert(certificate, along, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rustls.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rustls.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rustls.supported_verify_schemes()
    }
}
