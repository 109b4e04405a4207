//! An entry of `tokens`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::words::{Duration, Named, OneOrMany, Percent, SecretWord};
use super::{Tls, in_order};

/// One access token: where it comes from and how it is kept fresh.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    transform = in_order::<Self>,
    extend("x-later" = {
        "provider": [],
        "credentials": [],
        "private_key": [],
        "key_id": [],
        "cert_file": [],
        "key_file": [],
        "request_format": ["form"],
        "grant_type": ["client_credentials"],
        "assertion": [],
        "proxy": [],
        "budget": ["off"],
    })
)]
pub struct Token {
    /// The issuer, exactly as the provider writes it; its token URL is found by discovery. This or `token_url`.
    #[schemars(extend("format" = "issuer"))]
    pub issuer: Option<String>,
    /// The token endpoint. This or `issuer`.
    #[schemars(extend("format" = "token-url"))]
    pub token_url: Option<String>,
    /// How the client proves who it is.
    #[schemars(extend("default" = "client_secret_basic"))]
    pub auth: Auth,
    /// The client's identifier at the provider.
    #[schemars(extend("format" = "text"))]
    pub client_id: Option<String>,
    /// The client's secret: `{file: PATH}`, which is read again when it changes, or `{env: NAME}`.
    pub client_secret: Option<SecretWord>,
    /// What the token is to be good for: words with spaces between, or a list.
    #[schemars(extend("format" = "scope"))]
    pub scope: Option<OneOrMany<String>>,
    /// The `audience` parameter, which some providers ask for. A list repeats it.
    #[schemars(extend("default" = [], "format" = "text"))]
    pub audience: OneOrMany<String>,
    /// The API that the token is for, as an absolute URI (RFC 8707). A list repeats it.
    #[schemars(extend("default" = [], "format" = "absolute-uri"))]
    pub resource: OneOrMany<String>,
    /// Further parameters of the token request; a list repeats one.
    #[schemars(extend("default" = {}, "x-key-format" = "param-name", "x-sensitive" = true))]
    pub params: Named<OneOrMany<String>>,
    /// Further headers of the token request.
    #[schemars(extend(
        "default" = {}, "x-key-format" = "header-name", "format" = "header-value", "x-sensitive" = true
    ))]
    pub headers: Named<String>,
    /// How `client_secret_basic` encodes identifier and secret.
    #[schemars(extend("default" = "form"))]
    pub basic_encoding: BasicEncoding,
    /// How TLS is spoken to the provider.
    #[schemars(extend("default" = {}))]
    pub tls: Tls,
    /// Whether `/startupz` and `/readyz` wait for this token.
    #[schemars(extend("default" = true))]
    pub required: bool,
    /// How long a request waits for a token request that is under way. `0s` does not wait.
    // No app's own timeout is longer than 5 min.
    #[schemars(extend("default" = "10s", "x-min" = "0s", "x-max" = "5m"))]
    pub wait: Duration,
    /// When it is renewed.
    #[schemars(extend("default" = {}))]
    pub refresh: Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(
    inline,
    extend("x-later-words" = ["client_secret_jwt", "private_key_jwt", "tls_client_auth", "client_assertion"])
)]
pub enum Auth {
    /// Identifier and secret in an `Authorization: Basic` header.
    ClientSecretBasic,
    /// Identifier and secret as parameters of the request.
    ClientSecretPost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BasicEncoding {
    /// Percent-encoded first, as RFC 6749 has it.
    Form,
    /// As they are, for a provider that does not decode.
    Raw,
}

/// When a token is renewed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Refresh {
    /// Renewal starts when this share of its life is left, or sooner: by chance up to a tenth of the way, so that many do
    /// not renew at once, and at the latest after three quarters of the life that `margin` leaves.
    // Nine tenths would renew as soon as it is there; less than a hundredth leaves no time for a second attempt.
    #[schemars(extend("default" = "25%", "x-min" = "1%", "x-max" = "90%"))]
    pub early: Percent,
    /// A token is never used within this of its end, so that it is still good when it arrives. At most a tenth of its
    /// life is taken.
    // A tenth of the longest usual life, a day, is 2.4 h: more has no effect.
    #[schemars(extend("default" = "10s", "x-min" = "0s", "x-max" = "1h"))]
    pub margin: Duration,
    /// The shortest time between two token requests.
    // Under 100 ms a provider that hands out dead tokens would be asked ten times a second.
    #[schemars(extend("default" = "1s", "x-min" = "100ms", "x-max" = "1h"))]
    pub min_interval: Duration,
    /// The shortest time between renewals because the API rejected the token; it doubles up to 1 h while they do not
    /// help.
    // The hour is where doubling ends.
    #[schemars(extend("default" = "10s", "x-min" = "1s", "x-max" = "1h"))]
    pub after_401: Duration,
    /// The life of a token whose answer does not tell it.
    // Shorter would be renewed all the time; a month outlives every access token.
    #[schemars(extend("default" = "5m", "x-min" = "10s", "x-max" = "30d"))]
    pub assumed_lifetime: Duration,
    /// How long one token request may take.
    // TLS across an ocean takes half a second; who has not answered in 5 min will not.
    #[schemars(extend("default" = "10s", "x-min" = "100ms", "x-max" = "5m"))]
    pub timeout: Duration,
    /// Whether a token that nobody has used since it was granted is renewed all the same.
    #[schemars(extend("default" = true))]
    pub when_idle: bool,
}
