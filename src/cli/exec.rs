//! `bearerd exec`: the proxy for as long as one command lives, on ports of its own.
//!
//! The command notices nothing of it but its environment: terminal, standard streams, signals, limits and the exit code
//! are as they would be without. What it gets is where the proxy is; what is taken away are the ways to its secrets.
//! Must never know what the command is.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::run::{bind, on_its_own};
use super::{Failed, complain, load};
use crate::app::Ended;
use crate::app::harden::Limits;
use crate::ca;
use crate::config::sources::DEFAULT;
use crate::config::{Plan, Shutdown};
use crate::inbound::{Inherited, ListenAddress, ListenSettings};
use crate::observe::access::AccessLog;
use crate::observe::event::Event;
use crate::observe::log::Level;
use crate::rules::RouteSettings;
use crate::wire::authority::Host;

/// For what the command left behind: an answer that it did not wait for, or a child of its own. Who ran the command
/// waits for this.
const PARTING: Duration = Duration::from_secs(1);

/// What shells end with when a signal ended their command, less the signal's number; when the command cannot be run;
/// and when there is none.
const SIGNALLED: i32 = 128;
const NOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What systemd tells the process that it starts: where its secrets are and where to say that it is ready. None of it is
/// meant for a child; nor is `LISTEN_*`, which says which descriptors are its sockets (`sd_listen_fds`), nor `WATCHDOG_*`,
/// which says how often it has to show that it lives.
const FROM_SYSTEMD: [&str; 2] = ["CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"];

/// Programs on this machine are reached without a proxy, by any name that they have on loopback.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// The exit code to end with, which is the command's.
pub(super) fn run(matches: &ArgMatches, hardened: io::Result<()>, limits: &Limits) -> Result<u8, Failed> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    on_its_own(runtime, |runtime| runtime.block_on(around(matches, hardened, limits)))
}

async fn around(matches: &ArgMatches, hardened: io::Result<()>, limits: &Limits) -> Result<u8, Failed> {
    // Before anything else: as PID 1, a process without a handler cannot be asked to end.
    let mut signals = signals()?;
    let mut loaded = load(matches)?;
    let variable = std::env::var_os("BEARERD_LOG_LEVEL").is_some_and(|level| !level.is_empty());
    if !variable && matches.get_one::<String>("log-level").is_none() {
        // A file's level is for a `run` whose log is all that it has to say.
        loaded.plan.log.level = loaded.plan.log.level.min(Level::Warn);
    }
    let notes = settle(&mut loaded.plan)?;
    let place = Place::of(&loaded.plan)?;
    let secret_variables = std::mem::take(&mut loaded.plan.secret_variables);
    let leads_by_connect = loaded.plan.intercepts() || !loaded.plan.tunnels.is_empty();
    // The command may be elsewhere by the time that it looks.
    let ca_dir = loaded.plan.intercepts().then(|| std::path::absolute(&loaded.plan.ca_dir)).transpose()?;
    let (bound, observer) = bind(loaded, Inherited::default(), hardened)?;
    for text in notes.iter().chain(&place.note) {
        observer.tell(&Event::ConfigWarning { text });
    }
    let address = bound.addresses().get(place.listener).copied();
    let address = address.ok_or_else(|| Failed::Because("a bug in bearerd: it listens nowhere".into()))?;
    let mut command = command(matches)?;
    for (name, _) in std::env::vars_os() {
        if is_withheld(&name) || name.to_str().is_some_and(|name| secret_variables.contains(name)) {
            command.env_remove(name);
        }
    }
    command.envs(environment(&place.url(address), &format!("http://{address}"), leads_by_connect));
    if let Some(ca_dir) = ca_dir {
        command.envs(trusted(&ca_dir));
    }

    let readiness = bound.readiness();
    let (stop, stopped) = mpsc::channel(1);
    let mut proxy = tokio::spawn(bound.run(stopped));
    let wait = matches.get_one::<Duration>("wait").copied().unwrap_or_default();
    tokio::select! {
        () = readiness.ready() => {}
        Some(signal) = signals.recv() => return Ok(signalled(signal.as_raw())),
        ended = &mut proxy => return Err(gone(ended?)),
        () = tokio::time::sleep(wait) => {
            let pending = readiness.pending();
            return Err(Failed::Because(format!(
                "not ready within {}: waiting for {}; the command was not started\n  hint: `bearerd token` says what \
                 the provider answers; `--wait 2m` waits longer; a token with `required: false` is not waited for",
                humantime::format_duration(wait),
                pending.join(", "),
            )));
        }
    }
    let program = command.as_std().get_program().to_owned();
    let mut child = match limits.lend(|| command.spawn()) {
        Ok(child) => child,
        Err(error) => {
            complain(&format!("error: `{}` cannot be started: {error}", printable(&program)));
            return Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN });
        }
    };
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            Some(signal) = signals.recv() => pass_on(&child, signal),
        }
    };
    // A proxy that has ended by itself says why.
    let _ = stop.send("the end of the command").await;
    match proxy.await? {
        Ok(_) => Ok(code(status)),
        failed @ Err(_) => Err(gone(failed)),
    }
}

/// What is left of a plan for one command: plain listeners and the admin pages, each on a free port of 127.0.0.1, and
/// the routes that lead from there. Says what else it leaves out.
///
/// A socket file and a TLS listener are for those whom they admit. A port without either would admit every program of
/// this machine, so nobody gets one in their place who did not ask.
fn settle(plan: &mut Plan) -> Result<Vec<String>, Failed> {
    plan.listeners.retain_mut(moved);
    if plan.listeners.is_empty() {
        return Err(Failed::Because(
            "`listen` has no plain TCP address, and a port for the command would be open to every program of this \
             machine\n  hint: where that is fine, say `--listen localhost:0`"
                .to_owned(),
        ));
    }
    let mut notes = Vec::new();
    let listeners = &plan.listeners;
    plan.routes.retain(|route| {
        let is_left = |name: &Arc<str>| listeners.iter().any(|listener| listener.name == *name);
        let stays = route.matching.listen.as_ref().is_none_or(is_left);
        if !stays {
            notes.push(format!("route `{}` is left out: `exec` does not open its listener", route.name));
        }
        stays
    });
    drop(plan.admin.take_if(|admin| !moved(admin)));
    // Kubelets are no concern of a command's.
    plan.health = None;
    if plan.access_log.take_if(|to| *to == AccessLog::Stdout).is_some() {
        notes.push("`access_log: stdout` is left out: standard output is the command's; a path would do".to_owned());
    }
    plan.shutdown = Shutdown { delay: Duration::ZERO, timeout: plan.shutdown.timeout.min(PARTING) };
    Ok(notes)
}

/// Has a plain TCP listener take a free port of 127.0.0.1; another is not to be opened.
fn moved(listener: &mut ListenSettings) -> bool {
    let is_tcp = !matches!(listener.addresses, ListenAddress::Unix(_));
    listener.addresses = ListenAddress::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    is_tcp && listener.tls.is_none()
}

/// Where the route is that a base URL is for: the one called `default`, else the first.
struct Place {
    /// Which of the listeners.
    listener: usize,
    /// A name below `localhost`, where the route asks for one.
    host: Option<String>,
    path: String,
    /// What is to be said about it.
    note: Option<String>,
}

impl Place {
    fn of(plan: &Plan) -> Result<Self, Failed> {
        let named = plan.routes.iter().find(|route| *route.name == *DEFAULT);
        let route = named.or(plan.routes.first());
        let route = route.ok_or_else(|| Failed::Because("no route is left for the command".to_owned()))?;
        let RouteSettings { matching, name, .. } = route;
        let listener = plan.listeners.iter().position(|one| Some(&one.name) == matching.listen.as_ref());
        let host = matching.host.as_ref().map(Host::to_string);
        let (host, foreign) = match host {
            Some(host) if host == "localhost" || host.ends_with(".localhost") => (Some(host), None),
            Some(host) if host == "127.0.0.1" => (None, None),
            other => (None, other),
        };
        let note = foreign.map(|host| {
            format!("route `{name}` is for the Host `{host}`, which BEARERD_URL cannot have; HTTP_PROXY leads to it")
        });
        let path = matching.path.as_deref().unwrap_or_default().to_owned();
        Ok(Self { listener: listener.unwrap_or_default(), host, path, note })
    }

    fn url(&self, address: SocketAddr) -> String {
        match &self.host {
            Some(host) => format!("http://{host}:{}{}", address.port(), self.path),
            None => format!("http://{address}{}", self.path),
        }
    }
}

fn command(matches: &ArgMatches) -> Result<Command, Failed> {
    let mut words = matches.get_many::<OsString>("command").into_iter().flatten();
    let program = words.next().ok_or_else(|| Failed::Because("there is no command".to_owned()))?;
    let mut command = Command::new(program);
    command.args(words);
    Ok(command)
}

/// Everything of ours is, not only what is known to be a secret: it says how to be a proxy, which the command is not,
/// and a bearerd somewhere below it would ask for tokens in our name.
fn is_withheld(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["BEARERD_", "LISTEN_", "WATCHDOG_"].iter().any(|start| name.starts_with(start)) || FROM_SYSTEMD.contains(&&*name)
}

/// What the command is told, in both cases of letters where programs disagree on it.
fn environment(url: &str, proxy: &str, leads_by_connect: bool) -> Vec<(String, String)> {
    let both = |name: &str, value: &str| [(name.to_owned(), value.to_owned()), (name.to_lowercase(), value.to_owned())];
    let mut told = vec![("BEARERD_URL".to_owned(), url.to_owned())];
    told.extend(both("HTTP_PROXY", proxy));
    if leads_by_connect {
        told.extend(both("HTTPS_PROXY", proxy));
    }
    told.extend(both("NO_PROXY", NO_PROXY));
    told
}

/// What programs look at for whom to trust: OpenSSL and what is built on it, Go and Rust; Python's `requests` and pip; curl
/// where it has roots of its own; the AWS tools; gRPC's C core; git. These put it in the place of the roots that they have;
/// Node adds it to them.
fn trusted(ca_dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let instead = [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "AWS_CA_BUNDLE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "PIP_CERT",
        "GIT_SSL_CAINFO",
    ];
    let instead = instead.into_iter().map(|name| (name, ca::bundle(ca_dir)));
    instead.chain([("NODE_EXTRA_CA_CERTS", ca::certificate(ca_dir))]).collect()
}

/// Those that are sent to have a program end, or do something of its own.
const PASSED_ON: [Signal; 6] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Signals to this process, as they come.
fn signals() -> io::Result<mpsc::Receiver<Signal>> {
    let (heard, signals) = mpsc::channel(16);
    let ignored = ignored();
    for passed in PASSED_ON {
        // Whoever started us wants the command to ignore it, too (`nohup`), and it would not, once we listen.
        if ignored & 1 << (passed.as_raw() - 1) != 0 {
            continue;
        }
        let mut signal = signal(SignalKind::from_raw(passed.as_raw()))?;
        let heard = heard.clone();
        tokio::spawn(async move { while signal.recv().await.is_some() && heard.send(passed).await.is_ok() {} });
    }
    Ok(signals)
}

/// A bit for each signal that this process was started to ignore, as far as the system tells (Linux).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn pass_on(child: &Child, signal: Signal) {
    // A terminal sends these to everybody in the foreground: the command has it already.
    if matches!(signal, Signal::INT | Signal::QUIT) && is_in_foreground() {
        return;
    }
    // It is there until it has been waited for, so this is no other process.
    let child = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(child) = child {
        let _ = kill_process(child, signal);
    }
}

/// Whether the keys of a terminal reach this process.
fn is_in_foreground() -> bool {
    std::fs::File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

/// What a shell would make of it.
fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => signalled(signal),
        (None, None) => u8::MAX,
    }
}

fn signalled(signal: i32) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX)
}

/// The proxy ended, and nobody had asked for it.
fn gone(ended: io::Result<Ended>) -> Failed {
    match ended {
        Ok(_) => Failed::Because("the proxy ended by itself".to_owned()),
        Err(error) => error.into(),
    }
}

/// Without what could steer a terminal.
fn printable(text: &OsStr) -> String {
    text.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
