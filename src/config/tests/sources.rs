//! Flags, variables and the file: which one counts, and what is said when one does not fit.

use super::{Given, TOKEN, good_document};
use crate::config::Origin;
use crate::config::sources::SETTINGS;
use crate::token::settings::{Endpoint, Proof, SecretSource};

/// The contract's example.
fn one_route() -> Given {
    Given::nothing()
        .variable("BEARERD_UPSTREAM", "https://api.example.com")
        .variable("BEARERD_TOKEN_URL", "https://id.example.com/oauth2/token")
        .variable("BEARERD_CLIENT_ID", "reports")
        .variable("BEARERD_CLIENT_SECRET_FILE", "/run/secrets/current")
        .variable("BEARERD_SCOPE", "read write")
}

#[test]
fn one_route_needs_no_file() {
    let loaded = one_route().good();
    let plan = loaded.plan;
    assert_eq!(loaded.origin, Origin::Given);
    assert_eq!((&*plan.routes[0].name, plan.routes[0].token.as_deref()), ("default", Some("default")));
    assert_eq!((&*plan.tokens[0].name, plan.tokens[0].scope.as_deref()), ("default", Some("read write")));
    assert!(
        matches!(&plan.tokens[0].credentials[0].proof, Proof::Secret(SecretSource::File(path)) if path == "/run/secrets/current")
    );
}

#[test]
fn every_setting_arrives() {
    let plan = Given::nothing()
        .flag("upstream", "https://api.example.com")
        .flag("issuer", "https://id.example.com")
        .flag("auth", "client_secret_post")
        .flag("client-id", "true")
        .variable("BEARERD_CLIENT_SECRET", "s3cret")
        .flag("audience", "a b")
        .flag("resource", "https://a.example https://b.example")
        .flag("ca-file", "/etc/bearerd/ca.pem")
        .flag("listen", "localhost:0, [::1]:9")
        .flag("admin", "off")
        .flag("health", "0.0.0.0:4282")
        .flag("log-level", "trace")
        .good()
        .plan;
    let token = &plan.tokens[0];
    assert!(matches!(&token.endpoint, Endpoint::Issuer(_)));
    assert!(
        matches!(&token.credentials[0].proof, Proof::Secret(SecretSource::Inline(secret)) if secret.expose() == "s3cret")
    );
    assert_eq!((&*token.credentials[0].client_id, token.audience.as_slice()), ("true", &["a b".to_owned()][..]));
    assert_eq!(token.resource, ["https://a.example", "https://b.example"]);
    assert_eq!(token.tls, plan.routes[0].tls);
    assert!(token.tls.ca_file.is_some());
    assert_eq!((plan.listeners.len(), plan.admin), (2, None));
    assert_eq!(plan.health.unwrap().addresses.to_string(), "0.0.0.0:4282");
}

#[test]
fn a_flag_beats_a_variable_beats_the_file() {
    let document = "\
workers: 2
log: {level: error}
listen: localhost:1
tokens: {default: {token_url: 'https://file.example/t', client_id: file, client_secret: {file: secret}}}
routes: [{name: default, upstream: 'https://file.example'}]
";
    let given = Given::document(document)
        .variable("BEARERD_CONFIG", "/etc/bearerd/config.yaml")
        .variable("BEARERD_LOG_LEVEL", "warn")
        .variable("BEARERD_CLIENT_ID", "variable")
        .variable("BEARERD_UPSTREAM", "https://variable.example")
        .flag("upstream", "https://flag.example");
    let plan = given.good().plan;
    assert_eq!(plan.workers, 2);
    assert_eq!(plan.log.level, crate::observe::log::Level::Warn);
    assert_eq!(&*plan.tokens[0].credentials[0].client_id, "variable");
    assert_eq!(plan.routes[0].upstream.authority.to_string(), "flag.example");
    // Saying it in the other way replaces what a weaker source says.
    let plan = Given::document(document).variable("BEARERD_ISSUER", "https://id.example").good();
    assert!(plan.origin == Origin::File("/etc/bearerd/config.yaml".into()));
    assert!(matches!(&plan.plan.tokens[0].endpoint, Endpoint::Issuer(issuer) if issuer == "https://id.example"));
    let both = Given::document(document)
        .variable("BEARERD_ISSUER", "https://id.example")
        .flag("token-url", "https://flag.example/t");
    assert!(
        matches!(&both.good().plan.tokens[0].endpoint, Endpoint::TokenUrl(url) if url.host_str() == Some("flag.example"))
    );
}

#[test]
fn the_health_port_is_switched_on_and_off_without_touching_the_file() {
    let written = |health: &str| Given::document(&format!("{}health: {health}\n", good_document()));
    let health = |given: Given| given.good().plan.health.map(|health| health.addresses.to_string());
    assert_eq!(health(written("off").variable("BEARERD_HEALTH", "0.0.0.0:4282")).as_deref(), Some("0.0.0.0:4282"));
    let flag = written("off").variable("BEARERD_HEALTH", "off").flag("health", "unix:/run/bearerd/health");
    assert_eq!(health(flag).as_deref(), Some("unix:/run/bearerd/health"));
    for off in ["off", "false"] {
        assert_eq!(health(written("localhost:4282").variable("BEARERD_HEALTH", off)), None, "{off}");
    }
    assert_eq!(
        written("off").variable("BEARERD_HEALTH", "4282").problems(),
        ["environment BEARERD_HEALTH: health: not an address to listen on"]
    );
}

#[test]
fn a_problem_names_the_flag_or_variable() {
    let given = one_route()
        .variable("BEARERD_TOKEN_URL", "http://id.example.com/t")
        .variable("BEARERD_LOG_LEVEL", "loud")
        .variable("BEARERD_PROVIDER", "entar")
        .flag("listen", "0.0.0.0:80")
        .flag("auth", "basic");
    assert_eq!(
        given.problems(),
        [
            "environment BEARERD_LOG_LEVEL: log.level: expected `error`, `warn`, `info`, `debug` or `trace`",
            "environment BEARERD_PROVIDER: tokens.default.provider: expected `verint-identity`, `verint-coaching`, `authgear`, `servicenow`, `okta`, `okta-org`, `keycloak`, `auth0`, `entra`, `cognito`, `salesforce`, `zoom`, `sap-xsuaa` or `google-sa` (did you mean `entra`?)",
            "environment BEARERD_TOKEN_URL: tokens.default.token_url: the client secret would go over the network in clear",
            "flag --auth: tokens.default.auth: expected `client_secret_basic`, `client_secret_post`, `client_secret_jwt`, `private_key_jwt`, `tls_client_auth` or `client_assertion` (did you mean `client_secret_basic`?)",
            "flag --listen: listen[0]: other machines can reach this address",
        ]
    );
}

#[test]
fn what_is_missing_is_told_without_a_file_too() {
    let given = Given::nothing().variable("BEARERD_UPSTREAM", "https://api.example.com").variable("BEARERD_SCOPE", "");
    assert_eq!(
        given.problems(),
        [
            "configuration: tokens.default: `token_url` or `issuer` is missing",
            "configuration: tokens.default: `client_id` is missing",
            "configuration: tokens.default: `client_secret` is missing",
        ]
    );
    let problems = Given::nothing().load().unwrap_err().to_string();
    assert!(problems.starts_with("/etc/bearerd/config.yaml: does not exist\n  hint: "), "{problems}");
    let problems = given.load().unwrap_err().to_string();
    for hint in [
        "hint: set `BEARERD_TOKEN_URL` (`--token-url`) or `BEARERD_ISSUER` (`--issuer`)\n",
        "hint: set `BEARERD_CLIENT_ID` (`--client-id`)\n",
        "hint: set `BEARERD_CLIENT_SECRET` or `BEARERD_CLIENT_SECRET_FILE` (`--client-secret-file`)",
    ] {
        assert!(problems.contains(hint), "{problems}");
    }
    let problems = Given::nothing().flag("client-id", "app").load().unwrap_err().to_string();
    assert!(problems.contains("neither flags nor environment name an upstream"), "{problems}");
    assert_eq!(
        Given::nothing().flag("config", "/nowhere.yaml").problems(),
        ["flag --config: `/nowhere.yaml` does not exist"]
    );
    assert_eq!(
        Given::nothing().variable("BEARERD_CONFIG", "/nowhere.yaml").problems(),
        ["environment BEARERD_CONFIG: `/nowhere.yaml` does not exist"]
    );
}

#[test]
fn the_named_file_is_read_and_paths_start_beside_it() {
    let given = Given::nothing()
        .variable("BEARERD_CONFIG", "/other/b.yaml")
        .file("/home/c.yaml", &good_document())
        .file("/home/secret", "x")
        .flag("config", "/home/c.yaml");
    let loaded = given.good();
    assert_eq!(loaded.origin, Origin::File("/home/c.yaml".into()));
    assert!(
        matches!(&loaded.plan.tokens[0].credentials[0].proof, Proof::Secret(SecretSource::File(path)) if path == "/home/secret")
    );
}

#[test]
fn a_path_that_was_typed_starts_where_it_was_typed() {
    let document = format!("{TOKEN}routes: [{{name: default, upstream: 'https://a.example'}}]");
    let given = Given::document(&document).flag("config", "/etc/bearerd/config.yaml").flag("ca-file", "here.pem");
    let plan = given.file("here.pem", "PEM").good().plan;
    assert_eq!(plan.routes[0].tls.ca_file.as_deref(), Some(std::path::Path::new("here.pem")));
}

#[test]
fn beside_a_file_the_settings_need_a_default() {
    let given = Given::document(&good_document())
        .variable("BEARERD_SCOPE", "read")
        .flag("upstream", "https://b.example")
        .flag("ca-file", "ca.pem");
    assert_eq!(
        given.flag("config", "/etc/bearerd/config.yaml").problems(),
        [
            "environment BEARERD_SCOPE: is for the token named `default`, which /etc/bearerd/config.yaml does not have",
            "flag --ca-file: is for the token or route named `default`, which /etc/bearerd/config.yaml does not have",
            "flag --upstream: is for the route named `default`, which /etc/bearerd/config.yaml does not have",
        ]
    );
    let route = format!("{TOKEN}routes: [{{name: default, upstream: 'https://a.example'}}]");
    Given::document(&route).flag("ca-file", "/etc/bearerd/ca.pem").flag("config", "/etc/bearerd/config.yaml").good();
}

#[test]
fn two_ways_to_say_one_thing_are_one_too_many() {
    let given = one_route().variable("BEARERD_CLIENT_SECRET", "canary");
    assert_eq!(
        given.problems(),
        ["environment BEARERD_CLIENT_SECRET_FILE: says the same as environment BEARERD_CLIENT_SECRET"]
    );
    let given = one_route().variable("BEARERD_ISSUER", "https://id.example.com");
    assert!(matches!(given.good().plan.tokens[0].endpoint, Endpoint::Both { .. }), "these two go together");
}

#[test]
fn a_secret_never_stands_on_the_command_line() {
    let given = one_route().flag("client-secret", "canary");
    assert_eq!(
        given.problems(),
        ["flag --client-secret: a secret on the command line can be read by every user of this machine; use \
          --client-secret-file or BEARERD_CLIENT_SECRET"]
    );
    assert_eq!(
        one_route().flag("token-ur", "x").problems(),
        ["flag --token-ur: not a flag (did you mean `token-url`?)"]
    );
}

#[test]
fn unknown_variables_are_doubted_and_kubelets_are_not() {
    let given = one_route()
        .variable("BEARERD_TOKENURL", "x")
        .variable("BEARERD_BANANA", "x")
        .variable("BEARERD_SERVICE_HOST", "10.0.0.1")
        .variable("BEARERD_SERVICE_PORT_HTTP", "80")
        .variable("BEARERD_PORT", "tcp://10.0.0.1:80")
        .variable("BEARERD_PORT_80_TCP_ADDR", "10.0.0.1")
        .variable("BEARERD_DEMO_SERVICE_HOST", "10.0.0.1")
        .variable("BEARERD_URL", "http://localhost:4280");
    assert_eq!(
        given.warnings(),
        [
            "environment BEARERD_BANANA: not a variable of bearerd, so it has no effect",
            "environment BEARERD_TOKENURL: not a variable of bearerd (did you mean `BEARERD_TOKEN_URL`?), so it has no effect",
        ]
    );
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_not_text_is_a_problem_where_it_counts() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut given = one_route();
    given.environment.insert("BEARERD_SCOPE".into(), std::ffi::OsString::from_vec(vec![0xff]));
    given.environment.insert("OTHER".into(), std::ffi::OsString::from_vec(vec![0xff]));
    assert_eq!(given.problems(), ["environment BEARERD_SCOPE: is not UTF-8"]);
}

#[test]
fn a_flag_and_its_variable_have_one_name() {
    for setting in SETTINGS {
        let variable = format!("BEARERD_{}", setting.flag.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(setting.variable, variable);
        assert!(!setting.help.is_empty() && !setting.help.ends_with('.'), "{}", setting.flag);
    }
}
