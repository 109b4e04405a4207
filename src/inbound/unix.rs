//! Unix sockets: a file that says who may connect, and a kernel that says who did.
//!
//! What only unix has is here and nowhere else in this room. Must never know what is spoken over a socket.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Group, User};
use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, listen, socket};
use rustix::process::{geteuid, umask};
use tokio::net::UnixStream;

use super::listener::{BACKLOG, BindFault};
use super::settings::UnixSocket;

/// The file of a bound socket; dropped, it is removed, unless it is another's by now.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device and inode.
type Identity = (u64, u64);

/// The mask is the process's, so two that bind at once would undo each other's.
static MASK: Mutex<()> = Mutex::new(());

/// Binds a socket, at no moment more open than it will be. A file that a dead process left is replaced.
///
/// # Errors
/// Somebody listens there already, something else than a socket is there, a user or group does not exist or cannot be
/// given the socket, or the system refuses.
pub(super) fn bind(settings: &UnixSocket) -> Result<(UnixListener, SocketFile), BindFault> {
    // First what can be wrong without leaving anything behind.
    let (owner, group) = owners(settings)?;
    clear(&settings.path)?;
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).map_err(io::Error::from)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(io::Error::from)?;
    let address = SocketAddrUnix::new(&settings.path).map_err(io::Error::from)?;
    {
        let _alone = MASK.lock().unwrap_or_else(PoisonError::into_inner);
        let before = umask(Mode::from_raw_mode(settings.mode).complement());
        let bound = rustix::net::bind(&socket, &address);
        umask(before);
        bound.map_err(|error| match error {
            Errno::ADDRINUSE => BindFault::Taken,
            error => io::Error::from(error).into(),
        })?;
    }
    let file = SocketFile::of(&settings.path)?;
    if owner.is_some() || group.is_some() {
        lchown(&settings.path, owner, group).map_err(BindFault::NotGiven)?;
    }
    // Until now nobody could connect, whatever the file says.
    listen(&socket, BACKLOG).map_err(io::Error::from)?;
    let socket = UnixListener::from(socket);
    socket.set_nonblocking(true)?;
    Ok((socket, file))
}

/// Holds the file of a socket that was bound for us to what its listener says of who may connect.
///
/// # Errors
/// It is not as that says, or a user or group does not exist.
pub(super) fn fits(settings: &UnixSocket) -> Result<(), BindFault> {
    let (owner, group) = owners(settings)?;
    // Then nobody is let in but our own user and root, whatever a file says.
    if settings.is_private() {
        return Ok(());
    }
    let file = settings.path.symlink_metadata()?;
    let (uid, gid, mode) = (file.uid(), file.gid(), file.mode() & 0o7777);
    let is_open = mode & 0o022 & !settings.mode != 0;
    if is_open || owner.is_some_and(|owner| owner != uid) || group.is_some_and(|group| group != gid) {
        return Err(BindFault::GivenOtherwise { uid, gid, mode });
    }
    Ok(())
}

/// Makes room where a dead process left its socket.
fn clear(path: &Path) -> Result<(), BindFault> {
    let there = match path.symlink_metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !there.file_type().is_socket() {
        return Err(BindFault::Occupied);
    }
    if answers(path)? {
        return Err(BindFault::Taken);
    }
    // Another start may have cleared it as well, and bound already.
    if path.symlink_metadata().is_ok_and(|now| identity(&now) == identity(&there)) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether somebody listens. Never waits: one whose queue is full listens all the same.
///
/// # Errors
/// Who asks may not know.
pub fn answers(path: &Path) -> Result<bool, BindFault> {
    let asking = socket(AddressFamily::UNIX, SocketType::STREAM, None).map_err(io::Error::from)?;
    ioctl_fionbio(&asking, true).map_err(io::Error::from)?;
    match connect(&asking, &SocketAddrUnix::new(path).map_err(io::Error::from)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // The last is a socket of another kind, and so another program's.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => Ok(true),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// The numbers of a socket's owner and group.
///
/// # Errors
/// This machine knows no user or no group of that name.
pub fn owners(settings: &UnixSocket) -> Result<(Option<u32>, Option<u32>), BindFault> {
    let owner = settings.owner.as_deref().map(user).transpose()?;
    Ok((owner, settings.group.as_deref().map(group).transpose()?))
}

fn user(name: &str) -> Result<u32, BindFault> {
    match name.parse() {
        Ok(number) => Ok(number),
        Err(_) => {
            let user = User::from_name(name).map_err(io::Error::from)?;
            Ok(user.ok_or_else(|| BindFault::NoUser(name.to_owned()))?.uid.as_raw())
        }
    }
}

fn group(name: &str) -> Result<u32, BindFault> {
    match name.parse() {
        Ok(number) => Ok(number),
        Err(_) => {
            let group = Group::from_name(name).map_err(io::Error::from)?;
            Ok(group.ok_or_else(|| BindFault::NoGroup(name.to_owned()))?.gid.as_raw())
        }
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(&path.symlink_metadata()?) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.path.symlink_metadata().is_ok_and(|now| identity(&now) == self.identity) {
            // Best effort: what is left answers nobody, and the next start clears it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The user at the other end, as the kernel noted it when the connection was made (`SO_PEERCRED`).
///
/// # Errors
/// The system does not say.
pub(super) fn peer(stream: &UnixStream) -> io::Result<u32> {
    Ok(stream.peer_cred()?.uid())
}

/// Whether that is our own user, or root, who could read our memory anyway.
pub(super) fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    fn settings(path: &Path, mode: u32) -> UnixSocket {
        UnixSocket { path: path.to_owned(), mode, owner: None, group: None }
    }

    /// A folder of its own for a test.
    fn folder() -> PathBuf {
        let path = std::env::temp_dir().join(format!("bearerd-unix-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Watched by a thread that does nothing else: a rare moment is seen in the end.
    #[test]
    fn at_no_moment_is_a_socket_more_open_than_it_will_be() {
        let folder = folder();
        let path = folder.join("app.sock");
        let (watched, over, seen) = (path.clone(), AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(metadata) = watched.symlink_metadata() {
                        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{:o}", metadata.permissions().mode());
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            // Until enough was seen, however busy the machine is.
            let mut rounds = 0;
            while rounds < 500 || (seen.load(Ordering::Relaxed) < 1_000 && !looks.is_finished()) {
                let (socket, file) = bind(&settings(&path, 0o600)).unwrap();
                assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
                drop((socket, file));
                rounds += 1;
            }
            over.store(true, Ordering::Relaxed);
        });
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_file_of_another_is_not_removed() {
        let folder = folder();
        let path = folder.join("app.sock");
        let (socket, file) = bind(&settings(&path, 0o600)).unwrap();
        std::fs::rename(&path, folder.join("kept")).unwrap();
        let (other, others) = bind(&settings(&path, 0o600)).unwrap();
        drop((socket, file));
        assert!(path.exists());
        drop((other, others));
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_file_of_an_inherited_socket_is_no_more_open_than_its_listener_says() {
        let folder = folder();
        let path = folder.join("app.sock");
        std::fs::write(&path, "").unwrap();
        let own = path.metadata().unwrap();
        let (uid, gid) = (own.uid().to_string(), own.gid().to_string());
        let group = |mode, group: &str| UnixSocket { group: Some(group.into()), ..settings(&path, mode) };
        for (file, settings, fine) in [
            // Of a private one it does not matter: others are turned away by their user.
            (0o666, settings(&path, 0o600), true),
            (0o666, settings(&path, 0o660), false),
            (0o660, settings(&path, 0o660), true),
            (0o600, settings(&path, 0o666), true),
            (0o660, group(0o660, &gid), true),
            (0o660, group(0o660, "4294967294"), false),
            (0o666, UnixSocket { owner: Some(uid.as_str().into()), ..settings(&path, 0o600) }, false),
            (0o600, UnixSocket { owner: Some(uid.as_str().into()), ..settings(&path, 0o600) }, true),
            (0o600, UnixSocket { owner: Some("4294967294".into()), ..settings(&path, 0o600) }, false),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file)).unwrap();
            let told = fits(&settings);
            assert_eq!(told.is_ok(), fine, "{file:o} {settings:?}: {told:?}");
        }
        std::fs::remove_file(&path).unwrap();
        // Whom a file lets in that is not to be seen from here, nobody knows.
        assert!(fits(&settings(&path, 0o660)).is_err() && fits(&settings(&path, 0o600)).is_ok());
        assert!(matches!(fits(&group(0o600, "no-such-group")), Err(BindFault::NoGroup(_))));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn names_and_numbers_lead_to_users_and_groups() {
        assert_eq!((user("root").unwrap(), user("1234").unwrap(), group("5678").unwrap()), (0, 1234, 5678));
        assert!(matches!(user("no-such-user"), Err(BindFault::NoUser(name)) if name == "no-such-user"));
        assert!(matches!(group("no-such-group"), Err(BindFault::NoGroup(_))));
    }
}
