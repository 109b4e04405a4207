//! Private keys that sign JWTs (RFC 7518): from PEM or JWK to signatures.
//!
//! A key says which algorithms it can do; one that does not fit is an error, so that no key is ever used as if it were
//! of another kind (RFC 8725, 2.1). Must never know what is signed.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use zeroize::Zeroizing;

/// A JWS algorithm. `none` is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alg {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// Why a key does not sign. Nothing of the key is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is neither a PEM private key (PKCS#8, PKCS#1 or SEC 1) nor a private JWK")]
    NotAKey,
    #[error("its kind is not RSA, EC (P-256, P-384, P-521) or Ed25519, or its parts do not fit together")]
    Kind,
    #[error("it cannot sign with {0}")]
    Misfit(Alg),
    #[error("signing failed")]
    Signing,
}

/// A key that signs.
pub(super) enum SigningKey {
    /// The client secret itself.
    Hmac(Zeroizing<Vec<u8>>),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, Alg),
    Ed25519(Ed25519KeyPair),
}

/// The curves, each with its one algorithm (RFC 7518, 3.4).
static CURVES: [(&str, &EcdsaSigningAlgorithm, Alg); 3] = [
    ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING, Alg::Es256),
    ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING, Alg::Es384),
    ("P-521", &ECDSA_P521_SHA512_FIXED_SIGNING, Alg::Es512),
];

impl SigningKey {
    /// Reads a PEM or JWK text.
    ///
    /// # Errors
    /// It is no key, or of a kind that is not known here.
    pub(super) fn parse(text: &str) -> Result<Self, KeyError> {
        if text.trim_start().starts_with('{') {
            let jwk: Jwk = serde_json::from_str(text).map_err(|_| KeyError::NotAKey)?;
            return jwk.key().ok_or(KeyError::Kind);
        }
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::NotAKey)?;
        let ec = |der: &[u8]| {
            CURVES.iter().find_map(|(_, curve, alg)| {
                EcdsaKeyPair::from_private_key_der(curve, der).ok().map(|key| Self::Ec(key, *alg))
            })
        };
        match &key {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(Self::Rsa),
            PrivateKeyDer::Sec1(der) => ec(der.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let rsa = || RsaKeyPair::from_pkcs8(der).ok().map(Self::Rsa);
                let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Self::Ed25519);
                rsa().or_else(|| ec(der)).or_else(ed25519)
            }
            _ => None,
        }
        .ok_or(KeyError::Kind)
    }

    /// The algorithm to sign with where none is configured: what every server of the kind takes.
    pub(super) fn default_alg(&self) -> Alg {
        match self {
            Self::Hmac(_) => Alg::Hs256,
            Self::Rsa(_) => Alg::Rs256,
            Self::Ec(_, alg) => *alg,
            Self::Ed25519(_) => Alg::EdDsa,
        }
    }

    pub(super) fn sign(&self, alg: Alg, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Hmac(secret) => {
                let digest = alg.hmac().ok_or(KeyError::Misfit(alg))?;
                Ok(hmac::sign(&hmac::Key::new(digest, secret), message).as_ref().to_vec())
            }
            Self::Rsa(key) => {
                let padding = alg.rsa().ok_or(KeyError::Misfit(alg))?;
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), message, &mut signature).map_err(|_| KeyError::Signing)?;
                Ok(signature)
            }
            Self::Ec(key, own) if *own == alg => {
                let signature = key.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Signing)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Ed25519(key) if alg == Alg::EdDsa => {
                Ok(key.try_sign(message).map_err(|_| KeyError::Signing)?.as_ref().to_vec())
            }
            Self::Ec(..) | Self::Ed25519(_) => Err(KeyError::Misfit(alg)),
        }
    }
}

/// What the private key in this text, PEM or JWK, can sign with; the usual one first.
///
/// # Errors
/// It is no key, or of a kind that is not known here.
pub fn check(text: &str) -> Result<Vec<Alg>, KeyError> {
    let key = SigningKey::parse(text)?;
    let fits = |alg: &Alg| match &key {
        SigningKey::Hmac(_) => alg.is_hmac(),
        SigningKey::Rsa(_) => alg.rsa().is_some(),
        SigningKey::Ec(_, own) => own == alg,
        SigningKey::Ed25519(_) => *alg == Alg::EdDsa,
    };
    Ok(Alg::ALL.into_iter().filter(fits).collect())
}

/// What a JWK says of its own use (RFC 7517, 4.4 and 4.5). Beside the key in one file, it changes when the key does.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct OwnWords {
    pub(super) kid: Option<String>,
    alg: Option<String>,
}

impl OwnWords {
    /// Of a PEM file, none.
    pub(super) fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// An algorithm that is none of ours is left to the default.
    pub(super) fn alg(&self) -> Option<Alg> {
        let name = self.alg.as_deref()?;
        Alg::ALL.into_iter().find(|alg| alg.as_str() == name)
    }
}

/// A private JSON Web Key (RFC 7517, RFC 8037).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    n: Option<Part>,
    e: Option<Part>,
    d: Option<Part>,
    p: Option<Part>,
    q: Option<Part>,
    dp: Option<Part>,
    dq: Option<Part>,
    qi: Option<Part>,
    x: Option<Part>,
    y: Option<Part>,
}

/// A big-endian number or an octet string, in base64url.
struct Part(Zeroizing<Vec<u8>>);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(serde::de::Error::custom)?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl Jwk {
    fn key(&self) -> Option<SigningKey> {
        match self.kty.as_str() {
            "RSA" => self.rsa(),
            "EC" => self.ec(),
            "OKP" if self.crv.as_deref() == Some("Ed25519") => {
                let (d, x) = (&self.d.as_ref()?.0, &self.x.as_ref()?.0);
                Ed25519KeyPair::from_seed_and_public_key(d, x).ok().map(SigningKey::Ed25519)
            }
            _ => None,
        }
    }

    fn rsa(&self) -> Option<SigningKey> {
        let part = |part: &'_ Option<Part>| part.as_ref().map(|part| part.0.clone());
        let components = KeyPairComponents {
            public_key: PublicKeyComponents { n: part(&self.n)?, e: part(&self.e)? },
            d: part(&self.d)?,
            p: part(&self.p)?,
            q: part(&self.q)?,
            dP: part(&self.dp)?,
            dQ: part(&self.dq)?,
            qInv: part(&self.qi)?,
        };
        RsaKeyPair::from_components(&components).ok().map(SigningKey::Rsa)
    }

    fn ec(&self) -> Option<SigningKey> {
        let (_, curve, alg) = CURVES.iter().find(|(name, ..)| self.crv.as_deref() == Some(name))?;
        let (d, x, y) = (&self.d.as_ref()?.0, &self.x.as_ref()?.0, &self.y.as_ref()?.0);
        // SEC 1, 2.3.3: an uncompressed point.
        let point = [&[4], &x[..], &y[..]].concat();
        EcdsaKeyPair::from_private_key_and_public_key(curve, d, &point).ok().map(|key| SigningKey::Ec(key, *alg))
    }
}

impl Alg {
    pub const ALL: [Self; 13] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// As it stands in a JWS header (RFC 7518, 3.1; RFC 8037, 3.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether a shared secret signs, rather than a private key.
    pub fn is_hmac(self) -> bool {
        self.hmac().is_some()
    }

    fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => None,
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }

    fn rsa(self) -> Option<&'static dyn RsaEncoding> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_SHA512),
            Self::Hs256 | Self::Hs384 | Self::Hs512 => None,
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
