//! An entry of `tokens`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::presets;
use super::super::words::{Duration, Named, OneOrMany, Percent, Rate, SecretWord, Switch};
use super::{Tls, in_order};
use crate::token::source::key::Alg;

/// One access token: where it comes from and how it is kept fresh.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Token {
    /// A preset for a known provider: it sets what is the same for all of its clients, and asks for what only you know.
    /// What is written beside it wins. `bearerd init PROVIDER` prints an example.
    #[schemars(extend("enum" = presets::names().collect::<Vec<_>>()))]
    pub provider: Option<String>,
    /// The issuer, exactly as the provider writes it; its token URL is found by discovery. This or `token_url`; with both,
    /// the URL serves where discovery fails.
    #[schemars(extend("format" = "issuer"))]
    pub issuer: Option<String>,
    /// The token endpoint. This or `issuer`, or both.
    #[schemars(extend("format" = "token-url"))]
    pub token_url: Option<String>,
    /// How the client proves who it is.
    #[schemars(extend("default" = "client_secret_basic"))]
    pub auth: Auth,
    /// The client's identifier at the provider. This and the next keys, up to `key_file`, are short for a list
    /// `credentials` with one entry.
    #[schemars(extend("format" = "text"))]
    pub client_id: Option<String>,
    /// The client's secret: `{file: PATH}`, which is read again when it changes, `{env: NAME}`, `{exec: [COMMAND, …]}` or
    /// `{systemd: NAME}`.
    pub client_secret: Option<SecretWord>,
    /// For `private_key_jwt`: the key that signs, PEM or JWK.
    #[schemars(extend("format" = "private-key"))]
    pub private_key: Option<SecretWord>,
    /// For `private_key_jwt`: what the provider calls the key (`kid`). Without it the `kid` of a JWK, if it has one.
    #[schemars(extend("format" = "text"))]
    pub key_id: Option<String>,
    /// For `private_key_jwt`: the SHA-1 of the key's certificate in base64url, where the provider finds the key by it.
    #[schemars(extend("format" = "x5t"))]
    pub x5t: Option<String>,
    /// For `private_key_jwt`: the SHA-256 of the key's certificate in base64url (`x5t#S256`).
    #[schemars(extend("format" = "x5t-s256"))]
    pub x5t_s256: Option<String>,
    /// For `tls_client_auth`: the client's certificate chain, PEM.
    #[schemars(extend("format" = "file"))]
    pub cert_file: Option<String>,
    /// For `tls_client_auth`: the key of `cert_file`, PEM.
    #[schemars(extend("format" = "file", "x-sensitive" = true))]
    pub key_file: Option<String>,
    /// Whole sets of credentials: the first is current, the next stand by and are tried when the provider rejects it.
    #[schemars(extend("minItems" = 1))]
    pub credentials: Option<Vec<Credential>>,
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
    /// How the parameters are written.
    #[schemars(extend("default" = "form"))]
    pub request_format: RequestFormat,
    /// The `grant_type` parameter, for a provider that wants another. With `urn:ietf:params:oauth:grant-type:jwt-bearer`
    /// what `auth` makes or reads is the grant itself (RFC 7523, 2.1).
    #[schemars(extend("default" = "client_credentials", "format" = "visible"))]
    pub grant_type: String,
    /// The JWT that says who asks, for `client_secret_jwt`, `private_key_jwt` and `client_assertion`.
    #[schemars(extend("default" = {}))]
    pub assertion: Assertion,
    /// The HTTP proxy through which the provider is reached: `http://proxy.example.com:3128`.
    #[schemars(extend("format" = "proxy", "x-sensitive" = true))]
    pub proxy: Option<String>,
    /// How TLS is spoken to the provider.
    #[schemars(extend("default" = {}))]
    pub tls: Tls,
    /// Never more token requests than this with one credential, whatever happens: a number and the window that it is
    /// counted in, as in `60/1h`. Renewals that an API's 401 asks for leave alone what planned ones will need. Counted in
    /// each process; `bearerd token` asks once, and is not counted.
    #[schemars(extend("default" = "off"))]
    pub budget: Switch<Rate>,
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
#[schemars(inline)]
pub enum Auth {
    /// Identifier and secret in an `Authorization: Basic` header.
    ClientSecretBasic,
    /// Identifier and secret as parameters of the request.
    ClientSecretPost,
    /// A JWT made with the secret.
    ClientSecretJwt,
    /// A JWT signed with a private key.
    PrivateKeyJwt,
    /// The client certificate of the connection.
    TlsClientAuth,
    /// A JWT that somebody else made, such as a Kubernetes service-account token.
    ClientAssertion,
}

/// One identity to ask with: `client_id`, and what `auth` asks for beside it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Credential {
    /// The client's identifier at the provider.
    #[schemars(required, extend("format" = "text"))]
    pub client_id: Option<String>,
    /// The client's secret.
    pub client_secret: Option<SecretWord>,
    /// For `private_key_jwt`: the key that signs, PEM or JWK.
    #[schemars(extend("format" = "private-key"))]
    pub private_key: Option<SecretWord>,
    /// For `private_key_jwt`: what the provider calls the key (`kid`). Without it the `kid` of a JWK, if it has one.
    #[schemars(extend("format" = "text"))]
    pub key_id: Option<String>,
    /// For `private_key_jwt`: the SHA-1 of the key's certificate in base64url.
    #[schemars(extend("format" = "x5t"))]
    pub x5t: Option<String>,
    /// For `private_key_jwt`: the SHA-256 of the key's certificate in base64url (`x5t#S256`).
    #[schemars(extend("format" = "x5t-s256"))]
    pub x5t_s256: Option<String>,
    /// For `tls_client_auth`: the client's certificate chain, PEM.
    #[schemars(extend("format" = "file"))]
    pub cert_file: Option<String>,
    /// For `tls_client_auth`: the key of `cert_file`, PEM.
    #[schemars(extend("format" = "file", "x-sensitive" = true))]
    pub key_file: Option<String>,
    /// For `client_assertion`: the JWT, read for every request.
    pub assertion: Option<SecretWord>,
}

/// The JWT by which the client proves who it is (RFC 7523). All but `type` and `file` are for JWTs that bearerd makes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub struct Assertion {
    /// For `client_assertion`: the file that holds the JWT, read for every request. Short for `assertion: {file: PATH}` in
    /// a list `credentials` with one entry.
    #[schemars(extend("format" = "file", "x-sensitive" = true))]
    pub file: Option<String>,
    /// The algorithm; without it the one that a JWK names, else the usual one of the key.
    #[schemars(extend("enum" = Alg::ALL.map(Alg::as_str)))]
    pub alg: Option<String>,
    /// The `typ` in the header.
    #[schemars(extend("default" = "JWT", "format" = "visible"))]
    pub typ: String,
    /// The `aud` claim; without it the issuer, or the token URL where no issuer is written.
    #[schemars(extend("format" = "text"))]
    pub audience: Option<String>,
    /// How long one JWT may be used.
    // Providers refuse more than five minutes to an hour; a clock in whole seconds has nothing below one.
    #[schemars(extend("default" = "60s", "x-min" = "1s", "x-max" = "1h"))]
    pub lifetime: Duration,
    /// The `client_assertion_type` parameter, for a provider that wants another.
    #[serde(rename = "type")]
    #[schemars(extend(
        "default" = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "format" = "visible"
    ))]
    pub kind: String,
    /// Further claims, such as Google's `scope`.
    #[schemars(extend("default" = {}, "x-key-format" = "param-name", "format" = "text"))]
    pub claims: Named<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RequestFormat {
    /// `application/x-www-form-urlencoded`, as RFC 6749 has it.
    Form,
    /// One JSON object, for a provider that wants it.
    Json,
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
    /// `off` waits until it is over, for a provider that revokes the old token when it issues a new one.
    // Nine tenths would renew as soon as it is there; less than a hundredth leaves no time for a second attempt.
    #[schemars(extend("default" = "25%", "x-min" = "1%", "x-max" = "90%"))]
    pub early: Switch<Percent>,
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
