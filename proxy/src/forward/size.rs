//! Heads that are larger than the settings allow, whatever version brought them.

use http::{Request, StatusCode, Uri};
use linkspan_api::feed::Limits;

use crate::error::{Failure, Kind};

/// Is the head small enough? Its bytes in all were counted when it was read.
pub(super) fn fits<B>(request: &Request<B>, limits: &Limits) -> Result<(), Failure> {
    let refused = |status, why| Err(Kind::Malformed { status, why }.into());
    if target_length(request.uri()) > limits.target_bytes as usize {
        let why = format!("the request target is longer than {} bytes", limits.target_bytes);
        return refused(StatusCode::URI_TOO_LONG, why);
    }
    if request.headers().len() > limits.head_fields as usize {
        let why = format!("there are more than {} fields", limits.head_fields);
        return refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, why);
    }
    Ok(())
}

fn target_length(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |path| path.as_str().len())
}
