//! JWTs by which a client proves who it is (RFC 7523): `client_secret_jwt` and `private_key_jwt`.
//!
//! One is made for every attempt, retries included: servers remember a `jti` and refuse its second use. Must never know
//! where a key came from.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::key::{Alg, KeyError, SigningKey};
use crate::secret::Secret;

/// RFC 7523, 2.2.
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The `assertion` settings of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct AssertionSettings {
    /// By default what fits the key.
    pub alg: Option<Alg>,
    pub typ: String,
    /// By default the issuer where one is configured, else the token URL.
    pub audience: Option<String>,
    /// How long one may be used; providers refuse more than five minutes to an hour.
    pub lifetime: Duration,
    /// `client_assertion_type`.
    pub assertion_type: String,
    /// Further claims, such as Google's `scope`.
    pub claims: Vec<(String, String)>,
}

impl Default for AssertionSettings {
    fn default() -> Self {
        Self {
            alg: None,
            typ: "JWT".to_owned(),
            audience: None,
            lifetime: Duration::from_secs(60),
            assertion_type: JWT_BEARER.to_owned(),
            claims: Vec::new(),
        }
    }
}

/// What a provider looks the key up by; each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyNames {
    /// `kid`.
    pub key_id: Option<String>,
    /// `x5t`: base64url of the certificate's SHA-1.
    pub x5t: Option<String>,
    /// `x5t#S256`: base64url of the certificate's SHA-256.
    pub x5t_s256: Option<String>,
}

/// Makes an assertion that is valid from `now`.
///
/// # Errors
/// The key cannot sign with the configured algorithm.
pub(super) fn make(
    settings: &AssertionSettings,
    names: &KeyNames,
    key: &SigningKey,
    client_id: &str,
    audience: &str,
    now: SystemTime,
) -> Result<Secret<String>, KeyError> {
    let alg = settings.alg.unwrap_or_else(|| key.default_alg());
    let mut header = Map::new();
    header.insert("alg".into(), alg.as_str().into());
    header.insert("typ".into(), settings.typ.as_str().into());
    let names = [("kid", &names.key_id), ("x5t", &names.x5t), ("x5t#S256", &names.x5t_s256)];
    header.extend(names.into_iter().filter_map(|(name, value)| Some((name.into(), value.as_deref()?.into()))));

    let issued = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut jti = [0; 16];
    rand::fill(&mut jti).map_err(|_| KeyError::Signing)?;
    // A single audience as a string and not a list (draft-ietf-oauth-rfc7523bis). No `nbf`: where clocks differ by a
    // second it is refused, and `iat` says the same.
    let mut claims = Map::new();
    claims.extend(settings.claims.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))));
    claims.extend(
        [
            ("iss", json!(client_id)),
            ("sub", json!(client_id)),
            ("aud", json!(audience)),
            ("iat", json!(issued)),
            ("exp", json!(issued + settings.lifetime.as_secs())),
            ("jti", json!(URL_SAFE_NO_PAD.encode(jti))),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );

    let encoded = |part: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(part).to_string());
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let signature = key.sign(alg, signed.as_bytes())?;
    Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn parts(jwt: &Secret<String>) -> [Value; 2] {
        let mut parts = jwt.expose().split('.');
        [0, 1].map(|_| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap()).unwrap())
    }

    fn made(settings: &AssertionSettings, names: &KeyNames) -> Secret<String> {
        let key = SigningKey::Hmac(Zeroizing::new(b"secret".to_vec()));
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_900);
        make(settings, names, &key, "app", "https://id.example", now).unwrap()
    }

    #[test]
    fn it_says_what_rfc_7523_asks_for() {
        let [header, claims] = parts(&made(&AssertionSettings::default(), &KeyNames::default()));
        assert_eq!(header, json!({"alg": "HS256", "typ": "JWT"}));
        assert_eq!(claims["iss"], "app");
        assert_eq!(claims["sub"], "app");
        assert_eq!(claims["aud"], "https://id.example", "a string, not a list");
        assert_eq!(claims["iat"], 1_800_000_000);
        assert_eq!(claims["exp"], 1_800_000_060);
        assert!(claims.get("nbf").is_none());
    }

    #[test]
    fn every_one_has_a_jti_of_its_own() {
        let [_, first] = parts(&made(&AssertionSettings::default(), &KeyNames::default()));
        let [_, second] = parts(&made(&AssertionSettings::default(), &KeyNames::default()));
        assert_ne!(first["jti"], second["jti"]);
        assert_eq!(first["jti"].as_str().unwrap().len(), 22, "128 bits");
    }

    #[test]
    fn what_is_configured_stands_in_it() {
        let settings = AssertionSettings {
            alg: Some(Alg::Hs512),
            typ: "client-authentication+jwt".to_owned(),
            lifetime: Duration::from_secs(300),
            claims: vec![("scope".to_owned(), "a b".to_owned()), ("iss".to_owned(), "forged".to_owned())],
            ..AssertionSettings::default()
        };
        let names =
            KeyNames { key_id: Some("k1".to_owned()), x5t: Some("one".to_owned()), x5t_s256: Some("two".to_owned()) };
        let [header, claims] = parts(&made(&settings, &names));
        assert_eq!(
            header,
            json!({"alg": "HS512", "typ": "client-authentication+jwt", "kid": "k1", "x5t": "one", "x5t#S256": "two"})
        );
        assert_eq!(claims["exp"], 1_800_000_300);
        assert_eq!(claims["scope"], "a b");
        assert_eq!(claims["iss"], "app", "a further claim replaces none of ours");
    }

    #[test]
    fn a_secret_does_not_sign_as_a_key() {
        let key = SigningKey::Hmac(Zeroizing::new(b"secret".to_vec()));
        let settings = AssertionSettings { alg: Some(Alg::Rs256), ..AssertionSettings::default() };
        let made = make(&settings, &KeyNames::default(), &key, "app", "https://id.example", SystemTime::now());
        assert_eq!(made.unwrap_err(), KeyError::Misfit(Alg::Rs256));
    }
}
