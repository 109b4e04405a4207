//! What a token endpoint's answer means: a grant, or why not.
//!
//! Knows the quirks of real providers (`expires_in` as a string, `bearer` in any case, 200 with an error, text where JSON
//! should be). Pure; must never know who asked or what a clock is. Whatever a provider sends, nothing of it but the
//! token and a checked error code leaves this file.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::machine::{Failed, FailureKind};
use super::source::NoDocument;
use super::source::key::KeyError;
use crate::secret::Secret;
use crate::wire::fault::Fault;

/// A token that was granted.
#[derive(Debug)]
pub struct Grant {
    pub access_token: Secret<String>,
    /// Counted from when it was asked for.
    pub life: Duration,
    /// `token_type` is neither `bearer` nor absent (nor one that this client must not use at all).
    pub odd_type: bool,
    /// The provider says that it granted another scope than was asked for.
    pub other_scope: bool,
    /// What of the scope that was asked for the answer leaves out, where it names one.
    pub scope_left_out: Vec<String>,
    /// When the provider sent the answer, by its own clock; to the second (RFC 9110, 6.6.1).
    pub date: Option<SystemTime>,
    /// The secret could not be read, and why; the last one that could was used.
    pub stale_secret: Option<String>,
}

/// How far this machine's clock is from a provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOff {
    by: Duration,
    ahead: bool,
}

impl ClockOff {
    /// Less is no difference: `Date` has whole seconds, an answer takes its time, and servers allow for as much in what
    /// is signed.
    const LEAST: Duration = Duration::from_secs(30);

    /// `date` is what the provider said when it was `wall` here.
    pub fn of(date: SystemTime, wall: SystemTime) -> Option<Self> {
        let (by, ahead) = match wall.duration_since(date) {
            Ok(by) => (by, true),
            Err(error) => (error.duration(), false),
        };
        (by >= Self::LEAST).then(|| Self { by: Duration::from_secs(by.as_secs()), ahead })
    }
}

impl fmt::Display for ClockOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = humantime::format_duration(self.by);
        write!(f, "{by} {}", if self.ahead { "ahead of" } else { "behind" })
    }
}

/// Why there is no token. `Display` is for the operator, and holds nothing that a provider chose freely.
#[derive(Clone, Debug, PartialEq)]
pub struct AskError {
    pub what: What,
    pub retry_after: Option<Duration>,
    /// As in [`Grant::date`].
    pub date: Option<SystemTime>,
    /// The provider's own `error_description`, bounded and printable. For whoever asks on purpose, never for a log.
    pub words: Option<Words>,
    /// What to do about it, in our own words.
    pub cure: Option<Box<str>>,
}

/// What a provider said in its own words. They print where they are asked for and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(Box<str>);

impl Words {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[the provider's words]")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    #[error("the secret cannot be read: {0}")]
    Secret(String),
    #[error("discovery at {0} failed: {1}")]
    Discovery(String, NoDocument),
    #[error("the token endpoint cannot be reached: {0}")]
    Unreachable(Fault),
    #[error("the token endpoint did not answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    #[error("the token endpoint answered {0}{1}")]
    Status(StatusCode, Code),
    #[error("the token endpoint answered 200 and the error{0}")]
    ErrorIn200(Code),
    #[error("the token endpoint's answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("the token endpoint's answer is not a JSON object")]
    NotJson,
    #[error("the token endpoint's answer has no `access_token`")]
    NoAccessToken,
    #[error("the access token has bytes that no header can carry")]
    BadAccessToken,
    #[error("`token_type` is one that needs proof of possession, which this token was not asked for")]
    TokenType,
    #[error("`expires_in` is not a number of seconds above zero")]
    ExpiresIn,
    #[error("no assertion can be signed with the key: {0}")]
    Assertion(#[from] KeyError),
    #[error("a bug in bearerd: the token request panicked")]
    Panicked,
}

/// An OAuth error code (RFC 6749, 5.2), if the answer carried one that is made of harmless characters.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Code(Option<Box<str>>);

impl Code {
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}

/// No token response has a reason to be longer; the largest JWTs with embedded roles are some 100 KiB.
pub const MAX_ANSWER: usize = 1024 * 1024;

/// A header of this size is more than any server takes (nginx 8 KiB, IIS 16 KiB, Apache 8 KiB by default, some 64 KiB).
const MAX_TOKEN: usize = 128 * 1024;

/// Errors that are about the request and not about the credential: another credential would not help.
const NOT_THE_CREDENTIAL: [&str; 7] = [
    "invalid_scope",
    "invalid_target",
    "unsupported_grant_type",
    "use_dpop_nonce",
    "slow_down",
    "x_rate_limited",
    "too_many_requests",
];

impl AskError {
    /// Takes out of the provider's words what they may repeat of ours.
    pub(super) fn redact(&mut self, secret: &str) {
        if let Some(Words(words)) = &mut self.words {
            *words = words.replace(secret, "[secret]").into();
        }
    }

    /// Whether the provider asks to be asked less: 429, or 503 with a word on when to come back.
    pub(super) fn is_limited(&self) -> bool {
        match self.what {
            What::Status(status, _) => {
                status == StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::SERVICE_UNAVAILABLE && self.retry_after.is_some()
            }
            What::Secret(_)
            | What::Assertion(_)
            | What::Discovery(..)
            | What::Unreachable(_)
            | What::Timeout(_)
            | What::ErrorIn200(_)
            | What::TooLong
            | What::NotJson
            | What::NoAccessToken
            | What::BadAccessToken
            | What::TokenType
            | What::ExpiresIn
            | What::Panicked => false,
        }
    }

    pub fn failed(&self) -> Failed {
        let kind = match &self.what {
            _ if self.is_limited() => FailureKind::Limited,
            What::Status(StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, code)
            | What::ErrorIn200(code)
                if !code.0.as_deref().is_some_and(|code| NOT_THE_CREDENTIAL.contains(&code)) =>
            {
                FailureKind::Rejected
            }
            What::Secret(_) | What::Assertion(_) => FailureKind::Unusable,
            What::Discovery(..)
            | What::Unreachable(_)
            | What::Timeout(_)
            | What::Status(..)
            | What::ErrorIn200(_)
            | What::TooLong
            | What::NotJson
            | What::NoAccessToken
            | What::BadAccessToken
            | What::TokenType
            | What::ExpiresIn
            | What::Panicked => FailureKind::Transient,
        };
        Failed { kind, retry_after: self.retry_after }
    }
}

impl AskError {
    /// Whether the token endpoint may have moved, so that discovery is worth asking again.
    pub(super) fn doubts_the_url(&self) -> bool {
        match self.what {
            What::Unreachable(_) | What::Timeout(_) | What::NotJson | What::NoAccessToken => true,
            What::Status(status, _) => {
                matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE)
                    || status.is_redirection()
            }
            What::Secret(_)
            | What::Assertion(_)
            | What::Discovery(..)
            | What::ErrorIn200(_)
            | What::TooLong
            | What::BadAccessToken
            | What::TokenType
            | What::ExpiresIn
            | What::Panicked => false,
        }
    }
}

impl From<What> for AskError {
    fn from(what: What) -> Self {
        Self { what, retry_after: None, date: None, words: None, cure: None }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.what, f)?;
        match self.retry_after {
            Some(wish) => write!(f, "; it asks to be left alone for {}", humantime::format_duration(wish)),
            None => Ok(()),
        }
    }
}

/// The members that matter, as loosely as they come. A wrong type of one must not hide the others.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
    scope: Option<Value>,
    error: Option<Value>,
    error_description: Option<Value>,
}

/// Reads an answer. `asked_scope` is what was asked for; `assumed` the life of a token that does not tell its own.
pub fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    asked_scope: Option<&str>,
    assumed: Duration,
    wall: SystemTime,
) -> Result<Grant, AskError> {
    let date = headers.get(header::DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    match understood(status, headers, body, asked_scope, assumed, wall) {
        Ok(grant) => Ok(Grant { date, ..grant }),
        Err(error) => Err(AskError { date, ..error }),
    }
}

/// Reads a JSON object. serde would take an array for one, member by member.
pub(super) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_slice(body).ok().filter(|_| body.trim_ascii_start().starts_with(b"{"))
}

fn understood(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    asked_scope: Option<&str>,
    assumed: Duration,
    wall: SystemTime,
) -> Result<Grant, AskError> {
    let answer = object::<Answer>(body);
    let code = Code(answer.as_ref().and_then(|answer| answer.error.as_ref()).and_then(error_code));
    if !status.is_success() {
        let words = answer.and_then(|answer| answer.error_description).and_then(|text| words(&text));
        let retry_after = retry_after(headers, wall);
        return Err(AskError { retry_after, words, ..What::Status(status, code).into() });
    }
    let answer = answer.ok_or(What::NotJson)?;
    if answer.error.as_ref().is_some_and(|error| !error.is_null()) {
        let words = answer.error_description.as_ref().and_then(words);
        return Err(AskError { retry_after: retry_after(headers, wall), words, ..What::ErrorIn200(code).into() });
    }
    let Some(Value::String(access_token)) = answer.access_token else { return Err(What::NoAccessToken.into()) };
    let access_token = Secret::new(access_token);
    if access_token.expose().is_empty() {
        return Err(What::NoAccessToken.into());
    }
    // RFC 6750's b64token is narrower; some providers' opaque tokens are not. What a header value can carry is taken.
    let fits = |byte: u8| (0x21..=0x7e).contains(&byte);
    if access_token.expose().len() > MAX_TOKEN || !access_token.expose().bytes().all(fits) {
        return Err(What::BadAccessToken.into());
    }
    let token_type = answer.token_type.as_ref().and_then(Value::as_str).unwrap_or("Bearer");
    // RFC 6749, 7.1: a type whose use is not understood must not be used. These need a proof; others are bearer tokens
    // by another name (`BearerToken`, `Application Access Token`).
    if ["dpop", "mac", "pop", "n_a"].iter().any(|kind| token_type.eq_ignore_ascii_case(kind)) {
        return Err(What::TokenType.into());
    }
    let life = match answer.expires_in.as_ref().filter(|value| !value.is_null()) {
        Some(value) => seconds(value).ok_or(What::ExpiresIn)?,
        None => life_of_jwt(access_token.expose(), wall).unwrap_or(assumed),
    };
    let scope = answer.scope.as_ref().and_then(Value::as_str);
    Ok(Grant {
        stale_secret: None,
        date: None,
        scope_left_out: match (asked_scope, scope) {
            (Some(asked), Some(granted)) => left_out(asked, granted),
            (_, _) => Vec::new(),
        },
        odd_type: !token_type.eq_ignore_ascii_case("bearer"),
        other_scope: matches!((asked_scope, scope), (Some(asked), Some(granted)) if !same_words(asked, granted)),
        life,
        access_token,
    })
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds or a date. Okta says it as `X-Rate-Limit-Reset`, in seconds since 1970.
fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let Some(text) = headers.get(header::RETRY_AFTER) else {
        let reset: u64 = headers.get("x-rate-limit-reset")?.to_str().ok()?.trim().parse().ok()?;
        let since_1970 = wall.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        // What is no time of ours is a count of something else.
        return Duration::from_secs(reset).checked_sub(since_1970);
    };
    let text = text.to_str().ok()?.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(wall).unwrap_or_default()),
    }
}

fn error_code(value: &Value) -> Option<Box<str>> {
    let harmless = |code: &&str| {
        (1..=64).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    value.as_str().filter(harmless).map(Into::into)
}

/// A provider's sentence, cut to what a terminal shows well.
fn words(value: &Value) -> Option<Words> {
    const MOST: usize = 300;
    /// Whatever is longer without a space is no word: a token, a key, an identifier.
    const LONGEST_WORD: usize = 24;
    let text: String = value.as_str()?.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    let words = text.split_whitespace().map(|word| if word.chars().count() > LONGEST_WORD { "[…]" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then(|| Words(text.into()))
}

/// A number above zero, whole or not, or the same as a string. A JSON number beyond what a float holds is no life.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => text.parse().ok()?,
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    // Twice the age of the universe is still below what a Duration holds; policy caps it to something believable.
    let life = (seconds.is_finite() && seconds > 0.0)
        .then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))?;
    // Less than half of a nanosecond is none.
    (!life.is_zero()).then_some(life)
}

/// `exp - iat` of a JWT, or what is left of it by our clock where it has no `iat`. A hint and no more: to a client an
/// access token is opaque (RFC 9068, 6), so a signature is nothing to check here.
fn life_of_jwt(token: &str, wall: SystemTime) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
        iat: Option<f64>,
    }
    let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
    let since_1970 = wall.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    let life = claims.exp - claims.iat.unwrap_or(since_1970);
    Duration::try_from_secs_f64(life).ok().filter(|life| !life.is_zero())
}

/// The words of a scope that another has not.
pub fn left_out(asked: &str, granted: &str) -> Vec<String> {
    let is_granted = |word: &&str| granted.split_ascii_whitespace().any(|one| one == *word);
    asked.split_ascii_whitespace().filter(|word| !is_granted(word)).map(str::to_owned).collect()
}

fn same_words(left: &str, right: &str) -> bool {
    let words = |text: &str| {
        let mut words: Vec<_> = text.split_ascii_whitespace().map(str::to_owned).collect();
        words.sort_unstable();
        words.dedup();
        words
    };
    words(left) == words(right)
}

#[cfg(test)]
#[path = "grant_tests.rs"]
mod tests;
