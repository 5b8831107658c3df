//! Keys of what a route does besides forwarding.

use super::{Table, key};
use crate::schema::form;

pub(crate) static HEADERS: Table = Table {
    what: "`headers`",
    keys: &[
        key(
            "request",
            "Fields of the request on its way to the container.",
            form::header_rules,
        ),
        key(
            "response",
            "Fields of the answer on its way to the client.",
            form::header_rules,
        ),
    ],
    later: &[],
    extensions: false,
};

pub(crate) static HEADER_RULES: Table = Table {
    what: "the rules of `headers`",
    keys: &[
        key("set", "Fields with this value and no other.", form::pairs),
        key("add", "Fields beside those that are there.", form::pairs),
        key("remove", "Names of fields that go no further.", form::texts),
    ],
    later: &[],
    extensions: false,
};

pub(crate) static SECURITY_HEADERS: Table = Table {
    what: "`security_headers`",
    keys: &[
        key(
            "hsts",
            "For how long browsers use https only (365d), or `false`. Sent over https.",
            form::hsts,
        ),
        key(
            "hsts_subdomains",
            "`true`: also for all hosts below this one.",
            form::flag,
        ),
        key(
            "frame",
            "Who may show the page in a frame: `sameorigin` (the default), `deny`, or `any`.",
            form::frame,
        ),
        key(
            "nosniff",
            "Browsers take the content type at its word (the default).",
            form::flag,
        ),
        key(
            "referrer",
            "Referrer-Policy; `strict-origin-when-cross-origin` by default.",
            form::referrer,
        ),
        key("content_security_policy", "Content-Security-Policy.", form::text),
        key("permissions", "Permissions-Policy.", form::text),
    ],
    later: &[],
    extensions: false,
};

pub(crate) static BASIC_AUTH: Table = Table {
    what: "`basic_auth`",
    keys: &[
        key(
            "file",
            "Path of the file with users and hashes, as `htpasswd -B` writes it.",
            form::file,
        ),
        key(
            "realm",
            "What the browser says that the password is for.",
            form::text,
        ),
        key(
            "forward_authorization",
            "`true`: the container gets `Authorization` too.",
            form::flag,
        ),
    ],
    later: &[],
    extensions: false,
};

pub(crate) static RATE_LIMIT: Table = Table {
    what: "`rate_limit`",
    keys: &[
        key("rate", "`10/s`, `100/m`, `1000/h` or `5000/d`.", form::rate),
        key(
            "burst",
            "Requests that may come at once after a silence; those of one period by default.",
            form::at_once,
        ),
        key(
            "by",
            "Who shares an allowance: `address` (the default), `header NAME`, or `route` for all.",
            form::rate_key,
        ),
    ],
    later: &[],
    extensions: false,
};

pub(crate) static CORS: Table = Table {
    what: "`cors`",
    keys: &[
        key(
            "origins",
            "Whose scripts: `https://app.example.com`. Without it, anybody's.",
            form::texts,
        ),
        key("methods", "Those that are asked for by default.", form::texts),
        key(
            "headers",
            "Fields that scripts may send; those that are asked for by default.",
            form::texts,
        ),
        key("expose", "Fields that scripts may read.", form::texts),
        key(
            "credentials",
            "`true`: cookies and passwords are sent along.",
            form::flag,
        ),
        key("max_age", "For how long browsers remember (10m).", form::duration),
    ],
    later: &[],
    extensions: false,
};
