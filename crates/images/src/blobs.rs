//! Blobs: files named by the SHA-256 of their bytes, whole or absent.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::reference::is_digest;

const BUFFER: usize = 1 << 20;

/// The folder `blobs/sha256` of an image layout.
#[derive(Debug)]
pub(crate) struct Blobs {
    pub(crate) folder: PathBuf,
}

impl Blobs {
    /// Where a blob is or would be. What isn't a digest has no place.
    pub(crate) fn path(&self, digest: &str) -> io::Result<PathBuf> {
        match digest.strip_prefix("sha256:") {
            Some(hex) if is_digest(digest) => Ok(self.folder.join(hex)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a sha256 digest")),
        }
    }

    /// Whether the blob is there with this size; its bytes were checked when it came.
    pub(crate) fn has(&self, digest: &str, size: u64) -> bool {
        let metadata = self.path(digest).and_then(fs::symlink_metadata);
        metadata.is_ok_and(|m| m.is_file() && m.len() == size)
    }

    /// Opens a blob for reading.
    pub(crate) fn open(&self, digest: &str) -> io::Result<File> {
        open_plain(&self.path(digest)?)
    }

    /// Reads a document, checks its digest again, and refuses more than `max` bytes.
    pub(crate) fn read(&self, digest: &str, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(digest)?.take(max + 1).read_to_end(&mut bytes)?;
        let found = self::digest(&bytes);
        if found == digest {
            return Ok(bytes);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("its content has the digest `{found}`"),
        ))
    }

    /// Takes a finished file as the blob. Its digest is known to be right. False if the blob was there already.
    pub(crate) fn adopt(&self, digest: &str, file: &Path) -> io::Result<bool> {
        let to = self.path(digest)?;
        if fs::symlink_metadata(&to).is_ok() {
            return Ok(false);
        }
        let opened = open_plain(file)?;
        std::os::unix::fs::fchown(&opened, Some(0), Some(0))?;
        opened.set_permissions(Permissions::from_mode(0o644))?;
        opened.sync_all()?;
        fs::rename(file, to)?;
        Ok(true)
    }

    /// Makes renames durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        sync_folder(&self.folder)
    }
}

/// Opens a regular file, and neither a link nor anything that blocks.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// `sha256:…` of bytes in memory.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Digest and length of a stream, which is copied to `out` on the way.
pub(crate) fn copy_digest(from: &mut impl Read, out: &mut impl Write) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((format!("sha256:{}", hex::encode(hash.finalize())), size)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
        out.write_all(&buffer[..read])?;
        size += read as u64;
    }
}
