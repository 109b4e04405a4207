//! `bearerd run`: loads, binds, runs until a signal.

use std::io;

use clap::ArgMatches;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::{Failed, check, load};
use crate::app::{AppError, Bound, harden};
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::observe::log::Log;

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let _context = runtime.enter();
    // Before anything else: as PID 1, a process without a handler cannot be asked to end.
    let stop = signals()?;
    // Nothing secret has been read yet, so a system that refuses has lost nothing; it is no reason not to run.
    let hardened = harden::harden();
    let loaded = load(matches)?;
    check::files(&loaded.plan)?;
    let observer = Observer::new(Log::stderr(loaded.plan.log));
    if let Err(error) = hardened {
        let text = format!("core dumps cannot be switched off on this system ({error}); they would hold tokens");
        observer.tell(&Event::ConfigWarning { text: &text });
    }
    for warning in &loaded.warnings {
        observer.tell(&Event::ConfigWarning { text: &warning.to_string() });
    }
    let bound = Bound::new(loaded.plan, observer).map_err(|error: AppError| {
        if error.is_configuration() { Failed::Configuration(format!("error: {error}")) } else { error.into() }
    })?;
    runtime.block_on(bound.run(stop))?;
    Ok(())
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
