//! The documented example, key by key: what is written there works.

use super::{Given, lines};

/// The example of the documentation, as it stands there, comments and all.
const EXAMPLE: &str = include_str!("contract.yaml");

/// The ellipses of the example stand for files; with its commented lines in force.
fn example(commented: bool) -> String {
    let text = EXAMPLE.replace("{…}", "{ca_file: ca.pem}").replace("type: …", "type: x").replace("…", "ca.pem");
    let uncommented =
        text.replace("\n  # - {", "\n  - {").replace("listen: [localhost:4280]", "listen:\n  - localhost:4280");
    if commented { uncommented } else { text }
}

/// It has a key beside its short form, to show both; all the rest works.
#[track_caller]
fn works(document: &str) {
    let problems = Given::document(document).load().unwrap_err();
    let lines = lines(&problems.problems);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains(": tokens.coaching.credentials: ") && line.ends_with("either says it all"), "{line}");
}

#[test]
fn the_documented_example_works() {
    // The example's listener `legacy` stands in a comment.
    let document =
        example(false).replace("listen: [localhost:4280]", "listen: [{name: legacy, address: 'localhost:4280'}]");
    works(&document);
}

#[test]
fn its_commented_lines_add_nothing_that_is_refused() {
    works(&example(true));
}

/// `off` and `false` are one.
#[test]
fn what_is_off_may_be_written() {
    Given::document(
        "
access_log: off
state_dir: false
listen: [{address: 'localhost:1', allow_remote: false}]
tokens:
  a:
    {token_url: 'https://id.example.com/t', client_id: c, client_secret: {file: secret},
     budget: off}
routes:
- {upstream: 'https://api.example.com'}
- {upstream: 'https://api.example.com', match: {path: /x}}
",
    )
    .good();
}
