//! HTTP/1.1, on both sides of the proxy.
//!
//! A [`wire::Wire`] is one connection, to a client or to an endpoint: bytes that came in and were not read yet, bytes that
//! are to go out, and how the body of the message that is coming in ends. [`server`] takes requests from one wire,
//! [`client`] sends one over another and takes the response; a body is read from its wire by whoever wants it next, when
//! it wants it, so that nothing is kept in between and a slow side slows the other one down. [`codec`] is the pure part.
//!
//! Nothing is spawned for a request. What happens to it happens in the task of the client's connection, save for one
//! case: a response that begins before the request has ended. Then the rest of the request is sent by a task of its own,
//! for the two have to go on independently of each other, and that task ends with the response.

pub(crate) mod body;
mod buffers;
pub(crate) mod client;
pub(crate) mod codec;
mod date;
mod input;
mod output;
mod pump;
pub(crate) mod server;
pub(crate) mod splice;
pub(crate) mod wire;
