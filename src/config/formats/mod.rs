//! What a text must look like to mean something: one function a format, from text to type.
//!
//! `check` calls them to complain, with the place; `words` and `translate` call them again for the value, so that what
//! was checked and what is used cannot differ. A complaint never repeats the text. Must never know which key it is for.

mod http;
mod net;
mod number;
mod secret;

pub use http::{allow_path, header_name, header_value, inject_scheme, method, origin, param_name, scope, visible};
pub use net::{
    absolute_uri, cert_san, dial_address, host, issuer, listen_address, match_path, proxy, server_name, stub_path,
    token_url, tunnel, upstream,
};
pub use number::{duration, duration_text, mode, mode_text, percent, rate, rate_text, size, size_text};
pub use secret::{private_key, secret, x5t, x5t_s256};

use super::problem::Complaint;

/// The word that stands for standard output where a path may.
pub const STDOUT: &str = "stdout";

/// A format's name in the schema, what it asks for, and its check.
struct Format {
    name: &'static str,
    expects: &'static str,
    check: fn(&str) -> Result<(), Complaint>,
}

macro_rules! format {
    ($name:literal, $expects:literal, $parse:expr) => {
        Format { name: $name, expects: $expects, check: |text| $parse(text).map(|_| ()) }
    };
}

const FORMATS: &[Format] = &[
    format!("duration", "a duration such as `30s`", duration),
    format!("size", "a size such as `64KiB`", size),
    format!("rate", "a rate such as `60/1h`", rate),
    format!("percent", "a share such as `25%`", percent),
    format!("name", "a name", name),
    format!("text", "a string", text),
    format!("file", "the path of a file", text),
    format!("folder", "the path of a folder", text),
    format!("new-folder", "the path of a folder", text),
    format!("new-file", "`stdout` or the path of a file", text),
    format!("secret", "a secret: `{file: PATH}`, `{env: NAME}`, `{exec: [COMMAND, …]}` or `{systemd: NAME}`", secret),
    format!("private-key", "a private key: `{file: PATH}`, `{exec: [COMMAND, …]}` or `{systemd: NAME}`", private_key),
    format!("x5t", "the SHA-1 of a certificate in base64url", x5t),
    format!("x5t-s256", "the SHA-256 of a certificate in base64url", x5t_s256),
    format!("visible", "a string without spaces", visible),
    format!("proxy", "a URL such as `http://proxy.example.com:3128`", proxy),
    format!("listen-address", "an address such as `localhost:5280`", listen_address),
    format!("mode", "permissions such as `0660`", mode),
    format!("dial-address", "a host and port such as `203.0.113.5:443`", dial_address),
    format!("tunnel", "a host and a port such as `db.example.com:5432` or `*.example.com:443`", tunnel),
    format!("upstream", "a URL such as `https://api.example.com`", upstream),
    format!("token-url", "a URL such as `https://id.example.com/oauth2/token`", token_url),
    format!("issuer", "a URL such as `https://id.example.com`", issuer),
    format!("absolute-uri", "an absolute URI such as `https://api.example.com`", absolute_uri),
    format!("match-path", "a path such as `/v2`", match_path),
    format!("stub-path", "a path such as `/oauth2/token`", stub_path),
    format!("cert-san", "a DNS name such as `edge.corp`, or a URI", cert_san),
    format!("method", "a method such as `GET`", method),
    format!("allow-path", "a path such as `/v2/reports/**`", allow_path),
    format!("host", "a host name such as `api.example.com`", host),
    format!("server-name", "a host name such as `api.example.com`", server_name),
    format!("origin", "a web origin such as `https://app.example.com`", origin),
    format!("header-name", "the name of a header", header_name),
    format!("header-value", "the value of a header", header_value),
    format!("param-name", "the name of a parameter", param_name),
    format!("inject-scheme", "a word such as `Bearer`", inject_scheme),
    format!("scope", "a scope such as `read write`", scope),
];

/// What `format` asks for, for messages and the reference page.
pub fn expects(format: &str) -> &'static str {
    FORMATS.iter().find(|known| known.name == format).map_or("a string", |known| known.expects)
}

pub fn check(format: &str, text: &str) -> Result<(), Complaint> {
    FORMATS.iter().find(|known| known.name == format).map_or(Ok(()), |known| (known.check)(text))
}

/// Something rather than nothing, on one line.
fn text(text: &str) -> Result<(), Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("is empty").hint("write a value or remove the key"));
    }
    if text.chars().any(char::is_control) {
        return Err(Complaint::new("has a line break or another control character in it"));
    }
    Ok(())
}

/// Names become labels of metrics, words of log lines and arguments of commands.
fn name(text: &str) -> Result<(), Complaint> {
    const MAX_LENGTH: usize = 100; // as long as a host with a path, short enough for a table
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':');
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric())
        || !text.bytes().all(allowed)
        || text.len() > MAX_LENGTH
    {
        return Err(Complaint::new("not a name")
            .hint("use up to 100 letters, digits and `.`, `_`, `-`, `/`, `:`, with a letter or digit first"));
    }
    Ok(())
}
