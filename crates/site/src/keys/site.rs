//! Keys of the file itself, of routes, networks and volumes.

use super::{Table, key, later};
use crate::schema::form;

pub(crate) static SITE: Table = Table {
    what: "a site",
    keys: &[
        key(
            "name",
            "Name of the project, unique on the host. Default: the name of the file's folder.",
            form::name,
        ),
        key(
            "routes",
            "Hostnames (with a path, if you like) and where their requests go.",
            form::routes,
        ),
        key(
            "containers",
            "The containers of the site, by name.",
            form::containers,
        ),
        key(
            "networks",
            "Networks that containers join. Without any, all share `default`.",
            form::networks,
        ),
        key("volumes", "Named volumes that containers mount.", form::volumes),
        key("version", "Ignored, as in Compose.", form::text),
    ],
    later: &[
        later("secrets"),
        later("configs"),
        later("include"),
        later("models"),
        later("settings"),
    ],
    extensions: true,
};

pub(crate) static ROUTE: Table = Table {
    what: "a route",
    keys: &[
        key(
            "to",
            "`container:port` or an `http(s)://` URL, or a list of them.",
            form::targets,
        ),
        key(
            "redirect",
            "An absolute URL to send the client to. Path and query are kept if it has none.",
            form::url,
        ),
        key(
            "status",
            "Status of the redirect: 301, 302, 307 or 308 (the default).",
            form::redirect_status,
        ),
        key(
            "allow",
            "Client addresses or networks that may enter. Without it, everybody.",
            form::addresses,
        ),
        key(
            "strip_prefix",
            "Takes this off the front of the path before it is forwarded; `true`: the route's own path.",
            form::strip_prefix,
        ),
        key(
            "add_prefix",
            "Puts this in front of the path before it is forwarded.",
            form::path,
        ),
        key(
            "rewrite",
            "Regular expressions over the path, and what the first that matches is replaced by; `$$1` is what the first group caught.",
            form::rewrite,
        ),
        key(
            "headers",
            "Fields of requests and answers that are set, added and removed.",
            form::headers,
        ),
        key(
            "security_headers",
            "`true`: HSTS, X-Content-Type-Options, X-Frame-Options and Referrer-Policy where the container sends none.",
            form::security_headers,
        ),
        key(
            "basic_auth",
            "Path of a file of users, as `htpasswd -B` writes it: only they may enter.",
            form::basic_auth,
        ),
        key(
            "rate_limit",
            "Requests that each client address may send: `10/s`. More are answered with 429.",
            form::rate_limit,
        ),
        key(
            "concurrency",
            "Requests that may be under way at once. More are answered with 503.",
            form::at_once,
        ),
        key(
            "max_body",
            "Longest body of a request (10m). A longer one is answered with 413.",
            form::size,
        ),
        key(
            "compress",
            "`true`: answers are compressed (zstd, Brotli, gzip) for clients that take that.",
            form::flag,
        ),
        key(
            "maintenance",
            "`true`, or the path of a page: everybody gets it with 503, and nothing is forwarded.",
            form::maintenance,
        ),
        key(
            "error_pages",
            "Paths of pages by status, for answers that Linkspan makes itself.",
            form::error_pages,
        ),
        key(
            "robots",
            "`deny`: search engines are told to stay away.",
            form::robots,
        ),
        key(
            "cors",
            "`true`: scripts of all origins may use the route, without credentials. A mapping says which may.",
            form::cors,
        ),
    ],
    later: &[
        later("balance"),
        later("sticky"),
        later("timeout"),
        later("cache"),
        later("tls"),
        later("idle"),
        later("deny"),
    ],
    extensions: false,
};

pub(crate) static NETWORK: Table = Table {
    what: "a network",
    keys: &[
        key(
            "internal",
            "No way out of this network, DNS included.",
            form::flag,
        ),
        key(
            "subnet",
            "IPv4 subnet, or a list of one IPv4 and one IPv6 (/64) subnet. Default: a free one is chosen.",
            form::subnets,
        ),
        key(
            "gateway",
            "Address of the bridge, or of the LAN's router; the first of the subnet by default.",
            form::text,
        ),
        key("ipv6", "`false` turns IPv6 off.", form::flag),
        key("enable_ipv6", "Compose's name for `ipv6`.", form::flag),
        key(
            "ipam",
            "Compose's long form of `subnet` and `gateway`.",
            form::ipam,
        ),
        key(
            "driver",
            "`bridge` (the default), or `macvlan` or `ipvlan` for members that must be on the LAN itself.",
            form::network_driver,
        ),
        key(
            "driver_opts",
            "Options of `macvlan` and `ipvlan`.",
            form::driver_options,
        ),
        key(
            "isolated",
            "Its members don't reach each other, only the outside and published ports.",
            form::flag,
        ),
        key(
            "mtu",
            "Largest packet in bytes. Default: that of the way out.",
            form::mtu,
        ),
        key(
            "on_conflict",
            "`move` (the default): if somebody else comes to use its range, it moves to a free one. `report`: it stays.",
            form::on_conflict,
        ),
        key(
            "external",
            "Not made by this file: a network that was made with `linkspan network create`.",
            form::flag,
        ),
        key(
            "name",
            "Name of an external network on the host. Default: the key.",
            form::name,
        ),
        key("labels", "Free text for people and tools.", form::labels),
    ],
    later: &[later("attachable"), later("enable_ipv4")],
    extensions: true,
};

pub(crate) static DRIVER_OPTIONS: Table = Table {
    what: "`driver_opts`",
    keys: &[
        key(
            "parent",
            "Link of the host that the members are put on: `eth0`.",
            form::text,
        ),
        key(
            "macvlan_mode",
            "`bridge` (the default), `private`, `vepa` or `passthru`.",
            form::macvlan_mode,
        ),
        key("ipvlan_mode", "`l2` (the default) or `l3`.", form::ipvlan_mode),
    ],
    later: &[(
        "com.docker.network.driver.mtu",
        "write `mtu` in the network itself",
    )],
    extensions: false,
};

pub(crate) static IPAM: Table = Table {
    what: "`ipam`",
    keys: &[
        key("driver", "Only `default`.", form::default_driver),
        key("config", "One entry per address family.", form::ipam_configs),
    ],
    later: &[later("options")],
    extensions: true,
};

pub(crate) static IPAM_CONFIG: Table = Table {
    what: "an entry of `ipam.config`",
    keys: &[
        key("subnet", "IPv4 or IPv6 subnet.", form::text),
        key(
            "gateway",
            "Address of the bridge, or of the LAN's router.",
            form::text,
        ),
    ],
    later: &[later("ip_range"), later("aux_addresses")],
    extensions: true,
};

pub(crate) static VOLUME: Table = Table {
    what: "a volume",
    keys: &[
        key("driver", "Only `local`.", form::local_driver),
        key("labels", "Free text for people and tools.", form::labels),
    ],
    later: &[
        later("external"),
        later("name"),
        (
            "driver_opts",
            "for a folder of the host, mount it: `/folder:/target`",
        ),
    ],
    extensions: true,
};
