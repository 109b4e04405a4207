//! Large documents, hostile ones, and broken ones.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{Given, TOKEN, good_document};

#[test]
fn ten_thousand_routes_load() {
    let mut document = format!("{TOKEN}routes:\n");
    for index in 0..10_000 {
        let _ = writeln!(
            document,
            "- name: route-{index}\n  upstream: https://api-{index}.example.com/base\n  match: {{host: a-{index}.example, path: /v2}}\n  tls: {{ca_file: ca.pem}}\n  timeouts: {{connect: 1s}}"
        );
    }
    let start = Instant::now();
    assert_eq!(Given::document(&document).good().plan.routes.len(), 10_000);
    // A release build takes a tenth of what this unoptimised one does.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn bombs_do_not_go_off() {
    let mut laughs = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (name, of) in ('b'..='z').zip('a'..) {
        let _ =
            writeln!(laughs, "{name}: &{name} [*{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}]");
    }
    let deep = "[".repeat(40);
    let deeper = "[".repeat(100_000);
    let deep_block: String = (0..200).fold(String::new(), |text, level| format!("{text}{}a:\n", " ".repeat(level)));
    let long = format!("a: [{}]", "x,".repeat(1_500_000));
    let large = " ".repeat(9 * 1024 * 1024);
    for (document, what) in [
        (laughs.as_str(), "more than 1000000 values, aliases included"),
        (deep.as_str(), "nested more than 32 levels deep"),
        (deeper.as_str(), "not valid YAML: recursion limit exceeded"),
        (deep_block.as_str(), "nested more than 32 levels deep"),
        (long.as_str(), "more than 1000000 values, aliases included"),
        (large.as_str(), "is larger than 8388608 bytes"),
        ("a: &a [*a]", "this alias stands inside its own anchor"),
    ] {
        let start = Instant::now();
        let problems = Given::document(document).problems();
        assert!(problems[0].ends_with(what), "{}", problems[0]);
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
    }
}

/// Whatever is written, the answer is a plan or problems, and every problem has a place.
#[test]
fn broken_documents_never_break_the_reader() {
    const PIECES: &[&str] = &[
        "",
        " ",
        "\n",
        "\n  ",
        ":",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "'",
        "\"",
        "#",
        "&a ",
        "*a",
        "!x ",
        "---\n",
        "|\n",
        "null",
        "~",
        "off",
        "true",
        "0",
        "-1",
        "99999999999999999999",
        "1e9",
        "5s",
        "25%",
        "64KiB",
        "none",
        "default",
        "{env: LEVEL}",
        "{file: secret}",
        "{exec: [x]}",
        "unix:/x",
        "https://",
        "../",
        "%2e",
        "\u{0}",
        "\u{feff}",
        "é",
        "tokens: ",
        "routes: ",
        "match: ",
        "upstream: ",
        "token: ",
        "listen: ",
        "name: ",
        "refresh: ",
        "provider: ",
        "client_secret: ",
        "headers: ",
        "\t",
        "<<: ",
        "? ",
        ">-\n",
    ];
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let rich = include_str!("everything.yaml");
    for _ in 0..2_000 {
        let mut document: Vec<char> =
            if random.bool() { rich.chars().collect() } else { good_document().chars().collect() };
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..=document.len());
            let end = (at + random.usize(..12)).min(document.len());
            let piece: Vec<char> = random.choice(PIECES).copied().unwrap_or_default().chars().collect();
            match random.bool() {
                true => document.splice(at..end, piece),
                false => document.splice(at..at, piece),
            };
        }
        let document: String = document.into_iter().collect();
        let given = Given::document(&document).variable("LEVEL", "debug").variable("SECRET", "x");
        if let Err(problems) = given.load() {
            assert!(!problems.problems.is_empty());
            for problem in &problems.problems {
                let line = problem.to_string();
                assert!(!line.contains("a bug in bearerd"), "SEED={seed}\n{line}\n{document}");
                assert!(line.starts_with("/etc/bearerd/config.yaml:"), "SEED={seed}\n{line}\n{document}");
            }
        }
    }
}
