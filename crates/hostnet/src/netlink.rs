//! Netlink messages by hand, for the families that `rtnetlink` does not speak: nf_tables and connection tracking.
//!
//! Layout after `linux/netlink.h`: a 16-byte header, then for netfilter 4 more bytes, then attributes, each with a
//! 4-byte header and padded to 4.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const DUMP_INTERRUPTED: u16 = 0x10;
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;
const HEADER: usize = 16;
/// Header and `nfgenmsg`.
pub(crate) const NETFILTER_HEADER: usize = HEADER + 4;
/// One read returns at most so much of a dump.
const READ: usize = 256 * 1024;
/// Room for the answers to a batch.
const RECEIVE_BUFFER: u32 = 1024 * 1024;

// === Writing ===

/// A growing row of messages.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A netfilter message: its attributes are what `body` writes.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.push(family);
        self.bytes.push(0);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// An attribute.
    pub(crate) fn attr(&mut self, kind: u16, data: &[u8]) {
        let length = (data.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    /// An attribute with a number in network order, as netfilter has them.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// An attribute with a text, which ends with NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    /// An attribute that holds attributes. At most 64 KiB; the caller splits what may grow.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    /// An attribute that holds these attributes, as they were read.
    pub(crate) fn nested_bytes(&mut self, kind: u16, attributes: &[u8]) {
        self.attr(kind | NESTED, attributes);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

// === Reading ===

/// One message of a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Port of the socket whose request caused it.
    pub(crate) port: u32,
    /// All behind the header.
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes of a netfilter message.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(NETFILTER_HEADER - HEADER..).unwrap_or_default())
    }

    /// The error that this message reports, 0 for an acknowledgement; absent when it is no such message.
    fn errno(&self) -> Option<i32> {
        let code = self.body.get(..4)?.try_into().ok()?;
        (self.kind == MESSAGE_ERROR).then(|| -i32::from_ne_bytes(code))
    }
}

/// Splits a datagram into messages; stops at the first broken one.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = read_u32(bytes)? as usize;
        let message = bytes.get(..length).filter(|_| length >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: read_u16(&message[4..])?,
            flags: read_u16(&message[6..])?,
            sequence: read_u32(&message[8..])?,
            port: read_u32(&message[12..])?,
            body: &message[HEADER..],
        })
    })
}

/// A row of attributes; ends at the first broken one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(read_u16(self.0)?);
        let kind = read_u16(self.0.get(2..)?)? & KIND_MASK;
        let data = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    }
}

impl<'a> Attributes<'a> {
    /// The first attribute of this kind.
    pub(crate) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.by_ref()
            .find(|(found, _)| *found == kind)
            .map(|(_, data)| data)
    }

    /// A nested attribute; empty when it isn't there.
    pub(crate) fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.find(kind).unwrap_or_default())
    }

    /// A text without its NUL.
    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.find(kind)?)
            .ok()
            .map(|text| text.trim_end_matches('\0'))
    }

    /// A number in network order.
    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        self.find(kind)?.try_into().ok().map(u32::from_be_bytes)
    }
}

fn read_u16(bytes: &[u8]) -> Option<u16> {
    bytes.get(..2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

// === The socket ===

/// A netfilter socket. The kernel answers inside the call that sends, so nothing here ever waits.
pub(crate) struct NetfilterSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
}

impl std::fmt::Debug for NetfilterSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetfilterSocket")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl NetfilterSocket {
    /// Opens one in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.set_cap_ack(true)?;
        // More than `rmem_max` where we may; what we get must do.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(RECEIVE_BUFFER as usize));
        Ok(Self {
            socket,
            port,
            sequence: 0,
        })
    }

    /// The kernel's name for this socket; marks the messages about what it did.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// A number for the next message.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends a batch as one datagram and returns what failed, by sequence number.
    pub(crate) fn send_batch(&mut self, batch: &[u8]) -> io::Result<Vec<(u32, Errno)>> {
        self.drain();
        self.send(batch)?;
        let mut failed = Vec::new();
        let mut buffer = vec![0; READ];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    failed.extend(messages(&buffer[..length]).filter_map(|message| {
                        message
                            .errno()
                            .filter(|code| *code != 0)
                            .map(|code| (message.sequence, Errno::from_raw(code)))
                    }));
                }
                Err(Errno::EAGAIN) => return Ok(failed),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends one request and hands every message of the answer to `each`. Starts over when the kernel says that the
    /// listing changed under its hands; `reset` is called before every start.
    pub(crate) fn request<T>(
        &mut self,
        request: &[u8],
        mut reset: impl FnMut() -> T,
        mut each: impl FnMut(&mut T, Message<'_>),
    ) -> io::Result<T> {
        loop {
            self.drain();
            self.send(request)?;
            let mut state = reset();
            if self.answer(&mut state, &mut each)? {
                return Ok(state);
            }
        }
    }

    /// Reads until the answer ends; false if it was interrupted by a change.
    fn answer<T>(&mut self, state: &mut T, each: &mut impl FnMut(&mut T, Message<'_>)) -> io::Result<bool> {
        let mut buffer = vec![0; READ];
        let mut whole = true;
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(&buffer[..length]) {
                whole &= message.flags & DUMP_INTERRUPTED == 0;
                match (message.kind, message.errno()) {
                    (MESSAGE_DONE, _) | (_, Some(0)) => return Ok(whole),
                    (_, Some(code)) if code == Errno::EINTR as i32 => return Ok(false),
                    (_, Some(code)) => return Err(io::Error::from_raw_os_error(code)),
                    _ => each(state, message),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // A batch is one datagram, however large: the kernel accepts at most the send buffer less some overhead.
        let room = bytes.len() * 2 + 64 * 1024;
        let _ = setsockopt(&self.socket, sockopt::SndBufForce, &room);
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0).map(drop)
    }

    /// Forgets answers that a failed call has left.
    fn drain(&self) {
        let mut buffer = [0; 1024];
        while matches!(
            recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT),
            Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS)
        ) {}
    }
}
