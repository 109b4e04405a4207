//! Runs a command that prints a secret: what a vault's own client offers where nothing can write a file.
//!
//! No shell is involved, nothing of ours is on its standard input, and what it says on standard error is not kept: it
//! may hold the secret. Must never know what the secret is for.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::token::settings::Exec;

/// Why a command gave no secret. Nothing that it printed is in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExecError {
    #[error("`{0}` cannot be started: {1}")]
    Start(String, std::io::ErrorKind),
    #[error("`{program}` did not end within {}", humantime::format_duration(*timeout))]
    Timeout { program: String, timeout: Duration },
    #[error("`{0}` ended with {1}")]
    Status(String, String),
    #[error("`{0}` printed nothing, more than {MAX} bytes, or what is not text")]
    Output(String),
}

/// A secret that a command printed.
#[derive(Debug)]
pub(super) struct Printed {
    pub(super) secret: Secret<String>,
    /// How long it is good for, if the command said so.
    pub(super) life: Option<Duration>,
}

/// Another secret, and what systemd tells this process about itself: sockets, and where to say that it is ready and lives.
const NOT_FOR_CHILDREN: [&str; 8] = [
    "BEARERD_CLIENT_SECRET",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// As for a secret in a file.
const MAX: usize = 64 * 1024;

/// What a command may print instead of the bare secret.
#[derive(Deserialize)]
struct Document {
    secret: String,
    /// Seconds.
    expires_in: Option<f64>,
    /// RFC 3339.
    expires_at: Option<String>,
}

/// Runs it once.
pub(super) async fn run(exec: &Exec) -> Result<Printed, ExecError> {
    let (program, arguments) = exec.command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let name = || program.to_owned();
    let mut command = Command::new(program);
    for variable in NOT_FOR_CHILDREN.into_iter().chain(exec.withheld.iter().map(String::as_str)) {
        command.env_remove(variable);
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| ExecError::Start(name(), error.kind()))?;
    // Room for the longest, at once: a buffer that grows leaves copies of a secret behind in freed memory.
    let mut output = Zeroizing::new(Vec::with_capacity(MAX + 1));
    let stdout = child.stdout.take();
    let ended = async {
        if let Some(stdout) = stdout {
            stdout.take(MAX as u64 + 1).read_to_end(&mut output).await?;
        }
        child.wait().await
    };
    let status = match tokio::time::timeout(exec.timeout, ended).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(ExecError::Start(name(), error.kind())),
        Err(_) => return Err(ExecError::Timeout { program: name(), timeout: exec.timeout }),
    };
    // Told first: who is not read to the end may be ended by that.
    if output.len() > MAX {
        return Err(ExecError::Output(name()));
    }
    if !status.success() {
        return Err(ExecError::Status(name(), status.to_string()));
    }
    read(&output, SystemTime::now()).ok_or_else(|| ExecError::Output(name()))
}

fn read(output: &[u8], now: SystemTime) -> Option<Printed> {
    let text = std::str::from_utf8(output).ok().filter(|text| text.len() <= MAX)?;
    if let Ok(document) = serde_json::from_str::<Document>(text) {
        let until = document.expires_at.as_deref().and_then(|at| humantime::parse_rfc3339(at).ok());
        let left = until.map(|until| until.duration_since(now).unwrap_or_default());
        let life = document.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).or(left);
        let secret = Secret::new(document.secret);
        return (!secret.expose().is_empty()).then_some(Printed { secret, life });
    }
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    (!text.is_empty()).then(|| Printed { secret: Secret::new(text.to_owned()), life: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(script: &str) -> Exec {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Exec { command, timeout: Duration::from_secs(20), withheld: Vec::new() }
    }

    async fn printed(script: &str) -> Result<(String, Option<Duration>), ExecError> {
        run(&exec(script)).await.map(|printed| (printed.secret.expose().clone(), printed.life))
    }

    #[tokio::test]
    async fn the_bare_secret_or_a_document_is_read() {
        assert_eq!(printed("echo 'p+a s'").await.unwrap(), ("p+a s".to_owned(), None));
        let document = r#"{"secret": "abc", "expires_in": 90}"#;
        let with_life = printed(&format!("echo '{document}'")).await.unwrap();
        assert_eq!(with_life, ("abc".to_owned(), Some(Duration::from_secs(90))));
        let past = printed(r#"echo '{"secret": "abc", "expires_at": "2001-01-01T00:00:00Z"}'"#).await.unwrap();
        assert_eq!(past.1, Some(Duration::ZERO));
        let other = printed(r#"echo '{"not": "ours"}'"#).await.unwrap();
        assert_eq!(other.0, r#"{"not": "ours"}"#, "any other text is the secret itself");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_without_what_was_printed() {
        for (script, told) in [
            ("echo canary; exit 3", "`sh` ended with exit status: 3"),
            ("true", "printed nothing"),
            ("printf '\\377canary'", "not text"),
            ("head -c 70000 /dev/zero | tr '\\0' c", "more than"),
        ] {
            let error = printed(script).await.unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("canary"), "{script}: {error}");
        }
        let missing =
            Exec { command: vec!["/nowhere/vault".to_owned()], timeout: Duration::from_secs(1), withheld: Vec::new() };
        assert_eq!(
            run(&missing).await.unwrap_err().to_string(),
            "`/nowhere/vault` cannot be started: entity not found"
        );
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_ended() {
        let slow = Exec { timeout: Duration::from_millis(100), ..exec("sleep 60") };
        assert!(matches!(run(&slow).await.unwrap_err(), ExecError::Timeout { .. }));
    }
}
