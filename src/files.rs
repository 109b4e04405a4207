//! Tells when the content of a file changes, however it changes.
//!
//! The directory is watched, not the file: kubelet swaps a `..data` link beside it, editors rename over it. Contents are
//! compared by digest, so a touch is no change. A backstop looks every 30 s, for file systems that tell nothing. Must
//! never know what the files are for, and keeps nothing of what is in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// For network file systems and for a machine that is out of inotify watches.
const BACKSTOP: Duration = Duration::from_secs(30);

/// A file that is written in place may be half written; when it has been left alone for this long it is not.
const QUIET: Duration = Duration::from_secs(2);

/// A secret or a certificate bundle is never longer; what is, is compared by its first part.
const MAX_READ: u64 = 16 * 1024 * 1024;

/// Watches `paths` until the receiver is dropped; it is marked as changed whenever a content did.
///
/// Must be called within a tokio runtime, on which the watching runs.
pub fn watch(paths: impl IntoIterator<Item = PathBuf>) -> watch::Receiver<()> {
    let (sender, receiver) = watch::channel(());
    let files: Vec<_> = paths.into_iter().map(Watched::new).collect();
    if !files.is_empty() {
        tokio::spawn(follow(files, sender));
    }
    receiver
}

async fn follow(mut files: Vec<Watched>, changed: watch::Sender<()>) {
    let bell = Arc::new(Notify::new());
    let ring = Arc::clone(&bell);
    // Without a watcher the backstop still serves.
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| is_a_reading(event.kind)) {
            return;
        }
        ring.notify_one();
    })
    .ok();
    let mut directories = BTreeSet::new();
    loop {
        let now = Instant::now();
        let mut look_again = now + BACKSTOP;
        let mut news = false;
        for file in &mut files {
            // A link may lead elsewhere since the last look.
            if let Some(watcher) = &mut watcher {
                for directory in file.directories() {
                    if !directories.contains(&directory)
                        && watcher.watch(&directory, RecursiveMode::NonRecursive).is_ok()
                    {
                        directories.insert(directory);
                    }
                }
            }
            match file.look(now) {
                Look::Same => {}
                Look::Unsettled(until) => look_again = look_again.min(until),
                Look::Changed => news = true,
            }
        }
        if news {
            changed.send_replace(());
        }
        tokio::select! {
            () = changed.closed() => return,
            () = bell.notified() => {}
            () = tokio::time::sleep_until(look_again) => {}
        }
    }
}

/// Whether somebody only looked. We do so ourselves after every event, so taking that for news would never end.
fn is_a_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access != AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => false,
    }
}

/// One file as it was when it was last told about.
struct Watched {
    path: PathBuf,
    told: Option<Content>,
    /// What was seen since and is not told yet, and when it was seen first.
    pending: Option<(Content, Instant)>,
}

#[derive(Clone, PartialEq, Eq)]
struct Content {
    inode: u64,
    modified: Option<SystemTime>,
    digest: [u8; 32],
}

enum Look {
    Same,
    /// Changed, and may still be changing: look again then.
    Unsettled(Instant),
    Changed,
}

impl Watched {
    fn new(path: PathBuf) -> Self {
        Self { told: Content::of(&path), path, pending: None }
    }

    fn look(&mut self, now: Instant) -> Look {
        // A file that is gone for a moment is being replaced; what it held stays in force.
        let Some(content) = Content::of(&self.path) else { return Look::Same };
        if self.told.as_ref().is_some_and(|told| told.digest == content.digest) {
            self.told = Some(content);
            self.pending = None;
            return Look::Same;
        }
        let swapped = self.told.as_ref().is_none_or(|told| told.inode != content.inode);
        let since = match &self.pending {
            Some((pending, since)) if *pending == content => *since,
            Some(_) | None => now,
        };
        if swapped || now >= since + QUIET {
            self.told = Some(content);
            self.pending = None;
            return Look::Changed;
        }
        self.pending = Some((content, since));
        Look::Unsettled(since + QUIET)
    }

    /// The directory that the path names and the one that it leads to.
    fn directories(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let parent = |path: &Path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
            parent => parent.map(Path::to_owned),
        };
        let led_to = self.path.canonicalize().ok().as_deref().and_then(parent);
        parent(&self.path).into_iter().chain(led_to)
    }
}

impl Content {
    fn of(path: &Path) -> Option<Self> {
        use std::io::Read as _;
        let file = std::fs::File::open(path).ok()?;
        let metadata = file.metadata().ok()?;
        let mut content = zeroize::Zeroizing::new(Vec::new());
        file.take(MAX_READ).read_to_end(&mut content).ok()?;
        let mut sum = [0; 32];
        sum.copy_from_slice(digest::digest(&digest::SHA256, &content).as_ref());
        Some(Self { inode: inode(&metadata), modified: metadata.modified().ok(), digest: sum })
    }
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// Without inodes every change counts as written in place, and waits until it is quiet.
#[cfg(not(unix))]
fn inode(_: &std::fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for a test, gone when it ends.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("bearerd-files-{}-{}", std::process::id(), fastrand::u64(..)));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    async fn told(changed: &mut watch::Receiver<()>) -> Duration {
        let start = std::time::Instant::now();
        tokio::time::timeout(Duration::from_secs(20), changed.changed()).await.expect("told in time").unwrap();
        start.elapsed()
    }

    #[tokio::test]
    async fn a_rename_is_told_and_a_write_in_place_when_it_has_been_quiet() {
        let directory = Directory::new();
        let path = directory.0.join("secret");
        std::fs::write(&path, "one").unwrap();
        let mut changed = watch([path.clone()]);

        std::fs::write(directory.0.join("next"), "two").unwrap();
        std::fs::rename(directory.0.join("next"), &path).unwrap();
        told(&mut changed).await;

        std::fs::write(&path, "three").unwrap();
        assert!(told(&mut changed).await >= Duration::from_millis(1_900), "a write in place is left to settle");
    }

    /// A watch that took its own reading for news spun on a core for ever.
    #[test]
    fn our_own_reading_is_no_news() {
        use notify::event::{CreateKind, ModifyKind, RemoveKind, RenameMode};
        for access in [
            AccessKind::Any,
            AccessKind::Read,
            AccessKind::Open(AccessMode::Any),
            AccessKind::Close(AccessMode::Read),
            AccessKind::Close(AccessMode::Any),
        ] {
            assert!(is_a_reading(EventKind::Access(access)), "{access:?}");
        }
        for kind in [
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Create(CreateKind::File),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            EventKind::Remove(RemoveKind::File),
        ] {
            assert!(!is_a_reading(kind), "{kind:?}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn kubelets_swap_of_its_data_link_is_told() {
        use std::os::unix::fs::symlink;
        let directory = Directory::new();
        let at = |name: &str| directory.0.join(name);
        for (version, content) in [("..1", "one"), ("..2", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("secret"), content).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/secret", at("secret")).unwrap();
        let mut changed = watch([at("secret")]);

        symlink("..2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        std::fs::remove_dir_all(at("..1")).unwrap();
        told(&mut changed).await;
    }
}
