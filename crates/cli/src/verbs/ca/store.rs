//! Where a system keeps the certificates that its administrator trusts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A family of systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Store {
    folder: PathBuf,
    file: &'static str,
    command: &'static [&'static str],
    package: &'static str,
}

/// The folder that tells the family, the file's name, and what to run afterwards.
const FAMILIES: [(&str, &str, &[&str], &str); 3] = [
    // Debian, Ubuntu, Alpine: update-ca-certificates(8); only `.crt` counts.
    (
        "usr/local/share/ca-certificates",
        "linkspan.crt",
        &["update-ca-certificates"],
        "ca-certificates",
    ),
    // Fedora, Red Hat: update-ca-trust(8).
    (
        "etc/pki/ca-trust/source/anchors",
        "linkspan.pem",
        &["update-ca-trust", "extract"],
        "ca-certificates",
    ),
    // Arch: update-ca-trust(8).
    (
        "etc/ca-certificates/trust-source/anchors",
        "linkspan.pem",
        &["update-ca-trust"],
        "ca-certificates-utils",
    ),
];

impl Store {
    /// The store of the system whose files are below `root`.
    pub(super) fn find(root: &Path) -> Option<Self> {
        FAMILIES
            .iter()
            .map(|(folder, file, command, package)| Self {
                folder: root.join(folder),
                file,
                command,
                package,
            })
            .find(|store| store.folder.is_dir())
    }

    /// Where our certificate lies.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join(self.file)
    }

    /// What makes the system take notice.
    pub(super) fn command(&self) -> &'static [&'static str] {
        self.command
    }

    /// Which package has [`Store::command`].
    pub(super) fn package(&self) -> &'static str {
        self.package
    }

    /// Writes the certificate in one step, in place of an earlier one.
    pub(super) fn install(&self, pem: &str) -> anyhow::Result<PathBuf> {
        let path = self.certificate();
        // The tools skip names with other endings, so they can't take half a file.
        let part = self.folder.join(format!(".linkspan-{}.part", std::process::id()));
        let written = fs::write(&part, pem).and_then(|()| fs::rename(&part, &path));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written.with_context(|| format!("cannot write `{}` (be root)", path.display()))?;
        Ok(path)
    }

    /// Removes the certificate; `None` if there was none.
    pub(super) fn remove(&self) -> anyhow::Result<Option<PathBuf>> {
        let path = self.certificate();
        match fs::remove_file(&path) {
            Ok(()) => Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot remove `{}` (be root)", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_installed_replaced_and_removed() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Store::find(root.path()), None);
        let folder = root.path().join("etc/pki/ca-trust/source/anchors");
        fs::create_dir_all(&folder).unwrap();
        let store = Store::find(root.path()).unwrap();
        assert_eq!(store.command(), ["update-ca-trust", "extract"]);
        assert_eq!(store.remove().unwrap(), None);
        store.install("one").unwrap();
        let path = store.install("two").unwrap();
        assert_eq!(path, folder.join("linkspan.pem"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(store.remove().unwrap(), Some(path));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
