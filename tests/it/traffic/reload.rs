//! Another configuration while traffic goes on: what is new is there for connections that are open already, what is
//! gone is gone, what stayed the same notices nothing, and what is under way ends as it began.

use std::fmt::Write as _;

use bearerd::demo::answer::{Answer, Latch};
use bearerd::demo::certs::Ca;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{accepted, in_time, read_until, route};
use crate::support::{CLIENT, Options, PATIENCE, Proxy, Rig, eventually};

/// A rig that reloads.
struct Stage {
    rig: Rig,
    wish: mpsc::Sender<()>,
    /// The lines of its token.
    token: String,
}

impl Stage {
    /// With these routes and keys; `{main}` in them is the lines of the token that the rig has.
    async fn new(document: impl FnOnce(&Rig) -> String) -> Self {
        let mut rig = Rig::ready(Options::default()).await;
        let token = format!(
            "    token_url: {}\n    client_id: {CLIENT}\n    client_secret: {{file: secret}}\n    \
             tls: {{ca_file: ca.pem}}\n",
            rig.provider.token_url(),
        );
        let document = document(&rig);
        let whole = whole(&token, &document);
        rig.folder.write("bearerd.yaml", &whole);
        let (proxy, wish) = Proxy::start_reloading(&rig.folder);
        rig.proxy = proxy;
        rig.proxy.until_ready().await;
        Self { rig, wish, token }
    }

    fn times(&self, text: &str) -> usize {
        self.rig.proxy.said().matches(text).count()
    }

    /// Puts the document in the configuration's place and says that it is there.
    async fn write(&self, document: &str) {
        self.rig.folder.replace("bearerd.yaml", &whole(&self.token, document));
        // A wish that waits already is as good.
        let _ = self.wish.try_send(());
    }

    /// The same, and waits until it is in force.
    async fn put(&self, document: &str) {
        let times = || self.times(" reloaded; ") + self.times(" reloaded: ");
        let before = times();
        self.write(document).await;
        eventually("it is in force", || times() > before).await;
    }

    /// The same for one that is not to be, for a reason with these words. What was there before may be refused once more:
    /// its file was seen, and then somebody wished for it.
    async fn refused(&self, document: &str, words: &str) -> String {
        let is_refusal = |line: &str| line.contains(" not reloaded") && line.contains(words);
        let times = || self.rig.proxy.said().lines().filter(|line| is_refusal(line)).count();
        let before = times();
        self.write(document).await;
        eventually("it is refused", || times() > before).await;
        self.rig.proxy.said().lines().rfind(|line| is_refusal(line)).unwrap().to_owned()
    }

    async fn status(&self) -> serde_json::Value {
        self.rig.proxy.page("/status").await.json()
    }

    async fn metric(&self, line: &str) -> bool {
        self.rig.proxy.page("/metrics").await.text().lines().any(|one| one == line)
    }
}

/// A document with the token `main`, and the listeners that a test leaves out.
fn whole(token: &str, document: &str) -> String {
    let mut whole = document.replace("{main}", token);
    if !whole.contains("tokens:\n") {
        write!(whole, "tokens:\n  main:\n{token}").unwrap();
    }
    for key in ["listen", "admin"] {
        if !whole.lines().any(|line| line.starts_with(key)) {
            writeln!(whole, "{key}: 127.0.0.1:0").unwrap();
        }
    }
    whole
}

/// Routes for these paths, each by its name.
fn routes(rig: &Rig, names: &[&str]) -> String {
    let all = names.iter().map(|name| route(rig, name, "", &format!("match: {{path: /{name}}}")));
    format!("routes:\n{}", all.collect::<String>())
}

#[tokio::test]
async fn connections_that_are_open_get_new_routes_and_no_old_ones_and_no_token_is_fetched() {
    let stage = Stage::new(|rig| routes(rig, &["stays", "goes"])).await;
    let rig = &stage.rig;
    let (mut app, mut app2) = (rig.app().await, rig.app2().await);
    for (path, status) in [("/stays", 200), ("/goes", 200), ("/comes", 404)] {
        assert_eq!((app.get(path).await.status, app2.get(path).await.status), (status, status), "{path}");
    }
    let (asked, first) = (rig.provider.count(), super::last(rig));
    stage.put(&routes(rig, &["comes", "stays"])).await;
    rig.proxy.until_said("reloaded; routes: +comes -goes\n").await;
    for (path, status) in [("/stays", 200), ("/goes", 404), ("/comes", 200)] {
        assert_eq!((app.get(path).await.status, app2.get(path).await.status), (status, status), "{path}");
    }
    assert_eq!(rig.provider.count(), asked, "the token is the same");
    assert!(
        rig.api.requests().iter().all(|seen| seen.token_fingerprint == first.token_fingerprint),
        "and so it is to the API"
    );
    assert!(stage.metric("bearerd_requests_total{route=\"stays\",code=\"200\"} 4").await, "it counts on");
    let metrics = rig.proxy.page("/metrics").await;
    assert!(!metrics.text().contains("route=\"goes\""), "{}", metrics.text());
    let status = stage.status().await;
    let names: Vec<_> = status["routes"].as_array().unwrap().iter().map(|route| &route["name"]).collect();
    assert_eq!(names, ["comes", "stays"]);
    assert_eq!(status["configuration"]["last_reload"]["outcome"], "applied");
}

#[tokio::test]
async fn what_is_under_way_on_a_route_ends_although_the_route_is_gone() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let stage = Stage::new(|rig| {
        let own = format!("  - {{name: own, match: {{path: /own}}, upstream: 'http://{address}', token: main}}\n");
        routes(rig, &["stays"]) + &own
    })
    .await;
    let rig = &stage.rig;

    let mut streaming = rig.app().await.into_stream();
    streaming.write_all(b"GET /own HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut stream = accepted(&upstream).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await.unwrap();
    read_until(&mut streaming, "\r\n\r\none").await;

    let mut websocket = rig.app().await.into_stream();
    let ask = "GET /own HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    websocket.write_all(ask.as_bytes()).await.unwrap();
    let mut socket = accepted(&upstream).await;
    let agree = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    socket.write_all(agree.as_bytes()).await.unwrap();
    read_until(&mut websocket, "\r\n\r\n").await;

    let mut unanswered = rig.app().await.into_stream();
    unanswered.write_all(b"GET /own HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut late = accepted(&upstream).await;

    stage.put(&routes(rig, &["stays"])).await;
    assert_eq!(rig.get("/own").await.status, 404);
    stream.write_all(b"two").await.unwrap();
    read_until(&mut streaming, "two").await;
    late.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await.unwrap();
    read_until(&mut unanswered, "late").await;
    websocket.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    in_time(socket.read_exact(&mut heard)).await.unwrap();
    socket.write_all(b"pong").await.unwrap();
    read_until(&mut websocket, "pong").await;
    // Connections of a route that is gone are of no use to anybody.
    for mut idle in [stream, late] {
        assert_eq!(in_time(idle.read(&mut heard)).await.unwrap(), 0, "its connection ends with its last request");
    }
    for app in [&mut streaming, &mut unanswered] {
        app.write_all(b"GET /stays HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        read_until(app, "\r\n\r\n").await;
    }
}

#[tokio::test]
async fn the_old_token_serves_until_the_new_one_is_there() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    let (mut app, asked) = (rig.app().await, rig.provider.count());
    assert_eq!(app.get("/x").await.status, 200);
    let old = super::last(rig).token_fingerprint;
    let latch = Latch::new();
    rig.provider.script().push(Answer::edit(|_| {}).held_by(&latch));
    stage.write(&(routes(rig, &["x", "y"]) + "tokens:\n  main:\n{main}    scope: more\n")).await;
    rig.provider.wait_for(asked + 1, PATIENCE).await.unwrap();
    rig.proxy.until_said("the new configuration is fine and waits for the first token of `main`").await;
    assert_eq!((app.get("/x").await.status, app.get("/y").await.status), (200, 404));
    assert_eq!(super::last(rig).token_fingerprint, old);
    let last = stage.status().await["configuration"]["last_reload"].clone();
    assert_eq!((&last["outcome"], &last["why"]), (&"waiting".into(), &"it waits for the first token of `main`".into()));
    assert_eq!(rig.proxy.page("/readyz").await.status, 200, "what runs is as ready as it was");
    assert!(stage.metric("bearerd_config_waiting 1").await);
    latch.open();
    rig.proxy.until_said("reloaded; routes: +y ~x; tokens: ~main").await;
    assert_eq!((app.get("/x").await.status, app.get("/y").await.status), (200, 200));
    assert_ne!(super::last(rig).token_fingerprint, old);
    assert_eq!(rig.provider.count(), asked + 1, "one token request");
    assert!(stage.metric("bearerd_config_waiting 0").await);
}

#[tokio::test]
async fn a_plan_that_waits_gives_way_to_the_next_and_a_token_that_is_not_required_is_not_waited_for() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    let other = |more: &str| format!("tokens:\n  main:\n{{main}}  other:\n{{main}}{more}");
    let latch = Latch::new();
    rig.provider.script().push(Answer::status(503).held_by(&latch));
    let asked = rig.provider.count();
    stage.write(&(routes(rig, &["x", "y"]) + &other("    refresh: {timeout: 20s}\n"))).await;
    rig.provider.wait_for(asked + 1, PATIENCE).await.unwrap();
    // The same again asks for nothing, and another that does not wait takes over.
    stage.write(&(routes(rig, &["x", "y"]) + &other("    refresh: {timeout: 20s}\n"))).await;
    stage.put(&(routes(rig, &["x", "z"]) + &other("    refresh: {timeout: 20s}\n    required: false\n"))).await;
    assert_eq!((rig.get("/y").await.status, rig.get("/z").await.status), (404, 200));
    assert!(stage.times("other: asking for a token") <= 2, "{}", rig.proxy.said());
    // Back to what was: nothing of the other token is left.
    stage.put(&routes(rig, &["x"])).await;
    let metrics = rig.proxy.page("/metrics").await;
    assert!(!metrics.text().contains("token=\"other\""), "{}", metrics.text());
}

#[tokio::test]
async fn a_bad_configuration_leaves_the_old_one_serving_and_says_so_everywhere() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    assert!(stage.metric("bearerd_config_last_reload_successful 1").await);
    let line =
        stage.refused(&(routes(rig, &["x", "y"]) + "limits: {conections: 1}\nworkers: many\n"), "conections").await;
    for part in ["bearerd.yaml:", "limits.conections", "did you mean `connections`", "workers"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!((rig.get("/x").await.status, rig.get("/y").await.status), (200, 404));
    assert!(stage.metric("bearerd_config_last_reload_successful 0").await);
    assert!(stage.metric("bearerd_config_reloads_total{outcome=\"refused\"} 1").await);
    let last = stage.status().await["configuration"]["last_reload"].clone();
    assert_eq!(last["outcome"], "refused");
    assert!(last["why"].as_str().unwrap().contains("did you mean `connections`"), "{last}");
    // A file that is missing is named, and noticed when it comes.
    let secret = "tokens:\n  main:\n{main}".to_owned();
    let secret = (routes(rig, &["x"]) + &secret).replace("{main}", &stage.token.replace("file: secret", "file: later"));
    let line = stage.refused(&secret, "later").await;
    assert!(line.contains("later") && line.contains("does not exist"), "{line}");
    rig.folder.replace("later", crate::support::SECRET);
    rig.proxy.until_said("reloaded; routes: ~x; tokens: ~main").await;
    assert!(stage.metric("bearerd_config_last_reload_successful 1").await);
}

#[tokio::test]
async fn a_plan_that_waits_is_given_up_when_what_is_written_is_bad() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    let latch = Latch::new();
    rig.provider.script().push(Answer::edit(|_| {}).held_by(&latch));
    let asked = rig.provider.count();
    let other = "tokens:\n  main:\n{main}  other:\n{main}    refresh: {timeout: 20s}\n";
    stage.write(&(routes(rig, &["x", "y"]) + other)).await;
    rig.provider.wait_for(asked + 1, PATIENCE).await.unwrap();
    assert!(stage.metric("bearerd_config_waiting 1").await);
    stage.refused(&(routes(rig, &["x", "y"]) + "workers: many\n"), "").await;
    assert!(stage.metric("bearerd_config_waiting 0").await);
    latch.open();
    let metrics = rig.proxy.page("/metrics").await;
    assert!(!metrics.text().contains("token=\"other\""), "{}", metrics.text());
    stage.put(&routes(rig, &["x", "z"])).await;
    assert_eq!((rig.get("/y").await.status, stage.times(" reloaded; ")), (404, 1));
}

#[tokio::test]
async fn what_is_said_of_a_token_that_fails_is_true_while_its_plan_waits_and_when_it_is_in_force() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    // One that never comes, and is not waited for, and one that comes at the second try.
    let nowhere = stage.token.replace(&rig.provider.token_url(), "https://127.0.0.1:1/token");
    let tokens = format!("tokens:\n  main:\n{{main}}  never:\n{nowhere}    required: false\n  late:\n{{main}}");
    rig.provider.script().push(Answer::status(503));
    stage.write(&(routes(rig, &["x", "y"]) + &tokens)).await;
    for token in ["never", "late"] {
        let failed = format!("{token}: no token as");
        eventually("it failed", || stage.times(&failed) > 0).await;
        let line = rig.proxy.said().lines().find(|line| line.contains(&failed)).unwrap().to_owned();
        assert!(line.contains("only the new configuration needs it, and waits"), "{line}");
        assert!(line.to_lowercase().contains("warn"), "{line}");
    }
    rig.proxy.until_said("reloaded; routes: +y; tokens: +never +late").await;
    rig.proxy.until_said("requests that need it get 503").await;
}

#[tokio::test]
async fn what_is_put_back_as_it_was_is_noticed() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let file = stage.rig.folder.path("bearerd.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    stage.wish.send(()).await.unwrap();
    stage.rig.proxy.until_said(" not reloaded").await;
    stage.rig.folder.replace("bearerd.yaml", &text);
    stage.rig.proxy.until_said("the configuration is the one that is in force").await;
    assert!(stage.metric("bearerd_config_last_reload_successful 1").await);
}

/// The next restart would fail, so nobody should have to ask.
#[tokio::test]
async fn a_file_that_is_deleted_is_noticed_and_that_it_is_back_too() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    let asked = rig.provider.count();
    for (refusals, name) in ["bearerd.yaml", "secret"].into_iter().enumerate() {
        let path = rig.folder.path(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        eventually("it is missed", || stage.times(" not reloaded") > refusals).await;
        let line = rig.proxy.said().lines().rfind(|line| line.contains(" not reloaded")).unwrap().to_owned();
        assert!(line.contains(name) && line.contains("does not exist"), "{line}");
        assert!(stage.metric("bearerd_config_last_reload_successful 0").await);
        let last = stage.status().await["configuration"]["last_reload"].clone();
        assert_eq!(last["outcome"], "refused");
        assert!(last["why"].as_str().unwrap().contains("does not exist"), "{last}");
        assert_eq!(rig.get("/x").await.status, 200);
        rig.folder.replace(name, &text);
        let as_it_was = "the configuration is the one that is in force";
        eventually("it is back", || stage.times(as_it_was) > refusals).await;
        assert!(stage.metric("bearerd_config_last_reload_successful 1").await);
    }
    assert_eq!((stage.times(" not reloaded"), stage.times(": a secret file changed")), (2, 0), "{}", rig.proxy.said());
    assert_eq!(rig.provider.count(), asked);
}

#[tokio::test]
async fn an_access_log_that_cannot_be_written_is_told_once() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    let line = stage.refused(&(routes(rig, &["x"]) + "access_log: /nowhere/at/all\n"), "").await;
    assert!(line.contains("access_log: `/nowhere/at/all`"), "{line}");
    stage.put(&routes(rig, &["x", "y"])).await;
    assert_eq!(stage.times(" not reloaded"), 1, "{}", rig.proxy.said());
}

#[tokio::test]
async fn what_cannot_change_is_refused_by_name_and_whole() {
    let stage = Stage::new(|rig| routes(rig, &["x"]) + "listen: [{name: app, address: '127.0.0.1:0'}]\n").await;
    let rig = &stage.rig;
    let listen = "listen: [{name: app, address: 'localhost:0'}]\nadmin: off\nworkers: 2\n";
    let line = stage.refused(&(routes(rig, &["x", "y"]) + listen), "").await;
    for part in ["`address` of the listener `app` cannot change", "`admin` cannot change", "`workers` cannot change"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!((rig.get("/x").await.status, rig.get("/y").await.status), (200, 404));
    // As it was, and then it is no longer wrong.
    stage.write(&(routes(rig, &["x"]) + "listen: [{name: app, address: '127.0.0.1:0'}]\n")).await;
    rig.proxy.until_said("the configuration is the one that is in force").await;
    assert!(stage.metric("bearerd_config_last_reload_successful 1").await);
}

#[tokio::test]
async fn other_roots_are_in_force_when_their_file_changes() {
    let own = |rig: &Rig| routes(rig, &["x"]).replace("tls: {ca_file: ca.pem}", "tls: {ca_file: roots.pem}");
    let mut pem = String::new();
    let stage = Stage::new(|rig| {
        rig.folder.write("roots.pem", &rig.ca.pem());
        pem = rig.ca.pem();
        own(rig)
    })
    .await;
    let rig = &stage.rig;
    let asked = rig.provider.count();
    assert_eq!(rig.get("/x").await.status, 200);
    // Nobody says anything: the file is watched.
    rig.folder.replace("roots.pem", &Ca::new().unwrap().pem());
    rig.proxy.until_said("reloaded; routes: ~x\n").await;
    assert_eq!(rig.get("/x").await.reason(), "upstream_tls");
    rig.folder.replace("roots.pem", "none at all");
    rig.proxy.until_said("not reloaded").await;
    rig.folder.replace("roots.pem", &pem);
    eventually("it is in force", || stage.times("reloaded; routes: ~x\n") == 2).await;
    assert_eq!(rig.get("/x").await.status, 200);
    assert_eq!(rig.provider.count(), asked, "its token has nothing to do with that");
}

#[tokio::test]
async fn a_route_with_another_scheme_uses_the_token_that_is_held() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    let asked = rig.provider.count();
    let more = route(rig, "y", "", "match: {path: /y}\nrenew_on: off\ninject: {header: X-Token, scheme: Token}");
    stage.put(&(routes(rig, &["x"]) + &more)).await;
    let _ = rig.get("/y").await;
    let seen = super::last(rig);
    let value = seen.headers.iter().find(|(name, _)| name == "x-token").map(|(_, value)| value.as_str());
    assert!(value.is_some_and(|value| value.starts_with("Token ")), "not the header that was asked for");
    assert_eq!(rig.provider.count(), asked);
}

#[tokio::test]
async fn a_token_that_changes_keeps_its_budget() {
    let token = |wait: &str| format!("tokens:\n  main:\n{{main}}    budget: 2/1h\n    wait: {wait}\n");
    let stage = Stage::new(|rig| routes(rig, &["x"]) + &token("10s")).await;
    let rig = &stage.rig;
    let asked = rig.provider.count();
    stage.put(&(routes(rig, &["x"]) + &token("11s"))).await;
    assert_eq!(rig.provider.count(), asked + 1);
    stage.write(&(routes(rig, &["x"]) + &token("12s"))).await;
    rig.proxy.until_said("main: its budget is spent").await;
    assert_eq!((rig.get("/x").await.status, rig.provider.count()), (200, asked + 1), "two an hour");
}

#[tokio::test]
async fn limits_log_and_shutdown_follow() {
    let stage = Stage::new(|rig| routes(rig, &["x"])).await;
    let rig = &stage.rig;
    let mut open = rig.app().await;
    assert_eq!(open.get("/x").await.status, 200);
    let keys = "limits: {connections: 1, headers: 10}\nlog: {level: error}\nshutdown: {timeout: 1s}\n";
    stage.write(&(routes(rig, &["x"]) + keys)).await;
    let many = format!("GET /x HTTP/1.1{}", "\nX-Many: 1".repeat(10));
    let until = async |head: &str, wanted: u16| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while rig.app().await.ask(head).await.status != wanted {
            assert!(tokio::time::Instant::now() < deadline, "no {wanted}: {}", rig.proxy.said());
        }
    };
    // One has the only place, and is held to what it began with.
    until("GET /x HTTP/1.1", 503).await;
    assert_eq!(open.ask(&many).await.status, 200);
    assert!(stage.metric("bearerd_connections_limit 1").await);
    drop(open);
    until(&many, 431).await;
    assert_eq!(stage.times(" reloaded; "), 0, "an `info` that a log of errors does not tell");
}

#[tokio::test]
async fn callers_come_and_keep_their_passwords() {
    let callers = |names: &[&str]| {
        let all = names.iter().map(|name| format!("{{name: {name}, password: {{file: secret-{name}}}}}"));
        format!("callers: {{clients: [{}]}}\n", all.collect::<Vec<_>>().join(", "))
    };
    let with = |rig: &Rig, names: &[&str]| {
        let named = format!("match: {{path: /x}}\ncallers: [{}]", names.join(", "));
        format!("routes:\n{}{}", route(rig, "x", "", &named), callers(names))
    };
    let stage = Stage::new(|rig| {
        rig.folder.write("secret-one", "first");
        rig.folder.write("secret-two", "second");
        with(rig, &["one"])
    })
    .await;
    let rig = &stage.rig;
    let status = async |pair: &str| {
        use base64::Engine as _;
        let line = base64::engine::general_purpose::STANDARD.encode(pair);
        rig.app().await.ask(&format!("GET /x HTTP/1.1\nAuthorization: Basic {line}")).await.status
    };
    assert_eq!((status("one:first").await, status("two:second").await), (200, 401));
    stage.put(&with(rig, &["two", "one"])).await;
    assert_eq!((status("one:first").await, status("two:second").await), (200, 200));
    rig.folder.replace("secret-two", "third");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while status("two:third").await != 200 {
        assert!(tokio::time::Instant::now() < deadline, "whoever keeps them follows");
    }
    stage.put(&with(rig, &["two"])).await;
    assert_eq!((status("one:first").await, status("two:third").await), (401, 200));
}

/// Apps read what they trust once: an authority that is made anew would be a stranger to those that run.
#[tokio::test]
async fn another_host_to_intercept_needs_a_restart_and_one_that_is_known_does_not() {
    let with = |rig: &Rig, hosts: &[&str]| {
        let folder = rig.folder.path("ca").display().to_string();
        let own = |host: &&str| {
            format!(
                "  - {{name: {host}, match: {{path: /{host}}}, upstream: 'https://{host}', token: main, intercept: true}}\n"
            )
        };
        let own: String = hosts.iter().map(own).collect();
        format!("{}{own}intercept: {{ca_dir: '{folder}'}}\n", routes(rig, &["x"]))
    };
    let stage = Stage::new(|rig| with(rig, &[])).await;
    let rig = &stage.rig;
    stage.put(&with(rig, &["one.test", "two.test"])).await;
    rig.proxy.until_said("reloaded; routes: +one.test +two.test; also intercept").await;
    let pem = std::fs::read(rig.folder.path("ca/ca.pem")).unwrap();
    stage.put(&with(rig, &["two.test"])).await;
    stage.put(&with(rig, &["two.test", "one.test"])).await;
    stage
        .refused(&with(rig, &["two.test", "three.test"]), "the local authority that is in use is for other hosts")
        .await;
    assert_eq!(std::fs::read(rig.folder.path("ca/ca.pem")).unwrap(), pem, "apps trust it still");
    let elsewhere = with(rig, &["two.test", "one.test"]).replace("/ca'", "/other'");
    stage.refused(&elsewhere, "`intercept.ca_dir` cannot change").await;
}
