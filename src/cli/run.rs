//! `bearerd run`: loads, binds, runs until a signal.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use clap::ArgMatches;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::{Failed, check, load_with, loaded};
use crate::app::{AppError, Bound, Reading, Reload, Service};
use crate::config::files::{Findings, Noted};
use crate::config::{Loaded, Origin, Problem};
use crate::inbound::Inherited;
use crate::inbound::inherited::InheritedFault;
use crate::inbound::listener::{Address, BindError, BindFault};
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::observe::log::Log;

/// `hardened` says whether this process's memory is its own.
pub(super) fn run(matches: &ArgMatches, hardened: io::Result<()>) -> Result<(), Failed> {
    // There is one thread yet, and there has to be.
    let inherited = Inherited::take();
    on_its_own(Builder::new_current_thread().enable_all().build()?, |runtime| {
        run_on(runtime, matches, hardened, inherited)
    })
}

/// Ends the runtime with what it was for. Merely dropped it would wait for its blocking threads, and so for a name
/// lookup that hangs, long after the drain.
pub(super) fn on_its_own<T>(runtime: Runtime, work: impl FnOnce(&Runtime) -> T) -> T {
    let outcome = work(&runtime);
    runtime.shutdown_background();
    outcome
}

fn run_on(
    runtime: &Runtime,
    matches: &ArgMatches,
    hardened: io::Result<()>,
    inherited: Result<Inherited, InheritedFault>,
) -> Result<(), Failed> {
    let _context = runtime.enter();
    // Before anything else: as PID 1, a process without a handler cannot be asked to end.
    let stop = signals()?;
    let wishes = hangups()?;
    let noted = Noted::default();
    let first = load_with(matches, &noted)?;
    let origin = first.origin.clone();
    let inherited = inherited.map_err(|fault| failed(&fault.into()))?;
    let (bound, observer) = bind(first, inherited, hardened)?;
    let service = Service::of(|name| std::env::var_os(name)).unwrap_or_else(|error| {
        let text = format!("`NOTIFY_SOCKET` leads nowhere, so the service manager is told nothing: {error}");
        observer.tell(&Event::ConfigWarning { text: &text });
        Service::default()
    });
    let repeatable = is_repeatable(&origin);
    let told = origin.to_string();
    let matches = matches.clone();
    let read = move || if repeatable { read_again(&matches) } else { cannot_be_read_again(&origin) };
    let reload = Reload { origin: told, found: noted.found(), repeatable, read: Arc::new(read), wishes };
    runtime.block_on(bound.reloading(reload).telling(service).run(stop))?;
    Ok(())
}

/// Says what there is to say about the configuration, and binds what it names. Needs a runtime.
pub(super) fn bind(
    loaded: Loaded,
    inherited: Inherited,
    hardened: io::Result<()>,
) -> Result<(Bound, Observer), Failed> {
    check::files(&loaded.plan)?;
    let observer = Observer::new(Log::stderr(loaded.plan.log));
    tell_of_panics(observer.clone());
    if let Err(error) = hardened {
        let text = format!("core dumps cannot be switched off on this system ({error}); they would hold tokens");
        observer.tell(&Event::ConfigWarning { text: &text });
    }
    for warning in &loaded.warnings {
        observer.tell(&Event::ConfigWarning { text: &warning.to_string() });
    }
    for text in check::expiring(&loaded.plan, SystemTime::now()) {
        observer.tell(&Event::ConfigWarning { text: &text });
    }
    let bound = Bound::new(loaded.plan, inherited, observer.clone()).map_err(|error| failed(&error))?;
    Ok((bound, observer))
}

/// Has each panic told as everything else is. What it says is told where the sources say it: else it may hold anything.
fn tell_of_panics(observer: Observer) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let thread = std::thread::current();
        let why = panic.payload().downcast_ref::<&'static str>().copied();
        observer.tell(&Event::Panicked { thread: thread.name().unwrap_or("a thread"), place: &place, why });
    }));
}

fn failed(error: &AppError) -> Failed {
    match error {
        // The error holds its cause already.
        AppError::Bind(bind) => {
            let told = format!("{error}{}", cure(bind));
            match bind.error {
                BindFault::NoUser(_) | BindFault::NoGroup(_) | BindFault::GivenOtherwise { .. } => {
                    Failed::Configuration(format!("error: {told}"))
                }
                BindFault::Taken | BindFault::Occupied | BindFault::NotGiven(_) | BindFault::System(_) => {
                    Failed::Because(told)
                }
            }
        }
        AppError::Inherited(fault) => {
            Failed::Configuration(format!("error: {error}\n  hint: {}", cure_of_inherited(fault)))
        }
        AppError::AccessLog(sheet) => Failed::Configuration(format!("error: {error}{}", hint_of_log(&sheet.error))),
        AppError::Listener { .. }
        | AppError::Token(_)
        | AppError::Route { .. }
        | AppError::Ca(_)
        | AppError::OtherHosts
        | AppError::Plan { .. } => Failed::Configuration(format!("error: {error}")),
    }
}

fn cure(bind: &BindError) -> &'static str {
    const TAKEN: &str = "\n  hint: another program has it, perhaps another bearerd; end that one, or choose another \
                         address with `listen` (`--listen`), `admin` (`--admin`) or `health` (`--health`)";
    let error = match &bind.error {
        BindFault::Taken => return TAKEN,
        BindFault::Occupied => return "\n  hint: move it away, or choose another path for the socket",
        BindFault::NoUser(_) | BindFault::NoGroup(_) => {
            return "\n  hint: write its number where names are not known, as in an image without `/etc/passwd`";
        }
        BindFault::NotGiven(_) => {
            return "\n  hint: `owner` takes root; `group` takes root, or a user that is in the group";
        }
        BindFault::GivenOtherwise { .. } => {
            return "\n  hint: have `SocketMode=`, `SocketUser=` and `SocketGroup=` of the socket unit say the same as `mode`, \
                    `owner` and `group`";
        }
        BindFault::System(error) => error,
    };
    match (error.kind(), &bind.address) {
        (io::ErrorKind::AddrInUse, _) => TAKEN,
        (io::ErrorKind::AddrNotAvailable, _) => "\n  hint: it is not an address of this machine",
        (io::ErrorKind::PermissionDenied, Address::Tcp(_)) => {
            "\n  hint: ports below 1024 need a privilege; choose a higher one"
        }
        (io::ErrorKind::PermissionDenied, Address::Unix(_)) => {
            "\n  hint: the folder, and a socket that is there already, must be this user's to write to"
        }
        _ => "",
    }
}

fn cure_of_inherited(fault: &InheritedFault) -> String {
    match fault {
        InheritedFault::Unclaimed { address, .. } => format!(
            "write `{address}` as the address of `listen`, `admin` or `health`, or take its `ListenStream=` out of the socket \
             unit; a listener at `localhost` takes 127.0.0.1 and ::1, each once, and not a port alone, which is every address"
        ),
        InheritedFault::Count(_) => "leave it to systemd, or to whoever else hands sockets over, to set it".to_owned(),
        InheritedFault::Kind(_) | InheritedFault::System(..) => {
            "have the socket unit say `ListenStream=` with an address and a port, or with a path, and `Accept=no`"
                .to_owned()
        }
    }
}

pub(super) fn hint_of_log(error: &io::Error) -> String {
    cure_of_log(error).map_or_else(String::new, |cure| format!("\n  hint: {cure}"))
}

/// What to do about an access log that cannot be opened.
pub(super) fn cure_of_log(error: &io::Error) -> Option<&'static str> {
    const CURES: [(io::ErrorKind, &str); 4] = [
        (io::ErrorKind::NotFound, "make its folder first, for the user that bearerd runs as"),
        (
            io::ErrorKind::PermissionDenied,
            "the file, or the folder that it is made in, must be this user's to write to; systemd does it with \
             `LogsDirectory=`; `access_log: stdout` needs no file",
        ),
        (io::ErrorKind::ReadOnlyFilesystem, "mount a volume there, or write `access_log: stdout`"),
        (io::ErrorKind::IsADirectory, "name a file in it"),
    ];
    CURES.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, cure)| *cure)
}

/// SIGHUP, as a wish for the configuration to be read again. Without a handler it would be the end.
fn hangups() -> io::Result<mpsc::Receiver<()>> {
    let (wish, wishes) = mpsc::channel(1);
    #[cfg(unix)]
    {
        let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                // One that waits already is as good.
                let _ = wish.try_send(());
            }
        });
    }
    #[cfg(not(unix))]
    drop(wish);
    Ok(wishes)
}

/// Reads the configuration as `check` does, and notes what was looked for.
fn read_again(matches: &ArgMatches) -> Reading {
    let noted = Noted::default();
    let outcome = match loaded(matches, &noted) {
        Ok(Loaded { plan, warnings, .. }) => {
            let wrong = check::wrong_files(&plan);
            let warnings = warnings.iter().map(ToString::to_string).chain(check::expiring(&plan, SystemTime::now()));
            if wrong.is_empty() { Ok((plan, warnings.collect())) } else { Err(wrong) }
        }
        Err(problems) => Err(problems.problems.iter().map(in_a_line).collect()),
    };
    Reading { outcome, found: noted.found() }
}

/// A problem where there is one line for all of it.
fn in_a_line(problem: &Problem) -> String {
    problem.to_string().replace("\n  hint: ", " (hint: ") + if problem.hint.is_some() { ")" } else { "" }
}

/// What is no file, such as a pipe, can be read once.
fn is_repeatable(origin: &Origin) -> bool {
    match origin {
        Origin::File(path) => std::fs::metadata(path).map_or(true, |about| about.is_file()),
        Origin::Given => true,
    }
}

/// Says why a configuration is not read again.
fn cannot_be_read_again(origin: &Origin) -> Reading {
    let why = format!("`{origin}` is no file and can be read only once (hint: write it to a file for `--config`)");
    Reading { outcome: Err(vec![why]), found: Findings::default() }
}

/// SIGTERM and SIGINT, as wishes to end.
pub(super) fn signals() -> io::Result<mpsc::Receiver<&'static str>> {
    let (wish, wishes) = mpsc::channel(4);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
            let mut signal = signal(kind)?;
            let wish = wish.clone();
            tokio::spawn(async move { while signal.recv().await.is_some() && wish.send(name).await.is_ok() {} });
        }
    }
    #[cfg(not(unix))]
    tokio::spawn(async move { while tokio::signal::ctrl_c().await.is_ok() && wish.send("Ctrl-C").await.is_ok() {} });
    Ok(wishes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_lookup_that_hangs_does_not_hold_up_the_end() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let begun = Instant::now();
        on_its_own(Builder::new_current_thread().enable_all().build().unwrap(), |runtime| {
            let _context = runtime.enter();
            let (tell, told) = std::sync::mpsc::channel();
            runtime.spawn_blocking(move || {
                tell.send(()).unwrap();
                let _ = held.recv_timeout(Duration::from_secs(20));
            });
            runtime.block_on(async { told.recv().unwrap() });
        });
        assert!(begun.elapsed() < Duration::from_secs(10));
        drop(release);
    }
}
