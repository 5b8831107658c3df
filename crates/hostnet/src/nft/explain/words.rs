//! What our rules are for, for people.

/// What a rule does and why, by its comment.
pub(super) fn words(comment: &str) -> &'static str {
    match comment {
        "traffic of the host with itself" => {
            "What the host sends to itself over loopback is no business of ours, so no later rule here need ask for it."
        }
        "127.0.0.0/8 from a wire" | "::1 from a wire" => {
            "Drops packets for loopback addresses that came in by any other link. Ports that are published on localhost \
             are sockets there: this keeps them from a neighbour that routes 127.0.0.0/8 to this host."
        }
        "from a wire, as 127.0.0.0/8" | "from a wire, as ::1" => {
            "Drops packets that came in by a link and claim to come from this host's loopback: a program that trusts \
             localhost must not be spoken to from elsewhere, nor a container behind a published port."
        }
        "from outside, as one of a network, IPv4" | "from outside, as one of a network, IPv6" => {
            "Drops what comes from outside with a source address of one of our networks: nobody out there is on them."
        }
        "a container's false source, IPv4" | "a container's false source, IPv6" => {
            "Drops what comes from a bridge with a source address that isn't on it, so that no container speaks as \
             somebody else."
        }
        "from outside, not published, IPv4" | "from outside, not published, IPv6" => {
            "Drops packets from outside that are addressed to a container directly. Published ports are reached by the \
             host's address only; this keeps out a neighbour that has a route to our subnets."
        }
        "internal networks reach no published port" => {
            "For packets of internal networks the rest of this chain is skipped, so that they are led to no published \
             port: internal means no way out."
        }
        "published on an address, IPv4" | "published on an address, IPv6" => {
            "Leads connections to a port that is published on one address of the host to its container. The client's \
             address is kept."
        }
        "published in a run on an address, IPv4" | "published in a run on an address, IPv6" => {
            "The same for many ports in a row: one element for all of them, and each keeps its number."
        }
        "published on all addresses, IPv4" | "published on all addresses, IPv6" => {
            "Leads connections to a port that is published on every address of the host (but loopback, where it is a \
             socket) to its container. The client's address is kept. Members of an isolated network whose bridge would \
             lose what is sent back to it are served by the proxy's own socket instead."
        }
        "published in a run on all addresses, IPv4" | "published in a run on all addresses, IPv6" => {
            "The same for many ports in a row on every address of the host but loopback."
        }
        "from internal networks, answers" => {
            "Answers of internal networks to the host, which may ask them: the proxy's requests and health checks."
        }
        "from internal networks, to their bridge" => {
            "Containers of an internal network may ask the host at their own bridge's address."
        }
        "from internal networks, broadcast" => {
            "What finds neighbours of IPv4 on an internal network's own link, by broadcast, is let through."
        }
        "from internal networks, multicast" => {
            "What finds neighbours of IPv6 on an internal network's own link, by multicast, is let through."
        }
        "from internal networks, the rest" => {
            "Drops everything else that an internal network sends to the host: its other addresses are a way out."
        }
        "none of our business" => {
            "Packets that neither come from nor go to a bridge of ours are not judged here."
        }
        "on one network" => "Containers of one network reach each other, unless the network is isolated.",
        "on an isolated network, answers" => {
            "On an isolated network, answers to what was let through before: of published ports, and of the resolver."
        }
        "on an isolated network, to the resolver" => "Members of an isolated network may ask for names.",
        "on an isolated network, from the resolver, IPv4"
        | "on an isolated network, from the resolver, IPv6" => {
            "The resolver's namespace, where the proxy's sockets are, reaches members of an isolated network. It sends \
             with a time to live of 255, which nothing has that one member sends another by way of the host."
        }
        "out of an internal network" => "Drops what an internal network sends elsewhere: it has no way out.",
        "into an internal network" => "Drops what others send to an internal network.",
        "answers" => "Answers to connections that were let through.",
        "published" => {
            "Connections that were led to a container because its port is published, from wherever."
        }
        "to the outside" => "Containers reach the outside.",
        "between networks or isolated members, or not published" => {
            "Drops the rest: from one network to another, from one member of an isolated network to another, and from \
             outside to what isn't published."
        }
        "published, from its own network" => {
            "A container that asks a published port of its own network gets the host's address as source, so that the \
             answer comes back through the host and not past it."
        }
        "published, from itself, IPv4" | "published, from itself, IPv6" => {
            "A container that asks its own published port gets the host's address as source: it would not answer itself."
        }
        "to the outside, IPv4" | "to the outside, IPv6" => {
            "What containers send outside gets the host's address as source, for nobody there has a route to theirs."
        }
        _ => "",
    }
}
