//! From the workers' lines to a file that stays small: batches over a channel, one thread that writes, rotation.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Batches that may wait for the writer; when a disk or pipe hangs, further lines are dropped and counted.
const BATCHES: usize = 64;
/// Bytes of a log file, after which it becomes the previous one.
const FILE_MAX: u64 = 32 << 20;

/// Where access lines go: a file with one predecessor, or anything else that can be written.
#[derive(Debug)]
pub struct LogFile {
    current: File,
    previous: Option<File>,
    size: u64,
    max: u64,
}

impl LogFile {
    /// Opens a log and the file beside it (`.1`) that takes the older lines. Both at once and early: a confined process
    /// can neither open nor rename anything.
    ///
    /// # Errors
    /// When one of the two can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let open = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(0o640)
                .open(path)
        };
        let current = open(path)?;
        let size = current.metadata()?.len();
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        let previous = Some(open(Path::new(&older))?);
        Ok(Self {
            current,
            previous,
            size,
            max: FILE_MAX,
        })
    }

    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + batch.len() as u64 > self.max {
            self.rotate()?;
        }
        self.size += batch.len() as u64;
        self.current.write_all(batch)
    }

    /// Copies the lines over and starts again. The file keeps its name and inode, so whoever follows it goes on.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(previous) = &mut self.previous else {
            return Ok(());
        };
        previous.set_len(0)?;
        self.current.rewind()?;
        io::copy(&mut self.current, previous)?;
        self.current.set_len(0)?;
        self.size = 0;
        Ok(())
    }
}

/// A pipe or terminal, which is never rotated.
impl From<File> for LogFile {
    fn from(current: File) -> Self {
        Self {
            current,
            previous: None,
            size: 0,
            max: FILE_MAX,
        }
    }
}

/// The way to the thread that writes lines, or nowhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogSink(Option<SyncSender<Vec<u8>>>);

impl LogSink {
    /// Starts the thread that writes. It ends with the last sink.
    pub(crate) fn start(file: LogFile) -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, batches) = sync_channel(BATCHES);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(file, &batches))?;
        Ok((Self(Some(sender)), thread))
    }

    /// Writes no lines.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    pub(super) fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// Hands lines to the writer. Never waits for it.
    pub(super) fn send(&self, lines: Vec<u8>) {
        if let Some(sink) = &self.0
            && let Err(TrySendError::Full(lines)) = sink.try_send(lines)
        {
            tracing::warn!(
                bytes = lines.len(),
                "access log lines dropped: the log can't be written fast enough"
            );
        }
    }
}

fn write(mut file: LogFile, batches: &Receiver<Vec<u8>>) {
    let mut broken = false;
    for batch in batches {
        let written = file.append(&batch);
        if let Err(error) = &written
            && !broken
        {
            tracing::warn!(%error, "the access log can't be written");
        }
        broken = written.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_becomes_the_previous_one_and_no_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut log = LogFile {
            max: 11,
            ..LogFile::open(&path).unwrap()
        };
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            (read("access.log.1").as_str(), read("access.log").as_str()),
            ("one\ntwo\n", "three\nfour\n")
        );
        // A new process goes on where this one stopped.
        let mut log = LogFile {
            max: 12,
            ..LogFile::open(&path).unwrap()
        };
        log.append(b"five\n").unwrap();
        assert_eq!(read("access.log"), "five\n");
    }
}
