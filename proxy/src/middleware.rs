//! What happens to a request on its way, one file each: to every one, and to those of routes that ask for it.

use http::HeaderMap;
use linkspan_site as site;

pub(crate) mod access_log;
pub(crate) mod allow;
pub(crate) mod basic_auth;
pub(crate) mod forwarded;
pub(crate) mod headers;
pub(crate) mod hop_by_hop;
pub(crate) mod max_forwards;
pub(crate) mod paths;
pub(crate) mod redirect;
pub(crate) mod request_id;
pub(crate) mod security_headers;

/// What a route does besides forwarding, compiled.
#[derive(Debug, Default)]
pub(crate) struct Middleware {
    pub(crate) paths: Option<paths::Paths>,
    pub(crate) request_headers: Option<headers::Rules>,
    pub(crate) basic_auth: Option<basic_auth::Gate>,
    response_headers: Option<headers::Rules>,
    security_headers: Option<security_headers::Preset>,
}

impl Middleware {
    pub(crate) fn compile(site: &site::Middleware) -> Self {
        Self {
            paths: paths::Paths::compile(&site.paths),
            request_headers: headers::Rules::compile(&site.headers.request),
            basic_auth: site.basic_auth.as_ref().map(basic_auth::Gate::compile),
            response_headers: headers::Rules::compile(&site.headers.response),
            security_headers: site
                .security_headers
                .as_ref()
                .map(security_headers::Preset::compile),
        }
    }

    /// The last that happens to an answer, be it the upstream's or one of our own.
    pub(crate) fn finish(&self, headers: &mut HeaderMap, https: bool) {
        if let Some(rules) = &self.response_headers {
            rules.apply(headers);
        }
        if let Some(preset) = &self.security_headers {
            preset.apply(headers, https);
        }
    }
}
