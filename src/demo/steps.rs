//! A connection whose bytes are scripted, for what no HTTP library would agree to send.
//!
//! Must never know HTTP beyond the blank line that ends a head.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// One thing that a scripted connection does. After the last it is closed politely, close_notify included.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Bytes),
    Pause(Duration),
    /// Waits for the blank line that ends the next request's head.
    ReadHead,
    /// Waits for so many bytes.
    Read(usize),
    /// Sends back whatever comes, until the peer has no more: the far end of an upgrade.
    Echo,
    /// Reads and says nothing until the peer goes away.
    Hold,
    /// Neither reads nor writes, until the server is stopped.
    Stall,
    /// Ends the connection without a close_notify: a truncation.
    Cut,
    /// Ends it with a TCP reset.
    Reset,
}

/// Plays the steps. `unread` is what had been read from the connection before.
pub(super) async fn play(mut io: Io, unread: Bytes, steps: Vec<Step>) -> io::Result<()> {
    let mut unread = BytesMut::from(unread);
    for step in steps {
        match step {
            Step::Send(bytes) => {
                io.write_all(&bytes).await?;
                io.flush().await?;
            }
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::ReadHead => {
                let end = loop {
                    if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                        break at + 4;
                    }
                    more(&mut io, &mut unread).await?;
                };
                drop(unread.split_to(end));
            }
            Step::Read(length) => {
                while unread.len() < length {
                    more(&mut io, &mut unread).await?;
                }
                drop(unread.split_to(length));
            }
            Step::Echo => loop {
                io.write_all(&unread.split()).await?;
                io.flush().await?;
                if more(&mut io, &mut unread).await.is_err() {
                    break;
                }
            },
            Step::Hold => {
                while more(&mut io, &mut unread).await.is_ok() {
                    unread.clear();
                }
            }
            Step::Stall => std::future::pending::<()>().await,
            Step::Cut => return Ok(()),
            Step::Reset => return io.tcp().set_zero_linger(),
        }
    }
    io.shutdown().await
}

async fn more(io: &mut Io, unread: &mut BytesMut) -> io::Result<()> {
    match io.read_buf(unread).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// A connection, with TLS or without.
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, into),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
