//! Every way in which a provider answers badly: the token that is held goes on, the provider is not hammered, the log
//! says why in our own words, and the first good answer is taken.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bearerd::demo::answer::{Answer, Piece};
use bearerd::demo::provider::{Provider, Settings};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Bench, LIFE, asks, grants, no_token, until_served};
use crate::support::{PATIENCE, Rig, eventually};

/// Must not appear in a log line; it is in every bad answer that has room for it.
const CANARY: &str = "b0dy-canary";

/// The least that lies between two token requests after a failure: half of the first backoff.
const BACKOFF: Duration = Duration::from_millis(500);

type Breaking = Box<dyn FnOnce(&Rig) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> + Send>;

/// How the provider breaks, and what the log must say.
struct Case {
    name: &'static str,
    breaking: Breaking,
    said: &'static str,
}

fn case(name: &'static str, answer: impl Into<Answer>, said: &'static str) -> Case {
    let answer = answer.into();
    let breaking: Breaking = Box::new(move |rig| {
        rig.provider.script().always(answer);
        Box::pin(std::future::ready(()))
    });
    Case { name, breaking, said }
}

/// All of it at once: each case needs seconds and no work.
async fn each(cases: Vec<Case>) {
    let mut running = JoinSet::new();
    for case in cases {
        running.spawn(survives(case));
    }
    running.join_all().await;
}

async fn survives(Case { name, breaking, said }: Case) {
    let bench = Bench::with(|settings| settings.life = LIFE, |_| {}).await;
    let rig = bench.start("refresh: {early: 90%, min_interval: 100ms, timeout: 1s}");
    rig.proxy.until_ready().await;
    breaking(&rig).await;

    // Not the first failure: on a slow machine another may have come before.
    let failed = || rig.proxy.said().lines().any(|line| line.contains("no token as app: ") && line.contains(said));
    eventually(&format!("{name}: {said:?} is said"), failed).await;
    let (before, since) = (asks(&rig), tokio::time::Instant::now());
    // A second of traffic, as a hot loop would show.
    while since.elapsed() < Duration::from_secs(1) {
        let answer = rig.get("/").await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}\n{}", rig.proxy.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let most = 1 + since.elapsed().as_millis() / BACKOFF.as_millis();
    assert!((asks(&rig) - before) as u128 <= most, "{name}: a hot loop\n{}", rig.proxy.said());

    let held = grants(&rig);
    rig.provider.script().clear();
    rig.provider.restart_with(rig.ca.server(&["localhost"]).unwrap()).await.unwrap();
    eventually(&format!("{name}: it is recovered from"), || grants(&rig) > held).await;
    assert_eq!(until_served(&rig).await, 0, "{name}");
    assert!(!rig.proxy.said().contains(CANARY), "{name}: {}", rig.proxy.said());
    assert!(!rig.proxy.page("/status").await.text().contains(CANARY), "{name}");
}

/// An answer that would be a good one but for what is put over it.
fn but(member: &str, value: &serde_json::Value) -> Answer {
    let mut answer = json!({"access_token": CANARY, "token_type": "Bearer", "expires_in": 60});
    answer[member] = value.clone();
    Answer::json(200, &answer).into()
}

fn good() -> String {
    json!({"access_token": CANARY, "token_type": "Bearer", "expires_in": 60}).to_string()
}

const NOT_JSON: &str = "the token endpoint's answer is not a JSON object";
const UNFIT: &str = "the access token has bytes that no header can carry";
const TYPE: &str = "`token_type` is one that needs proof of possession";
const LATE: &str = "the token endpoint did not answer within 1s";
const LONG: &str = "the token endpoint's answer is longer than 1048576 bytes";
const BROKEN: &str = "the connection broke";

#[tokio::test]
async fn an_answer_that_is_no_grant_costs_nothing() {
    let html = "<html><body>b0dy-canary: down for maintenance</body></html>";
    let deep = |member| format!("{{\"{member}\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    each(vec![
        case("HTML", Answer::status(200).header("content-type", "text/html").body(html), NOT_JSON),
        case("empty", Answer::status(200), NOT_JSON),
        case("no content", Answer::status(204), NOT_JSON),
        case("a token that is too deep", Answer::status(200).body(deep("access_token")), NOT_JSON),
        case("something that is too deep", Answer::status(200).body(deep("other")), "has no `access_token`"),
        case("gzip", Answer::status(200).header("content-encoding", "gzip").body(GZIPPED), NOT_JSON),
        case("no access_token", Answer::json(200, &json!({"token": CANARY})), "has no `access_token`"),
        case("null access_token", but("access_token", &json!(null)), "has no `access_token`"),
        case("CR LF", but("access_token", &json!("a\r\nX-Evil: b0dy-canary")), UNFIT),
        case("a space", but("access_token", &json!("a b0dy-canary")), UNFIT),
        case("NUL", but("access_token", &json!("a\0b0dy-canary")), UNFIT),
        case("a token of a megabyte", but("access_token", &json!("b0dy-canary".repeat(90_000))), UNFIT),
        case("invalid UTF-8", Answer::status(200).body(&b"{\"access_token\": \"b0dy-canary\xff\"}"[..]), NOT_JSON),
        case("truncated", Answer::status(200).body("{\"access_token\": \"b0dy-canary"), NOT_JSON),
        case("no life", but("expires_in", &json!(0)), "`expires_in` is not a number of seconds above zero"),
        case("a life that is none", but("expires_in", &json!("3600abc")), "`expires_in` is not a number of seconds"),
        case("N_A", but("token_type", &json!("N_A")), TYPE),
        case("mac", but("token_type", &json!("mac")), TYPE),
        case("DPoP", but("token_type", &json!("DPoP")), TYPE),
        case("expires_in", but("expires_in", &json!(-1)), "`expires_in` is not a number of seconds above zero"),
        case("error in 200", but("error", &json!("invalid_scope")), "answered 200 and the error (invalid_scope)"),
    ])
    .await;
}

#[tokio::test]
async fn an_error_status_costs_nothing() {
    let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let invalid = json!({"error": "invalid_client", "error_description": CANARY});
    let freely = json!({"error": "b0dy-canary with spaces"});
    each(vec![
        case("500", Answer::status(500).body(CANARY), "the token endpoint answered 500 Internal Server Error"),
        case("401", Answer::json(401, &invalid), "the token endpoint answered 401 Unauthorized (invalid_client)"),
        case("400", Answer::json(400, &freely), "the token endpoint answered 400 Bad Request;"),
        case("429", Answer::status(429).header("retry-after", "2"), "it asks to be left alone for 2s"),
        case("429 with a date", Answer::status(429).header("retry-after", &soon), "it asks to be left alone for"),
        case("429 with nonsense", Answer::status(429).header("retry-after", CANARY), "429 Too Many Requests;"),
    ])
    .await;
}

#[tokio::test]
async fn a_provider_that_asks_to_be_left_alone_is() {
    for dated in [false, true] {
        let date = SystemTime::now() + Duration::from_secs(3);
        let wish = if dated { httpdate::fmt_http_date(date) } else { "2".to_owned() };
        let bench = Bench::new().await;
        bench.provider.script().push(Answer::status(429).header("retry-after", &wish));
        let rig = bench.start("");
        rig.provider.wait_for(1, PATIENCE).await.unwrap();
        rig.proxy.until_said("it asks to be left alone for").await;
        assert!(no_token(&rig.get("/").await) <= 3);
        let calls = rig.provider.wait_for(2, PATIENCE).await.unwrap();
        if dated {
            // A date has no fraction of a second.
            assert!(SystemTime::now() >= date - Duration::from_secs(1));
        } else {
            assert!(calls[1].at - calls[0].at >= Duration::from_secs(2), "{:?}", calls[1].at - calls[0].at);
        }
        rig.proxy.until_ready().await;
        assert_eq!(rig.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_or_never_begins_costs_nothing() {
    let drip = Piece::Drip(good().into(), Duration::from_millis(50));
    each(vec![
        case("64 MiB", Answer::status(200).piece(Piece::Repeat(b'x', 64 << 20)), LONG),
        case("endless", Answer::status(200).chunked().piece(Piece::Repeat(b' ', u64::MAX)), LONG),
        case("byte by byte", Answer::status(200).piece(drip), LATE),
        case("half", Answer::status(200).chunked().body("{\"access_token\":").piece(Piece::Stall), LATE),
        case("cut", Answer::status(200).chunked().body("{\"access_token\":").piece(Piece::Cut), BROKEN),
        case("hang", Answer::hang(), LATE),
        case("closed", Answer::close(), BROKEN),
        case("reset", Answer::reset(), BROKEN),
        case("not HTTP", Answer::raw("b0dy-canary\r\n\r\n"), "it does not answer with proper HTTP"),
    ])
    .await;
}

#[tokio::test]
async fn a_provider_that_cannot_prove_its_name_is_told_no_secret() {
    fn with(name: &'static str, said: &'static str, certificate: fn(&Rig) -> rustls::ServerConfig) -> Case {
        let breaking: Breaking = Box::new(move |rig| {
            Box::pin(async move {
                rig.provider.restart_with(certificate(rig)).await.unwrap();
            })
        });
        Case { name, breaking, said }
    }
    each(vec![
        with("another authority", "is not signed by a trusted authority", |_| {
            bearerd::demo::certs::Ca::new().unwrap().server(&["localhost"]).unwrap()
        }),
        with("expired", "its certificate has expired", |rig| rig.ca.expired_server(&["localhost"]).unwrap()),
        with("another name", "its certificate is for another name", |rig| rig.ca.misnamed_server().unwrap()),
    ])
    .await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut cases = Vec::new();
    let mut targets = Vec::new();
    for status in [301, 302, 307, 308] {
        // Plain HTTP and TLS alike must see nothing, not even a connection.
        let target = Provider::start(Settings::plain()).await.unwrap();
        let location = format!("http://{}/oauth2/token", target.addr());
        cases.push(case(
            "a redirect",
            Answer::status(status).header("location", &location),
            "the token endpoint answered 30",
        ));
        targets.push(target);
    }
    each(cases).await;
    for target in targets {
        assert_eq!(target.counts().accepted(), 0);
    }
}

/// `{"access_token":"gzipped","token_type":"Bearer","expires_in":60}` in gzip, which nobody said would be understood.
const GZIPPED: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 76, 78, 78, 45, 46, 142, 47, 201, 207, 78, 205, 83, 178, 82, 74, 175,
    202, 44, 40, 72, 77, 81, 210, 81, 2, 139, 196, 151, 84, 22, 164, 2, 133, 157, 82, 19, 139, 82, 139, 128, 162, 169,
    21, 5, 153, 69, 169, 197, 241, 153, 64, 197, 102, 6, 181, 0, 131, 34, 6, 30, 64, 0, 0, 0,
];
