//! What a proof claims and what it found: told as it ends, kept for the report, and a failure where a claim does not hold.
//!
//! Must never measure anything itself. `BEARERD_REPORT` is the folder that the report is made from.

use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::support::{lasting, report};

/// One bar of docs/reliability.md, by its letter and number.
#[derive(Serialize)]
pub(super) struct Proof {
    id: &'static str,
    title: &'static str,
    claims: Vec<Claim>,
    figures: Vec<(String, String)>,
    requests: u64,
    /// Of these requests, those that had no whole answer of their own, and ought to have had one.
    lost: u64,
    faults: u64,
    renewals: u64,
    bad_inputs: u64,
    seconds: u64,
    #[serde(skip)]
    begun: Instant,
}

#[derive(Serialize)]
struct Claim {
    what: String,
    bar: String,
    found: String,
    holds: bool,
}

impl Proof {
    pub(super) fn new(id: &'static str, title: &'static str) -> Self {
        // Until it ends, so that what an earlier run has found is not taken for it.
        keep(id, &serde_json::json!({ "id": id, "skipped": "it did not come to its end" }));
        Self {
            id,
            title,
            claims: Vec::new(),
            figures: Vec::new(),
            requests: 0,
            lost: 0,
            faults: 0,
            renewals: 0,
            bad_inputs: 0,
            seconds: 0,
            begun: Instant::now(),
        }
    }

    pub(super) fn is<T: Copy + PartialEq + Display>(&mut self, what: &str, found: T, bar: T) {
        let holds = found == bar;
        self.claim(what, bar.to_string(), found.to_string(), holds);
    }

    pub(super) fn at_most<T: Copy + PartialOrd + Display>(&mut self, what: &str, found: T, bar: T) {
        let holds = found <= bar;
        self.claim(what, format!("≤ {bar}"), found.to_string(), holds);
    }

    pub(super) fn at_least<T: Copy + PartialOrd + Display>(&mut self, what: &str, found: T, bar: T) {
        let holds = found >= bar;
        self.claim(what, format!("≥ {bar}"), found.to_string(), holds);
    }

    /// Judged where the machine has nothing else to do, which is in the long form; elsewhere it is told.
    pub(super) fn within(&mut self, what: &str, found: Duration, bar: Duration) {
        match lasting(false, false, true) {
            true => self.claim(what, format!("≤ {}", brief(bar)), brief(found), found <= bar),
            false => self.took(what, found),
        }
    }

    /// What is told and not judged: how long something took is the machine's business as much as ours.
    pub(super) fn figure(&mut self, what: &str, found: impl Display) {
        self.figures.push((what.to_owned(), found.to_string()));
    }

    pub(super) fn took(&mut self, what: &str, time: Duration) {
        self.figure(what, brief(time));
    }

    /// Of the requests that are counted, those that had no whole answer of their own, and ought to have had one.
    pub(super) fn lost(&mut self, requests: u64) {
        self.lost += requests;
    }

    pub(super) fn survived(&mut self, faults: u64) {
        self.faults += faults;
    }

    pub(super) fn renewed(&mut self, tokens: usize) {
        self.renewals += tokens as u64;
    }

    pub(super) fn withstood(&mut self, bad_inputs: u64) {
        self.bad_inputs += bad_inputs;
    }

    /// Requests that are no business of the books.
    pub(super) fn asked(&mut self, requests: u64) {
        self.requests += requests;
    }

    fn claim(&mut self, what: &str, bar: String, found: String, holds: bool) {
        self.claims.push(Claim { what: what.to_owned(), bar, found, holds });
    }

    /// Told where a proof cannot be made.
    pub(super) fn skipped(id: &str, why: &str) {
        report(&format!("{id}: not made here, since {why}"));
        keep(id, &serde_json::json!({ "id": id, "skipped": why }));
    }

    /// Tells all of it. Panics where a claim does not hold.
    pub(super) fn end(mut self) {
        self.seconds = self.begun.elapsed().as_secs();
        let Self { id, title, .. } = self;
        report(&format!("{id}: {title}, in {} s", self.seconds));
        for Claim { what, bar, found, holds } in &self.claims {
            report(&format!("{id}: {what}: {found} ({bar}){}", if *holds { "" } else { ", which DOES NOT HOLD" }));
        }
        for (what, found) in &self.figures {
            report(&format!("{id}: {what}: {found}"));
        }
        keep(id, &self);
        let broken: Vec<&str> =
            self.claims.iter().filter(|claim| !claim.holds).map(|claim| claim.what.as_str()).collect();
        assert!(broken.is_empty(), "{id}: {broken:?}");
    }
}

fn brief(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

/// For the report, if there is to be one.
fn keep(id: &str, proof: &impl Serialize) {
    if let Ok(folder) = std::env::var("BEARERD_REPORT") {
        let text = serde_json::to_string_pretty(proof).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{id}.json")), text).unwrap();
    }
}
