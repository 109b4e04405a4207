//! Every way of proving who asks: what it needs, what has no effect with it, and what it amounts to.

use std::path::Path;
use std::time::Duration;

use super::{Given, ROUTE, shelf};
use crate::config::{DEFAULT_FILE, redacted};
use crate::token::Settings;
use crate::token::settings::{ClientAuth, Endpoint, Exec, JWT_BEARER_GRANT, Proof, RequestFormat, SecretSource};
use crate::token::source::key::Alg;
use crate::wire::proxy::ForwardProxy;

/// A token of these keys, one a line from line 4 on.
fn token(keys: &[&str]) -> Given {
    let keys: String = keys.iter().map(|key| format!("    {key}\n")).collect();
    Given::document(&format!("{ROUTE}tokens:\n  a:\n    token_url: https://id.example.com/t\n{keys}"))
        .variable("CREDENTIALS_DIRECTORY", "/run/secrets")
}

#[track_caller]
fn good(keys: &[&str]) -> Settings {
    token(keys).good().plan.tokens.remove(0)
}

#[track_caller]
fn told(keys: &[&str], expected: &[&str]) {
    assert_eq!(token(keys).problems(), expected, "{keys:?}");
}

#[test]
fn every_method_takes_its_proof() {
    let secret = good(&["auth: client_secret_jwt", "client_id: c", "client_secret: {systemd: current}"]);
    assert!(matches!(&secret.auth, ClientAuth::SecretJwt(own) if own.lifetime == Duration::from_secs(60)));
    assert!(
        matches!(&secret.credentials[0].proof, Proof::Secret(SecretSource::File(path)) if path == Path::new("/run/secrets/current"))
    );
    let key = good(&[
        "auth: private_key_jwt",
        "client_id: c",
        "private_key: {file: ec.pem}",
        "key_id: k1",
        "x5t: AAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "assertion: {alg: ES256, typ: client-authentication+jwt, audience: x, lifetime: 5m, type: y, claims: {scope: a b}}",
    ]);
    let ClientAuth::PrivateKeyJwt(own) = &key.auth else { panic!("{:?}", key.auth) };
    assert_eq!(
        (own.alg, own.typ.as_str(), own.audience.as_deref()),
        (Some(Alg::Es256), "client-authentication+jwt", Some("x"))
    );
    assert_eq!((own.assertion_type.as_str(), &own.claims[..]), ("y", &[("scope".to_owned(), "a b".to_owned())][..]));
    assert!(matches!(&key.credentials[0].proof, Proof::Key { names, .. } if names.key_id.as_deref() == Some("k1")));
    let tls = good(&["auth: tls_client_auth", "client_id: c", "cert_file: ca.pem", "key_file: key.pem"]);
    assert!(matches!(&tls.credentials[0].proof, Proof::Certificate { .. }));
    let short = good(&["auth: client_assertion", "client_id: c", "assertion: {file: other}"]);
    let long = good(&["auth: client_assertion", "credentials: [{client_id: c, assertion: {file: other}}]"]);
    for settings in [short, long] {
        assert!(
            matches!(&settings.credentials[0].proof, Proof::Assertion(SecretSource::File(path)) if path == Path::new("/etc/bearerd/other"))
        );
    }
}

#[test]
fn the_first_of_a_list_is_current() {
    let sets = good(&[
        "credentials:",
        "- {client_id: one, client_secret: {file: secret}}",
        "- {client_id: two, client_secret: {exec: [/usr/bin/vault, 'canary'], timeout: 3s}}",
    ]);
    let ids: Vec<&str> = sets.credentials.iter().map(|credential| &*credential.client_id).collect();
    assert_eq!(ids, ["one", "two"]);
    let exec = Exec {
        command: vec!["/usr/bin/vault".into(), "canary".into()],
        timeout: Duration::from_secs(3),
        withheld: Vec::new(),
    };
    assert!(matches!(&sets.credentials[1].proof, Proof::Secret(SecretSource::Exec(own)) if *own == exec));
}

#[test]
fn the_request_may_be_of_another_form() {
    let settings = good(&[
        "issuer: https://id.example.com",
        "auth: private_key_jwt",
        "client_id: c",
        "private_key: {file: ec.pem}",
        "grant_type: urn:ietf:params:oauth:grant-type:jwt-bearer",
        "request_format: json",
        "proxy: http://proxy.corp:3128",
    ]);
    assert_eq!((settings.grant_type.as_str(), settings.request_format), (JWT_BEARER_GRANT, RequestFormat::Json));
    assert!(matches!(settings.endpoint, Endpoint::Both { .. }));
    assert_eq!(settings.proxy, Some(ForwardProxy("http://proxy.corp:3128".parse().unwrap())));
}

#[test]
fn what_is_missing_is_named_by_the_method() {
    for (auth, missing) in [
        ("client_secret_basic", &["client_secret"][..]),
        ("client_secret_jwt", &["client_secret"]),
        ("private_key_jwt", &["private_key"]),
        ("tls_client_auth", &["cert_file", "key_file"]),
        ("client_assertion", &["assertion.file"]),
    ] {
        let expected: Vec<String> = missing.iter().map(|key| format!("3:3: tokens.a: `{key}` is missing")).collect();
        assert_eq!(token(&[&format!("auth: {auth}"), "client_id: c"]).problems(), expected);
        let key = missing[0].trim_end_matches(".file");
        let listed = token(&[&format!("auth: {auth}"), "credentials: [{client_id: c}]"]).problems();
        assert_eq!(listed[0], format!("6:19: tokens.a.credentials[0]: `{key}` is missing"));
    }
}

#[test]
fn what_proves_nothing_is_refused() {
    told(
        &[
            "client_id: c",
            "client_secret: {file: secret}",
            "private_key: {file: ec.pem}",
            "cert_file: ca.pem",
            "assertion: {file: other}",
        ],
        &[
            "7:5: tokens.a.private_key: `private_key` has no effect with `auth: client_secret_basic`",
            "8:5: tokens.a.cert_file: `cert_file` has no effect with `auth: client_secret_basic`",
            "9:17: tokens.a.assertion.file: `assertion.file` has no effect with `auth: client_secret_basic`",
        ],
    );
    told(
        &[
            "auth: private_key_jwt",
            "credentials: [{client_id: c, private_key: {file: ec.pem}, client_secret: {file: secret}}]",
        ],
        &["6:63: tokens.a.credentials[0].client_secret: `client_secret` has no effect with `auth: private_key_jwt`"],
    );
    told(
        &["client_id: c", "credentials: [{client_id: c, client_secret: {file: secret}}]"],
        &["6:5: tokens.a.credentials: `client_id` is there too, and either says it all"],
    );
    told(&["credentials: []"], &["5:18: tokens.a.credentials: the list is empty"]);
    told(
        &["auth: tls_client_auth", "client_id: c", "tls: {cert_file: ca.pem, key_file: key.pem}"],
        &["3:3: tokens.a: `cert_file` is missing", "3:3: tokens.a: `key_file` is missing"],
    );
    told(
        &["auth: private_key", "client_id: c", "private_key: {file: ec.pem}"],
        &[
            "5:11: tokens.a.auth: expected `client_secret_basic`, `client_secret_post`, `client_secret_jwt`, `private_key_jwt`, `tls_client_auth` or `client_assertion` (did you mean `private_key_jwt`?)",
        ],
    );
}

#[test]
fn keys_and_algorithms_fit_together() {
    let with = |key: &str, assertion: &str| {
        token(&[
            "auth: private_key_jwt",
            "client_id: c",
            &format!("private_key: {key}"),
            &format!("assertion: {assertion}"),
        ])
    };
    for (key, what) in [
        (
            "{file: other}",
            "18: tokens.a.private_key: not a key that can sign: it is neither a PEM private key (PKCS#8, PKCS#1 or SEC 1) nor a private JWK",
        ),
        ("{file: nowhere}", "18: tokens.a.private_key: `/etc/bearerd/nowhere` does not exist"),
        (
            "[x]",
            "18: tokens.a.private_key: expected a private key: `{file: PATH}`, `{exec: [COMMAND, …]}` or `{systemd: NAME}`, found a list",
        ),
    ] {
        assert_eq!(with(key, "{}").problems(), [format!("7:{what}")]);
    }
    for (assertion, what) in [
        ("{alg: RS256}", "7:5: tokens.a.private_key: the key cannot sign with `assertion.alg`, which is RS256"),
        ("{alg: HS256}", "8:22: tokens.a.assertion.alg: HS256 is made with a secret and not with a key"),
        ("{lifetime: 500ms}", "8:27: tokens.a.assertion.lifetime: too short: at least `1s`"),
        ("{lifetime: 2h}", "8:27: tokens.a.assertion.lifetime: too long: at most `1h`"),
        ("{typ: 'a b'}", "8:22: tokens.a.assertion.typ: one word of visible ASCII characters is needed here"),
        ("{claims: {aud: x}}", "8:26: tokens.a.assertion.claims.aud: bearerd sets this claim itself"),
    ] {
        assert_eq!(with("{file: ec.pem}", assertion).problems(), [what]);
    }
    let unknown = with("{file: ec.pem}", "{alg: ES255}").problems();
    assert!(unknown[0].starts_with("8:22: tokens.a.assertion.alg: expected `HS256`,"), "{unknown:?}");
    assert!(unknown[0].ends_with("(did you mean `ES256`?)"), "{unknown:?}");
    told(
        &["auth: client_secret_jwt", "client_id: c", "client_secret: {file: secret}", "assertion: {alg: RS256}"],
        &["8:22: tokens.a.assertion.alg: RS256 needs a key, and there is a secret"],
    );
    let hint = |text: &str| {
        let given = with("{file: ec.pem}", "{}").file("/etc/bearerd/ec.pem", text);
        given.load().unwrap_err().problems.remove(0).hint.unwrap()
    };
    assert!(hint(r#"{"type": "service_account", "private_key": "-----BEGIN"}"#).contains("jq -r .private_key"));
    assert!(hint("-----BEGIN ENCRYPTED PRIVATE KEY-----").contains("passphrase"));
    assert!(hint("-----BEGIN CERTIFICATE-----").contains("another file"));
    let thumbprint = token(&["auth: private_key_jwt", "client_id: c", "private_key: {file: ec.pem}", "x5t_s256: 00ff"]);
    assert_eq!(thumbprint.problems(), ["8:15: tokens.a.x5t_s256: not the SHA-256 of a certificate in base64url"]);
}

#[test]
fn commands_and_credentials_of_systemd_are_looked_at() {
    for (secret, at, what) in [
        ("{exec: []}", 27, "the command is empty"),
        ("{exec: /bin/cat}", 27, "`exec` takes a list; no shell reads it"),
        ("{exec: [cat, x]}", 27, "the program's path does not start with `/`"),
        ("{exec: [/bin/cat, [x]]}", 38, "an argument of a command is a string"),
        ("{exec: [/bin/cat], timeout: 1h}", 48, "the time of a command is from `100ms` to `5m`"),
        ("{exec: [/bin/cat], timeout: 5}", 48, "a duration needs a unit"),
        ("{exec: [/bin/cat], file: x}", 20, "beside `exec` there may be `timeout`, and nothing else"),
        ("{systemd: ../x}", 30, "not the name of a credential"),
        ("{systemd: [x]}", 30, "`systemd` takes one string"),
        ("{systemd: nowhere}", 20, "`/run/secrets/nowhere` does not exist"),
    ] {
        let problems = token(&["client_id: c", &format!("client_secret: {secret}")]).problems();
        assert_eq!(problems, [format!("6:{at}: tokens.a.client_secret: {what}")], "{secret}");
    }
    let mut given = token(&["client_id: c", "client_secret: {systemd: current}"]);
    given.environment.clear();
    assert_eq!(
        given.problems(),
        ["6:30: tokens.a.client_secret: systemd gave no credentials: `CREDENTIALS_DIRECTORY` is not set"]
    );
    assert!(given.load().unwrap_err().to_string().contains("hint: give the service `LoadCredential=NAME:PATH`"));
}

#[test]
fn grants_and_proxies_are_looked_at() {
    let basic = ["client_id: c", "client_secret: {file: secret}"];
    let jwt_bearer = "grant_type: urn:ietf:params:oauth:grant-type:jwt-bearer";
    told(
        &[basic[0], basic[1], jwt_bearer],
        &["7:17: tokens.a.grant_type: this grant needs an assertion, and nothing makes one"],
    );
    good(&[basic[0], basic[1], jwt_bearer, "params: {assertion: {file: other}}"]);
    told(
        &["auth: client_assertion", "client_id: c", "assertion: {file: other}", jwt_bearer, "params: {assertion: x}"],
        &["9:14: tokens.a.params.assertion: with `auth: client_assertion` bearerd sends this parameter itself"],
    );
    for (proxy, what) in [
        ("https://proxy.corp:3128", "a proxy other than `http://` is not supported yet"),
        ("socks5://proxy.corp", "a proxy other than `http://` is not supported yet"),
        ("proxy.corp:3128", "not the URL of a proxy"),
        ("http://proxy.corp/path", "the URL of a proxy has no path, query or fragment"),
        ("http://user:canary@127.1", "the host is a shortened, octal or hexadecimal IPv4 address"),
    ] {
        let problems = token(&[basic[0], basic[1], &format!("proxy: {proxy}")]).problems();
        assert_eq!(problems, [format!("7:12: tokens.a.proxy: {what}")]);
    }
}

#[test]
fn settings_without_effect_are_doubted() {
    let basic = ["client_id: c", "client_secret: {file: secret}"];
    assert_eq!(
        token(&[basic[0], basic[1], "assertion: {alg: ES256, type: x}", "proxy: 'http://u:canary@proxy:3128'"])
            .warnings(),
        [
            "7:17: tokens.a.assertion.alg: has no effect with `auth: client_secret_basic`",
            "7:29: tokens.a.assertion.type: has no effect with `auth: client_secret_basic`",
            "8:5: tokens.a.proxy: a secret is written in the configuration",
        ]
    );
    assert_eq!(
        token(&["auth: client_assertion", "client_id: c", "assertion: {file: other, lifetime: 5m}"]).warnings(),
        ["7:30: tokens.a.assertion.lifetime: has no effect with `auth: client_assertion`"]
    );
    let mut open = token(&["auth: private_key_jwt", "client_id: c", "private_key: {file: ec.pem}"]);
    open.files.0.get_mut(Path::new("/etc/bearerd/ec.pem")).unwrap().world_readable = true;
    assert_eq!(
        open.warnings(),
        ["7:18: tokens.a.private_key: `/etc/bearerd/ec.pem` can be read by every user of this machine"]
    );
}

/// What is printed hides what it must, and loads again.
#[test]
fn the_resolved_proofs_show_no_secret() {
    for (keys, shown) in [
        (
            &["client_id: c", "client_secret: {exec: [/bin/vault, canary]}"][..],
            "client_secret: {exec: [/bin/vault, \"[redacted]\"], timeout: 10s}",
        ),
        (
            &["client_id: c", "client_secret: {file: secret}", "proxy: 'http://u:canary@proxy:3128'"],
            "proxy: \"http://[redacted]@proxy:3128\"",
        ),
        (
            &["auth: client_assertion", "client_id: c", "assertion: {file: other}"],
            "credentials:\n      - client_id: c\n        assertion: {file: /etc/bearerd/other}\n",
        ),
        (
            &["auth: tls_client_auth", "client_id: c", "cert_file: ca.pem", "key_file: key.pem"],
            "    cert_file: /etc/bearerd/ca.pem\n",
        ),
        (
            &[
                "auth: private_key_jwt",
                "credentials: [{client_id: c, private_key: {file: ec.pem}, key_id: k}, {client_id: d, private_key: {file: ec.pem}}]",
            ],
            "        private_key: {file: /etc/bearerd/ec.pem}\n        key_id: k\n      - client_id: d\n",
        ),
    ] {
        let plan = token(keys).good().plan;
        let text = redacted::text(&plan);
        assert!(text.contains(shown), "{text}");
        assert!(!text.contains("canary") && !format!("{:?}", plan.tokens[0].proxy).contains("canary"), "{text}");
        let mut again = token(keys);
        again.files = shelf().with(DEFAULT_FILE, &text);
        assert_eq!(redacted::text(&again.good().plan), text);
    }
}
