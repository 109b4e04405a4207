//! Status, header lines, blank line, body → `grant::read`. A grant can be used; an error says nothing of theirs.

#![no_main]

use std::time::{Duration, SystemTime};

use bearerd::token::grant::{AskError, MAX_ANSWER, read};
use http::{HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Stands in the tokens of the seeds, and nobody may repeat it.
const CANARY: &str = "c4nary";

fuzz_target!(|bytes: &[u8]| {
    let (status, rest) = bearerd_fuzz::line(bytes);
    let Ok(status) = StatusCode::from_bytes(status) else { return };
    let (headers, body) = bearerd_fuzz::fields(rest);
    if body.len() > MAX_ANSWER {
        return;
    }
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let assumed = Duration::from_secs(300);
    let answer = read(status, &headers, body, Some("read write"), assumed, wall);
    if is_canary_in_the_token_alone(body) {
        let told = match &answer {
            Ok(grant) => format!("{grant:?}"),
            Err(error) => {
                format!("{error} {error:?} {:?}", error.words.as_ref().map(|words| words.as_str().to_owned()))
            }
        };
        assert!(!told.contains(CANARY), "{told}");
    }
    match answer {
        Ok(grant) => {
            assert!(status.is_success());
            let whole = serde_json::from_str::<Value>(&String::from_utf8_lossy(body));
            assert!(!matches!(whole, Ok(Value::Array(_))));
            let token = grant.access_token.expose();
            assert!(!token.is_empty() && token.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{token:?}");
            assert!(HeaderValue::from_str(&format!("Bearer {token}")).is_ok());
            assert!(!grant.life.is_zero(), "a token that lives for no time");
            assert!(grant.scope_left_out.iter().all(|word| ["read", "write"].contains(&word.as_str())));
            assert!(grant.other_scope || grant.scope_left_out.is_empty());
        }
        Err(error) => check(&error),
    }
});

fn check(error: &AskError) {
    bearerd_fuzz::assert_tellable(&error.to_string(), 512);
    bearerd_fuzz::assert_tellable(&format!("{error:?}"), 1024);
    if let Some(words) = &error.words {
        assert!(!words.as_str().is_empty() && words.as_str().chars().count() <= 300);
        bearerd_fuzz::assert_tellable(words.as_str(), 1200);
    }
    _ = error.failed();
}

/// Whether a body has the canary in its token, and nowhere else that could rightly be told.
fn is_canary_in_the_token_alone(body: &[u8]) -> bool {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else { return false };
    let token = members.remove("access_token");
    let has = |value: &Value| value.to_string().contains(CANARY);
    token.as_ref().is_some_and(has) && !has(&Value::Object(members))
}
