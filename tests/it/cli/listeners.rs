//! Sockets and certificates of a process of its own: strangers of this machine, what a start that fails says, and the
//! probe, which finds the instance however it listens.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use bearerd::demo::certs::Ca;
use rustix::process::Signal;

use super::child::{BINARY, Child, Ended, bearerd, command};
use super::stage::Stage;
use crate::support::eventually;

/// Nobody's number on most systems; it owns nothing here.
const NOBODY: u32 = 65_534;

/// Runs bearerd as nobody, in no group of ours.
async fn as_nobody(arguments: &[&str]) -> Ended {
    let mut command = command(arguments, &[]);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    Child::start(command).ended().await
}

/// Only root can be somebody else, and only if somebody else can read the binary.
#[expect(clippy::print_stdout, reason = "who reads of a pass is to know what was not tried")]
fn can_be_nobody() -> bool {
    let mut version = std::process::Command::new(BINARY);
    version.arg("--version").uid(NOBODY).gid(NOBODY).stdout(std::process::Stdio::null());
    let can = rustix::process::geteuid().is_root() && version.status().is_ok_and(|status| status.success());
    if !can {
        println!("skipped: this test needs root, and a binary that others may run");
    }
    can
}

fn open(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A configuration whose `admin` is this; what the probe asks.
fn asking(stage: &Stage, admin: &str) -> String {
    stage.folder.write("asking.yaml", &stage.usual().replace("admin: 127.0.0.1:0", &format!("admin: {admin}")));
    open(&stage.folder.path("asking.yaml"), 0o644);
    stage.at("asking.yaml")
}

#[tokio::test]
async fn a_stranger_is_refused_by_bearerd_itself_unless_somebody_let_it_in() {
    if !can_be_nobody() {
        return;
    }
    for (keys, lets_in) in
        [("", false), ("mode: 0644", false), ("mode: 0606", true), ("group: 65534", true), ("owner: 65534", true)]
    {
        let stage = Stage::new().await;
        open(&stage.folder.path(""), 0o755);
        let (app, admin) = (stage.folder.path("app.sock"), stage.folder.path("admin.sock"));
        let listen = format!(
            "listen: ['127.0.0.1:0', {{address: 'unix:{}', {keys}}}]\nadmin: {{address: 'unix:{}', {keys}}}",
            app.display(),
            admin.display()
        );
        let usual = stage.usual().replace("listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0", &listen);
        stage.folder.write("bearerd.yaml", &usual);
        let mut running = stage.run(&[]).await.ready().await;
        // As the app of a base URL, whose `/livez` is the API's.
        for (socket, asked) in [(&app, 1), (&admin, 0)] {
            let file = asking(&stage, &format!("unix:{}", socket.display()));
            let before = stage.api.count();
            if !lets_in {
                as_nobody(&["health", "--config", &file]).await.with(1).says(&["the socket is not for this user"]);
            }
            // The kernel's word does not count here: a system that lets everybody in would do so.
            open(socket, 0o666);
            let ended = as_nobody(&["health", "--config", &file]).await;
            if lets_in {
                ended.with(0);
            } else {
                ended.with(1).says(&["no instance answers at `unix:"]);
                running.child.until_err("it is another user's; `mode`, `group` and `owner` can let it in").await;
            }
            assert_eq!(stage.api.count() - before, u64::from(lets_in) * asked, "{keys} {}", socket.display());
            // We are who runs it.
            bearerd(&["health", "--config", &file], &[]).await.with(0);
        }
        running.child.end_by(Signal::TERM).await.with(0);
        assert!(!app.exists() && !admin.exists());
    }
}

#[tokio::test]
async fn a_secret_that_belongs_to_another_user_is_told_with_what_to_do() {
    if !can_be_nobody() {
        return;
    }
    let stage = Stage::new().await;
    open(&stage.folder.path(""), 0o755);
    open(&stage.folder.path("bearerd.yaml"), 0o644);
    open(&stage.folder.path("ca.pem"), 0o644);
    for command in ["check", "run"] {
        let ended = as_nobody(&[command, "--config", &stage.file()]).await.with(78).silent();
        let ended = ended.says(&[
            "tokens.main.client_secret: `",
            "secret` may not be read by this user",
            "hint: give the user",
        ]);
        assert!(ended.err.ends_with("error: 1 problem in the configuration\n"), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_socket_belongs_to_whom_it_was_given() {
    use std::os::unix::fs::MetadataExt as _;
    if !can_be_nobody() {
        return;
    }
    let stage = Stage::new().await;
    let socket = stage.folder.path("app.sock");
    let listen =
        format!("listen: ['127.0.0.1:0', {{address: 'unix:{}', owner: 65534, group: 65533}}]", socket.display());
    stage.folder.write("bearerd.yaml", &stage.usual().replace("listen: [127.0.0.1:0]", &listen));
    let running = stage.run(&[]).await;
    let metadata = socket.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (NOBODY, 65_533, 0o660));
    running.child.end_by(Signal::TERM).await.with(0);
}

/// Killed, a process leaves its socket behind, and the next start is no failure for it.
#[tokio::test]
async fn a_start_after_a_crash_takes_the_socket_over() {
    let stage = Stage::new().await;
    let socket = stage.folder.path("app.sock");
    let listen = format!("listen: ['127.0.0.1:0', 'unix:{}']", socket.display());
    stage.folder.write("bearerd.yaml", &stage.usual().replace("listen: [127.0.0.1:0]", &listen));
    let mut running = stage.run(&[]).await;
    running.child.until_err(&format!("\"address\":\"unix:{}\"", socket.display())).await;
    // A second start does not disturb the first.
    let ended = bearerd(&["run", "--config", &stage.file()], &[]).await.with(1).silent();
    ended.says(&["app.sock: another program listens there\n  hint: another program has it"]);
    running.child.end_by(Signal::KILL).await;
    assert!(socket.exists());
    let running = stage.run(&[]).await;
    running.child.end_by(Signal::TERM).await.with(0);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_start_that_fails_says_what_to_do() {
    let stage = Stage::new().await;
    let socket = stage.folder.path("app.sock");
    let entry = |keys: &str| format!("listen: {{address: 'unix:{}', {keys}}}", socket.display());
    let with = |line: &str| stage.folder.write("bearerd.yaml", &stage.usual().replace("listen: [127.0.0.1:0]", line));
    with(&entry("group: no-such-group"));
    let ended = bearerd(&["run", "--config", &stage.file()], &[]).await.with(78).silent();
    ended.says(&["no group is called `no-such-group`", "hint: write its number where names are not known"]);
    let ended = bearerd(&["check", "--config", &stage.file()], &[]).await.with(0);
    ended.says(&["no group is called `no-such-group` on this machine, so `run` would not start here"]);
    with(&entry(""));
    std::fs::write(&socket, "precious").unwrap();
    let ended = bearerd(&["run", "--config", &stage.file()], &[]).await.with(1).silent();
    ended.says(&["what is there is not a socket", "hint: move it away"]);
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");

    // TLS files are looked into, by `run` and by `check`.
    let identity = Ca::new().unwrap().identity(&["localhost"]).unwrap();
    stage.folder.write("cert.pem", &identity.cert_pem);
    for (key, client_ca, told) in [
        ("not a key", "", "key.pem` cannot be read as PEM"),
        (&*Ca::new().unwrap().identity(&["x"]).unwrap().key_pem, "", "do not make a server's certificate"),
        (&*identity.key_pem, ", client_ca_file: key.pem", "key.pem` holds no certificate"),
    ] {
        stage.folder.write("key.pem", key);
        let tls = format!("tls: {{cert_file: cert.pem, key_file: key.pem{client_ca}}}");
        with(&format!("listen: {{name: egress, address: '127.0.0.1:0', {tls}}}"));
        for deed in ["run", "check"] {
            let ended = bearerd(&[deed, "--config", &stage.file()], &[]).await.with(78).silent();
            ended.says(&["listener `egress`: tls: `", told, "1 problem in the configuration"]);
        }
    }
}

#[tokio::test]
async fn the_probe_finds_it_on_a_socket() {
    let stage = Stage::new().await;
    let admin = format!("admin: 'unix:{}'", stage.folder.path("admin.sock").display());
    stage.folder.write("bearerd.yaml", &stage.usual().replace("admin: 127.0.0.1:0", &admin));
    let running = stage.run(&[]).await.ready().await;
    for arguments in [&["health"][..], &["health", "--ready"]] {
        let file = stage.file();
        let arguments = [arguments, &["--config", &file]].concat();
        assert_eq!(bearerd(&arguments, &[]).await.with(0).out, "ok\n");
    }
    running.child.end_by(Signal::TERM).await.with(0);
    let ended = bearerd(&["health", "--config", &stage.file()], &[]).await.with(1).silent();
    ended.says(&["no instance answers at `unix:/", "admin.sock`: ", "hint: is `bearerd run` up"]);
}

#[tokio::test]
async fn the_probe_speaks_tls_and_does_not_mind_a_certificate_that_is_being_replaced() {
    let stage = Stage::new().await;
    let identity = Ca::new().unwrap().identity(&["pages.corp.test"]).unwrap();
    stage.folder.write("cert.pem", &identity.cert_pem);
    stage.folder.write("key.pem", &identity.key_pem);
    let admin = |address: &str| format!("{{address: '{address}', tls: {{cert_file: cert.pem, key_file: key.pem}}}}");
    let usual = stage.usual().replace("admin: 127.0.0.1:0", &format!("admin: {}", admin("127.0.0.1:0")));
    stage.folder.write("bearerd.yaml", &usual);
    let mut running = stage.run(&[]).await.ready().await;
    let file = asking(&stage, &admin(&running.page("admin").to_string()));
    bearerd(&["health", "--ready", "--config", &file], &[]).await.with(0);
    stage.folder.replace("cert.pem", "half of a certificate");
    running.child.until_err("\"event\":\"certificate_unusable\"").await;
    bearerd(&["health", "--ready", "--config", &file], &[]).await.with(0);
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn the_probe_asks_health_where_admin_wants_to_know_who_asks() {
    let stage = Stage::new().await;
    let identity = Ca::new().unwrap().identity(&["pages.corp.test"]).unwrap();
    stage.folder.write("cert.pem", &identity.cert_pem);
    stage.folder.write("key.pem", &identity.key_pem);
    let admin =
        "admin: {address: '127.0.0.1:0', tls: {cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem}}";
    let health = stage.folder.path("health.sock");
    let with_health = format!("{admin}\nhealth: 'unix:{}'", health.display());
    let usual = |admin: &str| stage.usual().replace("admin: 127.0.0.1:0", admin);
    stage.folder.write("bearerd.yaml", &usual(&with_health));
    let running = stage.run(&[]).await.ready().await;
    eventually("the socket is there", || health.exists()).await;
    bearerd(&["health", "--ready", "--config", &stage.file()], &[]).await.with(0);
    stage.folder.write("bearerd.yaml", &usual(admin));
    let ended = bearerd(&["health", "--config", &stage.file()], &[]).await.with(1).silent();
    ended.says(&["`admin` asks for a certificate or a name", "hint: switch `health` on"]);
    running.child.end_by(Signal::TERM).await.with(0);
}
