//! Small pieces leave by a plain write.
//!
//! hyper writes a head and its body as two pieces, and TLS one record as the only piece of a vectored write. `writev`
//! costs a twentieth more than `send` does for such a message, even with the copy. Must never know what is written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is copied together at most: most heads with a short body. Larger ones gain nothing by it.
const MOST: usize = 1024;

/// Writes the pieces, or the first of them.
pub fn poll_write_gathered<T: AsyncWrite + Unpin>(
    io: &mut T,
    context: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [only] = pieces {
        return Pin::new(io).poll_write(context, only);
    }
    let mut whole = [0; MOST];
    let mut length = 0;
    for piece in pieces {
        let Some(room) = whole.get_mut(length..length + piece.len()) else {
            return Pin::new(io).poll_write_vectored(context, pieces);
        };
        room.copy_from_slice(piece);
        length += piece.len();
    }
    Pin::new(io).poll_write(context, &whole[..length])
}

/// A connection whose vectored writes are such.
#[derive(Debug)]
pub struct Gathered<T>(pub T);

impl<T> Connection for Gathered<T> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_gathered(&mut self.get_mut().0, context, pieces)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, duplex};

    use super::*;

    /// Notes by which call what was written.
    #[derive(Default)]
    struct Noted(Vec<(bool, Vec<u8>)>);

    impl AsyncWrite for Noted {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.get_mut().0.push((false, bytes.to_vec()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let length = all.len();
            self.get_mut().0.push((true, all));
            Poll::Ready(Ok(length))
        }
    }

    #[tokio::test]
    async fn all_else_goes_through_as_it_is() {
        let (near, mut far) = duplex(64);
        // Holds back what is written until it is told to let it go.
        let mut near = Gathered(BufWriter::new(near));
        let mut come = [0; 8];
        assert_eq!(near.write(b"head").await.unwrap(), 4);
        assert_eq!(near.write_vectored(&[IoSlice::new(b"body"), IoSlice::new(b"")]).await.unwrap(), 4);
        assert!(near.0.buffer() == b"headbody" && near.is_write_vectored());
        near.flush().await.unwrap();
        assert_eq!(near.0.buffer(), b"");
        assert_eq!((far.read(&mut come).await.unwrap(), &come), (8, b"headbody"));
        far.write_all(b"answer").await.unwrap();
        assert_eq!((near.read(&mut come).await.unwrap(), &come[..6]), (6, &b"answer"[..]));
        near.write_all(b"end").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(near.0.buffer(), b"");
        assert_eq!(far.read_to_end(&mut Vec::new()).await.unwrap(), 3);
        assert!(!Gathered(Noted::default()).is_write_vectored());
    }

    #[tokio::test]
    async fn what_is_small_or_whole_leaves_at_once_and_the_rest_as_it_is() {
        let full = [b'x'; MOST];
        for (pieces, vectored) in [
            (&[&b"head"[..], b"body"][..], false),
            (&[b"head", b"", b"body"], false),
            (&[&full], false),
            (&[&full, b""], false),
            (&[&full, b"y"], true),
            (&[b"y", &full], true),
            (&[&[b'x'; 2 * MOST]], false),
            (&[], false),
        ] {
            let mut io = Noted::default();
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let written = poll_fn(|context| poll_write_gathered(&mut io, context, &slices)).await.unwrap();
            let all = pieces.concat();
            assert_eq!((written, io.0), (all.len(), vec![(vectored, all)]), "{pieces:?}");
        }
    }
}
