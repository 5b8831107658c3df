//! The bytes of HTTP/1.1 (RFC 9112), read strictly and written plainly. Pure: bytes in, `http` types out, and back.
//!
//! What two programs may read in two ways is not repaired here but refused, for whoever sits behind us may read it the
//! other way: that is how requests are smuggled. So a line ends in CR LF and nothing else, a field is one line, a body
//! has one length, and a chunk's size is hexadecimal digits alone.

pub(crate) mod chunked;
pub(crate) mod encode;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod lines;
