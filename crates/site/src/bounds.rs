//! How much of a thing there may be, where a mistake (a loop in whatever writes the file) would cost more than it is worth.

/// Networks of one container: each is a pair of links, made one after the other before its program runs.
pub const MOST_NETWORKS_OF_A_CONTAINER: usize = 64;
/// Names of one container on one network, beside its own: each is a record in every snapshot that the resolver is sent.
pub const MOST_ALIASES: usize = 64;
/// Bytes of all files that a site's routes refer to, each counted where it is used: all of them are in every snapshot that
/// the proxy is sent, and a snapshot that is too long would leave every site as it was.
pub const MOST_ATTACHED: usize = 2 << 20;
/// Labels of one thing: they are stored, and shown, with it.
pub const MOST_LABELS: usize = 256;
/// Bytes of a label with its value, as containerd has it.
pub const LONGEST_LABEL: usize = 4_096;
