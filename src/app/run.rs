//! Runs what is bound, until it is told to stop and has finished what was in flight.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::build::Bound;
use super::descriptors;
use super::passwords::Passwords;
use crate::admin::{Admin, Pages, Statuses};
use crate::files::Files;
use crate::inbound::worker::Seed;
use crate::inbound::{Acceptor, ConnectionLimit, Worker};
use crate::life::{DrainSignal, Phase, Readiness, Stock};
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::wire::via::Via;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Connections that were not finished in time.
    pub cut_off: usize,
}

impl Bound {
    /// Runs on the current runtime, which becomes the control plane. Every message on `stop` is a wish to end: the first
    /// begins the drain, the second ends it at once. A closed channel wishes nothing.
    ///
    /// # Errors
    /// The system gives no thread, or no runtime for one.
    pub async fn run(self, mut stop: mpsc::Receiver<&'static str>) -> io::Result<Ended> {
        let Self {
            listeners,
            admin,
            health,
            registry,
            routes,
            destinations,
            observer,
            workers,
            clients,
            limits,
            shutdown,
        } = self;
        let drain = DrainSignal::default();
        let readiness = Readiness::default();
        // Held until everything has begun, so that nobody is told "ready" before.
        let beginning = readiness.block("the listeners".into());

        let teller = observer.clone();
        let files = Files::new(move |error| teller.tell(&Event::FilesUnwatched { error }));
        let drivers = registry.start(&readiness, &observer, &files);
        let passwords = Passwords::new(clients, Arc::clone(&routes), observer.clone());
        let changed = files.watch(passwords.files());
        // Before the first caller comes.
        let complete = passwords.read().await;
        let mut pages = JoinSet::new();
        let mut keepers = JoinSet::new();
        keepers.spawn(passwords.keep(changed, complete));
        let shown = Arc::new(Admin {
            routes: Arc::clone(&routes),
            tokens: Statuses::of(Arc::clone(&registry)),
            readiness: readiness.clone(),
            drain: drain.clone(),
            observer: observer.clone(),
        });
        for (bounds, which) in [(admin, Pages::All), (health, Pages::Health)] {
            for bound in bounds {
                observer.tell(&Event::Listening { name: &bound.name, address: bound.address });
                pages.spawn(Arc::clone(&shown).serve(bound.into_tokio()?, which));
            }
        }

        for bound in &listeners {
            observer.tell(&Event::Listening { name: &bound.name, address: bound.address });
        }
        let shares = descriptors::share_out(limits.connections);
        if shares.apps < limits.connections {
            observer.tell(&Event::FewDescriptors { connections: shares.apps, wanted: limits.connections });
        }
        let limit = ConnectionLimit::new(shares.apps, shares.refusals);
        let seed = Seed {
            routes,
            destinations,
            observer: observer.clone(),
            via: Arc::new(Via::new(fastrand::u32(..))),
            limits,
            upstreams: Stock::of(shares.upstreams),
            drain: drain.clone(),
            control: Handle::current(),
        };
        // One worker accepts by itself; several are handed what one acceptor a listener takes.
        let (own, shared) = if workers == 1 { (listeners, Vec::new()) } else { (Vec::new(), listeners) };
        let mut own = Some(own);
        let workers: io::Result<Vec<_>> = (0..workers)
            .map(|index| Worker::start(index, seed.clone(), own.take().unwrap_or_default(), limit.clone()))
            .collect();
        let workers = Arc::new(workers?);
        let mut acceptors = JoinSet::new();
        for bound in shared {
            let (name, listener) = (Arc::clone(&bound.name), bound.listener);
            let acceptor =
                Acceptor { name, socket: bound.into_tokio()?, limit: limit.clone(), observer: observer.clone() };
            let workers = Arc::clone(&workers);
            acceptors.spawn(acceptor.run(drain.hold(), move |stream, counted| {
                if let Some(worker) = workers.iter().min_by_key(|worker| worker.load()) {
                    worker.hand(stream, listener, counted);
                }
            }));
        }
        drop(beginning);

        let told = announce(readiness, observer.clone());
        let signal = tokio::select! {
            biased;
            signal = stopped(&mut stop) => signal,
            never = told => match never {},
        };
        observer.tell(&Event::Draining { signal });
        drain.enter(Phase::LameDuck);
        let hurried = tokio::select! {
            _ = stopped(&mut stop) => true,
            () = tokio::time::sleep(shutdown.delay) => false,
        };
        drain.enter(Phase::Draining);
        let patience = if hurried { Duration::ZERO } else { shutdown.timeout };
        tokio::select! {
            biased;
            () = drain.finished() => {}
            _ = stopped(&mut stop) => {}
            () = tokio::time::sleep(patience) => {}
        }
        // Who accepts holds the drain as well, and a connection that has just ended may still be counted as open.
        let ended = Ended { cut_off: drain.unfinished().min(limit.open()) };
        // Traffic ends before the tokens that it carries, and the pages last.
        drop(acceptors);
        drop(workers);
        drop((drivers, keepers));
        observer.tell(&Event::Stopped { cut_off: ended.cut_off });
        drop(pages);
        Ok(ended)
    }
}

/// The next wish to end.
async fn stopped(stop: &mut mpsc::Receiver<&'static str>) -> &'static str {
    match stop.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

/// Says once that it is ready, and then waits for ever.
async fn announce(readiness: Readiness, observer: Observer) -> std::convert::Infallible {
    readiness.ready().await;
    observer.tell(&Event::Ready);
    std::future::pending().await
}
