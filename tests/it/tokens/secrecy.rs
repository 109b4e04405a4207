//! No secret and no token is ever shown, whatever happens and wherever one looks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bearerd::clock::Now;
use bearerd::config::{self, Disk, Environment, Sources};
use bearerd::demo::answer::Answer;
use bearerd::files::Files;
use bearerd::life::Readiness;
use bearerd::observe::Observer;
use bearerd::observe::log::{Format, Level, Log, LogSettings};
use bearerd::tls::ClientConfigs;
use bearerd::token::Registry;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Bench, grants, newest, no_token, renewable};
use crate::support::{Answer as Heard, CLIENT, PATIENCE, Rig, SECRET, eventually};

/// In every token.
const TOKEN: &str = "t0ken-canary";

/// The secret in every form in which it travels, and what every token has in it.
fn hidden() -> Vec<String> {
    let encoded: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let percent = encoded.replace('+', "%20").replace("%7E", "~");
    let mut hidden = vec![SECRET.to_owned(), "canary".to_owned(), TOKEN.to_owned()];
    for secret in [SECRET, &encoded, &percent] {
        hidden.push(secret.to_owned());
        for pair in [secret.to_owned(), format!("{CLIENT}:{secret}")] {
            hidden.push(BASE64_STANDARD.encode(&pair));
            hidden.push(BASE64_URL_SAFE_NO_PAD.encode(&pair));
        }
    }
    hidden
}

fn check(what: &str, text: &str) {
    for secret in hidden() {
        assert!(!text.contains(&secret), "{what} shows {secret:?}:\n{text}");
    }
}

/// Grants tokens with a canary in them, a new one each time.
fn grant_canaries(bench: &Bench) {
    let count = AtomicUsize::new(0);
    for number in 0..100 {
        bench.api.accept(&format!("{TOKEN}-{number}"));
    }
    bench.provider.script().when(move |_| {
        let token = format!("{TOKEN}-{}", count.fetch_add(1, Ordering::Relaxed));
        let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": 2, "scope": TOKEN});
        Some(Answer::json(200, &body).into())
    });
}

async fn look_around(rig: &Rig, answers: &mut Vec<Heard>) {
    for page in ["/metrics", "/status", "/readyz", "/startupz", "/livez", "/canary-free"] {
        answers.push(rig.proxy.page(page).await);
    }
}

#[tokio::test]
async fn no_secret_and_no_token_is_shown_anywhere() {
    let mut running = JoinSet::new();
    for auth in ["client_secret_basic", "client_secret_basic\nbasic_encoding: raw", "client_secret_post"] {
        running.spawn(nothing_is_shown(auth));
    }
    running.join_all().await;
}

async fn nothing_is_shown(auth: &str) {
    let bench = Bench::new().await;
    grant_canaries(&bench);
    let rig = bench.start(&format!("auth: {auth}\nscope: read\nrefresh: {{min_interval: 100ms}}"));
    let mut answers = Vec::new();
    rig.proxy.until_ready().await;
    renewable(&rig).await;
    answers.push(rig.get("/").await);
    // What an app has no business to send, where it likes to stand.
    let credential = BASE64_STANDARD.encode(format!("{CLIENT}:{SECRET}"));
    let lines = format!("Authorization: Basic {credential}\nProxy-Authorization: Bearer {TOKEN}\nCookie: s={TOKEN}");
    let asked = format!("GET /x?access_token={TOKEN}&key={credential} HTTP/1.1\n{lines}");
    // The API tells what it was sent.
    assert_eq!(rig.app().await.ask(&asked).await.status, 200);
    // The API refuses one; it comes back renewed.
    rig.api.reject(newest(&rig));
    answers.push(rig.get("/").await);
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    look_around(&rig, &mut answers).await;

    // Then the provider rejects, quoting what it was sent, in every way that it can.
    rig.provider.script().clear();
    let quoting = json!({"error": SECRET, "error_description": format!("{CLIENT}:{SECRET} {TOKEN}")});
    let named = json!({"error": "invalid_client", "access_token": TOKEN});
    rig.provider.script().push(Answer::json(401, &quoting).header("www-authenticate", TOKEN));
    rig.provider.script().push(Answer::json(400, &named).header("retry-after", TOKEN));
    rig.provider.script().always(Answer::json(200, &json!({"access_token": format!("{TOKEN} {SECRET}")})));
    rig.proxy.until_said("bytes that no header can carry").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "{}", rig.proxy.said());
        let answer = rig.get("/").await;
        if answer.status == 503 {
            no_token(&answer);
            answers.push(answer);
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    look_around(&rig, &mut answers).await;

    check("the log", &rig.proxy.said());
    let access_log = || std::fs::read_to_string(rig.folder.path("access.log")).unwrap();
    eventually("the last request has left its line", || access_log().contains("\"no_token\"")).await;
    assert!(access_log().contains("\"path\":\"/x\""), "{}", access_log());
    check("the access log", &access_log());
    for answer in &answers {
        check("an answer", &format!("{:?}", answer.headers));
        check("an answer", answer.text());
    }
    assert!(grants(&rig) >= 2, "{}", rig.proxy.said());
}

#[tokio::test]
async fn no_secret_and_no_token_is_shown_by_debug() {
    let bench = Bench::new().await;
    grant_canaries(&bench);
    bench.folder.write("secret", SECRET);
    let inline = bench.usual().replace("{file: secret}", "{env: APP_SECRET}");
    let file = bench.usual();
    let (first, second) = (bench.route() + "token: inline\nmatch: {path: /a}\n", bench.route() + "token: file\n");
    let environment = Environment::from([("APP_SECRET".to_owned(), SECRET.into())]);
    let rig = bench.run_in(&environment, &[("inline", &inline), ("file", &file)], &[("a", &first), ("b", &second)]);
    let flags = [("config".to_owned(), rig.folder.path("bearerd.yaml").display().to_string())];
    let sources = Sources { flags: &flags, environment: &environment, files: &Disk, parallelism: 2 };
    let plan = config::load(&sources).unwrap_or_else(|problems| panic!("{problems}")).plan;
    check("the plan", &format!("{plan:?} {plan:#?}"));

    let registry = Registry::new(plan.tokens, None, &ClientConfigs::default()).unwrap();
    let said = Arc::new(Mutex::new(String::new()));
    let ear = Arc::clone(&said);
    let settings = LogSettings { level: Level::Trace, format: Format::Json };
    let observer = Observer::new(Log::to(settings, move |line| ear.lock().unwrap().push_str(line)));
    let readiness = Readiness::default();
    registry.start(Some(&readiness), &observer, &Files::new(|error| panic!("{error}"), || panic!("nothing panics")));
    eventually("both are granted", || said.lock().unwrap().matches("token_granted").count() >= 2).await;
    let statuses = registry.statuses(Now::read());
    assert!(statuses.iter().all(|status| status.fingerprint.is_some()), "{statuses:?}");
    check("statuses", &format!("{statuses:?}"));
    check("the registry", &format!("{registry:?} {readiness:?}"));
    for (name, scheme) in [("inline", "Bearer"), ("file", "")] {
        let reader = registry.reader(name, scheme).unwrap();
        check("a reader", &format!("{reader:?}"));
        let bearer = reader.bearer(Now::read()).unwrap();
        check("a bearer", &format!("{bearer:?}"));
        check("its header", &format!("{:?}", bearer.into_header()));
    }
    check("the JSON log", &said.lock().unwrap());
}
