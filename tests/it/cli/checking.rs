//! `bearerd check`: the plan without a secret, or every problem at once; and `run` refuses what it refuses.

use std::time::{Duration, SystemTime};

use bearerd::demo::certs::Ca;
use rustix::process::Signal;

use super::child::{bearerd, command};
use super::stage::Stage;

#[tokio::test]
async fn it_prints_the_plan_and_no_secret() {
    let stage = Stage::new().await;
    let inline = stage.usual().replace("{file: secret}", "inline-x-canary");
    let inline = inline.replace("    token: main\n", "    token: main\n    headers: {X-Api-Key: key-x-canary}\n");
    let inline = inline.replace("client_id: app", "client_id: app\n    params: {api_key: param-x-canary}");
    stage.folder.write("bearerd.yaml", &inline);
    let checked = bearerd(&["check", "--config", &stage.file()], &[]).await.with(0);
    for line in ["upstream: ", "client_id: app\n", "client_secret: \"[redacted]\"\n", "early: 25%\n"] {
        assert!(checked.out.contains(line), "{line}: {}", checked.out);
    }
    // Talk goes to standard error, so that the rest can be piped.
    assert!(checked.out.starts_with("# ") && !checked.out.contains("warning"), "{}", checked.out);
    checked.says(&["warning: ", "a secret is written in the configuration", "hint: use `{file: PATH}`"]);
    assert_eq!(stage.provider.count(), 0, "it asks nobody");
}

#[tokio::test]
async fn what_it_prints_loads_again() {
    let stage = Stage::new().await;
    let checked = bearerd(&["check", "--config", &stage.file()], &[]).await.with(0);
    assert_eq!(checked.err, "");
    stage.folder.write("again.yaml", &checked.out);
    let again = bearerd(&["check", "--config", &stage.at("again.yaml")], &[]).await.with(0);
    assert_eq!(checked.out.split_once('\n').unwrap().1, again.out.split_once('\n').unwrap().1);
}

#[tokio::test]
async fn every_problem_is_told_at_once_and_run_tells_the_same() {
    let stage = Stage::new().await;
    let wrong = stage
        .usual()
        .replace("listen: [127.0.0.1:0]", "lisen: [127.0.0.1:0]")
        .replace("client_id: app", "client_id: ''")
        .replace("{file: secret}", "{file: not-there}")
        .replace(stage.api.url(), "api.example.com")
        .replace("token: main", "token: mian");
    stage.folder.write("bearerd.yaml", &wrong);
    let file = stage.file();
    let checked = bearerd(&["check", "--config", &file, "--log-level", "loud"], &[]).await.with(78).silent();
    let checked = checked.says(&[
        &format!("{file}:1:1: lisen: unknown key (did you mean `listen`?)"),
        ":6:16: tokens.main.client_id: ",
        "not-there` does not exist",
        "hint: write the scheme too: `https://api.example.com`",
        ":13:12: routes[0].token: no token is called that (did you mean `main`?)",
        "flag --log-level: log.level: expected `error`",
        "error: 6 problems in the configuration",
    ]);
    let ran = bearerd(&["run", "--config", &file, "--log-level", "loud"], &[]).await.with(78).silent();
    assert_eq!(ran.err, checked.err);
    assert_eq!(stage.provider.count(), 0);
}

#[tokio::test]
async fn tls_files_that_hold_no_certificate_are_told_all_at_once() {
    let stage = Stage::new().await;
    stage.folder.write("not.pem", "hello\n");
    stage.folder.write("broken.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
    let wrong = stage.usual().replacen("ca.pem", "not.pem", 1).replacen("ca.pem", "broken.pem", 1);
    stage.folder.write("bearerd.yaml", &wrong);
    for command in ["check", "run"] {
        let ended = bearerd(&[command, "--config", &stage.file()], &[]).await.with(78).silent();
        ended.says(&[
            &format!("token `main`: tls: `{}` holds no certificate", stage.at("not.pem")),
            &format!("route `api`: tls: `{}` ", stage.at("broken.pem")),
            "hint: a PEM file holds `-----BEGIN",
            "error: 2 problems in the configuration",
        ]);
    }
}

#[tokio::test]
async fn certificates_that_end_soon_are_told_and_the_others_are_not() {
    let stage = Stage::new().await;
    let ca = Ca::new().unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let listener = "listen: {address: '127.0.0.1:0', tls: {cert_file: cert.pem, key_file: key.pem}}";
    let usual = stage.usual().replace("listen: [127.0.0.1:0]", listener);
    let client = "tls: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}";
    for (end, told) in [(SystemTime::now() - day, "has expired"), (SystemTime::now() + 13 * day, "expires soon")] {
        let identity = ca.identity_until(&["localhost"], end).unwrap();
        stage.folder.write("cert.pem", &identity.cert_pem);
        stage.folder.write("key.pem", &identity.key_pem);
        let date = humantime::format_rfc3339_seconds(end).to_string();
        for (yaml, whose) in [
            (usual.clone(), "listener `127.0.0.1:0`"),
            (stage.usual().replacen("tls: {ca_file: ca.pem}", client, 1), "token `main`"),
            (
                stage.usual().replacen("main\n    tls: {ca_file: ca.pem}", &format!("main\n    {client}"), 1),
                "route `api`",
            ),
            (stage.usual().replacen("ca.pem", "cert.pem", 1), "token `main`"),
        ] {
            stage.folder.write("bearerd.yaml", &yaml);
            let ended = bearerd(&["check", "--config", &stage.file()], &[]).await.with(0);
            let text =
                format!("warning: {whose}: tls: the certificate in `{}` {told}: {}", stage.at("cert.pem"), &date[..10]);
            let ended = ended.says(&[&text, "hint: have it renewed"]);
            assert_eq!(ended.err.matches("warning").count(), 1, "{}", ended.err);
        }
        stage.folder.write("bearerd.yaml", &usual);
        let running = stage.run(&[]).await.ready().await;
        running.child.end_by(Signal::TERM).await.with(0).says(&["config_warning", told]);
    }
    let identity = ca.identity_until(&["localhost"], SystemTime::now() + 15 * day).unwrap();
    // Of several authorities one counts.
    let old = ca.identity_until(&["x"], SystemTime::now() - day).unwrap();
    stage.folder.write("cert.pem", &identity.cert_pem);
    stage.folder.write("key.pem", &identity.key_pem);
    stage.folder.write("ca.pem", &format!("{}{}", old.cert_pem, ca.pem()));
    stage.folder.write("bearerd.yaml", &usual);
    assert_eq!(bearerd(&["check", "--config", &stage.file()], &[]).await.with(0).err, "");
}

/// std reads it: the processors that may be used, and of the cgroup the quota, be it of version 1 or 2.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn there_are_as_many_workers_as_processors_are_granted() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let stage = Stage::new().await;
    stage.configure("workers: auto\n");
    let file = stage.file();
    let granted = std::thread::available_parallelism().unwrap().get();
    let ended = bearerd(&["check", "--config", &file], &[]).await.with(0);
    assert!(ended.out.contains(&format!("\nworkers: {}\n", granted.min(4))), "{granted}: {}", ended.out);
    // A child may use what the thread may that starts it.
    let on_one = std::thread::spawn(move || {
        let all = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|processor| all.is_set(*processor)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        command(&["check", "--config", &file], &[]).output().unwrap()
    });
    let out = String::from_utf8(on_one.join().unwrap().stdout).unwrap();
    assert!(out.contains("\nworkers: 1\n"), "{out}");
}

#[tokio::test]
async fn a_file_that_is_missing_at_start_is_78() {
    let stage = Stage::new().await;
    for (there, missing) in [("{file: secret}", "{file: gone}"), ("ca_file: ca.pem", "ca_file: gone")] {
        stage.folder.write("bearerd.yaml", &stage.usual().replace(there, missing));
        let ended = bearerd(&["run", "--config", &stage.file()], &[]).await.with(78).silent();
        ended.says(&["gone` does not exist"]);
    }
}

#[tokio::test]
async fn a_first_start_without_anything_says_what_there_is_to_do() {
    if std::path::Path::new("/etc/bearerd/config.yaml").exists() {
        return;
    }
    bearerd(&[], &[]).await.with(78).silent().says(&[
        "/etc/bearerd/config.yaml: does not exist",
        "`--config`",
        "`BEARERD_UPSTREAM`",
        "`bearerd demo`",
    ]);
    // Whoever sets variables wants no file.
    let ended = bearerd(&["run"], &[("BEARERD_CLIENT_ID", "app")]).await.with(78);
    ended.says(&["neither flags nor environment name an upstream; set `BEARERD_UPSTREAM` (`--upstream`)"]);
    let ended = bearerd(&["run"], &[("BEARERD_UPSTREAM", "https://api.example.com")]).await.with(78);
    ended
        .says(&["hint: set `BEARERD_TOKEN_URL` (`--token-url`) or `BEARERD_ISSUER` (`--issuer`)", "error: 3 problems"]);
    // And mistypes one.
    let ended = bearerd(&["check"], &[("BEARERD_UPSTREAN", "https://api.example.com")]).await.with(78);
    ended.says(&["environment BEARERD_UPSTREAN", "did you mean `BEARERD_UPSTREAM`?"]);
}
