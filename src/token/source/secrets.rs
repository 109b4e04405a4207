//! Reads the credentials' secrets when they are needed, and knows whether one changed since it was last sent.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::exec::{self, Printed};
use super::secret_file;
use crate::secret::Secret;
use crate::token::grant::What;
use crate::token::settings::{Exec, SecretSource};

/// One place for each credential.
#[derive(Debug)]
pub(super) struct Secrets {
    /// What was last sent: known again when it is replaced, and used again when its file is broken.
    sent: std::sync::Mutex<Vec<Option<Secret<String>>>>,
    /// What a command printed, for as long as it may be used.
    printed: Vec<Mutex<Option<Held>>>,
}

#[derive(Debug)]
struct Held {
    secret: Secret<String>,
    until: Option<Instant>,
}

/// A secret that expires is fetched anew this long before: it must still be good when it arrives.
const MARGIN: Duration = Duration::from_secs(10);

impl Secrets {
    pub(super) fn new(credentials: usize) -> Self {
        let printed = (0..credentials).map(|_| Mutex::default()).collect();
        Self { sent: std::sync::Mutex::new((0..credentials).map(|_| None).collect()), printed }
    }

    /// The secret as it is now, which counts as sent; or the last one, and why this one cannot be read.
    pub(super) async fn read(
        &self,
        credential: usize,
        source: &SecretSource,
    ) -> Result<(Secret<String>, Option<String>), What> {
        let now = match source {
            SecretSource::Exec(exec) => self.held_or_run(credential, exec).await,
            SecretSource::Inline(_) | SecretSource::File(_) => look(source).map_err(What::Secret),
        };
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        match (now, &mut sent[credential]) {
            (Ok(secret), last) => {
                *last = Some(copied(&secret));
                Ok((secret, None))
            }
            // Half of a rotation, or a vault that is away: the provider may well take the old one still.
            (Err(What::Secret(why)), Some(last)) => Ok((copied(last), Some(why))),
            (Err(what), _) => Err(what),
        }
    }

    /// Whether it is something else than what was last sent. A command is run again: what it printed was rejected.
    pub(super) async fn changed(&self, credential: usize, source: &SecretSource) -> bool {
        let now = match source {
            SecretSource::Exec(exec) => {
                *self.printed[credential].lock().await = None;
                self.held_or_run(credential, exec).await.ok()
            }
            SecretSource::Inline(_) | SecretSource::File(_) => look(source).ok(),
        };
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        now.is_some_and(|now| sent[credential].as_ref().is_none_or(|sent| sent.expose() != now.expose()))
    }

    async fn held_or_run(&self, credential: usize, exec: &Exec) -> Result<Secret<String>, What> {
        let mut held = self.printed[credential].lock().await;
        let good = held.take().filter(|held| held.until.is_none_or(|until| Instant::now() < until));
        let held = match good {
            Some(good) => held.insert(good),
            None => {
                let Printed { secret, life } =
                    exec::run(exec).await.map_err(|error| What::Secret(error.to_string()))?;
                let until = life.map(|life| Instant::now() + life.saturating_sub(MARGIN));
                held.insert(Held { secret, until })
            }
        };
        Ok(copied(&held.secret))
    }
}

/// The secret as it is now.
///
/// # Errors
/// Why it cannot be read, for the log.
pub async fn read_once(source: &SecretSource) -> Result<Secret<String>, String> {
    match source {
        SecretSource::Exec(exec) => {
            exec::run(exec).await.map(|printed| printed.secret).map_err(|error| error.to_string())
        }
        SecretSource::Inline(_) | SecretSource::File(_) => look(source),
    }
}

fn look(source: &SecretSource) -> Result<Secret<String>, String> {
    match source {
        SecretSource::Inline(secret) => Ok(copied(secret)),
        SecretSource::File(path) => secret_file::read(path).map_err(|error| error.to_string()),
        SecretSource::Exec(_) => Err("a command has to be run for it".to_owned()),
    }
}

fn copied(secret: &Secret<String>) -> Secret<String> {
    Secret::new(secret.expose().clone())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A file of a test's own, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("bearerd-secrets-{}-{}", std::process::id(), fastrand::u64(..))))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A command that prints another secret each time it is run, which it counts in the file.
    fn counting(Scratch(path): &Scratch, rest: &str) -> SecretSource {
        let path = path.display();
        let script = format!("echo x >> {path}; n=$(wc -l < {path}); printf '{{\"secret\": \"s%d\"{rest}}}' $n");
        SecretSource::Exec(Exec {
            command: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(20),
            withheld: Vec::new(),
        })
    }

    async fn read(secrets: &Secrets, source: &SecretSource) -> String {
        secrets.read(0, source).await.unwrap().0.expose().clone()
    }

    #[tokio::test]
    async fn a_command_is_run_again_when_its_secret_expires_or_was_rejected() {
        let scratch = Scratch::new();
        let (secrets, lasting) = (Secrets::new(1), counting(&scratch, ""));
        assert_eq!([read(&secrets, &lasting).await, read(&secrets, &lasting).await], ["s1", "s1"]);
        assert!(secrets.changed(0, &lasting).await, "rejected: it is run again, and prints another");
        assert_eq!(read(&secrets, &lasting).await, "s2");

        let scratch = Scratch::new();
        let (secrets, expiring) = (Secrets::new(1), counting(&scratch, ", \"expires_in\": 5"));
        assert_eq!([read(&secrets, &expiring).await, read(&secrets, &expiring).await], ["s1", "s2"]);
    }

    #[tokio::test]
    async fn the_last_secret_serves_while_its_file_is_broken() {
        let scratch = Scratch::new();
        let path = &scratch.0;
        let (secrets, source) = (Secrets::new(1), SecretSource::File(path.clone()));
        assert!(secrets.read(0, &source).await.is_err(), "there is none to fall back to");
        std::fs::write(path, "first").unwrap();
        assert_eq!(read(&secrets, &source).await, "first");
        std::fs::write(path, "").unwrap();
        let (secret, why) = secrets.read(0, &source).await.unwrap();
        assert_eq!(secret.expose(), "first");
        assert!(why.unwrap().ends_with("the file is empty"));
        assert!(!secrets.changed(0, &source).await);
    }
}
