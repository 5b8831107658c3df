//! Informational responses on their way to the client (RFC 9110 §15.2).

use std::rc::Rc;

use http::response::Parts;

use crate::h1::wire::Wire;
use crate::middleware::hop_by_hop;

/// Where the informational responses to one request go.
pub(crate) struct Interim(Option<Rc<Wire>>);

impl Interim {
    /// Nowhere: who speaks HTTP/1.0 doesn't know them, and the HTTP/2 library has no way to send them.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// To the client, at once.
    pub(crate) fn to(wire: Rc<Wire>) -> Self {
        Self(Some(wire))
    }

    /// Passes one on.
    pub(crate) fn pass(&self, mut response: Parts) {
        if let Some(wire) = &self.0 {
            hop_by_hop::strip(&mut response.headers);
            wire.inform(response.status, &response.headers);
        }
    }
}
