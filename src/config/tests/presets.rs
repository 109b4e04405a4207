//! Presets: what each sets and asks for, and that whatever is written wins.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Given, ROUTE, lines};
use crate::config::files::{Files, Seen};
use crate::config::presets::{self, TABLE};
use crate::config::{Environment, Loaded, Place, Problems, Sources, load};
use crate::token::Settings;
use crate::token::settings::{ClientAuth, Endpoint, JWT_BEARER_GRANT, RequestFormat};
use crate::token::source::key::Alg;

/// A document, and every file that it may name: keys where it says so, else secrets.
struct Everywhere<'a>(&'a str);

impl Files for Everywhere<'_> {
    fn read(&self, path: &Path, _: usize, _: bool) -> io::Result<Seen> {
        let text = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml") => self.0,
            Some("pem") => include_str!("rsa.pem"),
            _ => "s3cret",
        };
        Ok(Seen { bytes: text.as_bytes().to_vec(), world_readable: false })
    }

    fn folder(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

fn everywhere(document: &str) -> Result<Loaded, Problems> {
    let environment = Environment::new();
    load(&Sources { flags: &[], environment: &environment, files: &Everywhere(document), parallelism: 1 })
}

/// A token of these keys, one a line from line 4 on.
fn token(provider: &str, keys: &[&str]) -> Given {
    let keys: String = keys.iter().map(|key| format!("    {key}\n")).collect();
    Given::document(&format!("{ROUTE}tokens:\n  a:\n    provider: {provider}\n{keys}"))
}

const SECRET: [&str; 2] = ["client_id: c", "client_secret: {file: secret}"];

#[track_caller]
fn good(provider: &str, keys: &[&str]) -> Settings {
    let loaded = token(provider, keys).good();
    assert_eq!(lines(&loaded.warnings), [""; 0]);
    loaded.plan.tokens.into_iter().next().unwrap()
}

/// What is wrong with it, without places.
#[track_caller]
fn told(provider: &str, keys: &[&str], expected: &[&str]) {
    assert_eq!(token(provider, keys).problems(), expected, "{provider} {keys:?}");
}

/// An example whose reader wrote values of their own for the words in capitals.
fn filled(example: &str) -> String {
    let words: BTreeSet<&str> = presets::capitals(example).collect();
    // The longest first: one is a part of another.
    let mut words: Vec<&str> = words.into_iter().collect();
    words.sort_by_key(|word| Reverse(word.len()));
    words.into_iter().fold(example.to_owned(), |text, word| text.replace(word, &word.to_lowercase()))
}

#[test]
fn every_preset_needs_at_most_five_lines_and_loads() {
    for preset in TABLE {
        let keys: String = preset.init.lines().map(|line| format!("    {line}\n")).collect();
        let document = format!("{ROUTE}tokens:\n  a:\n    provider: {}\n{keys}", preset.name);
        let document = filled(&document);
        let loaded = everywhere(&document).unwrap_or_else(|problems| panic!("{document}{problems}"));
        assert_eq!(lines(&loaded.warnings), [""; 0], "{}", preset.name);
    }
}

#[test]
fn every_example_loads_once_it_is_filled_in() {
    for preset in TABLE {
        let text = presets::example(preset);
        // Each value that is left as it was is told once, where it stands.
        let left = everywhere(&text).unwrap_err().problems;
        let code = text.lines().map(|line| line.split_once('#').map_or(line, |(code, _)| code));
        let places: Vec<usize> = code
            .enumerate()
            .filter(|(_, code)| presets::capitals(code).count() > 0)
            .map(|(line, _)| line + 1)
            .collect();
        for line in &places {
            let told =
                left.iter().filter(|one| matches!(one.place, Place::File { line: at, .. } if at as usize == *line));
            assert_eq!(told.count(), 1, "{line}: {left:#?}");
        }
        assert!(left.len() == places.len() && left.iter().all(|one| one.what.contains("of yours")), "{left:#?}");
        let text = filled(&text);
        let loaded = everywhere(&text).unwrap_or_else(|problems| panic!("{text}{problems}"));
        assert_eq!(lines(&loaded.warnings), [""; 0], "{text}");
        assert_eq!((&*loaded.plan.tokens[0].name, loaded.plan.routes.len()), (preset.name, 1));
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }
}

/// The page of the providers has a section for each, and what it shows loads and is that provider's.
#[test]
fn every_preset_is_documented() {
    let page = include_str!("../../../docs/providers.md");
    for preset in TABLE {
        let section = page.split("\n## ").find_map(|section| section.strip_prefix(&format!("{}\n", preset.name)));
        let section = section.unwrap_or_else(|| panic!("{} has no section", preset.name));
        assert!(page.contains(&format!("[`{0}`](#{0})", preset.name)) && section.contains("\nSources: "), "{section}");
        let block = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        let block = &filled(block);
        let loaded = everywhere(block).unwrap_or_else(|problems| panic!("{block}{problems}"));
        assert_eq!(lines(&loaded.warnings), [""; 0], "{block}");
        // Each key of the preset's own example is written here too.
        assert!(block.contains(&format!("provider: {}\n", preset.name)), "{block}");
        let keys = preset.init.lines().filter(|line| !line.starts_with('#'));
        for key in keys.filter_map(|line| line.split_once(':').map(|(key, _)| key.trim_start_matches([' ', '-', '{'])))
        {
            assert!(block.contains(&format!("{key}: ")) || block.contains(&format!("{key}:\n")), "{key}: {block}");
        }
    }
    assert_eq!(page.matches("\n## ").count(), TABLE.len());
}

#[test]
fn what_a_provider_fixes_is_set() {
    let url = "token_url: https://id.example.com/oauth2/token";
    let authgear = good("authgear", &[SECRET[0], SECRET[1], url, "resource: https://api.example.com"]);
    assert_eq!(authgear.auth, ClientAuth::Post);
    let zoom = good("zoom", &[SECRET[0], SECRET[1], "params: {account_id: x}"]);
    assert_eq!(zoom.grant_type, "account_credentials");
    assert!(matches!(&zoom.endpoint, Endpoint::TokenUrl(url) if url.as_str() == "https://zoom.us/oauth/token"));
    let google = good(
        "google-sa",
        &[
            "client_id: a@b",
            "private_key: {file: rsa.pem}",
            "assertion: {claims: {scope: https://www.googleapis.com/auth/x}}",
        ],
    );
    assert_eq!(google.grant_type, JWT_BEARER_GRANT);
    let ClientAuth::PrivateKeyJwt(own) = &google.auth else { panic!("{:?}", google.auth) };
    assert_eq!((own.alg, own.audience.as_deref()), (Some(Alg::Rs256), Some("https://oauth2.googleapis.com/token")));
    let salesforce =
        good("salesforce", &[SECRET[0], SECRET[1], "token_url: https://x.my.salesforce.com/services/oauth2/token"]);
    assert_eq!(salesforce.refresh.assumed_lifetime, Duration::from_secs(900));
}

#[test]
fn an_assertion_is_for_whom_the_provider_says() {
    let key = ["client_id: c", "private_key: {file: rsa.pem}", "scope: x"];
    let audience = |settings: Settings| {
        let ClientAuth::PrivateKeyJwt(own) = settings.auth else { panic!("{:?}", settings.auth) };
        own.audience.unwrap()
    };
    let url = "https://o.okta.com/oauth2/v1/token";
    let both = good("okta-org", &[key[0], key[1], key[2], &format!("token_url: {url}"), "issuer: https://o.okta.com"]);
    assert_eq!(audience(both), url);
    let auth0 = good(
        "auth0",
        &[key[0], key[1], "auth: private_key_jwt", "audience: x", "token_url: https://t.auth0.com/oauth/token"],
    );
    assert_eq!(audience(auth0), "https://t.auth0.com/");
    let own = good("okta-org", &[key[0], key[1], key[2], "issuer: https://o.okta.com", "assertion: {audience: x}"]);
    assert_eq!(audience(own), "x");
    told(
        "okta-org",
        &[key[0], key[1], key[2], "issuer: https://o.okta.com"],
        &["3:3: tokens.a: `assertion.audience` is missing"],
    );
    good("okta", &[SECRET[0], SECRET[1], "issuer: https://o.okta.com/oauth2/default", "scope: x"]);
}

#[test]
fn what_is_written_wins() {
    let settings = good(
        "servicenow",
        &[
            SECRET[0],
            SECRET[1],
            "token_url: https://i.service-now.com/oauth_token.do",
            "auth: client_secret_basic",
            "request_format: json",
            "refresh: {early: 20%, margin: 1s}",
        ],
    );
    assert_eq!((settings.auth.as_str(), settings.request_format), ("client_secret_basic", RequestFormat::Json));
    assert_eq!((settings.refresh.early, settings.refresh.margin), (Some(0.2), Duration::from_secs(1)));
    let kept = good(
        "entra",
        &[SECRET[0], SECRET[1], "scope: api://a/.default", "token_url: https://l.example/t/oauth2/v2.0/token"],
    );
    assert_eq!(kept.auth, ClientAuth::Post, "the settings of its assertions are no reason to doubt");
    let elsewhere = good("zoom", &[SECRET[0], SECRET[1], "params: {account_id: x}", "issuer: https://zoom.example"]);
    assert!(matches!(elsewhere.endpoint, Endpoint::Issuer(_)), "another endpoint replaces the usual one");
}

#[test]
fn what_only_the_user_knows_is_asked_for() {
    let secret = |more: &'static str| [SECRET[0], SECRET[1], more];
    let missing = |key: &str| format!("3:3: tokens.a: `{key}` is missing");
    for (provider, keys, key, cure) in [
        ("authgear", secret("issuer: https://p.authgear.cloud"), "resource", "API Resources"),
        ("okta", secret("token_url: https://o.okta.com/oauth2/default/v1/token"), "scope", "custom scope"),
        ("auth0", secret("token_url: https://t.auth0.com/oauth/token"), "audience", "Identifier"),
        ("entra", secret("token_url: https://login.example/t/oauth2/v2.0/token"), "scope", "/.default"),
        ("zoom", secret("tls: {}"), "params.account_id", "App Credentials"),
        ("keycloak", secret("tls: {}"), "token_url` or `issuer", "realms/REALM"),
        ("cognito", secret("tls: {}"), "token_url` or `issuer", "domain of the user pool"),
    ] {
        let given = token(provider, &keys);
        assert_eq!(given.problems(), [missing(key)]);
        let hint = given.load().unwrap_err().problems.remove(0).hint.unwrap();
        assert!(hint.contains(cure), "{provider}: {hint}");
    }
    told(
        "google-sa",
        &["client_id: c", "private_key: {file: rsa.pem}"],
        &["3:3: tokens.a: `assertion.claims.scope` is missing"],
    );
    // What is misspelt is not missing besides.
    told(
        "authgear",
        &[SECRET[0], SECRET[1], "issuer: https://p.authgear.cloud", "resorce: https://api.example.com"],
        &["8:5: tokens.a.resorce: unknown key (did you mean `resource`?)"],
    );
    let given = Given::nothing()
        .variable("BEARERD_UPSTREAM", "https://api.example.com")
        .variable("BEARERD_PROVIDER", "authgear")
        .variable("BEARERD_ISSUER", "https://p.authgear.cloud")
        .variable("BEARERD_CLIENT_ID", "c")
        .variable("BEARERD_CLIENT_SECRET_FILE", "/run/secrets/current");
    let problems = given.load().unwrap_err().to_string();
    assert!(problems.contains("hint: set `BEARERD_RESOURCE` (`--resource`); Authgear gives no token"), "{problems}");
    let plan = given.flag("resource", "https://api.example.com").good().plan;
    assert_eq!(plan.tokens[0].auth, ClientAuth::Post);
}

#[test]
fn what_a_provider_refuses_is_a_problem_and_what_looks_strange_a_doubt() {
    told(
        "salesforce",
        &[SECRET[0], SECRET[1], "token_url: https://login.salesforce.com/services/oauth2/token"],
        &["7:16: tokens.a.token_url: Salesforce refuses client credentials at its common login"],
    );
    told(
        "authgear",
        &[SECRET[0], SECRET[1], "token_url: https://p.authgear.cloud/oauth/token", "resource: https://api.example.com"],
        &["7:16: tokens.a.token_url: Authgear does not answer here"],
    );
    let url = "token_url: https://login.example/t/oauth2/v2.0/token";
    for scope in ["api://a/read", "[api://a/.default, api://b/.default]"] {
        let problems = token("entra", &[SECRET[0], SECRET[1], url, &format!("scope: {scope}")]).problems();
        assert_eq!(problems, ["8:12: tokens.a.scope: Microsoft Entra ID takes one scope that ends in `/.default`"]);
    }
    let coaching = token("verint-coaching", &[SECRET[0], SECRET[1], "token_url: https://auth.d.example/oauth2/token"]);
    assert_eq!(
        coaching.warnings(),
        [
            "7:5: tokens.a.token_url: does not look like Verint Coaching (Cogito), whose path is `*/realms/*/protocol/openid-connect/token`"
        ]
    );
}

#[test]
fn the_issuer_of_a_keycloak_may_have_the_old_prefix_or_none() {
    for issuer in ["https://id.example/realms/main", "https://id.example/auth/realms/main"] {
        let told = token("keycloak", &[SECRET[0], SECRET[1], &format!("issuer: {issuer}")]).warnings();
        assert_eq!(told, [""; 0], "{issuer}");
    }
    assert_eq!(token("keycloak", &[SECRET[0], SECRET[1], "issuer: https://id.example/main"]).warnings().len(), 1);
}

#[test]
fn a_problem_with_a_preset_names_it() {
    told(
        "google-sa",
        &[SECRET[0], SECRET[1], "auth: client_secret_post", "assertion: {claims: {scope: x}}"],
        &["preset google-sa: tokens.a.grant_type: this grant needs an assertion, and nothing makes one"],
    );
    told(
        "entra",
        &[
            "auth: private_key_jwt",
            "client_id: c",
            "private_key: {file: ec.pem}",
            "scope: a/.default",
            "token_url: https://l.example/t/oauth2/v2.0/token",
        ],
        &["7:5: tokens.a.private_key: the key cannot sign with `assertion.alg`, which is PS256"],
    );
}

#[test]
fn a_provider_may_stand_elsewhere_and_must_be_known() {
    let named = token("{env: WHO}", &[SECRET[0], SECRET[1], "params: {account_id: x}"]).variable("WHO", "zoom");
    assert_eq!(named.good().plan.tokens[0].grant_type, "account_credentials");
    let filed =
        token("{file: who}", &[SECRET[0], SECRET[1], "params: {account_id: x}"]).file("/etc/bearerd/who", "zoom\n");
    assert_eq!(filed.good().plan.tokens[0].grant_type, "account_credentials");
    let problems = token("zom", &SECRET).problems();
    assert_eq!(problems.len(), 1, "nothing is said about an endpoint that the preset would have: {problems:?}");
    assert!(problems[0].ends_with("or `google-sa` (did you mean `zoom`?)"), "{problems:?}");
    assert!(presets::find("okta").is_some());
}
