//! Which other origins' scripts may use a route (the Fetch standard, §3.2). The upstream isn't asked, and what it says
//! about this itself is replaced.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};
use linkspan_site::Cors;

/// What a route's browsers are told.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Empty: any.
    origins: Vec<HeaderValue>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

impl Policy {
    pub(crate) fn compile(cors: &Cors) -> Self {
        let list = |items: &[String]| {
            let joined = (!items.is_empty()).then(|| items.join(", "))?;
            HeaderValue::try_from(joined).ok()
        };
        Self {
            origins: cors
                .origins
                .iter()
                .filter_map(|origin| HeaderValue::try_from(origin).ok())
                .collect(),
            methods: list(&cors.methods),
            headers: list(&cors.headers),
            expose: list(&cors.expose),
            // Checked when the site came in; it must never be, wherever the snapshot comes from.
            credentials: cors.credentials && !cors.origins.is_empty(),
            max_age: HeaderValue::from(cors.max_age),
        }
    }

    /// The fields that answer a preflight, if this is one. Those who are not let in get none of them.
    pub(crate) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
        let wanted = request.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if *method != Method::OPTIONS || !request.contains_key(ORIGIN) {
            return None;
        }
        let mut answer = HeaderMap::new();
        if self.origin(request.get(ORIGIN)).is_some() {
            let headers = self
                .headers
                .as_ref()
                .or(request.get(ACCESS_CONTROL_REQUEST_HEADERS));
            let methods = self.methods.as_ref().unwrap_or(wanted);
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
            if let Some(headers) = headers {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
            }
            answer.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        Some(answer)
    }

    /// The fields of every answer to a request of this origin.
    pub(crate) fn mark(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            answer.remove(name);
        }
        if !self.origins.is_empty() {
            // Also for those who are not let in: a cache must not give them another one's answer.
            answer.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = self.origin(origin) else { return };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn origin(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = origin?;
        self.origins.contains(origin).then(|| origin.clone())
    }
}
