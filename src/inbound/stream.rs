//! What apps are spoken to over: TCP or a unix socket, with TLS or without.
//!
//! Enums, because this is the hot path: a call is a branch and no indirection, and one server of HTTP is compiled and
//! not four. Must never know what HTTP is, beyond the name of what both sides agreed on.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, recv, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::intercept::Bare;
use super::preface::Spoken;
use crate::tls::H2;
use crate::wire::gathered::poll_write_gathered;

/// How long nothing may come before the system asks: as with upstreams, and below the minutes after which routers
/// forget a connection.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// An app's connection as it was accepted.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same on its way from one runtime to another.
#[derive(Debug)]
pub(super) enum Parked {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub enum Stream {
    Plain(Socket),
    /// Boxed, so that plain connections, which are most, do not carry its size.
    Tls(Box<TlsStream<Socket>>),
    /// What is inside a CONNECT that is decrypted.
    Inside(Box<TlsStream<Bare>>),
}

impl Socket {
    /// Takes it off its runtime.
    ///
    /// # Errors
    /// It cannot be moved; the app has left it.
    pub(super) fn park(self) -> io::Result<Parked> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Parked::Tcp),
            Self::Unix(stream) => stream.into_std().map(Parked::Unix),
        }
    }

    /// Best effort: it is about speed alone. Answers are whole messages, and waiting to merge them only delays.
    pub(super) fn without_delay(&self) {
        if let Self::Tcp(stream) = self {
            let _ = stream.set_nodelay(true);
        }
    }
}

impl Parked {
    /// Puts it onto the current runtime.
    ///
    /// # Errors
    /// The runtime does not take it.
    pub(super) fn resume(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Socket::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Socket::Unix),
        }
    }
}

impl Stream {
    /// What both sides agreed on to speak (ALPN), if they did.
    pub(super) fn agreed(&self) -> Option<Spoken> {
        let tls = match self {
            Self::Plain(_) => return None,
            Self::Tls(stream) => stream.get_ref().1,
            Self::Inside(stream) => stream.get_ref().1,
        };
        Some(if tls.alpn_protocol()? == H2 { Spoken::Http2 } else { Spoken::Http1 })
    }

    /// Makes the end of the connection one that cannot be taken for the end of an answer. A unix socket has no such
    /// end; where that cannot be done the app is told no worse than it was.
    pub(super) fn reset(&self) {
        if let Socket::Tcp(stream) = self.socket() {
            let _ = stream.set_zero_linger();
        }
    }

    /// Has the system look now and then whether the app is still there: for what may be quiet for as long as it likes.
    /// Best effort.
    pub(super) fn keep_alive(&self) {
        if let Socket::Tcp(stream) = self.socket() {
            let _ = sockopt::set_socket_keepalive(stream, true);
            let _ = sockopt::set_tcp_keepidle(stream, KEEP_ALIVE);
        }
    }

    /// Whether the system has bytes of the app that nobody has read; not its end.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [0; 1];
        let mut look = |socket: BorrowedFd<'_>| recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        let looked = match self.socket() {
            Socket::Tcp(stream) => look(stream.as_fd()),
            Socket::Unix(stream) => look(stream.as_fd()),
        };
        looked.is_ok_and(|(_, length)| length > 0)
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Inside(stream) => stream.get_ref().0.stream().socket(),
        }
    }
}

macro_rules! either {
    ($type:ty: $($one:ident)|+, $write_vectored:path) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$one(inner) => Pin::new(inner).poll_read(context, buffer),)+
                }
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$one(inner) => Pin::new(inner).poll_write(context, bytes),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$one(inner) => Pin::new(inner).poll_flush(context),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$one(inner) => Pin::new(inner).poll_shutdown(context),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$one(inner) => inner.is_write_vectored(),)+
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$one(inner) => $write_vectored(inner, context, bytes),)+
                }
            }
        }
    };
}

/// As it comes.
fn poll_write_pieces<T: AsyncWrite + Unpin>(
    io: &mut T,
    context: &mut Context<'_>,
    pieces: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    Pin::new(io).poll_write_vectored(context, pieces)
}

either!(Socket: Tcp | Unix, poll_write_gathered);
either!(Stream: Plain | Tls | Inside, poll_write_pieces);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_system_looks_whether_an_app_is_still_there_where_it_is_told_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = Stream::Plain(Socket::Tcp(stream));
        let looks = || match stream.socket() {
            Socket::Tcp(stream) => (sockopt::socket_keepalive(stream), sockopt::tcp_keepidle(stream)),
            Socket::Unix(_) => panic!("it is TCP"),
        };
        assert_eq!(looks().0, Ok(false));
        stream.keep_alive();
        assert_eq!(looks(), (Ok(true), Ok(KEEP_ALIVE)));
    }
}
