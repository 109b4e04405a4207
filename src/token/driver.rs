//! The one loop of a token: carries out what the machine says and tells it what came of it.
//!
//! Nothing ends it but shutdown: a panic in a token request is a failed request, a panic in the loop restarts it with
//! all that it knew.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::grant::{AskError, ClockOff, Grant, What};
use super::machine::{Effect, FailureKind, Generation, Input, Machine, Memory, Why};
use super::memory::MemoryFile;
use super::slot::{Answer, Bought, Ear, Granted, LastError, Slot, Snapshot, Token};
use super::source::Source;
use crate::bug;
use crate::clock::Now;
use crate::life::{Latch, RESTART, contained};
use crate::observe::event::{Event, TokenGranted};
use crate::observe::{Observer, TokenOutcome};

/// Timers stop while a machine sleeps, so the longest nap is short: that is how soon after a resume an expired token is
/// noticed when no request asks for it first.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Drives one token.
pub(super) struct Driver<S> {
    pub(super) name: Arc<str>,
    pub(super) machine: Machine,
    pub(super) source: Arc<S>,
    pub(super) slot: Arc<Slot>,
    pub(super) observer: Observer,
    /// How a credential is called in logs: its identifier.
    pub(super) credential_names: Vec<Arc<str>>,
    /// Marked as changed when what the secrets are read from changes.
    pub(super) rotated: watch::Receiver<()>,
    /// Released by the first token.
    pub(super) latch: Option<Latch>,
    pub(super) clock: fn() -> Now,
    pub(super) ear: Ear,
    pub(super) told_of_budget: bool,
    /// The token that was asked for because the one before was refused.
    pub(super) forced: Option<Generation>,
    pub(super) told_no_better: bool,
    /// `None` is `state_dir: off`.
    pub(super) memory: Option<MemoryFile>,
    /// What one that it takes the place of has asked, and as of when.
    pub(super) inherited: Option<(Duration, Memory)>,
    pub(super) token: Option<Arc<Token>>,
    pub(super) last_error: Option<Arc<LastError>>,
    /// The first of the failures since the last grant, and how many there were.
    pub(super) failing: Option<(Now, u32)>,
    pub(super) rejected: Vec<Option<Arc<LastError>>>,
    pub(super) granted: Option<Granted>,
    /// Newest first.
    pub(super) answers: Arc<VecDeque<Answer>>,
    pub(super) bought: Bought,
}

/// Answers that are kept: a day of them where all is well, an outage's beginning where it is not.
const ANSWERS: usize = 10;

/// A token request that is under way.
struct Landing {
    credential: usize,
    asked: Now,
    outcome: Result<Grant, AskError>,
    /// The credential was rejected, and what it is read from holds another one by now.
    replaced: bool,
    /// A refusal of the token before asked for it.
    forced: bool,
}

impl<S: Source> Driver<S> {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        if let Some(file) = &self.memory {
            let now = (self.clock)();
            self.machine.recall(now, &file.read(now.wall));
        }
        if let Some((at, memory)) = self.inherited.take() {
            let now = (self.clock)();
            self.machine.recall(now, &memory.later(now.mono.saturating_sub(at)));
        }
        while contained(pin!(self.drive())).await.is_none() {
            self.observer.tell(&Event::TaskPanicked { task: "a token's loop" });
            tokio::time::sleep(RESTART).await;
        }
    }

    async fn drive(&mut self) {
        // At most one task is in it; dropping it ends that one.
        let mut flight = JoinSet::new();
        let mut inputs = vec![Input::Start];
        loop {
            for input in inputs.drain(..) {
                if let Input::Refused(_) = input {
                    self.observer.token_refused(&self.name);
                }
                bug::at("driver");
                let now = (self.clock)();
                let effects = self.machine.step(now, input);
                self.perform(effects, now, &mut flight);
            }
            let now = (self.clock)();
            self.publish(now);
            self.tell_of_budget(now);
            self.remember(now);
            let wake = self.machine.wake_at(now).map(|wake| wake.saturating_sub(now.mono).min(LONGEST_NAP));
            tokio::select! {
                Some(landed) = flight.join_next() => {
                    // A task is lost only by a runtime that is shutting down.
                    let Ok(landing) = landed else { return };
                    let now = (self.clock)();
                    let effects = self.land(landing, now);
                    self.perform(effects, now, &mut flight);
                }
                () = self.slot.nudged() => {
                    inputs.extend(self.slot.listen(&mut self.ear));
                    self.tell_of_refusals(&inputs);
                }
                Ok(()) = self.rotated.changed() => {
                    self.observer.tell(&Event::SecretChanged { token: &self.name });
                    inputs.push(Input::Rotated);
                }
                () = nap(wake) => inputs.push(Input::Wake { used: self.slot.take_used() }),
            }
        }
    }

    fn perform(&self, effects: Vec<Effect>, now: Now, flight: &mut JoinSet<Landing>) {
        for effect in effects {
            match effect {
                Effect::Ask { credential, why } => self.ask(credential, why, now, flight),
                Effect::Switched { from, to, why } => self.observer.tell(&Event::CredentialSwitched {
                    rejected: why == FailureKind::Rejected,
                    token: &self.name,
                    from: &self.credential_name(from),
                    to: &self.credential_name(to),
                }),
            }
        }
    }

    fn ask(&self, credential: usize, why: Why, asked: Now, flight: &mut JoinSet<Landing>) {
        let name = self.credential_name(credential);
        if why == Why::Refused {
            let generation = self.token.as_ref().map_or(0, |token| token.generation.0);
            self.observer.tell(&Event::TokenRefused { token: &self.name, generation });
        }
        self.observer.tell(&Event::TokenAsked { token: &self.name, credential: &name, why: why.as_str() });
        let forced = why == Why::Refused;
        let source = Arc::clone(&self.source);
        flight.spawn(async move {
            let asking = async {
                bug::at("token");
                source.ask(credential).await
            };
            let outcome = contained(pin!(asking)).await.unwrap_or(Err(What::Panicked.into()));
            let is_rejected = |error: &AskError| error.failed().kind == FailureKind::Rejected;
            // The secret may have been replaced while the old one was under way, before the watch told us.
            let replaced = outcome.as_ref().is_err_and(is_rejected)
                && contained(pin!(source.changed(credential))).await.unwrap_or(false);
            Landing { credential, asked, outcome, replaced, forced }
        });
    }

    fn land(&mut self, landing: Landing, now: Now) -> Vec<Effect> {
        let Landing { credential, asked, outcome, replaced, forced } = landing;
        match outcome {
            Ok(grant) => self.granted(grant, credential, asked, forced, now),
            Err(error) => self.failed(&error, credential, asked, replaced, now),
        }
    }

    fn granted(&mut self, grant: Grant, credential: usize, asked: Now, forced: bool, now: Now) -> Vec<Effect> {
        if let Some(why) = &grant.stale_secret {
            self.observer.tell(&Event::SecretUnreadable { token: &self.name, why });
        }
        let unchanged = self.token.as_ref().is_some_and(|token| token.secret.expose() == grant.access_token.expose());
        let effects = self.machine.step(now, Input::Granted { life: grant.life, unchanged });
        let (took, life) = (now.mono.saturating_sub(asked.mono), grant.life);
        self.answered(Answer {
            at: now.wall,
            outcome: TokenOutcome::Granted,
            credential: self.credential_name(credential),
            took,
            what: None,
            fingerprint: Some(grant.access_token.fingerprint()),
        });
        self.bought.count(now.wall);
        let view = self.machine.view(now);
        let (Some((generation, until)), Some(renew_at)) = (view.held, view.renew_at) else { return effects };
        // `grant` let nothing through that a header cannot carry.
        self.forced = forced.then_some(generation);
        let Some(token) = self.slot.token(generation, until, renew_at, credential, grant.access_token) else {
            return effects;
        };
        let recovered = self.failing.take().map(|(since, failures)| (failures, now.mono.saturating_sub(since.mono)));
        self.observer.tell(&Event::TokenGranted(TokenGranted {
            token: &self.name,
            credential: &self.credential_name(credential),
            fingerprint: token.fingerprint,
            generation: generation.0,
            life,
            renew_in: renew_at.saturating_sub(now.mono),
            took,
            recovered,
        }));
        // Once, not at each renewal: they are facts about the provider.
        if self.token.is_none() && grant.odd_type {
            self.observer.tell(&Event::TokenTypeOdd { token: &self.name });
        }
        if self.token.is_none() && grant.other_scope {
            self.observer.tell(&Event::ScopeDiffers { token: &self.name });
        }
        let off = grant.date.and_then(|date| ClockOff::of(date, now.wall));
        if let (None, Some(off)) = (&self.token, off) {
            self.observer.tell(&Event::ClockOff { token: &self.name, off: &off.to_string() });
        }
        self.token = Some(Arc::new(token));
        let renewal = now.plus(renew_at.saturating_sub(now.mono)).wall;
        self.granted = Some(Granted { asked: asked.wall, life, renewal });
        self.last_error = None;
        if let Some(rejected) = self.rejected.get_mut(credential) {
            *rejected = None;
        }
        self.latch = None;
        effects
    }

    fn failed(&mut self, error: &AskError, credential: usize, asked: Now, replaced: bool, now: Now) -> Vec<Effect> {
        let failed = error.failed();
        let rejected = failed.kind == FailureKind::Rejected;
        if replaced {
            self.observer.tell(&Event::SecretChanged { token: &self.name });
            let effects = self.machine.step(now, Input::Rotated);
            debug_assert!(effects.is_empty(), "one flight at a time: {effects:?}");
        }
        let effects = self.machine.step(now, Input::Failed(failed));
        let (since, failures) = self.failing.unwrap_or((now, 0));
        self.failing = Some((since, failures.saturating_add(1)));
        let next = self.machine.view(now).next_ask.map(|next| next.saturating_sub(now.mono));
        let left = self.token.as_ref().map(|token| token.until.left(now));
        let why = error.to_string();
        self.observer.tell(&Event::TokenFailed {
            token: &self.name,
            credential: &self.credential_name(credential),
            why: &why,
            cure: error.cure.as_deref(),
            next,
            usable_for: left.filter(|left| !left.is_zero()),
            in_force: self.slot.is_in_force(),
        });
        self.answered(Answer {
            at: now.wall,
            outcome: match rejected {
                true => TokenOutcome::Rejected,
                false if error.is_limited() => TokenOutcome::Limited,
                false => TokenOutcome::Failed,
            },
            credential: self.credential_name(credential),
            took: now.mono.saturating_sub(asked.mono),
            what: Some(why.clone()),
            fingerprint: None,
        });
        let told = Arc::new(LastError { at: now.wall, what: why });
        if let Some(last) = self.rejected.get_mut(credential).filter(|_| rejected) {
            *last = Some(Arc::clone(&told));
            self.observer.credential_rejected(&self.name, self.credential_names.get(credential));
        }
        self.last_error = Some(told);
        effects
    }

    fn answered(&mut self, answer: Answer) {
        self.observer.token_request(&self.name, answer.outcome, answer.took);
        let answers = Arc::make_mut(&mut self.answers);
        answers.push_front(answer);
        answers.truncate(ANSWERS);
    }

    fn publish(&self, now: Now) {
        let view = self.machine.view(now);
        let snapshot = Snapshot {
            token: self.token.clone(),
            is_over: self.token.as_ref().is_some_and(|token| token.until.passed(now)),
            airborne: view.airborne,
            next_ask: view.next_ask,
            cause: Some(view.cause),
            failures: view.failures,
            credential: view.using,
            last_error: self.last_error.clone(),
            rejected: self.rejected.clone(),
            heard: self.ear.heard,
            granted: self.granted,
            answers: Arc::clone(&self.answers),
            bought: self.bought,
            budget_left: view.budget_left,
            memory: (now.mono, self.machine.memory(now)),
        };
        self.slot.publish(snapshot);
    }

    /// Once, when a token is needed and the budget leaves no request for it: nothing fails, so nothing else would tell.
    fn tell_of_budget(&mut self, now: Now) {
        let held_until = self.machine.budget_holds(now);
        if let (Some(until), false) = (held_until, self.told_of_budget) {
            let next = until.saturating_sub(now.mono);
            self.observer.tell(&Event::BudgetSpent { token: &self.name, next });
        }
        self.told_of_budget = held_until.is_some();
    }

    /// Once, when a token is refused that was asked for because the one before it had been: what is wrong is not its age.
    fn tell_of_refusals(&mut self, inputs: &[Input]) {
        for input in inputs {
            match input {
                Input::Refused(generation) if self.forced == Some(*generation) => {
                    if !std::mem::replace(&mut self.told_no_better, true) {
                        self.observer.tell(&Event::TokenNoBetter { token: &self.name });
                    }
                }
                Input::Cured(_) => (self.forced, self.told_no_better) = (None, false),
                Input::Start
                | Input::Wake { .. }
                | Input::Wanted
                | Input::Granted { .. }
                | Input::Failed(_)
                | Input::Refused(_)
                | Input::Rotated => {}
            }
        }
    }

    fn remember(&mut self, now: Now) {
        let Some(file) = &mut self.memory else { return };
        // A full disk is told of once, and not at every token request, until it has room again.
        if let Some(error) = file.remember(&self.machine.memory(now), now) {
            let path = file.path().display().to_string();
            self.observer.tell(&Event::StateUnwritable { path: &path, error: &error.kind().to_string() });
        }
    }

    fn credential_name(&self, credential: usize) -> Arc<str> {
        self.credential_names.get(credential).map_or_else(|| "?".into(), Arc::clone)
    }
}

/// For ever where there is nothing to wake for.
async fn nap(wake: Option<Duration>) {
    match wake {
        Some(wake) => tokio::time::sleep(wake).await,
        None => std::future::pending().await,
    }
}
