//! The container's output as Docker's `json-file` log, rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use linkspan_plan::LogSpec;
use serde::Serialize;

use crate::LogStream;

/// A longer line is cut into pieces, of which only the last has a line feed.
const LINE_MAX: usize = 16 << 10;

/// One entry.
#[derive(Serialize)]
struct Entry<'a> {
    log: &'a str,
    stream: LogStream,
    time: &'a str,
}

/// Writes entries; the file is `log.json`, older ones are `log.json.1` and up.
pub(super) struct Journal {
    path: PathBuf,
    spec: LogSpec,
    file: Option<File>,
    size: u64,
    /// Begun lines of stdout and stderr.
    begun: [Vec<u8>; 2],
    batch: Vec<u8>,
}

impl Journal {
    pub(super) fn open(path: &Path, spec: &LogSpec) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            spec: spec.clone(),
            file: Some(file),
            size,
            begun: [Vec::new(), Vec::new()],
            batch: Vec::new(),
        })
    }

    /// Takes what was read from a stream. A full disk loses lines, but never stops the container.
    pub(super) fn take(&mut self, stream: LogStream, bytes: &[u8]) {
        let time = now();
        let mut begun = std::mem::take(&mut self.begun[stream as usize]);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            begun.extend_from_slice(&rest[..=end]);
            rest = &rest[end + 1..];
            self.pieces(stream, &mut begun, true, &time);
        }
        begun.extend_from_slice(rest);
        self.pieces(stream, &mut begun, false, &time);
        self.begun[stream as usize] = begun;
        self.flush();
    }

    /// The streams ended: what is begun is the last line.
    pub(super) fn finish(&mut self) {
        let time = now();
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let mut begun = std::mem::take(&mut self.begun[stream as usize]);
            self.pieces(stream, &mut begun, true, &time);
        }
        self.flush();
    }

    /// Writes full pieces of a line, and with `whole` all of it.
    fn pieces(&mut self, stream: LogStream, line: &mut Vec<u8>, whole: bool, time: &str) {
        let mut from = 0;
        while line.len() - from > LINE_MAX || (whole && from < line.len()) {
            let mut end = line.len().min(from + LINE_MAX);
            // Not within a character.
            while end < line.len() && end > from + 1 && line[end] & 0xC0 == 0x80 {
                end -= 1;
            }
            self.entry(stream, &line[from..end], time);
            from = end;
        }
        line.drain(..from);
    }

    fn entry(&mut self, stream: LogStream, bytes: &[u8], time: &str) {
        let log = String::from_utf8_lossy(bytes);
        let start = self.batch.len();
        if serde_json::to_writer(
            &mut self.batch,
            &Entry {
                log: &log,
                stream,
                time,
            },
        )
        .is_err()
        {
            self.batch.truncate(start);
            return;
        }
        self.batch.push(b'\n');
        let length = (self.batch.len() - start) as u64;
        if self.size > 0 && self.size + length > self.spec.max_size {
            let entry = self.batch.split_off(start);
            self.flush();
            self.rotate();
            self.batch.extend_from_slice(&entry);
        }
        self.size += length;
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && !self.batch.is_empty()
        {
            let _ = file.write_all(&self.batch);
        }
        self.batch.clear();
        // A burst of long lines should not be remembered by a process that wants to be small.
        self.batch.shrink_to(64 << 10);
    }

    fn rotate(&mut self) {
        let older = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.spec.max_files > 1 {
            for number in (1..self.spec.max_files - 1).rev() {
                let _ = std::fs::rename(older(number), older(number + 1));
            }
            let _ = std::fs::rename(&self.path, older(1));
        } else {
            let _ = std::fs::remove_file(&self.path);
        }
        self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
        self.size = 0;
    }
}

/// RFC 3339 with nanoseconds, UTC.
fn now() -> String {
    let now = Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(max_size: u64, max_files: u32) -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal =
            Journal::open(&folder.path().join("log.json"), &LogSpec { max_size, max_files }).unwrap();
        (folder, journal)
    }

    fn logs(folder: &tempfile::TempDir, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
        let log = |line: &str| -> String {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(entry["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
            entry["log"].as_str().unwrap().to_owned()
        };
        text.lines().map(log).collect()
    }

    #[test]
    fn lines_that_come_in_pieces_are_joined() {
        let (folder, mut journal) = journal(1 << 20, 3);
        journal.take(LogStream::Stdout, b"one\ntw");
        journal.take(LogStream::Stderr, b"err\n");
        journal.take(LogStream::Stdout, b"o\nend");
        assert_eq!(logs(&folder, "log.json"), ["one\n", "err\n", "two\n"]);
        journal.finish();
        assert_eq!(logs(&folder, "log.json"), ["one\n", "err\n", "two\n", "end"]);
    }

    #[test]
    fn a_line_without_end_is_written_in_pieces() {
        let (folder, mut journal) = journal(1 << 20, 3);
        let long = "ü".repeat(LINE_MAX);
        journal.take(LogStream::Stdout, long.as_bytes());
        journal.take(LogStream::Stdout, b"\n");
        let pieces = logs(&folder, "log.json");
        assert!(pieces.iter().all(|piece| piece.len() <= LINE_MAX));
        assert_eq!(pieces.concat(), long + "\n");
    }

    #[test]
    fn old_files_are_dropped_when_the_log_is_full() {
        let (folder, mut journal) = journal(500, 3);
        for number in 0..100 {
            journal.take(LogStream::Stdout, format!("line {number}\n").as_bytes());
        }
        assert!(!folder.path().join("log.json.3").exists());
        let mut all = logs(&folder, "log.json.2");
        all.extend(logs(&folder, "log.json.1"));
        all.extend(logs(&folder, "log.json"));
        assert_eq!(all.last().unwrap(), "line 99\n");
        let first: usize = all[0].trim().rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(all.len(), 100 - first, "no line is missing in between");
    }
}
