//! Pages of the site in the place of our own sentences.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use linkspan_site::{self as site, PageKind};

/// A page ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) kind: HeaderValue,
    pub(crate) text: Bytes,
}

impl Page {
    pub(crate) fn compile(page: &site::Page) -> Self {
        let kind = match page.kind {
            PageKind::Html => "text/html; charset=utf-8",
            PageKind::Json => "application/json",
            PageKind::Text => "text/plain; charset=utf-8",
        };
        Self {
            kind: HeaderValue::from_static(kind),
            text: Bytes::from(page.text.clone()),
        }
    }
}

/// Those of a route. That of `maintenance` is for nothing else, though its status is one that others have too.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) maintenance: Option<Page>,
    by_status: BTreeMap<u16, Page>,
}

impl Pages {
    pub(crate) fn compile(middleware: &site::Middleware) -> Self {
        let maintenance = middleware
            .maintenance
            .as_ref()
            .and_then(|closed| closed.page.as_ref());
        let pages = middleware.error_pages.iter();
        Self {
            maintenance: maintenance.map(Page::compile),
            by_status: pages
                .map(|(status, page)| (*status, Page::compile(page)))
                .collect(),
        }
    }

    pub(crate) fn of(&self, status: StatusCode) -> Option<&Page> {
        self.by_status.get(&status.as_u16())
    }
}
