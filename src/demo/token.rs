//! The provider's access tokens: how one is signed (RFC 9068) and how an API checks it.
//!
//! The check has no leeway: what the API says about a token's life is what the tests believe. Must never know HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use super::Error;
use super::script::held;

/// The provider's signing key.
pub(super) struct Mint {
    issuer: String,
    key: EncodingKey,
    header: Header,
    x: String,
    y: String,
}

/// What a token is about.
pub(super) struct Grant<'a> {
    pub client: &'a str,
    pub audience: Vec<String>,
    pub scope: Option<&'a str>,
    pub life: Duration,
}

impl Mint {
    pub(super) fn new(issuer: String) -> Result<Self, Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(random_hex());
        // An uncompressed point is 0x04, then the two coordinates (SEC 1, 2.3.3).
        let (x, y) = pair.public_key_raw()[1..].split_at(32);
        let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(x), BASE64_URL_SAFE_NO_PAD.encode(y));
        Ok(Self { issuer, key: EncodingKey::from_ec_der(&pair.serialize_der()), header, x, y })
    }

    pub(super) fn issue(&self, grant: &Grant<'_>) -> Result<String, Error> {
        let now = since_epoch(SystemTime::now());
        let expiry = now + grant.life;
        let mut claims = json!({
            "iss": self.issuer,
            "sub": grant.client,
            "client_id": grant.client,
            "aud": one_or_many(&grant.audience),
            "iat": now.as_secs(),
            "exp": now.as_secs() + grant.life.as_secs(),
            // `exp` in whole seconds ends up to a second before `expires_in` does, which would be most of the life of
            // the short tokens that tests use. The verifier goes by this one.
            "exp_ms": u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX),
            "jti": random_hex(),
        });
        if let Some(scope) = grant.scope {
            claims["scope"] = scope.into();
        }
        Ok(jsonwebtoken::encode(&self.header, &claims, &self.key)?)
    }

    pub(super) fn jwks(&self) -> Value {
        let key = json!({
            "kty": "EC", "crv": "P-256", "x": self.x, "y": self.y, "use": "sig", "alg": "ES256", "kid": self.header.kid,
        });
        json!({ "keys": [key] })
    }

    pub(super) fn verifier(&self, audience: &str) -> Result<Verifier, Error> {
        Ok(Verifier {
            key: DecodingKey::from_ec_components(&self.x, &self.y)?,
            issuer: self.issuer.clone(),
            audience: audience.to_owned(),
            checked: Arc::default(),
        })
    }
}

fn one_or_many(values: &[String]) -> Value {
    match values {
        [one] => one.as_str().into(),
        many => many.into(),
    }
}

/// What an API found about the credential of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// No credential at all.
    Missing,
    /// A credential of another scheme, or something that cannot be one.
    Malformed,
    /// More than one line of credentials.
    Doubled,
    /// Not a token that this provider signed.
    Forged,
    WrongAudience,
    Expired,
    /// A good token that the API was told to refuse.
    Rejected,
}

impl Verdict {
    /// In the order of their declaration, so that `as usize` is an index here.
    pub const ALL: [Self; 8] = [
        Self::Good,
        Self::Missing,
        Self::Malformed,
        Self::Doubled,
        Self::Forged,
        Self::WrongAudience,
        Self::Expired,
        Self::Rejected,
    ];
}

/// The provider's public side: what an API knows of it.
#[derive(Clone)]
pub struct Verifier {
    key: DecodingKey,
    issuer: String,
    audience: String,
    /// By the token's whole digest. A signature check takes longer than everything else that the API does.
    checked: Arc<Mutex<HashMap<[u8; 32], Checked>>>,
}

/// When the token expires, or what is wrong with it for good.
type Checked = Result<Duration, Verdict>;

impl Verifier {
    /// The same provider, for an API of another name.
    pub fn for_audience(&self, audience: &str) -> Self {
        Self { audience: audience.to_owned(), checked: Arc::default(), ..self.clone() }
    }

    /// `Good`, `Expired`, `WrongAudience` or `Forged`.
    pub fn verify(&self, token: &str, now: SystemTime) -> Verdict {
        let mut name = [0; 32];
        name.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let known = held(&self.checked).get(&name).copied();
        let checked = known.unwrap_or_else(|| {
            let fresh = self.check(token);
            let mut checked = held(&self.checked);
            if checked.len() == 1024 {
                checked.clear(); // bounded, whatever is sent here
            }
            checked.insert(name, fresh);
            fresh
        });
        match checked {
            Ok(expiry) if since_epoch(now) < expiry => Verdict::Good,
            Ok(_) => Verdict::Expired,
            Err(verdict) => verdict,
        }
    }

    fn check(&self, token: &str) -> Checked {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[&self.issuer]);
        rules.set_required_spec_claims(&["iss", "aud", "exp"]);
        rules.validate_exp = false; // it counts in whole seconds
        rules.validate_aud = false; // told apart below
        let decoded = jsonwebtoken::decode::<Value>(token, &self.key, &rules).map_err(|_| Verdict::Forged)?;
        let claims = decoded.claims;
        let named = |aud: &Value| aud.as_str() == Some(&self.audience);
        let audience = &claims["aud"];
        if !named(audience) && !audience.as_array().is_some_and(|many| many.iter().any(named)) {
            return Err(Verdict::WrongAudience);
        }
        let precise = claims["exp_ms"].as_u64().map(Duration::from_millis);
        let whole = || Duration::try_from_secs_f64(claims["exp"].as_f64()?).ok();
        precise.or_else(whole).ok_or(Verdict::Forged)
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    // A clock before 1970 makes every token fresh; the demo is not where that would matter.
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// 128 random bits: a name that never comes again.
pub(super) fn random_hex() -> String {
    let mut bytes = [0; 16];
    // aws-lc fails here only when the system has no randomness, and then no key could have been made either.
    rand::fill(&mut bytes).expect("the system has randomness");
    format!("{:032x}", u128::from_be_bytes(bytes))
}
