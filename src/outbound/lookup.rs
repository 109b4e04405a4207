//! Looks names up beside the traffic, once at a time for each destination.
//!
//! getaddrinfo blocks a thread, cannot be cancelled, and may take half a minute when a name server is away. So each has
//! a thread of its own, whoever dials while a lookup is under way gets its answer, and one that hangs holds one thread
//! and up its own destination. Must never know who dials.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::watch;
use tower_service::Service;

use super::guard::{AddressGuard, Named};
use crate::bug;
use crate::life::{Stock, aside};
use crate::wire::fault::Fault;

/// What a lookup came to. An error may have many who want it, so it is only its kind.
type Found = Result<Vec<SocketAddr>, io::ErrorKind>;

/// What no lookup comes to by itself (EAGAIN of clone(2)).
const NO_THREAD: io::ErrorKind = io::ErrorKind::WouldBlock;

/// One destination's lookups.
#[derive(Debug)]
pub(super) struct Lookups {
    look_up: fn(&str) -> io::Result<Vec<SocketAddr>>,
    /// Where there may only be so many at a time, together with others'.
    stock: Option<Stock>,
    /// The latest; its answer comes when it is over.
    latest: Mutex<Option<watch::Receiver<Option<Found>>>>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self::by(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl Lookups {
    pub(super) fn by(look_up: fn(&str) -> io::Result<Vec<SocketAddr>>) -> Self {
        Self { look_up, stock: None, latest: Mutex::default() }
    }

    /// Each takes one of `stock` for as long as it holds a thread; without one the name has no address.
    pub(super) fn within(stock: Stock) -> Self {
        Self { stock: Some(stock), ..Self::default() }
    }

    /// The lookup that is under way, or else one that begins now. An answer is not kept: names move.
    fn join(&self, name: Name) -> watch::Receiver<Option<Found>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_under_way =
            |lookup: &&watch::Receiver<Option<Found>>| lookup.borrow().is_none() && lookup.has_changed().is_ok();
        if let Some(lookup) = latest.as_ref().filter(is_under_way) {
            return lookup.clone();
        }
        let (tell, told) = watch::channel(None);
        let look_up = self.look_up;
        let thread = self.stock.as_ref().map(Stock::take);
        if matches!(thread, Some(None)) {
            tell.send_replace(Some(Err(io::ErrorKind::ResourceBusy)));
            return told;
        }
        let answer = tell.clone();
        let begun = aside("lookup", move || {
            bug::at("lookup");
            answer.send_replace(Some(look_up(name.as_str()).map_err(|error| error.kind())));
            drop((answer, thread));
        });
        if begun.is_err() {
            tell.send_replace(Some(Err(NO_THREAD)));
        }
        *latest = Some(told.clone());
        told
    }
}

/// Looks one destination's name up, and leaves out the addresses that it must not lead to.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    pub(super) lookups: Arc<Lookups>,
    pub(super) guard: Arc<AddressGuard>,
    /// What will be dialled at the address.
    pub(super) port: u16,
    pub(super) named: Named,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let mut lookup = self.lookups.join(name);
        let (guard, port, named) = (Arc::clone(&self.guard), self.port, self.named);
        Box::pin(async move {
            // An error is a panic.
            let found = lookup.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
            let told =
                |kind: io::ErrorKind| if kind == NO_THREAD { io::Error::other(Fault::Overloaded) } else { kind.into() };
            let found = found.unwrap_or_else(|| Ok(Vec::new())).map_err(told)?;
            guard.admissible(found, port, named).map(Vec::into_iter).map_err(io::Error::other)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    static RELEASED: AtomicBool = AtomicBool::new(false);

    fn hang(_: &str) -> io::Result<Vec<SocketAddr>> {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        while !RELEASED.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(20) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Ok(vec![([127, 0, 0, 1], 0).into()])
    }

    fn resolver(look_up: fn(&str) -> io::Result<Vec<SocketAddr>>) -> Resolver {
        Resolver { lookups: Arc::new(Lookups::by(look_up)), guard: Arc::default(), port: 443, named: Named::ByUs }
    }

    fn name() -> Name {
        "api.example".parse().unwrap()
    }

    #[tokio::test]
    async fn one_that_hangs_holds_one_thread_and_nobody_else_up() {
        let mut hanging = resolver(hang);
        // More than the runtime has threads; some give up, as a dial does.
        let mut waiting: Vec<_> = (0..1_000).map(|_| hanging.clone().call(name())).collect();
        waiting.truncate(500);
        let mut well = resolver(|_| Ok(vec![([127, 0, 0, 2], 0).into()]));
        let found = tokio::time::timeout(Duration::from_secs(10), well.call(name())).await.expect("another's answer");
        assert_eq!(found.unwrap().collect::<Vec<_>>(), [([127, 0, 0, 2], 0).into()]);
        RELEASED.store(true, Ordering::SeqCst);
        for one in waiting {
            assert_eq!(one.await.unwrap().len(), 1);
        }
        assert_eq!(BEGUN.load(Ordering::SeqCst), 1);
        assert_eq!(hanging.call(name()).await.unwrap().len(), 1);
        assert_eq!(BEGUN.load(Ordering::SeqCst), 2, "what is over is not asked again for the old answer");
    }

    #[tokio::test]
    async fn there_are_only_so_many_at_a_time_where_an_app_chooses_the_name() {
        let stock = Stock::of(1);
        let mut lookup = resolver(|_| Ok(Vec::new()));
        lookup.lookups =
            Arc::new(Lookups { stock: Some(stock.clone()), ..Lookups::by(|_| Ok(vec![([127, 0, 0, 2], 0).into()])) });
        let taken = stock.take();
        assert_eq!(lookup.call(name()).await.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(taken);
        assert_eq!(lookup.call(name()).await.unwrap().len(), 1);
        // It holds its thread until it is over, and no longer.
        while stock.taken() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn addresses_that_no_upstream_has_are_left_out() {
        let mut mixed = resolver(|_| Ok(vec![([169, 254, 169, 254], 0).into(), ([127, 0, 0, 2], 0).into()]));
        assert_eq!(mixed.call(name()).await.unwrap().collect::<Vec<_>>(), [([127, 0, 0, 2], 0).into()]);
        let mut bad = resolver(|_| Ok(vec![([169, 254, 169, 254], 0).into()]));
        assert_eq!(Fault::of(&bad.call(name()).await.unwrap_err()), Fault::Prohibited);
        let mut own = resolver(|_| Ok(vec![([127, 0, 0, 1], 0).into(), ([169, 254, 0, 1], 0).into()]));
        own.guard = Arc::new(AddressGuard::new(vec![([127, 0, 0, 1], 443).into()], Vec::new()));
        assert_eq!(Fault::of(&own.call(name()).await.unwrap_err()), Fault::Loop);
        let mut stray = resolver(|_| Ok(vec![([192, 0, 2, 1], 0).into()]));
        assert!(stray.call(name()).await.is_ok());
        stray.named = Named::ThisMachine;
        assert_eq!(Fault::of(&stray.call(name()).await.unwrap_err()), Fault::Prohibited, "no name of this machine's");
        own.port = 444;
        assert!(own.call(name()).await.is_ok(), "another port is another program");
        own.named = Named::ByApp;
        assert_eq!(Fault::of(&own.call(name()).await.unwrap_err()), Fault::Prohibited, "it is not the app's");
        let mut lookup =
            resolver(|_| Ok(vec![([127, 0, 0, 2], 0).into(), "[::1]:0".parse().unwrap(), ([192, 0, 2, 1], 0).into()]));
        lookup.named = Named::ByApp;
        assert_eq!(lookup.call(name()).await.unwrap().collect::<Vec<_>>(), [([192, 0, 2, 1], 0).into()]);
    }

    #[tokio::test]
    async fn one_that_fails_fails_for_all_and_the_next_is_another() {
        static TRIES: AtomicUsize = AtomicUsize::new(0);
        let mut failing = resolver(|_| match TRIES.fetch_add(1, Ordering::SeqCst) {
            0 => Err(io::ErrorKind::NotFound.into()),
            1 => panic!("a test's own"),
            _ => Ok(Vec::new()),
        });
        assert_eq!(failing.call(name()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(failing.call(name()).await.is_err(), "a panic is no answer");
        assert!(failing.call(name()).await.is_ok());
    }
}
