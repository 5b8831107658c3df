//! Limits of a process, as far as we may give them.

use linkspan_plan::ContainerSpec;
use linkspan_site::Ulimit;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

/// One limit that is in force.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rlimit {
    resource: Resource,
    soft: u64,
    hard: u64,
}

impl Rlimit {
    pub(crate) fn to_oci(self) -> Value {
        // `RLIMIT_NOFILE` is both the name here and the one that OCI uses.
        json!({ "type": format!("{:?}", self.resource), "soft": self.soft, "hard": self.hard })
    }
}

/// Sets the container's limits on this process, so that all that it starts have them. A hard limit above our own is
/// cut to it where we lack the right to raise it, with a warning: a container that starts is worth more.
pub(crate) fn apply(spec: &ContainerSpec, warnings: &mut Vec<String>) -> Vec<Rlimit> {
    let mut applied = Vec::new();
    for (name, limit) in &spec.ulimits {
        let Some(resource) = by_name(name) else {
            warnings.push(format!("limit `{name}` is not known to this kernel"));
            continue;
        };
        let Ulimit { soft, hard } = *limit;
        let number = |value: i64| u64::try_from(value).unwrap_or(RLIM_INFINITY);
        let (mut soft, mut hard) = (number(soft), number(hard));
        if setrlimit(resource, soft, hard).is_err() {
            let ours = getrlimit(resource).map_or(hard, |(_, hard)| hard);
            hard = hard.min(ours);
            soft = soft.min(hard);
            warnings.push(format!(
                "limit `{name}` was cut to {hard}, which is all that the daemon may give"
            ));
            let _ = setrlimit(resource, soft, hard);
        }
        applied.push(Rlimit { resource, soft, hard });
    }
    applied
}

fn by_name(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}
