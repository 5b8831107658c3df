//! Splitting an image archive into its members.

use std::fs::File;
use std::io;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::entries::{Entries, EntryError, Kind};
use super::shown;
use super::stream::Stream;
use crate::protocol::{Content, MAX_MEMBERS, Member};

/// Why an image archive can't be split.
#[derive(Debug, thiserror::Error)]
pub(super) enum SplitError {
    /// Not a tar archive, or a damaged one.
    #[error("the archive can't be read")]
    Entries(#[from] EntryError),
    /// A name with `..` has no place in an image archive.
    #[error("archive member `{0}` leads out of the archive by `..`")]
    Escapes(String),
    /// Two members with one name: tools disagree on which of them counts.
    #[error("archive member `{0}` is there twice")]
    Twice(String),
    /// Too many members.
    #[error("the archive has more than {MAX_MEMBERS} members")]
    TooMany,
    /// The staging folder can't be written.
    #[error("archive member `{0}` can't be written")]
    Write(String, #[source] io::Error),
    /// The data ended early.
    #[error("archive member `{0}` is cut short or damaged")]
    Data(String, #[source] EntryError),
}

/// Writes every file of the archive to `/0`, `/1`, … and tells their names. Nothing in the archive decides on a path.
pub(super) fn split(stream: &mut Stream, max_bytes: u64) -> Result<Vec<Member>, SplitError> {
    let write = |name: &str, e: nix::Error| SplitError::Write(name.to_owned(), e.into());
    let root = open(
        "/",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| write("/", e))?;
    let mut members = Vec::new();
    let mut names = std::collections::HashSet::new();
    let mut entries = Entries::new(stream, max_bytes);
    let mut number = 0;
    while let Some(entry) = entries.next()? {
        number += 1;
        if number > MAX_MEMBERS {
            return Err(SplitError::TooMany);
        }
        let shown = shown(&entry.path);
        let parts = || {
            entry
                .path
                .split(|b| *b == b'/')
                .filter(|part| !part.is_empty() && *part != b".")
        };
        if parts().any(|part| part == b"..") {
            return Err(SplitError::Escapes(shown));
        }
        // Names that are not UTF-8 can't be referred to by a manifest.
        let Ok(name) = String::from_utf8(parts().collect::<Vec<_>>().join(&b'/')) else {
            continue;
        };
        let content = match &entry.kind {
            Kind::File => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                let file = openat(
                    &root,
                    number.to_string().as_str(),
                    flags,
                    Mode::from_bits_truncate(0o600),
                )
                .map_err(|e| write(&shown, e))?;
                let mut file = File::from(file);
                entries
                    .copy(&entry, &mut file)
                    .map_err(|e| SplitError::Data(shown.clone(), e))?;
                Content::File(number)
            }
            Kind::Symlink(to) => match String::from_utf8(to.clone()) {
                Ok(to) => Content::Symlink(to),
                Err(_) => continue,
            },
            Kind::Hardlink(to) => match String::from_utf8(to.clone()) {
                Ok(to) => Content::Hardlink(to),
                Err(_) => continue,
            },
            Kind::Folder | Kind::Fifo | Kind::Device => continue,
        };
        if !names.insert(name.clone()) {
            return Err(SplitError::Twice(shown));
        }
        members.push(Member { name, content });
    }
    Ok(members)
}
