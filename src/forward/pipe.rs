//! Two connections that are one, once HTTP is over: bytes both ways, byte for byte, and an end that both sides learn of.
//!
//! A quiet pipe costs no buffer: only what one side does not take at once is kept. Must never know what the bytes mean; of
//! those of a WebSocket it is told where a message ends, which is where it may say farewell to both sides.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::observe::access::Tally;
use crate::wire::frames::{Messages, close_for_client, close_for_server};

/// The most that is read at a time, and so the most that is kept for a side that is slow. Half of what TLS puts into a
/// record: more would only wait here instead of in the kernel.
const PIECE: usize = 8 * 1024;

/// When one side broke, how long the other has to take what is left for it and to end as well.
const GRACE: Duration = Duration::from_secs(1);

/// How long both sides have to agree to a farewell that was said to them.
const CLOSING: Duration = Duration::from_secs(2);

/// What a pipe carries.
pub(super) enum Carries {
    Anything,
    WebSocket,
}

/// Why a pipe is not waited for any longer than that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    /// Something stands still.
    Still,
    /// Both sides were told farewell.
    Told,
    /// One side broke.
    Broken,
}

/// Passes on what comes until both sides have ended. `ahead` was read from `app` already. `tally` counts what was taken.
///
/// It may be quiet for as long as both like. What one side sends has to be taken, though, and a side that ends in good
/// order is told the other, which may go on; in both cases nothing may stand still for longer than `idle`. A side that
/// breaks is an end too, and of both.
///
/// Once `leaving` is over, both sides of a WebSocket are sent a Close frame ("going away"; RFC 6455, 7.4.1) as soon as the
/// message ends that is on its way to them, and from then on nothing else (5.5.1). It ends when both have said theirs.
pub(super) async fn join(
    mut app: impl AsyncRead + AsyncWrite + Unpin,
    ahead: Bytes,
    mut upstream: impl AsyncRead + AsyncWrite + Unpin,
    carries: Carries,
    idle: Duration,
    leaving: impl Future<Output = ()>,
    tally: Option<&Tally>,
) {
    let read = |bytes| tally.into_iter().for_each(|tally| tally.read(bytes));
    let written = |bytes| tally.into_iter().for_each(|tally| tally.written(bytes));
    let (mut up, mut down) = (Way::with(ahead, &carries, read), Way::with(Bytes::new(), &carries, written));
    let (mut late, mut why) = (pin!(None), None);
    let (mut leaving, mut leaves) = (pin!(leaving), false);
    poll_fn(|context| {
        if !leaves && leaving.as_mut().poll(context).is_ready() {
            leaves = true;
            up.take_leave(close_for_server);
            down.take_leave(close_for_client);
        }
        let moved = (up.moved, down.moved);
        let mut up_ended = up.poll(&mut app, &mut upstream, context).is_ready();
        let mut down_ended = down.poll(&mut upstream, &mut app, context).is_ready();
        if leaves && up.has_closed() && down.has_closed() {
            (up.state, down.state) = (up.state.max(State::Ending), down.state.max(State::Ending));
            up_ended = up.poll(&mut app, &mut upstream, context).is_ready();
            down_ended = down.poll(&mut upstream, &mut app, context).is_ready();
        }
        if up_ended && down_ended {
            return Poll::Ready(());
        }
        let now = if up.broken || down.broken {
            Late::Broken
        } else if leaves && up.is_told() && down.is_told() {
            Late::Told
        } else if up.is_at_rest() && down.is_at_rest() {
            late.set(None);
            why = None;
            return Poll::Pending;
        } else {
            Late::Still
        };
        // For what stands still anew with every byte, and else once.
        let has_moved = now == Late::Still && moved != (up.moved, down.moved);
        if why != Some(now) || has_moved {
            late.set(Some(tokio::time::sleep(match now {
                Late::Still => idle,
                Late::Told => CLOSING,
                Late::Broken => GRACE,
            })));
            why = Some(now);
        }
        late.as_mut().as_pin_mut().map_or(Poll::Pending, |late| late.poll(context))
    })
    .await;
}

/// One direction.
struct Way<T> {
    /// What was read and not taken yet.
    kept: Bytes,
    /// What was written is still to be flushed.
    unflushed: bool,
    state: State,
    /// Either side broke, in this direction.
    broken: bool,
    /// Counts pieces on their way.
    moved: u64,
    /// Where messages end, of a WebSocket.
    messages: Option<Messages>,
    /// To be said where the next message ends.
    farewell: Option<Bytes>,
    /// It has been, and nothing comes behind it.
    told: bool,
    /// Hears of bytes that were taken.
    taken: T,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Open,
    /// There is no more; the other side is to be told.
    Ending,
    Ended,
}

impl<T: Fn(usize)> Way<T> {
    fn with(kept: Bytes, carries: &Carries, taken: T) -> Self {
        let mut messages = match carries {
            Carries::Anything => None,
            Carries::WebSocket => Some(Messages::default()),
        };
        if let Some(messages) = &mut messages {
            messages.pass_all(&kept);
        }
        Self {
            kept,
            unflushed: false,
            state: State::Open,
            broken: false,
            moved: 0,
            messages,
            farewell: None,
            told: false,
            taken,
        }
    }

    /// Says `farewell` where the next message ends, if messages there are.
    fn take_leave(&mut self, farewell: fn() -> Bytes) {
        self.farewell = self.messages.is_some().then(farewell);
    }

    /// Says it, if this is the place.
    fn say_farewell(&mut self) {
        if self.messages.as_ref().is_some_and(Messages::is_between)
            && let Some(farewell) = self.farewell.take()
        {
            self.kept = if self.kept.is_empty() { farewell } else { [&self.kept[..], &farewell].concat().into() };
            self.told = true;
        }
    }

    /// Whom this direction leads to has been told that this was all, by us or by who talks to it.
    fn is_told(&self) -> bool {
        self.told || self.state == State::Ended || self.messages.as_ref().is_some_and(Messages::have_closed)
    }

    /// The same, and whom it comes from has said so.
    fn has_closed(&self) -> bool {
        let is_out = self.kept.is_empty() && !self.unflushed;
        is_out && self.messages.as_ref().is_some_and(Messages::have_closed) || self.state == State::Ended
    }

    /// Nothing has to happen in this direction.
    fn is_at_rest(&self) -> bool {
        self.state == State::Open && self.kept.is_empty()
    }

    /// Ready when this direction has come to its end, and the other side knows.
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<()> {
        while self.state != State::Ended {
            self.say_farewell();
            if ready!(self.poll_write(to, context)).is_err() {
                self.fail();
            } else if self.state == State::Ending {
                // A side that cannot be told has ended.
                self.broken |= ready!(Pin::new(&mut *to).poll_shutdown(context)).is_err();
                self.state = State::Ended;
            } else {
                ready!(self.poll_read(from, to, context));
            }
        }
        Poll::Ready(())
    }

    /// Reads a piece, or the end.
    fn poll_read(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut piece = [const { MaybeUninit::uninit() }; PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        match Pin::new(from).poll_read(context, &mut piece) {
            Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                self.moved += 1;
                self.pass(piece.filled(), to, context);
            }
            Poll::Ready(end) => {
                self.broken |= end.is_err();
                self.state = State::Ending;
            }
            Poll::Pending => {
                // What was written goes out before anything is waited for.
                if self.unflushed {
                    match ready!(Pin::new(to).poll_flush(context)) {
                        Ok(()) => self.unflushed = false,
                        Err(_) => self.fail(),
                    }
                }
                if self.state == State::Open {
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    /// Passes on what there is to pass on of a piece that was just read.
    fn pass(&mut self, piece: &[u8], to: &mut (impl AsyncWrite + Unpin), context: &mut Context<'_>) {
        let Some(messages) = &mut self.messages else { return self.take(piece, to, context) };
        if self.told {
            return messages.pass_all(piece);
        }
        if self.farewell.is_none() {
            messages.pass_all(piece);
            return self.take(piece, to, context);
        }
        let (last, rest) = piece.split_at(messages.pass(piece));
        self.take(last, to, context);
        self.say_farewell();
        if let Some(messages) = &mut self.messages {
            messages.pass_all(rest);
        }
    }

    /// Writes what it can of a piece that was just read, and keeps the rest.
    fn take(&mut self, mut piece: &[u8], to: &mut (impl AsyncWrite + Unpin), context: &mut Context<'_>) {
        while !piece.is_empty() {
            match Pin::new(&mut *to).poll_write(context, piece) {
                Poll::Ready(Ok(written @ 1..)) => {
                    self.unflushed = true;
                    (self.taken)(written);
                    piece = piece.get(written..).unwrap_or_default();
                }
                Poll::Ready(_) => return self.fail(),
                Poll::Pending => {
                    self.kept = Bytes::copy_from_slice(piece);
                    return;
                }
            }
        }
    }

    /// Writes what was kept.
    fn poll_write(&mut self, to: &mut (impl AsyncWrite + Unpin), context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(context, &self.kept))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.moved += 1;
            (self.taken)(written);
            self.kept.advance(written);
        }
        // Nothing, too, holds on to the buffer that it was a part of.
        self.kept = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Whom this direction leads to takes nothing more. What it said before is still read, in the other one.
    fn fail(&mut self) {
        self.broken = true;
        self.state = State::Ended;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// Both ends of a pipe whose sides hold so many bytes.
    fn pipe(holds: usize, ahead: &'static [u8]) -> (DuplexStream, DuplexStream, JoinHandle<()>) {
        let ((app, near), (far, api)) = (duplex(holds), duplex(holds));
        (app, api, tokio::spawn(join(near, Bytes::from_static(ahead), far, Carries::Anything, IDLE, pending(), None)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_ahead_comes_first_and_a_side_that_ended_hears_the_other_to_its_end() {
        // So little that nothing is taken at once.
        let (mut app, mut api, joined) = pipe(3, b"ahead ");
        app.write_all(b"of").await.unwrap();
        app.shutdown().await.unwrap();
        let mut heard = String::new();
        api.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "ahead of");
        let (saying, hearing) = (async { api.write_all(&[b'x'; 100]).await.unwrap() }, async {
            let mut heard = [0; 100];
            app.read_exact(&mut heard).await.unwrap();
        });
        tokio::join!(saying, hearing);
        drop(api);
        assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
        joined.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_is_left_alone_may_be_quiet_for_so_long_and_no_longer() {
        let begun = Instant::now();
        let (mut app, mut api, joined) = pipe(64, b"");
        tokio::time::sleep(IDLE * 10).await;
        app.shutdown().await.unwrap();
        tokio::time::sleep(IDLE / 2).await;
        // Which begins anew with every byte.
        api.write_all(b"x").await.unwrap();
        joined.await.unwrap();
        assert_eq!(begun.elapsed(), IDLE * 23 / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_takes_nothing_of_what_the_other_left_for_it_is_not_waited_for() {
        let begun = Instant::now();
        let (mut app, _api, joined) = pipe(64, b"");
        app.write_all(&[b'x'; 150]).await.unwrap();
        drop(app);
        joined.await.unwrap();
        assert_eq!(begun.elapsed(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_breaks_leaves_the_other_a_moment() {
        let begun = Instant::now();
        let (mut app, api, joined) = pipe(64, b"");
        drop(api);
        // Who is gone cannot be written to.
        app.write_all(b"x").await.unwrap();
        joined.await.unwrap();
        assert!(begun.elapsed() <= GRACE);
        assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
    }
}
