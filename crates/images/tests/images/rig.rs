//! What the tests share: a store in a temporary folder, and archives made by hand.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use linkspan_images::{Config, Image, LoadError, Store};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// Says why a test can't run here; under CI that is a failure.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "can't be skipped under CI: {reason}"
    );
    println!("SKIP: {reason}");
}

/// True if the test can't run: not root, or one of the programs is missing.
pub(crate) fn cannot_run(programs: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        skip("this test needs root");
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        if !std::env::split_paths(&path).any(|folder| folder.join(program).exists()) {
            skip(&format!("`{program}` is not installed"));
            return true;
        }
    }
    false
}

/// Runs a program that must succeed; gives its output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    text
}

/// A store of its own in a temporary folder.
pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("state"));
        Self { folder, store }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Loads bytes.
    pub(crate) fn load(&self, archive: Vec<u8>) -> Result<Vec<Image>, LoadError> {
        block_on(self.store.load(std::io::Cursor::new(archive)))
    }

    /// Loads a file.
    pub(crate) fn load_file(&self, path: &str) -> Result<Vec<Image>, LoadError> {
        let path = path.to_owned();
        block_on(async { self.store.load(tokio::fs::File::open(path).await.unwrap()).await })
    }

    /// Saves to a file.
    pub(crate) fn save(&self, names: &[&str], path: &str) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let path = path.to_owned();
        block_on(async {
            let file = tokio::fs::File::create(path).await.unwrap();
            self.store.save(&names, file).await.unwrap();
        });
    }

    /// Closes the store and opens it again.
    pub(crate) fn reopen(self) -> Self {
        let Self { folder, store } = self;
        drop(store);
        let store = open(&folder.path().join("state"));
        Self { folder, store }
    }

    /// The tree of an image's topmost layer.
    pub(crate) fn top(&self, image: &Image) -> PathBuf {
        self.store
            .layers_dir()
            .join(image.layers.last().unwrap().strip_prefix("sha256:").unwrap())
    }

    /// Everything in the store, to compare.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, String> {
        listing(&self.state())
    }
}

pub(crate) fn open(state: &Path) -> Store {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_linkspan-images-unpack"));
    Store::open(Config {
        state_dir: state.to_owned(),
        binary,
    })
    .unwrap()
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Every path below `root` with kind, mode, owner, attributes and content.
pub(crate) fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    list_into(root, root, &mut found);
    found
}

fn list_into(root: &Path, at: &Path, found: &mut BTreeMap<String, String>) {
    let metadata = at.symlink_metadata().unwrap();
    let name = at
        .strip_prefix(root)
        .unwrap()
        .as_os_str()
        .as_bytes()
        .escape_ascii()
        .to_string();
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        "folder".to_owned()
    } else if kind.is_symlink() {
        format!("link to {}", std::fs::read_link(at).unwrap().display())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else if kind.is_char_device() {
        format!("device {}", metadata.rdev())
    } else {
        let content = std::fs::read(at).unwrap();
        match std::str::from_utf8(&content) {
            Ok(text) if text.len() < 40 => format!("file {text:?}"),
            _ => format!(
                "file {} bytes {}",
                content.len(),
                hex::encode(&Sha256::digest(&content)[..4])
            ),
        }
    };
    let mut line = format!(
        "{:04o} {}:{} {what}",
        metadata.mode() & 0o7777,
        metadata.uid(),
        metadata.gid()
    );
    if metadata.nlink() > 1 && kind.is_file() {
        line.push_str(&format!(" links={}", metadata.nlink()));
    }
    let mut names: Vec<_> = xattr::list(at).unwrap().collect();
    names.sort();
    for attribute in names {
        let value = xattr::get(at, &attribute).unwrap().unwrap_or_default();
        line.push_str(&format!(
            " {}={}",
            attribute.to_string_lossy(),
            value.escape_ascii()
        ));
    }
    found.insert(if name.is_empty() { ".".to_owned() } else { name }, line);
    if kind.is_dir() {
        for entry in std::fs::read_dir(at).unwrap() {
            list_into(root, &entry.unwrap().path(), found);
        }
    }
}

/// A tar archive in the making.
#[derive(Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    /// Any entry; the names go in as they are, and none is too odd.
    pub(crate) fn entry(self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        self.owned(
            kind,
            path,
            link,
            data,
            (0, 0, if kind.is_dir() { 0o755 } else { 0o644 }),
        )
    }

    pub(crate) fn owned(
        mut self,
        kind: EntryType,
        path: &str,
        link: &str,
        data: &[u8],
        (uid, gid, mode): (u64, u64, u32),
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        if kind.is_character_special() || kind.is_block_special() {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", data)
    }

    pub(crate) fn folder(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", b"")
    }

    pub(crate) fn symlink(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, path, to, b"")
    }

    pub(crate) fn hardlink(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Link, path, to, b"")
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            write!(data, "{length} {key}=").unwrap();
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry(EntryType::XHeader, "pax", "", &data)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub(crate) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An OCI archive in parts, so that a test can spoil one.
pub(crate) struct Layout {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    /// One image named `test:latest` with these layers, decompressed and as stored.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        let stored: Vec<_> = layers
            .iter()
            .map(|layer| (layer.clone(), layer.clone(), ""))
            .collect();
        Self::stored(&stored)
    }

    pub(crate) fn stored(layers: &[(Vec<u8>, Vec<u8>, &str)]) -> Self {
        let mut layout = Self {
            files: BTreeMap::new(),
        };
        let diff_ids: Vec<_> = layers.iter().map(|(plain, ..)| digest(plain)).collect();
        let config = json!({
            "architecture": host_architecture(), "os": "linux", "created": "2024-05-06T07:08:09.5Z",
            "config": { "Cmd": ["/bin/run"], "Env": ["A=b"], "ExposedPorts": { "80/tcp": {} }, "Labels": null },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = layout.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().into_bytes(),
        );
        let layers: Vec<_> = layers
            .iter()
            .map(|(_, stored, suffix)| {
                let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
                layout.blob(&media_type, stored.clone())
            })
            .collect();
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let mut manifest = layout.blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().into_bytes(),
        );
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "test" });
        layout.index(&json!([manifest]));
        layout
            .files
            .insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        layout
    }

    pub(crate) fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> serde_json::Value {
        let (digest, size) = (digest(&bytes), bytes.len());
        self.files
            .insert(format!("blobs/{}", digest.replace(':', "/")), bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    pub(crate) fn index(&mut self, manifests: &serde_json::Value) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        self.files
            .insert("index.json".into(), index.to_string().into_bytes());
    }

    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut tar = Tar::default();
        for (name, bytes) in &self.files {
            tar = tar.file(name, bytes);
        }
        tar.end()
    }
}
