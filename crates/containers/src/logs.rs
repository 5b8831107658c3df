//! Reading the log files of a container, also while they are written and rotated.

mod watch;

use std::fs;
use std::io::{self, Read};
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
    In(Open),
}

/// A file that is being read.
#[derive(Debug)]
struct Open {
    file: BufReader<File>,
    /// Tells it after it was renamed.
    inode: u64,
    /// What was read of a line that is still being written.
    begun: Vec<u8>,
}

impl Open {
    fn new((inode, file): (u64, fs::File)) -> Self {
        Self {
            file: BufReader::new(File::from_std(file)),
            inode,
            begun: Vec::new(),
        }
    }
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
            let mut line = self.line().await?;
            if line.is_none() {
                let Some(next) = self.successor().await? else {
                    if ended || !self.wait().await? {
                        return Ok(None);
                    }
                    continue;
                };
                // A file that has a successor is complete, but it may have grown after its end was reached above.
                line = self.line().await?;
                if line.is_none() {
                    self.place = Place::In(next);
                }
            }
            if let Some(line) = line
                && self.since.as_ref().is_none_or(|since| line.time >= *since)
            {
                return Ok(Some(line));
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
        let start = blocking(move || start(&path, tail)).await?;
        let found = start.is_some();
        if let Some((file, offset)) = start {
            let mut open = Open::new(file);
            open.file.seek(io::SeekFrom::Start(offset)).await?;
            self.place = Place::In(open);
        }
        Ok(found)
    }

    /// The next whole line of the current file.
    async fn line(&mut self) -> io::Result<Option<LogLine>> {
        let Place::In(Open { file, begun, .. }) = &mut self.place else {
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

    /// The file that follows the current one, if that was rotated.
    async fn successor(&mut self) -> io::Result<Option<Open>> {
        let Place::In(Open { inode, .. }) = &self.place else {
            return Ok(None);
        };
        let (path, inode) = (self.path.clone(), *inode);
        let next = blocking(move || {
            let files = files(&path)?;
            let current = files.iter().position(|(other, _)| *other == inode);
            // If it was dropped meanwhile, what is left begins with the oldest.
            Ok(files.into_iter().nth(current.map_or(0, |current| current + 1)))
        });
        Ok(next.await?.map(Open::new))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// The log's files with their inodes, oldest first.
///
/// A rotation may be under way: it renames from the oldest to the newest, each to the next number. Files are opened in
/// the other direction, so that one which is renamed meanwhile is met twice, but never missed; and there is never more
/// than one gap between two numbers.
fn files(path: &Path) -> io::Result<Vec<(u64, fs::File)>> {
    let mut files: Vec<(u64, fs::File)> = Vec::new();
    let mut missing = 0;
    for number in 0_u32.. {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        match fs::File::open(PathBuf::from(name)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                files.retain(|(other, _)| *other != inode);
                files.push((inode, file));
                missing = 0;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
            Err(error) => return Err(error),
        }
        if missing == 2 {
            break;
        }
    }
    files.reverse();
    Ok(files)
}

/// File and offset of the first line to read.
fn start(path: &Path, tail: Option<usize>) -> io::Result<Option<((u64, fs::File), u64)>> {
    let files = files(path)?;
    let mut first = (0, 0);
    let mut wanted = tail.unwrap_or_default();
    let searched = if tail.is_some() { files.len() } else { 0 };
    for (index, (_, file)) in files.iter().enumerate().take(searched).rev() {
        let mut text = Vec::new();
        (&*file).read_to_end(&mut text)?;
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
            first = (index, offset as u64);
            break;
        }
        wanted -= ends.len();
    }
    let (index, offset) = first;
    Ok(files.into_iter().nth(index).map(|file| (file, offset)))
}

#[cfg(test)]
mod tests {
    use std::fs::{read_to_string, rename, write};

    use super::*;

    fn reader(folder: &Path) -> LogReader {
        LogReader {
            path: folder.join("log.json"),
            exit: folder.join("exit.json"),
            follow: true,
            tail: None,
            since: None,
            place: Place::Start,
            watch: None,
        }
    }

    fn entry(number: usize) -> String {
        format!("{{\"log\":\"{number}\",\"stream\":\"stdout\",\"time\":\"\"}}\n")
    }

    async fn next(reader: &mut LogReader) -> String {
        String::from_utf8(reader.next().await.unwrap().unwrap().bytes).unwrap()
    }

    #[tokio::test]
    async fn what_was_written_between_the_end_of_a_file_and_its_rotation_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(at("log.json"), entry(0)).unwrap();
        let mut reader = reader(folder.path());
        assert_eq!(next(&mut reader).await, "0");
        assert!(reader.line().await.unwrap().is_none(), "the end is reached");
        let grown = read_to_string(at("log.json")).unwrap() + &entry(1);
        // In place: the inode is what the reader knows the file by.
        write(at("log.json"), grown).unwrap();
        rename(at("log.json"), at("log.json.1")).unwrap();
        write(at("log.json"), entry(2)).unwrap();
        assert_eq!(next(&mut reader).await, "1");
        assert_eq!(next(&mut reader).await, "2");
    }

    #[tokio::test]
    async fn a_rotation_that_is_under_way_hides_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // `.1` was renamed to `.2`, and the current file not yet to `.1`; then all but the new file is there.
        for present in [
            ["log.json.3", "log.json.2", "log.json"],
            ["log.json.3", "log.json.2", "log.json.1"],
        ] {
            for (number, name) in present.iter().enumerate() {
                write(at(name), entry(number)).unwrap();
            }
            let mut reader = reader(folder.path());
            for number in 0..present.len() {
                assert_eq!(next(&mut reader).await, number.to_string());
            }
            std::fs::remove_file(at(present[2])).unwrap();
        }
    }
}
