//! Answers as real and hostile providers send them.

use std::time::SystemTime;

use http::HeaderValue;
use serde_json::json;

use super::*;

const ASSUMED: Duration = Duration::from_secs(300);

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn read_200(body: &[u8]) -> Result<Grant, AskError> {
    read(StatusCode::OK, &HeaderMap::new(), body, Some("read write"), ASSUMED, wall())
}

fn read_json(body: &Value) -> Result<Grant, AskError> {
    read_200(body.to_string().as_bytes())
}

fn with(member: &str, value: Value) -> Value {
    let mut body = json!({"access_token": "abc", "token_type": "Bearer", "expires_in": 3600});
    body[member] = value;
    body
}

fn jwt(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(b"any");
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

#[test]
fn a_life_comes_in_many_shapes() {
    for (value, seconds) in [
        (json!(3600), 3600.0),
        (json!("14399"), 14_399.0),
        (json!(1799.5), 1799.5),
        (json!("1799.5"), 1799.5),
        (json!(5_011_271), 5_011_271.0),
        (json!(1), 1.0),
        (Value::Null, 300.0),
    ] {
        let grant = read_json(&with("expires_in", value.clone())).unwrap();
        assert_eq!(grant.life.as_secs_f64(), seconds, "{value}");
    }
    assert!(read_json(&with("expires_in", json!(1e18))).unwrap().life > Duration::from_secs(1 << 40));
}

#[test]
fn a_life_that_is_none_is_refused() {
    for value in [
        json!(0),
        json!(-1),
        json!("0"),
        json!("-5"),
        json!("3600abc"),
        json!(""),
        json!("1.2.3"),
        // Less than a clock can tell from nothing.
        json!(1e-300),
        json!("0.0000000001"),
        json!([]),
        json!({}),
    ] {
        assert_eq!(read_json(&with("expires_in", value.clone())).unwrap_err().what, What::ExpiresIn, "{value}");
    }
}

#[test]
fn a_jwt_tells_its_life_where_the_answer_does_not() {
    let exp = 1_800_000_900;
    let body = |claims: &Value| json!({"access_token": jwt(claims), "token_type": "bearer"});
    let own_life = read_json(&body(&json!({"exp": exp, "iat": exp - 1800}))).unwrap();
    assert_eq!(own_life.life, Duration::from_secs(1800), "exp - iat, whatever our clock says");
    assert_eq!(read_json(&body(&json!({"exp": exp}))).unwrap().life, Duration::from_secs(900));
    for odd in [json!({"exp": 5}), json!({"exp": "soon"}), json!({}), json!({"exp": exp, "iat": exp})] {
        assert_eq!(read_json(&body(&odd)).unwrap().life, ASSUMED, "{odd}");
    }
}

#[test]
fn bearer_is_bearer_in_any_case_and_by_other_names() {
    for (token_type, odd) in [("Bearer", false), ("bearer", false), ("BEARER", false), ("BearerToken", true)] {
        assert_eq!(read_json(&with("token_type", json!(token_type))).unwrap().odd_type, odd, "{token_type}");
    }
    assert!(!read_json(&json!({"access_token": "abc"})).unwrap().odd_type, "absent");
    for token_type in ["DPoP", "mac", "pop", "N_A"] {
        assert_eq!(read_json(&with("token_type", json!(token_type))).unwrap_err().what, What::TokenType);
    }
}

#[test]
fn a_token_that_no_header_can_carry_is_refused() {
    for token in ["a\r\nX: y", "a\nb", "a b", "a\0b", "a\tb", "\u{fc}", "a\u{7f}", &"x".repeat(MAX_TOKEN + 1)] {
        let error = read_json(&with("access_token", json!(token))).unwrap_err();
        assert_eq!(error.what, What::BadAccessToken, "{:?}", &token[..4.min(token.len())]);
    }
    for odd in [json!(""), json!(null), json!(5), json!({"token": "abc"})] {
        assert_eq!(read_json(&with("access_token", odd)).unwrap_err().what, What::NoAccessToken);
    }
}

#[test]
fn what_is_not_an_answer_is_told_apart() {
    for body in ["", "<html>login</html>", "access_token=abc", "[]", "{\"access_token\":", "\u{feff}{}", "null"] {
        let error = read_200(body.as_bytes()).unwrap_err();
        assert!(matches!(error.what, What::NotJson), "{body}: {error}");
    }
    assert_eq!(read_200(b"{}").unwrap_err().what, What::NoAccessToken);
    assert!(matches!(read_200(&[0xff, 0xfe]).unwrap_err().what, What::NotJson));
    let array = r#"["abc", "Bearer", 3600, null, null, null]"#;
    assert_eq!(read_200(array.as_bytes()).unwrap_err().what, What::NotJson, "an array is no object");
    let deep = "[".repeat(100_000);
    assert!(matches!(read_200(deep.as_bytes()).unwrap_err().what, What::NotJson), "and the stack holds");
    assert!(matches!(read_json(&json!({"error": "invalid_client"})).unwrap_err().what, What::ErrorIn200(_)));
}

#[test]
fn a_rejected_credential_is_told_from_the_rest() {
    use FailureKind::{Limited, Rejected, Transient};
    for (status, body, kind) in [
        (401, r#"{"error":"invalid_client"}"#, Rejected),
        (401, r#"{"error":"unauthorized_client"}"#, Rejected),
        (400, r#"{"error":"invalid_request","error_description":"invalid client secret"}"#, Rejected),
        (403, "", Rejected),
        (200, r#"{"error":"invalid_client"}"#, Rejected),
        (400, r#"{"error":"invalid_scope"}"#, Transient),
        (400, r#"{"error":"invalid_target"}"#, Transient),
        (400, r#"{"error":"unsupported_grant_type"}"#, Transient),
        (403, r#"{"error":"too_many_requests"}"#, Transient),
        (429, r#"{"error":"x_rate_limited"}"#, Limited),
        (429, "Too Many Requests", Limited),
        (404, "", Transient),
        (500, "", Transient),
        (302, "", Transient),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = read(status, &HeaderMap::new(), body.as_bytes(), None, ASSUMED, wall()).unwrap_err();
        assert_eq!(error.failed().kind, kind, "{status} {body}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    for (text, seconds) in [
        ("120", Some(120)),
        (" 7 ", Some(7)),
        ("Fri, 15 Jan 2027 08:01:00 GMT", Some(60)),
        ("Fri, 15 Jan 2027 07:00:00 GMT", Some(0)),
        ("-5", None),
        ("soon", None),
        ("99999999999999999999", None),
    ] {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let error = read(status, &headers, b"", None, ASSUMED, wall()).unwrap_err();
        assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{text}");
    }
}

#[test]
fn okta_tells_when_its_window_ends() {
    for (text, seconds) in [("1800000030", Some(30)), ("30", None), ("soon", None)] {
        let headers = HeaderMap::from_iter([("x-rate-limit-reset".parse().unwrap(), HeaderValue::from_static(text))]);
        let error = read(StatusCode::TOO_MANY_REQUESTS, &headers, b"", None, ASSUMED, wall()).unwrap_err();
        assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{text}");
    }
}

#[test]
fn the_providers_words_are_kept_apart_and_tame() {
    let body = json!({"error": "invalid_client", "error_description": "no such\u{1b}[31m secret: p4ss eyJhbGciOiJub25lIn0.e30.c"}).to_string();
    let mut error =
        read(StatusCode::UNAUTHORIZED, &HeaderMap::new(), body.as_bytes(), None, ASSUMED, wall()).unwrap_err();
    error.redact("p4ss");
    assert_eq!(error.words.as_ref().map(Words::as_str), Some("no such [31m secret: [secret] […]"));
    assert_eq!(error.to_string(), "the token endpoint answered 401 Unauthorized (invalid_client)");
}

#[test]
fn another_scope_is_noticed_and_another_order_is_not() {
    assert!(!read_json(&with("scope", json!("write read"))).unwrap().other_scope);
    assert!(read_json(&with("scope", json!("read"))).unwrap().other_scope);
    assert!(!read_json(&with("scope", Value::Null)).unwrap().other_scope);
}

#[test]
fn nothing_that_a_provider_chose_freely_is_told() {
    let body = json!({"error": "canary<script>\n", "error_description": "canary"}).to_string();
    let error = read(StatusCode::UNAUTHORIZED, &HeaderMap::new(), body.as_bytes(), None, ASSUMED, wall()).unwrap_err();
    assert_eq!(error.to_string(), "the token endpoint answered 401 Unauthorized");
    assert!(!format!("{error:?}").contains("canary"));
}
