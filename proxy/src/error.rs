//! Why a request was not answered by its upstream: what happened, whose fault it is, may we try again, which status.

use http::{HeaderValue, StatusCode};

use crate::middleware::paths::PathError;

/// Any cause.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who made the request fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Linkspan,
    Upstream,
}

/// May the request be sent again?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// No byte of it left, so that nobody can have acted on it.
    Always,
    /// It may have been acted on: only if doing it twice is the same as doing it once.
    Idempotent,
    Never,
}

/// What happened. The text is shown to the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    #[error("bad request: {why}")]
    Malformed { status: StatusCode, why: String },
    #[error("bad request: {0}")]
    Path(PathError),
    #[error("no site here is called `{0}`")]
    UnknownHost(String),
    #[error("`{0}` has no route for this path")]
    NoRoute(String),
    #[error("this connection was made for another host than `{0}`: open a new one")]
    Misdirected(String),
    #[error("the method {0} is not allowed here")]
    Method(http::Method),
    #[error("your address may not enter here")]
    Forbidden,
    #[error("a user name and a password are needed here")]
    Unauthorized(HeaderValue),
    #[error("service unavailable: too many passwords are being verified")]
    VerifierFull,
    #[error("you ask too often: come back in {0} s")]
    RateLimited(u32),
    #[error("service unavailable: too many requests are under way")]
    Concurrency,
    #[error("the request is too large: {0} bytes are taken")]
    BodyTooLarge(u64),
    #[error("service unavailable: closed for maintenance")]
    Maintenance,
    #[error("service unavailable: {0}")]
    Down(String),
    #[error("service unavailable: `{service}` is still starting")]
    Starting { service: String },
    #[error("service unavailable: too many requests already wait for `{service}`")]
    HoldFull { service: String },
    #[error("bad gateway: `{endpoint}` can't be reached on port {port}")]
    Connect { endpoint: String, port: u16 },
    #[error("gateway timeout: `{endpoint}` did not accept the connection on port {port}")]
    ConnectTimeout { endpoint: String, port: u16 },
    #[error("gateway timeout: `{endpoint}` has not answered for too long")]
    Silent { endpoint: String },
    #[error("bad gateway: `{host}` can't be resolved")]
    Resolve { host: String },
    #[error("bad gateway: `{endpoint}` closed the connection before it answered")]
    Cut { endpoint: String },
    #[error("bad gateway: `{endpoint}` sent something that is not HTTP")]
    Protocol { endpoint: String },
    #[error("the client went away")]
    ClientGone,
}

/// A request that got no answer from upstream.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    #[source]
    pub(crate) source: Option<BoxError>,
    /// Overrides what the kind says: set where it is known that nothing was sent.
    unsent: bool,
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            source: None,
            unsent: false,
        }
    }
}

impl Failure {
    pub(crate) fn because(kind: Kind, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
            unsent: false,
        }
    }

    /// No byte of the request left.
    pub(crate) fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    pub(crate) fn side(&self) -> Side {
        match self.kind {
            Kind::BadRequest(_)
            | Kind::Malformed { .. }
            | Kind::Path(_)
            | Kind::UnknownHost(_)
            | Kind::NoRoute(_)
            | Kind::Misdirected(_)
            | Kind::Method(_)
            | Kind::Forbidden
            | Kind::Unauthorized(_)
            | Kind::RateLimited(_)
            | Kind::BodyTooLarge(_)
            | Kind::ClientGone => Side::Client,
            Kind::HoldFull { .. } | Kind::VerifierFull | Kind::Concurrency | Kind::Maintenance => {
                Side::Linkspan
            }
            _ => Side::Upstream,
        }
    }

    /// Why, in a word, for the access log.
    pub(crate) fn reason(&self) -> &'static str {
        match self.kind {
            Kind::BadRequest(_) => "bad_request",
            Kind::Malformed { .. } => "malformed",
            Kind::Path(_) => "path",
            Kind::UnknownHost(_) => "unknown_host",
            Kind::NoRoute(_) => "no_route",
            Kind::Misdirected(_) => "misdirected",
            Kind::Method(_) => "method",
            Kind::Forbidden => "address",
            Kind::Unauthorized(_) => "credentials",
            Kind::VerifierFull => "verifier_full",
            Kind::RateLimited(_) => "rate_limit",
            Kind::Concurrency => "concurrency",
            Kind::Maintenance => "maintenance",
            Kind::BodyTooLarge(_) => "body_too_large",
            Kind::Down(_) => "down",
            Kind::Starting { .. } => "starting",
            Kind::HoldFull { .. } => "hold_full",
            Kind::Connect { .. } => "connect",
            Kind::ConnectTimeout { .. } => "connect_timeout",
            Kind::Silent { .. } => "silent",
            Kind::Resolve { .. } => "resolve",
            Kind::Cut { .. } => "cut",
            Kind::Protocol { .. } => "protocol",
            Kind::ClientGone => "client_gone",
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        match self.kind {
            _ if self.unsent => Retry::Always,
            Kind::Connect { .. } | Kind::ConnectTimeout { .. } | Kind::Resolve { .. } => Retry::Always,
            Kind::Cut { .. } => Retry::Idempotent,
            _ => Retry::Never,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self.kind {
            Kind::BadRequest(_) | Kind::Path(_) | Kind::ClientGone => StatusCode::BAD_REQUEST,
            Kind::Malformed { status, .. } => status,
            Kind::UnknownHost(_) | Kind::NoRoute(_) => StatusCode::NOT_FOUND,
            Kind::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Kind::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Kind::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Kind::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Down(_)
            | Kind::Starting { .. }
            | Kind::HoldFull { .. }
            | Kind::VerifierFull
            | Kind::Concurrency
            | Kind::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
            Kind::ConnectTimeout { .. } | Kind::Silent { .. } => StatusCode::GATEWAY_TIMEOUT,
            Kind::Connect { .. } | Kind::Resolve { .. } | Kind::Cut { .. } | Kind::Protocol { .. } => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// Seconds after which it makes sense to come again.
    pub(crate) fn retry_after(&self) -> Option<u32> {
        match self.kind {
            Kind::Starting { .. } | Kind::HoldFull { .. } | Kind::VerifierFull => Some(5),
            Kind::Down(_) => Some(30),
            Kind::RateLimited(seconds) => Some(seconds),
            Kind::Concurrency => Some(1),
            Kind::Maintenance => Some(300),
            _ => None,
        }
    }
}
