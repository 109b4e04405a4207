//! Puts another configuration in force while it runs: on request, and when a file changes that the last one read.
//!
//! It is all or nothing. What is read is held against what runs; if nothing forbids it, it takes over as soon as it could
//! be ready, and until then, or if it never is, what runs goes on. One at a time: who asks meanwhile gets the next. Must
//! never know how a configuration is written.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::AppError;
use super::changes::Changes;
use super::compiled::{Compiled, Earlier, TUNNEL};
use super::fixed::Fixed;
use super::passwords::Passwords;
use super::run::Capacity;
use super::service::Service;
use crate::admin::{Admin, Attempt, Shown, Statuses};
use crate::bug;
use crate::config::files::Findings;
use crate::config::{Plan, Shutdown};
use crate::files::Files;
use crate::inbound::Worker;
use crate::life::{self, RESTART, contained};
use crate::observe::access::Sheet;
use crate::observe::event::Event;
use crate::observe::{Observer, ReloadOutcome};
use crate::token::Registry;

/// Where the configuration is read again, and who asks for that.
pub struct Reload {
    /// Where it is from, for people.
    pub origin: String,
    /// Whether it can be read more than once; if not, nobody does without being asked.
    pub repeatable: bool,
    /// What was read for the plan that runs.
    pub found: Findings,
    /// Reads all of it anew. It blocks.
    pub read: Arc<dyn Fn() -> Reading + Send + Sync>,
    /// A closed channel asks for nothing.
    pub wishes: mpsc::Receiver<()>,
}

/// What came of reading a configuration.
pub struct Reading {
    /// The plan, and what is doubtful about it; or everything that is wrong with it, one sentence each.
    pub outcome: Result<(Plan, Vec<String>), Vec<String>>,
    /// Every file that was looked for, and what was there.
    pub found: Findings,
}

/// Whoever writes several files writes them one after the other.
const GATHER: Duration = Duration::from_millis(200);

/// A provider that is well answers sooner: then there is no waiting to tell of.
const PATIENCE: Duration = Duration::from_secs(2);

/// When it is tried again, where the system gave no thread to read it on: by then somebody else's may have ended.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Somebody asked for it, and is told whatever comes of it.
    Wish,
    /// A file changed, which may be one that is somebody else's to read.
    File,
    /// Something may have changed before it was watched.
    Doubt,
}

/// A plan that is fine and is to follow.
struct Next {
    compiled: Arc<Compiled>,
    changes: Changes,
    warnings: Vec<String>,
    passwords: Option<(Passwords, watch::Receiver<()>, bool)>,
    /// `None` if the access log goes on where it goes.
    access_log: Option<Option<Sheet>>,
    /// When it is told that it waits; `None` if it was.
    tell_at: Option<Instant>,
}

/// What runs, seen by whoever exchanges it.
pub(super) struct Reloader {
    pub(super) fixed: Arc<Fixed>,
    pub(super) now: Arc<Compiled>,
    pub(super) workers: Arc<Vec<Worker>>,
    pub(super) admin: Arc<Admin>,
    pub(super) files: Arc<Files>,
    pub(super) observer: Observer,
    pub(super) capacity: Capacity,
    pub(super) shutdown: watch::Sender<Shutdown>,
    /// Keeps the passwords of what runs.
    pub(super) passwords: JoinSet<()>,
    /// Whoever asks for a reload may wait for its end.
    pub(super) service: Arc<Service>,
}

/// A reloader at work.
struct Work {
    parts: Reloader,
    next: Option<Next>,
    /// What was wrong with the last one, if anything was.
    refused: Option<Vec<String>>,
}

impl Reloader {
    /// Runs until it is dropped. `watched` is what the plan that runs was read from.
    pub(super) async fn run(self, reload: Reload, mut watched: BTreeSet<PathBuf>) {
        let Reload { read, found, mut wishes, repeatable, .. } = reload;
        let mut found = Arc::new(found);
        if !repeatable {
            watched.clear();
        }
        let service = Arc::clone(&self.service);
        // What changed since it was read can wait until the first requests have been answered.
        tokio::time::sleep(GATHER).await;
        let mut work = Work { parts: self, next: None, refused: None };
        let mut changed = work.parts.files.watch_and_miss(seen(&watched));
        let observer = work.parts.observer.clone();
        let mut cause = repeatable.then_some(Cause::Doubt);
        loop {
            let turns = async {
                loop {
                    bug::at("reloader");
                    let why = match cause.take() {
                        Some(cause) => cause,
                        None => tokio::select! {
                            () = wish(&mut wishes) => Cause::Wish,
                            () = change(&mut changed) => {
                                tokio::time::sleep(GATHER).await;
                                Cause::File
                            }
                            is_ready = work.ripens() => {
                                if is_ready { work.take_over().await } else { work.tell_of_waiting() }
                                continue;
                            }
                        },
                    };
                    // What comes from now on is not in this reading.
                    let why = if wishes.try_recv().is_ok() { Cause::Wish } else { why };
                    changed.mark_unchanged();
                    let (reading, last) = (Arc::clone(&read), Arc::clone(&found));
                    // The usual case, and far cheaper than to make a plan of it again. Whoever asked is told of a reading.
                    if why != Cause::Wish
                        && work.refused.is_none()
                        && matches!(aside(move || last.still_hold()).await, Ok(Some(true)))
                    {
                        continue;
                    }
                    if why == Cause::Wish {
                        service.reloading().await;
                    }
                    let refused = work.refused.clone();
                    let weighed = match aside(move || reading()).await {
                        Ok(Some(Reading { outcome, found })) => {
                            work.weigh(outcome, why).await.map(|is_fine| Some((found, is_fine)))
                        }
                        // A panic was told, and what runs goes on.
                        Ok(None) => Ok(None),
                        Err(error) => Err(error),
                    };
                    let weighed = weighed.unwrap_or_else(|error| {
                        // Where nothing is known to have changed there is nothing to refuse.
                        if why != Cause::Doubt {
                            work.refuse(vec![error.to_string()], why);
                        }
                        cause = Some(Cause::Doubt);
                        None
                    });
                    // One that waits for its tokens is decided about, and may wait for longer than anybody else does.
                    if why == Cause::Wish {
                        service.reloaded().await;
                    }
                    let Some((read_now, is_fine)) = weighed else {
                        if cause.is_some() {
                            tokio::time::sleep(AGAIN).await;
                        }
                        continue;
                    };
                    found = Arc::new(read_now);
                    let mut files = found.files();
                    if !is_fine {
                        // Mending any of them may mend it, and what runs is read from the others.
                        files.extend(watched.iter().cloned());
                    }
                    // What was read without waiting for it to settle may go back to what it was, which the watch would
                    // take for no change: so it is for what was refused in doubt, and comes back. Looking once more is
                    // enough.
                    if files != watched || why != Cause::Doubt || work.refused != refused {
                        // The old watch ends first: the new one wakes who looks after both.
                        drop(std::mem::replace(&mut changed, watch::channel(()).1));
                        changed = work.parts.files.watch_and_miss(seen(&files));
                        watched = files;
                        cause = Some(Cause::Doubt);
                    }
                }
            };
            let _: Option<()> = contained(pin!(turns)).await;
            service.reloaded().await;
            observer.tell(&Event::TaskPanicked { task: "the configuration's reloader" });
            // What it was at may have been a change.
            cause = repeatable.then_some(Cause::Doubt);
            tokio::time::sleep(RESTART).await;
        }
    }
}

/// Whoever opens a pipe to see what is in it takes that away, or waits for ever.
fn seen(files: &BTreeSet<PathBuf>) -> impl Iterator<Item = PathBuf> {
    let may_be_looked_at = |path: &&PathBuf| std::fs::metadata(path).map_or(true, |about| about.is_file());
    files.iter().filter(may_be_looked_at).cloned()
}

/// Reads or compiles on a thread of its own. `None` is a panic.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Option<T>> {
    Ok(life::aside("reload", work)?.await.ok())
}

async fn wish(wishes: &mut mpsc::Receiver<()>) {
    if wishes.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn change(changed: &mut watch::Receiver<()>) {
    // Nothing is watched where there is no file.
    if changed.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Work {
    /// Waits until the next plan can take over (`true`), or should be told of; for ever if there is none.
    async fn ripens(&self) -> bool {
        let Some(next) = &self.next else { return std::future::pending().await };
        let late = async {
            match next.tell_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = next.compiled.registry.held(&self.parts.now.registry) => true,
            () = late => false,
        }
    }

    /// Decides about what was read; whether it is fine.
    ///
    /// # Errors
    /// The system gives no thread for it; then nothing is decided.
    async fn weigh(&mut self, outcome: Result<(Plan, Vec<String>), Vec<String>>, cause: Cause) -> io::Result<bool> {
        let compiled = match outcome {
            Ok((plan, warnings)) => self.compile(plan).await?.map(|compiled| (compiled, warnings)),
            Err(problems) => Err(problems),
        };
        let (compiled, warnings) = match compiled {
            Ok(compiled) => compiled,
            Err(problems) => {
                self.refuse(problems, cause);
                return Ok(false);
            }
        };
        let now = &self.parts.now;
        let access_log = (now.access_log != compiled.access_log)
            .then(|| compiled.access_log.as_ref().map(Sheet::open).transpose())
            .transpose();
        let access_log = match access_log {
            Ok(access_log) => access_log,
            Err(error) => {
                self.refuse(vec![AppError::from(error).to_string()], cause);
                self.forget_all_of(&compiled);
                return Ok(false);
            }
        };
        // Nothing refuses it from here on.
        let was_refused = self.refused.take().is_some();
        let changes = Changes::between(&self.parts.now, &compiled);
        if changes.is_empty() {
            let gave_up = self.give_up();
            if cause == Cause::Wish || was_refused || gave_up {
                self.parts.observer.tell(&Event::ReloadUnchanged);
                self.note(ReloadOutcome::Unchanged, None);
            }
            return Ok(true);
        }
        if let Some(next) = &mut self.next
            && Changes::between(&next.compiled, &compiled).is_empty()
        {
            if cause == Cause::Wish {
                self.tell_of_waiting();
            }
            if was_refused {
                self.note_waiting();
            }
            return Ok(true);
        }
        let Reloader { now, files, observer, .. } = &self.parts;
        compiled.registry.start(None, observer, files);
        // Before the first of them comes: a password may be a command's to print.
        let passwords = if compiled.shares_clients(now) {
            None
        } else {
            let passwords = Passwords::new(&compiled.callers, compiled.live.routes.clients(), observer.clone());
            let changed = files.watch(passwords.files());
            let complete = passwords.read().await;
            Some((passwords, changed, complete))
        };
        let tell_at = Some(Instant::now() + PATIENCE);
        let next = Next { compiled: Arc::new(compiled), changes, warnings, passwords, access_log, tell_at };
        let given_up = self.next.replace(next);
        if let Some(given_up) = given_up {
            let compiled = Arc::clone(&given_up.compiled);
            drop(given_up);
            self.forget_all_of(&compiled);
        }
        match &self.next {
            Some(next) if next.compiled.registry.missing(&self.parts.now.registry).is_empty() => self.take_over().await,
            _ => self.note_waiting(),
        }
        Ok(true)
    }

    async fn compile(&self, plan: Plan) -> io::Result<Result<Compiled, Vec<String>>> {
        let Reloader { fixed, now, observer, .. } = &self.parts;
        let authority = now.live.ca.is_some().then_some(now.ca_dir.as_path());
        let differences = fixed.differences(&plan, authority);
        if !differences.is_empty() {
            return Ok(Err(differences));
        }
        let (fixed, now, observer) = (Arc::clone(fixed), Arc::clone(now), observer.clone());
        let next = self.next.as_ref().map(|next| Arc::clone(&next.compiled));
        let compiling = aside(move || {
            let earlier = Earlier { now: &now, next: next.as_deref() };
            Compiled::new(plan, &fixed, Some(earlier), &observer, Ok)
        });
        Ok(match compiling.await? {
            Some(compiled) => compiled.map_err(|error| vec![error.to_string()]),
            None => Err(vec!["a bug in bearerd: the plan could not be compiled; please report it".to_owned()]),
        })
    }

    /// Leaves a plan that waits; whether there was one.
    fn give_up(&mut self) -> bool {
        let given_up = self.next.take().map(|next| next.compiled);
        if let Some(given_up) = &given_up {
            self.forget_all_of(given_up);
        }
        given_up.is_some()
    }

    fn refuse(&mut self, problems: Vec<String>, cause: Cause) {
        // It is not what is written any more.
        self.give_up();
        // That it is wrong in the same way still is no news, unless somebody wants to know.
        if cause != Cause::Wish && self.refused.as_ref() == Some(&problems) {
            return;
        }
        self.parts.observer.tell(&Event::ReloadRefused { problems: &problems });
        self.note(ReloadOutcome::Refused, Some(problems.join("\n")));
        self.refused = Some(problems);
    }

    /// Puts the next plan in force.
    async fn take_over(&mut self) {
        let Some(Next { compiled, changes, warnings, passwords, access_log, .. }) = self.next.take() else { return };
        let parts = &mut self.parts;
        for text in &warnings {
            parts.observer.tell(&Event::ConfigWarning { text });
        }
        if parts.now.log != compiled.log {
            parts.observer.log_as(compiled.log);
        }
        // All else is in force by then, so it is told and nothing more.
        if let Some(Err(error)) = access_log.map(|to| parts.observer.log_access(to)) {
            let text = format!("the access log goes on where it went: {error}");
            parts.observer.tell(&Event::ConfigWarning { text: &text });
        }
        compiled.registry.put_in_force();
        let connections = compiled.live.limits.connections;
        if parts.now.live.limits.connections != connections {
            parts.capacity.allow(connections, &parts.observer);
        }
        for worker in &*parts.workers {
            worker.exchange(&compiled.live).await;
        }
        parts.admin.shown.store(Arc::new(Shown {
            routes: Arc::clone(&compiled.live.routes),
            tokens: Statuses::of(Arc::clone(&compiled.registry)),
        }));
        if let Some((passwords, changed, complete)) = passwords {
            parts.passwords = JoinSet::new();
            parts.passwords.spawn(passwords.keep(changed, complete));
        }
        parts.shutdown.send_replace(compiled.shutdown);
        parts.now = compiled;
        self.forget(&changes);
        self.parts.observer.tell(&Event::Reloaded { what: &changes.to_string() });
        self.note(ReloadOutcome::Applied, Some(changes.to_string()));
    }

    /// Nothing is counted any more of what is gone.
    fn forget(&self, changes: &Changes) {
        let Reloader { now, observer, .. } = &self.parts;
        for route in changes.routes.removed.iter().filter(|name| ***name != *TUNNEL) {
            observer.forget_route(route);
        }
        for token in &changes.tokens.removed {
            observer.forget_token(token);
        }
        for token in &changes.tokens.changed {
            observer.keep_credentials(token, &now.registry.credentials(token));
        }
        if now.tunnels.is_empty() && now.live.routes.all().all(|route| *route.settings.name != *TUNNEL) {
            observer.forget_route(TUNNEL);
        }
    }

    /// The same of all that a plan has which never came to be in force.
    fn forget_all_of(&self, given_up: &Compiled) {
        let Reloader { now, observer, .. } = &self.parts;
        let next = self.next.as_ref().map(|next| &*next.compiled);
        let known = || [Some(&**now), next].into_iter().flatten();
        let routes: HashSet<_> = known().flat_map(|one| one.live.routes.all()).map(|one| &one.settings.name).collect();
        let tokens: HashSet<_> = known().flat_map(|one| one.registry.names()).collect();
        for route in given_up.live.routes.all().filter(|route| !routes.contains(&route.settings.name)) {
            observer.forget_route(&route.settings.name);
        }
        for token in given_up.registry.names().filter(|name| !tokens.contains(name)) {
            observer.forget_token(token);
        }
    }

    fn tell_of_waiting(&mut self) {
        let Some(next) = &mut self.next else { return };
        next.tell_at = None;
        let tokens = missing(&next.compiled.registry, &self.parts.now.registry);
        self.parts.observer.tell(&Event::ReloadWaits { tokens: &tokens });
    }

    fn note(&self, outcome: ReloadOutcome, why: Option<String>) {
        let at = SystemTime::now();
        self.parts.observer.reload(outcome, at);
        self.parts.admin.configuration.attempted(Attempt { at, outcome, why: Box::new(move || why.clone()) });
    }

    fn note_waiting(&self) {
        let Some(next) = &self.next else { return };
        let at = SystemTime::now();
        self.parts.observer.reload(ReloadOutcome::Waiting, at);
        let (next, now) = (Arc::clone(&next.compiled.registry), Arc::clone(&self.parts.now.registry));
        let why = move || Some(format!("it waits for the first token of {}", missing(&next, &now)));
        let attempt = Attempt { at, outcome: ReloadOutcome::Waiting, why: Box::new(why) };
        self.parts.admin.configuration.attempted(attempt);
    }
}

/// The tokens that are waited for, each with the last thing that went wrong with it.
fn missing(next: &Registry, now: &Registry) -> String {
    let told = |(name, why): (Arc<str>, Option<String>)| match why {
        Some(why) => format!("`{name}` ({why})"),
        None => format!("`{name}`"),
    };
    next.missing(now).into_iter().map(told).collect::<Vec<_>>().join(", ")
}
