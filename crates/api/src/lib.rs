//! The wire: types of the control API, the feed from netd to the proxy, and the clients of both sockets.

pub mod client;
pub mod feed;
pub mod frames;
pub mod v1;
