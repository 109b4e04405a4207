//! What arrived, in order, for a test to count and for the demo to tell.
//!
//! Must never know what an entry is.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use super::script::held;

/// A list that can be waited on.
pub struct Log<T> {
    entries: Mutex<Entries<T>>,
    /// How many there are, for who waits.
    length: watch::Sender<usize>,
}

struct Entries<T> {
    list: Vec<T>,
    /// Entries that are gone from the front, so that a late update does not hit another one.
    forgotten: usize,
}

/// Names an entry until the log is cleared.
#[derive(Clone, Copy, Debug)]
pub struct EntryId(usize);

/// The deadline passed.
#[derive(Debug, thiserror::Error)]
#[error("waited {within:?} for {wanted} entries, there are {found}")]
pub struct Late {
    pub wanted: usize,
    pub found: usize,
    pub within: Duration,
}

impl<T: Clone> Log<T> {
    pub fn new() -> Self {
        Self { entries: Mutex::new(Entries { list: Vec::new(), forgotten: 0 }), length: watch::Sender::new(0) }
    }

    pub fn all(&self) -> Vec<T> {
        held(&self.entries).list.clone()
    }

    pub fn len(&self) -> usize {
        held(&self.entries).list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&self) {
        let mut entries = held(&self.entries);
        entries.forgotten += entries.list.len();
        entries.list.clear();
        self.length.send_replace(0);
    }

    /// Waits until there are at least so many, and yields them all.
    pub async fn wait_for(&self, wanted: usize, within: Duration) -> Result<Vec<T>, Late> {
        let mut length = self.length.subscribe();
        match tokio::time::timeout(within, length.wait_for(|length| *length >= wanted)).await {
            Ok(_) => Ok(self.all()),
            Err(_) => Err(Late { wanted, found: self.len(), within }),
        }
    }

    /// Waits until there are more than so many, and yields what came after them. For a reader that follows along.
    pub async fn beyond(&self, known: usize) -> Vec<T> {
        let mut length = self.length.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = length.wait_for(|length| *length > known).await;
        held(&self.entries).list.get(known..).unwrap_or_default().to_vec()
    }

    /// Takes entries out from the front for as long as `wanted` wants them.
    pub fn take_while(&self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut entries = held(&self.entries);
        let end = entries.list.iter().position(|entry| !wanted(entry)).unwrap_or(entries.list.len());
        entries.forgotten += end;
        let taken = entries.list.drain(..end).collect();
        self.length.send_replace(entries.list.len());
        taken
    }

    pub(super) fn push(&self, entry: T) -> EntryId {
        let mut entries = held(&self.entries);
        entries.list.push(entry);
        self.length.send_replace(entries.list.len());
        EntryId(entries.forgotten + entries.list.len() - 1)
    }

    pub(super) fn update(&self, id: EntryId, change: impl FnOnce(&mut T)) {
        let mut entries = held(&self.entries);
        let at = id.0.checked_sub(entries.forgotten);
        if let Some(entry) = at.and_then(|at| entries.list.get_mut(at)) {
            change(entry);
        }
    }
}

impl<T: Clone> Default for Log<T> {
    fn default() -> Self {
        Self::new()
    }
}
