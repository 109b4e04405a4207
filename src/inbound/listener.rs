//! Binds and accepts: owns the connection limit, running out of descriptors, and the end.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

use super::door::Door;
use super::linger;
use super::settings::ListenAddress;
use super::stream::Socket;
use super::unix::{self, SocketFile};
use crate::life::{Drain, Stock, Taken};
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::observe::reason::Reason;

/// A bound address, accepting nothing yet. Dropped, a unix socket's file is removed.
#[derive(Debug)]
pub struct Bound {
    pub door: Arc<Door>,
    pub address: Address,
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
    Unix(StdUnixListener, SocketFile),
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
    /// Binds all addresses of one listener.
    ///
    /// # Errors
    /// An address is taken, or not this machine's. A machine without IPv6 is fine with `localhost`.
    pub fn all(addresses: &ListenAddress, door: &Arc<Door>, observer: &Observer) -> Result<Vec<Self>, BindError> {
        let by_tcp = |(address, socket)| Self {
            door: Arc::clone(door),
            address: Address::Tcp(address),
            socket: Bindings::Tcp(socket),
        };
        let failed = |address, error: io::Error| BindError { address: Address::Tcp(address), error: error.into() };
        let bind = |address| tcp(address).map_err(|error| failed(address, error));
        match addresses {
            ListenAddress::At(address) => Ok(vec![by_tcp(bind(*address)?)]),
            ListenAddress::Localhost(port) => {
                let first = bind((Ipv4Addr::LOCALHOST, *port).into())?;
                // Port 0 was a wish for any; both families get the one that came.
                let address = (Ipv6Addr::LOCALHOST, first.0.port()).into();
                match tcp(address) {
                    Ok(second) => Ok(vec![by_tcp(first), by_tcp(second)]),
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse || *port == 0 => {
                        observer.tell(&Event::ListenSkipped { address, error: &error.to_string() });
                        Ok(vec![by_tcp(first)])
                    }
                    Err(error) => Err(failed(address, error)),
                }
            }
            ListenAddress::Unix(settings) => {
                let address = Address::Unix(settings.path.clone());
                match unix::bind(settings) {
                    Ok((socket, file)) => {
                        Ok(vec![Self { door: Arc::clone(door), address, socket: Bindings::Unix(socket, file) }])
                    }
                    Err(error) => Err(BindError { address, error }),
                }
            }
        }
    }

    /// # Errors
    /// The socket cannot be handed to the current runtime.
    pub fn into_tokio(self) -> io::Result<Listener> {
        Ok(match self.socket {
            Bindings::Tcp(socket) => Listener(Accepts::Tcp(TcpListener::from_std(socket)?)),
            Bindings::Unix(socket, file) => {
                Listener(Accepts::Unix { socket: UnixListener::from_std(socket)?, _file: file })
            }
        })
    }
}

fn tcp(address: SocketAddr) -> io::Result<(SocketAddr, StdListener)> {
    let socket = StdListener::bind(address)?;
    // Once more, on a socket that listens: that is how its queue grows.
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((socket.local_addr()?, socket))
}

/// A bound address on a runtime. Dropped, a unix socket's file is removed.
#[derive(Debug)]
pub struct Listener(Accepts);

#[derive(Debug)]
enum Accepts {
    Tcp(TcpListener),
    Unix { socket: UnixListener, _file: SocketFile },
}

impl Listener {
    /// # Errors
    /// The app was gone before it was accepted, or the system gives no descriptor.
    pub async fn accept(&self) -> io::Result<Socket> {
        match &self.0 {
            Accepts::Tcp(socket) => Ok(Socket::Tcp(socket.accept().await?.0)),
            Accepts::Unix { socket, .. } => Ok(Socket::Unix(socket.accept().await?.0)),
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

impl Acceptor {
    /// Hands every accepted connection to `hand`, until the drain begins.
    pub async fn run(self, mut drain: Drain, hand: impl Fn(Socket, Taken)) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.draining() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok(socket) => match self.limit.take() {
                    Some(counted) => hand(socket, counted),
                    None => {
                        let asked = || self.door.asked(&socket);
                        self.observer.turned_away(Reason::Overloaded, &self.door.quiet, TOO_MANY, asked);
                        let status = (!self.door.has_tls()).then_some(503);
                        self.observer.leave_without(Reason::Overloaded, status, asked);
                        // Who finds no place for that either, or would have to shake hands first, learns it from the
                        // end of the connection.
                        if !self.door.has_tls()
                            && let Some(place) = self.limit.refusals.take()
                        {
                            tokio::spawn(refuse(socket, place));
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
}

const TOO_MANY: &str = "`limits.connections` are open, all listeners together; if apps need more, raise it, else look which \
                        of them leaves its connections open";

async fn refuse(mut stream: Socket, _place: Taken) {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    use super::super::ListenSettings;
    use crate::observe::log::{Format, Level, Log, LogSettings};
    use crate::tls::Protocols;

    #[tokio::test]
    async fn a_burst_of_connections_waits_to_be_accepted() {
        let log = Log::to(LogSettings { level: Level::Error, format: Format::Json }, |_| {});
        let addresses = ListenAddress::At((Ipv4Addr::LOCALHOST, 0).into());
        let settings = ListenSettings { name: "app".into(), addresses, allow_remote: false, tls: None };
        let door = Arc::new(Door::new(&settings, 0, Protocols::Either).unwrap());
        let bound = Bound::all(&settings.addresses, &door, &Observer::new(log)).unwrap();
        let Address::Tcp(address) = bound[0].address else { panic!("{:?}", bound[0].address) };
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
