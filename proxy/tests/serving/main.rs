//! The data plane as its clients and upstreams see it: real sockets on port 0, no privileges needed.

#![allow(
    clippy::unwrap_used,
    reason = "nothing here is a program; clippy exempts only the test functions themselves"
)]

mod faults;
mod feed;
mod http1;
mod http2;
mod limits;
mod middleware;
mod moves;
mod rig;
mod rules;
mod tls;
mod tunnels;
