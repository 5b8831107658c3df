//! Which host a request means: one well-formed name, whatever the version has for saying it.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderValue, Method, Request, Version};

use crate::error::{Failure, Kind};
use crate::router;

/// The protocol that a CONNECT asks for (RFC 8441); an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct ExtendedConnect(pub(crate) HeaderValue);

/// Which host a request is for.
pub(super) struct Name {
    /// As the upstream and the origin fields get it.
    pub(super) field: HeaderValue,
    /// As the router knows it.
    pub(super) host: Cow<'static, str>,
}

impl Name {
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Failure> {
        let bad = |why| Failure::from(Kind::BadRequest(why));
        let extended = request.extensions().get::<ExtendedConnect>().is_some();
        if *request.method() == Method::TRACE || (*request.method() == Method::CONNECT && !extended) {
            return Err(Kind::Method(request.method().clone()).into());
        }
        // The HTTP/1 side has refused this one already (RFC 9112 §3.2.4).
        if request.uri().path() == "*" && *request.method() != Method::OPTIONS {
            return Err(bad("`*` is a target for OPTIONS alone"));
        }
        let mut fields = request.headers().get_all(HOST).iter();
        let (field, second) = (fields.next(), fields.next());
        if second.is_some() {
            return Err(bad("more than one Host field"));
        }
        let authority = request.uri().authority();
        if field.is_none() && (authority.is_none() || request.version() == Version::HTTP_11) {
            return Err(bad("no Host field"));
        }
        let written = field
            .map(|field| field.to_str().map_err(|_| bad("the Host field is not a name")))
            .transpose()?;
        let named = written.map(|text| router::host(text).ok_or_else(|| bad("the Host field is not a name")));
        let named = named.transpose()?;
        let Some(authority) = authority else {
            let (Some(field), Some(host)) = (field, named) else {
                return Err(bad("no Host field"));
            };
            return Ok(Self {
                field: field.clone(),
                host: Cow::Owned(host.into_owned()),
            });
        };
        let host = router::host(authority.as_str()).ok_or_else(|| bad("the authority is not a name"))?;
        // In HTTP/1 the authority of an absolute target overrules the field (RFC 9112 §3.2.2); in HTTP/2 there is no
        // honest reason for two different ones (RFC 9113 §8.3.1).
        if request.version() == Version::HTTP_2 && named.is_some_and(|named| named != host) {
            return Err(bad("Host and :authority differ"));
        }
        let field =
            HeaderValue::from_str(authority.as_str()).map_err(|_| bad("the authority is not a name"))?;
        Ok(Self {
            field,
            host: Cow::Owned(host.into_owned()),
        })
    }
}
