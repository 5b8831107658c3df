//! Bodies on their way through: counted, recorded for a second try where allowed, never buffered as a whole.

mod request;
mod response;

pub(crate) use request::{Progress, RequestBody, Tape};
pub(crate) use response::ResponseBody;
