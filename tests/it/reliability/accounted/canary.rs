//! R23: nothing that a process of these proofs says, shows or leaves behind holds a secret or a token.
//!
//! Each searches all of it at its end. The proof here makes one talk: at `trace`, with every kind of bad answer, and at a
//! crash.

use std::path::Path;

use bearerd::demo::answer::Answer;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::cli::child::secret_in;
use crate::support::{App, eventually};

/// What shows anything.
pub(super) const PAGES: [&str; 7] = ["/", "/status", "/metrics", "/livez", "/startupz", "/readyz", "/nothing"];

/// Looks into every file of a proof's folder but the secrets themselves: configuration, logs, what is temporary, cores.
/// How many there were.
pub(super) fn search(folder: &Path) -> u64 {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().unwrap();
        let name = name.to_str().unwrap();
        // The program itself knows the words that are looked for.
        if name.starts_with("secret") || name.starts_with("..") || name == "bearerd" {
            continue;
        }
        if kind.is_dir() {
            files += search(&path);
        } else if kind.is_file() {
            assert_eq!(secret_in(&std::fs::read(&path).unwrap()), None, "in {}", path.display());
            files += 1;
        }
    }
    files
}

#[tokio::test]
async fn whatever_goes_wrong_nothing_shows_a_secret_or_a_token() {
    let mut proof = Proof::new("R23", "all that a process says, shows and leaves behind, at `trace` and at a crash");
    let world = World::new(2, std::time::Duration::from_secs(3_600)).await;
    let turn = std::sync::atomic::AtomicU64::new(0);
    let api = upstream(&world.books, None, move || match turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 4 {
        0 => Act::SERVE,
        1 => Act::Refuse,
        2 => Act::Cut { chunked: true, rudely: true },
        _ => Act::ServeAndEnd,
    })
    .await;
    let lines = Lines {
        top: "access_log: access.log\nlog: {level: trace}",
        token: "wait: 0s\nrequired: false\nrefresh: {after_401: 1s}",
        ..Lines::default()
    };
    world.configure(&format!("http://{}", api.address), lines);
    // The second token is never had, and its provider repeats what it was sent.
    world.provider.script().when(|head| {
        let credentials = head.headers.get("authorization")?.to_str().ok()?.to_owned();
        let body = format!("{credentials} eyJhbGciOiJub25lIn0.e30.x-canary");
        credentials.starts_with("Basic dDE6").then(|| Answer::status(400).body(body).into())
    });
    let bearerd = world.start().await;
    bearerd.until_tokens_are("fresh", &world.names[..1]).await;
    let load = Load { connections: 40, ..Load::new(bearerd.address(), &world.names) };
    load.once(&world.books).await;
    let mut texts = 0;
    for head in [
        "GET /../x HTTP/1.1",
        "GET /t0/0 HTTP/1.1\nOrigin: https://evil.example",
        "GET http://elsewhere.example/ HTTP/1.1",
        "CONNECT elsewhere.example:443 HTTP/1.1",
        "GET /t0/0 HTTP/1.1\nHost: evil.example",
        "GET /nowhere HTTP/1.1",
        "TRACE /t0/0 HTTP/1.1",
    ] {
        let answer = App::connect(bearerd.address()).await.ask(head).await;
        assert!((400..500).contains(&answer.status), "{head}: {answer:?}");
        assert_eq!(secret_in(format!("{answer:?}").as_bytes()), None, "{head}: {answer:?}");
        texts += 1;
    }
    for path in PAGES {
        let page = bearerd.page(path).await;
        assert_eq!(secret_in(page.as_bytes()), None, "{path}: {page}");
        texts += 1;
    }
    let balance = world.books.balance();
    proof.asked(balance.asked);
    let other: Vec<u16> = balance.other.keys().copied().collect();
    proof.is(
        "answers with another status than 200, 401, 502 or 503",
        other.iter().filter(|is| ![401, 502, 503].contains(is)).count(),
        0,
    );
    proof.at_least("answers of 503, for want of a token", balance.other.get(&503).copied().unwrap_or_default(), 20);
    // As if the operator had wished for a core.
    let pid = Pid::from_raw(i32::try_from(bearerd.pid()).unwrap()).unwrap();
    let unlimited = Rlimit { current: None, maximum: None };
    let is_allowed = prlimit(Some(pid), Resource::Core, unlimited).is_ok();
    let own = world.folder.path("own");
    eventually("the access log is written", || search(&world.folder.path("")) > 1).await;
    let ended = bearerd.end_by(Signal::ABORT).await;
    assert!(ended.err.contains("\"level\":\"trace\"") || ended.err.lines().count() > 50, "{ended:?}");
    proof.is("what a crash left behind, a core included", std::fs::read_dir(own).unwrap().count(), 0);
    proof.figure("cores were allowed by the limit", is_allowed);
    proof.figure("lines of its log", ended.err.lines().count());
    proof.figure("other texts that were searched", texts + search(&world.folder.path("")));
    proof.survived(1);
    proof.end();
}
