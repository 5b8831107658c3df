//! The server behind the proxy: it keeps every byte that it gets, and answers as the row says.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::wire::{Message, Wire, field};

/// What is done with one request, whose head has been read. False ends the connection.
pub(crate) type Script = Arc<dyn Fn(&mut Asked<'_>) -> bool + Send + Sync>;

/// One request at the origin.
pub(crate) struct Asked<'a> {
    pub(crate) wire: &'a mut Wire<Recorded>,
    pub(crate) head: String,
    /// Which connection since the row began, from 1.
    pub(crate) connection: usize,
    whole: &'a AtomicUsize,
}

impl Asked<'_> {
    /// Reads the request's body. True when it has ended as it should.
    pub(crate) fn read(&mut self) -> bool {
        let mut message = Message {
            head: std::mem::take(&mut self.head),
            body: Vec::new(),
            trailers: String::new(),
            whole: true,
        };
        let read = self.wire.body(&mut message, false).is_ok() && message.whole;
        self.head = message.head;
        if read {
            self.whole.fetch_add(1, Ordering::SeqCst);
        }
        read
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }
}

/// Answers with the path that was asked for.
pub(crate) fn path() -> Script {
    Arc::new(|asked| {
        let path = asked.head.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        asked.read() && asked.wire.send(answer)
    })
}

/// Answers each request with these bytes, and keeps the connection.
pub(crate) fn saying(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    Arc::new(move |asked| asked.read() && asked.wire.send(&bytes))
}

/// Answers with these bytes and closes.
pub(crate) fn closing(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    Arc::new(move |asked| {
        if asked.read() {
            asked.wire.send(&bytes);
        }
        false
    })
}

/// A stream that keeps what is read from it.
pub(crate) struct Recorded {
    stream: TcpStream,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.seen.lock().unwrap().extend_from_slice(&buffer[..n]);
        Ok(n)
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

pub(crate) struct Origin {
    pub(crate) port: u16,
    row: Arc<Mutex<Row>>,
}

/// What belongs to the row that is being probed. Connections of the one before end with it.
struct Row {
    script: Script,
    seen: Arc<Mutex<Vec<u8>>>,
    accepted: usize,
    whole: Arc<AtomicUsize>,
    open: Vec<TcpStream>,
}

impl Row {
    fn new(script: Script) -> Self {
        Self {
            script,
            seen: Arc::default(),
            accepted: 0,
            whole: Arc::default(),
            open: Vec::new(),
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for stream in &self.open {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let row = Arc::new(Mutex::new(Row::new(path())));
        let rows = Arc::clone(&row);
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accept");
                stream.set_nodelay(true).expect("nodelay");
                let mut row = rows.lock().unwrap();
                row.accepted += 1;
                row.open.push(stream.try_clone().expect("clone"));
                let (script, connection, whole) =
                    (Arc::clone(&row.script), row.accepted, Arc::clone(&row.whole));
                let seen = Arc::clone(&row.seen);
                std::thread::spawn(move || {
                    let last = stream.try_clone().expect("clone");
                    let mut wire = Wire::new(Recorded { stream, seen });
                    while let Ok(head) = wire.head() {
                        let mut asked = Asked {
                            wire: &mut wire,
                            head,
                            connection,
                            whole: &whole,
                        };
                        if !script(&mut asked) {
                            break;
                        }
                    }
                    last.shutdown(Shutdown::Both).ok();
                });
            }
        });
        Self { port, row }
    }

    /// From now on this is what is done. Connections from before are closed.
    pub(crate) fn begin(&self, script: Script) {
        *self.row.lock().unwrap() = Row::new(script);
        // Who keeps connections has to notice that they ended.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    /// Every byte that came in since the row began.
    pub(crate) fn seen(&self) -> String {
        let row = self.row.lock().unwrap();
        let seen = row.seen.lock().unwrap();
        String::from_utf8_lossy(&seen).into_owned()
    }

    pub(crate) fn connections(&self) -> usize {
        self.row.lock().unwrap().accepted
    }

    /// Requests that came in to their end.
    pub(crate) fn whole(&self) -> usize {
        self.row.lock().unwrap().whole.load(Ordering::SeqCst)
    }
}
