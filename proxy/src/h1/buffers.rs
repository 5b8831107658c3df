//! Buffers of a thread that nobody uses at the moment. A connection holds one only while bytes are on their way, so an
//! idle one costs no more than itself.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes of a buffer.
pub(super) const SIZE: usize = 16 << 10;
/// Most that are kept.
const SPARE: usize = 64;

thread_local! {
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for [`SIZE`] bytes.
pub(super) fn take() -> BytesMut {
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    // Gets its own memory back where nothing else refers to it any more.
    buffer.reserve(SIZE);
    buffer
}

/// Keeps the memory for the next one, unless it grew large.
pub(super) fn give_back(mut buffer: BytesMut) {
    if buffer.capacity() == 0 || buffer.capacity() > SIZE {
        return;
    }
    buffer.clear();
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < SPARE {
            buffers.push(buffer);
        }
    });
}
