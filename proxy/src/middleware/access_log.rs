//! One JSON line for each request, written when the last of it is dropped, so that cancelled requests are told too.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Method, Uri, Version};

use crate::body::Progress;
use crate::client::Client;
use crate::middleware::concurrency::Permit;
use crate::upstream::pool::Host;

mod writer;

pub use writer::LogFile;
pub(crate) use writer::LogSink;

/// Bytes that a worker gathers before it hands them on.
const BATCH: usize = 64 << 10;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of an answer was handed to the client's connection.
    Ok,
    /// The client closed, or reset its stream, before that.
    ClientGone,
    /// The upstream broke off within its answer, and the client was shown that.
    UpstreamTruncated,
    /// The upstream gave no answer; the client got an error from us.
    UpstreamFailed,
    /// Refused by us, or by nobody being there.
    Refused,
}

/// What is known of a request so far. Dropping it writes the line.
pub(crate) struct Record {
    client: Rc<Client>,
    time: SystemTime,
    started: Instant,
    id: HeaderValue,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    version: Version,
    /// Who logged in.
    user: Option<String>,
    status: u16,
    request: Rc<Progress>,
    bytes_out: u64,
    upstream: Option<(Rc<Host>, u16)>,
    upstream_time: Option<Duration>,
    retries: u32,
    held: Duration,
    /// Nobody has said anything yet: then the client left before anything could end.
    outcome: Option<Outcome>,
    /// Why the answer is one of our own; absent when it is the upstream's.
    reason: Option<&'static str>,
    /// The request's place among those of its route, which is free when the record goes.
    place: Option<Permit>,
}

impl Record {
    pub(crate) fn begin<B>(client: &Rc<Client>, request: &http::Request<B>, progress: &Rc<Progress>) -> Self {
        client.clock.begin();
        Self {
            client: Rc::clone(client),
            time: SystemTime::now(),
            started: Instant::now(),
            id: HeaderValue::from_static(""),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(http::header::HOST).cloned(),
            version: request.version(),
            user: None,
            status: 0,
            request: Rc::clone(progress),
            bytes_out: 0,
            upstream: None,
            upstream_time: None,
            retries: 0,
            held: Duration::ZERO,
            outcome: None,
            reason: None,
            place: None,
        }
    }

    pub(crate) fn id(&mut self, id: HeaderValue) {
        self.id = id;
    }

    pub(crate) fn user(&mut self, user: String) {
        self.user = Some(user);
    }

    pub(crate) fn status(&mut self, status: http::StatusCode) {
        self.status = status.as_u16();
    }

    pub(crate) fn upstream(&mut self, host: &Rc<Host>, port: u16) {
        self.upstream = Some((Rc::clone(host), port));
    }

    pub(crate) fn upstream_answered(&mut self, after: Duration) {
        self.upstream_time = Some(after);
    }

    pub(crate) fn retried(&mut self) {
        self.retries += 1;
    }

    pub(crate) fn held(&mut self, time: Duration) {
        self.held = time;
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// A tunnel ended after so many bytes.
    pub(crate) fn tunnelled(&mut self, up: u64, down: u64) {
        self.request.bytes.set(up);
        self.bytes_out = down;
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// The answer is one of our own, and this is why.
    pub(crate) fn reason(&mut self, reason: &'static str) {
        self.reason = Some(reason);
    }

    pub(crate) fn place(&mut self, place: Permit) {
        self.place = Some(place);
    }

    /// Only where nothing worse was said yet: an error page that was delivered is still an error.
    pub(crate) fn delivered(&mut self) {
        self.outcome.get_or_insert(Outcome::Ok);
    }

    fn line(&self, out: &mut Vec<u8>) {
        let mut line = Line { out, first: true };
        line.out.push(b'{');
        line.field("time");
        self.client.worker.log.timestamp(self.time, line.out);
        line.field("id").text(self.id.as_bytes());
        line.field("client").quoted(self.client.address());
        if let Some(user) = &self.user {
            line.field("user").text(user.as_bytes());
        }
        let host = self.host.as_ref().map(HeaderValue::as_bytes);
        // The authority of an absolute target overrules the field, here as in the router.
        let authority = self
            .uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        line.field("host").text(authority.or(host).unwrap_or_default());
        line.field("method").quoted(self.method.as_str());
        let path = self
            .uri
            .path_and_query()
            .map_or(self.uri.path(), |path| path.as_str());
        line.field("path").quoted(path);
        line.field("scheme")
            .quoted(if self.client.https() { "https" } else { "http" });
        line.field("protocol").quoted(match self.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        });
        line.field("status").number(u64::from(self.status));
        line.field("bytes_in").number(self.request.bytes.get());
        line.field("bytes_out").number(self.bytes_out);
        line.field("duration_us").number(micros(self.started.elapsed()));
        if let Some((host, port)) = &self.upstream {
            line.field("upstream").quoted(&host.endpoint.id);
            line.field("upstream_port").number(u64::from(*port));
        }
        if let Some(time) = self.upstream_time {
            line.field("upstream_us").number(micros(time));
        }
        line.field("retries").number(u64::from(self.retries));
        line.field("held_ms")
            .number(u64::try_from(self.held.as_millis()).unwrap_or(u64::MAX));
        line.field("outcome")
            .quoted(match self.outcome.unwrap_or(Outcome::ClientGone) {
                Outcome::Ok => "ok",
                Outcome::ClientGone => "client_gone",
                Outcome::UpstreamTruncated => "upstream_truncated",
                Outcome::UpstreamFailed => "upstream_failed",
                Outcome::Refused => "refused",
            });
        if let Some(reason) = self.reason {
            line.field("reason").quoted(reason);
        }
        out.extend_from_slice(b"}\n");
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.client.clock.end();
        self.client.worker.log.write(|out| self.line(out));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The second that was written last, as text: most lines fall into the same one.
#[derive(Debug, Default)]
struct Second {
    since_epoch: u64,
    text: String,
}

impl Second {
    /// Writes `"2026-01-31T12:00:00.123Z"`.
    fn timestamp(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs();
        if self.since_epoch != second || self.text.is_empty() {
            self.since_epoch = second;
            let time = i64::try_from(second)
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok());
            self.text = time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        let millis = since.subsec_millis();
        let digit = |place: u32| b'0' + (millis / place % 10) as u8;
        out.push(b'"');
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z', b'"']);
    }
}

// === JSON ===

struct Line<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Line<'_> {
    fn field(&mut self, name: &'static str) -> &mut Self {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    fn quoted(&mut self, text: &str) {
        self.text(text.as_bytes());
    }

    /// What is not UTF-8 is replaced.
    fn text(&mut self, text: &[u8]) {
        self.out.push(b'"');
        let plain = |b: &u8| (b' '..=b'~').contains(b) && *b != b'"' && *b != b'\\';
        if text.iter().all(plain) {
            self.out.extend_from_slice(text);
        } else {
            for c in String::from_utf8_lossy(text).chars() {
                match c {
                    '"' | '\\' => self.out.extend_from_slice(&[b'\\', c as u8]),
                    c if c < ' ' || c == '\x7f' => {
                        write!(self.out, "\\u{:04x}", u32::from(c)).ok();
                    }
                    c => self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
        }
        self.out.push(b'"');
    }
}

/// A worker's lines that are not written yet.
#[derive(Debug)]
pub(crate) struct LogBuffer {
    sink: LogSink,
    lines: RefCell<Vec<u8>>,
    second: RefCell<Second>,
}

impl LogBuffer {
    pub(crate) fn new(sink: LogSink) -> Self {
        Self {
            sink,
            lines: RefCell::default(),
            second: RefCell::default(),
        }
    }

    fn timestamp(&self, time: SystemTime, out: &mut Vec<u8>) {
        self.second.borrow_mut().timestamp(time, out);
    }

    fn write(&self, line: impl FnOnce(&mut Vec<u8>)) {
        if self.sink.is_off() {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        line(&mut lines);
        if lines.len() >= BATCH {
            drop(lines);
            self.flush();
        }
    }

    /// Hands the lines to the writer; called at least once a second.
    pub(crate) fn flush(&self) {
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        if !lines.is_empty() {
            self.sink.send(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_or_a_control_character_can_not_break_out_of_its_json_string() {
        let mut out = Vec::new();
        Line {
            out: &mut out,
            first: true,
        }
        .field("path")
        .quoted("/a\"b\\c\nd\u{7f}é");
        let parsed: serde_json::Value =
            serde_json::from_str(&format!("{{{}}}", String::from_utf8(out).unwrap())).unwrap();
        assert_eq!(parsed["path"], "/a\"b\\c\nd\u{7f}é");
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        let mut second = Second::default();
        for (millis, text) in [
            (1_700_000_000_007, "2023-11-14T22:13:20.007Z"),
            (1_700_000_000_999, "2023-11-14T22:13:20.999Z"),
            (1_700_000_001_000, "2023-11-14T22:13:21.000Z"),
            (0, "1970-01-01T00:00:00.000Z"),
        ] {
            let mut out = Vec::new();
            second.timestamp(UNIX_EPOCH + Duration::from_millis(millis), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{text}\""));
        }
    }
}
