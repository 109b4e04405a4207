//! Certificates made in memory, so that the demo has real TLS and leaves nothing on the disk.
//!
//! Must never know who serves with them, nor write a key anywhere.

use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::Error;

/// A certificate authority that exists as long as this value does.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, for a file that a test writes or for a client that must show one.
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
    cert: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Ca {
    pub fn new() -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "bearerd demo CA");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, key)? })
    }

    /// What a client is told to trust.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server that is all right. Names are DNS names or IP addresses.
    pub fn server(&self, names: &[&str]) -> Result<ServerConfig, Error> {
        server_config(self.identity(names)?, None)
    }

    /// A server whose certificate ended years ago.
    pub fn expired_server(&self, names: &[&str]) -> Result<ServerConfig, Error> {
        let mut params = leaf(names)?;
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        server_config(self.sign(&params)?, None)
    }

    /// A server whose certificate is valid, but for a name that nobody asks for.
    pub fn misnamed_server(&self) -> Result<ServerConfig, Error> {
        self.server(&["somebody-else.invalid"])
    }

    /// A server that lets in only who shows a certificate from this authority.
    pub fn server_for_clients(&self, names: &[&str]) -> Result<ServerConfig, Error> {
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), crypto_provider()).build()?;
        server_config(self.identity(names)?, Some(clients))
    }

    /// A certificate for these names, good for either side of a connection.
    pub fn identity(&self, names: &[&str]) -> Result<Identity, Error> {
        self.sign(&leaf(names)?)
    }

    /// The same, until then.
    pub fn identity_until(&self, names: &[&str], end: SystemTime) -> Result<Identity, Error> {
        let mut params = leaf(names)?;
        params.not_after = end.into();
        self.sign(&params)
    }

    /// A client that trusts this authority and nothing else.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        Ok(ClientConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth())
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        Ok(roots)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Identity, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            cert: cert.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        })
    }
}

fn leaf(names: &[&str]) -> Result<CertificateParams, Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "bearerd demo");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn server_config(
    identity: Identity,
    clients: Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>,
) -> Result<ServerConfig, Error> {
    let builder =
        ServerConfig::builder_with_provider(crypto_provider()).with_protocol_versions(rustls::ALL_VERSIONS)?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(vec![identity.cert], PrivateKeyDer::Pkcs8(identity.key))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Named explicitly: no process-wide default is installed.
fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
