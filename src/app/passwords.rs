//! Keeps the passwords of named clients as their sources have them. A password that cannot be read stays what it was.
//!
//! Must never know what a caller sends.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::life::contained;
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::rules::Clients;
use crate::rules::settings::Callers;
use crate::token::settings::SecretSource;
use crate::token::source::read_once;

/// A command that failed, such as a vault's that was away, is run again after this.
const RETRY: Duration = Duration::from_secs(30);

/// One that printed a password is run again after this: nothing else tells that a vault holds another one now.
const AGAIN: Duration = Duration::from_secs(300);

pub(super) struct Passwords {
    callers: Arc<Callers>,
    clients: Arc<Clients>,
    observer: Observer,
}

impl Passwords {
    /// `clients` were made of those in `callers`.
    pub(super) fn new(callers: &Arc<Callers>, clients: &Arc<Clients>, observer: Observer) -> Self {
        Self { callers: Arc::clone(callers), clients: Arc::clone(clients), observer }
    }

    /// By the client's place in the configuration.
    fn sources(&self) -> impl Iterator<Item = (usize, &SecretSource)> {
        let clients = self.callers.clients.iter().enumerate();
        clients.filter_map(|(place, client)| Some((place, client.password.as_ref()?)))
    }

    /// What to watch.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.sources().filter_map(|(_, source)| match source {
            SecretSource::File(path) => Some(path.clone()),
            SecretSource::Inline(_) | SecretSource::Exec(_) => None,
        })
    }

    /// Reads all of them, side by side; whether that succeeded.
    pub(super) async fn read(&self) -> bool {
        let mut reading = JoinSet::new();
        for (place, _) in self.sources() {
            let callers = Arc::clone(&self.callers);
            reading.spawn(async move {
                let source = callers.clients.get(place).and_then(|client| client.password.as_ref())?;
                Some((place, read_once(source).await))
            });
        }
        let mut all = true;
        while let Some(read) = reading.join_next().await {
            // A panic was told by the runtime.
            let Some((place, password)) = read.ok().flatten() else {
                all = false;
                continue;
            };
            match password {
                Ok(password) => self.clients.set_password(place, &password),
                Err(why) => {
                    all = false;
                    let client = self.callers.clients.get(place).map_or("", |client| &*client.name);
                    self.observer.tell(&Event::PasswordUnreadable { client, why: &why });
                }
            }
        }
        all
    }

    /// Reads them again whenever one of their files changes, and commands now and then; runs until it is dropped.
    /// `complete` if the last reading was.
    pub(super) async fn keep(self, mut changed: watch::Receiver<()>, mut complete: bool) {
        let has_command = self.sources().any(|(_, source)| matches!(source, SecretSource::Exec(_)));
        // Nothing is watched where none of them is in a file.
        let mut watched = true;
        loop {
            let wait = if complete { AGAIN } else { RETRY };
            tokio::select! {
                news = changed.changed(), if watched => {
                    watched = news.is_ok();
                    if !watched {
                        continue;
                    }
                }
                () = tokio::time::sleep(wait), if has_command || !complete => {}
                else => return,
            }
            complete = contained(pin!(self.read())).await.unwrap_or(false);
        }
    }
}
