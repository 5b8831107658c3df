//! HTTP/1.1, on both sides of the proxy.

pub(crate) mod codec;
