//! One single-threaded world that carries traffic: its own runtime, its own pools. What it shares with others are
//! metrics and the log, which lock for a moment, and names that are looked up.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{self, Encrypted};
use super::current::Current;
use super::door::Door;
use super::listener::{Acceptor, Bound, ConnectionLimit};
use super::settings::Limits;
use super::stream::{Parked, Socket};
use super::watched::{Activity, FAREWELL};
use crate::bug;
use crate::ca::Ca;
use crate::clock::Now;
use crate::forward::Forward;
use crate::life::{Drain, DrainSignal, Ledger, RESTART, Stock, Taken, contained, thread};
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::outbound::{Destinations, Outbound, SWEEP};
use crate::rules::Routes;
use crate::wire::via::Via;

/// Twice this is what a heap keeps of freed memory at its end: some pieces of bodies on their way, and their frames.
const KEPT: usize = 1024 * 1024;

/// Has glibc keep freed memory that is about to be used again. It gives the end of a heap back as soon as 128 KiB of it
/// are free, and with bodies over HTTP/2 has each piece faulted in anew. It raises that bound to twice the largest block
/// that it mapped by itself and was freed (mallopt(3), M_TRIM_THRESHOLD): here that is one that nobody ever touched. Other
/// systems take it for what it is, nothing.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT)));
}

/// What every worker needs to begin.
#[derive(Clone)]
pub struct Seed {
    pub live: Arc<Live>,
    pub observer: Observer,
    pub via: Arc<Via>,
    /// Of connections to upstreams.
    pub upstreams: Stock,
    pub drain: DrainSignal,
    /// Told of a worker that has ended by a bug.
    pub fell: watch::Sender<bool>,
}

/// What a worker serves by, and what a reload exchanges.
#[derive(Clone)]
pub struct Live {
    pub routes: Arc<Routes>,
    pub destinations: Arc<Destinations>,
    pub limits: Limits,
    /// Whether a trace is begun where a request belongs to none.
    pub tracing: bool,
    /// There is one if a route intercepts.
    pub ca: Option<Arc<Ca>>,
}

/// A running worker, seen from the control plane.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    load: Arc<AtomicUsize>,
    drain: DrainSignal,
    ledger: Arc<Ledger>,
    /// Dropped, it ends the worker.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker is told.
enum Order {
    Carry(Handed),
    /// Serve by this from now on, and say so by dropping the other.
    Exchange(Arc<Live>, oneshot::Sender<()>),
    /// Say that its loop turns.
    Answer(oneshot::Sender<()>),
}

/// A connection on its way to a worker.
#[derive(Debug)]
struct Handed {
    socket: Parked,
    door: Arc<Door>,
    counted: Taken,
    weight: Weight,
    /// It is something to finish before anybody has looked at it.
    drain: Drain,
}

/// Counts towards a worker's load while it lives.
#[derive(Debug)]
struct Weight(Arc<AtomicUsize>);

impl Weight {
    fn on(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// Starts a worker on a thread of its own; it accepts on `own` by itself.
    ///
    /// # Errors
    /// The system gives no thread or no runtime.
    pub fn start(index: usize, seed: Seed, own: Vec<Bound>, limit: ConnectionLimit) -> io::Result<Self> {
        keep_freed_memory();
        let (orders, told) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        // The runtime may not leave its thread, so the thread says whether there is one.
        let (tell, begun) = std::sync::mpsc::sync_channel(1);
        let drain = seed.drain.clone();
        let ledger = Arc::new(Ledger::default());
        let (book, fallen) = (Arc::clone(&ledger), Arc::clone(&ledger));
        let (fell, observer) = (seed.fell.clone(), seed.observer.clone());
        let thread = thread(&format!("worker-{index}"), move || {
            match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => {
                    let _ = tell.send(Ok(()));
                    let life = || runtime.block_on(live(seed, own, limit, told, stopped, book));
                    if catch_unwind(AssertUnwindSafe(life)).is_err() {
                        // What it carries is cut off with the runtime.
                        fallen.begin_to_cut();
                        observer.tell(&Event::WorkerFell { worker: index });
                        fell.send_replace(true);
                    }
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        })?;
        begun.recv().map_err(io::Error::other)??;
        Ok(Self { orders, load: Arc::default(), drain, ledger, stop: Some(stop), thread: Some(thread) })
    }

    /// What the drain found under way on it; how much of that was cut off can be read when it has ended.
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Whether it takes connections: one that has ended by a bug does not.
    pub fn lives(&self) -> bool {
        !self.orders.is_closed()
    }

    /// How many connections it carries that were handed to it.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Hands a connection over.
    pub fn hand(&self, socket: Socket, door: &Arc<Door>, counted: Taken) {
        // A socket that cannot be moved is one that its app has left.
        if let Ok(socket) = socket.park() {
            let door = Arc::clone(door);
            let weight = Weight::on(&self.load);
            // A worker that has ended lets it go with the connection.
            let drain = self.drain.hold();
            let _ = self.orders.send(Order::Carry(Handed { socket, door, counted, weight, drain }));
        }
    }

    /// Waits until it answers, which takes as long as whatever keeps its loop from turning. `false` is that it has ended.
    pub async fn answers(&self) -> bool {
        let (answer, told) = oneshot::channel();
        self.orders.send(Order::Answer(answer)).is_ok() && told.await.is_ok()
    }

    /// Has it serve by another plan, and waits until it does: from then on every request that begins gets that.
    pub async fn exchange(&self, live: &Arc<Live>) {
        let (done, told) = oneshot::channel();
        // One that has ended serves nobody.
        if self.orders.send(Order::Exchange(Arc::clone(live), done)).is_ok() {
            let _ = told.await;
        }
    }
}

impl Drop for Worker {
    /// Ends it, with whatever is still open on it.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A worker's panic has been contained, or told.
            let _ = thread.join();
        }
    }
}

/// What a worker's connections share.
struct World {
    current: Rc<Current>,
    drain: DrainSignal,
    ledger: Arc<Ledger>,
    observer: Observer,
}

impl World {
    fn follow(self: &Rc<Self>, order: Order) {
        bug::at("order");
        match order {
            Order::Carry(Handed { socket, door, counted, weight, drain }) => {
                if let Ok(socket) = socket.resume() {
                    self.carry(socket, &door, drain, (counted, weight));
                }
            }
            Order::Exchange(live, done) => {
                self.current.exchange(&live);
                drop((live, done));
            }
            // Who asked may have ended.
            Order::Answer(answer) => _ = answer.send(()),
        }
    }

    /// `drain` is held from before the connection's task first runs: the end must not come in between.
    fn carry(self: &Rc<Self>, socket: Socket, door: &Arc<Door>, drain: Drain, held: impl Sized + 'static) {
        let (world, door, activity) = (Rc::clone(self), Arc::clone(door), Activity::new(&self.ledger));
        let visit = door.visit();
        tokio::task::spawn_local(async move {
            let World { current, observer, .. } = &*world;
            let serving = async {
                let terms = Rc::clone(&current.get().terms);
                let patience = terms.limits.first_byte();
                let (mut activity, mut drain) = (activity, drain);
                let mut opened = in_time(&mut drain, door.open(socket, patience, observer)).await;
                while let Some((stream, arrival)) = opened.take() {
                    let serving = connection::serve(stream, arrival, activity, current, &terms, observer, &mut drain);
                    let Some(Encrypted { bare, intercepted, arrival }) = serving.await else { break };
                    // The one of the routes that decided about the CONNECT, or of later ones.
                    let Some(ca) = current.get().ca.clone() else { break };
                    // Boxed for those who never come here.
                    let decrypted = Box::pin(bare.decrypt(intercepted, &arrival, &ca, patience, &door, observer));
                    opened = in_time(&mut drain, decrypted).await;
                    activity = Activity::new(&world.ledger);
                }
            };
            if contained(pin!(serving)).await.is_none() {
                observer.tell(&Event::TaskPanicked { task: "an app's connection" });
            }
            drop((visit, held));
        });
    }
}

/// Never ends.
async fn tend(current: &Current) {
    loop {
        bug::at("tend");
        current.get().forward.outbound.tend();
        tokio::time::sleep(SWEEP).await;
    }
}

/// A handshake, unless the drain begins and it takes longer than a connection may then that says nothing.
async fn in_time<T>(drain: &mut Drain, handshake: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::select! {
        biased;
        opened = handshake => opened,
        () = drain.draining_for(FAREWELL) => None,
    }
}

async fn live(
    seed: Seed,
    own: Vec<Bound>,
    limit: ConnectionLimit,
    mut orders: mpsc::UnboundedReceiver<Order>,
    stopped: oneshot::Receiver<()>,
    ledger: Arc<Ledger>,
) {
    bug::at("worker");
    let Seed { live, observer, via, upstreams, drain, .. } = seed;
    let Live { routes, destinations, tracing, .. } = Live::clone(&live);
    let outbound = Outbound::new(&routes, destinations, upstreams);
    let forward = Forward {
        routes,
        outbound,
        observer: observer.clone(),
        via,
        tracing,
        clock: Now::read,
        ledger: Arc::clone(&ledger),
    };
    let current = Rc::new(Current::new(&live, forward));
    drop(live);
    let world = Rc::new(World { current: Rc::clone(&current), drain, ledger, observer: observer.clone() });
    let told = observer.clone();
    tokio::task::spawn_local(async move {
        while contained(pin!(tend(&current))).await.is_none() {
            told.tell(&Event::TaskPanicked { task: "who tends a worker's connections" });
            tokio::time::sleep(RESTART).await;
        }
    });
    for bound in own {
        let door = Arc::clone(&bound.door);
        match bound.into_tokio() {
            Ok(listener) => {
                let (limit, observer) = (limit.clone(), observer.clone());
                let acceptor = Acceptor { door: Arc::clone(&door), listener, limit, observer };
                let (world, drain) = (Rc::clone(&world), world.drain.hold());
                tokio::task::spawn_local(acceptor.run(drain, move |socket, counted| {
                    world.carry(socket, &door, world.drain.hold(), counted);
                }));
            }
            Err(error) => door.not_accepted(&error, &observer),
        }
    }
    let take = async {
        while let Some(order) = orders.recv().await {
            if matches!(order, Order::Exchange(..)) {
                // By which plan it serves after a panic in there nobody knows: it falls.
                world.follow(order);
                continue;
            }
            // What else it carries need not end with it.
            if contained(pin!(async { world.follow(order) })).await.is_none() {
                observer.tell(&Event::TaskPanicked { task: "a worker's loop" });
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = take => {}
        // An error is the drop that ends it.
        _ = stopped => {}
    }
    bug::at("farewell");
    world.ledger.begin_to_cut();
}

#[cfg(test)]
mod tests {
    use super::super::settings::{ListenAddress, ListenSettings};
    use super::*;
    use crate::tls::Protocols;

    #[tokio::test]
    async fn a_connection_is_something_to_finish_from_when_it_is_handed_over() {
        let (orders, mut handed) = mpsc::unbounded_channel();
        let drain = DrainSignal::default();
        let worker = Worker {
            orders,
            load: Arc::default(),
            drain: drain.clone(),
            ledger: Arc::default(),
            stop: None,
            thread: None,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = Socket::Tcp(tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let settings =
            ListenSettings { name: "x".into(), addresses: ListenAddress::Localhost(0), allow_remote: false, tls: None };
        worker.hand(
            socket,
            &Arc::new(Door::new(&settings, 0, Protocols::Either).unwrap()),
            ConnectionLimit::new(1, 1).take().unwrap(),
        );
        assert_eq!((drain.unfinished(), worker.load()), (1, 1));
        drop(handed.recv().await);
        assert_eq!((drain.unfinished(), worker.load()), (0, 0));
    }

    #[tokio::test]
    async fn one_that_has_ended_answers_no_more() {
        let (orders, told) = mpsc::unbounded_channel();
        let worker = Worker {
            orders,
            load: Arc::default(),
            drain: DrainSignal::default(),
            ledger: Arc::default(),
            stop: None,
            thread: None,
        };
        let (answers, ()) = tokio::join!(worker.answers(), async { drop(told) });
        assert!(!answers && !worker.answers().await);
    }
}
