//! What an upstream may answer: it is relayed as what it is, visibly incomplete, or told as the upstream's fault; and a
//! connection in doubt carries no other request.

use std::sync::Arc;
use std::time::Duration;

use bearerd::demo::answer::Answer as Said;
use bearerd::demo::steps::Step;

use super::format::{Class, classes};
use crate::support::{Answer, App, Rig, eventually};
use crate::traffic::rig_with;

const KEYS: [&str; 8] = ["verdict", "connection", "method", "body", "then", "header", "lacks", "delivery"];

/// What a second request over the same connection would get.
const AGAIN: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nreused";

#[tokio::test]
async fn what_an_upstream_answers_is_relayed_as_what_it_is_or_not_at_all() {
    let classes = classes("api", &KEYS, 55);
    let rig = rig_with(|rig| {
        let patient = crate::traffic::route(rig, "patient", "", "");
        let impatient = "match: {path: /impatient}\ntimeouts: {headers: 300ms}";
        format!("routes:\n{patient}{}", crate::traffic::route(rig, "impatient", "", impatient))
    })
    .await;
    let (mut failures, mut number) = (Vec::new(), 0);
    let rig = Arc::new(rig);
    for class in classes.into_iter().map(Arc::new) {
        let deliveries: &[bool] = if class.get("delivery") == Some("at once") { &[true] } else { &[true, false] };
        for payload in &class.payloads {
            for (then, at_once) in ends(&class).flat_map(|then| deliveries.iter().map(move |at_once| (then, *at_once)))
            {
                number += 1;
                let steps = steps(&payload.bytes(number), at_once, then);
                // A task of its own, so that a panic is one failure and not the end.
                let case = tokio::spawn(wrong(Arc::clone(&rig), Arc::clone(&class), steps, number));
                let why = case.await.unwrap_or_else(|panic| Some(panic.to_string()));
                failures.extend(why.map(|why| format!("{}, then {then}: {why}", payload.place)));
            }
        }
    }
    super::assert_none(&failures);
    eventually("every connection is closed", || rig.api.counts().open.now() == 0).await;
    for theirs in ["garbage", "poison", "hello"] {
        assert!(!rig.proxy.said().contains(theirs), "a peer's bytes are not told");
    }
}

/// What is wrong about what became of an answer.
async fn wrong(rig: Arc<Rig>, class: Arc<Class>, steps: Vec<Step>, number: usize) -> Option<String> {
    rig.api.script().clear();
    rig.api.log().clear();
    rig.api.script().push(Said::Raw(steps));
    let verdict: Vec<&str> = class.must("verdict").split(' ').collect();
    let path = if verdict[0] == "504" { format!("/impatient/{number}") } else { format!("/{number}") };

    let mut app: App = rig.app().await;
    let answer = ask(&mut app, class.get("method").unwrap_or("GET"), &path).await;
    let is_so = match verdict[..] {
        [status, "whole"] => {
            answer.status.to_string() == status && answer.complete && answer.body == class.bytes("body")
        }
        [status, "cut"] => {
            let is_cut = answer.status.to_string() == status && !answer.complete && app.is_closed().await;
            app = rig.app().await;
            is_cut && class.bytes("body").starts_with(&answer.body)
        }
        [status, reason] => answer.status.to_string() == status && answer.reason() == reason,
        _ => panic!("no verdict is called {verdict:?}"),
    };
    let has = |line: &str| line.split_once(": ").is_some_and(|(name, value)| answer.header(name) == Some(value));
    let headers = class.all("header").all(has) && class.all("lacks").all(|name| answer.header(name).is_none());
    if !is_so || !headers {
        return Some(format!("the app got {answer:?}"));
    }
    if rig.api.requests().len() != 1 {
        return Some(format!("the API was asked {} times", rig.api.requests().len()));
    }

    rig.api.script().push(Said::status(200).header("connection", "close").body("closed"));
    let next = ask(&mut app, "GET", &format!("{path}/next")).await;
    (next.status != 200 || next.text() != class.must("connection")).then(|| format!("the next request got {next:?}"))
}

async fn ask(app: &mut App, method: &str, path: &str) -> Answer {
    app.send(app.head(&format!("{method} {path} HTTP/1.1"))).await;
    if method == "HEAD" { app.answer_to_head().await } else { app.answer().await }
}

/// How the connection goes on behind the answer, one after the other.
fn ends(class: &Class) -> impl Iterator<Item = &str> {
    class.get("then").unwrap_or("hold").split(' ')
}

/// The answer's bytes, all at once or byte by byte, and what becomes of the connection behind them.
fn steps(bytes: &[u8], at_once: bool, then: &str) -> Vec<Step> {
    // Long ones in as many pieces as others have bytes.
    let piece = if at_once { bytes.len() } else { bytes.len().div_ceil(512) };
    let send = |bytes: &[u8]| Step::Send(bytes.to_vec().into());
    let mut steps: Vec<Step> = bytes.chunks(piece.max(1)).map(send).collect();
    steps.extend(match then {
        "hold" => vec![Step::ReadHead, send(AGAIN.as_bytes()), Step::Hold],
        "close" => vec![],
        "cut" => vec![Step::Cut],
        // What came before a reset is not lost on the way.
        "reset" => vec![Step::Pause(Duration::from_millis(50)), Step::Reset],
        other => panic!("nothing is called {other}"),
    });
    steps
}
