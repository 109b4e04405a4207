//! The plan as text, with every default filled in and no secret in it: what `bearerd check` prints.
//!
//! YAML that would load again, but for what is taken out. A secret file is named and an inline secret is not even
//! counted; values of headers and parameters are always taken out, because API keys live there. Must never open a file.

use std::fmt::Display;
use std::fmt::Write as _;

use url::Url;

use super::formats::{STDOUT, duration_text, mode_text, rate_text, size_text};
use super::plan::Plan;
use super::translate::in_clear;
use crate::inbound::settings::{ListenAddress, ListenSettings};
use crate::observe::access::AccessLog;
use crate::observe::log::{Format, Level};
use crate::rules::settings::{Allow, ClientSettings, OnAuthorization, RouteSettings};
use crate::tls::{Protocols, ServerTls, TlsSettings};
use crate::token::Settings;
use crate::token::settings::{BasicEncoding, ClientAuth, Credential, Proof, RequestFormat, SecretSource};
use crate::token::source::assertion::AssertionSettings;

/// What stands for a value that is not shown.
const REDACTED: &str = "[redacted]";

pub fn text(plan: &Plan) -> String {
    let mut page = Page { text: String::new(), depth: 0 };
    page.list("listen", &plan.listeners, |page, listener| {
        page.key("name", quoted(&listener.name));
        listen(page, listener);
    });
    match &plan.admin {
        None => page.key("admin", off()),
        Some(admin) => page.map("admin", |page| listen(page, admin)),
    }
    page.key("health", plan.health.as_ref().map_or_else(off, |health| address(&health.addresses)));
    page.key("workers", plan.workers);
    page.map("log", |page| {
        page.key("level", level(plan.log.level));
        page.key("format", format(plan.log.format));
    });
    page.key(
        "access_log",
        match &plan.access_log {
            None => off(),
            Some(AccessLog::Stdout) => STDOUT.to_owned(),
            Some(AccessLog::File(path)) => quoted(&path.display().to_string()),
        },
    );
    page.key("tracing", plan.tracing);
    page.map("shutdown", |page| {
        page.key("delay", duration_text(plan.shutdown.delay));
        page.key("timeout", duration_text(plan.shutdown.timeout));
    });
    page.key("state_dir", plan.state_dir.as_ref().map_or_else(off, |path| quoted(&path.display().to_string())));
    match plan.tokens.is_empty() {
        true => page.key("tokens", "{}"),
        false => page.map("tokens", |page| {
            for settings in &plan.tokens {
                page.map(&quoted(&settings.name), |page| token(page, settings));
            }
        }),
    }
    page.list("routes", &plan.routes, route);
    page.map("callers", |page| {
        page.key("hosts", flow(plan.callers.hosts.iter().map(|host| quoted(&host.to_string()))));
        page.key("origins", flow(plan.callers.origins.iter().map(|origin| quoted(origin))));
        if !plan.callers.clients.is_empty() {
            page.list("clients", &plan.callers.clients, client);
        }
    });
    page.key("tunnel", flow(plan.tunnels.iter().map(|to| quoted(&to.to_string()))));
    page.map("intercept", |page| page.key("ca_dir", quoted(&plan.ca_dir.display().to_string())));
    page.map("limits", |page| {
        page.key("connections", plan.limits.connections);
        page.key("header_bytes", size_text(plan.limits.header_bytes));
        page.key("headers", plan.limits.headers);
        page.key("head", duration_text(plan.limits.head));
        page.key("idle", duration_text(plan.limits.idle));
    });
    page.text
}

fn client(page: &mut Page, client: &ClientSettings) {
    page.key("name", quoted(&client.name));
    if let Some(password) = &client.password {
        page.key("password", secret(password));
    }
    if let Some(uid) = client.uid {
        page.key("uid", uid);
    }
    if let Some(san) = &client.cert_san {
        page.key("cert_san", quoted(san));
    }
}

fn allow(rule: &Allow) -> String {
    let methods = rule.methods.iter().map(|method| quoted(method.as_str()));
    let methods = (!rule.methods.is_empty()).then(|| ("methods", flow(methods)));
    braces(methods.into_iter().chain([("path", quoted(&rule.path.to_string()))]))
}

fn listen(page: &mut Page, listener: &ListenSettings) {
    page.key("address", address(&listener.addresses));
    match &listener.addresses {
        ListenAddress::Unix(socket) => {
            page.key("mode", mode_text(socket.mode));
            for (key, name) in [("owner", &socket.owner), ("group", &socket.group)] {
                if let Some(name) = name {
                    page.key(key, quoted(name));
                }
            }
        }
        ListenAddress::Localhost(_) | ListenAddress::At(_) => page.key("allow_remote", listener.allow_remote),
    }
    if let Some(ServerTls { certificate, key, client_ca }) = &listener.tls {
        let path = |path: &std::path::Path| quoted(&path.display().to_string());
        let own = [("cert_file", path(certificate)), ("key_file", path(key))];
        let clients = client_ca.as_deref().map(|file| ("client_ca_file", path(file)));
        page.key("tls", braces(own.into_iter().chain(clients)));
    }
}

fn assertion(page: &mut Page, own: &AssertionSettings) {
    page.map("assertion", |page| {
        if let Some(alg) = own.alg {
            page.key("alg", alg);
        }
        page.key("typ", quoted(&own.typ));
        if let Some(audience) = &own.audience {
            page.key("audience", quoted(audience));
        }
        page.key("lifetime", duration_text(own.lifetime));
        page.key("type", quoted(&own.assertion_type));
        page.key("claims", braces(own.claims.iter().map(|(name, value)| (name.as_str(), quoted(value)))));
    });
}

fn credential(page: &mut Page, credential: &Credential) {
    page.key("client_id", quoted(&credential.client_id));
    match &credential.proof {
        Proof::Secret(source) => page.key("client_secret", secret(source)),
        Proof::Key { key, names } => {
            page.key("private_key", secret(key));
            let names = [("key_id", &names.key_id), ("x5t", &names.x5t), ("x5t_s256", &names.x5t_s256)];
            for (key, name) in names {
                if let Some(name) = name {
                    page.key(key, quoted(name));
                }
            }
        }
        Proof::Certificate { certificate, key } => {
            page.key("cert_file", quoted(&certificate.display().to_string()));
            page.key("key_file", quoted(&key.display().to_string()));
        }
        Proof::Assertion(source) => page.key("assertion", secret(source)),
    }
}

fn secret(source: &SecretSource) -> String {
    match source {
        SecretSource::Inline(_) => quoted(REDACTED),
        SecretSource::File(path) => format!("{{file: {}}}", quoted(&path.display().to_string())),
        // An argument may be a password.
        SecretSource::Exec(exec) => {
            let program = exec.command.first().map_or("", |program| program);
            let arguments = exec.command.iter().skip(1).map(|_| quoted(REDACTED));
            let command = flow([quoted(program)].into_iter().chain(arguments));
            format!("{{exec: {command}, timeout: {}}}", duration_text(exec.timeout))
        }
    }
}

fn token(page: &mut Page, token: &Settings) {
    if let Some(issuer) = token.endpoint.issuer() {
        page.key("issuer", quoted(issuer));
    }
    if let Some(url) = token.endpoint.token_url() {
        page.key("token_url", quoted(&without_query(url.as_str())));
    }
    page.key("auth", token.auth.as_str());
    match &token.auth {
        ClientAuth::Basic(BasicEncoding::Form) => page.key("basic_encoding", "form"),
        ClientAuth::Basic(BasicEncoding::Raw) => page.key("basic_encoding", "raw"),
        ClientAuth::SecretJwt(own) | ClientAuth::PrivateKeyJwt(own) => assertion(page, own),
        ClientAuth::Assertion { assertion_type } => {
            page.map("assertion", |page| page.key("type", quoted(assertion_type)));
        }
        ClientAuth::Post | ClientAuth::Tls => {}
    }
    page.key("grant_type", quoted(&token.grant_type));
    page.key(
        "request_format",
        match token.request_format {
            RequestFormat::Form => "form",
            RequestFormat::Json => "json",
        },
    );
    match &token.credentials[..] {
        // `assertion` at the token is the settings.
        [only] if !matches!(only.proof, Proof::Assertion(_)) => credential(page, only),
        sets => page.list("credentials", sets, credential),
    }
    if let Some(scope) = &token.scope {
        page.key("scope", quoted(scope));
    }
    page.key("audience", flow(token.audience.iter().map(|audience| quoted(audience))));
    page.key("resource", flow(token.resource.iter().map(|resource| quoted(resource))));
    let mut params: Vec<(&str, usize)> = Vec::new();
    for (name, _) in &token.params {
        match params.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => params.push((name, 1)),
        }
    }
    page.key(
        "params",
        braces(params.iter().map(|(name, count)| match count {
            1 => (*name, quoted(REDACTED)),
            count => (*name, flow((0..*count).map(|_| quoted(REDACTED)))),
        })),
    );
    page.key("headers", braces(token.headers.iter().map(|(name, _)| (name.as_str(), quoted(REDACTED)))));
    if let Some(proxy) = &token.proxy {
        page.key("proxy", quoted(&without_user(&proxy.0)));
    }
    tls(page, &token.tls);
    page.key("budget", token.budget.map_or_else(off, rate_text));
    page.key("required", token.required);
    page.key("wait", duration_text(token.wait));
    page.map("refresh", |page| {
        page.key(
            "early",
            token.refresh.early.map_or_else(off, |early| format!("{}%", (early * 10_000.0).round() / 100.0)),
        );
        page.key("margin", duration_text(token.refresh.margin));
        page.key("min_interval", duration_text(token.refresh.min_interval));
        page.key("after_401", duration_text(token.refresh.after_401));
        page.key("assumed_lifetime", duration_text(token.refresh.assumed_lifetime));
        page.key("timeout", duration_text(token.refresh.timeout));
        page.key("when_idle", token.refresh.when_idle);
    });
}

fn route(page: &mut Page, route: &RouteSettings) {
    page.key("name", quoted(&route.name));
    let listen = route.matching.listen.as_ref().map(|listen| ("listen", quoted(listen)));
    let host = route.matching.host.as_ref().map(|host| ("host", quoted(&host.to_string())));
    let path = route.matching.path.as_ref().map(|path| ("path", quoted(path)));
    page.key("match", braces(listen.into_iter().chain(host).chain(path)));
    let scheme = if route.upstream.https { "https" } else { "http" };
    page.key("upstream", quoted(&format!("{scheme}://{}{}", route.upstream.authority, route.upstream.base_path)));
    if let Some(connect_to) = &route.connect_to {
        page.key("connect_to", quoted(&connect_to.to_string()));
    }
    page.key("strip_prefix", route.strip_prefix);
    page.key("token", route.token.as_ref().map_or_else(|| String::from("none"), |token| quoted(token)));
    page.map("inject", |page| {
        page.key("header", route.inject.header.as_str());
        page.key("scheme", quoted(&route.inject.scheme));
    });
    page.key("headers", braces(route.headers.iter().map(|(name, _)| (name.as_str(), quoted(REDACTED)))));
    page.key(
        "authorization",
        match route.authorization {
            OnAuthorization::Replace => "replace",
            OnAuthorization::Reject => "reject",
        },
    );
    page.key("allow", flow(route.allow.iter().map(allow)));
    page.key("callers", flow(route.callers.iter().map(|name| quoted(name))));
    match &route.renew_on {
        None => page.key("renew_on", off()),
        Some(renew_on) => page.map("renew_on", |page| {
            page.key("statuses", flow(renew_on.statuses.iter().map(|status| status.as_u16().to_string())));
            page.key("replay_limit", size_text(renew_on.replay_limit));
        }),
    }
    tls(page, &route.tls);
    if let Some(proxy) = &route.proxy {
        page.key("proxy", quoted(&without_user(&proxy.0)));
    }
    page.key(
        "http",
        match route.http {
            Protocols::Either => "auto",
            Protocols::Http1 => "http1",
            Protocols::Http2 => "http2",
        },
    );
    // The plan keeps only what follows from it.
    let in_clear = route.token.is_some() && in_clear(&route.upstream, route.connect_to.as_ref(), route.proxy.is_some());
    page.key("allow_plaintext", in_clear);
    page.key("intercept", route.intercept);
    if let Some(path) = &route.stub_token {
        page.key("stub_token", quoted(path));
    }
    page.key("via", route.via);
    page.key("warm", route.warm);
    page.map("timeouts", |page| {
        page.key("connect", duration_text(route.timeouts.connect));
        page.key("headers", duration_text(route.timeouts.headers));
        page.key("body_idle", duration_text(route.timeouts.body_idle));
        page.key("pool_idle", duration_text(route.timeouts.pool_idle));
        page.key("max_age", duration_text(route.timeouts.max_age));
    });
    page.map("limits", |page| {
        page.key("in_flight", route.limits.in_flight);
        page.key("queue", route.limits.queue);
        page.key("queue_wait", duration_text(route.limits.queue_wait));
    });
}

fn tls(page: &mut Page, tls: &TlsSettings) {
    let path = |path: &std::path::Path| quoted(&path.display().to_string());
    let ca = tls.ca_file.as_deref().map(|file| ("ca_file", path(file)));
    let extra = tls.extra_ca_file.as_deref().map(|file| ("extra_ca_file", path(file)));
    let identity = tls.identity.as_ref().map(|(cert, key)| [("cert_file", path(cert)), ("key_file", path(key))]);
    let name = tls.server_name.as_ref().map(|name| ("server_name", quoted(&name.to_str())));
    page.key("tls", braces(ca.into_iter().chain(extra).chain(identity.into_iter().flatten()).chain(name)));
}

fn off() -> String {
    String::from("off")
}

fn address(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Localhost(_) => address.to_string(),
        ListenAddress::At(_) | ListenAddress::Unix(_) => quoted(&address.to_string()),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn format(format: Format) -> &'static str {
    match format {
        Format::Auto => "auto",
        Format::Pretty => "pretty",
        Format::Json => "json",
    }
}

/// Some providers take an API key in the query of the token URL.
fn without_query(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?{REDACTED}"),
        None => url.to_owned(),
    }
}

/// Where the proxy is. Who uses it, and with which password, is not shown.
fn without_user(proxy: &Url) -> String {
    let host = proxy.host_str().unwrap_or_default();
    let port = proxy.port().map(|port| format!(":{port}")).unwrap_or_default();
    let user = if proxy.username().is_empty() && proxy.password().is_none() { "" } else { "[redacted]@" };
    format!("{}://{user}{host}{port}", proxy.scheme())
}

/// As it is where YAML reads it back as that, else as a JSON string, which is YAML too.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte))
        && !text.ends_with(':')
        && !matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "on" | "off" | "null" | "none");
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

fn flow(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn braces<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let entries: Vec<String> = entries.map(|(key, value)| format!("{}: {value}", quoted(key))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// Lines at their depth.
struct Page {
    text: String,
    depth: usize,
}

impl Page {
    fn key(&mut self, key: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:indent$}{key}: {value}", "", indent = self.depth * 2);
    }

    fn map(&mut self, key: &str, inside: impl FnOnce(&mut Self)) {
        let _ = writeln!(self.text, "{:indent$}{key}:", "", indent = self.depth * 2);
        self.depth += 1;
        inside(self);
        self.depth -= 1;
    }

    /// A list of maps: the dash takes the place of two spaces before the first key of each.
    fn list<T>(&mut self, key: &str, items: &[T], mut inside: impl FnMut(&mut Self, &T)) {
        self.map(key, |page| {
            for item in items {
                let start = page.text.len();
                page.depth += 1;
                inside(page, item);
                page.depth -= 1;
                let dash = start + page.depth * 2;
                if page.text.get(dash..dash + 2) == Some("  ") {
                    page.text.replace_range(dash..dash + 2, "- ");
                }
            }
        });
    }
}
