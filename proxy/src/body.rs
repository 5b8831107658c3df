//! Bodies on their way through: counted, recorded for a second try where allowed, never buffered as a whole.

mod incoming;
mod request;
mod response;

pub(crate) use incoming::Incoming;
pub(crate) use request::{Progress, RequestBody, Tape};
pub(crate) use response::ResponseBody;
