//! Tells whoever started this process how far it is, as systemd wants it (sd_notify(3)): that it is ready, reloads or stops,
//! how it is in a sentence, and again and again that it lives.
//!
//! The protocol is a datagram of lines to a socket that a variable names, so that no crate is needed for it; the usual one
//! takes no abstract socket. Nothing waits for who does not listen. Must never know requests or tokens.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep};

/// What this process is a service of, if it is one.
#[derive(Debug, Default)]
pub struct Service(Option<Manager>);

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    at: SocketAddr,
    /// It expects to hear at least so often that we live.
    watchdog: Option<Duration>,
    /// The last sentence that it was told.
    sentence: Mutex<String>,
}

/// What it has not taken after this long, it does not hear: systemd takes every message at once, unless it is stuck itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries, while its queue is full.
const RETRY: Duration = Duration::from_millis(20);

/// How often it is looked whether the sentence is still true. People read it.
const LOOK: Duration = Duration::from_secs(5);

/// How long the rest of an end takes, when nothing is in flight any more.
const LAST_STEPS: Duration = Duration::from_secs(5);

impl Service {
    /// By `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    ///
    /// # Errors
    /// There is a manager, and no way to speak to it.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Self> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let at = address(&name)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // Without the other it is for this process (sd_watchdog_enabled(3)).
        let is_ours =
            variable("WATCHDOG_PID").is_none_or(|_| number("WATCHDOG_PID") == Some(std::process::id().into()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0).map(Duration::from_micros);
        Ok(Self(Some(Manager { socket, at, watchdog, sentence: Mutex::default() })))
    }

    /// The service works, and this is how it is.
    ///
    /// # Errors
    /// Nobody was told: it will be taken for one that does not start.
    pub(super) async fn ready(&self, sentence: String) -> io::Result<()> {
        let told = self.send(&format!("READY=1\nSTATUS={sentence}")).await;
        self.has_said(sentence);
        told
    }

    /// It begins to read its configuration again.
    pub(super) async fn reloading(&self) {
        let mut message = String::from("RELOADING=1");
        // By this systemd tells the answer to its signal from an earlier one (`Type=notify-reload`).
        let now = clock_gettime(ClockId::Monotonic);
        let (seconds, nanoseconds) = (i128::from(now.tv_sec), i128::from(now.tv_nsec));
        let _ = write!(message, "\nMONOTONIC_USEC={}", seconds * 1_000_000 + nanoseconds / 1_000);
        let _ = self.send(&message).await;
    }

    /// That came to an end, whatever came of it.
    pub(super) async fn reloaded(&self) {
        let _ = self.send("READY=1").await;
    }

    /// The end began, and takes so long at most. For ever, since the end waits for nobody.
    pub(super) async fn stopping(&self, most: Duration) -> Infallible {
        let most = most.saturating_add(LAST_STEPS).as_micros();
        let sentence = "Draining: what is in flight is finished";
        let _ = self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={most}\nSTATUS={sentence}")).await;
        std::future::pending().await
    }

    /// Keeps the sentence true, for ever. It is looked at again when `soon` is over.
    pub(super) async fn keep(&self, sentence: impl Fn() -> String, soon: impl Future<Output = ()>) -> Infallible {
        if self.0.is_none() {
            return std::future::pending().await;
        }
        let mut soon = std::pin::pin!(soon);
        let mut is_over = false;
        loop {
            tokio::select! {
                () = &mut soon, if !is_over => is_over = true,
                () = sleep(LOOK) => {}
            }
            let sentence = sentence();
            if self.has_said(sentence.clone()) {
                let _ = self.send(&format!("STATUS={sentence}")).await;
            }
        }
    }

    /// Says often enough that this process lives, for as long as `everybody` answers: who waits for one that does not says
    /// nothing, and that is what ends a process that hangs. `false` is that somebody never will again.
    pub(super) async fn watch<F: Future<Output = bool>>(&self, everybody: impl Fn() -> F) {
        let Some(limit) = self.0.as_ref().and_then(|manager| manager.watchdog) else { return };
        while everybody().await {
            let _ = self.send("WATCHDOG=1").await;
            // Two may come late, and the answers take their time as well.
            sleep((limit / 3).max(Duration::from_millis(1))).await;
        }
    }

    /// Whether that is another sentence than before.
    fn has_said(&self, sentence: String) -> bool {
        let Some(manager) = &self.0 else { return false };
        let mut last = manager.sentence.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *last != sentence;
        *last = sentence;
        is_new
    }

    async fn send(&self, message: &str) -> io::Result<()> {
        let Some(Manager { socket, at, .. }) = &self.0 else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            // By its name each time, since a systemd that was started anew may have another socket there.
            match socket.send_to_addr(message.as_bytes(), at) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    sleep(RETRY).await
                }
                sent => return sent.map(drop),
            }
        }
    }
}

/// A path, or an abstract name behind an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor the name of an abstract socket")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A manager's; dropped, its file is gone.
    struct Ear(UnixDatagram, PathBuf);

    impl Drop for Ear {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.1);
        }
    }

    /// A manager's ear, and a service that speaks to it.
    fn pair(more: &[(&str, String)]) -> (Ear, Service) {
        let path = std::env::temp_dir().join(format!("bearerd-notify-{}-{}", std::process::id(), fastrand::u64(..)));
        let ear = UnixDatagram::bind(&path).unwrap();
        ear.set_nonblocking(true).unwrap();
        let service = Service::of(|name| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            _ => more.iter().find(|(one, _)| *one == name).map(|(_, value)| value.into()),
        });
        (Ear(ear, path), service.unwrap())
    }

    fn heard(Ear(ear, _): &Ear) -> Vec<String> {
        let mut heard = Vec::new();
        let mut message = [0; 4096];
        while let Ok(length) = ear.recv(&mut message) {
            heard.push(String::from_utf8(message[..length].to_vec()).unwrap());
        }
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_hears_how_far_it_is() {
        let (ear, service) = pair(&[]);
        service.ready("Waiting for token main".to_owned()).await.unwrap();
        service.reloading().await;
        service.reloaded().await;
        let stopping = service.stopping(Duration::from_secs(25));
        assert!(tokio::time::timeout(Duration::from_secs(1), stopping).await.is_err());
        let heard = heard(&ear);
        let (usec, heard): (Vec<_>, Vec<_>) = heard.iter().partition(|message| message.contains("MONOTONIC"));
        assert_eq!(
            heard,
            [
                "READY=1\nSTATUS=Waiting for token main",
                "READY=1",
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS=Draining: what is in flight is finished",
            ]
        );
        let usec: u64 = usec[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(usec > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sentence_is_said_when_it_changes() {
        let (ear, service) = pair(&[]);
        service.ready("0".to_owned()).await.unwrap();
        let looked = AtomicUsize::new(0);
        // The same twice, then another.
        let sentence = || (looked.fetch_add(1, Ordering::Relaxed) / 2).to_string();
        let keeping = service.keep(sentence, std::future::ready(()));
        assert!(tokio::time::timeout(LOOK * 3, keeping).await.is_err());
        assert_eq!(heard(&ear), ["READY=1\nSTATUS=0", "STATUS=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_lives_while_everybody_answers() {
        let watchdog = |usec: &str, pid: Option<u32>| {
            let pid = pid.map(|pid| ("WATCHDOG_PID", pid.to_string()));
            pair(&[("WATCHDOG_USEC", usec.to_owned())].into_iter().chain(pid).collect::<Vec<_>>())
        };
        let answers = || std::future::ready(true);
        // Few enough for a queue that nobody reads meanwhile (`net.unix.max_dgram_qlen` is 10 on some machines).
        let whole = Duration::from_secs(9);
        let (ear, service) = watchdog("3000000", None);
        assert!(tokio::time::timeout(whole, service.watch(answers)).await.is_err());
        let often = heard(&ear);
        // Twice as often as it has to at the least.
        assert!(often.len() >= 6 && often.iter().all(|message| message == "WATCHDOG=1"), "{often:?}");
        // Somebody answers twice and then no more, or has ended.
        for ended in [false, true] {
            let asked = AtomicUsize::new(0);
            let somebody = || async {
                if asked.fetch_add(1, Ordering::Relaxed) >= 2 && !ended {
                    std::future::pending::<()>().await;
                }
                asked.load(Ordering::Relaxed) <= 2
            };
            let watch = service.watch(somebody);
            assert_eq!(tokio::time::timeout(whole, watch).await.is_ok(), ended);
            assert_eq!(heard(&ear), ["WATCHDOG=1", "WATCHDOG=1"]);
        }
        // Ours, another's, and none.
        for (usec, pid, is_watched) in [
            ("3000000", Some(std::process::id()), true),
            ("3000000", Some(1), false),
            ("0", None, false),
            ("soon", None, false),
        ] {
            let (ear, service) = watchdog(usec, pid);
            let _ = tokio::time::timeout(whole, service.watch(answers)).await;
            assert_eq!(!heard(&ear).is_empty(), is_watched, "{usec} {pid:?}");
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn an_abstract_socket_is_one_too_and_nobody_is_nobody() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("bearerd-notify-{}-{}", std::process::id(), fastrand::u64(..));
        let ear = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        ear.set_nonblocking(true).unwrap();
        let ear = Ear(ear, PathBuf::new());
        let service = Service::of(|variable| (variable == "NOTIFY_SOCKET").then(|| format!("@{name}").into())).unwrap();
        service.ready("Ready".to_owned()).await.unwrap();
        assert_eq!(heard(&ear), ["READY=1\nSTATUS=Ready"]);
        drop(ear);
        assert_eq!(service.ready(String::new()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        service.reloaded().await;

        for nobody in [None, Some("")] {
            let service = Service::of(|_| nobody.map(Into::into)).unwrap();
            service.ready("Ready".to_owned()).await.unwrap();
            service.watch(|| async { panic!("nobody watches") }).await;
        }
        let wrong = Service::of(|_| Some("vsock:2:1234".into())).unwrap_err();
        assert_eq!(wrong.to_string(), "neither a path nor the name of an abstract socket");
    }
}
