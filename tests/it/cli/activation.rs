//! Sockets that were bound before bearerd began, as systemd hands them over: they stay open when one bearerd ends and the
//! next begins, so that nobody who connects in between is refused.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::child::{BINARY, Child, bearerd, command};
use super::stage::{Running, Stage};
use crate::support::{App, eventually};

/// As systemd runs it: the sockets are the descriptors from 3 on, and a variable has the number of this very process, which
/// the shell has that becomes it.
pub(crate) fn activated(arguments: &[&str], environment: &[(&str, &str)], sockets: &[impl AsFd]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "export LISTEN_PID=$$; exec \"$@\"", "sh", BINARY]).args(arguments);
    command.env_clear().env("LISTEN_FDS", sockets.len().to_string()).envs(environment.iter().copied());
    let mapping = |(child_fd, socket): (i32, &_)| FdMapping { parent_fd: copy(socket), child_fd };
    command.fd_mappings((3..).zip(sockets).map(mapping).collect()).unwrap();
    command
}

fn copy(socket: &impl AsFd) -> OwnedFd {
    socket.as_fd().try_clone_to_owned().unwrap()
}

/// A listener and where it is.
pub(crate) fn on_loopback() -> (OwnedFd, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket.into(), address)
}

fn on_a_file(path: &Path) -> OwnedFd {
    UnixListener::bind(path).unwrap().into()
}

/// The usual configuration with these listeners.
fn listening(stage: &Stage, listen: &str) -> String {
    stage.folder.write("bearerd.yaml", &stage.usual().replace("listen: [127.0.0.1:0]", &format!("listen: {listen}")));
    stage.file()
}

/// Whether one request by a connection of its own is answered as it should be.
async fn is_served(stream: std::io::Result<impl AsyncRead + AsyncWrite + Unpin>) -> Result<(), String> {
    let asked = async {
        let mut stream = stream?;
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&heard).into_owned())
    };
    match asked.await {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => Ok(()),
        Ok(answer) => Err(answer),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn a_restart_under_load_refuses_nobody() {
    for workers in [1, 2] {
        let stage = Stage::new().await;
        let (tcp, address) = on_loopback();
        let path = stage.folder.path("app.sock");
        let sockets = [tcp, on_a_file(&path)];
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = path.metadata().unwrap();
        let listen =
            format!("[{{name: tcp, address: '{address}'}}, {{name: file, address: 'unix:{}'}}]", path.display());
        stage.configure("");
        let file = listening(&stage, &format!("{listen}\nworkers: {workers}"));
        let start = || async { Running::of(Child::start(activated(&["run", "--config", &file], &[], &sockets))).await };

        let mut running = start().await.ready().await;
        for name in [address.to_string(), format!("unix:{}", path.display())] {
            running.child.until_err(&format!("{name}, by an inherited socket")).await;
        }
        let (begun, done, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::default());
        let mut apps = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (begun, done, path) = (Arc::clone(&begun), Arc::clone(&done), path.clone());
            let failed: Arc<std::sync::Mutex<Vec<String>>> = Arc::clone(&failed);
            apps.spawn(async move {
                loop {
                    begun.fetch_add(1, Ordering::Relaxed);
                    let served = match number % 2 {
                        0 => is_served(TcpStream::connect(address).await).await,
                        _ => is_served(UnixStream::connect(&path).await).await,
                    };
                    match served {
                        Ok(()) => _ = done.fetch_add(1, Ordering::Relaxed),
                        Err(why) => return failed.lock().unwrap().push(why),
                    }
                }
            });
        }
        for _ in 0..2 {
            let enough = done.load(Ordering::Relaxed) + 100;
            eventually("a hundred are served", || done.load(Ordering::Relaxed) >= enough).await;
            running.child.end_by(Signal::TERM).await.with(0).says(&["every exchange was finished"]);
            // Nobody serves now, and everybody waits.
            let waiting = || begun.load(Ordering::Relaxed) - done.load(Ordering::Relaxed);
            eventually("everybody waits", || waiting() >= 8).await;
            assert_eq!(*failed.lock().unwrap(), Vec::<String>::new());
            let now = path.metadata().expect("the file stays");
            assert_eq!((now.ino(), now.mode(), now.uid()), (before.ino(), before.mode(), before.uid()));
            running = start().await;
        }
        let enough = done.load(Ordering::Relaxed) + 100;
        eventually("a hundred are served", || done.load(Ordering::Relaxed) >= enough).await;
        apps.shutdown().await;
        running.child.end_by(Signal::TERM).await.with(0);
        assert_eq!(*failed.lock().unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn each_socket_serves_whoever_is_configured_at_its_address() {
    let stage = Stage::new().await;
    let (first, port) = on_loopback();
    let port = port.port();
    let (admin, admin_at) = on_loopback();
    let (health, health_at) = on_loopback();
    let mut sockets = vec![health, first, admin];
    // A machine without IPv6 has one half of `localhost`.
    let second = TcpListener::bind(("::1", port));
    let both = second.is_ok();
    sockets.extend(second.map(OwnedFd::from));
    let listen = format!("['localhost:{port}', '127.0.0.1:0']\nhealth: {health_at}");
    listening(&stage, &listen);
    let text = std::fs::read_to_string(stage.folder.path("bearerd.yaml")).unwrap();
    stage.folder.write("bearerd.yaml", &text.replace("admin: 127.0.0.1:0", &format!("admin: {admin_at}")));
    let file = stage.file();
    let mut running = Running::of(Child::start(activated(&["run", "--config", &file], &[], &sockets))).await;
    running.child.until_err("127.0.0.1:0 listens on").await;
    let mut running = running.ready().await;
    assert_eq!(App::connect(([127, 0, 0, 1], port).into()).await.get("/x").await.status, 200);
    if both {
        let mut app = App::connect(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))).await;
        assert_eq!(app.get("/x").await.status, 200);
    }
    for at in [admin_at, health_at] {
        assert_eq!(App::connect(at).await.get("/readyz").await.status, 200, "{at}");
    }
    // What none was given for is bound as ever.
    running.child.until_err("\"inherited\":false").await;
    let ended = running.child.end_by(Signal::TERM).await.with(0);
    assert_eq!(ended.err.matches("\"inherited\":true").count(), sockets.len());
    assert_eq!(ended.err.matches("\"inherited\":false").count(), 1 + usize::from(!both));
}

#[tokio::test]
async fn a_socket_that_nobody_names_or_that_is_no_listener_is_refused_by_name() {
    let stage = Stage::new().await;
    let file = listening(&stage, "[127.0.0.1:0]");
    let run = |sockets: &[OwnedFd], name: &str| {
        Child::start(activated(&["run", "--config", &file], &[("LISTEN_FDNAMES", name)], sockets)).ended()
    };
    let (nobodys, address) = on_loopback();
    let ended = run(&[nobodys], "bearerd.socket").await.with(78).silent();
    ended.says(&[
        &format!(
            "error: the inherited socket 3 (bearerd.socket) is at {address}, where no listener is that needs it\n"
        ),
        &format!("hint: write `{address}` as the address of `listen`, `admin` or `health`"),
        "`ListenStream=`",
    ]);
    let path = stage.folder.path("other.sock");
    let ended = run(&[on_a_file(&path)], "").await.with(78);
    ended.says(&[&format!("error: the inherited socket 3 is at unix:{}, where no", path.display())]);
    // What `ListenStream=` with a port alone is. That is said, and not that another program has the listener's address.
    let every = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = every.local_addr().unwrap();
    let elsewhere = listening(&stage, &format!("['localhost:{}']", address.port()));
    let ended = Child::start(activated(&["run", "--config", &elsewhere], &[], &[every])).ended().await.with(78);
    ended.says(&[&format!("error: the inherited socket 3 is at {address}, where no"), "not a port alone"]);
    let (fine, address) = on_loopback();
    let file = listening(&stage, &format!("['{address}']"));
    for count in ["", "one", "-1", "2147483647"] {
        let command = activated(&["run", "--config", &file], &[("LISTEN_FDS", count)], &[copy(&fine)]);
        let ended = Child::start(command).ended().await.with(78).silent();
        ended.says(&[&format!("error: `LISTEN_FDS` is {count:?}, which is no number of inherited sockets")]);
    }
    let connected = std::net::TcpStream::connect(address).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
    let no_socket = std::fs::File::open("/dev/null").unwrap();
    for wrong in [connected.into(), datagrams.into(), left.into(), no_socket.into()] {
        let sockets: [OwnedFd; 2] = [copy(&fine), wrong];
        let command = activated(&["run", "--config", &file], &[("LISTEN_FDNAMES", "a:b")], &sockets);
        let ended = Child::start(command).ended().await.with(78).silent();
        ended.says(&[
            "error: the inherited socket 4 (b) is none that TCP or unix streams are accepted on",
            "`Accept=no`",
        ]);
    }
}

#[tokio::test]
async fn a_file_that_lets_in_more_than_the_listener_says_is_refused() {
    let stage = Stage::new().await;
    let path = stage.folder.path("app.sock");
    let socket = [on_a_file(&path)];
    let group = rustix::process::getegid().as_raw();
    let listen = format!("[{{address: 'unix:{}', group: {group}}}]", path.display());
    let file = listening(&stage, &listen);
    for (mode, fine) in [(0o666, false), (0o660, true)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut child = Child::start(activated(&["run", "--config", &file], &[], &socket));
        if fine {
            child.until_err("\"event\":\"ready\"").await;
            assert_eq!(App::connect_to(&path).await.get("/x").await.status, 200);
            child.end_by(Signal::TERM).await.with(0);
        } else {
            let ended = child.ended().await.with(78);
            ended.says(&["the inherited socket's file belongs to", "mode 0666", "`SocketMode=`"]);
        }
    }
}

#[tokio::test]
async fn what_was_given_to_another_process_is_not_taken() {
    let stage = Stage::new().await;
    let file = listening(&stage, "[127.0.0.1:0]");
    for variables in [&[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")][..], &[("LISTEN_FDS", "1")]] {
        let mut command = command(&["run", "--config", &file], variables);
        let (other, _) = on_loopback();
        command.fd_mappings(vec![FdMapping { parent_fd: other, child_fd: 3 }]).unwrap();
        let running = Running::of(Child::start(command)).await.ready().await;
        running.child.end_by(Signal::TERM).await.with(0);
    }
    // `exec` has ports of its own.
    let (other, _) = on_loopback();
    let arguments = ["exec", "--config", &file, "--", "/bin/sh", "-c", "echo $LISTEN_FDS$LISTEN_PID"];
    let ended = Child::start(activated(&arguments, &[], &[other])).ended().await.with(0);
    assert_eq!(ended.out, "\n");
    bearerd(&["check", "--config", &file], &[("LISTEN_FDS", "1")]).await.with(0);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_child_gets_neither_sockets_nor_what_tells_of_them() {
    let stage = Stage::new().await;
    let (socket, address) = on_loopback();
    let (secret, heard) = (stage.at("secret"), stage.at("heard"));
    let script = format!("/bin/ls -l /proc/self/fd > {heard}; /usr/bin/env >> {heard}; /bin/cat {secret}");
    let text = stage.usual().replace("{file: secret}", &format!("{{exec: [/bin/sh, -c, '{script}']}}"));
    stage.folder.write("bearerd.yaml", &text.replace("listen: [127.0.0.1:0]", &format!("listen: ['{address}']")));
    let file = stage.file();
    let variables = [("LISTEN_FDNAMES", "a"), ("WATCHDOG_USEC", "60000000"), ("NOTIFY_SOCKET", "/nowhere")];
    let running = Running::of(Child::start(activated(&["run", "--config", &file], &variables, &[socket]))).await;
    let running = running.ready().await;
    let heard = std::fs::read_to_string(heard).unwrap();
    assert!(heard.contains(" 1 -> ") && heard.contains("PWD="), "{heard}");
    for not_theirs in ["socket:", "LISTEN_", "WATCHDOG_", "NOTIFY_"] {
        assert!(!heard.contains(not_theirs), "{not_theirs} in {heard}");
    }
    running.child.end_by(Signal::TERM).await.with(0);
}
