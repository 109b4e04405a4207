//! One HTTP/2 connection: how it is opened, how many requests it carries at once, and when it takes no more.
//!
//! Must never know what is sent over it, nor which other connections there are.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use hyper_util::rt::TokioTimer;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::dial::Io;
use super::pool::Held;
use super::send::MAX_HEAD;
use crate::bug;
use crate::clock::recent;
use crate::life::contained;
use crate::wire::fault::Fault;
use crate::wire::replay::Attempt;

/// The most requests that one connection carries at once, whatever the server would take. A packet that is lost holds
/// all of them up, so a crowd is spread over several connections.
pub(super) const STREAMS: usize = 64;

/// What one answer may have on its way to us, or with us unread, while its app is slow: at 10 ms to the server and back
/// that is 25 MB/s for each.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Room for every stream's window, so that apps that do not read hold nobody else's answer up. It is also the most that
/// a connection keeps in memory of answers: 16 MiB.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;

/// What is kept of one request that the server is slow to take. An app's body comes in pieces of some kilobytes, and
/// while they cannot leave no more are read.
const SEND_BUFFER: usize = 256 * 1024;

/// How long the peer may be silent before it is asked for a sign of life, requests or none. Without that a connection
/// whose other end is gone without a word takes one request after the other, and each waits for its timeout. Half of
/// what idle connections are kept for, so that none is used long after its end.
const PING_AFTER: Duration = Duration::from_secs(10);

/// And how long it has for that sign. A server that takes longer answers nothing else either.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a server of gRPC, and for one that took pings for an attack (`ENHANCE_YOUR_CALM`): gRPC's own servers end a
/// connection with a quiet call on it when they are asked more than twice sooner than after five minutes.
const CALM_PING_AFTER: Duration = Duration::from_secs(310);

/// No server's own number (they have 32 bits), nor h2's word for a server that names none.
const UNSETTLED: usize = usize::MAX - 1;

/// An open connection. Dropped, it takes nothing new, and is closed when its last stream has ended.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http2::SendRequest<Attempt>,
    wire: Rc<Wire>,
    pub(super) born: Instant,
    /// It pings seldom.
    pub(super) is_calm: bool,
    /// Of what hands it requests.
    driver: AbortHandle,
    streams: Cell<usize>,
    /// Since when there are no streams.
    since: Cell<Instant>,
}

impl Drop for Connection {
    /// Nobody is left who waits for an answer. A request that the server never had room for keeps hyper from seeing that:
    /// it would wait, and the connection with it, for as long as the server likes.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What the connection's own task and whoever sends over it share.
#[derive(Debug)]
struct Wire {
    /// `None` when it takes no more.
    task: RefCell<Option<http2::Connection<Heard, Attempt, Local>>>,
    ended: Cell<Option<Fault>>,
    /// Told of whatever comes, until it is settled, and of the end.
    stirred: Rc<Notify>,
}

impl Connection {
    /// Shakes hands, and waits for the server's SETTINGS (RFC 9113, 3.4): before them nobody knows how many streams it
    /// takes, nor whether it speaks HTTP/2 at all.
    ///
    /// # Errors
    /// What the server sends is not HTTP/2, or it ends the connection.
    pub(super) async fn open(io: Io, held: Held, is_calm: bool) -> Result<Self, Fault> {
        let stirred = Rc::new(Notify::new());
        let io = Heard { io, stirred: Rc::clone(&stirred), _held: held };
        let handshake = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .initial_max_send_streams(UNSETTLED)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD as u32)
            .keep_alive_interval(if is_calm { CALM_PING_AFTER } else { PING_AFTER })
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(io)
            .await;
        let (sender, task) = handshake.map_err(|error| Fault::of(&error))?;
        let wire = Rc::new(Wire { task: RefCell::new(Some(task)), ended: Cell::new(None), stirred });
        let driver = tokio::task::spawn_local(drive(Rc::clone(&wire))).abort_handle();
        loop {
            match wire.most_streams() {
                None => return Err(wire.ended.get().unwrap_or(Fault::Reset)),
                Some(UNSETTLED) => wire.stirred.notified().await,
                Some(_) => break,
            }
        }
        let now = Instant::now();
        Ok(Self { sender, wire, born: now, is_calm, driver, streams: Cell::new(0), since: Cell::new(now) })
    }

    pub(super) fn sender(&self) -> http2::SendRequest<Attempt> {
        self.sender.clone()
    }

    /// How many streams it takes at once, open ones included.
    pub(super) fn most(&self) -> usize {
        self.wire.most_streams().unwrap_or_default().min(STREAMS)
    }

    pub(super) fn has_room(&self) -> bool {
        !self.is_closed() && self.streams.get() < self.most()
    }

    /// How many streams are open.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether it ended because the server thought that too much was asked of it.
    pub(super) fn wants_calm(&self) -> bool {
        self.wire.ended.get() == Some(Fault::Busy)
    }

    /// Since when it has been idle; `None` while it is not.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.since.get())
    }

    pub(super) fn enter(&self) {
        self.streams.set(self.streams.get() + 1);
    }

    pub(super) fn leave(&self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        self.since.set(recent().into());
    }
}

impl Wire {
    /// `None` when it takes no more.
    fn most_streams(&self) -> Option<usize> {
        // Only its own task borrows it for longer, and not while anybody else runs.
        let task = self.task.try_borrow().ok()?;
        task.as_ref().map(http2::Connection::current_max_send_streams)
    }
}

/// Hands requests to the connection until there is nobody left who could send one, or it takes no more. What is open
/// then goes on: that is another task's.
async fn drive(wire: Rc<Wire>) {
    let driving = poll_fn(|context| {
        bug::at("http2");
        match &mut *wire.task.borrow_mut() {
            Some(task) => Pin::new(task).poll(context),
            None => Poll::Ready(Ok(())),
        }
    });
    // Whoever waits for an answer would wait for one of a connection that nobody drives.
    let ended = contained(pin!(driving)).await;
    // What is still waiting in there is handed back.
    drop(wire.task.borrow_mut().take());
    wire.ended.set(ended.map_or(Some(Fault::Other), |ended| ended.err().map(|error| Fault::of(&error))));
    wire.stirred.notify_one();
}

/// Runs hyper's tasks where they were made.
#[derive(Clone, Debug)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A connection that tells when something came, and holds what is counted by connections until it is closed.
#[derive(Debug)]
struct Heard {
    io: Io,
    stirred: Rc<Notify>,
    _held: Held,
}

impl Read for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(context, buffer));
        // Whoever waits looks when what was read has been taken in.
        self.stirred.notify_one();
        Poll::Ready(read)
    }
}

impl Write for Heard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
