//! `exec`: a real command with the proxy beside it, which it notices by its environment alone.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use bearerd::demo::answer::{Answer, Latch};
use rustix::process::Signal;

use super::child::{self, BINARY, Child, bearerd};
use super::stage::{Stage, borrowed};
use crate::support::{App, PATIENCE, SECRET, eventually};

/// Where a shell finds `env` and `sleep`.
const PATH: (&str, &str) = ("PATH", "/usr/bin:/bin");

/// `exec` of a shell with the stage's configuration, these arguments and this script.
fn exec<'a>(file: &'a str, more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["exec", "--config", file], more, &["--", "/bin/sh", "-c", script]].concat()
}

/// Runs it to its end.
async fn done(stage: &Stage, more: &[&str], script: &str) -> child::Ended {
    bearerd(&exec(&stage.file(), more, script), &[PATH]).await
}

/// What it printed behind `NAME=`.
fn told(out: &str, name: &str) -> Option<String> {
    out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

/// The address in `http://ADDRESS` and what follows it.
fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap()
}

/// One whose command says where the proxy is and goes on until it is told to end.
async fn lasting(stage: &Stage) -> (Child, SocketAddr) {
    let script = "echo URL=$BEARERD_URL; while :; do sleep 0.05; done";
    let mut child = Child::spawn(&exec(&stage.file(), &[], script), &[PATH]);
    child.until_out("URL=http://127.0.0.1:").await;
    child.until_out("\n").await;
    let url = told(&child.out(), "URL").unwrap();
    (child, address(&url))
}

#[tokio::test]
async fn the_command_is_told_whom_to_trust_where_a_route_intercepts() {
    let stage = Stage::new().await;
    // The API is on this machine, and for that no proxy is used.
    let curl = format!("NO_PROXY= no_proxy= curl -sS {}/curled", stage.api.url());
    let script = format!("env; if command -v curl >/dev/null; then {curl}; fi");
    let (of_connect, of_trust) = (["HTTPS_PROXY", "https_proxy"], ["SSL_CERT_FILE", "GIT_SSL_CAINFO"]);
    stage.folder.write("bearerd.yaml", &format!("tunnel: ['db.example.test:5432']\n{}", stage.usual()));
    let ended = done(&stage, &[], "env").await.with(0);
    assert_eq!(of_connect.map(|name| told(&ended.out, name)), of_connect.map(|_| told(&ended.out, "HTTP_PROXY")));
    assert_eq!(of_trust.map(|name| told(&ended.out, name)), [None, None]);

    let text = stage.usual().replace("    token: main\n", "    token: main\n    intercept: true\n");
    stage.folder.write("bearerd.yaml", &format!("intercept: {{ca_dir: ca}}\n{text}"));
    // By a path from where bearerd is started, which need not be where the command is.
    let arguments = exec("bearerd.yaml", &[], &script);
    let mut command = child::command(&arguments, &[PATH]);
    command.current_dir(stage.folder.path(""));
    let ended = Child::start(command).ended().await.with(0);
    assert_eq!(of_connect.map(|name| told(&ended.out, name)), of_connect.map(|_| told(&ended.out, "HTTP_PROXY")));
    let bundle = Some(stage.at("ca/bundle.pem"));
    assert_eq!(of_trust.map(|name| told(&ended.out, name)), of_trust.map(|_| bundle.clone()));
    assert_eq!(told(&ended.out, "NODE_EXTRA_CA_CERTS"), Some(stage.at("ca/ca.pem")));
    let curled = stage.api.requests().iter().filter(|seen| seen.target == "/curled").count();
    let has_curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    assert_eq!(curled, usize::from(has_curl), "{}", ended.err);
}

/// In an image that holds nothing but bearerd: what the app gets still trusts the world besides.
#[tokio::test]
async fn the_bundle_has_mozillas_roots_where_the_system_has_none() {
    let stage = Stage::new().await;
    let text = stage.usual().replace("    token: main\n", "    token: main\n    intercept: true\n");
    stage.folder.write("bearerd.yaml", &format!("intercept: {{ca_dir: {}}}\n{text}", stage.at("ca")));
    let script = r#"echo "ROOTS=$(grep -c BEGIN "$SSL_CERT_FILE")""#;
    let file = stage.file();
    let ended = bearerd(&exec(&file, &[], script), &[PATH, ("SSL_CERT_FILE", "/away")]).await.with(0);
    let roots: usize = told(&ended.out, "ROOTS").unwrap().parse().unwrap();
    assert!(roots > 100, "{roots}");
}

#[tokio::test]
async fn the_command_gets_the_proxys_address_and_none_of_its_secrets() {
    let stage = Stage::new().await;
    let text = stage.usual().replace("{file: secret}", "{env: APP_SECRET}");
    let text = text.replace("    token: main\n", "    token: main\n    headers: {X-Key: {env: APIM_KEY}}\n");
    stage.folder.write("bearerd.yaml", &text);
    let file = stage.file();
    let arguments = exec(&file, &[], "env");
    let variables = [
        PATH,
        ("APP_SECRET", SECRET),
        ("APIM_KEY", "y-x-canary"),
        ("BEARERD_CLIENT_SECRET", ""),
        ("BEARERD_CONFIG", "/away.yaml"),
        ("BEARERD_URL", "http://another.example"),
        ("BEARERD_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("CREDENTIALS_DIRECTORY", "/run/credentials/x"),
        ("NOTIFY_SOCKET", "/run/notify"),
        ("LISTEN_PID", "1"),
        ("LISTEN_PIDFDID", "1"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "x"),
        ("LISTEN_ADDR", ":8080"),
        ("WATCHDOG_PID", "1"),
        ("WATCHDOG_USEC", "1000000"),
        ("http_proxy", "http://proxy.corp:3128"),
        ("HTTPS_PROXY", "http://proxy.corp:3128"),
        ("NO_PROXY", "api.example.com"),
        ("LANG", "C"),
    ];
    let ended = bearerd(&arguments, &variables).await.with(0);
    assert_eq!(ended.err, "", "at warn there is nothing to say");
    let url = told(&ended.out, "BEARERD_URL").unwrap();
    let mut expected = vec![
        "PATH=/usr/bin:/bin".to_owned(),
        format!("BEARERD_URL={url}"),
        format!("HTTP_PROXY={url}"),
        format!("http_proxy={url}"),
        "NO_PROXY=localhost,127.0.0.1,::1".to_owned(),
        "no_proxy=localhost,127.0.0.1,::1".to_owned(),
        // Nothing is tunnelled, so this is the app's own affair.
        "HTTPS_PROXY=http://proxy.corp:3128".to_owned(),
        "LANG=C".to_owned(),
    ];
    let own = |line: &&str| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|name| line.starts_with(name));
    let mut seen: Vec<_> = ended.out.lines().filter(own).map(str::to_owned).collect();
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_the_command_asks_for_has_a_token_and_it_is_there_at_once() {
    let stage = Stage::new().await;
    let (child, address) = lasting(&stage).await;
    assert_eq!(stage.provider.log().len(), 1, "the token was there before the command");
    assert_eq!(App::connect(address).await.get("/orders/7").await.status, 200);
    let seen = stage.api.log().wait_for(1, PATIENCE).await.unwrap();
    assert_eq!((seen[0].target.as_str(), seen[0].authorization_lines), ("/orders/7", 1));
    child.end_by(Signal::TERM).await.with(143);
}

#[tokio::test]
async fn the_url_is_that_of_the_default_route_or_the_first() {
    let stage = Stage::new().await;
    let (usual, url) = (stage.usual(), stage.api.url().to_owned());
    let another = |name: &str, matched: &str| {
        format!("  - {{name: {name}, match: {matched}, upstream: '{url}', token: main, tls: {{ca_file: ca.pem}}}}\n")
    };
    let first = usual.replace("    token: main\n", "    token: main\n    match: {path: /v2}\n");
    let two = "listen: [127.0.0.1:0, {name: two, address: localhost:0}]";
    for (text, behind, says) in [
        (first.clone(), "/v2", None),
        (first.clone() + &another("default", "{path: /v3/x}"), "/v3/x", None),
        (first.clone() + &another("other", "{path: /v3}"), "/v2", None),
        (usual.clone() + &another("default", "{host: orders.localhost}"), "", None),
        (usual.clone() + &another("default", "{host: orders.example}"), "", Some("is for the Host `orders.example`")),
        (usual.replace("listen: [127.0.0.1:0]", two) + &another("default", "{listen: two}"), "", None),
    ] {
        stage.folder.write("bearerd.yaml", &text);
        let ended = done(&stage, &[], "echo URL=$BEARERD_URL; echo PROXY=$HTTP_PROXY").await.with(0);
        let (url, proxy) = (told(&ended.out, "URL").unwrap(), told(&ended.out, "PROXY").unwrap());
        if text.contains("host: orders.localhost") {
            assert_eq!(url, format!("http://orders.localhost:{}", address(&proxy).port()));
        } else {
            assert_eq!(url, format!("{proxy}{behind}"), "{text}");
        }
        match says {
            Some(says) => assert!(ended.err.contains(says), "{}", ended.err),
            None => assert_eq!(ended.err, ""),
        }
    }
}

#[tokio::test]
async fn a_route_is_reached_by_the_listener_that_it_asks_for() {
    let stage = Stage::new().await;
    let text = stage.usual().replace("listen: [127.0.0.1:0]", "listen: [127.0.0.1:0, {name: two, address: '[::1]:0'}]");
    let text = text.replace("    token: main\n", "    token: main\n    match: {listen: two}\n");
    stage.folder.write("bearerd.yaml", &text);
    let (child, address) = lasting(&stage).await;
    assert_eq!(App::connect(address).await.get("/").await.status, 200);
    child.end_by(Signal::TERM).await.with(143);
}

#[tokio::test]
async fn it_ends_with_the_commands_exit_code() {
    let stage = Stage::new().await;
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137)] {
        let ended = done(&stage, &[], script).await.with(code);
        assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""), "{script}");
    }
    for (program, code, why) in [
        ("/nowhere/app", 127, "No such file"),
        ("nowhere-app", 127, "No such file"),
        ("/etc/passwd", 126, "Permission denied"),
    ] {
        let ended = bearerd(&["exec", "--config", &stage.file(), "--", program], &[PATH]).await.with(code).silent();
        ended.says(&[&format!("error: `{program}` cannot be started: {why}")]);
    }
}

#[tokio::test]
async fn what_the_command_says_and_hears_is_its_own() {
    let stage = Stage::new().await;
    let file = stage.file();
    let mut command = child::command(&exec(&file, &[], "cat; echo err >&2"), &[PATH]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from outside").unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"from outside"[..], &b"err\n"[..]));
    let ended = done(&stage, &["--log-level", "info"], "echo out").await.with(0);
    assert_eq!(ended.out, "out\n");
    ended.says(&["\"event\":\"listening\"", "\"event\":\"ready\"", "the end of the command"]);
    let variables = [PATH, ("BEARERD_LOG_LEVEL", "info")];
    bearerd(&exec(&file, &[], ":"), &variables).await.with(0).says(&["\"event\":\"ready\""]);
    stage.configure("log: {level: debug}\n");
    assert_eq!(done(&stage, &[], ":").await.with(0).err, "", "a file's level is for `run`");
}

#[tokio::test]
async fn signals_are_passed_on_and_the_command_decides() {
    let stage = Stage::new().await;
    let names = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"];
    let traps: String = names.iter().map(|name| format!("trap 'echo got {name}' {name}; ")).collect();
    let script = format!("{traps} echo up; while [ ! -e {} ]; do sleep 0.05; done; exit 3", stage.at("end"));
    let mut child = Child::spawn(&exec(&stage.file(), &[], &script), &[PATH]);
    child.until_out("up\n").await;
    let signals = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];
    for (name, signal) in names.iter().zip(signals) {
        child.signal(signal);
        child.until_out(&format!("got {name}\n")).await;
    }
    stage.folder.write("end", "");
    let ended = child.ended().await.with(3);
    assert_eq!(ended.out.lines().count(), 1 + names.len(), "each once: {}", ended.out);
}

/// With a terminal of its own, which `script` gives.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_terminal_sends_is_not_sent_again() {
    let stage = Stage::new().await;
    let wait = "while [ ! -e \"$1\" ]; do sleep 0.05; done; exit 4";
    let traps = "trap 'echo int.' INT; trap 'echo usr1.' USR1";
    stage.folder.write("app", &format!("{traps}; echo \"<$PPID>\"; {wait}"));
    // The command has Ctrl-C from the terminal; in a session of its own it has none, and is to get none.
    for (by, expected) in [("", 1), ("setsid ", 0)] {
        let (app, end) = (stage.at("app"), stage.at(&format!("end{expected}")));
        let line = format!("exec {BINARY} exec --config {} -- {by}/bin/sh {app} {end}", stage.file());
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        command.env_clear().envs([PATH, ("SHELL", "/bin/sh")]);
        let (mut child, mut keys) = Child::with_keys(command);
        child.until_out(">").await;
        let out = child.out();
        let pid = out.split(['<', '>']).nth(1).unwrap().parse().unwrap();
        keys.write_all(b"\x03").unwrap();
        child.until_out("^C").await;
        // What would be passed on twice comes before what is sent now.
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::USR1).unwrap();
        child.until_out("usr1.").await;
        std::fs::write(end, "").unwrap();
        let ended = child.ended().await.with(4);
        assert_eq!(ended.out.matches("int.").count(), expected, "{by}: {}", ended.out);
    }
}

#[tokio::test]
async fn without_a_token_the_command_is_not_started() {
    let stage = Stage::new().await;
    stage.provider.stop().await;
    let ended = done(&stage, &["--wait", "300ms"], "echo started").await.with(1).silent();
    ended.says(&[
        "error: not ready within 300ms: waiting for token main; the command was not started",
        "\"token_failed\"",
    ]);
    let text = stage.usual().replace("    refresh:", "    required: false\n    refresh:");
    stage.folder.write("bearerd.yaml", &text);
    assert_eq!(done(&stage, &[], "echo started").await.with(0).out, "started\n", "nobody waits for this one");
}

#[tokio::test]
async fn a_signal_ends_the_wait() {
    let stage = Stage::new().await;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        stage.provider.log().clear();
        stage.provider.script().push(Answer::hang());
        let child = Child::spawn(&exec(&stage.file(), &["--wait", "1h"], "echo started"), &[PATH]);
        stage.provider.wait_for(1, PATIENCE).await.unwrap();
        child.end_by(signal).await.with(code).silent();
    }
}

#[tokio::test]
async fn the_configurations_own_ports_are_left_to_others() {
    let stage = Stage::new().await;
    let taken: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [app, admin, health] = [0, 1, 2].map(|index: usize| taken[index].local_addr().unwrap());
    let text =
        stage.usual().replace("listen: [127.0.0.1:0]", &format!("listen: ['{app}', 'unix:{}']", stage.at("app.sock")));
    let text = text.replace("admin: 127.0.0.1:0", &format!("admin: '{admin}'\nhealth: '{health}'"));
    stage.folder.write("bearerd.yaml", &text);
    let script = format!("test -e {} || echo none", stage.at("app.sock"));
    assert_eq!(done(&stage, &[], &script).await.with(0).out, "none\n");
    stage.folder.write("bearerd.yaml", &text.replace(&format!("admin: '{admin}'"), "admin: off"));
    done(&stage, &[], ":").await.with(0);
}

#[tokio::test]
async fn a_port_for_everybody_is_opened_only_for_who_asks() {
    let stage = Stage::new().await;
    let socket = format!("listen: ['unix:{}']", stage.at("app.sock"));
    stage.folder.write("bearerd.yaml", &stage.usual().replace("listen: [127.0.0.1:0]", &socket));
    let ended = done(&stage, &[], "echo started").await.with(1).silent();
    ended.says(&["`listen` has no plain TCP address", "`--listen localhost:0`"]);
    done(&stage, &["--listen", "localhost:0"], ":").await.with(0);
    let named = format!("listen: [127.0.0.1:0, {{name: app, address: 'unix:{}'}}]", stage.at("app.sock"));
    let text = stage.usual().replace("listen: [127.0.0.1:0]", &named)
        + &format!("  - {{name: aside, match: {{listen: app}}, upstream: '{}', token: none}}\n", stage.api.url());
    stage.folder.write("bearerd.yaml", &text);
    done(&stage, &[], ":").await.with(0).says(&["route `aside` is left out"]);
}

#[tokio::test]
async fn without_a_file_variables_are_enough() {
    let stage = Stage::new().await;
    let mut variables = stage.variables();
    variables.push(("PATH", PATH.1.to_owned()));
    let ended = bearerd(&["exec", "--", "/bin/sh", "-c", "env"], &borrowed(&variables)).await.with(0);
    let ours: Vec<_> = ended.out.lines().filter(|line| line.starts_with("BEARERD_")).collect();
    assert!(matches!(ours[..], [url] if url.starts_with("BEARERD_URL=http://127.0.0.1:")), "{ours:?}");
}

#[tokio::test]
async fn what_outlives_the_command_is_not_waited_for() {
    let stage = Stage::new().await;
    stage.configure("shutdown: {delay: 1h, timeout: 1h}\n");
    let (child, address) = lasting(&stage).await;
    stage.api.script().push(Answer::Held(Latch::new(), Box::new(Answer::Serve)));
    let mut app = App::connect(address).await;
    app.send(app.head("GET /never HTTP/1.1")).await;
    stage.api.log().wait_for(1, PATIENCE).await.unwrap();
    child.end_by(Signal::TERM).await.with(143);
}

/// The limits and ignored signals of a shell's child, and of the same child within `exec`.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn limits_and_ignored_signals_are_the_commands_as_they_were() {
    let stage = Stage::new().await;
    let probe = "ulimit -Sc; ulimit -Hc; ulimit -Sn; ulimit -Hn; grep SigIgn /proc/self/status";
    let around = |exec: &str| {
        format!("trap '' HUP USR2; ulimit -Sn 200; ulimit -Sc $(ulimit -Hc); exec {exec} /bin/sh -c '{probe}'")
    };
    let run = |exec: String| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &around(&exec)]).env_clear().env("PATH", PATH.1);
        Child::start(command).ended()
    };
    let bare = run(String::new()).await.with(0).out;
    assert!(bare.contains("\n200\n"), "{bare}");
    let within = run(format!("{BINARY} exec --config {} --", stage.file())).await.with(0).out;
    assert_eq!(within, bare);
}

/// Whatever is lent to the command: a dump of the proxy is not made.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_own_memory_stays_its_own() {
    let stage = Stage::new().await;
    let line = format!("ulimit -Sc $(ulimit -Hc); exec {BINARY} exec --config {} -- /bin/sleep 600", stage.file());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &line]).env_clear().envs([PATH]);
    let child = Child::start(command);
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.pid())).unwrap_or_default();
    let children = format!("task/{}/children", child.pid());
    eventually("the command is started", || of("comm") == "bearerd\n" && !of(&children).is_empty()).await;
    eventually("core dumps are off", || {
        let limits = of("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
        core.split_whitespace().nth(4) == Some("0")
    })
    .await;
    child.end_by(Signal::TERM).await.with(143);
}
