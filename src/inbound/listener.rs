//! Binds and accepts: owns the connection limit, running out of descriptors, and the end.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::linger;
use super::settings::{ListenAddress, ListenSettings};
use crate::life::{Drain, Stock, Taken};
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::observe::reason::Reason;

/// A bound address, accepting nothing yet.
#[derive(Debug)]
pub struct Bound {
    pub name: Arc<str>,
    /// The place of its listener in the configuration.
    pub listener: usize,
    pub address: SocketAddr,
    socket: StdListener,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    pub address: SocketAddr,
    /// Part of the message already, so not its source.
    pub error: io::Error,
}

impl Bound {
    /// Binds all addresses of one listener.
    ///
    /// # Errors
    /// An address is taken, or not this machine's. A machine without IPv6 is fine with `localhost`.
    pub fn all(settings: &ListenSettings, listener: usize, observer: &Observer) -> Result<Vec<Self>, BindError> {
        let bind = |address: SocketAddr| {
            let bound = StdListener::bind(address).and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(Self { name: Arc::clone(&settings.name), listener, address: socket.local_addr()?, socket })
            });
            bound.map_err(|error| BindError { address, error })
        };
        match settings.addresses {
            ListenAddress::At(address) => Ok(vec![bind(address)?]),
            ListenAddress::Localhost(port) => {
                let first = bind((Ipv4Addr::LOCALHOST, port).into())?;
                // Port 0 was a wish for any; both families get the one that came.
                let second = bind((Ipv6Addr::LOCALHOST, first.address.port()).into());
                let is_absent = |error: &io::Error| error.kind() != io::ErrorKind::AddrInUse || port == 0;
                match second {
                    Ok(second) => Ok(vec![first, second]),
                    Err(BindError { address, error }) if is_absent(&error) => {
                        observer.tell(&Event::ListenSkipped { address, error: &error.to_string() });
                        Ok(vec![first])
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// # Errors
    /// The socket cannot be handed to the current runtime.
    pub fn into_tokio(self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.socket)
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

    pub(super) fn take(&self) -> Option<Taken> {
        self.places.take()
    }
}

/// Accepts on one address.
pub struct Acceptor {
    pub name: Arc<str>,
    pub socket: TcpListener,
    pub limit: ConnectionLimit,
    pub observer: Observer,
}

/// When descriptors run out, accepting again at once would spin; a tenth of a second gives others time to close some.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the answer to a connection too many may take: it fits into any socket's buffer.
const REFUSAL: Duration = Duration::from_secs(1);

impl Acceptor {
    /// Hands every accepted connection to `hand`, until the drain begins.
    pub async fn run(self, mut drain: Drain, hand: impl Fn(TcpStream, Taken)) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.draining() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => match self.limit.take() {
                    Some(counted) => hand(stream, counted),
                    None => {
                        self.observer.refused(Reason::Overloaded, None, None);
                        // Who finds no place for that either learns it from the end of the connection.
                        if let Some(place) = self.limit.refusals.take() {
                            tokio::spawn(refuse(stream, place));
                        }
                    }
                },
                // The app was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.observer.tell(&Event::AcceptFailed { listener: &self.name, error: &error.to_string() });
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn refuse(mut stream: TcpStream, _place: Taken) {
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
