//! `bearerd health`: the probe of an image without a shell, so its exit code is all that counts; and a person's first
//! question, so its words count too.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::child::{Child, bearerd};
use super::stage::{Running, Stage};
use crate::support::App;

/// The probe's configuration: the running one's, with the ports that were found.
fn found(stage: &Stage, running: &Running, admin: bool) -> String {
    let page = running.page(if admin { "admin" } else { "health" });
    let text = std::fs::read_to_string(stage.folder.path("bearerd.yaml")).unwrap();
    let key = if admin { "admin: 127.0.0.1:0" } else { "health: 127.0.0.1:0" };
    let text = text.replace(key, &key.replace("127.0.0.1:0", &page.to_string()));
    stage.folder.write("found.yaml", &text);
    stage.at("found.yaml")
}

#[tokio::test]
async fn it_asks_the_running_one_by_its_admin_pages() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await.ready().await;
    let file = found(&stage, &running, true);
    for arguments in [&["health", "--config", &file][..], &["health", "--ready", "--config", &file]] {
        let ended = bearerd(arguments, &[]).await.with(0);
        assert_eq!((&*ended.out, &*ended.err), ("ok\n", ""));
    }
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn with_admin_off_it_asks_the_health_listener() {
    let stage = Stage::new().await;
    let off = stage.usual().replace("admin: 127.0.0.1:0", "admin: off\nhealth: 127.0.0.1:0");
    stage.folder.write("bearerd.yaml", &off);
    let running = stage.run(&[]).await.ready().await;
    let file = found(&stage, &running, false);
    bearerd(&["health", "--ready", "--config", &file], &[]).await.with(0);
    running.child.end_by(Signal::TERM).await.with(0);
    stage.folder.write("bearerd.yaml", &off.replace("health: 127.0.0.1:0", "health: off"));
    let ended = bearerd(&["health", "--config", &stage.file()], &[]).await.with(1).silent();
    ended.says(&["neither `admin` nor `health` is on"]);
}

#[tokio::test]
async fn a_variable_opens_the_health_port_to_a_kubelet() {
    let stage = Stage::new().await;
    for file in [stage.usual(), stage.usual().replace("admin: 127.0.0.1:0", "admin: off\nhealth: off")] {
        stage.folder.write("bearerd.yaml", &file);
        let running = Child::spawn(&["run", "--config", &stage.file()], &[("BEARERD_HEALTH", "0.0.0.0:0")]);
        let running = Running::of(running).await.ready().await;
        let port = running.page("health").port();
        // What a kubelet sends: the pod's address is the Host, and on some clusters a name.
        for host in ["10.244.1.7:4282", "[fd00::7]:4282", "pod.example.com"] {
            let mut probe = App::connect(([127, 0, 0, 1], port).into()).await;
            probe.send(format!("GET /readyz HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/1.37\r\n\r\n")).await;
            assert_eq!(probe.answer().await.status, 200, "{host}");
        }
        let health = format!("0.0.0.0:{port}");
        let (file, off) = (stage.file(), ("BEARERD_ADMIN", "off"));
        for ready in [&["health"][..], &["health", "--ready"]] {
            let arguments = [ready, &["--config", &file]].concat();
            bearerd(&arguments, &[("BEARERD_HEALTH", &health), off]).await.with(0);
        }
        bearerd(&["health", "--health", &health, "--config", &file], &[off]).await.with(0);
        running.child.end_by(Signal::TERM).await.with(0);
    }
}

#[tokio::test]
async fn before_the_first_token_it_lives_and_is_not_ready_for_a_named_reason() {
    let stage = Stage::new().await;
    stage.provider.stop().await;
    let mut running = stage.run(&[]).await;
    running.child.until_err("\"event\":\"token_failed\"").await;
    let file = found(&stage, &running, true);
    bearerd(&["health", "--config", &file], &[]).await.with(0);
    let ended = bearerd(&["health", "--ready", "--config", &file], &[]).await.with(1).silent();
    ended.says(&["error: waiting for token main\n"]);
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn a_drain_is_not_ready_and_lives() {
    let stage = Stage::new().await;
    stage.configure("shutdown: {delay: 1h}\n");
    let mut running = stage.run(&[]).await.ready().await;
    let file = found(&stage, &running, true);
    running.child.signal(Signal::TERM);
    running.child.until_err("\"event\":\"draining\"").await;
    bearerd(&["health", "--config", &file], &[]).await.with(0);
    let ended = bearerd(&["health", "--ready", "--config", &file], &[]).await.with(1).silent();
    ended.says(&["error: draining\n"]);
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn nobody_there_is_told_at_once_with_the_address() {
    let stage = Stage::new().await;
    // Bound and not listened on by anybody after this line.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    stage.folder.write("bearerd.yaml", &stage.usual().replace("admin: 127.0.0.1:0", &format!("admin: {address}")));
    let start = Instant::now();
    let ended = bearerd(&["health", "--config", &stage.file()], &[]).await.with(1).silent();
    ended.says(&[&format!("error: no instance answers at `{address}`: "), "hint: is `bearerd run` up"]);
    assert!(start.elapsed() < Duration::from_secs(5), "it does not wait for its timeout");
}

#[tokio::test]
async fn without_a_configuration_it_asks_where_one_is_by_default() {
    if std::path::Path::new("/etc/bearerd/config.yaml").exists() {
        return;
    }
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ended = bearerd(&["health"], &[("BEARERD_ADMIN", &address), ("BEARERD_CLIENT_ID", "c")]).await.with(1);
    ended.says(&[&format!("error: no instance answers at `{address}`"), "name its file with `--config`"]);
    let stage = Stage::new().await;
    let running = stage.run(&[]).await.ready().await;
    bearerd(&["health", "--admin", &running.page("admin").to_string()], &[]).await.with(0);
    running.child.end_by(Signal::TERM).await.with(0);
    // A file that is named has to be there.
    bearerd(&["health", "--config", "/nowhere.yaml"], &[]).await.with(78);
}

#[tokio::test]
async fn a_secret_that_is_gone_for_a_moment_is_not_the_instances_end() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await.ready().await;
    let file = found(&stage, &running, true);
    std::fs::remove_file(stage.folder.path("secret")).unwrap();
    bearerd(&["health", "--config", &file], &[]).await.with(0);
    running.child.end_by(Signal::TERM).await.with(0);
}

#[tokio::test]
async fn secrets_that_only_the_instance_was_given_are_not_asked_for() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await.ready().await;
    let text = std::fs::read_to_string(found(&stage, &running, true)).unwrap();
    let secret = "{file: secret}";
    assert!(text.contains(secret), "{text}");
    let client = "client_secret: {file: secret}";
    let route = "    token: main\n";
    let with_key = format!("{route}    headers: {{X-Api-Key: {{env: GIVEN_BY_A_UNIT}}}}\n");
    for (here, elsewhere) in [
        (secret, "{systemd: client-secret}"),
        (secret, "{env: GIVEN_BY_A_UNIT}"),
        (client, "auth: private_key_jwt\n    private_key: {env: GIVEN_BY_A_UNIT}"),
        (route, &with_key),
    ] {
        stage.folder.write("elsewhere.yaml", &text.replace(here, elsewhere));
        let file = stage.at("elsewhere.yaml");
        bearerd(&["health", "--ready", "--config", &file], &[]).await.with(0);
        bearerd(&["check", "--config", &file], &[]).await.with(78);
    }
    running.child.end_by(Signal::TERM).await.with(0);
}
