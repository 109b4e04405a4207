//! Tells HTTP/2 by prior knowledge from HTTP/1, by the first bytes of a connection (RFC 9113, 3.3 and 3.4).
//!
//! They are read and handed on, and not peeked at: a TLS stream has no peek and neither has tokio's unix socket, and who
//! has peeked at half of a preface is told at once, again and again, that half of one is there. It costs a connection one
//! read of 24 bytes, and a request nothing. Must never know what comes behind.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// What an app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.1 or 1.0, or nothing that we know; hyper finds out.
    Http1,
    Http2,
}

/// What HTTP/2 begins with: no request of HTTP/1 does.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection: read to see what it speaks, and then handed on.
#[derive(Debug, Default)]
pub(super) struct First {
    bytes: [u8; PREFACE.len()],
    read: u8,
    handed: u8,
}

impl First {
    /// Reads until it is clear what is spoken; what is no whole preface is HTTP/1. `read` is told of bytes that came.
    pub(super) fn poll_spoken(
        &mut self,
        mut io: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
        read: impl Fn(),
    ) -> Poll<Spoken> {
        loop {
            let before = usize::from(self.read);
            let mut buffer = ReadBuf::new(&mut self.bytes[before..]);
            // Whoever reads on finds the same error, or the end.
            let failed = ready!(io.as_mut().poll_read(context, &mut buffer)).is_err();
            let came = buffer.filled().len();
            if failed || came == 0 {
                return Poll::Ready(Spoken::Http1);
            }
            read();
            let all = before + came;
            self.read = u8::try_from(all).unwrap_or(u8::MAX);
            if self.bytes[..all] != PREFACE[..all] {
                return Poll::Ready(Spoken::Http1);
            }
            if all == PREFACE.len() {
                return Poll::Ready(Spoken::Http2);
            }
        }
    }

    /// Puts what is left of them first.
    pub(super) fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        if self.handed < self.read {
            let left = &self.bytes[usize::from(self.handed)..usize::from(self.read)];
            let some = &left[..left.len().min(buffer.remaining())];
            buffer.put_slice(some);
            self.handed += u8::try_from(some.len()).unwrap_or(u8::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What is spoken by an app that sends these pieces and ends, and what is handed on of them.
    async fn spoken(pieces: &[&[u8]]) -> (Spoken, Vec<u8>) {
        let (mut app, mut io) = tokio::io::duplex(64);
        let mut first = First::default();
        let sending = async {
            for piece in pieces {
                app.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(app);
        };
        let reading = poll_fn(|context| first.poll_spoken(Pin::new(&mut io), context, || {}));
        let (spoken, ()) = tokio::join!(reading, sending);
        let mut handed = Vec::new();
        loop {
            let mut space = [0; 5];
            let mut buffer = ReadBuf::new(&mut space);
            first.hand_on(&mut buffer);
            if buffer.filled().is_empty() {
                return (spoken, handed);
            }
            handed.extend(buffer.filled());
        }
    }

    #[tokio::test]
    async fn only_a_whole_preface_is_http2() {
        let byte_by_byte: Vec<&[u8]> = PREFACE.chunks(1).collect();
        assert_eq!(spoken(&byte_by_byte).await, (Spoken::Http2, PREFACE.to_vec()));
        assert_eq!(spoken(&[&PREFACE, b"more"]).await, (Spoken::Http2, PREFACE.to_vec()));
        for other in
            [&b""[..], b"G", b"PRI * HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"P", b"POST / HTTP/1.1"]
        {
            assert_eq!(spoken(&[other]).await, (Spoken::Http1, other.to_vec()), "{other:?}");
        }
    }
}
