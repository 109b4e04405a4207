//! bearerd as a child process. Whatever it prints is searched for secrets when it has ended, in every test.

use std::io::Read;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal};

use crate::support::eventually;

pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_bearerd");

/// Stands in every secret and in nothing else.
pub(super) const CANARY: &str = "x-canary";

/// A running one; dropped, it is killed.
pub(crate) struct Child {
    child: std::process::Child,
    out: Ear,
    err: Ear,
    reads: Vec<JoinHandle<()>>,
}

/// How it ended and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(super) out: String,
    pub(crate) err: String,
}

type Ear = Arc<Mutex<Vec<u8>>>;

/// What to run: arguments, and an environment that holds nothing else.
pub(crate) fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command
}

/// Runs it to its end.
pub(super) async fn bearerd(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    Child::start(command(arguments, environment)).ended().await
}

impl Child {
    pub(super) fn spawn(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start(command(arguments, environment))
    }

    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::of(command)
    }

    /// With something to type at.
    pub(super) fn with_keys(mut command: Command) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut child = Self::of(command);
        let keys = child.child.stdin.take().unwrap();
        (child, keys)
    }

    fn of(mut command: Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (Ear::default(), Ear::default());
        let reads = vec![
            listen(child.stdout.take().unwrap(), Arc::clone(&out)),
            listen(child.stderr.take().unwrap(), Arc::clone(&err)),
        ];
        Self { child, out, err, reads }
    }

    /// The same with its standard output elsewhere.
    pub(super) fn into(mut command: Command, out: impl Into<Stdio>) -> Self {
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (Ear::default(), Ear::default());
        let reads = vec![listen(child.stderr.take().unwrap(), Arc::clone(&err))];
        Self { child, out, err, reads }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn out(&self) -> String {
        String::from_utf8(self.out.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.err.lock().unwrap().clone()).unwrap()
    }

    /// Waits until standard error holds `text`.
    pub(super) async fn until_err(&mut self, text: &str) {
        self.until(text, Self::err).await;
    }

    pub(super) async fn until_out(&mut self, text: &str) {
        self.until(text, Self::out).await;
    }

    async fn until(&mut self, text: &str, said: fn(&Self) -> String) {
        let mut over = false;
        eventually(&format!("{text:?} is said"), || {
            let seen = said(self).contains(text);
            // What it said last may still be on its way through the pipe.
            assert!(seen || !over || self.reads.iter().any(|read| !read.is_finished()), "it ended: {}", self.err());
            over = self.child.try_wait().unwrap().is_some();
            seen
        })
        .await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end, by itself. What it said holds no secret and no token.
    pub(crate) async fn ended(self) -> Ended {
        let ended = self.ended_with_token().await;
        ended.is_clean();
        ended
    }

    /// The same for a command that has to print a token.
    pub(super) async fn ended_with_token(mut self) -> Ended {
        let mut code = None;
        eventually("the process ends", || {
            let status = self.child.try_wait().unwrap();
            code = status.map(|status| status.code());
            status.is_some()
        })
        .await;
        eventually("its pipes end", || self.reads.iter().all(JoinHandle::is_finished)).await;
        Ended { code: code.unwrap(), out: self.out(), err: self.err() }
    }

    /// Sends the signal and waits for the end.
    pub(super) async fn end_by(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.ended().await
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The exit code, or a failure that shows everything.
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Standard error holds each of these.
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "no {text:?} in {}", self.err);
        }
        self
    }

    /// Standard output is empty.
    pub(super) fn silent(self) -> Self {
        assert_eq!(self.out, "", "{}", self.err);
        self
    }

    /// Neither the secret nor a token, by itself or within an encoding of it.
    pub(super) fn is_clean(&self) {
        for text in [&self.out, &self.err] {
            // A JWT begins with `{"` in base64, and so do Basic credentials with the client's name.
            for secret in [CANARY, "eyJ", "YXBwOn", "client_secret="] {
                assert!(!text.contains(secret), "{secret:?} was told: {text}");
            }
        }
    }
}

fn listen(mut pipe: impl Read + Send + 'static, ear: Ear) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut bytes) {
            ear.lock().unwrap().extend_from_slice(&bytes[..length]);
        }
    })
}
