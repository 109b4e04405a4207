//! Binds and accepts: owns the connection limit, running out of descriptors, and the end.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::door::Door;
use super::inherited::Inherited;
use super::linger;
use super::settings::ListenAddress;
use super::stream::Socket;
use super::unix::{self, SocketFile};
use crate::bug;
use crate::life::{Drain, Stock, Taken, contained};
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::observe::reason::Reason;

/// A bound address, accepting nothing yet. Dropped, the file of a unix socket of ours is removed.
#[derive(Debug)]
pub struct Bound {
    pub door: Arc<Door>,
    pub address: Address,
    /// Bound by whoever started this process, and theirs.
    pub inherited: bool,
    socket: Bindings,
}

/// Where somebody can connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug)]
enum Bindings {
    Tcp(StdListener),
    /// There is no file if it is another's to remove.
    Unix(StdUnixListener, Option<SocketFile>),
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    pub address: Address,
    /// Part of the message already, so not its source.
    pub error: BindFault,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum BindFault {
    #[error("another program listens there")]
    Taken,
    #[error("what is there is not a socket")]
    Occupied,
    #[error("no user is called `{0}`")]
    NoUser(String),
    #[error("no group is called `{0}`")]
    NoGroup(String),
    #[error("the socket cannot be given to its `owner` and `group`: {0}")]
    NotGiven(io::Error),
    #[error(
        "the inherited socket's file belongs to {uid}:{gid} and has the mode {mode:04o}, which the listener does not say"
    )]
    GivenOtherwise { uid: u32, gid: u32, mode: u32 },
    #[error(transparent)]
    System(#[from] io::Error),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Bound {
    /// Binds all addresses of one listener, those apart where a socket was inherited.
    ///
    /// # Errors
    /// An address is taken, or not this machine's. A machine without IPv6 is fine with `localhost`.
    pub fn all(
        addresses: &ListenAddress,
        door: &Arc<Door>,
        inherited: &mut Inherited,
        observer: &Observer,
    ) -> Result<Vec<Self>, BindError> {
        let mut bind = |address| {
            let given = inherited.tcp(address);
            let is_given = given.is_some();
            let (address, socket) = given.map_or_else(|| tcp(address), |socket| Ok((address, socket)))?;
            let door = Arc::clone(door);
            let bound =
                Self { door, address: Address::Tcp(address), inherited: is_given, socket: Bindings::Tcp(socket) };
            Ok((address, bound))
        };
        let failed = |address, error: io::Error| BindError { address: Address::Tcp(address), error: error.into() };
        match addresses {
            ListenAddress::At(address) => match bind(*address) {
                Ok((_, bound)) => Ok(vec![bound]),
                Err(error) => Err(failed(*address, error)),
            },
            ListenAddress::Localhost(port) => {
                let address = (Ipv4Addr::LOCALHOST, *port).into();
                let (address, first) = bind(address).map_err(|error| failed(address, error))?;
                // Port 0 was a wish for any; both families get the one that came.
                let address = (Ipv6Addr::LOCALHOST, address.port()).into();
                match bind(address) {
                    Ok((_, second)) => Ok(vec![first, second]),
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse || *port == 0 => {
                        observer.tell(&Event::ListenSkipped { address, error: &error.to_string() });
                        Ok(vec![first])
                    }
                    Err(error) => Err(failed(address, error)),
                }
            }
            ListenAddress::Unix(settings) => {
                let address = Address::Unix(settings.path.clone());
                let (inherited, bound) = match inherited.unix(&settings.path) {
                    Some(socket) => (true, unix::fits(settings).map(|()| (socket, None))),
                    None => (false, unix::bind(settings).map(|(socket, file)| (socket, Some(file)))),
                };
                match bound {
                    Ok((socket, file)) => {
                        let socket = Bindings::Unix(socket, file);
                        Ok(vec![Self { door: Arc::clone(door), address, inherited, socket }])
                    }
                    Err(error) => Err(BindError { address, error }),
                }
            }
        }
    }

    /// # Errors
    /// The socket cannot be handed to the current runtime.
    pub fn into_tokio(self) -> io::Result<Listener> {
        let accepts = match self.socket {
            Bindings::Tcp(socket) => Accepts::Tcp(TcpListener::from_std(socket)?),
            Bindings::Unix(socket, file) => Accepts::Unix { socket: UnixListener::from_std(socket)?, _file: file },
        };
        Ok(Listener { accepts, inherited: self.inherited })
    }
}

fn tcp(address: SocketAddr) -> io::Result<(SocketAddr, StdListener)> {
    let socket = StdListener::bind(address)?;
    // Once more, on a socket that listens: that is how its queue grows.
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((socket.local_addr()?, socket))
}

/// A bound address on a runtime. Dropped, the file of a unix socket of ours is removed.
#[derive(Debug)]
pub struct Listener {
    accepts: Accepts,
    inherited: bool,
}

#[derive(Debug)]
enum Accepts {
    Tcp(TcpListener),
    Unix { socket: UnixListener, _file: Option<SocketFile> },
}

impl Listener {
    /// # Errors
    /// The app was gone before it was accepted, or the system gives no descriptor.
    pub async fn accept(&self) -> io::Result<Socket> {
        match &self.accepts {
            Accepts::Tcp(socket) => Ok(Socket::Tcp(socket.accept().await?.0)),
            Accepts::Unix { socket, .. } => Ok(Socket::Unix(socket.accept().await?.0)),
        }
    }
}

/// Nobody new gets in any more; whoever was in before can still be accepted. Dropped, the file of a unix socket of ours is
/// removed.
struct Closing(Bindings);

impl Listener {
    /// Turns away whoever comes from now on. Closing the socket alone would do that too, and would reset whoever is in its
    /// queue, with requests that they may have sent already.
    ///
    /// `None` if it was inherited: it is open elsewhere, too, and what is in its queue is for whoever gets it next. What
    /// would be done to it here would be done to theirs.
    fn close(self) -> io::Result<Option<Closing>> {
        if self.inherited {
            return Ok(None);
        }
        Ok(Some(Closing(match self.accepts {
            Accepts::Tcp(socket) => {
                let socket = socket.into_std()?;
                turn_away(&socket);
                Bindings::Tcp(socket)
            }
            Accepts::Unix { socket, _file } => {
                let socket = socket.into_std()?;
                // A connect is in the queue or refused from here on, and nothing in between (Linux); elsewhere it stays
                // possible, and what comes behind the last look is lost.
                let _ = rustix::net::shutdown(&socket, Shutdown::Read);
                Bindings::Unix(socket, _file)
            }
        })))
    }
}

/// Has the system drop what asks for a new connection (SYN without ACK) before it gets to the socket, while handshakes that
/// have begun come to their end. Whoever asks now asks again after a second, and is refused. Best effort: without it a
/// connection that comes between the last look and the end of the socket is lost.
#[cfg(target_os = "linux")]
fn turn_away(socket: &StdListener) {
    use socket2::SockFilter;
    // Classic BPF, whose values linux/filter.h builds from: LD|B|ABS, ALU|AND|K, JMP|JEQ|K, RET|K. The flags are the byte
    // 13 of a TCP header (RFC 9293, 3.1), with which a packet begins here.
    const FLAGS: SockFilter = SockFilter::new(0x30, 0, 0, 13);
    const SYN_AND_ACK: SockFilter = SockFilter::new(0x54, 0, 0, 0x12);
    const DROP_IF_SYN: SockFilter = SockFilter::new(0x15, 0, 1, 0x02);
    const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    const TAKE: SockFilter = SockFilter::new(0x06, 0, 0, u32::MAX);
    let _ = socket2::SockRef::from(socket).attach_filter(&[FLAGS, SYN_AND_ACK, DROP_IF_SYN, DROP, TAKE]);
}

#[cfg(not(target_os = "linux"))]
fn turn_away(_socket: &StdListener) {}

impl Closing {
    /// The next one who waits, if somebody does.
    ///
    /// # Errors
    /// As of [`Listener::accept`].
    fn accept(&self) -> io::Result<Option<Socket>> {
        let accepted = match &self.0 {
            Bindings::Tcp(socket) => socket.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream).map(Socket::Tcp)
            }),
            Bindings::Unix(socket, _) => socket.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Socket::Unix)
            }),
        };
        match accepted {
            Ok(socket) => Ok(Some(socket)),
            // The latter is what a unix socket says that was shut down, once its queue is empty.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// How many connections apps may have open, all listeners together.
#[derive(Clone, Debug)]
pub struct ConnectionLimit {
    places: Stock,
    /// For those that are too many and are told so: that takes descriptors as well.
    refusals: Stock,
}

impl ConnectionLimit {
    /// `refusals` is how many may be told at a time that they are too many.
    pub fn new(most: usize, refusals: usize) -> Self {
        Self { places: Stock::of(most), refusals: Stock::of(refusals) }
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.places.taken()
    }

    /// From now on so many may be; those that are too many are left open.
    pub fn resize(&self, most: usize) {
        self.places.resize(most);
    }

    /// How many may be open.
    pub fn most(&self) -> usize {
        self.places.most()
    }

    pub(super) fn take(&self) -> Option<Taken> {
        self.places.take()
    }
}

/// Connections that wait to be accepted; the system may allow fewer. The 128 that std asks for are less than an app's
/// pool may open at once, and one that finds no place tries again after a second.
pub(super) const BACKLOG: i32 = 1024;

/// Accepts on one address.
pub struct Acceptor {
    pub door: Arc<Door>,
    pub listener: Listener,
    pub limit: ConnectionLimit,
    pub observer: Observer,
}

/// When descriptors run out, accepting again at once would spin; a tenth of a second gives others time to close some.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the answer to a connection too many may take: it fits into any socket's buffer.
const REFUSAL: Duration = Duration::from_secs(1);

/// How long a handshake that has begun may take when the drain begins: longer than a round trip within a data centre, and
/// than a busy machine leaves a packet lying.
const LAST_HANDSHAKES: Duration = Duration::from_millis(20);

impl Acceptor {
    /// Hands every accepted connection to `hand`: all that there are until the drain begins, and not one that was let in
    /// before is left behind, unless another comes after us who finds it.
    pub async fn run(self, mut drain: Drain, hand: impl Fn(Socket, Taken)) {
        let Self { door, listener, limit, observer } = self;
        let arrival = Arrivals { door, limit, observer, drain: drain.clone() };
        loop {
            let turn = async {
                let accepted = tokio::select! {
                    biased;
                    () = drain.draining() => return true,
                    accepted = listener.accept() => accepted,
                };
                arrival.take(accepted, &hand).await;
                false
            };
            match contained(pin!(turn)).await {
                Some(true) => break,
                Some(false) => {}
                // Nobody would take its place.
                None => {
                    arrival.observer.tell(&Event::TaskPanicked { task: "an acceptor" });
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let closing = match listener.close() {
            Ok(Some(closing)) => closing,
            Ok(None) => return,
            Err(error) => return arrival.take(Err(error), &hand).await,
        };
        arrival.take_all(&closing, &hand).await;
        tokio::time::sleep(LAST_HANDSHAKES).await;
        arrival.take_all(&closing, &hand).await;
    }
}

/// What becomes of whoever arrives.
struct Arrivals {
    door: Arc<Door>,
    limit: ConnectionLimit,
    observer: Observer,
    drain: Drain,
}

impl Arrivals {
    async fn take_all(&self, closing: &Closing, hand: &impl Fn(Socket, Taken)) {
        while let Some(accepted) = closing.accept().transpose() {
            // Whoever stands behind one that meets a bug has been let in as well.
            if contained(pin!(self.take(accepted, hand))).await.is_none() {
                self.observer.tell(&Event::TaskPanicked { task: "an acceptor" });
            }
        }
    }

    async fn take(&self, accepted: io::Result<Socket>, hand: &impl Fn(Socket, Taken)) {
        bug::at("acceptor");
        match accepted {
            Ok(socket) => match self.limit.take() {
                Some(counted) => hand(socket, counted),
                None => {
                    let asked = || self.door.asked(&socket);
                    self.observer.turned_away(Reason::Overloaded, &self.door.quiet, TOO_MANY, asked);
                    let status = (!self.door.has_tls()).then_some(503);
                    self.observer.leave_without(Reason::Overloaded, status, asked);
                    // Who finds no place for that either, or would have to shake hands first, learns it from the end of
                    // the connection.
                    if !self.door.has_tls()
                        && let Some(place) = self.limit.refusals.take()
                    {
                        tokio::spawn(refuse(socket, place, self.drain.clone()));
                    }
                }
            },
            // The app was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                self.door.not_accepted(&error, &self.observer);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How many that is, `bearerd_connections_limit` says.
const TOO_MANY: &str = "`limits.connections` are open, all listeners together, or as many as descriptors allow (`ulimit -Hn`); \
                        if apps need more, raise it, else look which of them leaves its connections open";

async fn refuse(mut stream: Socket, _place: Taken, _drain: Drain) {
    const BODY: &str = concat!(
        r#"{"type":"urn:bearerd:problem:overloaded","title":"Too many connections","status":503,"#,
        r#""detail":"`limits.connections` are open","reason":"overloaded"}"#,
    );
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         proxy-status: bearerd; error=connection_limit_reached\r\nretry-after: 1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    // Whether it arrives is up to the app.
    let _ = tokio::time::timeout(REFUSAL, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Its request is unread, and the answer must not be lost to a reset.
        tokio::io::copy(&mut stream.take(linger::MOST as u64), &mut tokio::io::sink()).await
    })
    .await;
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    use super::super::{ListenSettings, UnixSocket};
    use crate::life::{DrainSignal, Phase};
    use crate::observe::log::{Format, Level, Log, LogSettings};
    use crate::tls::Protocols;

    fn observer() -> Observer {
        Observer::new(Log::to(LogSettings { level: Level::Error, format: Format::Json }, |_| {}))
    }

    /// Bound for nobody but a test.
    fn bound(addresses: ListenAddress) -> Bound {
        let settings = ListenSettings { name: "app".into(), addresses, allow_remote: false, tls: None };
        let door = Arc::new(Door::new(&settings, 0, Protocols::Either).unwrap());
        Bound::all(&settings.addresses, &door, &mut Inherited::default(), &observer()).unwrap().remove(0)
    }

    fn on_loopback() -> (Bound, SocketAddr) {
        let bound = bound(ListenAddress::At((Ipv4Addr::LOCALHOST, 0).into()));
        let Address::Tcp(address) = bound.address else { panic!("{:?}", bound.address) };
        (bound, address)
    }

    fn on_a_file() -> (Bound, PathBuf) {
        let path = std::env::temp_dir().join(format!("bearerd-queue-{}-{}", std::process::id(), fastrand::u64(..)));
        let settings = UnixSocket { path: path.clone(), mode: UnixSocket::PRIVATE, owner: None, group: None };
        (bound(ListenAddress::Unix(settings)), path)
    }

    /// How many are accepted once the drain has begun.
    async fn accepted_at_the_end(bound: Bound, most: usize) -> usize {
        let signal = DrainSignal::default();
        let drain = signal.hold();
        signal.enter(Phase::Draining);
        let (door, observer) = (Arc::clone(&bound.door), observer());
        let (limit, accepted) = (ConnectionLimit::new(most, 10), std::cell::RefCell::new(Vec::new()));
        let acceptor = Acceptor { door, listener: bound.into_tokio().unwrap(), limit, observer };
        acceptor.run(drain, |socket, counted| accepted.borrow_mut().push((socket, counted))).await;
        accepted.into_inner().len()
    }

    #[tokio::test]
    async fn whoever_is_in_the_queue_when_the_drain_begins_is_accepted() {
        let (bound, address) = on_loopback();
        let mut queue = Vec::new();
        for _ in 0..50 {
            queue.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(accepted_at_the_end(bound, 100).await, 50);
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);

        let (bound, path) = on_a_file();
        let mut queue = Vec::new();
        for _ in 0..50 {
            queue.push(UnixStream::connect(&path).await.unwrap());
        }
        assert_eq!(accepted_at_the_end(bound, 100).await, 50);
        assert_eq!(UnixStream::connect(&path).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn nobody_gets_into_the_queue_of_a_socket_that_is_closing() {
        let (bound, address) = on_loopback();
        let before = TcpStream::connect(address).await.unwrap();
        let closing = bound.into_tokio().unwrap().close().unwrap().unwrap();
        // Neither let in nor refused: it asks again in a second.
        let patience = Duration::from_millis(200);
        assert!(tokio::time::timeout(patience, TcpStream::connect(address)).await.is_err());
        assert!(closing.accept().unwrap().is_some() && closing.accept().unwrap().is_none());
        // Who was in before does not notice.
        let mut late = before;
        late.write_all(b"x").await.unwrap();
        drop(closing);
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);

        let (bound, path) = on_a_file();
        let _before = UnixStream::connect(&path).await.unwrap();
        let closing = bound.into_tokio().unwrap().close().unwrap().unwrap();
        assert_eq!(UnixStream::connect(&path).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(closing.accept().unwrap().is_some() && closing.accept().unwrap().is_none());
        drop(closing);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn whoever_is_in_the_queue_of_an_inherited_socket_is_left_to_the_next() {
        let (Bound { door, address, socket, .. }, at) = on_loopback();
        let Bindings::Tcp(socket) = socket else { panic!("{address}") };
        let theirs = socket.try_clone().unwrap();
        let _before = TcpStream::connect(at).await.unwrap();
        let bound = Bound { door, address, inherited: true, socket: Bindings::Tcp(socket) };
        assert_eq!(accepted_at_the_end(bound, 100).await, 0);
        // And nothing keeps others from getting in.
        let _behind = TcpStream::connect(at).await.unwrap();
        assert!(theirs.accept().is_ok() && theirs.accept().is_ok());

        let (Bound { door, address, socket, .. }, path) = on_a_file();
        let Bindings::Unix(socket, Some(file)) = socket else { panic!("{address}") };
        let theirs = socket.try_clone().unwrap();
        let _before = UnixStream::connect(&path).await.unwrap();
        let bound = Bound { door, address, inherited: true, socket: Bindings::Unix(socket, None) };
        assert_eq!(accepted_at_the_end(bound, 100).await, 0);
        let _behind = UnixStream::connect(&path).await.unwrap();
        assert!(theirs.accept().is_ok() && theirs.accept().is_ok());
        drop(file);
    }

    #[tokio::test]
    async fn a_burst_of_connections_waits_to_be_accepted() {
        let (_bound, address) = on_loopback();
        let connecting = async {
            let mut burst = Vec::new();
            for _ in 0..500 {
                burst.push(TcpStream::connect(address).await.unwrap());
            }
        };
        // Nobody accepts: what has no place in the queue tries for minutes.
        tokio::time::timeout(Duration::from_secs(10), connecting).await.expect("a place for each");
    }
}
