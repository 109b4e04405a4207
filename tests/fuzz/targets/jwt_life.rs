//! The claims of an access token → its life. They are a hint: the token is taken whatever they say.

#![no_main]

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bearerd::token::grant::read;
use http::{HeaderMap, StatusCode};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const ASSUMED: Duration = Duration::from_secs(321);
const WALL: u64 = 1_800_000_000;

fuzz_target!(|claims: &[u8]| {
    let encoded = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
    let life = life_of(format!("{}.{}.c2ln", encoded(b"{\"alg\":\"RS256\"}"), encoded(claims)));
    // What is told in whole seconds, and once, comes out to the second.
    if let Ok(Value::Object(members)) = serde_json::from_slice(claims)
        && serde_json::from_slice::<Once>(claims).is_ok()
    {
        let second = |name: &str| members.get(name).map(|at| at.as_u64().filter(|at| *at < 1 << 50));
        match (second("exp"), second("iat").unwrap_or(Some(WALL))) {
            (Some(Some(exp)), Some(iat)) if exp > iat => assert_eq!(life, Duration::from_secs(exp - iat)),
            (None, _) | (Some(Some(_)), Some(_)) => assert_eq!(life, ASSUMED),
            (Some(_), _) => {}
        }
    }
    // As it is, wherever it is what a token may be.
    if let Ok(raw) = std::str::from_utf8(claims)
        && !raw.is_empty()
        && raw.bytes().all(|byte| byte.is_ascii_graphic())
    {
        life_of(raw.to_owned());
        life_of(format!("e30.{raw}.c2ln"));
    }
});

/// A name that is there twice is an error to serde.
#[derive(serde::Deserialize)]
struct Once {
    #[serde(rename = "exp")]
    _exp: Option<Value>,
    #[serde(rename = "iat")]
    _iat: Option<Value>,
}

fn life_of(token: String) -> Duration {
    let body = json!({"access_token": &token, "token_type": "Bearer"}).to_string();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(WALL);
    match read(StatusCode::OK, &HeaderMap::new(), body.as_bytes(), None, ASSUMED, wall) {
        Ok(grant) => {
            assert_eq!(*grant.access_token.expose(), token);
            assert!(!grant.life.is_zero());
            grant.life
        }
        // 128 KiB is the most that a header takes.
        Err(error) => {
            assert!(token.len() > 128 * 1024, "{error}");
            ASSUMED
        }
    }
}
