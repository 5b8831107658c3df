//! What happens to a request on its way, one file each: to every one, and to those of routes that ask for it.

use linkspan_site as site;

pub(crate) mod access_log;
pub(crate) mod allow;
pub(crate) mod forwarded;
pub(crate) mod hop_by_hop;
pub(crate) mod max_forwards;
pub(crate) mod paths;
pub(crate) mod redirect;
pub(crate) mod request_id;

/// What a route does besides forwarding, compiled.
#[derive(Debug, Default)]
pub(crate) struct Middleware {
    pub(crate) paths: Option<paths::Paths>,
}

impl Middleware {
    pub(crate) fn compile(site: &site::Middleware) -> Self {
        Self {
            paths: paths::Paths::compile(&site.paths),
        }
    }
}
