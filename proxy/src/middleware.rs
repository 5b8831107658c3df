//! What happens to a request on its way, one file each: to every one, and to those of routes that ask for it.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use linkspan_site as site;

pub(crate) mod access_log;
pub(crate) mod allow;
pub(crate) mod basic_auth;
pub(crate) mod compress;
pub(crate) mod concurrency;
pub(crate) mod cors;
pub(crate) mod error_pages;
pub(crate) mod forwarded;
pub(crate) mod headers;
pub(crate) mod hop_by_hop;
pub(crate) mod max_forwards;
pub(crate) mod paths;
pub(crate) mod rate_limit;
pub(crate) mod redirect;
pub(crate) mod request_id;
pub(crate) mod robots;
pub(crate) mod security_headers;

/// What a route does besides forwarding, compiled.
#[derive(Debug, Default)]
pub(crate) struct Middleware {
    /// What it was compiled from.
    source: site::Middleware,
    pub(crate) paths: Option<paths::Paths>,
    pub(crate) request_headers: Option<headers::Rules>,
    pub(crate) basic_auth: Option<basic_auth::Gate>,
    pub(crate) rate_limit: Option<Arc<rate_limit::Limiter>>,
    pub(crate) concurrency: Option<Arc<concurrency::Limit>>,
    pub(crate) max_body: Option<u64>,
    pub(crate) compress: bool,
    pub(crate) closed: bool,
    pub(crate) pages: error_pages::Pages,
    pub(crate) robots_deny: bool,
    pub(crate) cors: Option<cors::Policy>,
    response_headers: Option<headers::Rules>,
    security_headers: Option<security_headers::Preset>,
}

impl Middleware {
    /// `before`: of the same route in the snapshot before. What didn't change lives on, and counters with it.
    pub(crate) fn compile(source: &site::Middleware, before: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(same) = before.filter(|before| before.source == *source) {
            return Arc::clone(same);
        }
        let limiter = |rule| {
            let known = before.and_then(|before| before.rate_limit.clone());
            known
                .filter(|known| known.is(rule))
                .unwrap_or_else(|| Arc::new(rate_limit::Limiter::new(rule, Instant::now())))
        };
        let limit = |most| {
            let known = before.and_then(|before| before.concurrency.clone());
            known
                .filter(|known| known.is(most))
                .unwrap_or_else(|| Arc::new(concurrency::Limit::new(most)))
        };
        Arc::new(Self {
            paths: paths::Paths::compile(&source.paths),
            request_headers: headers::Rules::compile(&source.headers.request),
            basic_auth: source.basic_auth.as_ref().map(basic_auth::Gate::compile),
            rate_limit: source.rate_limit.as_ref().map(limiter),
            concurrency: source.concurrency.map(limit),
            max_body: source.max_body,
            compress: source.compress,
            closed: source.maintenance.is_some(),
            pages: error_pages::Pages::compile(source),
            robots_deny: source.robots_deny,
            cors: source.cors.as_ref().map(cors::Policy::compile),
            response_headers: headers::Rules::compile(&source.headers.response),
            security_headers: source
                .security_headers
                .as_ref()
                .map(security_headers::Preset::compile),
            source: source.clone(),
        })
    }

    /// The last that happens to an answer, be it the upstream's or one of our own.
    pub(crate) fn finish(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>, https: bool) {
        if let Some(cors) = &self.cors {
            cors.mark(origin, headers);
        }
        if self.robots_deny {
            robots::mark(headers);
        }
        if let Some(rules) = &self.response_headers {
            rules.apply(headers);
        }
        if let Some(preset) = &self.security_headers {
            preset.apply(headers, https);
        }
    }
}
