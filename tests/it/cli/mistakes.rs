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
const MISTAKES: [(&str, &str, &str, &[&str]); 24] = [
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
];

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
