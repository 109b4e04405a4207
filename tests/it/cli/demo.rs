//! `bearerd demo`, the first thing that anybody runs: it works, tells the truth, and leaves nothing behind.

use std::net::{SocketAddr, TcpListener};

use rustix::process::Signal;

use super::child::{BINARY, Child, bearerd};
use crate::support::{Answer, App, Folder};

/// A place for temporary files that a test can look into.
struct Temporary(Folder, String);

impl Temporary {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path("tmp");
        std::fs::create_dir(&path).unwrap();
        let path = path.display().to_string();
        Self(folder, path)
    }

    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.0.path("tmp")).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[tokio::test]
async fn once_shows_both_sides_and_leaves_nothing_behind() {
    let temporary = Temporary::new();
    let once = bearerd(&["demo", "--once"], &[("TMPDIR", &temporary.1)]).await.with(0);
    assert_eq!(once.err, "");
    assert!(once.out.contains("The app got: HTTP/1.1 200 OK"), "{}", once.out);
    let rows: Vec<(&str, &str)> = once.out.lines().filter_map(|line| line.split_once('│')).collect();
    let (sent, received): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let authorization =
        |lines: &[&str]| lines.iter().filter(|line| line.to_lowercase().contains("authorization")).count();
    assert_eq!((authorization(&sent), authorization(&received)), (0, 1), "{}", once.out);
    // A fingerprint of eight hexadecimal digits stands for the token.
    let line = received.iter().find(|line| line.contains("authorization")).unwrap();
    let shown = line.trim().strip_prefix("authorization: Bearer ").unwrap();
    assert!(shown.len() == 8 && shown.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    assert_eq!(temporary.files(), Vec::<String>::new());
}

#[tokio::test]
async fn its_lines_work_each_request_is_told_and_ctrl_c_ends_it() {
    let temporary = Temporary::new();
    let mut demo = Child::spawn(&["demo"], &[("TMPDIR", &temporary.1)]);
    demo.until_out("ready: every required token").await;
    demo.until_out("Ctrl-C ends it").await;
    let told = demo.out();
    let lines: Vec<&str> = told.lines().filter_map(|line| line.trim().strip_prefix("curl ")).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| line.contains("http://127.")).collect();
    assert_eq!(lines.len(), 5, "{told}");
    let mut statuses = Vec::new();
    for line in &lines {
        statuses.push(curl(line).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 403, 200], "{lines:#?}");
    demo.until_out("└▶ 200, with token ").await;
    demo.until_out("└▶ bearerd answered 403 web_origin itself; nothing reached the API").await;
    // The listener behind the tap is nobody's business.
    assert!(!demo.out().contains("demo-inner listens on"), "{}", demo.out());

    let files = temporary.files();
    assert_eq!(files.len(), 1, "{files:?}");
    {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = std::path::Path::new(&temporary.1).join(&files[0]);
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("client-secret"))), (0o700, 0o600));
        // What it names can be read by whoever wants to learn from it, and checked.
        let file = folder.join("bearerd.yaml").display().to_string();
        assert!(told.contains(&file), "{told}");
        let commands: Vec<Vec<&str>> = told
            .lines()
            .filter_map(|line| line.trim().strip_prefix(BINARY))
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(commands.iter().map(|words| words[0]).collect::<Vec<_>>(), ["check", "token", "health"]);
        for words in commands {
            assert_eq!(words.last(), Some(&file.as_str()));
            bearerd(&words, &[]).await.with(0);
        }
    }
    let ended = demo.end_by(Signal::INT).await.with(0);
    assert_eq!(ended.err, "");
    assert_eq!(temporary.files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refused_request_and_an_innocent_one_are_told_apart() {
    let temporary = Temporary::new();
    let mut demo = Child::spawn(&["demo"], &[("TMPDIR", &temporary.1)]);
    demo.until_out("Ctrl-C ends it").await;
    let told = demo.out();
    let url = told.lines().find_map(|line| line.trim().strip_prefix("curl http://")).unwrap().to_owned();
    assert_eq!(curl(&format!("-H 'Origin: https://evil.example' http://{url}")).await.status, 403);
    assert_eq!(curl(&format!("http://{url}")).await.status, 200);
    demo.until_out("└▶ 200, with token ").await;
    let ended = demo.end_by(Signal::INT).await.with(0);
    let (_, told) = ended.out.split_once("Ctrl-C ends it").unwrap();
    let refused =
        "  GET /orders/1 HTTP/1.1\n  Origin: https://evil.example\n  └▶ bearerd answered 403 web_origin itself";
    let (before, after) = told.split_once(refused).unwrap();
    assert!(!before.contains("GET /orders/1"), "{told}");
    // The panel of the other one shows nothing of it.
    assert!(after.contains("what the app sent") && !after.contains("evil"), "{told}");
}

#[tokio::test]
async fn taken_ports_are_no_hindrance() {
    // Somebody else may have them, which is as good.
    let held: Vec<_> = [4280, 4281].map(|port| TcpListener::bind(("127.0.0.1", port))).into();
    let temporary = Temporary::new();
    let mut demo = Child::spawn(&["demo"], &[("TMPDIR", &temporary.1)]);
    demo.until_out("Ctrl-C ends it").await;
    let told = demo.out();
    let lines: Vec<&str> = told.lines().filter_map(|line| line.trim().strip_prefix("curl http://")).collect();
    for (held, line) in held.iter().zip([lines[0], lines.last().unwrap()]) {
        let port = line.split(['/', ':']).nth(1).unwrap();
        assert!(held.is_err() || held.as_ref().unwrap().local_addr().unwrap().port().to_string() != port, "{line}");
    }
    assert_eq!(curl(&format!("http://{}", lines[0])).await.status, 200);
    demo.end_by(Signal::TERM).await.with(0);
    assert_eq!(temporary.files(), Vec::<String>::new());
}

#[tokio::test]
async fn without_a_place_for_its_files_it_says_so() {
    let ended = bearerd(&["demo", "--once"], &[("TMPDIR", "/nowhere/at-all")]).await.with(1).silent();
    ended.says(&["error: cannot create `/nowhere/at-all/bearerd-demo-", "set TMPDIR"]);
}

/// What curl would do with the rest of the line.
async fn curl(line: &str) -> Answer {
    let mut words = line.split_whitespace();
    let (mut proxy, mut header, mut url) = (None, String::new(), "");
    while let Some(word) = words.next() {
        match word {
            "-x" => proxy = words.next(),
            "-H" => header = format!("\n{} {}", words.next().unwrap(), words.next().unwrap()).replace('\'', ""),
            // `'Authorization: Bearer forged'` has one word more.
            word if word.ends_with('\'') => header = format!("{header} {}", word.trim_end_matches('\'')),
            word => url = word,
        }
    }
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let (to, target) = match proxy {
        Some(proxy) => (proxy.strip_prefix("http://").unwrap(), url),
        None => (host, path),
    };
    let to: SocketAddr = to.parse().unwrap();
    App::connect(to).await.ask(&format!("GET {target} HTTP/1.1\nHost: {host}{header}")).await
}
