//! Whose certificates a client believes: those of the authorities that its settings name, or of the system's.
//!
//! The system's roots are a hundred and more certificates, which take longer to read than all else at a start. Nothing
//! can be wrong with them that a start should fail for, so they are read from the first handshake on that may need them,
//! beside the rest, and waited for where its certificate is to be checked. Every verdict is the one of rustls, and must
//! never be another.

use std::sync::{Arc, Once, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{TlsError, TlsSettings, crypto, roots_from, system_certificates};

/// Who checks a server's certificate under these settings.
///
/// # Errors
/// A file of theirs cannot be read or is not what it should be.
pub(super) fn verifier(settings: &TlsSettings) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let extra = |roots| settings.extra_ca_file.iter().try_fold(roots, |roots, extra| roots_from(extra, roots));
    if let Some(only) = &settings.ca_file {
        let roots = extra(roots_from(only, RootCertStore::empty())?)?;
        return Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto()).build()?);
    }
    let more = extra(RootCertStore::empty())?;
    let algorithms = crypto().signature_verification_algorithms;
    Ok(Arc::new(SystemAnd { more, algorithms, rustls: OnceLock::new() }))
}

/// [`system_certificates`], read once.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // A system's bundle may hold a certificate that rustls does not take; the rest counts.
        roots.add_parsable_certificates(system_certificates());
        Arc::new(roots)
    });
    Arc::clone(roots)
}

/// Reads them beside the rest. Where there is no thread for it, whoever needs them first does.
fn begin_with_system_roots() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| drop(std::thread::Builder::new().name("roots".into()).spawn(system_roots)));
}

/// The system's authorities, and more.
#[derive(Debug)]
struct SystemAnd {
    more: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    /// Made for the first certificate; `None` if there is no authority at all.
    rustls: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
}

impl SystemAnd {
    fn rustls(&self) -> Option<&Arc<WebPkiServerVerifier>> {
        let make = || {
            let mut roots = system_roots();
            if !self.more.is_empty() {
                let mut all = RootCertStore::clone(&roots);
                all.extend(self.more.roots.iter().cloned());
                roots = Arc::new(all);
            }
            WebPkiServerVerifier::builder_with_provider(roots, crypto()).build().ok()
        };
        self.rustls.get_or_init(make).as_ref()
    }
}

impl ServerCertVerifier for SystemAnd {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        along: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(rustls) = self.rustls() else { return Err(CertificateError::UnknownIssuer.into()) };
        rustls.verify_server_cert(certificate, along, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    /// Asked for the first message of a handshake, for which no roots are needed yet.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        begin_with_system_roots();
        self.algorithms.supported_schemes()
    }
}
