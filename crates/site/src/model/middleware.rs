//! What a route does to its requests and answers besides forwarding them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::PasswordHash;

/// Everything that a route does besides. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Middleware {
    /// How the path changes on its way, one after the other, in the order of the file.
    pub paths: Vec<PathRule>,
    /// Fields that are set, added and removed.
    pub headers: Headers,
    /// Fields by which browsers are told to be careful, where the container says nothing of the kind.
    pub security_headers: Option<SecurityHeaders>,
    /// Users who may enter.
    pub basic_auth: Option<BasicAuth>,
    /// How often may be asked.
    pub rate_limit: Option<RateLimit>,
    /// Requests under way at once; at least 1.
    pub concurrency: Option<u32>,
    /// Bytes of a request's body.
    pub max_body: Option<u64>,
    /// Answers are compressed for clients that take that.
    pub compress: bool,
    /// Everybody gets this answer with 503, and nothing is forwarded.
    pub maintenance: Option<Maintenance>,
    /// Pages for answers that Linkspan makes itself, by status.
    pub error_pages: BTreeMap<u16, Page>,
    /// Search engines are told to stay away.
    pub robots_deny: bool,
    /// Which other origins' scripts may use the route.
    pub cors: Option<Cors>,
}

/// One change of the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRule {
    /// This is taken off the front, on segment boundaries. Normalised as the path of a route is.
    Strip(String),
    /// This is put in front. Normalised as the path of a route is.
    Add(String),
    /// The first that matches is applied.
    Rewrite(Vec<Rewrite>),
}

/// A regular expression over the path, and what the part that it matches is replaced by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// In the syntax of the `regex` crate, of at most [`REWRITE_BYTES`] when compiled.
    pub pattern: String,
    /// `$1` and `${name}` are what the groups caught. May end in a query, which then comes before the request's own.
    pub to: String,
}

/// Most memory that one compiled expression may take, in bytes.
pub const REWRITE_BYTES: usize = 256 << 10;

// === Who may enter ===

/// Users and passwords, asked for by the browser (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicAuth {
    /// What the browser says that the password is for.
    pub realm: String,
    /// At least one.
    pub users: BTreeMap<String, PasswordHash>,
    /// The container gets `Authorization` too.
    pub forward_authorization: bool,
}

// === Limits ===

/// So many requests in so much time, and the rest answered with 429.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests in each period, evenly spread; at least 1, at most [`RATE_MAX`] a second.
    pub count: u32,
    /// In seconds.
    pub period: u32,
    /// Requests that may come at once after a silence; at least 1. To earn them takes at most [`BURST_MAX`] seconds.
    pub burst: u32,
    /// Who shares one allowance.
    pub by: RateKey,
}

/// Highest rate, in requests a second.
pub const RATE_MAX: u32 = 10_000;
/// Longest time in which a burst may be earned, in seconds: 30 days.
pub const BURST_MAX: u64 = 30 * 24 * 3600;

/// Who shares one allowance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// Each client address has its own; with IPv6 each network of 64 bits.
    Address,
    /// Each value of this field (in lower case) has its own; without it, each client address.
    Header(String),
    /// All requests of the route.
    Route,
}

// === Answers ===

/// The route is closed for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// What people are shown; `None`: a sentence.
    pub page: Option<Page>,
}

/// A file that is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// By the end of the file's name.
    pub kind: PageKind,
    /// All of it.
    pub text: String,
}

/// What is in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// `.html` and `.htm`.
    Html,
    /// `.json`.
    Json,
    /// All others.
    Text,
}

/// What browsers are told about scripts of other origins (the Fetch standard, §3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cors {
    /// `https://app.example.com`, in lower case; empty: any, without credentials.
    pub origins: Vec<String>,
    /// In capitals; empty: those that are asked for.
    pub methods: Vec<String>,
    /// Fields of requests; empty: those that are asked for.
    pub headers: Vec<String>,
    /// Fields of answers that scripts may read.
    pub expose: Vec<String>,
    /// Cookies and passwords are sent along. Never without `origins`.
    pub credentials: bool,
    /// Seconds for which a browser remembers.
    pub max_age: u64,
}

// === Headers ===

/// Rules for fields, on either way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Headers {
    /// On the way to the upstream.
    pub request: HeaderRules,
    /// On the way to the client.
    pub response: HeaderRules,
}

/// Names are in lower case, and each is in one rule only. None belongs to the connection or to the framing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderRules {
    /// This value and no other.
    pub set: Vec<(String, String)>,
    /// Beside those that are there.
    pub add: Vec<(String, String)>,
    /// Gone.
    pub remove: Vec<String>,
}

/// The preset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityHeaders {
    /// Seconds for which browsers use https only. Sent over https.
    pub hsts: Option<u64>,
    /// That goes for all hosts below as well.
    pub hsts_subdomains: bool,
    /// Who may show the page in a frame; `None`: anybody.
    pub frame: Option<Frame>,
    /// Browsers take the content type at its word.
    pub nosniff: bool,
    /// Referrer-Policy.
    pub referrer: String,
    /// Content-Security-Policy.
    pub content_security_policy: Option<String>,
    /// Permissions-Policy.
    pub permissions: Option<String>,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self {
            hsts: Some(365 * 24 * 3600),
            hsts_subdomains: false,
            frame: Some(Frame::SameOrigin),
            nosniff: true,
            referrer: "strict-origin-when-cross-origin".to_owned(),
            content_security_policy: None,
            permissions: None,
        }
    }
}

/// Who may show a page in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// Pages of the same site.
    SameOrigin,
    /// Nobody.
    Deny,
}
