//! Runs what is bound, until it is told to stop and has finished what was in flight.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::build::Bound;
use super::descriptors::Shares;
use super::passwords::Passwords;
use super::reload::Reloader;
use super::{descriptors, pages};
use crate::admin::{Admin, Configuration, Pages, Place, Shown, Statuses};
use crate::bug;
use crate::clock::Now;
use crate::files::Files;
use crate::inbound::worker::Seed;
use crate::inbound::{self, Acceptor, ConnectionLimit, Door, Worker};
use crate::life::{DrainSignal, Phase, RESTART, Readiness, Stock, UnderWay, contained};
use crate::observe::event::Event;
use crate::observe::{ListenerSample, Listening, Observer};
use crate::wire::via::Via;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exchanges that were not finished in time.
    pub cut_off: usize,
}

impl Bound {
    /// Runs on the current runtime, which becomes the control plane. Every message on `stop` is a wish to end: the first
    /// begins the drain, the second ends it at once. A closed channel wishes nothing.
    ///
    /// # Errors
    /// The system gives no thread, or no runtime for one; or a worker has ended by a bug.
    pub async fn run(self, mut stop: mpsc::Receiver<&'static str>) -> io::Result<Ended> {
        let Self {
            doors,
            listeners,
            admin,
            health,
            compiled,
            fixed,
            files: read,
            reload,
            service,
            observer,
            access_log,
            readiness,
            beginning,
        } = self;
        observer.log_access(access_log)?;
        let (now, fixed) = (Arc::new(compiled), Arc::new(fixed));
        let drain = DrainSignal::default();
        let service = Arc::new(service);

        let teller = observer.clone();
        let panicked = observer.clone();
        let files = Arc::new(Files::new(
            move |error| teller.tell(&Event::FilesUnwatched { error }),
            move || panicked.tell(&Event::TaskPanicked { task: "the watch over files" }),
        ));
        now.registry.start(Some(&readiness), &observer, &files);
        let passwords = Passwords::new(&now.callers, now.live.routes.clients(), observer.clone());
        let changed = files.watch(passwords.files());
        let (mut keepers, mut passwords_kept) = (JoinSet::new(), JoinSet::new());
        for renewal in doors.iter().filter_map(|door| door.renewal(&files, &observer)) {
            keepers.spawn(renewal);
        }
        let capacity = Capacity::new(now.live.limits.connections, &observer);
        let history = observer.clone();
        keepers.spawn(async move {
            while contained(pin!(sample(&history))).await.is_none() {
                history.tell(&Event::TaskPanicked { task: "what the page's curves are made of" });
                tokio::time::sleep(RESTART).await;
            }
        });
        let mut shown_by = JoinSet::new();
        let shown = Arc::new(Admin {
            shown: ArcSwap::from_pointee(Shown {
                routes: Arc::clone(&now.live.routes),
                tokens: Statuses::of(Arc::clone(&now.registry)),
            }),
            configuration: Configuration::new(
                reload.as_ref().map_or_else(|| "as it was given".to_owned(), |reload| reload.origin.clone()),
            ),
            readiness: readiness.clone(),
            drain: drain.clone(),
            observer: observer.clone(),
            apps: listeners.iter().map(place).collect(),
            listening: listening_now(doors, &listeners, capacity.limit.clone()),
        });
        for (bounds, which) in [(admin, Pages::All), (health, Pages::Health)] {
            for bound in bounds {
                listening(&observer, &bound);
                let door = Arc::clone(&bound.door);
                let listener = bound.into_tokio()?;
                shown_by.spawn(pages::serve(Arc::clone(&shown), door, listener, which, capacity.pages));
            }
        }

        for bound in &listeners {
            listening(&observer, bound);
        }
        // Before the first caller comes, and after the probes may: a password may be a command's to print.
        tokio::select! {
            complete = passwords.read() => { passwords_kept.spawn(passwords.keep(changed, complete)); }
            // Nothing is in flight yet.
            signal = stopped(&mut stop) => {
                observer.tell(&Event::Draining { signal, connections: 0 });
                observer.tell(&Event::Stopped { found: UnderWay::default(), cut: UnderWay::default() });
                return Ok(Ended { cut_off: 0 });
            }
        }
        let (fell, mut fallen) = watch::channel(false);
        let seed = Seed {
            live: Arc::clone(&now.live),
            observer: observer.clone(),
            via: Arc::new(Via::new(fastrand::u32(..))),
            upstreams: capacity.upstreams.clone(),
            drain: drain.clone(),
            fell,
        };
        let limit = capacity.limit.clone();
        let (number, shutdown) = (fixed.workers, watch::Sender::new(now.shutdown));
        // One worker accepts by itself; several are handed what one acceptor a listener takes.
        let (own, shared) = if number == 1 { (listeners, Vec::new()) } else { (Vec::new(), listeners) };
        let mut own = Some(own);
        let workers: io::Result<Vec<_>> = (0..number)
            .map(|index| Worker::start(index, seed.clone(), own.take().unwrap_or_default(), limit.clone()))
            .collect();
        let workers = Arc::new(workers?);
        // It would keep what they began with.
        drop(seed);
        let mut acceptors = JoinSet::new();
        for bound in shared {
            let (door, limit, observer) = (Arc::clone(&bound.door), limit.clone(), observer.clone());
            let listener = bound.into_tokio()?;
            let acceptor = Acceptor { door: Arc::clone(&door), listener, limit, observer };
            let workers = Arc::clone(&workers);
            acceptors.spawn(acceptor.run(drain.hold(), move |socket, counted| {
                let living = workers.iter().filter(|worker| worker.lives());
                if let Some(worker) = living.min_by_key(|worker| worker.load()) {
                    worker.hand(socket, &door, counted);
                }
            }));
        }
        drop(beginning);

        let last_shutdown = shutdown.subscribe();
        let mut reloader = JoinSet::new();
        if let Some(reload) = reload {
            let parts = Reloader {
                fixed,
                now,
                workers: Arc::clone(&workers),
                admin: Arc::clone(&shown),
                files,
                observer: observer.clone(),
                capacity,
                shutdown,
                passwords: passwords_kept,
                service: Arc::clone(&service),
            };
            reloader.spawn(parts.run(reload, read));
        }

        let sentence = || sentence(&readiness, &shown);
        // What a manager is told is told beside the rest: one that does not listen holds up nothing, the end least of all.
        let kept = async {
            if let Err(error) = service.ready(sentence()).await {
                let text =
                    format!("the service manager cannot be told that bearerd is ready (`NOTIFY_SOCKET`): {error}");
                observer.tell(&Event::ConfigWarning { text: &text });
            }
            service.keep(sentence, readiness.ready()).await
        };
        let mut watchdog = JoinSet::new();
        watchdog.spawn({
            let (service, workers) = (Arc::clone(&service), Arc::clone(&workers));
            async move { service.watch(|| all_answer(Arc::clone(&workers))).await }
        });
        let told = announce(&readiness, &observer);
        let signal = tokio::select! {
            biased;
            signal = stopped(&mut stop) => signal,
            // Half of it would serve nobody well, and hide that.
            Ok(_) = fallen.wait_for(|fallen| *fallen) => "a worker's end",
            never = kept => match never {},
            never = told => match never {},
        };
        observer.tell(&Event::Draining { signal, connections: limit.open() });
        drain.enter(Phase::LameDuck);
        // Whoever is to end needs nothing new.
        reloader.shutdown().await;
        let shutdown = *last_shutdown.borrow();
        // Where nobody accepts any more there is nothing to wait for.
        let delay = if workers.iter().any(Worker::lives) { shutdown.delay } else { Duration::ZERO };
        let drained = async {
            let hurried = tokio::select! {
                _ = stopped(&mut stop) => true,
                () = tokio::time::sleep(delay) => false,
            };
            drain.enter(Phase::Draining);
            let patience = if hurried { Duration::ZERO } else { shutdown.timeout };
            tokio::select! {
                biased;
                () = drain.finished() => {}
                _ = stopped(&mut stop) => {}
                () = tokio::time::sleep(patience) => {}
            }
        };
        tokio::select! {
            biased;
            never = service.stopping(shutdown.delay.saturating_add(shutdown.timeout)) => match never {},
            () = drained => {}
        }
        // Traffic ends before the tokens that it carries, and the pages last.
        acceptors.shutdown().await;
        watchdog.shutdown().await;
        let ledgers: Vec<_> = workers.iter().map(Worker::ledger).collect();
        drop(workers);
        shown.shown.load().tokens.end();
        drop(keepers);
        observer.end_access_log().await;
        let sums = ledgers.iter().map(|ledger| ledger.sums());
        let (found, cut) =
            sums.fold(Default::default(), |sum: (UnderWay, UnderWay), one| (sum.0 + one.0, sum.1 + one.1));
        observer.tell(&Event::Stopped { found, cut });
        // Waited for, because a socket's file goes with whoever listens on it.
        shown_by.shutdown().await;
        if *fallen.borrow() {
            return Err(io::Error::other("a worker has ended by a bug, which the log tells"));
        }
        Ok(Ended { cut_off: cut.all() })
    }
}

fn listening(observer: &Observer, bound: &inbound::Bound) {
    let (name, address) = (&bound.door.name, &bound.address.to_string());
    observer.tell(&Event::Listening { name, address, tls: bound.door.has_tls(), inherited: bound.inherited });
}

fn place(bound: &inbound::Bound) -> Place {
    Place { name: Arc::clone(&bound.door.name), address: bound.address.to_string(), tls: bound.door.has_tls() }
}

/// How many connections there may be.
#[derive(Clone)]
pub(super) struct Capacity {
    /// Of apps.
    limit: ConnectionLimit,
    /// To upstreams.
    upstreams: Stock,
    /// To the admin pages; descriptors for them are there whatever the other two are.
    pages: usize,
}

impl Capacity {
    fn new(connections: usize, observer: &Observer) -> Self {
        let shares = share_out(connections, observer);
        let limit = ConnectionLimit::new(shares.apps, shares.refusals);
        Self { limit, upstreams: Stock::of(shares.upstreams), pages: shares.pages }
    }

    /// From now on `limits.connections` is this.
    pub(super) fn allow(&self, connections: usize, observer: &Observer) {
        let shares = share_out(connections, observer);
        self.limit.resize(shares.apps);
        self.upstreams.resize(shares.upstreams);
    }
}

fn share_out(connections: usize, observer: &Observer) -> Shares {
    let shares = descriptors::share_out(connections);
    // What is missing of so many in a usual container, whose hard limit is 20,000 or so, nobody will ever notice.
    if shares.apps < connections - connections / 10 {
        let (wanted, descriptors) = (connections, descriptors::for_connections(connections));
        observer.tell(&Event::FewDescriptors { connections: shares.apps, wanted, descriptors });
    }
    shares
}

/// Tells what listens, whenever it is asked. Of those who watch no connections are counted: they are not what is
/// limited.
fn listening_now(
    doors: Vec<Arc<Door>>,
    for_apps: &[inbound::Bound],
    limit: ConnectionLimit,
) -> Box<dyn Fn() -> Listening + Send + Sync> {
    let is_for_apps = |door: &Arc<Door>| for_apps.iter().any(|bound| Arc::ptr_eq(&bound.door, door));
    let doors: Vec<_> = doors.into_iter().map(|door| (is_for_apps(&door), door)).collect();
    Box::new(move || {
        let sample = |(is_for_apps, door): &(bool, Arc<Door>)| ListenerSample {
            listener: Arc::clone(&door.name),
            connections: is_for_apps.then(|| door.open_connections()),
            certificate_expiry: door.certificate_expiry(),
        };
        Listening { listeners: doors.iter().map(sample).collect(), connections_limit: Some(limit.most()) }
    })
}

/// Never ends.
async fn sample(history: &Observer) {
    loop {
        bug::at("history");
        tokio::time::sleep(history.sample(Now::read())).await;
    }
}

/// The next wish to end.
async fn stopped(stop: &mut mpsc::Receiver<&'static str>) -> &'static str {
    match stop.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

/// Whether every worker's loop turns.
async fn all_answer(workers: Arc<Vec<Worker>>) -> bool {
    for worker in &*workers {
        if !worker.answers().await {
            return false;
        }
    }
    true
}

/// How it is, for a service manager's one line.
fn sentence(readiness: &Readiness, shown: &Admin) -> String {
    const MOST: usize = 5;
    let some = |names: Vec<Arc<str>>| match names.len().saturating_sub(MOST) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST].join(", ")),
    };
    let pending = readiness.pending();
    if !pending.is_empty() {
        return format!("Waiting for {}", some(pending));
    }
    let expired = shown.shown.load().tokens.expired(Now::read());
    if !expired.is_empty() {
        return format!("Waiting for a new token, since the last has expired: {}", some(expired));
    }
    "Ready".to_owned()
}

/// Says once that it is ready, and then waits for ever.
async fn announce(readiness: &Readiness, observer: &Observer) -> std::convert::Infallible {
    readiness.ready().await;
    observer.tell(&Event::Ready);
    std::future::pending().await
}
