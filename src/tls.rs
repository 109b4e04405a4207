//! One crypto provider, one way to trust, one way to make a client's configuration and one for a server's.
//!
//! Must never know who dials whom, nor who listens.

pub mod certificate;
mod named;
mod noted;
mod trust;

pub use named::named;
pub use noted::{Noted, noting};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A `tls` block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// Replaces the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Adds to the roots.
    pub extra_ca_file: Option<PathBuf>,
    /// The client's certificate chain and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the peer's certificate must carry, if not the dialled one. A route's is sent as SNI, too.
    pub server_name: Option<ServerName<'static>>,
}

impl TlsSettings {
    /// The roots.
    pub fn root_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.ca_file.iter().chain(&self.extra_ca_file)
    }

    /// The roots, and the client's own certificate and key.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.root_files().chain(self.identity.iter().flat_map(|(certificate, key)| [certificate, key]))
    }
}

/// The `tls` block of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate chain that is shown, PEM.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Whoever shows no certificate of these authorities is refused; without a file none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// What HTTP may be spoken over a connection: what is offered by ALPN (RFC 7301), where there is TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocols {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// Whichever of the two the server likes better; as a server, HTTP/2.
    Either,
}

/// HTTP/2's name in ALPN (RFC 9113, 3.1).
pub const H2: &[u8] = b"h2";

const HTTP_1_1: &[u8] = b"http/1.1";
const HTTP_1_0: &[u8] = b"http/1.0";

impl Protocols {
    /// Their names in ALPN for a client, the best first.
    fn offered(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![HTTP_1_1.to_vec()],
            Self::Http2 => vec![H2.to_vec()],
            Self::Either => vec![H2.to_vec(), HTTP_1_1.to_vec()],
        }
    }

    /// The same for a server. HTTP/1.0 has a name of its own, and who offers it alone, as `curl --http1.0` does, would
    /// be turned away.
    pub fn taken(self) -> Vec<Vec<u8>> {
        let mut names = self.offered();
        if self != Self::Http2 {
            names.push(HTTP_1_0.to_vec());
        }
        names
    }
}

/// Why a `tls` block cannot be used. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`{}` cannot be read as PEM: {error}", file.display())]
    Pem { file: PathBuf, error: rustls::pki_types::pem::Error },
    #[error("`{}` holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    #[error("`{}` holds a certificate that is not one: {error}", file.display())]
    Certificate { file: PathBuf, error: Box<rustls::Error> },
    #[error("`{}` and `{}` do not make a client certificate: {error}", .certificate.display(), .key.display())]
    Identity { certificate: PathBuf, key: PathBuf, error: Box<rustls::Error> },
    #[error("`{}` and `{}` do not make a server's certificate: {error}", .certificate.display(), .key.display())]
    Server { certificate: PathBuf, key: PathBuf, error: Box<rustls::Error> },
    #[error("`{}` holds no authority that clients could be checked by: {error}", file.display())]
    ClientCa { file: PathBuf, error: VerifierBuilderError },
    #[error("there is no authority that servers could be checked by: {0}")]
    Roots(#[from] VerifierBuilderError),
    #[error("the crypto provider offers no TLS version: {0}")]
    Versions(Box<rustls::Error>),
}

/// The one crypto provider of the program; nothing is installed process-wide.
pub fn crypto() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Makes client configurations; equal settings share one, and with it the sessions that can be resumed. Each file is
/// taken as it was when it was first looked at, so it is made for one plan, and dropped.
#[derive(Debug, Default)]
pub struct ClientConfigs {
    made: Mutex<HashMap<Key, Arc<ClientConfig>>>,
    contents: Mutex<HashMap<PathBuf, Option<Digest>>>,
}

type Digest = [u8; digest::SHA256_OUTPUT_LEN];

/// What the files of a `tls` block held, to be compared with what they hold later. Not what was in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents(Vec<Option<Digest>>);

/// What makes a difference.
type Key = (TlsSettings, Option<Protocols>);

impl ClientConfigs {
    /// TLS 1.2 and 1.3, peer verified; without `protocols` there is no ALPN.
    ///
    /// # Errors
    /// A file of the settings cannot be read or is not what it should be.
    pub fn get(&self, settings: &TlsSettings, protocols: Option<Protocols>) -> Result<Arc<ClientConfig>, TlsError> {
        // The name is checked by whoever dials; it makes no difference to the configuration.
        let plain = (TlsSettings { server_name: None, ..settings.clone() }, None);
        let mut configs = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !configs.contains_key(&plain) {
            let config = Self::fresh(&plain.0)?;
            configs.insert(plain.clone(), Arc::new(config));
        }
        let key = (plain.0.clone(), protocols);
        if !configs.contains_key(&key)
            && let Some(plain) = configs.get(&plain)
        {
            // What they share is more than what they differ in, sessions included.
            let mut config = ClientConfig::clone(plain);
            config.alpn_protocols = protocols.map(Protocols::offered).unwrap_or_default();
            configs.insert(key.clone(), Arc::new(config));
        }
        Ok(Arc::clone(&configs[&key]))
    }

    /// What these files hold. What is asked for before the configuration is made may be older than what that is made of,
    /// and never newer: so a change in between is seen as one, later.
    pub fn contents<'a>(&self, files: impl IntoIterator<Item = &'a PathBuf>) -> Contents {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let look = |file: &PathBuf| {
            let digest_of = || {
                let content = zeroize::Zeroizing::new(std::fs::read(file).ok()?);
                let mut all = [0; digest::SHA256_OUTPUT_LEN];
                all.copy_from_slice(digest::digest(&digest::SHA256, &content).as_ref());
                Some(all)
            };
            *contents.entry(file.clone()).or_insert_with(digest_of)
        };
        Contents(files.into_iter().map(look).collect())
    }

    /// The same, from the files as they are now, shared with nobody.
    ///
    /// # Errors
    /// A file of the settings cannot be read or is not what it should be.
    pub fn fresh(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
        client_config(settings)
    }
}

fn client_config(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Versions(Box::new(error)))?
        .dangerous()
        .with_custom_certificate_verifier(trust::verifier(settings)?);
    let Some((certificate, key)) = &settings.identity else { return Ok(builder.with_no_client_auth()) };
    builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?).map_err(|error| TlsError::Identity {
        certificate: certificate.clone(),
        key: key.clone(),
        error: Box::new(error),
    })
}

/// What a listener shows of itself.
#[derive(Debug)]
pub struct ServerIdentity {
    pub config: Arc<ServerConfig>,
    /// When the first of its chain ends; `None` if none of them says so.
    pub not_after: Option<SystemTime>,
}

/// TLS 1.2 and 1.3, `protocols` by ALPN, from the files as they are now.
///
/// # Errors
/// A file cannot be read or is not what it should be, or the key is another certificate's.
pub fn server_config(settings: &ServerTls, protocols: Protocols) -> Result<ServerIdentity, TlsError> {
    let builder = ServerConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Versions(Box::new(error)))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = Arc::new(roots_from(file, RootCertStore::empty())?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, crypto()).build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| TlsError::ClientCa { file: file.clone(), error })?)
        }
    };
    let (chain, key) = (certificates(&settings.certificate)?, private_key(&settings.key)?);
    let not_after = chain.iter().filter_map(certificate::validity).map(|validity| validity.until).min();
    let mut config = builder.with_single_cert(chain, key).map_err(|error| TlsError::Server {
        certificate: settings.certificate.clone(),
        key: settings.key.clone(),
        error: Box::new(error),
    })?;
    config.alpn_protocols = protocols.taken();
    Ok(ServerIdentity { config: Arc::new(config), not_after })
}

/// What the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` count), or what Mozilla does where it has nothing, as in an
/// image that holds nothing but bearerd.
pub fn system_certificates() -> Vec<CertificateDer<'static>> {
    let certificates = rustls_native_certs::load_native_certs().certs;
    if certificates.is_empty() { webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec() } else { certificates }
}

fn roots_from(file: &Path, mut roots: RootCertStore) -> Result<RootCertStore, TlsError> {
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Certificate { file: file.to_owned(), error: Box::new(error) })?;
    }
    Ok(roots)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| TlsError::Pem { file: file.to_owned(), error })
}

/// The certificates in a PEM file, in order.
///
/// # Errors
/// It cannot be read, is no PEM, or holds none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |error| TlsError::Pem { file: file.to_owned(), error };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(file.to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let error = |file: &str| {
            let settings = TlsSettings { ca_file: Some(file.into()), ..TlsSettings::default() };
            ClientConfigs::default().get(&settings, None).unwrap_err().to_string()
        };
        assert_eq!(error("Cargo.toml"), "`Cargo.toml` holds no certificate");
        assert!(error("nowhere.pem").starts_with("`nowhere.pem` cannot be read as PEM: "), "{}", error("nowhere.pem"));
    }

    #[test]
    fn equal_settings_share_one_configuration() {
        let configs = ClientConfigs::default();
        let named = TlsSettings { server_name: ServerName::try_from("a.example").ok(), ..TlsSettings::default() };
        let first = configs.get(&TlsSettings::default(), None).unwrap();
        assert!(Arc::ptr_eq(&first, &configs.get(&named, None).unwrap()));
        let either = configs.get(&named, Some(Protocols::Either)).unwrap();
        assert_eq!(either.alpn_protocols, [H2, HTTP_1_1]);
        assert!(Arc::ptr_eq(&either, &configs.get(&TlsSettings::default(), Some(Protocols::Either)).unwrap()));
    }
}
