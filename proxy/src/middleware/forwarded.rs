//! Who asked, for whom, over what: told to the upstream by us, after whatever the client claimed was removed.

use http::header::{FORWARDED, HOST, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use http_body::Frame;

use super::hop_by_hop;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// What was taken off the front of the path, so that the upstream can make links that lead to it.
pub(crate) const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields by which applications are told an address, a scheme or a path, besides all `X-Forwarded-` ones. Whatever the
/// client says in them is not so.
const CLAIMS: [&str; 9] = [
    "forwarded",
    "proxy",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];
/// Names that mean what they say with dashes, and are forged with underscores, for many servers take `_` for `-`.
const ONLY_WITH_DASHES: [&str; 4] = ["content-length", "host", "transfer-encoding", "via"];

/// The fields that tell of one client and one host. Made once for both, then only copied.
#[derive(Debug)]
pub(crate) struct Origin {
    /// As the client wrote it.
    host: HeaderValue,
    address: HeaderValue,
    proto: HeaderValue,
    port: HeaderValue,
    forwarded: HeaderValue,
}

impl Origin {
    /// `host` is a Host field that passed the router's check; `address` the client's.
    pub(crate) fn new(host: &HeaderValue, address: std::net::IpAddr, https: bool) -> Self {
        let address = address.to_canonical();
        let proto = if https { "https" } else { "http" };
        let text = host.to_str().unwrap_or_default();
        let named = text
            .rsplit_once(':')
            .map(|(_, port)| port)
            .filter(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let port = named.unwrap_or(if https { "443" } else { "80" });
        // RFC 7239 §6: an IPv6 address is bracketed and quoted.
        let node = if address.is_ipv6() {
            format!("\"[{address}]\"")
        } else {
            address.to_string()
        };
        let value =
            |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self {
            // A copy, for it is kept as long as the connection, and the buffer that the head came in should not be.
            host: value(text),
            address: value(&address.to_string()),
            proto: HeaderValue::from_static(proto),
            port: value(port),
            forwarded: value(&format!("for={node};host=\"{text}\";proto={proto}")),
        }
    }

    pub(crate) fn is_for(&self, host: &HeaderValue) -> bool {
        self.host == *host
    }

    /// Replaces what the client claimed. `version` is what the client spoke.
    pub(crate) fn write(&self, headers: &mut HeaderMap, version: Version) {
        remove_claims(headers);
        headers.insert(HOST, self.host.clone());
        headers.insert(FORWARDED, self.forwarded.clone());
        headers.insert(X_FORWARDED_FOR, self.address.clone());
        headers.insert(X_FORWARDED_HOST, self.host.clone());
        headers.insert(X_FORWARDED_PROTO, self.proto.clone());
        headers.insert(X_FORWARDED_PORT, self.port.clone());
        headers.insert(X_REAL_IP, self.address.clone());
        // Appended: whom a message passed before us is the truth too (RFC 9110 §7.6.3).
        headers.append(VIA, via(version));
    }
}

/// A piece of a request's body. What a client claims about itself is no truer in a trailer than in a head.
pub(crate) fn honest_trailers<T>(frame: Frame<T>) -> Frame<T> {
    let mut frame = hop_by_hop::plain_trailers(frame);
    if let Some(trailers) = frame.trailers_mut() {
        remove_claims(trailers);
        trailers.remove("x-request-id");
    }
    frame
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 linkspan",
        Version::HTTP_10 => "1.0 linkspan",
        _ => "1.1 linkspan",
    })
}

fn remove_claims(headers: &mut HeaderMap) {
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_claim(name.as_str()))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
}

fn is_claim(name: &str) -> bool {
    let is_ours = |name: &str| name.starts_with("x-forwarded-") || CLAIMS.contains(&name);
    if name.contains('_') {
        let meant = name.replace('_', "-");
        return is_ours(&meant) || ONLY_WITH_DASHES.contains(&meant.as_str());
    }
    // Our own request id is written before this; the client's was looked at there.
    name != "x-request-id" && is_ours(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_claims_is_replaced_by_what_we_know() {
        let mut headers = HeaderMap::new();
        let claims = [
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-server",
            "x-real-ip",
            "x_real_ip",
            // Becomes `HTTP_PROXY` in the environment of a CGI program.
            "proxy",
            "x-forwarded-prefix",
            "x_forwarded_ssl",
            "x-original-url",
            "true-client-ip",
            "content_length",
            "transfer_encoding",
        ];
        for name in claims {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("forged"));
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static("forged twice"),
            );
        }
        headers.insert("x_other", HeaderValue::from_static("stays"));
        let host = HeaderValue::from_static("a.test:8443");
        Origin::new(&host, "::ffff:192.0.2.7".parse().unwrap(), true).write(&mut headers, Version::HTTP_2);
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "forwarded: for=192.0.2.7;host=\"a.test:8443\";proto=https",
                "host: a.test:8443",
                "via: 2 linkspan",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: a.test:8443",
                "x-forwarded-port: 8443",
                "x-forwarded-proto: https",
                "x-real-ip: 192.0.2.7",
                "x_other: stays",
            ]
        );
    }

    #[test]
    fn claims_in_trailers_are_removed_too() {
        let mut trailers = HeaderMap::new();
        for name in ["x-forwarded-for", "x_real_ip", "x-request-id", "x-sum"] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let left = honest_trailers(Frame::<()>::trailers(trailers))
            .into_trailers()
            .unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["x-sum"]);
    }

    #[test]
    fn an_ipv6_client_is_quoted_and_the_port_is_the_scheme_s_when_the_host_names_none() {
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_static("a.test");
        Origin::new(&host, "2001:db8::1".parse().unwrap(), false).write(&mut headers, Version::HTTP_11);
        assert_eq!(
            headers["forwarded"],
            "for=\"[2001:db8::1]\";host=\"a.test\";proto=http"
        );
        assert_eq!(headers["x-forwarded-port"], "80");
    }
}
