//! Ends a connection so that the last answer arrives (RFC 9112, 9.6).
//!
//! Whoever closes a socket with unread bytes in it sends a reset, and a reset can overtake the answer before it: an app
//! that is still uploading what was refused would find its connection broken and never learn why. So our side ends
//! first, and what still comes is read and thrown away, for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// An app that sends more than this after its answer is not going to read it.
pub(super) const MOST: usize = 256 * 1024;

const PATIENCE: Duration = Duration::from_millis(500);

/// Reads on after the end of our side.
#[derive(Debug)]
pub(super) struct Linger {
    left: usize,
    until: Option<Pin<Box<Sleep>>>,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self { left: MOST, until: None }
    }

    /// Ready when the app has ended its side, or has been waited for long enough.
    pub(super) fn poll(&mut self, mut io: Pin<&mut impl AsyncRead>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        if until.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut thrown_away = [0; 4096];
        while self.left > 0 {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match io.as_mut().poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.left = self.left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}
