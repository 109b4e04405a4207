//! Tells when the content of a file changes, however it changes.
//!
//! The directory is watched, not the file: kubelet swaps a `..data` link beside it, editors rename over it. Contents are
//! compared by digest, so a touch is no change. A backstop looks every 30 s, for file systems that tell nothing. The
//! system gives few watchers to one user, so all files share one. Must never know what the files are for, and keeps
//! nothing of what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::bug;
use crate::life::{RESTART, contained};

/// For network file systems and for a machine that is out of inotify watches.
const BACKSTOP: Duration = Duration::from_secs(30);

/// A file that is written in place may be half written; when it has been left alone for this long it is not.
const QUIET: Duration = Duration::from_secs(2);

/// What happens in a directory comes in bursts, and in a busy one it never ends: one look for all of it.
const GATHER: Duration = Duration::from_millis(50);

/// A secret or a certificate bundle is never longer; what is, is compared by its first part.
const MAX_READ: u64 = 16 * 1024 * 1024;

/// Watches files, for as long as it or a receiver of its lives.
#[derive(Debug)]
pub struct Files(mpsc::UnboundedSender<Group>);

/// Files with one receiver.
#[derive(Debug)]
struct Group {
    files: Vec<Watched>,
    changed: watch::Sender<()>,
}

impl Files {
    /// `failed` is told, once, why the system does not tell of changes, so that only the backstop finds them; `panicked`, of
    /// each bug in here that was outlived.
    ///
    /// Must be called within a tokio runtime, on which the watching runs.
    pub fn new(failed: impl FnOnce(&str) + Send + 'static, panicked: impl Fn() + Send + Sync + 'static) -> Self {
        let (groups, incoming) = mpsc::unbounded_channel();
        tokio::spawn(follow(incoming, Box::new(failed), panicked));
        Self(groups)
    }

    /// Watches `paths` until the receiver is dropped; it is marked as changed whenever a content did. A file that is gone
    /// did not change: what it held stays in force.
    pub fn watch(&self, paths: impl IntoIterator<Item = PathBuf>) -> watch::Receiver<()> {
        self.group(paths, false)
    }

    /// The same for whoever has to know of a file that is gone, too: one that stays away for 2 s did change.
    pub fn watch_and_miss(&self, paths: impl IntoIterator<Item = PathBuf>) -> watch::Receiver<()> {
        self.group(paths, true)
    }

    fn group(&self, paths: impl IntoIterator<Item = PathBuf>, is_missed: bool) -> watch::Receiver<()> {
        let (changed, receiver) = watch::channel(());
        let files: Vec<_> = paths.into_iter().map(|path| Watched::new(path, is_missed)).collect();
        if !files.is_empty() {
            // An error is the end of the runtime.
            let _ = self.0.send(Group { files, changed });
        }
        receiver
    }
}

async fn follow(mut incoming: mpsc::UnboundedReceiver<Group>, failed: Failed, panicked: impl Fn()) {
    let Some(first) = incoming.recv().await else { return };
    let (mut eye, mut groups) = (Eye::new(failed), vec![first]);
    while contained(pin!(look_on(&mut incoming, &mut eye, &mut groups))).await.is_none() {
        panicked();
        // It may be the watcher that did. What it has of the system it gives back on a thread of its own, so in a while.
        eye.close();
        tokio::time::sleep(RESTART).await;
        eye.open();
    }
}

async fn look_on(incoming: &mut mpsc::UnboundedReceiver<Group>, eye: &mut Eye, groups: &mut Vec<Group>) {
    let (mut touched, mut may_come, mut backstop) = (Touched::everything(), true, Instant::now());
    loop {
        bug::at("files");
        while let Ok(group) = incoming.try_recv() {
            groups.push(group);
        }
        groups.retain(|group| !group.changed.is_closed());
        if groups.is_empty() && !may_come {
            return;
        }
        let now = Instant::now();
        if touched.everything {
            backstop = now + BACKSTOP;
        }
        // A link may lead elsewhere since the last look; whatever happens after it is watched is told.
        for file in groups.iter_mut().flat_map(|group| &mut group.files) {
            file.wants_look = touched.concerns(file) || file.is_due(now);
            if file.wants_look {
                file.directories = directories(&file.path);
            }
        }
        eye.turn_to(groups.iter().flat_map(|group| &group.files).flat_map(|file| &file.directories), &touched);
        for group in groups.iter_mut() {
            // All of them are looked at, whatever the first says.
            let looked = group.files.iter_mut().filter(|file| file.wants_look).map(|file| file.look(now));
            if looked.filter(|changed| *changed).count() > 0 {
                group.changed.send_replace(());
            }
        }
        let unsettled = groups.iter().flat_map(|group| &group.files).filter_map(Watched::due).min();
        touched = tokio::select! {
            () = eye.told.bell.notified() => {
                tokio::time::sleep(GATHER).await;
                eye.told.take()
            }
            () = tokio::time::sleep_until(unsettled.unwrap_or(backstop).min(backstop)) => {
                if Instant::now() < backstop { Touched::default() } else { Touched::everything() }
            }
            group = incoming.recv(), if may_come => {
                may_come = group.is_some();
                groups.extend(group);
                Touched::everything()
            }
        };
    }
}

type Failed = Box<dyn FnOnce(&str) + Send>;

/// The system's watcher. Without it the backstop still serves.
struct Eye {
    watcher: Option<RecommendedWatcher>,
    /// Directories by their canonical paths, with their inodes: one that is made anew is another.
    watched: BTreeMap<PathBuf, u64>,
    told: Arc<Told>,
    failed: Option<Failed>,
}

/// What the system told of since somebody looked.
#[derive(Default)]
struct Told {
    bell: Notify,
    touched: Mutex<Touched>,
}

#[derive(Default)]
struct Touched {
    everything: bool,
    /// Entries of directories, and directories themselves.
    places: BTreeSet<PathBuf>,
}

impl Eye {
    fn new(failed: Failed) -> Self {
        let (watched, told) = (BTreeMap::new(), Arc::default());
        let mut eye = Self { watcher: None, watched, told, failed: Some(failed) };
        eye.open();
        eye
    }

    fn open(&mut self) {
        let teller = Arc::clone(&self.told);
        match watcher(move |event| teller.hear(event)) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => self.fail(&error),
        }
    }

    /// Watches nothing any more.
    fn close(&mut self) {
        self.watched.clear();
        if let Some(watcher) = self.watcher.take() {
            // Where its own thread has ended, that panics.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(watcher)));
        }
    }

    fn fail(&mut self, error: &notify::Error) {
        if let Some(failed) = self.failed.take() {
            failed(&error.to_string());
        }
    }

    /// Watches these directories and no others.
    fn turn_to<'a>(&mut self, wanted: impl Iterator<Item = &'a PathBuf>, touched: &Touched) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeMap<_, _> = wanted.map(|directory| (directory, inode_of(directory))).collect();
        // One that something happened to itself may be gone, with its watch, and its inode be another's now.
        self.watched.retain(|directory, inode| {
            let stays = wanted.get(directory) == Some(&Some(*inode)) && !touched.places.contains(directory);
            if !stays {
                // What is gone is not watched any more.
                let _ = watcher.unwatch(directory);
            }
            stays
        });
        let mut failure = None;
        for (directory, inode) in wanted {
            let Some(inode) = inode else { continue };
            if !self.watched.contains_key(directory) {
                match watcher.watch(directory, RecursiveMode::NonRecursive) {
                    Ok(()) => _ = self.watched.insert(directory.clone(), inode),
                    // Its end is told by the one above it, or found by the backstop.
                    Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                    Err(error) => failure = Some(error),
                }
            }
        }
        if let Some(error) = failure {
            self.fail(&error);
        }
    }
}

/// A watcher whose thread is there. notify does not tell when the system gives none, and then panics at whatever it is
/// asked to do, when it is dropped as well, which within a panic ends the process.
fn watcher(hear: impl Fn(notify::Result<notify::Event>) + Send + 'static) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(hear)?;
    match watcher.configure(notify::Config::default()) {
        Ok(_) => Ok(watcher),
        Err(_) => {
            std::mem::forget(watcher);
            Err(notify::Error::generic("it gives no thread for that"))
        }
    }
}

impl Told {
    fn hear(&self, event: notify::Result<notify::Event>) {
        let news = match event {
            Ok(event) if is_a_reading(event.kind) => return,
            Ok(event) if !event.need_rescan() => event.paths,
            // Something was lost.
            Ok(_) | Err(_) => Vec::new(),
        };
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        touched.everything |= news.is_empty();
        touched.places.extend(news);
        drop(touched);
        self.bell.notify_one();
    }

    fn take(&self) -> Touched {
        std::mem::take(&mut self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Touched {
    fn everything() -> Self {
        Self { everything: true, places: BTreeSet::new() }
    }

    /// Whether something happened in a directory of the file's, or to one.
    fn concerns(&self, file: &Watched) -> bool {
        let is_in = |place: &PathBuf| {
            file.directories.iter().any(|directory| place == directory || place.parent() == Some(directory))
        };
        self.everything || self.places.iter().any(is_in)
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
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// Where something happens if something happens to it.
    directories: Vec<PathBuf>,
    wants_look: bool,
    /// Whether that it is gone is a change.
    is_missed: bool,
    /// `None` if it was not there.
    told: Option<Content>,
    /// What was seen since and is not told yet, and when it was seen first.
    pending: Option<(Option<Content>, Instant)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    inode: u64,
    modified: Option<SystemTime>,
    digest: [u8; 32],
}

impl Watched {
    fn new(path: PathBuf, is_missed: bool) -> Self {
        let path = std::path::absolute(&path).unwrap_or(path);
        let (told, directories) = (Content::of(&path), directories(&path));
        Self { path, directories, wants_look: true, is_missed, told, pending: None }
    }

    /// Whether its content is another than the one that was told about, and settled.
    fn look(&mut self, now: Instant) -> bool {
        let content = Content::of(&self.path);
        // A file that is gone for a moment is being replaced.
        if content.is_none() && !self.is_missed {
            self.pending = None;
            return false;
        }
        let digest = |content: &Option<Content>| content.as_ref().map(|content| content.digest);
        if digest(&self.told) == digest(&content) {
            self.told = content;
            self.pending = None;
            return false;
        }
        let inode = |content: &Option<Content>| content.as_ref().map(|content| content.inode);
        let swapped = content.is_some() && inode(&self.told) != inode(&content);
        let since = match &self.pending {
            Some((pending, since)) if *pending == content => *since,
            Some(_) | None => now,
        };
        if swapped || now >= since + QUIET {
            self.told = content;
            self.pending = None;
            return true;
        }
        self.pending = Some((content, since));
        false
    }

    /// When it has been left alone for long enough.
    fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|(_, since)| *since + QUIET)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }
}

/// The directory that the path names, or where that will be made anew, and the one that it leads to. Canonical, because
/// the system knows a directory by one name only.
fn directories(path: &Path) -> Vec<PathBuf> {
    let named = path.ancestors().skip(1).find_map(|directory| directory.canonicalize().ok());
    let led_to = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    let mut directories: Vec<_> = named.into_iter().chain(led_to).collect();
    directories.dedup();
    directories
}

fn inode_of(directory: &Path) -> Option<u64> {
    std::fs::metadata(directory).ok().map(|metadata| inode(&metadata))
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

    fn files() -> Files {
        Files::new(|error| panic!("{error}"), || panic!("nothing panics"))
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
        let mut changed = files().watch([path.clone()]);

        std::fs::write(directory.0.join("next"), "two").unwrap();
        std::fs::rename(directory.0.join("next"), &path).unwrap();
        told(&mut changed).await;

        std::fs::write(&path, "three").unwrap();
        assert!(told(&mut changed).await >= Duration::from_millis(1_900), "a write in place is left to settle");
    }

    /// Every look panicked from then on, before it came to any file.
    #[tokio::test]
    async fn a_watcher_whose_thread_has_ended_gives_way_to_another() {
        let directory = Directory::new();
        let path = directory.0.clone();
        let mut eye = Eye::new(Box::new(|error| panic!("{error}")));
        eye.watcher = Some(watcher(|_| panic!("its thread ends by this")).unwrap());
        eye.turn_to([&path].into_iter(), &Touched::default());
        let begun = std::time::Instant::now();
        loop {
            std::fs::write(path.join("secret"), "one").unwrap();
            let look =
                || eye.turn_to([&path].into_iter(), &Touched { everything: false, places: [path.clone()].into() });
            if catch_unwind(AssertUnwindSafe(look)).is_err() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it still watches");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        eye.close();
        eye.open();
        eye.turn_to([&path].into_iter(), &Touched::default());
        std::fs::write(path.join("secret"), "two").unwrap();
        tokio::time::timeout(Duration::from_secs(20), eye.told.bell.notified()).await.expect("told in time");
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
        let mut changed = files().watch([at("secret")]);

        symlink("..2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        std::fs::remove_dir_all(at("..1")).unwrap();
        told(&mut changed).await;
    }

    #[tokio::test]
    async fn a_file_that_stays_away_is_told_to_whoever_misses_it_and_when_it_is_back() {
        let directory = Directory::new();
        let path = directory.0.join("secret");
        std::fs::write(&path, "one").unwrap();
        let files = files();
        let (mut kept, mut missed) = (files.watch([path.clone()]), files.watch_and_miss([path.clone()]));

        // As editors do it: away, and there again.
        std::fs::rename(&path, directory.0.join("secret~")).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::fs::write(&path, "one").unwrap();
        tokio::time::sleep(QUIET + Duration::from_millis(500)).await;
        assert!(!missed.has_changed().unwrap(), "it was away for a moment, and holds what it held");

        std::fs::remove_file(&path).unwrap();
        assert!(told(&mut missed).await >= Duration::from_millis(1_900), "it may come back");
        assert!(!kept.has_changed().unwrap(), "what it held stays in force");
        std::fs::write(directory.0.join("next"), "one").unwrap();
        std::fs::rename(directory.0.join("next"), &path).unwrap();
        told(&mut missed).await;
        assert!(!kept.has_changed().unwrap());
        std::fs::write(directory.0.join("next"), "two").unwrap();
        std::fs::rename(directory.0.join("next"), &path).unwrap();
        told(&mut kept).await;
    }

    #[tokio::test]
    async fn a_directory_that_is_made_anew_is_watched_again() {
        let directory = Directory::new();
        let inner = directory.0.join("inner");
        let path = inner.join("secret");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&path, "one").unwrap();
        let mut changed = files().watch([path.clone()]);
        for content in ["two", "three"] {
            tokio::time::sleep(Duration::from_millis(300)).await;
            std::fs::remove_dir_all(&inner).unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            std::fs::create_dir(&inner).unwrap();
            std::fs::write(&path, content).unwrap();
            assert!(told(&mut changed).await < Duration::from_secs(10));
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn two_hundred_groups_share_one_watch() {
        let directory = Directory::new();
        let path = directory.0.join("secret");
        std::fs::write(&path, "one").unwrap();
        let files = files();
        let mut groups: Vec<_> = (0..200).map(|_| files.watch([path.clone()])).collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let leads = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let instances = leads.filter(|path| path.to_string_lossy().contains("inotify"));
        // Other tests have their own.
        assert!(instances.count() < 20);
        std::fs::write(directory.0.join("next"), "two").unwrap();
        std::fs::rename(directory.0.join("next"), &path).unwrap();
        for group in &mut groups {
            assert!(told(group).await < Duration::from_secs(10));
        }
    }

    /// Another's files in the same directory, for ever, are no reason to look for ever.
    #[tokio::test]
    async fn a_busy_directory_is_looked_at_now_and_then() {
        let directory = Directory::new();
        let files = files();
        let path = directory.0.join("secret");
        std::fs::write(&path, "one").unwrap();
        let mut changed = files.watch([path.clone()]);
        let elsewhere = Directory::new();
        let other = elsewhere.0.join("secret");
        std::fs::write(&other, "one").unwrap();
        let mut other_changed = files.watch([other.clone()]);
        for number in 0..50 {
            std::fs::write(directory.0.join("busy"), number.to_string()).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            if number == 25 {
                std::fs::rename(directory.0.join("busy"), &path).unwrap();
            }
        }
        told(&mut changed).await;
        std::fs::write(elsewhere.0.join("next"), "two").unwrap();
        std::fs::rename(elsewhere.0.join("next"), &other).unwrap();
        assert!(told(&mut other_changed).await < Duration::from_secs(10));
        assert!(!changed.has_changed().unwrap(), "told once");
    }

    #[test]
    fn only_what_happens_where_a_file_is_concerns_it() {
        let directory = Directory::new();
        let root = directory.0.canonicalize().unwrap();
        let file = Watched::new(root.join("secrets/secret"), false);
        for (place, concerns) in [("", true), ("secrets", true), ("secrets/secret", false), ("../other", false)] {
            let place = if place.is_empty() { root.clone() } else { root.join(place) };
            let touched = Touched { everything: false, places: [place.clone()].into() };
            assert_eq!(touched.concerns(&file), concerns, "{}", place.display());
        }
        assert!(Touched::everything().concerns(&file));
    }
}
