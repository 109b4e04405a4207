//! The loop on a paused clock with a scripted source: no socket comes near it.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::driver::Driver;
use super::grant::{AskError, Code, Grant, What};
use super::machine::{Generation, Machine};
use super::policy::Refresh;
use super::slot::{Bought, Driven, Ear, Reader, Slot};
use super::source::Source;
use crate::clock::Now;
use crate::life::Readiness;
use crate::observe::log::{Format, Level, Log, LogSettings};
use crate::observe::{Observer, Samples, TokenOutcome};
use crate::secret::Secret;
use crate::wire::fault::Fault;

const SECOND: Duration = Duration::from_secs(1);

/// How long every scripted token request takes.
const FLIGHT: Duration = Duration::from_millis(100);

/// The paused clock as a pair: what tokio's timers run on is what tokens live by.
fn paused() -> Now {
    thread_local! {
        static START: tokio::time::Instant = tokio::time::Instant::now();
    }
    let mono = START.with(tokio::time::Instant::elapsed) + 1_000 * SECOND;
    Now { mono, wall: SystemTime::UNIX_EPOCH + 1_000_000 * SECOND + mono }
}

#[derive(Clone)]
enum Answer {
    Token(&'static str, Duration),
    Down,
    Rejected,
    Limited,
    Panic,
}

/// Answers from a list; the last one for ever.
struct Scripted {
    answers: Mutex<VecDeque<Answer>>,
    asked: AtomicUsize,
    credentials: Mutex<Vec<usize>>,
}

impl Source for Scripted {
    fn ask(&self, credential: usize) -> impl Future<Output = Result<Grant, AskError>> + Send {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.credentials.lock().unwrap().push(credential);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        async move {
            tokio::time::sleep(FLIGHT).await;
            match answer.expect("a script has an answer") {
                Answer::Token(token, life) => Ok(Grant {
                    access_token: Secret::new(token.to_owned()),
                    life,
                    odd_type: false,
                    other_scope: false,
                    scope_left_out: Vec::new(),
                    date: None,
                    stale_secret: None,
                }),
                Answer::Down => Err(What::Unreachable(Fault::Refused).into()),
                Answer::Rejected => Err(What::Status(StatusCode::UNAUTHORIZED, Code::default()).into()),
                Answer::Limited => Err(What::Status(StatusCode::TOO_MANY_REQUESTS, Code::default()).into()),
                Answer::Panic => panic!("a test's own"),
            }
        }
    }

    async fn changed(&self, _: usize) -> bool {
        false
    }
}

struct Rig {
    source: Arc<Scripted>,
    reader: Reader,
    slot: Arc<Slot>,
    observer: Observer,
    readiness: Readiness,
    rotate: watch::Sender<()>,
    lines: Arc<Mutex<String>>,
    driver: JoinHandle<()>,
    /// What is gone is not waited for.
    _driven: Arc<Driven>,
}

impl Rig {
    fn new(credentials: usize, answers: impl IntoIterator<Item = Answer>) -> Self {
        let source = Arc::new(Scripted {
            answers: Mutex::new(answers.into_iter().collect()),
            asked: AtomicUsize::new(0),
            credentials: Mutex::default(),
        });
        let refresh = Refresh::default();
        let slot = Arc::new(Slot::new("orders".into(), 10 * SECOND, &refresh, vec![]));
        let readiness = Readiness::default();
        let lines = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&lines);
        let settings = LogSettings { level: Level::Trace, format: Format::Pretty };
        let (rotate, rotated) = watch::channel(());
        let observer = Observer::new(Log::to(settings, move |line| sink.lock().unwrap().push_str(line)));
        let driver = Driver {
            name: "orders".into(),
            machine: Machine::new(refresh, None, credentials, 7),
            source: Arc::clone(&source),
            slot: Arc::clone(&slot),
            observer: observer.clone(),
            credential_names: (0..credentials).map(|index| format!("app-{index}").into()).collect(),
            rotated,
            latch: Some(readiness.block("token orders".into())),
            clock: paused,
            ear: Ear::default(),
            told_of_budget: false,
            forced: None,
            told_no_better: false,
            memory: None,
            inherited: None,
            token: None,
            last_error: None,
            failing: None,
            rejected: vec![None; credentials],
            granted: None,
            answers: Arc::default(),
            bought: Bought::default(),
        };
        let driver = tokio::spawn(driver.run());
        let driven = Arc::default();
        let reader = Reader::new(Arc::clone(&slot), "Bearer", Arc::downgrade(&driven));
        Self { source, _driven: driven, reader, slot, observer, readiness, rotate, lines, driver }
    }

    fn asked(&self) -> usize {
        self.source.asked.load(Ordering::SeqCst)
    }

    /// Whether `/metrics` says so.
    fn counts(&self, line: &str) -> bool {
        self.observer.render(&Samples::default()).lines().any(|other| other == line)
    }

    fn bearer(&self) -> String {
        let bearer = self.reader.bearer(paused()).expect("a usable token");
        bearer.into_header().to_str().unwrap().to_owned()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What a request does whose token was refused.
async fn refused(reader: &Reader, generation: Generation) -> bool {
    reader.refused(generation);
    reader.newer_than(generation, paused).await
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_hundred_first_requests_cost_one_token_request() {
    let rig = Rig::new(1, [Answer::Token("one", HOUR)]);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let reader = rig.reader.clone();
            tokio::spawn(async move { reader.ready(paused).await })
        })
        .collect();
    for waiter in waiting {
        assert!(waiter.await.unwrap().is_ok());
    }
    assert_eq!(rig.asked(), 1);
    assert_eq!(rig.bearer(), "Bearer one");
    assert!(rig.readiness.pending().is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_the_provider_is_down_requests_fail_at_once_and_ask_for_nothing() {
    let rig = Rig::new(1, [Answer::Down]);
    assert!(rig.reader.ready(paused).await.is_err(), "it waited for the request that was under way");
    assert_eq!(rig.asked(), 1);
    let start = paused();
    for _ in 0..1_000 {
        assert!(rig.reader.ready(paused).await.unwrap_err().retry_after >= SECOND);
    }
    assert_eq!(paused(), start, "nobody waited");
    assert_eq!(rig.asked(), 1);
    assert_eq!(rig.readiness.pending(), ["token orders".into()]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_token_is_not_seen_and_a_longer_one_ends_with_its_cause() {
    let outage = std::iter::repeat_n(Answer::Down, 35);
    let rig =
        Rig::new(1, [Answer::Token("one", 600 * SECOND)].into_iter().chain(outage).chain([Answer::Token("two", HOUR)]));
    rig.reader.ready(paused).await.unwrap();
    let mut failed = 0;
    for _ in 0..1_200 {
        tokio::time::sleep(SECOND).await;
        failed += usize::from(rig.reader.bearer(paused()).is_err());
    }
    // Asked for at 0, renewed from about 430 s on, gone at 590 s: of 35 failures some 25 come before that, ever closer to each
    // other, and the others take some 250 s.
    assert!((60..300).contains(&failed), "{failed} s without a token");
    assert_eq!(rig.bearer(), "Bearer two");
    assert_eq!(rig.asked(), 37);
}

#[tokio::test(start_paused = true)]
async fn a_planned_renewal_is_never_noticed() {
    let rig =
        Rig::new(1, [Answer::Token("one", 4 * SECOND), Answer::Token("two", 4 * SECOND), Answer::Token("three", HOUR)]);
    rig.reader.ready(paused).await.unwrap();
    let mut seen = vec![rig.bearer()];
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        seen.push(rig.bearer());
    }
    seen.dedup();
    assert_eq!(seen, ["Bearer one", "Bearer two", "Bearer three"]);
    assert_eq!(rig.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_one_token_share_one_renewal() {
    let rig = Rig::new(1, [Answer::Token("one", HOUR), Answer::Token("two", HOUR)]);
    rig.reader.ready(paused).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let reader = rig.reader.clone();
            tokio::spawn(async move { refused(&reader, Generation(1)).await })
        })
        .collect();
    for waiter in waiting {
        assert!(waiter.await.unwrap());
    }
    assert_eq!(rig.asked(), 2);
    assert_eq!(rig.bearer(), "Bearer two");
    assert!(refused(&rig.reader, Generation(1)).await, "a late one finds the new token there");
    assert_eq!(rig.asked(), 2);
    let start = paused();
    assert!(!refused(&rig.reader, Generation(2)).await, "too soon to force another");
    assert_eq!(paused(), start, "and nobody waits for it");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_right_after_a_grant_waits_for_the_renewal_that_is_nearly_due() {
    let rig = Rig::new(1, [Answer::Token("one", HOUR), Answer::Token("two", HOUR)]);
    rig.reader.ready(paused).await.unwrap();
    assert!(refused(&rig.reader, Generation(1)).await, "held back by the shortest distance between two alone");
    assert_eq!(rig.bearer(), "Bearer two");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_refusals_costs_few_token_requests() {
    let tokens = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|token| Answer::Token(token, HOUR));
    let rig = Rig::new(1, tokens);
    rig.reader.ready(paused).await.unwrap();
    for _ in 0..6_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let generation = rig.reader.bearer(paused()).unwrap().identity().generation;
        refused(&rig.reader, generation).await;
    }
    assert!(rig.asked() <= 5, "{} token requests in a minute of 401s", rig.asked());
}

#[tokio::test(start_paused = true)]
async fn a_rejected_credential_is_told_and_the_standby_serves() {
    let rig = Rig::new(2, [Answer::Rejected, Answer::Token("one", HOUR)]);
    rig.reader.ready(paused).await.unwrap();
    assert_eq!(*rig.source.credentials.lock().unwrap(), [0, 1]);
    assert!(rig.lines.lock().unwrap().contains("the provider rejected the credential app-0; app-1 is used now"));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_ends_the_backoff() {
    let rig = Rig::new(
        1,
        [Answer::Rejected, Answer::Rejected, Answer::Rejected, Answer::Rejected, Answer::Token("one", HOUR)],
    );
    while rig.asked() < 4 {
        tokio::time::sleep(SECOND / 10).await;
    }
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(rig.asked(), 4);
    rig.rotate.send_replace(());
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(rig.bearer(), "Bearer one");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_token_request_is_a_failed_one() {
    let rig = Rig::new(1, [Answer::Panic, Answer::Token("one", HOUR)]);
    assert!(rig.reader.ready(paused).await.is_err());
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(rig.bearer(), "Bearer one");
}

#[tokio::test(start_paused = true)]
async fn no_line_holds_the_token() {
    let rig = Rig::new(1, [Answer::Token("canary", 4 * SECOND), Answer::Down, Answer::Token("canary", 4 * SECOND)]);
    tokio::time::sleep(60 * SECOND).await;
    let lines = rig.lines.lock().unwrap();
    assert!(lines.lines().count() > 20, "{lines}");
    assert!(!lines.contains("canary"), "{lines}");
}

#[tokio::test(start_paused = true)]
async fn the_last_ten_answers_are_kept_newest_first_and_what_was_bought_is_counted() {
    let outage = [Answer::Rejected, Answer::Limited, Answer::Panic, Answer::Down];
    let rig = Rig::new(2, outage.into_iter().chain([Answer::Token("one", HOUR)]));
    while rig.asked() < 5 {
        tokio::time::sleep(SECOND / 10).await;
    }
    rig.reader.ready(paused).await.unwrap();
    let snapshot = rig.slot.current();
    let told: Vec<_> = snapshot.answers.iter().map(|answer| (answer.outcome, &*answer.credential)).collect();
    assert_eq!(
        told,
        [
            (TokenOutcome::Granted, "app-1"),
            (TokenOutcome::Failed, "app-1"),
            (TokenOutcome::Failed, "app-1"),
            (TokenOutcome::Limited, "app-1"),
            (TokenOutcome::Rejected, "app-0"),
        ]
    );
    for answer in snapshot.answers.iter() {
        // Tokio's timers are a millisecond late at the most.
        assert!((FLIGHT..FLIGHT + SECOND / 100).contains(&answer.took), "{answer:?}");
        assert_eq!(answer.what.is_none(), answer.outcome == TokenOutcome::Granted);
        assert_eq!(answer.fingerprint.is_some(), answer.outcome == TokenOutcome::Granted);
    }
    assert_eq!(snapshot.answers[4].what.as_deref(), Some("the token endpoint answered 401 Unauthorized"));
    assert_eq!(snapshot.answers[0].fingerprint, snapshot.token.as_ref().map(|token| token.fingerprint));
    assert!(snapshot.answers.iter().is_sorted_by(|newer, older| newer.at > older.at));
    assert_eq!(snapshot.bought.on(paused().wall), 1);
    for (outcome, many) in [("granted", 1), ("rejected", 1), ("limited", 1), ("failed", 2)] {
        let line = format!("bearerd_token_requests_total{{token=\"orders\",outcome=\"{outcome}\"}} {many}");
        assert!(rig.counts(&line), "{line}");
    }
    assert!(rig.counts("bearerd_token_request_duration_seconds_count{token=\"orders\"} 5"));
    let granted = snapshot.granted.unwrap();
    assert_eq!(granted.life, HOUR);
    assert_eq!(granted.asked, snapshot.answers[0].at - snapshot.answers[0].took, "it lives from when it was asked for");

    let rig = Rig::new(1, [Answer::Down]);
    while rig.asked() < 12 {
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(rig.slot.current().answers.len(), 10);
}

#[test]
fn what_is_bought_is_counted_by_the_utc_day() {
    let at = |hours: u32| SystemTime::UNIX_EPOCH + hours * HOUR;
    let mut bought = Bought::default();
    assert_eq!(bought.on(at(0)), 0);
    bought.count(at(22));
    bought.count(at(23));
    assert_eq!((bought.on(at(23)), bought.on(at(24))), (2, 0), "midnight");
    bought.count(at(25));
    assert_eq!(bought.on(at(26)), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_and_what_is_refused_are_counted_once() {
    let rig = Rig::new(1, [Answer::Token("one", HOUR), Answer::Token("two", HOUR)]);
    let first: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let reader = rig.reader.clone();
                async move { reader.ready(paused).await }
            })
        })
        .collect();
    for waiter in first {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(rig.slot.waits(), 3);
    rig.reader.ready(paused).await.unwrap();
    assert_eq!(rig.slot.waits(), 3, "there was one");
    tokio::time::sleep(2 * SECOND).await;
    for _ in 0..100 {
        rig.reader.refused(Generation(1));
    }
    assert!(rig.reader.newer_than(Generation(1), paused).await);
    assert_eq!(rig.slot.waits(), 4);
    for _ in 0..100 {
        rig.reader.refused(Generation(1));
    }
    tokio::time::sleep(SECOND).await;
    assert!(
        rig.counts("bearerd_token_refused_total{token=\"orders\"} 1"),
        "one token, however many requests carried it"
    );
    rig.reader.refused(Generation(2));
    tokio::time::sleep(SECOND).await;
    assert!(rig.counts("bearerd_token_refused_total{token=\"orders\"} 2"));
}
