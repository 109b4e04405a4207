//! What the access log is written into: standard output, a file, or a pipe by its path.
//!
//! A file that was moved away is opened anew, as logrotate wants it, without a signal. Whatever goes wrong here costs
//! lines, and says how many; it never waits for longer than whoever writes lets it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, OFlags, access};

use super::AccessLog;

/// A new file is for its owner and a group that may read logs: it says who did what.
const MODE: u32 = 0o640;

/// How often it is looked whether the path still leads to the file that is open: a line or two in the old file do no
/// harm, and a look at each line would be one more system call for each.
const LOOK: Duration = Duration::from_secs(1);

/// What is written to a file at a time. To a pipe it is what goes in whole (PIPE_BUF on Linux), so that no other's words
/// come in between.
const FILE_PAGE: usize = 64 * 1024;
const PIPE_PAGE: usize = 4 * 1024;

/// How long a pipe that is full is waited for before somebody asks whether that still makes sense.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why lines are lost that a pipe did not take.
pub(super) const UNREAD: &str = "nobody reads it";

/// An open access log.
#[derive(Debug)]
pub struct Sheet {
    /// `None` is standard output, which is nobody's to open anew.
    path: Option<PathBuf>,
    open: Option<Open>,
    looked: Instant,
    /// The last line was not written to its end.
    torn: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Of device and file.
    identity: (u64, u64),
    /// It may be full, and then somebody has to read it first.
    is_pipe: bool,
}

/// It cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` cannot be written to: {error}")]
pub struct SheetError {
    pub path: String,
    /// Part of the message already, so not its source.
    pub error: io::Error,
}

/// What could not be written.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) lines: u64,
    pub(super) why: String,
}

impl Sheet {
    /// Makes the file if there is none. A pipe that nobody reads is opened later, when somebody does.
    ///
    /// # Errors
    /// There is no such folder, or it, or what is there, is not this user's to write to.
    pub fn open(to: &AccessLog) -> Result<Self, SheetError> {
        let (path, open) = match to {
            AccessLog::Stdout => {
                let failed = |error| SheetError { path: "stdout".to_owned(), error };
                let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
                (None, Some(Open::of(File::from(stdout)).map_err(failed)?))
            }
            AccessLog::File(path) => match Open::at(path) {
                Ok(open) => (Some(path.clone()), Some(open)),
                Err(error) if is_unread(&error) => (Some(path.clone()), None),
                Err(error) => return Err(SheetError { path: path.display().to_string(), error }),
            },
        };
        Ok(Self { path, open, looked: Instant::now(), torn: false })
    }

    /// Whether `open` would succeed, as far as can be seen without making or opening anything: whoever reads a pipe
    /// would take that for its end.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn could_open(to: &AccessLog) -> Result<(), SheetError> {
        let AccessLog::File(path) = to else { return Ok(()) };
        Self::could_write(path).map_err(|error| SheetError { path: path.display().to_string(), error })
    }

    fn could_write(path: &Path) -> io::Result<()> {
        match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => Err(rustix::io::Errno::ISDIR.into()),
            Ok(_) => Ok(access(path, Access::WRITE_OK)?),
            // It would be made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                Ok(access(folder.unwrap_or(Path::new(".")), Access::WRITE_OK | Access::EXEC_OK)?)
            }
            Err(error) => Err(error),
        }
    }

    /// How many bytes of whole lines are worth one write.
    pub(super) fn page(&self) -> usize {
        match &self.open {
            Some(Open { is_pipe: false, .. }) => FILE_PAGE,
            Some(_) | None => PIPE_PAGE,
        }
    }

    /// Writes whole lines. `waits` is asked now and then, while nobody reads, whether to go on waiting.
    ///
    /// # Errors
    /// How many of them are lost, and why.
    pub(super) fn write(&mut self, lines: &[u8], waits: impl Fn() -> bool) -> Result<(), Lost> {
        let outcome = self.look();
        let Some(open) = &mut self.open else {
            let why = outcome.err().unwrap_or_else(|| "it could not be opened again".to_owned());
            return Err(Lost { lines: count(lines), why });
        };
        // What was torn is ended first: a line begins where a line begins.
        let torn = if self.torn { open.write_all(b"\n", &waits).map_err(|(_, error)| (0, error)) } else { Ok(()) };
        match torn.and_then(|()| open.write_all(lines, &waits)) {
            Ok(()) => self.torn = false,
            Err((written, error)) => {
                let (written, rest) = lines.split_at(written);
                self.torn = if written.is_empty() { self.torn } else { !written.ends_with(b"\n") };
                if open.is_pipe && self.path.is_some() {
                    // Whoever reads it next gets whole lines.
                    (self.open, self.torn) = (None, false);
                }
                return Err(Lost { lines: count(rest), why: error.to_string() });
            }
        }
        // It was written, if not where it should be.
        outcome.map_err(|why| Lost { lines: 0, why })
    }

    /// Looks whether the path still leads to what is open, and opens what is there if not.
    fn look(&mut self) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let there = std::fs::metadata(path).ok().map(|there| (there.dev(), there.ino()));
        if self.open.as_ref().is_some_and(|open| Some(open.identity) == there) {
            return Ok(());
        }
        match Open::at(path) {
            Ok(open) => {
                (self.open, self.torn) = (Some(open), false);
                Ok(())
            }
            Err(error) if self.open.is_none() => Err(error.to_string()),
            Err(error) => {
                Err(format!("it was moved away and cannot be opened anew ({error}); lines go on into the old one"))
            }
        }
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        // Of a pipe that nobody reads, opening would wait for somebody, and writing, too, when it is full.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let flags = i32::try_from(flags).map_err(io::Error::other)?;
        Self::of(OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags).open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        let there = file.metadata()?;
        let kind = there.file_type();
        let is_pipe = kind.is_fifo() || kind.is_socket() || kind.is_char_device();
        Ok(Self { identity: (there.dev(), there.ino()), is_pipe, file })
    }

    /// Else how much of it was written, and why not all.
    fn write_all(&mut self, bytes: &[u8], waits: &impl Fn() -> bool) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            if self.is_pipe && !self.wait(waits).map_err(|error| (written, error))? {
                return Err((written, io::Error::other(UNREAD)));
            }
            match self.file.write(rest) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Waits until it takes something, or ends; `false` if that takes too long.
    fn wait(&self, waits: &impl Fn() -> bool) -> io::Result<bool> {
        loop {
            let mut asked = [PollFd::new(&self.file, PollFlags::OUT)];
            match poll(&mut asked, Some(&TURN)) {
                Ok(0) if !waits() => return Ok(false),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A pipe that has no reader yet.
fn is_unread(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

/// Lines in a text.
pub(super) fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("bearerd-sheet-{}-{}", std::process::id(), fastrand::u64(..));
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn log(&self) -> PathBuf {
            self.0.join("access.log")
        }

        fn read(&self) -> String {
            std::fs::read_to_string(self.log()).unwrap()
        }

        fn open(&self) -> Sheet {
            Sheet::open(&AccessLog::File(self.log())).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn write(sheet: &mut Sheet, text: &str) -> Option<(u64, String)> {
        sheet.write(text.as_bytes(), || false).err().map(|lost| (lost.lines, lost.why))
    }

    /// As if the last look had been long ago.
    fn later(sheet: &mut Sheet) {
        sheet.looked -= 2 * LOOK;
    }

    #[test]
    fn a_new_file_is_not_for_everybody_and_an_old_one_goes_on() {
        let folder = Folder::new();
        assert_eq!(write(&mut folder.open(), "1\n"), None);
        assert_eq!(std::fs::metadata(folder.log()).unwrap().permissions().mode() & 0o777 & !MODE, 0);
        assert_eq!(write(&mut folder.open(), "2\n"), None);
        assert_eq!(folder.read(), "1\n2\n");
    }

    #[test]
    fn a_file_that_was_moved_is_opened_anew_and_looked_for_once_a_second() {
        let folder = Folder::new();
        let old = folder.0.join("access.log.1");
        let mut sheet = folder.open();
        assert_eq!(write(&mut sheet, "1\n"), None);
        std::fs::rename(folder.log(), &old).unwrap();
        assert_eq!(write(&mut sheet, "2\n"), None);
        assert!(!folder.log().exists(), "the second is not over");
        later(&mut sheet);
        assert_eq!(write(&mut sheet, "3\n"), None);
        assert_eq!((std::fs::read_to_string(&old).unwrap().as_str(), folder.read().as_str()), ("1\n2\n", "3\n"));
        // As with `create`: another file is there already.
        std::fs::rename(folder.log(), &old).unwrap();
        std::fs::write(folder.log(), "").unwrap();
        later(&mut sheet);
        assert_eq!(write(&mut sheet, "4\n"), None);
        // As with `copytruncate`.
        std::fs::write(folder.log(), "").unwrap();
        assert_eq!(write(&mut sheet, "5\n"), None);
        assert_eq!(folder.read(), "5\n");
    }

    #[test]
    fn whether_it_could_be_opened_is_seen_without_opening_it() {
        let folder = Folder::new();
        let both = |path: PathBuf| {
            let to = AccessLog::File(path);
            let seen = Sheet::could_open(&to).map_err(|error| error.to_string());
            (seen, Sheet::open(&to).map(|_| ()).map_err(|error| error.to_string()))
        };
        assert!(Sheet::could_open(&AccessLog::File(folder.log())).is_ok() && !folder.log().exists());
        std::fs::write(folder.0.join("file"), "").unwrap();
        for name in ["none/x.log", "", "file/x.log", "access.log", "file"] {
            let (seen, opened) = both(folder.0.join(name));
            assert_eq!((seen.is_ok(), &seen), (name == "access.log" || name == "file", &opened), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_opened_anew_goes_on_into_the_old_one_and_says_so() {
        let folder = Folder::new();
        let mut sheet = folder.open();
        std::fs::remove_file(folder.log()).unwrap();
        std::fs::create_dir(folder.log()).unwrap();
        later(&mut sheet);
        let (lines, why) = write(&mut sheet, "1\n").unwrap();
        assert!(lines == 0 && why.starts_with("it was moved away"), "{why}");
        assert_eq!(write(&mut sheet, "2\n"), None, "and once a second");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_costs_lines_and_says_how_many() {
        let mut sheet = Sheet::open(&AccessLog::File("/dev/full".into())).unwrap();
        let (lines, why) = write(&mut sheet, "1\n2\n3\n").unwrap();
        assert!(lines == 3 && why.contains("No space left"), "{lines} {why}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_is_opened_when_somebody_reads_it_and_given_up_when_nobody_does() {
        use std::io::Read as _;

        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let folder = Folder::new();
        mknodat(CWD, folder.log(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut sheet = folder.open();
        assert_eq!(write(&mut sheet, "1\n").unwrap().0, 1, "nobody reads it");
        let read = || OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(folder.log());
        let mut reader = read().unwrap();
        later(&mut sheet);
        assert_eq!(write(&mut sheet, "2\n"), None);
        let mut text = [0; 64];
        let length = reader.read(&mut text).unwrap();
        assert_eq!(&text[..length], b"2\n");
        // Until it is full, and whole pages go in.
        let page = format!("{}\n", "x".repeat(PIPE_PAGE - 1));
        let lost = (0..1_000).find_map(|_| write(&mut sheet, &page)).unwrap();
        assert_eq!(lost, (1, "nobody reads it".to_owned()));
        // Whoever read it has left, and somebody else comes.
        drop(reader);
        later(&mut sheet);
        assert!(write(&mut sheet, "3\n").is_some());
        let mut reader = read().unwrap();
        later(&mut sheet);
        assert_eq!(write(&mut sheet, "4\n"), None);
        let length = reader.read(&mut text).unwrap();
        assert_eq!(&text[..length], b"4\n");
    }

    #[test]
    fn what_cannot_be_opened_at_all_is_an_error_with_its_path() {
        let folder = Folder::new();
        let path = folder.0.join("none/access.log");
        let error = Sheet::open(&AccessLog::File(path.clone())).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("No such file"), "{error}");
    }
}
