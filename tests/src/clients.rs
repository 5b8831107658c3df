//! Programs for the inside of containers, built against glibc and against musl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Rig, binary};

const SOURCE: &str = include_str!("client.c");

impl Rig {
    /// A folder for sites to mount, with `glibc` and `musl` in it: `client.c` tells what they can do. The tools are
    /// `cc` and `musl-gcc`.
    ///
    /// # Panics
    ///
    /// When they can't be built.
    pub fn clients(&self) -> PathBuf {
        let folder = self.folder().join("clients");
        fs::create_dir_all(&folder).unwrap();
        for (compiler, name) in [("cc", "glibc"), ("musl-gcc", "musl")] {
            fs::copy(built(compiler, name), folder.join(name)).unwrap();
        }
        folder
    }

    /// Lines that a container has printed.
    pub fn lines_of(&self, container: &str) -> Vec<String> {
        let said = self.linkspan(&["logs", container]).ok();
        said.lines().map(str::to_owned).collect()
    }
}

/// Built once for each state of the source; beside the test binaries.
fn built(compiler: &str, name: &str) -> PathBuf {
    let beside = binary("xtask").parent().map(Path::to_owned).unwrap();
    let length = SOURCE.bytes().fold(0u64, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let program = beside.join(format!("rig-client-{name}-{length:x}"));
    if program.is_file() {
        return program;
    }
    let work = tempfile::tempdir_in(&beside).unwrap();
    let source = work.path().join("client.c");
    fs::write(&source, SOURCE).unwrap();
    let made = work.path().join("client");
    let ran = Command::new(compiler)
        .args(["-static", "-O1", "-Wno-stringop-truncation", "-o"])
        .args([&made, &source])
        .output()
        .unwrap();
    assert!(
        made.is_file(),
        "{compiler}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    fs::rename(made, &program).unwrap();
    program
}
