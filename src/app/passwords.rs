//! Keeps the passwords of named clients as their sources have them. A password that cannot be read stays what it was.
//!
//! Must never know what a caller sends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::life::contained;
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::rules::Routes;
use crate::rules::settings::ClientSettings;
use crate::token::settings::SecretSource;
use crate::token::source::read_once;

/// A command that failed, such as a vault's that was away, is run again after this.
const RETRY: Duration = Duration::from_secs(30);

pub(super) struct Passwords {
    /// By the client's place in the configuration.
    sources: Vec<(usize, Arc<str>, SecretSource)>,
    routes: Arc<Routes>,
    observer: Observer,
}

impl Passwords {
    pub(super) fn new(clients: Vec<ClientSettings>, routes: Arc<Routes>, observer: Observer) -> Self {
        let source = |(place, client): (usize, ClientSettings)| Some((place, client.name, client.password?));
        Self { sources: clients.into_iter().enumerate().filter_map(source).collect(), routes, observer }
    }

    /// What to watch.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.sources.iter().filter_map(|(_, _, source)| match source {
            SecretSource::File(path) => Some(path.clone()),
            SecretSource::Inline(_) | SecretSource::Exec(_) => None,
        })
    }

    /// Reads all of them; whether that succeeded.
    pub(super) async fn read(&self) -> bool {
        let mut all = true;
        for (place, name, source) in &self.sources {
            match read_once(source).await {
                Ok(password) => self.routes.clients().set_password(*place, &password),
                Err(why) => {
                    all = false;
                    self.observer.tell(&Event::PasswordUnreadable { client: name, why: &why });
                }
            }
        }
        all
    }

    /// Reads them again whenever one of their files changes; runs until it is dropped. `complete` if the last reading was.
    pub(super) async fn keep(self, mut changed: watch::Receiver<()>, mut complete: bool) {
        // Nothing is watched where none of them is in a file.
        let mut watched = true;
        loop {
            tokio::select! {
                news = changed.changed(), if watched => {
                    watched = news.is_ok();
                    if !watched {
                        continue;
                    }
                }
                () = tokio::time::sleep(RETRY), if !complete => {}
                else => return,
            }
            complete = contained(self.read()).await.unwrap_or(false);
        }
    }
}
