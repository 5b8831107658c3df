//! What files say, and said when they were last read.
//!
//! Every observation asks for all of them. One that is as it was isn't read again, nor is a folder listed again: then the
//! whole round is a `stat` for each.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::page::{Page, Reader};
use super::sources::{DROP_INS, Listing, MOST_FILES, Names, RESOLV_CONF, SOURCES, Source, below, list};
use super::{Found, name_servers};

/// Nobody's configuration is larger.
const LARGEST: u64 = 1024 * 1024;
/// The kernel's clock for files is coarse: what changed less than this ago may change again and look the same.
const SETTLED: Duration = Duration::from_secs(1);

/// All files that may claim ranges, and what is known of them. Paths are as people know them, without the root.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    folders: BTreeMap<String, Known<Listing>>,
    pages: BTreeMap<String, Known<Found>>,
    round: u64,
    #[cfg(test)]
    opened: usize,
}

#[derive(Debug)]
struct Known<T> {
    /// Absent when it must be looked at again in any case.
    stamp: Option<Stamp>,
    value: T,
    round: u64,
}

/// By what a file is known to be as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            folders: BTreeMap::new(),
            pages: BTreeMap::new(),
            round: 0,
            #[cfg(test)]
            opened: 0,
        }
    }

    /// What they say now.
    pub(crate) fn read(&mut self) -> Found {
        self.round += 1;
        let mut found = Found::default();
        self.page(RESOLV_CONF, name_servers::read, &mut found);
        if found
            .disregarded
            .iter()
            .any(|(claim, _)| claim.range.ip().is_loopback())
        {
            for path in name_servers::BEHIND_STUB {
                self.page(path, name_servers::read, &mut found);
            }
        }
        for source in &SOURCES {
            self.source(source, &mut found);
        }
        let round = self.round;
        self.folders.retain(|_, known| known.round == round);
        self.pages.retain(|_, known| known.round == round);
        found
    }

    fn source(&mut self, source: &Source, found: &mut Found) {
        let mut seen = BTreeMap::new();
        for folder in source.folders {
            for name in self.names(folder, source.names, found) {
                seen.entry(name).or_insert(*folder);
            }
        }
        for (name, folder) in seen {
            self.page(&format!("{folder}/{name}"), source.read, found);
        }
        if let Names::WithDropIns(_) = source.names {
            for folder in source.folders {
                let names = self.names(folder, source.names, found);
                for drop_ins in names.iter().filter(|name| name.ends_with(DROP_INS)) {
                    let folder = format!("{folder}/{drop_ins}");
                    for name in self.names(&folder, Names::Ending(&[".conf"]), found) {
                        self.page(&format!("{folder}/{name}"), source.read, found);
                    }
                }
            }
        }
    }

    /// The files of a folder that count, in order.
    fn names(&mut self, folder: &str, names: Names, found: &mut Found) -> Vec<String> {
        if let Names::Exactly(names) = names {
            return names.iter().map(|name| (*name).to_owned()).collect();
        }
        let path = below(&self.root, folder);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => {
                note(found, folder, &error);
                return Vec::new();
            }
        };
        let stamp = Stamp::of(&metadata);
        let known = self
            .folders
            .get_mut(folder)
            .filter(|known| known.stamp == Some(stamp));
        let listing = match known {
            Some(known) => {
                known.round = self.round;
                known.value.clone()
            }
            None => match list(&path, names) {
                Ok(listing) => {
                    let known = Known::new(&metadata, listing.clone(), self.round);
                    self.folders.insert(folder.to_owned(), known);
                    listing
                }
                Err(error) => {
                    note(found, folder, &error);
                    return Vec::new();
                }
            },
        };
        let note = format!("{folder}: only {MOST_FILES} of its files are looked at");
        if listing.more && !found.notes.contains(&note) {
            found.notes.push(note);
        }
        listing.names
    }

    /// What a file says, if it is there.
    fn page(&mut self, path: &str, reader: Reader, found: &mut Found) {
        let file = below(&self.root, path);
        let metadata = match std::fs::metadata(&file) {
            Ok(metadata) => metadata,
            Err(error) => return note(found, path, &error),
        };
        // A folder of drop-ins, or a link to /dev/null, by which people switch a file off.
        if !metadata.is_file() {
            return;
        }
        let stamp = Stamp::of(&metadata);
        if let Some(known) = self.pages.get_mut(path)
            && known.stamp == Some(stamp)
        {
            known.round = self.round;
            return found.extend(known.value.clone());
        }
        #[cfg(test)]
        {
            self.opened += 1;
        }
        let mut page = Found::default();
        match contents(&file) {
            Ok(Some(text)) => page = Page::read(path, &text, reader),
            Ok(None) => page
                .notes
                .push(format!("{path} is larger than 1 MiB and not looked at")),
            Err(error) => note(&mut page, path, &error),
        }
        let before = self.pages.get(path).map(|known| &known.value.notes);
        if !page.notes.is_empty() && before != Some(&page.notes) {
            tracing::warn!(
                path,
                notes = page.notes.join("; "),
                "ranges that others use may be missed"
            );
        }
        found.extend(page.clone());
        let known = Known::new(&metadata, page, self.round);
        self.pages.insert(path.to_owned(), known);
    }
}

/// Tells what can't be read. That something isn't there is no news.
fn note(found: &mut Found, path: &str, error: &io::Error) {
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        found.notes.push(format!("{path} can't be read: {error}"));
    }
}

/// All of a file; nothing if it is too large. What is not UTF-8 can only be in a comment or a name.
fn contents(path: &Path) -> io::Result<Option<String>> {
    // Not to wait, in case it was replaced by a pipe.
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= LARGEST).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

impl<T> Known<T> {
    fn new(metadata: &Metadata, value: T, round: u64) -> Self {
        let stamp = Stamp::of(metadata);
        Self {
            stamp: stamp.is_settled(SystemTime::now()).then_some(stamp),
            value,
            round,
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = Duration::new(
            self.changed.0.try_into().unwrap_or_default(),
            self.changed.1.try_into().unwrap_or_default(),
        );
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        changed + SETTLED <= now
    }
}

#[cfg(test)]
mod tests;
