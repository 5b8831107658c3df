//! Buffers of a thread that nobody uses at the moment. A connection holds one only while bytes are on their way, so an
//! idle one costs no more than itself.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes of a small buffer.
const SMALL: usize = 16 << 10;
/// Bytes of a large one. A body of 100 KB over TLS costs half as much again when it is read by 16 KiB.
const LARGE: usize = 128 << 10;
/// Most that are kept of either size.
const SPARE: [usize; 2] = [64, 8];

/// How large a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    /// For bodies that fill a small one.
    Large,
}

impl Size {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Small => SMALL,
            Self::Large => LARGE,
        }
    }
}

thread_local! {
    static BUFFERS: RefCell<[Vec<BytesMut>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// An empty buffer of this size.
pub(super) fn take(size: Size) -> BytesMut {
    let spare = BUFFERS.with_borrow_mut(|buffers| buffers[size as usize].pop());
    let mut buffer = spare.unwrap_or_default();
    // Gets its own memory back where nothing else refers to it any more.
    buffer.reserve(size.bytes());
    buffer
}

/// Keeps the memory for the next one.
pub(super) fn give_back(mut buffer: BytesMut, size: Size) {
    // A long head made it larger than its kind.
    if buffer.capacity() > size.bytes() {
        return;
    }
    buffer.clear();
    BUFFERS.with_borrow_mut(|buffers| {
        let spare = &mut buffers[size as usize];
        if spare.len() < SPARE[size as usize] {
            spare.push(buffer);
        }
    });
}
