//! Files by name, from a split archive or from a folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::blobs::open_plain;
use crate::protocol::{Content, Member};

/// Most links from one name to the next.
const MAX_LINKS: usize = 8;

/// Where an image comes from.
pub(super) enum Source {
    /// A split archive: the members' bytes are in numbered files.
    Archive {
        folder: PathBuf,
        members: BTreeMap<String, Content>,
    },
    /// A folder of somebody else.
    Folder { root: File },
}

impl Source {
    pub(super) fn archive(folder: PathBuf, members: Vec<Member>) -> Self {
        let members = members
            .into_iter()
            .map(|member| (member.name, member.content))
            .collect();
        Self::Archive { folder, members }
    }

    pub(super) fn folder(folder: &Path) -> io::Result<Self> {
        let root = File::open(folder)?;
        if root.metadata()?.is_dir() {
            Ok(Self::Folder { root })
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        matches!(self.open(name), Ok(Some(_)))
    }

    /// Opens a regular file; none if there is no such name.
    pub(super) fn open(&self, name: &str) -> io::Result<Option<File>> {
        match self {
            Self::Archive { .. } => self.staged(name).map(|path| open_plain(&path)).transpose(),
            Self::Folder { root } => {
                // Nothing in the folder may lead us, who are root, out of it.
                let how = OpenHow::new()
                    .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
                    .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
                let file = match openat2(root, name, how) {
                    Ok(file) => File::from(file),
                    Err(Errno::ENOENT) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                if file.metadata()?.is_file() {
                    Ok(Some(file))
                } else {
                    Err(io::ErrorKind::InvalidInput.into())
                }
            }
        }
    }

    /// The staged file with a member's bytes.
    pub(super) fn staged(&self, name: &str) -> Option<PathBuf> {
        let Self::Archive { folder, members } = self else {
            return None;
        };
        let mut name = plain(name, "")?;
        for _ in 0..MAX_LINKS {
            name = match members.get(&name)? {
                Content::File(number) => return Some(folder.join(number.to_string())),
                Content::Hardlink(to) => plain(to, "")?,
                Content::Symlink(to) => plain(to, name.rsplit_once('/').map_or("", |(folder, _)| folder))?,
            };
        }
        None
    }
}

/// A member's name without `.` and `..`, as seen from a folder in the archive. None if it leads out.
fn plain(name: &str, from: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(members: &[(&str, Content)]) -> Source {
        let members = members.iter().map(|(name, content)| Member {
            name: (*name).to_owned(),
            content: content.clone(),
        });
        Source::archive("/staging".into(), members.collect())
    }

    #[test]
    fn layers_that_old_archives_share_by_links_are_found() {
        let source = source(&[
            ("aa/layer.tar", Content::File(7)),
            ("bb/layer.tar", Content::Symlink("../aa/layer.tar".into())),
            ("cc/layer.tar", Content::Hardlink("bb/layer.tar".into())),
        ]);
        for name in ["aa/layer.tar", "bb/layer.tar", "./cc/layer.tar"] {
            assert_eq!(source.staged(name), Some("/staging/7".into()), "{name}");
        }
    }

    #[test]
    fn links_out_of_the_archive_and_in_circles_lead_nowhere() {
        let source = source(&[
            ("a", Content::Symlink("../../etc/passwd".into())),
            ("b", Content::Symlink("c".into())),
            ("c", Content::Symlink("b".into())),
        ]);
        for name in ["a", "b", "c", "d", "../a"] {
            assert_eq!(source.staged(name), None, "{name}");
        }
    }
}
