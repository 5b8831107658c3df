//! The stand-in: answers requests on a unix socket as a test says, and remembers them.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

/// A request.
pub(crate) struct Asked {
    /// `GET /v1/…`.
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

type Talk = Box<dyn FnOnce(UnixStream) + Send>;

/// What comes back.
pub(crate) struct Reply {
    head: String,
    body: Vec<u8>,
    then: Option<Talk>,
}

impl Reply {
    fn new(status: &str, body: Vec<u8>) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        Self {
            head,
            body,
            then: None,
        }
    }

    pub(crate) fn json(body: &str) -> Self {
        Self::new("200 OK", body.into())
    }

    pub(crate) fn text(body: String) -> Self {
        Self::new("200 OK", body.into())
    }

    pub(crate) fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self::new("200 OK", body.into())
    }

    pub(crate) fn empty() -> Self {
        Self {
            head: "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned(),
            body: Vec::new(),
            then: None,
        }
    }

    pub(crate) fn failure(status: u16, message: &str) -> Self {
        Self::refusal(status, message, &[])
    }

    /// A failure with problems.
    pub(crate) fn refusal(status: u16, message: &str, problems: &[&str]) -> Self {
        Self::new(
            &format!("{status} No"),
            serde_json::json!({ "message": message, "problems": problems })
                .to_string()
                .into(),
        )
    }

    /// A body that is announced longer than it comes.
    pub(crate) fn cut_off(body: String) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len() + 1);
        Self {
            head,
            body: body.into(),
            then: None,
        }
    }

    /// A head, and then nothing for a long time.
    pub(crate) fn silence() -> Self {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        Self {
            head,
            body: Vec::new(),
            then: Some(Box::new(|_| std::thread::sleep(Duration::from_secs(5)))),
        }
    }

    /// A head, then the pieces with a pause after each, then the end.
    pub(crate) fn slowly(pieces: Vec<String>, pause: Duration) -> Self {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        let talk = move |mut stream: UnixStream| {
            for piece in pieces.into_iter().chain([String::new()]) {
                let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                // A client that has gone is the test's business, not ours.
                let _ = stream.write_all(chunk.as_bytes());
                std::thread::sleep(pause);
            }
        };
        Self {
            head,
            body: Vec::new(),
            then: Some(Box::new(talk)),
        }
    }

    /// Switches protocols, and goes on as `talk` says.
    pub(crate) fn upgrade(talk: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: linkspan-exec\r\n\r\n";
        Self {
            head: head.to_owned(),
            body: Vec::new(),
            then: Some(Box::new(talk)),
        }
    }
}

/// The stand-in; its threads end with the test's process.
pub(crate) struct Daemon {
    dir: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("linkspan.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &log, &*answer));
            }
        });
        Self { dir, asked }
    }

    pub(crate) fn run_dir(&self) -> &Path {
        self.dir.path()
    }

    /// All requests so far, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: UnixStream, log: &Mutex<Vec<String>>, answer: &dyn Fn(&Asked) -> Reply) {
    let Some(asked) = read(&mut stream) else { return };
    log.lock().unwrap().push(asked.line.clone());
    let reply = answer(&asked);
    // A client that has gone is the test's business, not ours.
    let _ = stream
        .write_all(reply.head.as_bytes())
        .and_then(|()| stream.write_all(&reply.body));
    if let Some(talk) = reply.then {
        talk(stream);
    }
}

fn read(stream: &mut UnixStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let mut body = Vec::new();
    if let Some(length) = header("content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).ok()?;
    } else if header("transfer-encoding").is_some() {
        while let Some(chunk) = read_chunk(stream) {
            body.extend(chunk);
        }
    }
    Some(Asked { line, body })
}

/// `None` for the last one, which is empty.
fn read_chunk(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut size = Vec::new();
    while !size.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        size.push(byte[0]);
    }
    let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).ok()?;
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}
