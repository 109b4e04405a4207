//! The mistakes of a first configuration, each with the words that get its writer on. No value is repeated, since any
//! could be a secret in the wrong place.

use super::child::bearerd;
use crate::support::Folder;

const GOOD: &str = "\
listen: localhost:4280
tokens:
  a:
    token_url: https://id.example.com/token
    client_id: app
    client_secret: {file: secret}
routes:
  - upstream: https://api.example.com
    token: a
";

/// What is written instead of what, the place, and words of the message.
const MISTAKES: [(&str, &str, &str, &[&str]); 38] = [
    ("    client_id", "\tclient_id", "4:", &["not valid YAML", "YAML takes no tabs"]),
    ("    client_id", "   client_id", "5:", &["not valid YAML", "same column"]),
    ("client_id: app", "client_id app", "6:", &["not valid YAML"]),
    ("client_id: app", "client_id: app: x", "5:", &["not valid YAML", "in quotes"]),
    ("client_id: app", "client_id: @app", "5:", &["not valid YAML", "in quotes"]),
    ("https://id", "http://id", "4:16: tokens.a.token_url: ", &["in clear", "use `https`"]),
    ("https://api", "http://api", "8:15: routes[0].upstream: ", &["in clear", "`https"]),
    ("https://api", "api", "8:15: routes[0].upstream: ", &["not a URL", "write the scheme too"]),
    ("https://api", "htps://api", "8:15: routes[0].upstream: ", &["neither `https` nor `http`"]),
    ("api.example.com", "api.example.com:99999", "8:15: routes[0].upstream: ", &["from 1 to 65535"]),
    ("api.example.com", "api.example.com?key=x-canary", "8:15: routes[0].upstream: ", &["no query"]),
    ("https://api", "https://me:x-canary@api", "8:15: routes[0].upstream: ", &["user information"]),
    ("{file: secret}", "{file: .}", "6:20: tokens.a.client_secret: ", &["is a directory"]),
    ("{file: secret}", "{file: secert}", "6:20: tokens.a.client_secret: ", &["does not exist"]),
    ("{file: secret}", "{file: empty}", "6:20: tokens.a.client_secret: ", &["empty"]),
    ("{file: secret}", "{path: secret}", "6:20: tokens.a.client_secret: ", &["expected a secret: `{file: PATH}`"]),
    (
        "client_secret: {file: secret}",
        "client_secret_file: secret",
        "6:5: tokens.a.client_secret_file: ",
        &["`client_secret: {file: PATH}`"],
    ),
    ("client_secret:", "client_secrte:", "6:5: tokens.a.client_secrte: ", &["did you mean `client_secret`?"]),
    ("localhost:4280", "4280", "1:9: listen: ", &["not an address", "`localhost:PORT`"]),
    ("localhost:4280", "':4280'", "1:9: listen: ", &["not an address", "`localhost:PORT`"]),
    ("localhost:4280", "localhost:70000", "1:9: listen: ", &["65535"]),
    ("localhost:4280", "0.0.0.0:4280", "1:9: listen: ", &["other machines can reach", "`localhost:4280`"]),
    ("token: a", "tokens: a", "9:5: routes[0].tokens: ", &["did you mean `token`?"]),
    ("client_id: app", "client_id: app\n    refresh: {early: '25'}", "6:22: tokens.a.refresh.early: ", &["`25%`"]),
    (
        "client_id: app",
        "client_id: app\n    refresh: {timeout: 20}",
        "6:24: tokens.a.refresh.timeout: ",
        &["needs a unit"],
    ),
    (
        "client_id: app",
        "client_id: app\n    client_id: app",
        "6:5: tokens.a.client_id: ",
        &["twice", "keep one of the two"],
    ),
    ("client_id: app", "client_id: app\n    scope: [read, write", "7:", &["without its end"]),
    ("client_id: app", "client_id: 'app", "5:", &["without its end"]),
    ("client_id: app", "client_id: app\n    auth: basic", "6:11: tokens.a.auth: ", &["mean `client_secret_basic`?"]),
    ("{file: secret}", "{env: NOPE}", "6:26: tokens.a.client_secret: ", &["`NOPE` is not set", "set it where bearerd"]),
    ("  a:\n", "  - name: a\n", "3:3: tokens: ", &["expected a map of names", "write it as in"]),
    ("token: a", "token: b", "9:12: routes[0].token: ", &["no token is called that", "where there is `a`"]),
    ("token: a", "token: a\n    path: /v2", "10:5: routes[0].path: ", &["did you mean `match: {path: …}`?"]),
    ("localhost:4280", "{address: '0.0.0.0:1', allow_remote: true}", "1:32: listen.allow_remote: ", &["write `tls: {"]),
    ("routes:", "tunnel: ['*']\nroutes:", "7:10: tunnel[0]: ", &["not for every host", "`*.example.com:443`"]),
    (
        "https://id.example.com/token",
        "id.example.com",
        "4:16: tokens.a.token_url: ",
        &["not a URL", "write the scheme"],
    ),
    ("https://id.example.com/token", "localhost:1/x", "4:16: tokens.a.token_url: ", &["not a URL", "the scheme too"]),
    (
        "upstream: https://api.example.com\n    token: a",
        "upstream https://api.example.com",
        "8:5: routes[0]: ",
        &["expected a map, found a string", "is a `:` missing?"],
    ),
];

/// The same for what is taken and hardly meant: told, and no reason not to run.
const DOUBTS: [(&str, &str, &str, &[&str]); 12] = [
    ("{file: secret}", "{file: quoted}", "6:20: tokens.a.client_secret: ", &["stands in quotes", "leave it out"]),
    ("{file: secret}", "{file: spaced}", "6:20: tokens.a.client_secret: ", &["ends with a space", "leave it out"]),
    ("{file: secret}", "\"{file: secret}\"", "6:20: tokens.a.client_secret: ", &["a reference", "without quotes"]),
    ("{file: secret}", "$SECRET", "6:20: tokens.a.client_secret: ", &["a variable of a shell", "write `{env: NAME}`"]),
    ("client_id: app", "client_id: app\n    scope: read, write", "6:5: tokens.a.scope: ", &["comma", "spaces between"]),
    (
        "example.com\n    token: a",
        "example.com/v2\n    token: a\n    match: {path: /v2}",
        "10:19: routes[0].match.path: ",
        &["`/v2/x` goes to `/v2/v2/x`", "`strip_prefix: true`"],
    ),
    ("routes:", "tunnel: ['*.com:443']\nroutes:", "7:10: tunnel[0]: ", &["below `com`", "name the hosts"]),
    (
        "    token: a",
        "    token: a\n    intercept: true\nintercept: {ca_dir: ca}\ntunnel: api.example.com:443",
        "12:9: tunnel: ",
        &["the route `api.example.com` intercepts", "remove the entry"],
    ),
    (
        "routes:",
        "intercept: {ca_dir: ca}\nroutes:",
        "7:13: intercept.ca_dir: ",
        &["`intercept: true`", "leave the key out"],
    ),
    (
        "    token: a",
        "    token: a\n    intercept: true\nintercept: {ca_dir: secret/ca}",
        "intercept.ca_dir: ",
        &["is not a folder, so `run` would not start here"],
    ),
    (
        "    token: a",
        "    token: a\nNONE, stub_token: /t}",
        "10:NN: routes[1].stub_token: ",
        &["no token takes", "leave it out"],
    ),
    (
        "    token: a",
        "    token: a\nNONE, intercept: true}",
        "10:NN: routes[1].intercept: ",
        &["nothing to put on", "`tunnel`"],
    ),
];

#[tokio::test]
async fn what_is_hardly_meant_is_told_once_and_taken() {
    let folder = Folder::new();
    for (name, secret) in [("secret", "x-canary"), ("quoted", "'x-canary'"), ("spaced", "x-canary ")] {
        folder.write(name, secret);
    }
    let file = folder.path("bearerd.yaml").display().to_string();
    for (right, wrong, place, words) in DOUBTS {
        assert!(GOOD.contains(right), "{right}");
        let wrong = wrong.replace("NONE", "  - {name: b, match: {path: /b}, upstream: 'https://b.test', token: none");
        folder.write("bearerd.yaml", &GOOD.replacen(right, &wrong, 1));
        let ended = bearerd(&["check", "--config", &file], &[]).await.with(0);
        let place = place.strip_prefix("10:NN: ").unwrap_or(place);
        let ended = ended.says(&[place]).says(words);
        assert_eq!(ended.err.matches("warning: ").count(), 1, "{}", ended.err);
    }
}

#[tokio::test]
async fn each_is_told_with_its_place_and_its_cure() {
    let folder = Folder::new();
    folder.write("secret", "x-canary");
    folder.write("empty", "\n");
    let file = folder.path("bearerd.yaml").display().to_string();
    folder.write("bearerd.yaml", GOOD);
    bearerd(&["check", "--config", &file], &[]).await.with(0);
    for (right, wrong, place, words) in MISTAKES {
        folder.write("bearerd.yaml", &GOOD.replacen(right, wrong, 1));
        let ended = bearerd(&["check", "--config", &file], &[]).await.with(78).silent();
        let ended = ended.says(&[&format!("{file}:{place}")]).says(words);
        assert!(ended.err.ends_with("error: 1 problem in the configuration\n"), "{}", ended.err);
    }
}

#[tokio::test]
async fn what_is_harmless_is_taken() {
    let folder = Folder::new();
    folder.write("secret", "x-canary\n");
    folder.write("bearerd.yaml", "");
    let file = folder.path("bearerd.yaml").display().to_string();
    for (right, wrong) in [
        ("api.example.com", "api.example.com/"),
        ("api.example.com", "API.example.com:443"),
        ("/token", "/token?tenant=1"),
        ("token: a", "token: 'a'"),
        ("client_id: app", "client_id: 1234"),
        ("  - upstream", "- upstream"),
    ] {
        let text = GOOD.replacen(right, wrong, 1);
        let text = if wrong == "- upstream" { text.replace("    token: a", "  token: a") } else { text };
        folder.write("bearerd.yaml", &text);
        let ended = bearerd(&["check", "--config", &file], &[]).await.with(0);
        assert_eq!(ended.err, "", "{wrong}");
    }
}
