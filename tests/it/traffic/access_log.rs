//! The access log: each request leaves one line, at its very end, which says what the app and the API saw; and nobody
//! waits for it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bearerd::demo::answer::Answer;
use bearerd::demo::steps::Step;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{in_time, intercept, last, rig_with, route};
use crate::support::{API, App, Options, PATIENCE, Rig, eventually, full, whole};

const ON: Options =
    Options { life: std::time::Duration::from_secs(3_600), token: "", route: "", top: "access_log: access.log" };

/// A listener without a name is called by its address, as it is written.
const LISTENER: &str = "127.0.0.1:0";

/// The whole lines of a file; what is not there has none.
fn lines_of(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits for so many lines; there are no more.
async fn lines(rig: &Rig, many: usize) -> Vec<Value> {
    let file = rig.folder.path("access.log");
    eventually(&format!("there are {many} lines"), || lines_of(&file).len() >= many).await;
    let lines = lines_of(&file);
    assert_eq!(lines.len(), many, "{lines:#?}");
    lines
}

/// Waits for the line behind so many others.
async fn next(rig: &Rig, before: &mut usize) -> Value {
    *before += 1;
    lines(rig, *before).await.pop().unwrap()
}

/// Whether a line says so of these names.
#[track_caller]
fn says(line: &Value, names: &[(&str, Value)]) {
    for (name, value) in names {
        assert_eq!(&line[name], value, "{name} in {line:#}");
    }
}

fn seconds(line: &Value, name: &str) -> f64 {
    line[format!("{name}_seconds")].as_f64().unwrap_or_else(|| panic!("{name} in {line}"))
}

fn null() -> Value {
    Value::Null
}

#[tokio::test]
async fn a_request_leaves_one_line_that_says_what_the_app_and_the_api_saw() {
    let rig = Rig::ready(ON).await;
    let stream = TcpStream::connect(rig.proxy.address).await.unwrap();
    let peer = stream.local_addr().unwrap().to_string();
    let mut app = App::of(stream);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let head = format!(
        "POST /orders/7?code=canary HTTP/1.1\nContent-Length: 5\n\
         Traceparent: 00-{trace}-00f067aa0ba902b7-01\nTracestate: a=b"
    );
    app.send(app.head(&head)).await;
    app.send("hello").await;
    let answer = app.answer().await;
    let seen = last(&rig);
    let line = lines(&rig, 1).await.remove(0);
    says(
        &line,
        &[
            ("listener", LISTENER.into()),
            ("caller", null()),
            ("uid", null()),
            ("peer", peer.into()),
            ("protocol", "HTTP/1.1".into()),
            ("method", "POST".into()),
            ("host", rig.proxy.address.to_string().into()),
            ("path", "/orders/7".into()),
            ("route", "api".into()),
            ("upstream", format!("https://{API}").into()),
            ("status", answer.status.into()),
            ("reason", null()),
            ("token", "main".into()),
            ("fingerprint", seen.token_fingerprint.unwrap().to_string().into()),
            ("credential", crate::support::CLIENT.into()),
            ("sent", 1.into()),
            ("bytes_in", 5.into()),
            ("bytes_out", answer.body.len().into()),
            ("trace_id", trace.into()),
        ],
    );
    let waited = ["queue", "token", "connect", "upstream"].map(|name| seconds(&line, name));
    assert!(waited[2] > 0.0 && waited[3] > 0.0 && waited.iter().sum::<f64>() <= seconds(&line, "total"), "{line}");
    assert_eq!(waited[..2], [0.0; 2], "what is there is not waited for: {line}");
    assert!(!line.to_string().contains("canary"), "{line}");
    // What the app wrote of its trace goes on as it is.
    assert_eq!(seen.header("traceparent"), [format!("00-{trace}-00f067aa0ba902b7-01")]);
    assert_eq!(seen.header("tracestate"), ["a=b"]);

    // And once more by the same connections, the app's and the one to the API.
    assert_eq!(app.get("/x").await.status, 200);
    let line = lines(&rig, 2).await.remove(1);
    says(&line, &[("path", "/x".into()), ("bytes_in", 0.into()), ("trace_id", null())]);
    assert_eq!(seconds(&line, "connect"), 0.0, "{line}");
}

#[tokio::test]
async fn what_a_request_waits_for_is_told_apart() {
    let rig = Rig::ready(Options { route: "limits: {in_flight: 1}", ..ON }).await;
    let mut before = 0;
    // The API refuses the token, and takes the next.
    assert_eq!(rig.get("/first").await.status, 200);
    let first = next(&rig, &mut before).await;
    rig.api.reject(last(&rig).token_fingerprint.unwrap());
    assert_eq!(rig.get("/renewed").await.status, 200);
    let line = next(&rig, &mut before).await;
    let fingerprint = last(&rig).token_fingerprint.unwrap().to_string();
    says(&line, &[("sent", 2.into()), ("fingerprint", fingerprint.into()), ("status", 200.into())]);
    assert!(line["fingerprint"] != first["fingerprint"] && seconds(&line, "token") > 0.0, "{line}");
    // Nobody hears of an answer that the app did not wait for.
    let held = bearerd::demo::answer::Latch::new();
    rig.api.script().push(Answer::from(Answer::status(200)).held_by(&held));
    let asked = rig.api.count();
    let (mut app, mut behind) = (rig.app().await, rig.app().await);
    app.send(app.head("GET /left HTTP/1.1")).await;
    eventually("the API has it", || rig.api.count() > asked).await;
    behind.send(behind.head("GET /behind HTTP/1.1")).await;
    super::moment(20).await;
    drop(app);
    // The only place of the route was taken until then.
    assert_eq!(behind.answer().await.status, 200);
    let [left, behind] = &lines(&rig, before + 2).await[before..] else { panic!("two lines") };
    says(left, &[("status", 499.into()), ("reason", null()), ("sent", 1.into()), ("path", "/left".into())]);
    assert!(behind["path"] == "/behind" && seconds(behind, "queue") > 0.0, "{behind}");
    held.open();
}

#[tokio::test]
async fn a_request_that_no_token_is_there_for_says_which_it_needed() {
    let rig = Rig::with(Options { token: "wait: 1s", ..ON }).await;
    rig.proxy.until_ready().await;
    let rig = {
        let mut rig = rig;
        rig.provider.script().always(Answer::status(500));
        rig.proxy = crate::support::Proxy::start(&rig.folder);
        rig.proxy.until_said("no token as").await;
        rig
    };
    assert_eq!(rig.get("/x").await.status, 503);
    let line = lines(&rig, 1).await.remove(0);
    says(
        &line,
        &[
            ("status", 503.into()),
            ("reason", "no_token".into()),
            ("token", "main".into()),
            ("fingerprint", null()),
            ("credential", null()),
            ("sent", 0.into()),
            ("route", "api".into()),
        ],
    );
}

#[tokio::test]
async fn every_refusal_leaves_a_line_and_so_does_what_is_no_request() {
    let rig = rig_with(|rig| {
        format!(
            "access_log: access.log\nlimits: {{headers: 20}}\nroutes:\n{}",
            route(
                rig,
                "api",
                "",
                "match: {path: /api}\nallow: [{methods: [GET], path: /api/**}]\nstub_token: /api/token"
            )
        )
    })
    .await;
    let mut before = 0;
    let connect = format!("CONNECT {API}:443 HTTP/1.1\nHost: {API}:443");
    let absolute = "GET http://elsewhere.example/x?canary HTTP/1.1\nHost: elsewhere.example";
    for (head, status, reason, path, host) in [
        ("GET /api/../x?canary HTTP/1.1\nHost: localhost", 400, "bad_path", "/api/../x", null()),
        ("GET /api HTTP/1.1\nHost: evil.example", 421, "host_not_ours", "/api", "evil.example".into()),
        (
            "GET /api HTTP/1.1\nHost: localhost\nOrigin: https://evil.example",
            403,
            "web_origin",
            "/api",
            "localhost".into(),
        ),
        ("POST /api/x HTTP/1.1\nHost: localhost\nContent-Length: 0", 403, "not_allowed", "/api/x", "localhost".into()),
        ("GET /none?canary HTTP/1.1\nHost: localhost", 404, "no_route", "/none", "localhost".into()),
        (absolute, 403, "no_route", "/x", "elsewhere.example".into()),
        (&connect, 403, "no_route", "", format!("{API}:443").into()),
    ] {
        let answer = rig.app().await.ask(head).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{head}");
        let line = next(&rig, &mut before).await;
        let path = if path.is_empty() { null() } else { path.into() };
        says(
            &line,
            &[
                ("status", status.into()),
                ("reason", reason.into()),
                ("path", path),
                ("host", host),
                ("method", head.split(' ').next().unwrap().into()),
                ("sent", 0.into()),
                ("token", null()),
                ("bytes_out", answer.body.len().into()),
                ("listener", LISTENER.into()),
            ],
        );
        assert!(!line.to_string().contains("canary"), "{line}");
    }
    // A placeholder is an answer like any other.
    let mut app = rig.app().await;
    app.send(app.head("POST /api/token HTTP/1.1\nContent-Length: 6")).await;
    app.send("canary").await;
    let answer = app.answer().await;
    assert_eq!(answer.status, 200);
    let line = next(&rig, &mut before).await;
    let names = [
        ("status", 200.into()),
        ("route", "api".into()),
        ("token", null()),
        ("sent", 0.into()),
        ("bytes_in", 6.into()),
        ("bytes_out", answer.body.len().into()),
    ];
    says(&line, &names);
    // What is no HTTP has neither method nor path, and by HTTP/2 a head that is too large has both.
    let mut app = rig.app().await;
    app.send("canary\r\n\r\n").await;
    let _ = app.hears_until_end().await;
    let line = next(&rig, &mut before).await;
    says(&line, &[("reason", "bad_request".into()), ("status", null()), ("method", null()), ("path", null())]);
    assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
    let mut app = rig.app2().await;
    let many: String = (0..30).map(|number| format!("\nX-{number}: 1")).collect();
    let response = app.send(app.request(&format!("GET /api/many{many}"), full(""))).await.unwrap();
    assert_eq!(response.status(), 431);
    let line = next(&rig, &mut before).await;
    says(&line, &[("status", 431.into()), ("path", "/api/many".into()), ("protocol", "HTTP/2".into())]);
    assert!(rig.api.requests().is_empty());
}

#[tokio::test]
async fn tunnels_leave_one_line_with_what_went_through_them() {
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = far.local_addr().unwrap().to_string();
    let rig =
        rig_with(|rig| format!("access_log: access.log\ntunnel: ['{place}']\nroutes:\n{}", route(rig, "api", "", "")))
            .await;
    let mut app = rig.app().await;
    app.send(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\nahead")).await;
    assert_eq!(app.answer_to_head().await.status, 200);
    let (mut app, mut server) = (app.into_stream(), in_time(far.accept()).await.unwrap().0);
    app.write_all(&[b'x'; 100_000]).await.unwrap();
    server.write_all(&[b'y'; 7]).await.unwrap();
    server.shutdown().await.unwrap();
    app.shutdown().await.unwrap();
    let mut heard = Vec::new();
    in_time(server.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard.len(), 100_005);
    let line = lines(&rig, 1).await.remove(0);
    says(
        &line,
        &[
            ("method", "CONNECT".into()),
            ("path", null()),
            ("route", "tunnel".into()),
            ("upstream", place.clone().into()),
            ("host", place.into()),
            ("status", 200.into()),
            ("bytes_in", 100_005.into()),
            ("bytes_out", 7.into()),
            ("token", null()),
        ],
    );
    assert!(seconds(&line, "connect") > 0.0, "{line}");
}

#[tokio::test]
async fn a_connect_that_is_decrypted_leaves_a_line_and_each_request_inside_one() {
    let rig = intercept::rig("", "access_log: access.log\ntracing: on").await;
    let mut app = intercept::inside(&rig, "").await;
    let connect = lines(&rig, 1).await.remove(0);
    says(
        &connect,
        &[
            ("method", "CONNECT".into()),
            ("status", 200.into()),
            ("host", format!("{API}:443").into()),
            ("route", null()),
        ],
    );
    for path in ["/v1/a", "/v1/b"] {
        assert_eq!(app.get(&format!("{path}?canary")).await.status, 200);
    }
    let inside = lines(&rig, 3).await;
    for (line, path) in inside[1..].iter().zip(["/v1/a", "/v1/b"]) {
        says(line, &[("path", path.into()), ("route", "api".into()), ("token", "main".into())]);
        assert_eq!((&line["peer"], &line["listener"]), (&connect["peer"], &connect["listener"]));
    }
    // Inside a trace is begun as well.
    let trace = last(&rig).header("traceparent")[0].to_owned();
    assert_eq!(trace.split('-').nth(1), inside[2]["trace_id"].as_str(), "{trace}");
}

#[tokio::test]
async fn a_websocket_is_one_line_at_its_end() {
    let rig = Rig::ready(ON).await;
    let agreeing = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    rig.api.script().push(Answer::Raw(vec![Step::Send(agreeing.into()), Step::Echo]));
    let mut app = rig.app().await;
    let asking = "GET /chat?canary HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(app.ask(asking).await.status, 101);
    let mut stream = app.into_stream();
    stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    in_time(stream.read_exact(&mut heard)).await.unwrap();
    assert!(lines_of(&rig.folder.path("access.log")).is_empty(), "it is not over");
    drop(stream);
    let line = lines(&rig, 1).await.remove(0);
    says(
        &line,
        &[
            ("status", 101.into()),
            ("path", "/chat".into()),
            ("token", "main".into()),
            ("sent", 1.into()),
            ("bytes_in", 5.into()),
            ("bytes_out", 5.into()),
        ],
    );
    assert!(seconds(&line, "connect") > 0.0, "{line}");
}

#[tokio::test]
async fn requests_of_one_http2_connection_leave_a_line_each() {
    let rig = Rig::ready(ON).await;
    let mut app = rig.app2().await;
    let head = "POST /many?canary\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let response = app.send(app.request(head, full("hello"))).await.unwrap();
    let (answer, _) = whole(response).await;
    let line = lines(&rig, 1).await.remove(0);
    says(
        &line,
        &[
            ("protocol", "HTTP/2".into()),
            ("path", "/many".into()),
            ("status", 200.into()),
            ("bytes_in", 5.into()),
            ("bytes_out", answer.body.len().into()),
            ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".into()),
        ],
    );
}

#[tokio::test]
async fn callers_are_named_and_so_are_users_of_a_socket() {
    let rig = rig_with(|rig| {
        let socket = rig.folder.path("app.sock");
        rig.folder.write("billing", "b-canary-1\n");
        format!(
            "access_log: access.log\nlisten:\n- 127.0.0.1:0\n- {{name: sock, address: 'unix:{}'}}\ncallers:\n  clients:\n  \
             - {{name: billing, password: {{file: billing}}}}\nroutes:\n{}",
            socket.display(),
            route(rig, "api", "", "match: {path: /api}\ncallers: [billing]") + &route(rig, "open", "", ""),
        )
    })
    .await;
    let mut before = 0;
    let basic = |pair: &str| format!("Authorization: Basic {}", STANDARD.encode(pair));
    let named = basic("billing:b-canary-1");
    assert_eq!(rig.app().await.ask(&format!("GET /api HTTP/1.1\n{named}")).await.status, 200);
    says(&next(&rig, &mut before).await, &[("caller", "billing".into()), ("uid", null()), ("status", 200.into())]);
    // Whoever is refused was somebody, too.
    let refused = rig.app().await.ask(&format!("GET /api HTTP/1.1\nHost: evil.example\n{named}")).await;
    assert_eq!(refused.reason(), "host_not_ours");
    says(&next(&rig, &mut before).await, &[("caller", "billing".into()), ("status", 421.into())]);
    let wrong = basic("billing:wrong-canary");
    assert_eq!(rig.app().await.ask(&format!("GET /api HTTP/1.1\n{wrong}")).await.status, 401);
    let line = next(&rig, &mut before).await;
    says(&line, &[("caller", null()), ("reason", "caller_unknown".into()), ("route", "api".into())]);
    assert_eq!(App::connect_to(&rig.folder.path("app.sock")).await.get("/x").await.status, 200);
    let uid = rustix::process::geteuid().as_raw();
    says(&next(&rig, &mut before).await, &[("uid", uid.into()), ("peer", null()), ("listener", "sock".into())]);
    let all = std::fs::read_to_string(rig.folder.path("access.log")).unwrap();
    assert!(!all.contains("canary") && !all.contains(&STANDARD.encode("billing:b-canary-1")), "{all}");
}

#[tokio::test]
async fn a_path_cannot_forge_a_line() {
    let rig = Rig::ready(ON).await;
    let mut app = rig.app().await;
    let paths = [
        "/a%0a%0d{}",
        "/%22,%22status%22:200",
        "/a\"},{\"status\":299",
        "/%1b[31m%00",
        "/\u{e9}\u{9b}31m\u{2028}",
        "/%ff",
    ];
    let mut taken = Vec::new();
    for path in paths {
        // Some of them are none to hyper, and that is a line as well.
        app.send(app.head(&format!("GET {path} HTTP/1.1"))).await;
        let status = app.answer().await.status;
        assert!([200, 400].contains(&status), "{path}: {status}");
        taken.push((path, status));
        app = rig.app().await;
    }
    app.send(b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let _ = app.hears_until_end().await;
    let lines = lines(&rig, paths.len() + 1).await;
    for (line, (path, status)) in lines.iter().zip(&taken) {
        let path = if *status == 200 { (*path).into() } else { null() };
        says(line, &[("path", path)]);
    }
    let all = std::fs::read(rig.folder.path("access.log")).unwrap();
    assert!(all.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\n'));
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_a_thousand_lines() {
    let rig = Rig::ready(Options { top: "access_log: access.log\nworkers: 2", ..ON }).await;
    rig.api.set_logging(false);
    let mut apps = JoinSet::new();
    for app in 0..50 {
        let address = rig.proxy.address;
        apps.spawn(async move {
            let mut connection = App::connect(address).await;
            for number in 0..20 {
                assert_eq!(connection.get(&format!("/{app}/{number}?canary")).await.status, 200);
            }
        });
    }
    apps.join_all().await;
    let lines = lines(&rig, 1_000).await;
    let paths: BTreeSet<&str> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths.len(), 1_000);
    let metrics = rig.proxy.page("/metrics").await;
    assert!(metrics.text().contains("bearerd_access_log_dropped_total 0\n"), "{}", metrics.text());
}

#[tokio::test]
async fn what_is_queued_is_written_at_the_end() {
    let rig = Rig::ready(ON).await;
    for number in 0..20 {
        assert_eq!(rig.get(&format!("/{number}")).await.status, 200);
    }
    let Rig { proxy, folder, .. } = rig;
    proxy.end().await;
    // Nothing is waited for: the end comes after the last line.
    assert_eq!(lines_of(&folder.path("access.log")).len(), 20);
}

/// Reads what there is.
fn read(pipe: &mut std::fs::File) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(some @ 1..) = pipe.read(&mut piece) {
        text.extend_from_slice(&piece[..some]);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn nobody_waits_for_a_reader_that_does_not_read_and_what_is_lost_is_counted_and_told() {
    let rig = rig_with(|rig| {
        mknodat(CWD, rig.folder.path("access.log"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        format!("access_log: access.log\nroutes:\n{}", route(rig, "api", "", "match: {path: /api}"))
    })
    .await;
    let flags = OFlags::NONBLOCK.bits().try_into().unwrap();
    let mut pipe =
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open(rig.folder.path("access.log")).unwrap();
    // Refusals are requests as well, and quick ones. The pipe holds some, the queue others, and then there is no room.
    let mut apps = Vec::new();
    for _ in 0..4 {
        let mut app = rig.app2().await;
        apps.push(async move {
            for _ in 0..4_000 {
                let response = app.send(app.request("GET /none", full(""))).await.unwrap();
                assert_eq!(response.status(), 404);
            }
        });
    }
    let mut running: JoinSet<()> = apps.into_iter().collect();
    in_long(async { while running.join_next().await.is_some() {} }).await;
    rig.proxy.until_said("of the access log").await;
    let dropped = |metrics: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with("bearerd_access_log_dropped_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let lost = dropped(rig.proxy.page("/metrics").await.text());
    assert!(lost > 0, "all of them found room");
    // Somebody reads: what was kept comes, whole lines and each once, and then what is asked from now on.
    let mut text = String::new();
    let total = |text: &str| text.matches('\n').count() as u64;
    eventually("what was kept has come", || {
        text.push_str(&read(&mut pipe));
        total(&text) + lost >= 16_000
    })
    .await;
    assert_eq!(rig.get("/none/last").await.status, 404);
    eventually("lines flow again", || {
        text.push_str(&read(&mut pipe));
        text.contains("/none/last")
    })
    .await;
    assert_eq!(total(&text) + lost, 16_001);
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert_eq!(dropped(rig.proxy.page("/metrics").await.text()), lost);
}

/// As [`in_time`], for thousands of requests on a machine that does other things as well.
async fn in_long<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(6 * PATIENCE, work).await.expect("in time")
}

#[tokio::test]
async fn a_file_that_is_rotated_away_is_left_and_a_new_one_begun() {
    let rig = Rig::ready(ON).await;
    let (file, old) = (rig.folder.path("access.log"), rig.folder.path("access.log.1"));
    assert_eq!(rig.get("/before").await.status, 200);
    lines(&rig, 1).await;
    std::fs::rename(&file, &old).unwrap();
    let mut asked = 1;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while lines_of(&file).is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "there is no new file");
        assert_eq!(rig.get("/after").await.status, 200);
        asked += 1;
        super::moment(50).await;
    }
    eventually("all lines are in one of the two", || lines_of(&file).len() + lines_of(&old).len() == asked).await;
    assert_eq!(lines_of(&old)[0]["path"], "/before");
}

#[tokio::test]
async fn a_trace_is_begun_where_there_is_none_and_only_where_that_is_asked_for() {
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    for tracing in [false, true] {
        let top = if tracing { "access_log: access.log\ntracing: on" } else { "access_log: access.log" };
        let rig = Rig::ready(Options { top, ..ON }).await;
        let mut before = 0;
        let mut begun = BTreeSet::new();
        for (lines, is_valid) in [
            ("", false),
            (
                "\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nTracestate: a=b\nTracestate: c=d",
                true,
            ),
            ("\nTraceparent: cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more\nTracestate: a=b", true),
            ("\nTraceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nTracestate: a=b", false),
            ("\nTraceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\nTracestate: a=b", false),
            ("\nTraceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01\nTracestate: a=b", false),
            ("\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nTraceparent: x", false),
        ] {
            assert_eq!(rig.app().await.ask(&format!("GET /x HTTP/1.1{lines}")).await.status, 200);
            let (seen, line) = (last(&rig), next(&rig, &mut before).await);
            let (parents, states) = (seen.header("traceparent"), seen.header("tracestate"));
            let written = |name: &str| -> Vec<String> {
                let lines = lines.lines().filter_map(|line| line.split_once(": "));
                lines.filter(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
            };
            if is_valid || !tracing {
                assert_eq!(parents, written("traceparent"), "byte for byte");
                assert_eq!(states, written("tracestate"));
                says(&line, &[("trace_id", if is_valid { id.into() } else { null() })]);
            } else {
                let [parent] = &parents[..] else { panic!("{parents:?}") };
                assert!(
                    parent.len() == valid.len() && parent.starts_with("00-") && parent.ends_with("-00"),
                    "{parent}"
                );
                assert!(states.is_empty(), "{states:?}");
                says(&line, &[("trace_id", parent.split('-').nth(1).unwrap().into())]);
                assert!(begun.insert(parent.to_string()), "{parent} is not the first of its name");
            }
        }
        // What is sent again belongs to the same trace, and what is refused to one as well.
        let refused = last(&rig).token_fingerprint.unwrap();
        rig.api.reject(refused);
        rig.api.log().clear();
        assert_eq!(rig.get("/again").await.status, 200);
        let traces: Vec<Vec<String>> = rig
            .api
            .requests()
            .iter()
            .map(|seen| seen.header("traceparent").iter().map(ToString::to_string).collect())
            .collect();
        assert!(traces.len() == 2 && traces[0] == traces[1] && traces[0].len() == usize::from(tracing), "{traces:?}");
        says(&next(&rig, &mut before).await, &[("sent", 2.into())]);
        assert_eq!(rig.app().await.ask("GET /x HTTP/1.1\nHost: evil.example").await.status, 421);
        assert_eq!(next(&rig, &mut before).await["trace_id"].is_string(), tracing);
    }
}
