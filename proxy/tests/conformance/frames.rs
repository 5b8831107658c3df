//! HTTP/2 by hand: frames as they are wanted, right or wrong.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::subject::{Http2, Subject};
use crate::wire::{Stop, Wire};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub(crate) trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A client's connection.
pub(crate) struct Http2Client {
    wire: Wire<Box<dyn Stream>>,
    socket: TcpStream,
    patience: Duration,
}

/// A frame with this payload.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a frame's length")
        .to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals that are not indexed and not compressed (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// A length in seven bits and, where they don't do, more bytes (RFC 7541 §5.1).
fn integer(bytes: &mut Vec<u8>, value: usize) {
    if value < 127 {
        bytes.push(u8::try_from(value).expect("small"));
        return;
    }
    bytes.push(127);
    let mut left = value - 127;
    while left >= 128 {
        bytes.push(u8::try_from(left % 128 + 128).expect("small"));
        left /= 128;
    }
    bytes.push(u8::try_from(left).expect("small"));
}

impl Http2Client {
    /// Connected, the preface and empty settings sent.
    pub(crate) fn dial(subject: &Subject) -> Self {
        let (socket, stream): (TcpStream, Box<dyn Stream>) = match &subject.http2 {
            Http2::Plain(address) => {
                let socket = subject.tcp(*address);
                let stream = socket.try_clone().expect("clone");
                (socket, Box::new(stream))
            }
            Http2::Tls(address, config) => {
                let socket = subject.tcp(*address);
                let name = rustls::pki_types::ServerName::try_from("a.test").expect("name");
                let tls = rustls::ClientConnection::new(Arc::clone(config), name).expect("TLS");
                let stream = rustls::StreamOwned::new(tls, socket.try_clone().expect("clone"));
                (socket, Box::new(stream))
            }
        };
        let patience = socket.read_timeout().ok().flatten().unwrap_or_default();
        let mut client = Self {
            wire: Wire::new(stream),
            socket,
            patience,
        };
        client.wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.send(&frame(SETTINGS, 0, 0, &[]));
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.wire.send(bytes)
    }

    /// A request on stream 1, whole unless a body follows.
    pub(crate) fn request(&mut self, fields: &[(&str, &str)], flags: u8) {
        self.send(&frame(HEADERS, END_HEADERS | flags, 1, &block(fields)));
    }

    fn receive(&mut self) -> Result<(u8, u8, u32, Vec<u8>), Stop> {
        let head = self.wire.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok((head[3], head[4], stream, self.wire.exactly(length)?))
    }

    /// What becomes of this stream: a status, `stream error`, or `connection error`.
    pub(crate) fn outcome(&mut self, stream: u32) -> String {
        loop {
            match self.receive() {
                Ok((HEADERS, _, of, block)) if of == stream => return status(&block),
                Ok((RST_STREAM, _, of, _)) if of == stream => return "stream error".into(),
                Ok((GOAWAY, _, _, payload)) if payload.get(4..8) != Some(&[0; 4]) => {
                    return "connection error".into();
                }
                Ok((kind @ (SETTINGS | PING), flags, _, payload)) if flags & ACK == 0 => {
                    let payload = if kind == PING { payload } else { Vec::new() };
                    self.send(&frame(kind, ACK, 0, &payload));
                }
                Ok(_) => {}
                Err(Stop::Closed | Stop::Garbled) => return "connection error".into(),
                Err(Stop::Silent) => return "silent".into(),
            }
        }
    }

    /// The body of the response on this stream, to its end.
    pub(crate) fn data(&mut self, stream: u32) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            match self.receive() {
                Ok((DATA, flags, of, payload)) if of == stream => {
                    body.extend(payload);
                    if flags & END_STREAM != 0 {
                        return Ok(body);
                    }
                }
                Ok((RST_STREAM, _, of, _)) if of == stream => return Err("stream error".into()),
                Ok(_) => {}
                Err(stop) => return Err(stop.shown()),
            }
        }
    }

    /// Sends such bytes over and over, reading what comes in between. Does the other side put an end to it?
    pub(crate) fn flood(&mut self, times: u32, mut bytes: impl FnMut(u32) -> Vec<u8>) -> String {
        for n in 0..times {
            if !self.send(&bytes(n)) {
                return "ended".into();
            }
            if n % 64 == 0 && self.is_over(Duration::from_millis(1)) {
                return "ended".into();
            }
        }
        if self.is_over(self.patience.min(Duration::from_secs(5))) {
            "ended".into()
        } else {
            "taken".into()
        }
    }

    /// Reads for so long. Was that the end?
    fn is_over(&mut self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).expect("timeout");
        let over = loop {
            match self.receive() {
                Ok((GOAWAY, _, _, payload)) if payload.get(4..8) != Some(&[0; 4]) => break true,
                Ok(_) => {}
                Err(Stop::Silent) => break false,
                Err(Stop::Closed | Stop::Garbled) => break true,
            }
        };
        self.socket
            .set_read_timeout(Some(self.patience))
            .expect("timeout");
        over
    }
}

/// The status at the start of a response's fields, indexed or literal; whoever answers puts it first.
fn status(block: &[u8]) -> String {
    // Changes of the table's size may stand before (RFC 7541 §6.3).
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0);
    let known = ["200", "204", "206", "304", "400", "404", "500"];
    match block[start..] {
        [indexed @ 0x88..=0x8e, ..] => known[usize::from(indexed - 0x88)].into(),
        // A literal whose name is one of the seven of `:status`, with or without Huffman's code.
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, length, ref text @ ..] => {
            let text = &text[..usize::from(length & 0x7f).min(text.len())];
            if length & 0x80 == 0 {
                String::from_utf8_lossy(text).into_owned()
            } else {
                digits(text)
            }
        }
        _ => "no status".into(),
    }
}

/// Digits in Huffman's code (RFC 7541, appendix B): the first three have five bits, the others six.
fn digits(text: &[u8]) -> String {
    let bits: String = text.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut told = String::new();
    let mut at = 0;
    while at + 5 <= bits.len() {
        let five = u8::from_str_radix(&bits[at..at + 5], 2).expect("bits");
        let next = if five < 3 {
            at += 5;
            b'0' + five
        } else if at + 6 <= bits.len() {
            let six = u8::from_str_radix(&bits[at..at + 6], 2).expect("bits");
            at += 6;
            if !(25..=31).contains(&six) {
                break;
            }
            b'3' + six - 25
        } else {
            break;
        };
        told.push(char::from(next));
    }
    told
}
