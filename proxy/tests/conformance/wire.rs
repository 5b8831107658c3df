//! A byte stream that is read message by message, and tolerates everything: what comes is told, never judged.

use std::io::{ErrorKind, Read, Write};

/// One side of a connection.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

/// Why nothing more came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The connection ended, in order or by a reset.
    Closed,
    /// The time ran out.
    Silent,
    /// What came is no message.
    Garbled,
}

impl Stop {
    pub(crate) fn shown(self) -> String {
        match self {
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Garbled => "garbled",
        }
        .to_owned()
    }
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Message {
    /// First line and fields, without the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The fields behind a chunked body.
    pub(crate) trailers: String,
    /// The body ended where the framing said it would.
    pub(crate) whole: bool,
}

impl Message {
    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("no status")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// All values of a field of a head, joined.
pub(crate) fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let values: Vec<&str> = lines
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

impl<S: Read + Write> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends bytes; who has closed its side already need not hear them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream
            .write_all(bytes.as_ref())
            .and_then(|()| self.stream.flush())
            .is_ok()
    }

    fn fill(&mut self) -> Result<(), Stop> {
        let mut chunk = [0; 16 << 10];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Stop::Closed),
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Stop::Silent);
                }
                Err(_) => return Err(Stop::Closed),
            }
        }
    }

    /// The next bytes up to and including `end`.
    pub(crate) fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            self.fill()?;
        }
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Stop> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// All until the end; the reason is never anything but the end or silence.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Stop) {
        loop {
            if let Err(stop) = self.fill() {
                return (std::mem::take(&mut self.buffer), stop);
            }
        }
    }

    pub(crate) fn head(&mut self) -> Result<String, Stop> {
        let head = self.until(b"\r\n\r\n")?;
        Ok(String::from_utf8_lossy(&head).trim_end().to_owned())
    }

    /// The next response, informational ones too.
    pub(crate) fn response(&mut self, to_head: bool) -> Result<Message, Stop> {
        let mut message = Message {
            head: self.head()?,
            body: Vec::new(),
            trailers: String::new(),
            whole: true,
        };
        let status = message.status();
        if !to_head && !status.starts_with('1') && !matches!(status, "204" | "304") {
            self.body(&mut message, true)?;
        }
        Ok(message)
    }

    /// The next response that is final.
    pub(crate) fn answer(&mut self) -> Result<Message, Stop> {
        loop {
            let message = self.response(false)?;
            if !message.status().starts_with('1') || message.status() == "101" {
                return Ok(message);
            }
        }
    }

    /// Reads what the head announces.
    pub(crate) fn body(&mut self, message: &mut Message, is_response: bool) -> Result<(), Stop> {
        if field(&message.head, "transfer-encoding").is_some() {
            message.whole = self.chunks(message)?;
        } else if let Some(length) = field(&message.head, "content-length") {
            let length = length.parse().map_err(|_| Stop::Garbled)?;
            match self.exactly(length) {
                Ok(body) => message.body = body,
                Err(Stop::Closed) => {
                    message.body = std::mem::take(&mut self.buffer);
                    message.whole = false;
                }
                Err(stop) => return Err(stop),
            }
        } else if is_response {
            message.body = self.rest().0;
        }
        Ok(())
    }

    fn chunks(&mut self, message: &mut Message) -> Result<bool, Stop> {
        let cut = |stop| match stop {
            Stop::Closed => Ok(false),
            stop => Err(stop),
        };
        loop {
            let line = match self.until(b"\r\n") {
                Ok(line) => String::from_utf8_lossy(&line).trim().to_owned(),
                Err(stop) => return cut(stop),
            };
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(|_| Stop::Garbled)?;
            if size == 0 {
                loop {
                    match self.until(b"\r\n") {
                        Ok(line) if line == b"\r\n" => return Ok(true),
                        Ok(line) => message.trailers += &String::from_utf8_lossy(&line),
                        Err(stop) => return cut(stop),
                    }
                }
            }
            match self.exactly(size.saturating_add(2)) {
                Ok(chunk) if chunk.ends_with(b"\r\n") => message.body.extend_from_slice(&chunk[..size]),
                Ok(_) => return Err(Stop::Garbled),
                Err(stop) => return cut(stop),
            }
        }
    }
}
