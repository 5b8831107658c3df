//! Answers of the API: JSON, streams, and failures that say what to do.

use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use linkspan_api::v1::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::BODY_MAX;
use crate::requests::Rejection;

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;
pub(crate) type Response = http::Response<Body>;

/// Makes answers.
#[derive(Debug)]
pub(crate) struct Answer;

impl Answer {
    /// 200 with a JSON document.
    pub(crate) fn json<T: Serialize>(document: &T) -> Response {
        Self::json_with(StatusCode::OK, document)
    }

    pub(crate) fn text(text: String) -> Response {
        Self::bytes(StatusCode::OK, "text/plain; charset=utf-8", text.into_bytes())
    }

    pub(crate) fn nothing() -> Response {
        Self::bytes(StatusCode::NO_CONTENT, "text/plain", Vec::new())
    }

    pub(crate) fn failure(status: StatusCode, message: String) -> Response {
        Self::json_with(
            status,
            &Failure {
                message,
                problems: Vec::new(),
            },
        )
    }

    pub(crate) fn rejection(rejection: Rejection) -> Response {
        let listed = |status, heading: &str, mut all: Vec<String>| {
            if all.len() == 1 {
                return Self::failure(status, all.remove(0));
            }
            Self::json_with(
                status,
                &Failure {
                    message: heading.to_owned(),
                    problems: all,
                },
            )
        };
        match rejection {
            Rejection::Problems(all) => Self::json_with(
                StatusCode::UNPROCESSABLE_ENTITY,
                &Failure {
                    message: "the site can't be brought up; nothing was changed".to_owned(),
                    problems: all,
                },
            ),
            Rejection::Malformed { heading, problems } => Self::json_with(
                StatusCode::UNPROCESSABLE_ENTITY,
                &Failure {
                    message: heading,
                    problems,
                },
            ),
            Rejection::Conflict(all) => listed(
                StatusCode::CONFLICT,
                "what is up stands against it; nothing was changed",
                all,
            ),
            Rejection::NotFound(message) => Self::failure(StatusCode::NOT_FOUND, message),
            Rejection::Failed(message) => Self::failure(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }

    /// A body that is written piece by piece; it ends when the sender is dropped.
    pub(crate) fn stream(
        content_type: &'static str,
    ) -> (mpsc::Sender<Result<Bytes, std::io::Error>>, Response) {
        let (sender, mut receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(16);
        let pieces = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let body = StreamBody::new(futures_util::StreamExt::map(pieces, |piece| {
            piece.map(Frame::data)
        }));
        let mut response = http::Response::new(BodyExt::boxed(body));
        set_type(&mut response, content_type);
        (sender, response)
    }

    fn json_with<T: Serialize>(status: StatusCode, document: &T) -> Response {
        Self::bytes(
            status,
            "application/json",
            serde_json::to_vec(document).unwrap_or_default(),
        )
    }

    fn bytes(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Response {
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {});
        let mut response = http::Response::new(body.boxed());
        *response.status_mut() = status;
        set_type(&mut response, content_type);
        response
    }
}

fn set_type(response: &mut Response, content_type: &'static str) {
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
}

/// Reads a JSON body.
pub(crate) async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Response> {
    let limited = http_body_util::Limited::new(body, BODY_MAX);
    let bytes = limited
        .collect()
        .await
        .map_err(|error| {
            Answer::failure(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request can't be read: {error}"),
            )
        })?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| {
        Answer::failure(
            StatusCode::BAD_REQUEST,
            format!("the request isn't what is expected: {error}"),
        )
    })
}
