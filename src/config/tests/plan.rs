//! What good documents amount to.

use std::time::Duration;

use super::{Given, TOKEN, good_document, shelf};
use crate::config::{DEFAULT_FILE, Origin, redacted};
use crate::inbound::settings::{Limits, ListenAddress, UnixSocket};
use crate::observe::access::AccessLog;
use crate::tls::Protocols;
use crate::token::policy::Refresh;
use crate::token::settings::{BasicEncoding, ClientAuth, Endpoint, Proof, SecretSource};
use crate::wire::proxy::ForwardProxy;

#[test]
fn nothing_written_gives_the_documented_defaults() {
    let loaded = Given::document(&good_document()).good();
    let plan = loaded.plan;
    assert_eq!(loaded.origin, Origin::File(DEFAULT_FILE.into()));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(plan.tokens[0].refresh, Refresh::default());
    assert_eq!(format!("{:?}", plan.limits), format!("{:?}", Limits::default()));
    assert_eq!(plan.listeners[0].addresses, ListenAddress::Localhost(4280));
    assert_eq!(&*plan.listeners[0].name, "localhost:4280");
    assert!(
        matches!(&plan.tokens[0].credentials[0].proof, Proof::Secret(SecretSource::File(path)) if path == "/etc/bearerd/secret")
    );
    let files: Vec<&str> = plan.files.iter().filter_map(|file| file.to_str()).collect();
    assert_eq!(files, [DEFAULT_FILE, "/etc/bearerd/secret"]);
    assert_eq!(
        redacted::text(&plan),
        "\
listen:
  - name: localhost:4280
    address: localhost:4280
    allow_remote: false
admin:
  address: localhost:4281
  allow_remote: false
health: off
workers: 1
log:
  level: info
  format: auto
access_log: off
tracing: false
shutdown:
  delay: 0s
  timeout: 25s
state_dir: off
tokens:
  a:
    token_url: https://id.example.com/t
    auth: client_secret_basic
    basic_encoding: form
    grant_type: client_credentials
    request_format: form
    client_id: c
    client_secret: {file: /etc/bearerd/secret}
    audience: []
    resource: []
    params: {}
    headers: {}
    tls: {}
    budget: off
    required: true
    wait: 10s
    refresh:
      early: 25%
      margin: 10s
      min_interval: 1s
      after_401: 10s
      assumed_lifetime: 5m
      timeout: 10s
      when_idle: true
routes:
  - name: api.example.com
    match: {}
    upstream: https://api.example.com
    strip_prefix: false
    token: a
    inject:
      header: authorization
      scheme: Bearer
    headers: {}
    authorization: replace
    allow: []
    callers: []
    renew_on:
      statuses: [401]
      replay_limit: 64KiB
    tls: {}
    http: auto
    allow_plaintext: false
    intercept: false
    via: false
    warm: 0
    timeouts:
      connect: 5s
      headers: 1m
      body_idle: 5m
      pool_idle: 20s
      max_age: 10m
    limits:
      in_flight: 1024
      queue: 1024
      queue_wait: 5s
callers:
  hosts: []
  origins: []
tunnel: []
intercept:
  ca_dir: /run/bearerd/ca
limits:
  connections: 10000
  header_bytes: 64KiB
  headers: 100
  head: 10s
  idle: 2m
"
    );
}

#[test]
fn the_access_log_is_a_word_or_a_path() {
    let with = |to: &str| Given::document(&format!("access_log: {to}\n{}", good_document()));
    for (written, to, shown) in [
        ("off", None, "off"),
        ("false", None, "off"),
        ("stdout", Some(AccessLog::Stdout), "stdout"),
        ("/var/log/x.log", Some(AccessLog::File("/var/log/x.log".into())), "/var/log/x.log"),
        // Beside the configuration.
        ("x.log", Some(AccessLog::File("/etc/bearerd/x.log".into())), "/etc/bearerd/x.log"),
        ("./stdout", Some(AccessLog::File("/etc/bearerd/./stdout".into())), "/etc/bearerd/./stdout"),
    ] {
        let plan = with(written).good().plan;
        assert_eq!(plan.access_log, to, "{written}");
        assert!(redacted::text(&plan).contains(&format!("\naccess_log: {shown}\n")), "{}", redacted::text(&plan));
    }
    assert_eq!(with("[a]").problems(), ["1:13: access_log: expected `stdout` or the path of a file, found a list"]);
}

/// Everything that can be written, once.
const EVERYTHING: &str = include_str!("everything.yaml");

fn everything() -> Given {
    Given::document(EVERYTHING).variable("LEVEL", "debug").variable("SECRET", "canary")
}

#[test]
fn everything_that_can_be_written_arrives() {
    let loaded = everything().good();
    let plan = loaded.plan;
    let warnings: Vec<String> = loaded.warnings.iter().map(|warning| warning.what.clone()).collect();
    assert_eq!(warnings, ["a secret is written in the configuration"]);
    assert_eq!(plan.workers, 4, "eight would be granted");
    assert_eq!((plan.shutdown.delay, plan.shutdown.timeout), (Duration::from_secs(5), Duration::from_secs(90)));
    let one = &plan.tokens[0];
    assert!(matches!(&one.endpoint, Endpoint::Issuer(issuer) if issuer == "https://id.example.com"));
    assert_eq!((&*one.credentials[0].client_id, one.scope.as_deref()), ("0123", Some("read write all")));
    let params: Vec<(&str, &str)> =
        one.params.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
    assert_eq!(params, [("z", "1"), ("organization", "acme"), ("organization", "canary"), ("a", "other")]);
    assert!(one.headers[0].1.is_sensitive());
    assert!((one.refresh.early.unwrap() - 0.125).abs() < 1e-9);
    assert_eq!(plan.tokens[1].auth, ClientAuth::Basic(BasicEncoding::Raw));
    assert_eq!(plan.routes[0].upstream.authority.to_string(), "api.example.com");
    assert_eq!(&*plan.routes[0].upstream.base_path, "/base");
    assert_eq!(&*plan.routes[0].name, "api.example.com/v2");
    assert_eq!(plan.routes[0].connect_to.as_ref().unwrap().to_string(), "203.0.113.5:443");
    assert_eq!(plan.routes[1].stub_token.as_deref(), Some("/oauth2/token/"), "byte for byte");
    let first = &plan.routes[0];
    assert_eq!(first.proxy, Some(ForwardProxy("http://proxy.corp:3128".parse().unwrap())));
    assert_eq!((first.http, first.warm), (Protocols::Http2, 2));
    assert_eq!((plan.routes[1].http, plan.routes[1].warm), (Protocols::Either, 0));
    assert_eq!(plan.callers.origins, ["https://app.corp"]);
    let unix = |path: &str, mode, owner: Option<&str>, group: Option<&str>| {
        let (owner, group) = (owner.map(Into::into), group.map(Into::into));
        ListenAddress::Unix(UnixSocket { path: path.into(), mode, owner, group })
    };
    assert_eq!(plan.listeners[2].addresses, unix("/run/bearerd/app.sock", 0o620, Some("1001"), Some("app")));
    assert_eq!(plan.listeners[3].addresses, unix("/run/bearerd/group.sock", 0o660, None, Some("app")));
    let egress = &plan.listeners[4];
    assert_eq!((egress.allow_remote, egress.must_be_named(), egress.tls.is_some()), (true, false, true));
    let admin = plan.admin.unwrap();
    assert_eq!((&*admin.name, &admin.addresses), ("admin", &unix("/run/bearerd/admin.sock", 0o600, None, None)));
    let files: Vec<&str> = plan.files.iter().filter_map(|file| file.to_str()).collect();
    assert_eq!(
        files,
        ["/etc/bearerd/ca.pem", DEFAULT_FILE, "/etc/bearerd/key.pem", "/etc/bearerd/other", "/run/secrets/apim",]
    );
}

#[test]
fn the_resolved_plan_shows_no_secret() {
    let text = redacted::text(&everything().good().plan);
    assert!(!text.contains("canary"), "{text}");
    assert!(
        text.contains("params: {z: \"[redacted]\", organization: [\"[redacted]\", \"[redacted]\"], a: \"[redacted]\"}"),
        "{text}"
    );
    let sockets = "
  - name: socket
    address: unix:/run/bearerd/app.sock
    mode: 0620
    owner: \"1001\"
    group: app
  - name: unix:/run/bearerd/group.sock
    address: unix:/run/bearerd/group.sock
    mode: 0660
    group: app
  - name: egress
    address: \"0.0.0.0:8443\"
    allow_remote: true
    tls: {cert_file: /etc/bearerd/ca.pem, key_file: /etc/bearerd/key.pem, client_ca_file: /etc/bearerd/ca.pem}
admin:
  address: unix:/run/bearerd/admin.sock
  mode: 0600
health: \"0.0.0.0:4282\"
";
    assert!(text.contains(sockets), "{text}");
    assert!(text.contains("token_url: \"http://localhost:9/t?[redacted]\""), "{text}");
    assert!(text.contains("    match: {listen: legacy, host: app.example, path: /v2}"), "{text}");
}

#[test]
fn a_routes_proxy_keeps_its_password_and_makes_what_is_sent_in_clear_readable() {
    let route = |upstream, proxy| format!("routes: [{{upstream: '{upstream}', token: a, proxy: {proxy}}}]\n{TOKEN}");
    let given = Given::document(&route("https://api.example.com", "'http://us:canary@proxy.corp'")).good();
    let text = redacted::text(&given.plan);
    assert!(text.contains("proxy: \"http://[redacted]@proxy.corp\"") && !text.contains("canary"), "{text}");
    assert!(!format!("{:?}", given.plan).contains("canary"));
    let warnings: Vec<&str> = given.warnings.iter().map(|warning| warning.what.as_str()).collect();
    assert_eq!(warnings, ["a secret is written in the configuration"]);
    // To the proxy, localhost is another machine.
    let given = Given::document(&route("http://localhost:8080", "'http://127.0.0.1:3128'"));
    assert_eq!(given.problems(), ["1:21: routes[0].upstream: the token would go over the network in clear"]);
}

/// What is printed loads again and amounts to the same, once what was taken out is put back.
#[test]
fn the_resolved_plan_is_a_configuration() {
    let text = redacted::text(&Given::document(&good_document()).good().plan);
    assert_eq!(redacted::text(&Given::document(&text).good().plan), text);
    let all = everything().good().plan;
    let text = redacted::text(&all).replace("\"http://localhost:9/t?[redacted]\"", "http://localhost:9/t");
    assert_eq!(redacted::text(&Given::document(&text).good().plan), text);
}

#[test]
fn connect_leads_where_the_plan_says() {
    let document = format!(
        "tunnel: [API.example.com.:443, '*.AmazonAWS.com:443', '[2001:db8::1]:8443']\nintercept: {{ca_dir: ca}}\n\
         {TOKEN}routes: [{{upstream: 'https://a.example', intercept: true}}]\n"
    );
    let plan = Given::document(&document).good().plan;
    // Beside the file; it is made at the start, and need not be there.
    assert_eq!((plan.ca_dir.as_path(), plan.intercepts()), (std::path::Path::new("/etc/bearerd/ca"), true));
    let text = redacted::text(&plan);
    assert!(text.contains("tunnel: [api.example.com:443, \"*.amazonaws.com:443\", \"[2001:db8::1]:8443\"]"), "{text}");
    assert!(
        text.contains("intercept:\n  ca_dir: /etc/bearerd/ca\n") && text.contains("    intercept: true\n"),
        "{text}"
    );
    assert_eq!(redacted::text(&Given::document(&text).good().plan), text);
    assert!(!Given::document(&good_document()).good().plan.intercepts());
}

#[test]
fn the_only_token_is_every_routes_token() {
    let plan = Given::document(&format!("{TOKEN}routes: [{{upstream: 'https://a.example'}}, {{upstream: 'https://b.example', token: none, match: {{path: /b}}}}]")).good().plan;
    assert_eq!(plan.routes[0].token.as_deref(), Some("a"));
    assert_eq!(plan.routes[1].token, None);
}

#[test]
fn plain_http_is_fine_where_nobody_listens() {
    for upstream in ["http://localhost:8080", "http://127.0.0.1", "http://[::1]:1/base"] {
        Given::document(&format!("{TOKEN}routes: [{{upstream: '{upstream}'}}]")).good();
    }
    let elsewhere =
        Given::document(&format!("{TOKEN}routes: [{{upstream: 'http://localhost', connect_to: '192.0.2.1'}}]"));
    assert_eq!(elsewhere.problems(), ["2:21: routes[0].upstream: the token would go over the network in clear"]);
}

#[test]
fn the_state_has_a_folder_of_its_own() {
    let with = |folder: &str| Given::document(&format!("state_dir: {folder}\n{}", good_document()));
    let plan = with("/var/lib/bearerd").good().plan;
    assert_eq!(plan.state_dir.as_deref(), Some(std::path::Path::new("/var/lib/bearerd")));
    assert!(redacted::text(&plan).contains("\nstate_dir: /var/lib/bearerd\n"));
    assert!(!plan.files.contains(std::path::Path::new("/var/lib/bearerd")), "what bearerd writes is not watched");
    assert_eq!(with("false").good().plan.state_dir, None);
    assert_eq!(
        with("open").warnings(),
        ["1:12: state_dir: `/etc/bearerd/open` can be entered by other users of this machine"]
    );
    assert_eq!(with("/nowhere").problems(), ["1:12: state_dir: `/nowhere` does not exist"]);
    assert_eq!(with("[a]").problems(), ["1:12: state_dir: expected the path of a folder, found a list"]);
}

#[test]
fn doubts_are_warnings() {
    let unused = format!("{TOKEN}routes: [{{upstream: 'https://a.example', token: none}}]");
    assert_eq!(Given::document(&unused).warnings(), ["1:10: tokens.a: no route uses this token"]);
    let mut open = Given::document(&good_document());
    open.files = shelf().with(DEFAULT_FILE, &good_document());
    if let Some(seen) = open.files.0.get_mut(std::path::Path::new("/etc/bearerd/secret")) {
        seen.world_readable = true;
    }
    assert_eq!(
        open.warnings(),
        ["1:82: tokens.a.client_secret: `/etc/bearerd/secret` can be read by every user of this machine"]
    );
    let post = "tokens: {a: {token_url: 'https://id.example/t', client_id: c, client_secret: {file: secret}, auth: client_secret_post, basic_encoding: raw}}\nroutes: [{upstream: 'https://a.example'}]";
    assert_eq!(
        Given::document(post).warnings(),
        ["1:120: tokens.a.basic_encoding: has no effect with `auth: client_secret_post`"]
    );
}

#[test]
fn aliases_repeat_what_an_anchor_names() {
    let document = format!(
        "{TOKEN}routes:\n- upstream: https://a.example\n  timeouts: &slow {{headers: 5m}}\n- {{upstream: 'https://b.example', match: {{path: /b}}, timeouts: *slow}}\n"
    );
    let plan = Given::document(&document).good().plan;
    assert_eq!(plan.routes[1].timeouts.headers, Duration::from_secs(300));
}

#[test]
fn json_is_yaml() {
    let document = r#"{"tokens": {"a": {"token_url": "https://id.example.com/t", "client_id": "c",
        "client_secret": {"file": "secret"}, "required": false, "refresh": {"when_idle": "off"}}},
        "routes": [{"upstream": "https://api.example.com", "renew_on": "off"}], "workers": 2, "admin": false}"#;
    let plan = Given::document(document).good().plan;
    assert_eq!((plan.workers, plan.admin), (2, None));
    assert!(plan.routes[0].renew_on.is_none() && !plan.tokens[0].required && !plan.tokens[0].refresh.when_idle);
}
