//! Reading the log files of a container, also while they are written and rotated.

mod watch;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use linkspan_plan::ContainerId;
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};

use crate::layout::Layout;
use watch::FolderWatch;

/// Which of its two streams a program wrote to; a terminal has only `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What to read of a log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on when the end is reached, until the container has ended.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Only lines from then on, milliseconds since 1970.
    pub since_ms: Option<u64>,
}

/// One line, or a part of at most 16 KiB of a longer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written.
    pub stream: LogStream,
    /// RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// With its line feed, if it has one.
    pub bytes: Vec<u8>,
}

/// An entry of the file.
#[derive(Deserialize)]
struct Entry {
    log: String,
    stream: LogStream,
    time: String,
}

/// Reads a container's log across rotations.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    exit: PathBuf,
    follow: bool,
    tail: Option<usize>,
    /// In the form that entries have, whose order is that of text.
    since: Option<String>,
    place: Place,
    watch: Option<FolderWatch>,
}

#[derive(Debug)]
enum Place {
    /// Nothing was read yet.
    Start,
    /// In this file, whose inode tells it after it was renamed; what was read of a line that is still being written.
    In {
        file: BufReader<File>,
        inode: u64,
        begun: Vec<u8>,
    },
}

impl LogReader {
    pub(crate) fn new(layout: &Layout, id: &ContainerId, options: &LogOptions) -> Self {
        let since = options
            .since_ms
            .and_then(|ms| Timestamp::from_millisecond(ms as i64).ok());
        Self {
            path: layout.log(id),
            exit: layout.exit(id),
            follow: options.follow,
            tail: options.tail,
            since: since.map(|time| time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()),
            place: Place::Start,
            watch: None,
        }
    }

    /// The next line; absent at the end. Dropping the future in between loses nothing.
    pub async fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if matches!(self.place, Place::Start) {
                if self.follow && self.watch.is_none() {
                    // Before anything is read, so that no line falls in between.
                    self.watch = self
                        .path
                        .parent()
                        .and_then(|folder| FolderWatch::new(folder).ok());
                }
                if !self.begin().await? {
                    if !self.wait().await? {
                        return Ok(None);
                    }
                    continue;
                }
            }
            // Asked before reading: what is written later than the exit was written is not ours to wait for.
            let ended = !self.follow || self.exit.exists();
            if let Some(line) = self.line().await? {
                if self.since.as_ref().is_none_or(|since| line.time >= *since) {
                    return Ok(Some(line));
                }
                continue;
            }
            if self.turn_over().await? {
                continue;
            }
            if ended || !self.wait().await? {
                return Ok(None);
            }
        }
    }

    /// Waits for a change of the folder; false when there is none to wait for.
    async fn wait(&mut self) -> io::Result<bool> {
        match &mut self.watch {
            Some(watch) if self.follow && self.path.parent().is_some_and(Path::exists) => {
                watch.changed().await
            }
            _ => Ok(false),
        }
    }

    /// Goes to where reading begins; false when there is no file yet.
    async fn begin(&mut self) -> io::Result<bool> {
        let (path, tail) = (self.path.clone(), self.tail);
        let start = tokio::task::spawn_blocking(move || start(&path, tail))
            .await
            .map_err(io::Error::other)?;
        let Some((path, offset)) = start else {
            return Ok(false);
        };
        let Ok(mut file) = File::open(path).await else {
            return Ok(false);
        };
        let inode = file.metadata().await?.ino();
        file.seek(io::SeekFrom::Start(offset)).await?;
        self.place = Place::In {
            file: BufReader::new(file),
            inode,
            begun: Vec::new(),
        };
        Ok(true)
    }

    /// The next whole line of the current file.
    async fn line(&mut self) -> io::Result<Option<LogLine>> {
        let Place::In { file, begun, .. } = &mut self.place else {
            return Ok(None);
        };
        loop {
            file.read_until(b'\n', begun).await?;
            if begun.last() != Some(&b'\n') {
                return Ok(None);
            }
            let entry = serde_json::from_slice::<Entry>(begun);
            begun.clear();
            // A line that a power cut left half written is passed over.
            if let Ok(Entry { log, stream, time }) = entry {
                return Ok(Some(LogLine {
                    stream,
                    time,
                    bytes: log.into_bytes(),
                }));
            }
        }
    }

    /// After the end of a file that was rotated: on to the one that followed it.
    async fn turn_over(&mut self) -> io::Result<bool> {
        let Place::In { inode, .. } = &self.place else {
            return Ok(false);
        };
        let inode = *inode;
        let files = files(&self.path);
        let at = files
            .iter()
            .position(|file| fs::metadata(file).is_ok_and(|about| about.ino() == inode));
        let next = match at {
            Some(at) if at + 1 == files.len() => return Ok(false),
            Some(at) => &files[at + 1],
            // Dropped meanwhile: what is left begins with the oldest.
            None => match files.front() {
                Some(oldest) => oldest,
                None => return Ok(false),
            },
        };
        let Ok(file) = File::open(next).await else {
            return Ok(false);
        };
        let inode = file.metadata().await?.ino();
        self.place = Place::In {
            file: BufReader::new(file),
            inode,
            begun: Vec::new(),
        };
        Ok(true)
    }
}

/// The log's files, oldest first.
fn files(path: &Path) -> VecDeque<PathBuf> {
    let mut files = VecDeque::new();
    if path.exists() {
        files.push_back(path.to_owned());
    }
    for number in 1.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let older = PathBuf::from(name);
        if !older.exists() {
            return files;
        }
        files.push_front(older);
    }
    files
}

/// File and offset of the first line to read.
fn start(path: &Path, tail: Option<usize>) -> Option<(PathBuf, u64)> {
    let files = files(path);
    let Some(mut wanted) = tail else {
        return files.front().map(|oldest| (oldest.clone(), 0));
    };
    for file in files.iter().rev() {
        let text = fs::read(file).ok()?;
        let ends: Vec<usize> = text
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| at)
            .collect();
        if ends.len() >= wanted {
            let offset = match ends.len() - wanted {
                0 => 0,
                skipped => ends[skipped - 1] + 1,
            };
            return Some((file.clone(), offset as u64));
        }
        wanted -= ends.len();
    }
    files.front().map(|oldest| (oldest.clone(), 0))
}
