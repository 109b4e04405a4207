//! Apps on a unix socket, whose file says who may come, and pages on another.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use bearerd::app::Bound;
use bearerd::config::{self, Disk, Environment, Sources};
use bearerd::inbound::Inherited;
use bearerd::observe::Observer;
use bearerd::observe::log::{Format, Level, Log, LogSettings};
use tokio::net::UnixListener;

use super::{moment, rig_with, route, targets};
use crate::support::{API, App, PATIENCE, Rig, eventually};

/// A rig with `keys` at its only listener, `app.sock`, and further lines.
async fn rig_on_socket(keys: &str, more: &str) -> Rig {
    rig_with(|rig| {
        let (socket, route) = (rig.folder.path("app.sock"), route(rig, "api", "", ""));
        format!("listen: {{address: 'unix:{}', {keys}}}\n{more}\nroutes:\n{route}", socket.display())
    })
    .await
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn an_app_is_served_whatever_host_it_names() {
    // By the worker that accepts itself, and by those that are handed what others accept.
    for workers in [1, 2] {
        let rig = rig_on_socket("", &format!("workers: {workers}")).await;
        let mut app = App::connect_to(&rig.folder.path("app.sock")).await;
        for host in ["localhost", "anything.example", "192.168.1.1", "0.0.0.0:80"] {
            assert_eq!(app.ask(&format!("GET /x HTTP/1.1\nHost: {host}")).await.status, 200, "{host}");
        }
        assert_eq!(app.ask(&format!("GET http://{API}/x HTTP/1.1\nHost: {API}")).await.status, 200);
        assert_eq!(targets(&rig), ["/x"; 5]);
    }
}

#[tokio::test]
async fn a_web_page_is_refused_there_too() {
    let rig = rig_on_socket("", "").await;
    let mut app = App::connect_to(&rig.folder.path("app.sock")).await;
    for line in [
        "Host: localhost\nOrigin: https://evil.test",
        "Host: localhost\nSec-Fetch-Site: cross-site",
        // A name that was made to point here is at home nowhere.
        "Host: evil.test\nOrigin: http://evil.test",
        "Host: evil.test\nSec-Fetch-Site: same-origin",
    ] {
        let answer = app.ask(&format!("GET /x HTTP/1.1\n{line}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (403, "web_origin"), "{line}");
    }
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn the_file_says_what_was_written_and_goes_with_the_proxy() {
    let group = rustix::process::getegid().as_raw();
    for (keys, expected) in [
        (String::new(), 0o600),
        ("mode: 0666".to_owned(), 0o666),
        (format!("group: {group}"), 0o660),
        (format!("group: {group}, mode: 0620"), 0o620),
        (format!("owner: {}, mode: 0640", rustix::process::geteuid().as_raw()), 0o640),
    ] {
        let rig = rig_on_socket(&keys, "").await;
        let socket = rig.folder.path("app.sock");
        assert_eq!((mode(&socket), socket.metadata().unwrap().gid()), (expected, group), "{keys}");
        rig.proxy.until_said(&format!("listens on unix:{}", socket.display())).await;
        assert_eq!(App::connect_to(&socket).await.get("/x").await.status, 200, "{keys}");
        assert_eq!(rig.proxy.end().await.cut_off, 0);
        assert!(!socket.exists(), "{keys}");
    }
}

#[tokio::test]
async fn a_socket_that_is_anothers_by_the_end_is_left() {
    let rig = rig_on_socket("", "").await;
    let socket = rig.folder.path("app.sock");
    std::fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    rig.proxy.end().await;
    assert!(socket.exists());
    drop(other);
}

#[tokio::test]
async fn an_app_in_flight_is_finished_when_its_socket_is_gone() {
    use bearerd::demo::answer::{Answer, Latch};
    let rig = rig_on_socket("", "").await;
    let socket = rig.folder.path("app.sock");
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    let mut app = App::connect_to(&socket).await;
    app.send(app.head("GET /long HTTP/1.1")).await;
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    rig.proxy.signal().await;
    eventually("the socket is gone", || !socket.exists()).await;
    latch.open();
    assert_eq!(app.answer().await.status, 200);
    assert!(app.is_closed().await);
}

/// What the rig's configuration says when it is to be bound again.
fn bind_again(rig: &Rig) -> Result<Bound, String> {
    let flags = [("config".to_owned(), rig.folder.path("bearerd.yaml").display().to_string())];
    let sources = Sources { flags: &flags, environment: &Environment::new(), files: &Disk, parallelism: 1 };
    let plan = config::load(&sources).unwrap_or_else(|problems| panic!("{problems}")).plan;
    let log = Log::to(LogSettings { level: Level::Info, format: Format::Pretty }, |_| {});
    Bound::new(plan, Inherited::default(), Observer::new(log)).map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_a_dead_process_left_is_replaced_and_a_living_one_is_not() {
    let rig = rig_on_socket("", "").await;
    let socket = rig.folder.path("app.sock");
    let told = bind_again(&rig).err().unwrap();
    assert_eq!(told, format!("cannot listen on unix:{}: another program listens there", socket.display()));
    assert_eq!(App::connect_to(&socket).await.get("/x").await.status, 200, "the living one lives on");
    rig.proxy.signal().await;
    eventually("the socket is gone", || !socket.exists()).await;

    // Dropped by tokio, and by the system when a process dies, a socket's file stays.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let bound = bind_again(&rig).unwrap();
    assert_eq!(mode(&socket), 0o600);
    drop(bound);
    assert!(!socket.exists(), "what never ran leaves nothing behind");

    for put in [
        |path: &Path| std::fs::write(path, "precious").unwrap(),
        |path: &Path| std::fs::create_dir(path).unwrap(),
        |path: &Path| std::os::unix::fs::symlink("/nowhere", path).unwrap(),
    ] {
        put(&socket);
        let before = socket.symlink_metadata().unwrap().ino();
        let told = bind_again(&rig).err().unwrap();
        assert_eq!(told, format!("cannot listen on unix:{}: what is there is not a socket", socket.display()));
        assert_eq!(socket.symlink_metadata().unwrap().ino(), before, "it is left alone");
        let _ = std::fs::remove_file(&socket).or_else(|_| std::fs::remove_dir(&socket));
    }
}

/// A socket that listens, with a queue of this length.
fn socket_of(path: &Path, queue: i32) -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, queue).unwrap();
    socket
}

/// Another's whose queue is full: to ask it must not wait for it.
#[tokio::test]
async fn a_living_one_that_accepts_nobody_is_seen_as_well() {
    let rig = rig_on_socket("", "").await;
    let socket = rig.folder.path("app.sock");
    rig.proxy.signal().await;
    eventually("the socket is gone", || !socket.exists()).await;
    let full = socket_of(&socket, 0);
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::net::UnixStream::connect(&socket).await {
        waiting.push(stream);
        assert!(waiting.len() < 100, "a queue that is never full");
    }
    let told = bind_again(&rig).err().unwrap();
    assert!(told.ends_with("another program listens there"), "{told}");
    drop(full);
}

#[tokio::test]
async fn a_user_or_group_that_is_not_there_leaves_nothing_behind() {
    for (keys, told) in [
        ("owner: no-such-user", "no user is called `no-such-user`"),
        ("group: no-such-group", "no group is called `no-such-group`"),
    ] {
        let rig = rig_on_socket("", "").await;
        let socket = rig.folder.path("app.sock");
        rig.proxy.signal().await;
        eventually("the socket is gone", || !socket.exists()).await;
        let document = std::fs::read_to_string(rig.folder.path("bearerd.yaml")).unwrap();
        rig.folder.write("bearerd.yaml", &document.replace(", }", &format!(", {keys}}}")));
        assert!(bind_again(&rig).err().unwrap().ends_with(told), "{keys}");
        assert!(!socket.exists(), "{keys}");
    }
}

#[tokio::test]
async fn the_pages_are_on_sockets_of_their_own() {
    let rig = rig_with(|rig| {
        let (admin, health) = (rig.folder.path("admin.sock"), rig.folder.path("health.sock"));
        let route = route(rig, "api", "", "");
        format!("admin: 'unix:{}'\nhealth: 'unix:{}'\nroutes:\n{route}", admin.display(), health.display())
    })
    .await;
    let (admin, health) = (rig.folder.path("admin.sock"), rig.folder.path("health.sock"));
    for page in ["/livez", "/readyz", "/metrics", "/status"] {
        let admin = || App::connect_to(&admin);
        for host in ["localhost", "anything.example"] {
            assert_eq!(admin().await.ask(&format!("GET {page} HTTP/1.1\nHost: {host}")).await.status, 200, "{page}");
        }
        let head = format!("GET {page} HTTP/1.1\nHost: evil.test\nOrigin: http://evil.test");
        assert_eq!(admin().await.ask(&head).await.status, 403, "{page}");
        let expected = if page == "/status" { 404 } else { 200 };
        assert_eq!(App::connect_to(&health).await.get(page).await.status, expected, "{page}");
    }
    assert_eq!((mode(&admin), mode(&health)), (0o600, 0o600));
    rig.proxy.end().await;
    assert!(!admin.exists() && !health.exists());
}

/// A unix socket knows no reset, and an app over it is held to the same limits.
#[tokio::test]
async fn one_that_says_nothing_is_not_waited_for() {
    let rig = rig_on_socket("", "limits: {head: 200ms, idle: 60s}").await;
    let mut silent = App::connect_to(&rig.folder.path("app.sock")).await;
    let mut served = App::connect_to(&rig.folder.path("app.sock")).await;
    assert_eq!(served.get("/x").await.status, 200);
    assert!(silent.is_closed().await);
    moment(400).await;
    assert_eq!(served.get("/y").await.status, 200, "between two requests there is more time");
}
