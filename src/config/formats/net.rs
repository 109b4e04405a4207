//! Addresses, hosts, URLs and paths.
//!
//! A URL is taken apart by hand and its authority read by [`Authority`]: a parser that repairs what it reads would let
//! two spellings of one place through, or change the bytes that are sent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use url::Url;

use super::super::problem::Complaint;
use crate::inbound::settings::{ListenAddress, UnixSocket};
use crate::rules::settings::Upstream;
use crate::rules::{TunnelHost, TunnelTo};
use crate::wire::authority::{Authority, Host};

/// The longest path that fits into a `sockaddr_un` with the zero behind it (unix(7); macOS has four bytes less).
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where to listen. A unix socket's is private until somebody says otherwise.
pub fn listen_address(text: &str) -> Result<ListenAddress, Complaint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(ListenAddress::Unix(UnixSocket {
            path: socket_path(path)?,
            mode: UnixSocket::PRIVATE,
            owner: None,
            group: None,
        }));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        return match port.parse() {
            Ok(port) if digits => Ok(ListenAddress::Localhost(port)),
            _ => Err(Complaint::new("the port is not a number from 0 to 65535")),
        };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(ListenAddress::At(address)),
        Err(_) => Err(Complaint::new("not an address to listen on").hint(
            "write `localhost:PORT`, an IP address and a port (`127.0.0.1:5280`, `[::1]:5280`), or `unix:/PATH`",
        )),
    }
}

fn socket_path(path: &str) -> Result<PathBuf, Complaint> {
    if path.starts_with(['@', '\0']) {
        return Err(Complaint::new("an abstract unix socket has no permissions, so every user could connect")
            .hint("write `unix:` and the absolute path of a file"));
    }
    if path.starts_with("//") {
        return Err(Complaint::new("`unix:` is followed by a path, and not by `//`").hint("write `unix:/PATH`"));
    }
    if !path.starts_with('/') {
        return Err(Complaint::new("the path of a unix socket starts with `/`"));
    }
    if path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") {
        return Err(Complaint::new("the path of a unix socket ends with the name of a file"));
    }
    if path.chars().any(char::is_control) {
        return Err(Complaint::new("has a line break or another control character in it"));
    }
    if path.len() > MAX_SOCKET_PATH {
        let what = format!("the path is longer than the {MAX_SOCKET_PATH} bytes that a system takes for a socket");
        return Err(Complaint::new(what).hint("choose a shorter one, such as `unix:/run/bearerd/app.sock`"));
    }
    Ok(PathBuf::from(path))
}

/// `host` or `host:port`; what it is for knows the port that stands for its absence.
pub fn dial_address(text: &str) -> Result<Authority, Complaint> {
    if text.contains("://") {
        return Err(Complaint::new("not an address to connect to").hint("leave the scheme out: `203.0.113.5:443`"));
    }
    authority(text)
}

/// Where CONNECT may lead: `host:port`, or `*.parent:port`.
pub fn tunnel(text: &str) -> Result<TunnelTo, Complaint> {
    if text.contains("://") || text.contains('/') {
        return Err(Complaint::new("not a host and a port").hint("leave scheme and path out: `api.example.com:443`"));
    }
    let below = text.strip_prefix("*.");
    let rest = below.unwrap_or(text);
    if rest.contains('*') {
        return Err(Complaint::new(
            "a wildcard stands for all that is in front of the first dot, and not for every host",
        )
        .hint("write `*.example.com:443`"));
    }
    let Authority { host, port } = authority(rest)?;
    let Some(port) = port else {
        return Err(Complaint::new("the port is missing").hint("write it too: `api.example.com:443`"));
    };
    let host = match (below, host) {
        (None, host) => TunnelHost::One(host),
        (Some(_), Host::Name(name)) => TunnelHost::Below(name),
        (Some(_), Host::Ip(_)) => return Err(Complaint::new("there is no name below an address")),
    };
    Ok(TunnelTo { host, port })
}

fn authority(text: &str) -> Result<Authority, Complaint> {
    Authority::parse(text).map_err(|error| Complaint::new(error.to_string()))
}

/// Scheme, authority and base path; nothing else has a meaning for an upstream.
pub fn upstream(text: &str) -> Result<Upstream, Complaint> {
    let (https, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some(_) => return Err(Complaint::new("the scheme is neither `https` nor `http`")),
        None => {
            return Err(Complaint::new("not a URL").hint("write the scheme too: `https://api.example.com`"));
        }
    };
    if rest.contains('?') || rest.contains('#') {
        return Err(Complaint::new("an upstream has no query and no fragment")
            .hint("leave out what follows `?` or `#`: every request brings its own query"));
    }
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut authority = authority(host)?;
    if authority.port == Some(if https { 443 } else { 80 }) {
        authority.port = None;
    }
    let base_path = plain_path(path.strip_suffix('/').unwrap_or(path))?;
    Ok(Upstream { https, authority, base_path: Arc::from(base_path) })
}

/// The path that a route matches; `None` for `/`, which is every path.
pub fn match_path(text: &str) -> Result<Option<Arc<str>>, Complaint> {
    if !text.starts_with('/') {
        return Err(Complaint::new("a path starts with `/`"));
    }
    if text.contains('?') || text.contains('#') {
        return Err(Complaint::new("a path to match has no query and no fragment"));
    }
    if text.contains('*') {
        return Err(Complaint::new("a path to match has no wildcard").hint("`/v2` takes `/v2` and everything below it"));
    }
    let path = plain_path(text.strip_suffix('/').unwrap_or(text))?;
    Ok(if path.is_empty() { None } else { Some(Arc::from(path)) })
}

/// The path of one resource, as an app asks for it. That it ends in a slash, or does not, is a part of it.
pub fn stub_path(text: &str) -> Result<Arc<str>, Complaint> {
    if !text.starts_with('/') {
        return Err(Complaint::new("a path starts with `/`"));
    }
    if text.contains('?') || text.contains('#') {
        return Err(Complaint::new("a path to answer has no query and no fragment"));
    }
    plain_path(text.strip_suffix('/').unwrap_or(text))?;
    Ok(Arc::from(text))
}

/// A path that every server reads alike, byte for byte as written.
fn plain_path(path: &str) -> Result<&str, Complaint> {
    let bytes = path.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let fine = match byte {
            b'%' => bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
            | b':' | b'@' | b'/' => true,
            other => other.is_ascii_alphanumeric(),
        };
        if !fine {
            return Err(Complaint::new("the path has a character that must be percent-encoded"));
        }
    }
    if path.contains("//") || path.ends_with('/') {
        return Err(Complaint::new("the path has an empty segment (`//`)"));
    }
    let dots = path.split('/').any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".." || segment.to_ascii_lowercase().contains("%2e")
    });
    if dots {
        return Err(Complaint::new("the path has a dot segment or an encoded dot")
            .hint("write the path as it is without `.`, `..` and `%2e`"));
    }
    Ok(path)
}

/// A host without a port, in canonical form.
pub fn host(text: &str) -> Result<Host, Complaint> {
    if text.contains("://") || text.contains('/') {
        return Err(Complaint::new("not a host name").hint("leave scheme and path out: `api.example.com`"));
    }
    match Host::parse(text) {
        Ok(host) => Ok(host),
        Err(_) if text.contains('*') => Err(Complaint::new("a host has no wildcard").hint("list the hosts one by one")),
        Err(_) if Authority::parse(text).is_ok() => {
            Err(Complaint::new("a host name with a port").hint("leave the port out: it does not matter here"))
        }
        Err(error) => Err(Complaint::new(error.to_string())),
    }
}

/// A subject alternative name of a certificate, in canonical form.
pub fn cert_san(text: &str) -> Result<String, Complaint> {
    if text.contains(':') {
        absolute_uri(text)?;
        return Ok(text.to_owned());
    }
    if text.contains('=') {
        return Err(
            Complaint::new("the subject of a certificate (`CN=…`) is not looked at").hint("write a DNS name or a URI")
        );
    }
    match host(text)? {
        Host::Name(name) => Ok(name.to_string()),
        Host::Ip(_) => Err(Complaint::new("an IP address names no client").hint("write a DNS name or a URI")),
    }
}

pub fn server_name(text: &str) -> Result<ServerName<'static>, Complaint> {
    let name = match host(text)? {
        Host::Name(name) => name.to_string(),
        Host::Ip(address) => address.to_string(),
    };
    ServerName::try_from(name).map_err(|_| Complaint::new("not a name that a certificate can carry"))
}

/// Where a client secret is sent: never in clear over a network.
pub fn token_url(text: &str) -> Result<Url, Complaint> {
    let url = provider_url(text)?;
    if url.fragment().is_some() {
        return Err(Complaint::new("a token URL has no fragment (`#`)"));
    }
    Ok(url)
}

/// The issuer exactly as the provider's metadata has it (RFC 8414, section 2).
pub fn issuer(text: &str) -> Result<(), Complaint> {
    let url = provider_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Complaint::new("an issuer has no query and no fragment"));
    }
    if url.path().contains("/.well-known/") {
        return Err(Complaint::new("this is the address of the metadata, not the issuer")
            .hint("leave out what follows `/.well-known/`, and it too"));
    }
    Ok(())
}

fn provider_url(text: &str) -> Result<Url, Complaint> {
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return Err(Complaint::new("a URL has no spaces"));
    }
    let wrong = || Complaint::new("not a URL").hint("write the whole of it: `https://id.example.com/…`");
    let bare = || Complaint::new("not a URL").hint("write the scheme too: `https://id.example.com/…`");
    let has_scheme = text.contains("://");
    let url = Url::parse(text).map_err(|_| if has_scheme { wrong() } else { bare() })?;
    if !matches!(url.scheme(), "https" | "http") {
        // To `Url`, `localhost:1/x` has the scheme `localhost`.
        return Err(if has_scheme { Complaint::new("the scheme is not `https`") } else { bare() });
    }
    // What `Url` repairs, such as `https:id.example.com` or a short IP address, stands differently in the text.
    let (_, rest) = text.split_once("://").ok_or_else(wrong)?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let written = authority(rest.get(..end).unwrap_or_default()).map_err(|complaint| {
        if url.username().is_empty() && url.password().is_none() {
            complaint
        } else {
            Complaint::new("a URL with a user name or password in it")
                .hint("use `client_id` and `client_secret` for the credentials")
        }
    })?;
    if url.scheme() == "http" && !written.host.is_loopback() {
        return Err(Complaint::new("the client secret would go over the network in clear")
            .hint("use `https`; `http` is only for this machine (`localhost`, `127.0.0.1`, `[::1]`)"));
    }
    Ok(url)
}

/// A forward proxy that is spoken to in clear, as they usually are; what goes through it is TLS.
pub fn proxy(text: &str) -> Result<Url, Complaint> {
    let wrong = || {
        Complaint::new("not the URL of a proxy").hint("write scheme, host and port: `http://proxy.example.com:3128`")
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    match url.scheme() {
        "http" => {}
        "https" | "socks5" | "socks5h" | "socks4" => {
            let complaint = Complaint::new("a proxy other than `http://` is not supported yet");
            return Err(complaint.hint("what goes through it is TLS all the same"));
        }
        _ => return Err(wrong()),
    }
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let (written, tail) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let written = written.rsplit_once('@').map_or(written, |(_, host)| host);
    authority(written)?;
    match tail {
        "" | "/" => Ok(url),
        _ => Err(Complaint::new("the URL of a proxy has no path, query or fragment")),
    }
}

/// A resource indicator (RFC 8707, section 2).
pub fn absolute_uri(text: &str) -> Result<(), Complaint> {
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return Err(Complaint::new("a URI has no spaces").hint("for several, write a list"));
    }
    let url = Url::parse(text)
        .map_err(|_| Complaint::new("not an absolute URI").hint("write the scheme too: `https://api.example.com`"))?;
    match url.fragment() {
        Some(_) => Err(Complaint::new("a resource has no fragment (`#`)")),
        None => Ok(()),
    }
}
