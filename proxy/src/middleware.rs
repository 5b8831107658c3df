//! What happens to every request on its way, one file each.

pub(crate) mod access_log;
pub(crate) mod allow;
pub(crate) mod forwarded;
pub(crate) mod hop_by_hop;
pub(crate) mod max_forwards;
pub(crate) mod redirect;
pub(crate) mod request_id;
