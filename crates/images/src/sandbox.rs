//! Starting the confined child, giving it its ids and its task, and taking its report.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::protocol::{MAX_REPORT, Report, Task, UNSHARED};

/// The ids of a layer, as themselves: 0..65536 and no other.
const ID_MAP: &[u8] = b"0 0 65536\n";
/// The child needs a millisecond; a machine that swaps needs longer.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Why the confined child could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The executable can't be run.
    #[error("can't start `{}` to unpack in", .binary.display())]
    Start {
        /// Ours, as configured.
        binary: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The child could not be given its ids: not root, or user namespaces are off.
    #[error(
        "can't give the unpacking process its ids; this takes root, and user namespaces in the kernel \
         (`sysctl user.max_user_namespaces`)"
    )]
    Ids(#[source] io::Error),
    /// It does not answer.
    #[error("the unpacking process does not answer")]
    Silent(#[source] io::Error),
    /// It went away without a report.
    #[error(
        "the unpacking process ended without a report ({0}); memory may be short, or the archive hostile"
    )]
    Died(ExitStatus),
    /// It said what is not a report.
    #[error("the unpacking process made a report that can't be understood")]
    Report(#[source] serde_json::Error),
}

/// Runs the confined child.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) binary: PathBuf,
}

impl Sandbox {
    /// Runs one task on the bytes of `input`, to its end. Blocks; the child dies with the calling thread.
    pub(crate) fn run(&self, input: OwnedFd, task: &Task) -> Result<Report, SandboxError> {
        let (mut ours, theirs) = UnixStream::pair().map_err(SandboxError::Silent)?;
        let mut child = Running(self.start(input, theirs)?);

        ours.set_read_timeout(Some(HANDSHAKE))
            .map_err(SandboxError::Silent)?;
        let mut ready = [0];
        if let Err(error) = ours.read_exact(&mut ready) {
            return Err(child.silent(error));
        }
        if ready[0] == UNSHARED {
            let pid = child.0.id();
            fs::write(format!("/proc/{pid}/uid_map"), ID_MAP).map_err(SandboxError::Ids)?;
            fs::write(format!("/proc/{pid}/gid_map"), ID_MAP).map_err(SandboxError::Ids)?;
            let mut line = serde_json::to_vec(task).map_err(SandboxError::Report)?;
            line.push(b'\n');
            ours.write_all(&line).map_err(SandboxError::Silent)?;
            ready = [0];
        }

        // An archive may take as long as its sender takes.
        ours.set_read_timeout(None).map_err(SandboxError::Silent)?;
        // A child that could not even unshare begins with its report.
        let mut text: Vec<u8> = ready.into_iter().filter(|byte| *byte != 0).collect();
        BufReader::new(&ours)
            .take(MAX_REPORT)
            .read_to_end(&mut text)
            .map_err(SandboxError::Silent)?;
        let status = child.0.wait().map_err(SandboxError::Silent)?;
        if text.is_empty() {
            return Err(SandboxError::Died(status));
        }
        serde_json::from_slice(&text).map_err(SandboxError::Report)
    }

    fn start(&self, input: OwnedFd, channel: UnixStream) -> Result<Child, SandboxError> {
        // The command holds the child's ends until it is dropped, here: else we would wait for ourselves.
        Command::new(&self.binary)
            .arg("unpack")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(OwnedFd::from(channel)))
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| SandboxError::Start {
                binary: self.binary.clone(),
                source,
            })
    }
}

/// A child that does not outlive the call.
struct Running(Child);

impl Running {
    fn silent(&mut self, error: io::Error) -> SandboxError {
        match self.0.try_wait() {
            Ok(Some(status)) => SandboxError::Died(status),
            _ => SandboxError::Silent(error),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing once it was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
