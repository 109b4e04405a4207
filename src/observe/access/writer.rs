//! Lines on their way to the file: a bounded queue and a thread of its own behind it. Whoever leaves a line never waits
//! for it; where there is no room the line is lost, and counted.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use super::Entry;
use super::sheet::{self, Lost, Sheet, UNREAD};
use crate::bug;
use crate::life;
use crate::observe::event::Event;
use crate::observe::log::Log;

/// Lines that wait to be written: eight seconds at a thousand requests a second, for a disk that stands still for a
/// moment. Each is half a kilobyte, two at the most, so that what nobody takes costs 4 MiB, and 16 at the very worst.
const ROOM: usize = 8 * 1024;

/// How long lines are gathered once there is one: a request then wakes nobody while others are written, and a burst is
/// one write and not a thousand. It is also how late a line may be.
const GATHER: Duration = Duration::from_millis(20);

/// How long what is left may take when the log is closed. A pipe that nobody reads keeps nobody.
pub(in crate::observe) const PARTING: Duration = Duration::from_secs(2);

/// Between two events about lost lines. The metric is exact at any time.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Takes lines. Dropped, it has what it took written, within bounds.
#[derive(Debug)]
pub(in crate::observe) struct Writer {
    queue: SyncSender<Box<Entry>>,
    leaves: Arc<AtomicBool>,
    thread: Thread,
    /// Over when all that it took is written, or lost.
    done: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Writer {
    /// # Errors
    /// The system gives no thread.
    pub(in crate::observe) fn start(sheet: Sheet, losses: Arc<Losses>) -> std::io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(ROOM);
        let leaves = Arc::<AtomicBool>::default();
        let (finished, done) = oneshot::channel();
        let pen =
            Pen { entries, sheet, losses, leaves: Arc::clone(&leaves), gives_up: Cell::new(None), gave_up: false };
        let thread = life::thread("access-log", move || {
            pen.run();
            // Nobody may wait for it.
            let _ = finished.send(());
        })?;
        Ok(Self { queue, leaves, thread: thread.thread().clone(), done: Mutex::new(Some(done)) })
    }

    /// Whether there was room for it. Never waits.
    pub(in crate::observe) fn take(&self, entry: Box<Entry>) -> bool {
        self.queue.try_send(entry).is_ok()
    }

    /// Over, once this is dropped, when all that it took is written, or lost. `None` to all but the first who ask.
    pub(in crate::observe) fn done(&self) -> Option<oneshot::Receiver<()>> {
        self.done.lock().ok()?.take()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// What the thread holds.
struct Pen {
    entries: Receiver<Box<Entry>>,
    sheet: Sheet,
    losses: Arc<Losses>,
    /// Nothing more comes.
    leaves: Arc<AtomicBool>,
    /// When a pipe that nobody reads is waited for no longer.
    gives_up: Cell<Option<Instant>>,
    /// It was not read by then: what is left is lost, and counted while somebody waits to hear of it.
    gave_up: bool,
}

impl Pen {
    fn run(mut self) {
        let mut page = Vec::new();
        while catch_unwind(AssertUnwindSafe(|| self.write_all(&mut page))).is_err() {
            self.losses.lost(sheet::count(&page), A_BUG);
            page.clear();
        }
        self.losses.tell();
    }

    /// All that comes.
    fn write_all(&mut self, page: &mut Vec<u8>) {
        while let Ok(first) = self.entries.recv() {
            if !self.leaves.load(Ordering::Relaxed) {
                thread::park_timeout(GATHER);
            }
            let mut next = Some(first);
            while let Some(entry) = next {
                let whole = page.len();
                entry.write(page);
                bug::at("access-log");
                if page.len() > self.sheet.page() && whole > 0 {
                    self.write(&page[..whole]);
                    page.drain(..whole);
                }
                next = self.entries.try_recv().ok();
            }
            self.write(page);
            page.clear();
        }
    }

    fn write(&mut self, lines: &[u8]) {
        if self.gave_up {
            return self.losses.lost(sheet::count(lines), UNREAD);
        }
        let (leaves, gives_up) = (&self.leaves, &self.gives_up);
        let waits = || {
            if !leaves.load(Ordering::Relaxed) {
                return true;
            }
            let now = Instant::now();
            let then = gives_up.get().unwrap_or(now + PARTING);
            gives_up.set(Some(then));
            now < then
        };
        match self.sheet.write(lines, waits) {
            Ok(()) => self.losses.tell_if_due(),
            Err(Lost { lines, why }) => {
                self.gave_up = self.gives_up.get().is_some_and(|then| Instant::now() >= then);
                self.losses.lost(lines, &why);
            }
        }
    }
}

/// Counts what was lost, and tells of it now and then.
pub(in crate::observe) struct Losses {
    count: Counter,
    log: Log,
    /// How many were told of.
    told: AtomicU64,
    /// When, in milliseconds since the start and one more: nothing is never.
    last: AtomicU64,
    started: Instant,
    why: Mutex<String>,
}

const A_BUG: &str = "a bug in bearerd, which the log tells";
/// Why a line is lost that found no room.
pub(in crate::observe) const TOO_SLOW: &str = "whoever reads or stores it is too slow";

impl Losses {
    pub(in crate::observe) fn new(count: Counter, log: Log) -> Self {
        Self {
            count,
            log,
            told: AtomicU64::new(0),
            last: AtomicU64::new(0),
            started: Instant::now(),
            why: Mutex::default(),
        }
    }

    /// `lines` may be none, where something is wrong that cost nothing yet.
    pub(in crate::observe) fn lost(&self, lines: u64, why: &str) {
        self.count.inc_by(lines);
        if !self.is_due() {
            return;
        }
        if let Ok(mut last) = self.why.lock() {
            why.clone_into(&mut last);
        }
        self.say(why);
    }

    /// Tells of lines that went unsaid, if there are any and the last such event is long ago.
    fn tell_if_due(&self) {
        if self.count.get() > self.told.load(Ordering::Relaxed) && self.is_due() {
            self.tell();
        }
    }

    /// The same now.
    fn tell(&self) {
        if self.count.get() > self.told.load(Ordering::Relaxed) {
            let why = self.why.lock().map(|why| why.clone()).unwrap_or_default();
            self.say(&why);
        }
    }

    fn say(&self, why: &str) {
        let count = self.count.get();
        let lines = count.saturating_sub(self.told.swap(count, Ordering::Relaxed));
        let event = Event::AccessLogLost { lines, why };
        if self.log.says(event.level()) {
            self.log.write(&event.line());
        }
    }

    /// Whether it is time for another event; whoever hears so makes it.
    fn is_due(&self) -> bool {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = milliseconds(self.started.elapsed()).saturating_add(1);
        let last = self.last.load(Ordering::Relaxed);
        (last == 0 || now >= last.saturating_add(milliseconds(TELL_EVERY)))
            && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
