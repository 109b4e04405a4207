//! The files that a configuration names, read once and with limits.
//!
//! A trait, so that what a configuration means can be tested without a disk. Must never know why a file is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

/// What one file held when it was looked at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub bytes: Vec<u8>,
    /// Whether every user of the machine may read it, as far as its mode says who may.
    pub world_readable: bool,
}

pub trait Files {
    /// Reads at most `limit` bytes and fails where there are more. `regular` refuses what is not a regular file: a pipe
    /// gives its contents only once, and the device files never end.
    fn read(&self, path: &Path, limit: usize, regular: bool) -> io::Result<Seen>;

    /// Whether what it gives is what is there, so that it is worth looking at.
    fn is_real(&self) -> bool {
        true
    }

    /// Whether others than its owner may enter this folder, in which this process can make files.
    fn folder(&self, path: &Path) -> io::Result<bool>;

    /// Whether a unix socket is there.
    fn is_socket(&self, _: &Path) -> bool {
        false
    }
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
        Ok(Seen { bytes, world_readable: world_readable(&metadata) && !is_in_a_volume(path) })
    }

    fn folder(&self, path: &Path) -> io::Result<bool> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "is not a folder"));
        }
        writable(path, &metadata)
    }

    #[cfg(unix)]
    fn is_socket(&self, path: &Path) -> bool {
        use std::os::unix::fs::FileTypeExt as _;
        path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
    }
}

#[cfg(unix)]
fn writable(path: &Path, metadata: &std::fs::Metadata) -> io::Result<bool> {
    use rustix::fs::{Access, access};
    use std::os::unix::fs::PermissionsExt as _;
    access(path, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|_| io::Error::other("may not be written by this user"))?;
    Ok(metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn writable(_: &Path, _: &std::fs::Metadata) -> io::Result<bool> {
    Ok(false)
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

/// Whether a kubelet wrote it. It keeps a volume's files in a folder such as `..2026_11_21_10_20_30.7`, to which `..data`
/// leads (its atomic writer). Who may read them is decided by who mounts the volume: what is in it belongs to root, and
/// without a right for everybody no other user could read it, whom it is for.
fn is_in_a_volume(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else { return false };
    real.ancestors().skip(1).any(|folder| {
        let is_hidden = folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
        is_hidden && folder.with_file_name("..data").canonicalize().is_ok_and(|data| data == folder)
    })
}

/// The files of this machine, and what was found where.
#[derive(Default)]
pub struct Noted(Mutex<Findings>);

impl Noted {
    /// What was looked for, whether it was there or not.
    pub fn found(self) -> Findings {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for Noted {
    fn read(&self, path: &Path, limit: usize, regular: bool) -> io::Result<Seen> {
        let read = Disk.read(path, limit, regular);
        let finding = Finding { limit, regular, found: Found::of(&read) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.entry(path.to_owned()).or_default().push(finding);
        read
    }

    fn folder(&self, path: &Path) -> io::Result<bool> {
        Disk.folder(path)
    }

    fn is_socket(&self, path: &Path) -> bool {
        Disk.is_socket(path)
    }
}

/// What was found in files, so that it can be told later whether it is there still. Digests of secrets are in it: no `Debug`.
#[derive(Default)]
pub struct Findings(BTreeMap<PathBuf, Vec<Finding>>);

struct Finding {
    limit: usize,
    regular: bool,
    found: Found,
}

#[derive(PartialEq, Eq)]
enum Found {
    Contents { sha256: Vec<u8>, world_readable: bool },
    Nothing(io::ErrorKind, String),
}

impl Found {
    fn of(read: &io::Result<Seen>) -> Self {
        match read {
            Ok(Seen { bytes, world_readable }) => {
                let sha256 = digest(&SHA256, bytes).as_ref().to_vec();
                Self::Contents { sha256, world_readable: *world_readable }
            }
            Err(error) => Self::Nothing(error.kind(), error.to_string()),
        }
    }
}

impl Findings {
    pub fn files(&self) -> BTreeSet<PathBuf> {
        self.0.keys().cloned().collect()
    }

    /// Whether all of it would be found again. It blocks, as reading does. What is no file, such as a pipe, is not looked at:
    /// that would take it away.
    pub fn still_hold(&self) -> bool {
        self.0.iter().all(|(path, findings)| {
            std::fs::metadata(path).map_or(true, |about| about.is_file())
                && findings
                    .iter()
                    .all(|Finding { limit, regular, found }| Found::of(&Disk.read(path, *limit, *regular)) == *found)
        })
    }
}

/// Why a file cannot be read, in the words of this program; the system's words carry numbers that help nobody.
pub fn why(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        return String::from(MISSING);
    }
    if kind == io::ErrorKind::NotADirectory && error.raw_os_error().is_some() {
        return String::from("does not exist: part of its path is a file");
    }
    if kind == io::ErrorKind::PermissionDenied {
        return String::from(FORBIDDEN);
    }
    match error.raw_os_error() {
        Some(_) => format!("cannot be read: {error}"),
        // What `Disk` says itself needs no introduction.
        None => error.to_string(),
    }
}

/// What to do about a file of which [`why`] says this.
pub fn cure(why: &str) -> Option<&'static str> {
    match why {
        MISSING => Some("write it, or correct the path; a relative one in a configuration starts beside that file"),
        FORBIDDEN => {
            Some("give the user that bearerd runs as the right to read it: `chown USER FILE`, `chmod 0400 FILE`")
        }
        _ => None,
    }
}

const MISSING: &str = "does not exist";
const FORBIDDEN: &str = "may not be read by this user";

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("bearerd-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_read_within_limits() {
        let folder = Folder::new("files");
        let file = folder.0.join("secret");
        std::fs::write(&file, "four").unwrap();
        assert_eq!(Disk.read(&file, 4, true).unwrap().bytes, b"four");
        let told = |path: &Path, limit| why(&Disk.read(path, limit, true).unwrap_err());
        assert_eq!(told(&file, 3), "is larger than 3 bytes");
        assert_eq!(told(&folder.0, 3), "is a directory");
        assert_eq!(told(&folder.0.join("nothing"), 3), "does not exist");
        assert_eq!(told(&file.join("below"), 3), "does not exist: part of its path is a file");
    }

    #[test]
    #[cfg(unix)]
    fn who_may_read_a_kubelets_file_is_not_for_its_mode_to_say() {
        use std::os::unix::fs::symlink;
        let folder = Folder::new("volume");
        let at = |name: &str| folder.0.join(name);
        // What a kubelet leaves of a Secret with the keys `secret` and, by `items`, `sub/key`.
        std::fs::create_dir_all(at("..2026_11_21_10_20_30.7/sub")).unwrap();
        symlink("..2026_11_21_10_20_30.7", at("..data")).unwrap();
        for (name, top) in [("secret", "secret"), ("sub/key", "sub")] {
            std::fs::write(at("..data").join(name), "x").unwrap();
            symlink(Path::new("..data").join(top), at(top)).unwrap();
        }
        symlink(at("secret"), at("elsewhere")).unwrap();
        for name in ["secret", "sub/key", "elsewhere", "..data/secret"] {
            assert!(!Disk.read(&at(name), 9, true).unwrap().world_readable, "{name}");
        }
        // Beside a volume, or in a folder that is only called like one's.
        std::fs::create_dir(at("..other")).unwrap();
        for name in ["plain", "..other/secret"] {
            std::fs::write(at(name), "x").unwrap();
            assert!(Disk.read(&at(name), 9, true).unwrap().world_readable, "{name}");
        }
    }

    #[test]
    fn what_was_found_holds_until_it_changes() {
        let folder = Folder::new("findings");
        let at = |name: &str| folder.0.join(name);
        std::fs::write(at("file"), "x").unwrap();
        let noted = Noted::default();
        for name in ["file", "nothing"] {
            let _ = noted.read(&at(name), 1, true);
        }
        let found = noted.found();
        assert_eq!(found.files(), [at("file"), at("nothing")].into());
        assert!(found.still_hold());
        std::fs::write(at("file"), "y").unwrap();
        assert!(!found.still_hold(), "as long, and other contents");
        std::fs::write(at("file"), "x").unwrap();
        assert!(found.still_hold());
        std::fs::write(at("nothing"), "").unwrap();
        assert!(!found.still_hold(), "there now");
    }

    #[test]
    #[cfg(unix)]
    fn a_socket_is_known_and_a_file_is_none() {
        let folder = Folder::new("sockets");
        let at = |name: &str| folder.0.join(name);
        let _socket = std::os::unix::net::UnixListener::bind(at("app.sock")).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        let found = ["app.sock", "file", "nothing"].map(|name| Noted::default().is_socket(&at(name)));
        assert_eq!(found, [true, false, false]);
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_says_who_may_enter_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("folders");
        for (mode, open) in [(0o700, false), (0o750, true), (0o755, true)] {
            std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Disk.folder(&folder.0).unwrap(), open, "{mode:o}");
        }
        let file = folder.0.join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(Disk.folder(&file).unwrap_err().to_string(), "is not a folder");
        assert_eq!(why(&Disk.folder(&folder.0.join("nothing")).unwrap_err()), "does not exist");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_says_who_may_read_it_and_a_device_is_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("modes");
        let file = folder.0.join("secret");
        std::fs::write(&file, "x").unwrap();
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Disk.read(&file, 9, true).unwrap().world_readable, open, "{mode:o}");
        }
        assert_eq!(why(&Disk.read(Path::new("/dev/zero"), 9, true).unwrap_err()), "is not a regular file");
    }
}
