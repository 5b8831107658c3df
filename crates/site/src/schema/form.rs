//! What may be written as the value of a key, as JSON Schema.
//!
//! Wherever there is a number or a switch, a text with a variable in it (`${REPLICAS:-2}`) may stand too.

use serde_json::{Value as Json, json};

use super::object;
use crate::keys;

pub(crate) fn text() -> Json {
    json!({ "type": ["string", "number", "boolean"] })
}

pub(crate) fn text_or_number() -> Json {
    json!({ "type": ["string", "number"] })
}

pub(crate) fn text_list() -> Json {
    json!({ "type": "array", "items": text() })
}

pub(crate) fn texts() -> Json {
    json!({ "anyOf": [text(), text_list()] })
}

pub(crate) fn flag() -> Json {
    json!({ "anyOf": [{ "type": "boolean" }, { "enum": ["true", "false", "yes", "no", "on", "off"] }, variable()] })
}

pub(crate) fn only_true() -> Json {
    json!({ "const": true })
}

pub(crate) fn only_false() -> Json {
    json!({ "const": false })
}

fn variable() -> Json {
    json!({ "type": "string", "pattern": "\\$" })
}

fn whole(from: i64, to: i64) -> Json {
    json!({ "anyOf": [
        { "type": "integer", "minimum": from, "maximum": to },
        { "type": "string", "pattern": "^-?[0-9]+$" },
        variable()
    ] })
}

fn one_of(words: &[&str]) -> Json {
    json!({ "anyOf": [{ "enum": words }, variable()] })
}

pub(crate) fn name() -> Json {
    json!({ "anyOf": [{ "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$" }, { "type": "number" }, variable()] })
}

/// A mapping whose keys are names of ours.
fn named(value: &Json) -> Json {
    json!({
        "type": "object",
        "patternProperties": { "^[a-z0-9][a-z0-9._-]{0,62}$": value },
        "additionalProperties": false
    })
}

fn or_empty(form: &Json) -> Json {
    json!({ "anyOf": [form, { "type": "null" }] })
}

// === The site ===

pub(crate) fn routes() -> Json {
    json!({
        "type": "object",
        "additionalProperties": { "anyOf": [text(), text_list(), object(&keys::ROUTE)] },
        "examples": [{ "shop.example.com": "web:3000", "*.preview.example.com": "preview:8000" }]
    })
}

pub(crate) fn containers() -> Json {
    named(&object(&keys::CONTAINER))
}

pub(crate) fn networks() -> Json {
    named(&or_empty(&object(&keys::NETWORK)))
}

pub(crate) fn volumes() -> Json {
    named(&or_empty(&object(&keys::VOLUME)))
}

pub(crate) fn targets() -> Json {
    texts()
}

pub(crate) fn url() -> Json {
    json!({ "anyOf": [{ "type": "string", "pattern": "^https?://" }, variable()] })
}

pub(crate) fn redirect_status() -> Json {
    json!({ "anyOf": [{ "enum": [301, 302, 307, 308] }, { "enum": ["301", "302", "307", "308"] }, variable()] })
}

pub(crate) fn addresses() -> Json {
    texts()
}

pub(crate) fn path() -> Json {
    json!({ "anyOf": [{ "type": "string", "pattern": "^/" }, variable()] })
}

pub(crate) fn strip_prefix() -> Json {
    json!({ "anyOf": [only_true(), path()] })
}

pub(crate) fn rewrite() -> Json {
    json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": { "type": "string" },
        "examples": [{ "^/old/(.*)$": "/new/$$1" }]
    })
}

pub(crate) fn subnets() -> Json {
    json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "maxItems": 2 }] })
}

pub(crate) fn ipam() -> Json {
    object(&keys::IPAM)
}

pub(crate) fn ipam_configs() -> Json {
    json!({ "type": "array", "items": object(&keys::IPAM_CONFIG), "maxItems": 2 })
}

pub(crate) fn network_driver() -> Json {
    one_of(&["bridge", "macvlan", "ipvlan"])
}

pub(crate) fn driver_options() -> Json {
    object(&keys::DRIVER_OPTIONS)
}

pub(crate) fn macvlan_mode() -> Json {
    one_of(&["bridge", "private", "vepa", "passthru"])
}

pub(crate) fn ipvlan_mode() -> Json {
    one_of(&["l2", "l3"])
}

pub(crate) fn mtu() -> Json {
    whole(1_280, 65_535)
}

pub(crate) fn on_conflict() -> Json {
    one_of(&["move", "report"])
}

pub(crate) fn network_mode() -> Json {
    json!({ "anyOf": [
        { "enum": ["host", "none"] },
        { "type": "string", "pattern": "^(container|service):" },
        variable()
    ] })
}

pub(crate) fn hardware_address() -> Json {
    json!({ "anyOf": [{ "type": "string", "pattern": "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$" }, variable()] })
}

pub(crate) fn priority() -> Json {
    whole(i32::MIN.into(), i32::MAX.into())
}

pub(crate) fn default_driver() -> Json {
    one_of(&["default"])
}

pub(crate) fn local_driver() -> Json {
    one_of(&["local"])
}

pub(crate) fn labels() -> Json {
    pairs()
}

/// A mapping, or a list of `name=value`.
pub(crate) fn pairs() -> Json {
    json!({ "anyOf": [
        { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean", "null"] } },
        text_list()
    ] })
}

// === Routes ===

pub(crate) fn headers() -> Json {
    object(&keys::HEADERS)
}

pub(crate) fn header_rules() -> Json {
    object(&keys::HEADER_RULES)
}

pub(crate) fn security_headers() -> Json {
    json!({ "anyOf": [flag(), object(&keys::SECURITY_HEADERS)] })
}

pub(crate) fn basic_auth() -> Json {
    json!({ "anyOf": [file(), object(&keys::BASIC_AUTH)] })
}

pub(crate) fn file() -> Json {
    json!({ "type": "string", "minLength": 1 })
}

pub(crate) fn rate_limit() -> Json {
    json!({ "anyOf": [rate(), object(&keys::RATE_LIMIT)] })
}

pub(crate) fn rate() -> Json {
    json!({ "anyOf": [{ "type": "string", "pattern": "^ *[0-9]+ */ *[smhd] *$" }, variable()], "examples": ["10/s"] })
}

pub(crate) fn rate_key() -> Json {
    json!({ "anyOf": [{ "enum": ["address", "route"] }, { "type": "string", "pattern": "^header " }, variable()] })
}

pub(crate) fn at_once() -> Json {
    whole(1, 1_000_000)
}

pub(crate) fn maintenance() -> Json {
    json!({ "anyOf": [{ "type": "boolean" }, file()] })
}

pub(crate) fn error_pages() -> Json {
    json!({
        "type": "object",
        "patternProperties": { "^[45][0-9][0-9]$": file() },
        "additionalProperties": false,
        "examples": [{ "502": "./502.html" }]
    })
}

pub(crate) fn robots() -> Json {
    one_of(&["deny", "allow"])
}

pub(crate) fn cors() -> Json {
    json!({ "anyOf": [flag(), object(&keys::CORS)] })
}

pub(crate) fn hsts() -> Json {
    json!({ "anyOf": [{ "type": "string" }, only_false()], "examples": ["365d"] })
}

pub(crate) fn frame() -> Json {
    one_of(&["sameorigin", "deny", "any"])
}

pub(crate) fn referrer() -> Json {
    one_of(crate::routes::POLICIES)
}

// === Containers ===

pub(crate) fn command() -> Json {
    json!({ "anyOf": [text(), text_list(), { "type": "null" }] })
}

pub(crate) fn env_files() -> Json {
    let file = json!({ "anyOf": [{ "type": "string" }, object(&keys::ENV_FILE)] });
    json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": file }] })
}

pub(crate) fn ports() -> Json {
    json!({
        "type": "array",
        "items": { "anyOf": [text_or_number(), object(&keys::PORT)] },
        "examples": [["8080:80", "0.0.0.0:53:53/udp"]]
    })
}

pub(crate) fn port() -> Json {
    whole(1, 65_535)
}

pub(crate) fn protocol() -> Json {
    one_of(&["tcp", "udp", "sctp"])
}

pub(crate) fn port_mode() -> Json {
    one_of(&["host", "ingress"])
}

pub(crate) fn mounts() -> Json {
    json!({
        "type": "array",
        "items": { "anyOf": [{ "type": "string" }, object(&keys::MOUNT)] },
        "examples": [["data:/var/lib/data", "./site:/srv:ro"]]
    })
}

pub(crate) fn mount_type() -> Json {
    one_of(&["bind", "volume", "tmpfs"])
}

pub(crate) fn bind() -> Json {
    object(&keys::BIND)
}

pub(crate) fn tmpfs() -> Json {
    object(&keys::TMPFS)
}

pub(crate) fn attachments() -> Json {
    json!({ "anyOf": [text_list(), named(&or_empty(&object(&keys::ATTACHMENT)))] })
}

pub(crate) fn dependencies() -> Json {
    json!({ "anyOf": [text_list(), named(&object(&keys::DEPENDENCY))] })
}

pub(crate) fn condition() -> Json {
    one_of(&[
        "service_started",
        "service_healthy",
        "service_completed_successfully",
    ])
}

pub(crate) fn restart() -> Json {
    json!({ "anyOf": [
        { "enum": ["no", "always", "unless-stopped", "on-failure", false] },
        { "type": "string", "pattern": "^on-failure:[0-9]+$" },
        variable()
    ] })
}

pub(crate) fn replicas() -> Json {
    whole(0, crate::container::MAX_REPLICAS)
}

pub(crate) fn healthcheck() -> Json {
    object(&keys::HEALTHCHECK)
}

pub(crate) fn retries() -> Json {
    whole(1, 1_000)
}

pub(crate) fn duration() -> Json {
    json!({ "anyOf": [{ "type": "string" }, { "const": 0 }], "examples": ["30s", "1m30s"] })
}

pub(crate) fn capabilities() -> Json {
    json!({ "type": "array", "items": { "type": "string" }, "examples": [["NET_ADMIN"]] })
}

pub(crate) fn size() -> Json {
    text_or_number()
}

pub(crate) fn amount() -> Json {
    text_or_number()
}

pub(crate) fn limit() -> Json {
    whole(-1, i64::MAX)
}

pub(crate) fn ulimits() -> Json {
    json!({ "type": "object", "additionalProperties": { "anyOf": [limit(), object(&keys::ULIMIT)] } })
}

pub(crate) fn extra_hosts() -> Json {
    json!({ "anyOf": [{ "type": "object", "additionalProperties": texts() }, text_list()] })
}

pub(crate) fn devices() -> Json {
    json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, object(&keys::DEVICE)] } })
}

pub(crate) fn security_options() -> Json {
    json!({ "type": "array", "items": { "type": "string" } })
}

pub(crate) fn userns_mode() -> Json {
    one_of(&["host"])
}
