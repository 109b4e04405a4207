//! One crypto provider, one way to trust, one way to make a client's configuration and one for a server's.
//!
//! Must never know who dials whom, nor who listens.

pub mod certificate;
mod noted;

pub use noted::{Noted, noting};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

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
    /// The name that the peer's certificate must carry and that is sent as SNI, if not the dialled one.
    pub server_name: Option<ServerName<'static>>,
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

/// Makes client configurations; equal settings share one, and with it the sessions that can be resumed.
#[derive(Debug, Default)]
pub struct ClientConfigs(Mutex<HashMap<Key, Arc<ClientConfig>>>);

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
        let mut configs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// The same, from the files as they are now, shared with nobody.
    ///
    /// # Errors
    /// A file of the settings cannot be read or is not what it should be.
    pub fn fresh(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
        client_config(settings)
    }
}

/// Whom the settings trust.
fn roots(settings: &TlsSettings) -> Result<Arc<RootCertStore>, TlsError> {
    Ok(match (&settings.ca_file, &settings.extra_ca_file) {
        (None, None) => system_roots(),
        (Some(only), None) => Arc::new(roots_from(only, RootCertStore::empty())?),
        (None, Some(extra)) => Arc::new(roots_from(extra, RootCertStore::clone(&system_roots()))?),
        (Some(only), Some(extra)) => Arc::new(roots_from(extra, roots_from(only, RootCertStore::empty())?)?),
    })
}

fn client_config(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Versions(Box::new(error)))?
        .with_root_certificates(roots(settings)?);
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
    let not_after = chain.iter().filter_map(not_after).min();
    let mut config = builder.with_single_cert(chain, key).map_err(|error| TlsError::Server {
        certificate: settings.certificate.clone(),
        key: settings.key.clone(),
        error: Box::new(error),
    })?;
    config.alpn_protocols = protocols.taken();
    Ok(ServerIdentity { config: Arc::new(config), not_after })
}

/// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` count), or Mozilla's where there are none, as in an image
/// that holds nothing but bearerd. Read once.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // A system's bundle may hold a certificate that rustls does not take; the rest counts.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    });
    Arc::clone(roots)
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

/// When a certificate ends: its `notAfter` (RFC 5280, 4.1.2.5). `None` if it is not a certificate, or ends before 1970.
///
/// rustls' own parser keeps it to itself, and whoever else reads it brings ten crates for eight nested lengths.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    const INTEGER: u8 = 0x02;
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = element(certificate, &[SEQUENCE])?;
    let (signed, _) = element(certificate, &[SEQUENCE])?;
    // One of version 1 does not say so.
    let rest = element(signed, &[VERSION]).map_or(signed, |(_, rest)| rest);
    let (_serial, rest) = element(rest, &[INTEGER])?;
    let (_algorithm, rest) = element(rest, &[SEQUENCE])?;
    let (_issuer, rest) = element(rest, &[SEQUENCE])?;
    let (validity, _) = element(rest, &[SEQUENCE])?;
    let (_not_before, rest) = element(validity, &[UTC_TIME, GENERALIZED_TIME])?;
    let (not_after, _) = element(rest, &[UTC_TIME, GENERALIZED_TIME])?;
    time(not_after)
}

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The content of the element that `der` begins with, if it has one of these tags, and what stands behind it (X.690, 8.1).
fn element<'a>(der: &'a [u8], tags: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (tag, rest) = der.split_first().filter(|(tag, _)| tags.contains(tag))?;
    debug_assert!(tag & 0x1f != 0x1f, "a tag of one byte");
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // What needs more than four bytes for its length is no certificate.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ` from 1950 to 2049, or `YYYYMMDDHHMMSSZ`: what RFC 5280, 4.1.2.5 leaves of the two types.
fn time(text: &[u8]) -> Option<SystemTime> {
    let (year, rest) = match text.len() {
        13 => number(&text[..2]).map(|year| (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..]))?,
        15 => number(&text[..4]).map(|year| (year, &text[4..]))?,
        _ => return None,
    };
    let digits = rest.strip_suffix(b"Z")?;
    let [month, day, hour, minute, second]: [u64; 5] =
        digits.chunks(2).map(number).collect::<Option<Vec<_>>>()?.try_into().ok()?;
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // 719,468 days lie between the first of March of the year 0 and 1970.
    let days = days - 719_468;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

fn number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    digits.iter().try_fold(0, |sum, byte| Some(sum * 10 + digit(byte)?))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_ways_of_writing_it() {
        // From 2050 on it is a GeneralizedTime.
        for (year, month, day) in
            [(1970, 1, 1), (1999, 12, 31), (2024, 2, 29), (2049, 12, 31), (2050, 1, 1), (2400, 3, 1)]
        {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, month, day);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let expected = u64::try_from(params.not_after.unix_timestamp()).unwrap();
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(expected);
            assert_eq!(not_after(certificate.der()), Some(expected), "{year}-{month}-{day}");
            // Cut off anywhere or with any byte changed it is another certificate, or none, and nothing else happens.
            let der = certificate.der().to_vec();
            for length in 0..der.len() {
                let cut = CertificateDer::from(&der[..length]);
                assert_eq!(not_after(&cut), None, "cut off at {length}");
                for bit in 0..8 {
                    let mut other = der.clone();
                    other[length] ^= 1 << bit;
                    let _ = not_after(&CertificateDer::from(other));
                }
            }
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        let seconds =
            |text: &str| time(text.as_bytes()).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        assert_eq!(seconds("700101000001Z"), Some(Duration::from_secs(1)));
        assert_eq!(seconds("20261121081749Z"), Some(Duration::from_secs(1_795_249_069)));
        for text in [
            "",
            "Z",
            "691231235959Z",
            "701301000000Z",
            "700100000000Z",
            "700101240000Z",
            "700101000000+",
            "00000101000000Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

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
