//! What is remembered of a token over restarts: when it was asked for, and how long the provider wishes to be left
//! alone. A process that crashes in a loop, or a cron job, must not run into a limit that one process would respect.
//!
//! On disk the times are dates, since the clock since boot begins anew. Never a token, never a secret.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::machine::Memory;
use crate::clock::Now;

/// One token's file in the state directory.
#[derive(Debug)]
pub(super) struct MemoryFile {
    path: PathBuf,
    /// What stands in it, so that it is written only when something is new.
    written: Memory,
    /// When the directory did not take the last, on the clock since boot.
    failed_at: Option<Duration>,
}

/// Seconds since 1970, whole: a limit is not counted finer.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    embargo_until: u64,
    /// For each credential, in the order of the configuration.
    asked: Vec<Vec<u64>>,
}

/// Names hold `/` and `:`; a file name holds neither.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// How long after a failure it is tried again: a full disk is not written to with every answer of an API.
const AGAIN: Duration = Duration::from_secs(5);

/// A budget of ten thousand requests for each of a dozen credentials fits well.
const MAX: u64 = 4 * 1024 * 1024;

impl MemoryFile {
    pub(super) fn new(directory: &Path, token: &str) -> Self {
        let name = format!("{}.json", utf8_percent_encode(token, RESERVED));
        Self { path: directory.join(name), written: Memory::default(), failed_at: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What an earlier process left; nothing if there was none, or if it cannot be made out: then a limit may be run
    /// into once, which is no reason not to serve.
    pub(super) fn read(&self, wall: SystemTime) -> Memory {
        use std::io::Read as _;
        let mut text = String::new();
        let read = std::fs::File::open(&self.path).and_then(|file| file.take(MAX).read_to_string(&mut text));
        // What was read before it failed is not the whole.
        remembered(if read.is_ok() { &text } else { "" }, wall)
    }

    /// Writes it if something is new. What was not taken is tried again after a while; the error is the first of them in a
    /// row.
    pub(super) fn remember(&mut self, memory: &Memory, now: Now) -> Option<io::Error> {
        if !self.is_new(memory) || self.failed_at.is_some_and(|at| now.mono < at + AGAIN) {
            return None;
        }
        let failed = self.write(memory, now.wall).err();
        let failed_before = std::mem::replace(&mut self.failed_at, failed.is_some().then_some(now.mono)).is_some();
        failed.filter(|_| !failed_before)
    }

    fn is_new(&self, memory: &Memory) -> bool {
        let counts = |memory: &Memory| memory.asked.iter().map(Vec::len).collect::<Vec<_>>();
        let newest = |memory: &Memory| memory.asked.iter().filter_map(|ages| ages.last()).min().copied();
        // Ages grow and wishes shrink by themselves; a younger age or a longer wish is news.
        counts(memory) != counts(&self.written)
            || newest(memory) < newest(&self.written)
            || memory.embargo > self.written.embargo
    }

    /// Beside the file and renamed over it, readable by nobody else.
    ///
    /// # Errors
    /// The directory does not take it.
    fn write(&mut self, memory: &Memory, wall: SystemTime) -> io::Result<()> {
        let now = since_1970(wall);
        let document = Document {
            embargo_until: if memory.embargo.is_zero() { 0 } else { now + memory.embargo.as_secs() + 1 },
            asked: memory
                .asked
                .iter()
                .map(|ages| ages.iter().map(|age| now.saturating_sub(age.as_secs())).collect())
                .collect(),
        };
        let beside = self.path.with_extension("new");
        let mut file = private(&beside)?;
        file.write_all(&serde_json::to_vec(&document)?)?;
        drop(file);
        std::fs::rename(&beside, &self.path)?;
        self.written = memory.clone();
        Ok(())
    }
}

/// What a file with this text remembers; nothing where it is no such file.
pub fn remembered(text: &str, wall: SystemTime) -> Memory {
    let document: Document = serde_json::from_str(text).unwrap_or_default();
    let now = since_1970(wall);
    Memory {
        embargo: Duration::from_secs(document.embargo_until.saturating_sub(now)),
        asked: document
            .asked
            .into_iter()
            // A date in the future is of a clock that was wrong; it counts as now.
            .map(|times| times.into_iter().map(|at| Duration::from_secs(now.saturating_sub(at))).collect())
            .collect(),
    }
}

fn since_1970(wall: SystemTime) -> u64 {
    wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn private(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn at(seconds: u32) -> Now {
        Now { mono: seconds * SECOND, wall: wall() + seconds * SECOND }
    }

    fn file() -> (PathBuf, MemoryFile) {
        let directory =
            std::env::temp_dir().join(format!("bearerd-memory-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&directory).unwrap();
        let file = MemoryFile::new(&directory, "a/b:c");
        (directory, file)
    }

    #[test]
    fn what_was_written_is_read_later_as_of_then() {
        let (directory, mut file) = file();
        assert_eq!(file.path().file_name().unwrap(), "a%2Fb%3Ac.json");
        assert_eq!(file.read(wall()), Memory::default());
        let memory = Memory { embargo: 60 * SECOND, asked: vec![vec![30 * SECOND, 10 * SECOND], vec![]] };
        file.write(&memory, wall()).unwrap();
        let later = file.read(wall() + 20 * SECOND);
        assert_eq!(later.asked, [vec![50 * SECOND, 30 * SECOND], vec![]]);
        assert_eq!(later.embargo, 41 * SECOND, "rounded up: a second early is a second refusal");
        assert_eq!(file.read(wall() + 3_600 * SECOND).embargo, Duration::ZERO);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_reads_it_and_nothing_old_is_written_again() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let (directory, mut file) = file();
        let memory = Memory { embargo: 60 * SECOND, asked: vec![vec![SECOND]] };
        assert!(file.remember(&memory, at(0)).is_none());
        let first = std::fs::metadata(file.path()).unwrap();
        assert_eq!(first.permissions().mode() & 0o777, 0o600);
        let aged = Memory { embargo: 50 * SECOND, asked: vec![vec![11 * SECOND]] };
        assert!(file.remember(&aged, at(10)).is_none());
        assert_eq!(std::fs::metadata(file.path()).unwrap().ino(), first.ino(), "nothing new: not touched");
        let asked_again = Memory { embargo: 50 * SECOND, asked: vec![vec![12 * SECOND, Duration::ZERO]] };
        assert!(file.remember(&asked_again, at(11)).is_none());
        assert_ne!(std::fs::metadata(file.path()).unwrap().ino(), first.ino());
        std::fs::remove_dir_all(directory).unwrap();
    }

    /// It was given up for good, so that one moment without room made every restart forget.
    #[test]
    fn what_was_not_taken_is_told_once_and_written_when_there_is_room() {
        let (directory, mut file) = file();
        let memory = Memory { embargo: Duration::ZERO, asked: vec![vec![SECOND]] };
        std::fs::remove_dir(&directory).unwrap();
        assert!(file.remember(&memory, at(0)).is_some());
        assert!(file.remember(&memory, at(5)).is_none());
        // Nothing new was to be written in between, which is no sign of room.
        assert!(file.remember(&Memory::default(), at(11)).is_none());
        assert!(file.remember(&memory, at(12)).is_none());
        std::fs::create_dir(&directory).unwrap();
        assert!(file.remember(&memory, at(16)).is_none());
        assert_eq!(file.read(wall()), Memory::default(), "not every moment");
        assert!(file.remember(&memory, at(17)).is_none());
        assert_eq!(file.read(at(17).wall), memory);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_cannot_be_made_out_is_nothing() {
        let (directory, file) = file();
        for text in ["", "{", "[]", "{\"embargo_until\": -1, \"asked\": []}", "\u{0}"] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(file.read(wall()), Memory::default(), "{text}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
