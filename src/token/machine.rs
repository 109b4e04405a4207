//! When to ask for a token, with which credential, and until when what was granted may be used.
//!
//! A pure step function: inputs and the time go in, effects come out. It must never know tokio, reqwest or what a
//! clock is. `driver` carries out what it says.
//!
//! ```text
//!            Start, renewal due, Wanted, a refused token
//!   Idle ──────────────────────────────────────────────▶ Airborne
//!     ▲                                                      │
//!     └──────────── Granted · Failed(transient | rejected) ◀─┘
//! ```
//!
//! The rules; each is a test of the same name below:
//!
//!  1. One flight at a time.
//!  2. Never ask before the backoff or the provider's Retry-After is over, not even for a refused token. Of a
//!     Retry-After at most five minutes count.
//!  3. Lifetime counts from when we asked.
//!  4. Past its usable life nobody gets a token: the deadline is published, and the reader checks it.
//!  5. Renewal starts at the early share of life with jitter, never sooner than the minimal interval.
//!  6. A refusal counts only if it is of the token that is held, and withdraws nothing.
//!  7. A rejected credential, or one that cannot be used, gives way to the next at once; when all did, back off. What works becomes current.
//!     Changed files return to the first and lift the backoff, not a Retry-After.
//!  8. A bad answer never overwrites a good token.
//!  9. Renewals forced by refusals back off, doubling to an hour while fresh tokens do not cure them; a replay that the
//!     upstream takes, or a token that lives unrefused, resets that. They never delay a planned renewal. One that brings
//!     no token is tried again by the backoff alone: nothing was learnt about fresh tokens.
//! 10. The margin is at most a tenth of life, and renewal starts no later than three quarters of the usable life.
//! 11. Backoff is exponential with equal jitter, 1 s to 30 s, and no more than a quarter of what the held token has left, unless
//!     the provider asks to be asked less.
//! 12. Nothing ends the loop but shutdown. (The driver's.)
//! 13. No credential is asked with more often than its budget allows, whatever the cause. Refusals leave the share alone
//!     that planned renewals will need, and tries after failures spread over the window once half of it is spent.
//! 14. A provider that grants the same token again is asked next when that one is over.

use std::fmt;
use std::time::Duration;

use super::policy::{self, AFTER_401_MAX, Budget, RETRY_AFTER_MAX, Refresh};
use super::purse::Purse;
use crate::clock::{Deadline, Now};

/// Counts the tokens of one name, from 1. Two different tokens never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Generation(pub u64);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// The loop begins, or begins again after a panic.
    Start,
    /// Time passed. `used` tells whether a reader took the held token since the last step.
    Wake {
        used: bool,
    },
    /// A reader found nothing that it may use.
    Wanted,
    /// The provider granted a token that lives for `life`; `unchanged` if it is, to the letter, the one that is held.
    Granted {
        life: Duration,
        unchanged: bool,
    },
    Failed(Failed),
    /// The upstream did not take a token of this generation.
    Refused(Generation),
    /// The upstream took a request again that it had refused with an older token.
    Cured(Generation),
    /// What the credentials are read from changed.
    Rotated,
}

/// How a token request failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failed {
    pub kind: FailureKind,
    /// What the provider asked to be given, however it said so.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Another try with the same credential may work.
    Transient,
    /// The same, and the provider asks to be asked less.
    Limited,
    /// The provider does not accept the credential.
    Rejected,
    /// The credential cannot be read or does not sign, so the provider was not even asked.
    Unusable,
}

/// What the driver must do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Request a token with this credential, and come back with `Granted` or `Failed`.
    Ask { credential: usize, why: Why },
    /// The credential `from` was rejected, or cannot be used; `to` is used from now on.
    Switched { from: usize, to: usize, why: FailureKind },
}

/// Why a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    First,
    Planned,
    Refused,
    Expired,
    Retry,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "the first",
            Self::Planned => "a planned renewal",
            Self::Refused => "an upstream refused the last one",
            Self::Expired => "the last one has expired",
            Self::Retry => "another try",
        }
    }
}

/// What decides when a token is asked for: of all that it waits for, what lasts longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing holds it back, or it is under way.
    Asked(Why),
    /// Renewal is planned.
    Planned,
    /// `when_idle: off`, and nobody has used the one that is held: a request must want it first.
    Unused,
    /// An upstream refused the one that is held, and `after_401` holds such renewals back.
    After401,
    /// Our own patience after so many failures.
    Backoff(u32),
    /// The provider's wish.
    RetryAfter,
    /// `budget`.
    Budget,
    /// What is left of `budget` is for planned renewals, and not for tokens that an upstream refuses.
    Reserved,
    /// Half of `budget` is spent, and tries after failures are spread over what is left.
    Paced,
    /// `min_interval`.
    Spaced,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked(why) => why.as_str(),
            Self::Planned => Why::Planned.as_str(),
            Self::Unused => "nothing uses the token (`when_idle: off`)",
            Self::After401 => "an upstream refused the token; renewals for that are held back (`after_401`)",
            Self::Backoff(1) => "backoff after 1 failure",
            Self::Backoff(failures) => return write!(f, "backoff after {failures} failures"),
            Self::RetryAfter => "the provider said Retry-After",
            Self::Budget => "the budget is spent",
            Self::Reserved => "what is left of the budget is kept for planned renewals",
            Self::Paced => "half of the budget is spent, and tries after failures are spread over the rest",
            Self::Spaced => "two token requests are never closer (`min_interval`)",
        })
    }
}

/// The next token request, if nothing else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    /// On the clock since boot.
    at: Duration,
    cause: Cause,
}

impl Next {
    /// Not before this, which is so because of that.
    fn held(self, until: Duration, cause: Cause) -> Self {
        if until > self.at { Self { at: until, cause } } else { self }
    }
}

/// The life of one configured token.
#[derive(Clone, Debug)]
pub struct Machine {
    refresh: Refresh,
    rng: fastrand::Rng,
    budget: Option<Budget>,
    /// One for each credential.
    purses: Vec<Purse>,
    /// The credential in use.
    using: usize,
    /// Credentials rejected since the last grant, rotation or backoff.
    rejected: usize,
    held: Option<Held>,
    newest: Generation,
    flight: Option<Flight>,
    failures: u32,
    /// Our own patience: nothing is asked before.
    backoff_until: Duration,
    /// The provider's wish: nothing is asked before, whatever changed here.
    embargo_until: Duration,
    /// No two asks that lead to a grant are closer than the minimal interval.
    spaced_until: Duration,
    /// When the next refusal may force a renewal, and how long the one after must wait.
    forced_from: Duration,
    forced_gap: Duration,
    used: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    generation: Generation,
    until: Deadline,
    renew_at: Duration,
    /// From one planned renewal to the next.
    period: Duration,
    refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    asked: Now,
    why: Why,
    /// A refusal asked for it.
    forced: bool,
    /// The credentials' files changed while it was under way: its rejection says nothing about the new ones.
    rotated: bool,
}

/// What the machine knows, for whoever shows or publishes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Generation and last usable moment of the held token.
    pub held: Option<(Generation, Deadline)>,
    pub airborne: bool,
    /// When the next token request is due, on the clock since boot; `None` while one is under way.
    pub next_ask: Option<Duration>,
    /// Why then, or why it is under way, or why there is none.
    pub cause: Cause,
    /// When renewal of the held token is planned.
    pub renew_at: Option<Duration>,
    pub failures: u32,
    pub using: usize,
    /// What is left of the budget of the credential in use; `None` if it has none.
    pub budget_left: Option<u32>,
}

/// What is worth remembering over a restart: nothing secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// How much longer the provider wishes to be left alone.
    pub embargo: Duration,
    /// For each credential, how long ago it was asked with.
    pub asked: Vec<Vec<Duration>>,
}

impl Memory {
    /// The same when so much more time has passed.
    pub fn later(&self, by: Duration) -> Self {
        let asked = self.asked.iter().map(|ages| ages.iter().map(|age| *age + by).collect()).collect();
        Self { embargo: self.embargo.saturating_sub(by), asked }
    }
}

impl Machine {
    /// `credentials` is how many there are, at least one.
    pub fn new(refresh: Refresh, budget: Option<Budget>, credentials: usize, seed: u64) -> Self {
        debug_assert!(credentials > 0, "a token without a credential cannot be asked for");
        Self {
            refresh,
            rng: fastrand::Rng::with_seed(seed),
            budget,
            purses: vec![Purse::default(); credentials],
            using: 0,
            rejected: 0,
            held: None,
            newest: Generation::default(),
            flight: None,
            failures: 0,
            backoff_until: Duration::ZERO,
            embargo_until: Duration::ZERO,
            spaced_until: Duration::ZERO,
            forced_from: Duration::ZERO,
            forced_gap: refresh.after_401,
            used: false,
        }
    }

    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            // A flight of before a panic will never land.
            Input::Start => self.flight = None,
            Input::Wake { used } => self.used |= used,
            Input::Wanted => self.used = true,
            Input::Granted { life, unchanged } => self.granted(life, unchanged),
            Input::Failed(failed) => self.failed(now, failed, &mut effects),
            Input::Refused(generation) => self.refused(generation),
            Input::Cured(generation) => self.cured(generation),
            Input::Rotated => self.rotated(),
        }
        if self.flight.is_none() && self.next_ask(now).is_some_and(|due| due <= now.mono) {
            effects.push(self.ask(now));
        }
        effects
    }

    /// When `Wake` is due, on the clock since boot. `None` while a flight is under way.
    pub fn wake_at(&self, now: Now) -> Option<Duration> {
        match (self.flight, self.held) {
            (Some(_), _) => None,
            // An unused token is looked at again now and then: it may have been used meanwhile.
            (None, Some(held)) if self.is_dormant() && !held.refused && !held.until.passed(now) => {
                let again = now.mono + (held.until.left(now) / 4).max(Duration::from_secs(1));
                Some(held.renew_at.max(again))
            }
            (None, _) => self.next_ask(now),
        }
    }

    /// Until when the budget alone keeps a token request back that is due.
    pub fn budget_holds(&self, now: Now) -> Option<Duration> {
        let due = self.held.is_none_or(|held| held.until.passed(now) || held.renew_at <= now.mono);
        let others = self.backoff_until.max(self.embargo_until).max(self.spaced_until);
        if self.flight.is_some() || !due || self.is_dormant() || others > now.mono {
            return None;
        }
        let at_once = Next { at: now.mono, cause: Cause::Asked(self.why(now)) };
        self.affordable(now, at_once, 0).map(|next| next.at).filter(|free| *free > now.mono)
    }

    pub fn view(&self, now: Now) -> View {
        let (next_ask, cause) = match (self.flight, self.next(now)) {
            (Some(flight), _) => (None, Cause::Asked(flight.why)),
            (None, Some(next)) => (Some(next.at), next.cause),
            (None, None) => (None, Cause::Unused),
        };
        let purse = self.budget.zip(self.purses.get(self.using));
        View {
            held: self.held.map(|held| (held.generation, held.until)),
            airborne: self.flight.is_some(),
            next_ask,
            cause,
            renew_at: self.held.map(|held| held.renew_at),
            failures: self.failures,
            using: self.using,
            budget_left: purse.map(|(budget, purse)| purse.left(budget, now.mono)),
        }
    }

    pub fn memory(&self, now: Now) -> Memory {
        Memory {
            embargo: self.embargo_until.saturating_sub(now.mono),
            asked: self.purses.iter().map(|purse| purse.ages(now.mono)).collect(),
        }
    }

    pub fn recall(&mut self, now: Now, memory: &Memory) {
        self.embargo_until = now.mono + memory.embargo.min(RETRY_AFTER_MAX);
        for (purse, ages) in self.purses.iter_mut().zip(&memory.asked) {
            purse.recall(now.mono, ages);
        }
    }

    fn granted(&mut self, life: Duration, unchanged: bool) {
        let Some(flight) = self.flight.take() else { return };
        self.failures = 0;
        self.rejected = 0;
        self.backoff_until = Duration::ZERO;
        self.embargo_until = Duration::ZERO;
        self.used = false;
        let refused = self.held.is_some_and(|held| held.refused);
        if !refused {
            self.forced_gap = self.refresh.after_401;
        }
        if flight.forced {
            self.forced_from = flight.asked.mono + self.forced_gap;
            self.forced_gap = (self.forced_gap * 2).min(AFTER_401_MAX);
        }
        // The provider's "new" token may be the old one: whoever refused that will refuse this.
        let unchanged = unchanged && self.held.is_some();
        if !unchanged {
            self.newest.0 += 1;
        }
        let schedule = self.refresh.schedule(life, self.rng.f64());
        let renew_after =
            if unchanged { schedule.usable_for.max(self.refresh.min_interval) } else { schedule.renew_after };
        self.held = Some(Held {
            generation: self.newest,
            until: flight.asked.plus(schedule.usable_for),
            renew_at: flight.asked.mono + renew_after,
            period: renew_after,
            refused: unchanged && refused,
        });
        self.spaced_until = flight.asked.mono + self.refresh.min_interval;
    }

    fn failed(&mut self, now: Now, failed: Failed, effects: &mut Vec<Effect>) {
        let Some(flight) = self.flight.take() else { return };
        if let Some(wish) = failed.retry_after {
            self.embargo_until = now.mono + wish.min(RETRY_AFTER_MAX);
        }
        if matches!(failed.kind, FailureKind::Rejected | FailureKind::Unusable) {
            if flight.rotated {
                return;
            }
            self.rejected += 1;
            if self.purses.len() > 1 {
                let from = self.using;
                self.using = (from + 1) % self.purses.len();
                effects.push(Effect::Switched { from, to: self.using, why: failed.kind });
            }
            if self.rejected < self.purses.len() {
                return;
            }
            self.rejected = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let backoff = policy::backoff(self.failures, self.rng.f64());
        let left = self.held.filter(|held| !held.refused).map_or(Duration::ZERO, |held| held.until.left(now));
        let is_urgent = failed.kind == FailureKind::Transient && !left.is_zero();
        self.backoff_until = now.mono + if is_urgent { backoff.min(policy::patience(left)) } else { backoff };
    }

    fn refused(&mut self, generation: Generation) {
        if let Some(held) = self.held.as_mut().filter(|held| held.generation == generation) {
            held.refused = true;
        }
    }

    fn cured(&mut self, generation: Generation) {
        if self.held.is_some_and(|held| held.generation == generation && !held.refused) {
            self.forced_gap = self.refresh.after_401;
        }
    }

    fn rotated(&mut self) {
        self.using = 0;
        self.rejected = 0;
        self.failures = 0;
        self.backoff_until = Duration::ZERO;
        if let Some(flight) = &mut self.flight {
            flight.rotated = true;
        }
    }

    fn ask(&mut self, now: Now) -> Effect {
        let why = self.why(now);
        let forced = self.held.is_some_and(|held| held.refused);
        if let (Some(budget), Some(purse)) = (self.budget, self.purses.get_mut(self.using)) {
            purse.spend(budget, now.mono);
        }
        self.flight = Some(Flight { asked: now, why, forced, rotated: false });
        Effect::Ask { credential: self.using, why }
    }

    /// Why a token is asked for, if it is asked for now.
    fn why(&self, now: Now) -> Why {
        match self.held {
            _ if self.failures > 0 || self.rejected > 0 => Why::Retry,
            None => Why::First,
            Some(held) if held.until.passed(now) => Why::Expired,
            Some(held) if held.renew_at <= now.mono => Why::Planned,
            Some(_) => Why::Refused,
        }
    }

    /// When the next ask is due if nothing else happens; `None` if a reader must want it first.
    fn next_ask(&self, now: Now) -> Option<Duration> {
        self.next(now).map(|next| next.at)
    }

    /// The next ask, if nothing else happens; `None` if a reader must want it first.
    fn next(&self, now: Now) -> Option<Next> {
        let at_once = Next { at: now.mono, cause: Cause::Asked(self.why(now)) };
        let needed = match self.held {
            None => Some(at_once),
            Some(held) if held.until.passed(now) && (held.refused || !self.is_dormant()) => Some(at_once),
            Some(held) if held.refused || !self.is_dormant() => {
                Some(Next { at: held.renew_at.max(now.mono), cause: Cause::Planned })
            }
            Some(_) => None,
        };
        let needed = needed.and_then(|next| self.affordable(now, next, 0));
        let forced = self.held.filter(|held| held.refused).and_then(|held| {
            let reserve = self.budget.map_or(0, |budget| planned_in(budget, held.period));
            let next = Next { at: now.mono, cause: Cause::Asked(Why::Refused) };
            self.affordable(now, next.held(self.forced_from, Cause::After401), reserve)
        });
        let next = needed.into_iter().chain(forced).min_by_key(|next| next.at)?;
        let next = next.held(self.backoff_until, Cause::Backoff(self.failures));
        let next = next.held(self.embargo_until, Cause::RetryAfter);
        Some(next.held(self.spaced_until, Cause::Spaced))
    }

    /// The same when the budget allows it; `None` is never.
    fn affordable(&self, now: Now, next: Next, reserve: usize) -> Option<Next> {
        let Some((budget, purse)) = self.budget.zip(self.purses.get(self.using)) else { return Some(next) };
        let is_spent = purse.left(budget, now.mono) == 0;
        let short = if is_spent { Cause::Budget } else { Cause::Reserved };
        let next = next.held(purse.free_from(budget, now.mono, reserve)?, short);
        let paced = if self.failures > 0 { purse.retry_from(budget, now.mono) } else { Duration::ZERO };
        Some(next.held(paced, Cause::Paced))
    }

    fn is_dormant(&self) -> bool {
        !self.refresh.when_idle && !self.used && self.held.is_some()
    }
}

/// How many planned renewals, `period` apart, fall into a window of the budget at the most.
fn planned_in(budget: Budget, period: Duration) -> usize {
    let renewals = budget.window.as_secs_f64() / period.as_secs_f64().max(1.0);
    renewals as usize + 1
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
