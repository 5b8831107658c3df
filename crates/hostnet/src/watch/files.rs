//! Learns that somebody's configuration changed: inotify(7) on the folders that files are read from.
//!
//! Of a folder that isn't there, the nearest one above it that is, is watched for the next name on the way, so that nothing
//! else there wakes us. After each change that concerns us all watches are set anew: the kernel gives the same watch for
//! the same folder, and those that nobody wants any more are dropped.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use crate::observe::{Wanted, wanted};

/// What may change in a folder. A file counts when its writer closes it, and not half written.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_ATTRIB);
/// What ends a watch.
const GONE: AddWatchFlags = AddWatchFlags::IN_IGNORED
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_Q_OVERFLOW);
/// A folder that comes and goes all the time is not followed for ever.
const TRIES: usize = 8;

/// The watches.
#[derive(Debug)]
pub(super) struct FilesWatch {
    root: PathBuf,
    inotify: AsyncFd<Queue>,
    watched: HashMap<WatchDescriptor, Interest>,
}

/// Which names of a folder count.
#[derive(Debug, Default)]
struct Interest {
    all: bool,
    names: BTreeSet<OsString>,
}

/// `Inotify`, but with a number for the runtime.
#[derive(Debug)]
struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl FilesWatch {
    #[allow(unsafe_code)]
    pub(super) fn start(root: &Path) -> io::Result<Self> {
        let queue = Queue(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?);
        let mut watch = Self {
            root: root.to_owned(),
            // SAFETY: the queue owns its descriptor, which stays open and the same until the queue is dropped, inside the
            // `AsyncFd`; nothing here replaces or closes it.
            inotify: unsafe { AsyncFd::register(queue) }?,
            watched: HashMap::new(),
        };
        watch.renew();
        Ok(watch)
    }

    /// Waits for a change that concerns us.
    pub(super) async fn changed(&mut self) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                // The runtime is going away.
                return std::future::pending().await;
            };
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(_) => continue,
            };
            if events.iter().any(|event| self.concerns(event)) {
                self.renew();
                return;
            }
        }
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        // An end that we made ourselves is of a watch that we no longer know.
        let Some(interest) = self.watched.get(&event.wd) else {
            return event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
        };
        match &event.name {
            Some(name) => interest.all || interest.names.contains(name),
            // The folder itself; of its attributes only those matter that decide whether it can be read.
            None => event.mask.intersects(GONE),
        }
    }

    /// Watches what is to be watched now.
    fn renew(&mut self) {
        let before = std::mem::take(&mut self.watched);
        for Wanted { folder, names } in wanted(&self.root) {
            for name in names.iter().flatten() {
                self.follow_link(&folder.join(name));
            }
            self.watch(&folder, names.as_deref());
        }
        for watch in before.into_keys() {
            if !self.watched.contains_key(&watch) {
                // It may have ended by itself.
                let _ = self.inotify.get_ref().0.rm_watch(watch);
            }
        }
    }

    /// A file that is a link to one elsewhere, as `/etc/resolv.conf` is for many, changes there.
    fn follow_link(&mut self, path: &Path) {
        if !path.is_symlink() {
            return;
        }
        if let Ok(target) = path.canonicalize()
            && let (Some(folder), Some(name)) = (target.parent(), target.file_name())
        {
            self.watch_names(folder, [name]);
        }
    }

    fn watch(&mut self, folder: &Path, names: Option<&[&'static str]>) {
        for _ in 0..TRIES {
            let watched = match names {
                Some(names) => self.watch_names(folder, names.iter().map(OsStr::new)),
                None => self.add(folder).map(|interest| interest.all = true).is_some(),
            };
            if watched {
                return;
            }
            // From below, the first that is there; it may have got what was missing before it was watched.
            let missing = folder
                .ancestors()
                .zip(folder.ancestors().skip(1))
                .find_map(|(below, above)| {
                    let name = below.file_name()?;
                    self.watch_names(above, [name]).then_some(below)
                });
            if !missing.is_some_and(Path::is_dir) {
                return;
            }
        }
    }

    fn watch_names<'a>(&mut self, folder: &Path, names: impl IntoIterator<Item = &'a OsStr>) -> bool {
        let Some(interest) = self.add(folder) else {
            return false;
        };
        interest.names.extend(names.into_iter().map(OsStr::to_owned));
        true
    }

    /// What counts in a folder, if it is there.
    fn add(&mut self, folder: &Path) -> Option<&mut Interest> {
        let mask =
            CHANGES | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.get_ref().0.add_watch(folder, mask) {
            Ok(watch) => Some(self.watched.entry(watch).or_default()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => None,
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "changes here are noticed late");
                None
            }
        }
    }
}
