//! A connection that goes on listening when it can no longer speak.
//!
//! An upstream may refuse an upload before its end and hang up: its answer has come, and our next write fails. hyper
//! gives a connection up at the first write that fails, with the answer unread, and the app would get 502 instead of the
//! upstream's 401 or 413. So such a failure is kept quiet, whatever is written after it goes nowhere, and reading tells
//! how it ended: with an answer, or with the end of the connection. Must never know what is sent.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::wire::ear::Ear;

#[derive(Debug)]
pub(super) struct Patient<T> {
    io: T,
    ear: Ear,
    /// The peer takes nothing more.
    deaf: bool,
}

impl<T> Patient<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, ear: Ear::default(), deaf: false }
    }

    /// The connection itself, for what ends it by itself.
    pub(super) fn into_inner(self) -> T {
        self.io
    }

    /// What to tell of a write: a connection that the peer has ended seems to take all of it.
    fn told(&mut self, written: io::Result<usize>, all: usize) -> io::Result<usize> {
        match written {
            Err(error) if is_hung_up(&error) => {
                self.deaf = true;
                Ok(all)
            }
            written => written,
        }
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

impl<T: Read + Unpin> Read for Patient<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let Self { io, ear, .. } = self.get_mut();
        ear.poll(cx, |cx| Pin::new(io).poll_read(cx, buf))
    }
}

impl<T: Write + Unpin> Write for Patient<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf));
        Poll::Ready(this.told(written, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if this.deaf {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs));
        Poll::Ready(this.told(written, all))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut this.io).poll_flush(cx));
        Poll::Ready(this.told(flushed.map(|()| 0), 0).map(drop))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_the_peer_said_before_it_hung_up_is_heard() {
        let (ours, mut theirs) = duplex(64);
        theirs.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n").await.unwrap();
        drop(theirs);
        let mut io = TokioIo::new(Patient::new(TokioIo::new(ours)));
        for _ in 0..3 {
            io.write_all(b"the rest of an upload").await.unwrap();
            io.flush().await.unwrap();
        }
        let mut heard = String::new();
        io.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "HTTP/1.1 401 Unauthorized\r\n\r\n");
    }
}
