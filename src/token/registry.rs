//! Name → running driver. Hands out readers to routes and statuses to whoever shows them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::driver::Driver;
use super::machine::{Cause, Machine, Memory};
use super::memory::MemoryFile;
use super::policy::Budget;
use super::settings::{Credential, Proof, SecretSource, Settings};
use super::slot::{Answer, Bought, Driven, Ear, Granted, Reader, Slot, Snapshot};
use super::source::{SourceError, TokenEndpoint};
use crate::clock::Now;
use crate::files::Files;
use crate::life::Readiness;
use crate::observe::{Observer, TokenSample, TokenState};
use crate::secret::Fingerprint;
use crate::tls::{ClientConfigs, Contents};

/// The tokens of one plan. A driver runs from [`Registry::start`] on, until the last registry that has its token is
/// dropped.
#[derive(Debug)]
pub struct Registry {
    entries: Vec<Arc<Entry>>,
    /// Where what must survive a restart is kept.
    state_dir: Option<PathBuf>,
}

#[derive(Debug)]
struct Entry {
    endpoint: Arc<TokenEndpoint>,
    slot: Arc<Slot>,
    /// What the files of its roots held. All others are read for each token request.
    contents: Contents,
    /// What the one that it takes the place of came to.
    inherited: Option<Inherited>,
    driven: Arc<Driven>,
}

/// What one driver of a token leaves to the next.
#[derive(Debug)]
struct Inherited {
    /// As of this time on the clock since boot.
    memory: (Duration, Memory),
    answers: Arc<VecDeque<Answer>>,
    bought: Bought,
}

/// Why a token cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("token `{token}`: {error}")]
pub struct RegistryError {
    pub token: Arc<str>,
    #[source]
    pub error: SourceError,
}

impl Registry {
    /// # Errors
    /// A TLS file of a token is not what it should be.
    pub fn new(
        tokens: Vec<Settings>,
        state_dir: Option<PathBuf>,
        configs: &ClientConfigs,
    ) -> Result<Self, RegistryError> {
        Self::after(&[], tokens, state_dir, configs)
    }

    /// The same with what stays as it is: a token of the same settings, whose roots are the same, is the same token. The
    /// first of `earlier` that has it counts; of the very first, a token that changed but has the provider and clients
    /// that it had takes over what it asked them, so that no limit is run into twice.
    ///
    /// # Errors
    /// A TLS file of a token is not what it should be.
    pub fn after(
        earlier: &[&Self],
        tokens: Vec<Settings>,
        state_dir: Option<PathBuf>,
        configs: &ClientConfigs,
    ) -> Result<Self, RegistryError> {
        let entry = |settings: Settings| {
            let contents = configs.contents(settings.tls.root_files());
            let is_same = |entry: &&Arc<Entry>| *entry.endpoint.settings() == settings && entry.contents == contents;
            let name = Arc::clone(&settings.name);
            let kept = earlier.iter().find_map(|earlier| earlier.entry(&name).filter(is_same));
            if let Some(kept) = kept {
                return Ok(Arc::clone(kept));
            }
            let before = earlier.first().and_then(|earlier| earlier.entry(&name));
            let before = before.filter(|before| asks_the_same(before.endpoint.settings(), &settings));
            let inherited = before.map(|before| {
                let last = before.slot.current();
                Inherited { memory: last.memory.clone(), answers: Arc::clone(&last.answers), bought: last.bought }
            });
            let credentials = names(&settings.credentials);
            let slot = Arc::new(Slot::new(Arc::clone(&name), settings.wait, &settings.refresh, credentials));
            slot.put_in_force(earlier.is_empty());
            match TokenEndpoint::new(settings, configs) {
                Ok(endpoint) => Ok(Arc::new(Entry {
                    endpoint: Arc::new(endpoint),
                    slot,
                    contents,
                    inherited,
                    driven: Arc::default(),
                })),
                Err(error) => Err(RegistryError { token: name, error }),
            }
        };
        Ok(Self { state_dir, entries: tokens.into_iter().map(entry).collect::<Result<_, _>>()? })
    }

    fn entry(&self, token: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| &*entry.slot.name == token)
    }

    /// `None` if there is no such token.
    pub fn reader(&self, token: &str, scheme: &str) -> Option<Reader> {
        let entry = self.entry(token)?;
        Some(Reader::new(Arc::clone(&entry.slot), scheme, Arc::downgrade(&entry.driven)))
    }

    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.iter().map(|entry| &entry.slot.name)
    }

    /// What a token's credentials are called in logs and metrics.
    pub fn credentials(&self, token: &str) -> Vec<Arc<str>> {
        self.entry(token).map(|entry| names(&entry.endpoint.settings().credentials)).unwrap_or_default()
    }

    /// Whether the token of this name is the same in both.
    pub fn shares(&self, token: &str, other: &Self) -> bool {
        self.entry(token).zip(other.entry(token)).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Starts every driver that does not run yet, on the current runtime. Required tokens block `readiness` until they
    /// have been held once.
    pub fn start(&self, readiness: Option<&Readiness>, observer: &Observer, files: &Files) {
        for entry in self.entries.iter().filter(|entry| !entry.driven.is_running()) {
            let Entry { endpoint, slot, inherited, driven, .. } = &**entry;
            let settings = endpoint.settings();
            observer.token(&settings.name);
            let secrets = settings.credentials.iter().flat_map(|credential| files_of(&credential.proof));
            let readiness = readiness.filter(|_| settings.required);
            let driver = Driver {
                name: Arc::clone(&settings.name),
                machine: Machine::new(settings.refresh, settings.budget, settings.credentials.len(), fastrand::u64(..)),
                source: Arc::clone(endpoint),
                slot: Arc::clone(slot),
                observer: observer.clone(),
                credential_names: names(&settings.credentials),
                rotated: files.watch(secrets),
                latch: readiness.map(|readiness| readiness.block(format!("token {}", settings.name).into())),
                clock: Now::read,
                ear: Ear::default(),
                told_of_budget: false,
                forced: None,
                told_no_better: false,
                memory: self.state_dir.as_deref().map(|directory| MemoryFile::new(directory, &settings.name)),
                inherited: inherited.as_ref().map(|inherited| inherited.memory.clone()),
                token: None,
                last_error: None,
                failing: None,
                rejected: vec![None; settings.credentials.len()],
                granted: None,
                answers: inherited.as_ref().map(|inherited| Arc::clone(&inherited.answers)).unwrap_or_default(),
                bought: inherited.as_ref().map_or_else(Bought::default, |inherited| inherited.bought),
            };
            driven.runs(tokio::spawn(driver.run()).abort_handle());
        }
    }

    /// Requests come to its tokens from now on, if it is after another.
    pub fn put_in_force(&self) {
        for entry in &self.entries {
            entry.slot.put_in_force(true);
        }
    }

    /// Ends every driver.
    pub fn end(&self) {
        for entry in &self.entries {
            entry.driven.end();
        }
    }

    /// The required ones that `other` does not have and that have never been held, each with why the last try failed.
    pub fn missing(&self, other: &Self) -> Vec<(Arc<str>, Option<String>)> {
        let missing = self.awaited(other).map(|entry| (entry, entry.slot.current()));
        let missing = missing.filter(|(_, snapshot)| snapshot.token.is_none());
        let why = |snapshot: &Snapshot| snapshot.last_error.as_ref().map(|error| error.what.clone());
        missing.map(|(entry, snapshot)| (Arc::clone(&entry.slot.name), why(&snapshot))).collect()
    }

    /// Waits until none is [missing](Self::missing).
    pub async fn held(&self, other: &Self) {
        for entry in self.awaited(other) {
            entry.slot.held().await;
        }
    }

    fn awaited(&self, other: &Self) -> impl Iterator<Item = &Arc<Entry>> {
        let is_required = |entry: &&Arc<Entry>| entry.endpoint.settings().required;
        self.entries.iter().filter(is_required).filter(|entry| !self.shares(&entry.slot.name, other))
    }

    pub fn statuses(&self, now: Now) -> Vec<Status> {
        self.entries.iter().map(|entry| entry.status(now)).collect()
    }
}

/// Whether a provider takes the requests for the two for one client's.
fn asks_the_same(one: &Settings, other: &Settings) -> bool {
    let clients = |settings: &Settings| -> Vec<_> {
        settings.credentials.iter().map(|credential| Arc::clone(&credential.client_id)).collect()
    };
    one.endpoint == other.endpoint && clients(one) == clients(other)
}

/// What logs and metrics call credentials: two secrets of one client must not read as one.
fn names(credentials: &[Credential]) -> Vec<Arc<str>> {
    let name = |(index, credential): (usize, &Credential)| {
        let shared = credentials.iter().filter(|other| other.client_id == credential.client_id).count() > 1;
        if shared {
            format!("{} #{}", credential.client_id, index + 1).into()
        } else {
            Arc::clone(&credential.client_id)
        }
    };
    credentials.iter().enumerate().map(name).collect()
}

/// The files that a proof is read from.
fn files_of(proof: &Proof) -> Vec<PathBuf> {
    match proof {
        Proof::Secret(SecretSource::File(path))
        | Proof::Key { key: SecretSource::File(path), .. }
        | Proof::Assertion(SecretSource::File(path)) => vec![path.clone()],
        Proof::Certificate { certificate, key } => vec![certificate.clone(), key.clone()],
        Proof::Secret(_) | Proof::Key { .. } | Proof::Assertion(_) => Vec::new(),
    }
}

/// What may be shown of a credential.
#[derive(Clone, Debug)]
pub struct CredentialStatus {
    /// Its identifier, numbered where several share one.
    pub name: Arc<str>,
    pub client_id: Arc<str>,
    /// When and how it was last rejected, if no token was granted for it since.
    pub rejected: Option<(SystemTime, String)>,
}

/// What may be shown of a token: never the token.
#[derive(Clone, Debug)]
pub struct Status {
    pub name: Arc<str>,
    pub state: TokenState,
    pub required: bool,
    pub fingerprint: Option<Fingerprint>,
    pub generation: u64,
    /// When it stops being used, margin included.
    pub usable_until: Option<SystemTime>,
    pub usable_for: Option<Duration>,
    /// The identifier of the credential in use, and its place in the configured list.
    pub credential: Arc<str>,
    pub credential_index: usize,
    pub granted: Option<Granted>,
    /// How long it is until the planned renewal.
    pub renew_in: Option<Duration>,
    pub asking: bool,
    /// `None` while a token request is under way, and while nobody wants one.
    pub next_attempt_in: Option<Duration>,
    /// Why then, or why it is under way, or why there is none.
    pub next_attempt_why: Option<Cause>,
    /// The provider's last answers, newest first.
    pub answers: Arc<VecDeque<Answer>>,
    /// Granted in the current UTC day.
    pub bought_today: u64,
    /// And what is left of it for the credential in use.
    pub budget: Option<(Budget, u32)>,
    /// How many requests had to wait for a token request, ever.
    pub waits: u64,
    pub failures: u32,
    pub last_error: Option<(SystemTime, String)>,
    /// In the order of the configuration.
    pub credentials: Vec<CredentialStatus>,
}

impl Entry {
    fn status(&self, now: Now) -> Status {
        let settings = self.endpoint.settings();
        let snapshot = self.slot.current();
        let token = snapshot.token.as_deref();
        let credential = settings.credentials.get(snapshot.credential);
        Status {
            name: Arc::clone(&settings.name),
            state: snapshot.state(now),
            required: settings.required,
            fingerprint: token.map(|token| token.fingerprint),
            generation: token.map_or(0, |token| token.generation.0),
            usable_until: token.map(|token| token.until.wall),
            usable_for: token.map(|token| token.until.left(now)),
            credential: credential.map_or_else(|| "".into(), |credential| Arc::clone(&credential.client_id)),
            credential_index: snapshot.credential,
            granted: snapshot.granted,
            renew_in: token.map(|token| token.renew_at.saturating_sub(now.mono)),
            asking: snapshot.airborne,
            next_attempt_in: snapshot.next_ask.map(|next| next.saturating_sub(now.mono)),
            next_attempt_why: snapshot.cause,
            answers: Arc::clone(&snapshot.answers),
            bought_today: snapshot.bought.on(now.wall),
            budget: settings.budget.map(|budget| (budget, snapshot.budget_left.unwrap_or(budget.requests))),
            waits: self.slot.waits(),
            failures: snapshot.failures,
            last_error: snapshot.last_error.as_ref().map(|error| (error.at, error.what.clone())),
            credentials: names(&settings.credentials)
                .into_iter()
                .zip(&settings.credentials)
                .enumerate()
                .map(|(index, (name, credential))| {
                    let rejected = snapshot.rejected.get(index).and_then(Option::as_ref);
                    let rejected = rejected.map(|error| (error.at, error.what.clone()));
                    CredentialStatus { name, client_id: Arc::clone(&credential.client_id), rejected }
                })
                .collect(),
        }
    }
}

impl Status {
    pub fn sample(&self, now: Now) -> TokenSample {
        TokenSample {
            token: Arc::clone(&self.name),
            state: self.state,
            credentials: self.credentials.iter().map(|credential| Arc::clone(&credential.name)).collect(),
            using: self.credential_index,
            expiry: self.usable_until,
            life: self.granted.map(|granted| granted.life),
            renewal: self.granted.map(|granted| granted.renewal),
            next_request: self.next_attempt_in.and_then(|ahead| now.wall.checked_add(ahead)),
            budget: self.budget.map(|(budget, left)| (budget.requests, left)),
            waits: self.waits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn credentials_of_one_client_are_told_apart() {
        let credential = |id: &str| Credential {
            client_id: id.into(),
            proof: Proof::Secret(SecretSource::Inline(Secret::new("x".to_owned()))),
        };
        let named = |ids: &[&str]| names(&ids.iter().map(|id| credential(id)).collect::<Vec<_>>());
        assert_eq!(named(&["one", "two"]), ["one".into(), "two".into()]);
        assert_eq!(named(&["one", "two", "one"]), ["one #1".into(), "two".into(), "one #3".into()]);
    }
}
