//! The files that a configuration names, read once and with limits.
//!
//! A trait, so that what a configuration means can be tested without a disk. Must never know why a file is read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// What one file held when it was looked at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub bytes: Vec<u8>,
    /// Whether every user of the machine may read it.
    pub world_readable: bool,
}

pub trait Files {
    /// Reads at most `limit` bytes and fails where there are more. `regular` refuses what is not a regular file: a pipe
    /// gives its contents only once, and the device files never end.
    fn read(&self, path: &Path, limit: usize, regular: bool) -> io::Result<Seen>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, limit: usize, regular: bool) -> io::Result<Seen> {
        // Asked before it is opened: opening a pipe waits for a writer.
        let metadata = std::fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        if regular && !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
        }
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is larger than {limit} bytes")));
        }
        Ok(Seen { bytes, world_readable: world_readable(&metadata) })
    }
}

#[cfg(unix)]
fn world_readable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn world_readable(_: &std::fs::Metadata) -> bool {
    false
}

/// Why a file cannot be read, in the words of this program; the system's words carry numbers that help nobody.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => String::from("does not exist"),
        io::ErrorKind::PermissionDenied => String::from("may not be read by this user"),
        io::ErrorKind::NotADirectory => String::from("does not exist: part of its path is a file"),
        _ => match error.raw_os_error() {
            Some(_) => format!("cannot be read: {error}"),
            None => error.to_string(),
        },
    }
}
