//! The rules hold over HTTP/2 as over HTTP/1: the tables of `guards`, `rules`, `headers` and `tests/paths.tsv` once more,
//! with what HTTP/2 cannot say left out.

use bearerd::demo::api::Verdict;

use super::guards::FOREIGN;
use super::rules::{ALLOWED, OVERRIDES, REFUSED, RULES, UNCLEAR};
use super::{last, rig_with, route, targets};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, block, fields, frame,
};
use crate::support::{API, Options, Rig};

#[tokio::test]
async fn only_hosts_that_are_ours_are_served() {
    let rig = Rig::ready(Options { top: "callers: {hosts: [proxy.corp.test]}", ..Options::default() }).await;
    let mut app = rig.app2().await;
    for host in FOREIGN {
        let answer = app.ask(&format!("GET /x\nHost: {host}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (421, "host_not_ours"), "{host}");
    }
    assert!(targets(&rig).is_empty());
    for host in ["localhost", "LOCALHOST.:1", "app.localhost", "127.9.8.7:80", "[::1]", API, "Proxy.Corp.Test:81"] {
        assert_eq!(app.ask(&format!("GET /x\nHost: {host}")).await.status, 200, "{host}");
        assert_eq!(last(&rig).host.as_deref(), Some(API), "the upstream's, whatever the app said");
    }
}

#[tokio::test]
async fn a_web_page_may_not_call() {
    let rig =
        Rig::ready(Options { top: "callers: {origins: ['https://app.example.test']}", ..Options::default() }).await;
    let mut app = rig.app2().await;
    let own = format!("http://{}", rig.proxy.address);
    for (line, may) in [
        (format!("Origin: {own}"), true),
        ("Origin: https://app.example.test".to_owned(), true),
        ("Sec-Fetch-Site: same-origin".to_owned(), true),
        ("Origin: null".to_owned(), false),
        ("Origin: https://evil.test".to_owned(), false),
        (format!("Origin: {own}\nOrigin: https://evil.test"), false),
        ("Sec-Fetch-Site: same-site".to_owned(), false),
        ("Sec-Fetch-Site: cross-site".to_owned(), false),
    ] {
        let before = targets(&rig).len();
        let answer = app.ask(&format!("POST /x\n{line}")).await;
        assert_eq!(answer.status, if may { 200 } else { 403 }, "{line}");
        assert!(may || answer.reason() == "web_origin", "{line}");
        assert_eq!(targets(&rig).len() - before, usize::from(may), "{line}");
    }
}

#[tokio::test]
async fn only_what_is_listed_gets_through() {
    let rig = rig_with(|rig| {
        let stripped = "match: {path: /s}\nstrip_prefix: true\nallow: [{path: /reports/*}]";
        format!("routes:\n{}{}", route(rig, "based", "/base", RULES), route(rig, "stripped", "/other", stripped))
    })
    .await;
    let mut app = rig.app2().await;
    for (line, arrived) in ALLOWED {
        assert_eq!(app.ask(line).await.status, 200, "{line}");
        assert_eq!(last(&rig).target, arrived, "{line}");
    }
    rig.api.log().clear();
    for line in REFUSED {
        let answer = app.ask(line).await;
        assert_eq!(answer.status, 403, "{line}");
        assert!(line.starts_with("HEAD") || answer.reason() == "not_allowed", "{line}");
    }
    for path in UNCLEAR {
        let answer = app.get(path).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_path"), "{path}");
    }
    assert!(targets(&rig).is_empty(), "{:?}", targets(&rig));
}

#[tokio::test]
async fn nothing_says_another_method_or_path_and_nothing_brings_a_credential_of_its_own() {
    let rig = Rig::ready(Options { route: "allow: [{path: /ruled/**}]", ..Options::default() }).await;
    let lines: String =
        OVERRIDES.iter().map(|name| format!("\n{name}: /admin\n{}: x", name.replace('-', "_"))).collect();
    let credentials = "Authorization: Bearer stolen\nAuthorization: Basic eA==\nProxy-Authorization: Basic eA==\n\
                       Authorization_: x\nproxy_authorization: x\nTE: trailers\nExpect: 100-continue";
    let mut app = rig.app2().await;
    let head = format!("POST /ruled/x\n{credentials}{lines}\nX-Stays: y\nAccept: */*");
    assert_eq!(app.ask_with(&head, "four").await.status, 200);
    let seen = last(&rig);
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    // That it takes trailers is said anew.
    assert_eq!(names, ["accept", "authorization", "connection", "content-length", "host", "te", "x-stays"]);
    assert!(seen.header("connection")[0].eq_ignore_ascii_case("te") && seen.header("te") == ["trailers"], "{seen:?}");
    assert_eq!((seen.authorization_lines, seen.verdict, seen.body_len), (1, Verdict::Good, 4));
}

#[tokio::test]
async fn callers_name_themselves_as_to_a_server() {
    let rig = rig_with(|rig| {
        rig.folder.write("password", "open sesame");
        let clients = "callers:\n  clients: [{name: billing, password: {file: password}}]";
        format!("{clients}\nroutes:\n{}", route(rig, "api", "", "callers: [billing]"))
    })
    .await;
    let mut app = rig.app2().await;
    for host in ["localhost", API] {
        let ask = |line: &str| format!("GET /x\nHost: {host}{line}");
        for line in ["", "\nAuthorization: Basic eDp5", "\nProxy-Authorization: Basic YmlsbGluZzpvcGVuIHNlc2FtZQ=="] {
            let answer = app.ask(&ask(line)).await;
            assert_eq!((answer.status, answer.reason().as_str()), (401, "caller_unknown"), "{line}");
        }
        assert_eq!(app.ask(&ask("\nAuthorization: Basic YmlsbGluZzpvcGVuIHNlc2FtZQ==")).await.status, 200);
    }
    assert_eq!(targets(&rig), ["/x", "/x"]);
}

/// What the escapes of the table stand for; the table says which there are.
fn target_of(written: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), written);
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        rest = if let Some(after) = escape.strip_prefix('x') {
            bytes.push(u8::from_str_radix(&after[..2], 16).unwrap());
            &after[2..]
        } else if let Some(after) = escape.strip_prefix('\\') {
            bytes.push(b'\\');
            after
        } else {
            let (times, text) = escape.split_once("*(").unwrap();
            let (text, after) = text.split_once(')').unwrap();
            bytes.extend(text.repeat(times.parse().unwrap()).bytes());
            after
        };
    }
    bytes.extend(rest.bytes());
    bytes
}

#[tokio::test]
async fn the_table_of_paths() {
    let rig = Rig::ready(Options { route: "allow: [{methods: [GET], path: /public/**}]", ..Options::default() }).await;
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in include_str!("../../paths.tsv").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (written, rest) = line.split_once('\t').unwrap();
        // URLs are for proxies, and HTTP/2 has none.
        if written.contains("\\@") || written.to_ascii_lowercase().starts_with("http") {
            continue;
        }
        rows += 1;
        let target = target_of(written);
        rig.api.log().clear();
        let verdict = rest.split('\t').next().unwrap();
        let given = given(&rig, &target).await;
        let arrived = targets(&rig);
        // What h2 refuses it may do with the stream, or the whole connection.
        let is_right = given == verdict || verdict == "bad_path" && given == "refused";
        let sent = target.split(|byte| *byte == b'#').next().unwrap();
        let is_there = arrived.iter().map(String::as_bytes).eq([sent].into_iter().filter(|_| given == "served"));
        if !is_right || !is_there {
            wrong.push(format!("{written}: {given} and not {verdict}; {arrived:?} arrived"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows >= 200, "{rows}");
}

/// The verdict on a target, by a connection of its own.
async fn given(rig: &Rig, target: &[u8]) -> &'static str {
    let mut app = Frames::connect(rig.proxy.address).await;
    let mut head = block(&fields("GET", "", &[]));
    // The empty path at its end gives way to the bytes.
    head.pop();
    crate::support::frames::length(&mut head, target.len());
    head.extend_from_slice(target);
    let mut flags = END_HEADERS | END_STREAM;
    if head.len() > 16 * 1024 {
        flags = END_STREAM;
    }
    let mut pieces = head.chunks(16 * 1024);
    app.send(frame(HEADERS, flags, 1, pieces.next().unwrap())).await;
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        app.send(frame(crate::support::frames::CONTINUATION, last, 1, piece)).await;
    }
    let mut said = String::new();
    while let Some(frame) = app.next().await {
        match frame.kind {
            RST_STREAM | GOAWAY => return "refused",
            DATA => said.push_str(&String::from_utf8_lossy(&frame.payload)),
            _ => {}
        }
        if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
            break;
        }
    }
    match serde_json::from_str::<serde_json::Value>(&said) {
        Ok(problem) if problem["reason"] == "bad_path" => "bad_path",
        Ok(problem) if problem["reason"] == "not_allowed" => "not_allowed",
        Ok(problem) if problem["reason"].is_string() => "another",
        // The demo's API answers in its own words; without any it is a bare 431.
        _ if said.is_empty() => "refused",
        _ => "served",
    }
}
