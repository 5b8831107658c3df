//! What routes do besides forwarding, as their clients and upstreams see it.

mod answers;
mod basic_auth;
mod compress;
mod headers;
mod limits;
mod paths;

use crate::rig::{Rig, Upstream};

/// A rig with one upstream that echoes heads, behind `a.test` and this path. What its route does is up to the test.
fn echoing(path: &str) -> (Rig, Upstream) {
    let upstream = Upstream::echo();
    let mut rig = Rig::plain();
    rig.route("a.test", path, "p/web", upstream.port);
    rig.service("p/web", &[("web-1", 1)]);
    (rig, upstream)
}

/// The access log's line about this path, as the client wrote it. Lines of two workers come in any order.
fn line_of<'l>(lines: &'l [serde_json::Value], path: &str) -> &'l serde_json::Value {
    let line = lines.iter().find(|line| line["path"] == path);
    line.unwrap_or_else(|| panic!("nothing about `{path}` in {lines:?}"))
}
