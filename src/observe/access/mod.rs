//! The access log: one line for each request, written at its very end.
//!
//! A `Trail` goes with the request and notes what becomes of it. Where there is no access log it is empty: then nothing is
//! copied and no clock is read for it. What a request leaves behind goes to a thread of its own (`writer`), which makes a
//! line of it (`line`) and puts that into the file (`sheet`). Must never know queries, headers, bodies or tokens.

mod line;
mod sheet;
mod writer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{Method, Uri, Version};

pub use self::sheet::{Sheet, SheetError};
pub(super) use self::writer::{Losses, PARTING, TOO_SLOW, Writer};
use super::event::Asked;
use super::reason::Reason;
use super::route::RouteMetrics;
use crate::secret::Fingerprint;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Stdout,
    File(PathBuf),
}

/// What a request is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing that is told apart: ourselves, the bodies, the app.
    Other,
    /// A place among the requests of its route.
    Queue,
    Token,
    /// A connection that is being made.
    Connect,
    /// The head of the answer.
    Upstream,
}

impl Phase {
    const COUNT: usize = 5;
}

/// Bytes of bodies, or of what comes after HTTP, as they pass.
#[derive(Debug, Default)]
pub struct Tally {
    /// From the app.
    read: AtomicU64,
    /// To the app.
    written: AtomicU64,
}

impl Tally {
    pub fn read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The longest path that is kept, in bytes. Longer ones are rare and mostly somebody's probe; with everything beside it a
/// line stays below what a pipe takes whole (PIPE_BUF, 4096), mostly.
const LONGEST_PATH: usize = 1024;

/// The longest method that is kept. The longest that is registered has 17 letters.
const LONGEST_METHOD: usize = 32;

/// What a request leaves behind. Its fields are `None` where there is nothing to say.
#[derive(Debug)]
pub struct Entry {
    /// The name of the listener that it came by.
    listener: Option<Arc<str>>,
    /// One of `callers.clients`.
    pub caller: Option<Arc<str>>,
    /// The user at the other end of a unix socket.
    uid: Option<u32>,
    peer: Option<SocketAddr>,
    protocol: Option<Version>,
    method: Option<Box<str>>,
    path: Option<Box<str>>,
    /// The host that it named, once that was found to be one.
    pub host: Option<String>,
    route: Option<RouteMetrics>,
    /// Where the route leads.
    pub upstream: Option<String>,
    pub status: Option<u16>,
    pub reason: Option<Reason>,
    /// The token that it needs.
    pub token: Option<Arc<str>>,
    /// Which one was on it, and who that was granted to.
    pub signed: Option<(Fingerprint, Option<Arc<str>>)>,
    /// How often it was sent to the upstream.
    sent: u32,
    pub trace: Option<u128>,
    tally: Arc<Tally>,
    came: SystemTime,
    begun: Instant,
    phase: Phase,
    since: Instant,
    spent: [Duration; Phase::COUNT],
    total: Duration,
}

impl Entry {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            listener: None,
            caller: None,
            uid: None,
            peer: None,
            protocol: None,
            method: None,
            path: None,
            host: None,
            route: None,
            upstream: None,
            status: None,
            reason: None,
            token: None,
            signed: None,
            sent: 0,
            trace: None,
            tally: Arc::default(),
            came: SystemTime::now(),
            begun: now,
            phase: Phase::Other,
            since: now,
            spent: [Duration::ZERO; Phase::COUNT],
            total: Duration::ZERO,
        }
    }

    /// Where it came from.
    pub fn came(&mut self, asked: Asked) {
        (self.listener, self.caller, self.uid, self.peer) = (asked.listener, asked.caller, asked.uid, asked.peer);
    }

    /// What was asked for. A query stays out: tokens, names and searches stand in it.
    pub fn asks(&mut self, method: &Method, uri: &Uri, version: Version) {
        let path = uri.path();
        self.method = Some(cut(method.as_str(), LONGEST_METHOD));
        // CONNECT has none.
        self.path = (!path.is_empty()).then(|| cut(path, LONGEST_PATH));
        self.protocol = Some(version);
    }

    pub fn route(&mut self, route: &RouteMetrics) {
        self.route = Some(route.clone());
    }

    fn enter(&mut self, phase: Phase) {
        let now = Instant::now();
        self.spent[self.phase as usize] += now.duration_since(self.since);
        (self.phase, self.since) = (phase, now);
    }

    fn end(&mut self) {
        self.enter(Phase::Other);
        self.total = self.since.duration_since(self.begun);
    }
}

/// The beginning of a text, with an ellipsis where there was more.
fn cut(text: &str, longest: usize) -> Box<str> {
    if text.len() <= longest {
        return text.into();
    }
    let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}\u{2026}", &text[..end]).into()
}

/// What is noted of one request; nothing where there is no access log.
#[derive(Debug, Default)]
pub struct Trail(Option<Box<Entry>>);

impl Trail {
    pub(super) fn begin(is_on: bool) -> Self {
        Self(is_on.then(|| Box::new(Entry::new())))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub fn note(&mut self, note: impl FnOnce(&mut Entry)) {
        if let Some(entry) = &mut self.0 {
            note(entry);
        }
    }

    /// From now on it waits for this.
    pub fn enter(&mut self, phase: Phase) {
        self.note(|entry| entry.enter(phase));
    }

    /// It is being sent, and waits for the head of the answer.
    pub fn sent(&mut self) {
        self.note(|entry| {
            entry.enter(Phase::Upstream);
            entry.sent += 1;
        });
    }

    /// It was not: nothing of it was written.
    pub fn unsent(&mut self) {
        self.note(|entry| entry.sent = entry.sent.saturating_sub(1));
    }

    /// Where bytes are counted, if anybody wants to know.
    pub fn tally(&self) -> Option<&Arc<Tally>> {
        self.0.as_ref().map(|entry| &entry.tally)
    }

    pub(super) fn end(self) -> Option<Box<Entry>> {
        let mut entry = self.0?;
        entry.end();
        Some(entry)
    }
}
