//! Keys of a container and of what is inside it.

use super::{Table, key, later};
use crate::schema::form;

pub(crate) static CONTAINER: Table = Table {
    what: "a container",
    keys: &[
        key(
            "image",
            "The image to run, loaded before or in a registry.",
            form::text,
        ),
        key("command", "Overrides the image's command.", form::command),
        key(
            "entrypoint",
            "Overrides the image's entrypoint; the image's command is dropped too.",
            form::command,
        ),
        key(
            "environment",
            "Variables. One without a value is taken from `.env` or your environment.",
            form::pairs,
        ),
        key(
            "env_file",
            "Files with variables; `environment` wins over them.",
            form::env_files,
        ),
        key("working_dir", "Folder that the program starts in.", form::text),
        key(
            "user",
            "`name` or `uid`, with `:group` or `:gid` if you like.",
            form::text,
        ),
        key(
            "hostname",
            "Host name inside. Default: the container's name.",
            form::text,
        ),
        key(
            "ports",
            "Ports published on the host; on 127.0.0.1 if no address is given.",
            form::ports,
        ),
        key(
            "volumes",
            "Folders of the host and named volumes to mount.",
            form::mounts,
        ),
        key("tmpfs", "Folders in memory.", form::texts),
        key(
            "networks",
            "Networks to join. Default: `default`.",
            form::attachments,
        ),
        key(
            "depends_on",
            "Containers that are started before this one.",
            form::dependencies,
        ),
        key(
            "restart",
            "When it is started again. Default: `unless-stopped`.",
            form::restart,
        ),
        key("replicas", "How many of it run.", form::replicas),
        key("labels", "Free text for people and tools.", form::labels),
        key("healthcheck", "How its health is asked for.", form::healthcheck),
        key("read_only", "The root file system can't be written.", form::flag),
        key(
            "cap_add",
            "Capabilities beyond the default set.",
            form::capabilities,
        ),
        key(
            "cap_drop",
            "Capabilities taken from the default set.",
            form::capabilities,
        ),
        key("mem_limit", "Most memory: `512m`, `1.5g`.", form::size),
        key("cpus", "Most processor time, in cores: `0.5`.", form::amount),
        key("pids_limit", "Most tasks at once; -1 for no limit.", form::limit),
        key("ulimits", "Resource limits of its processes.", form::ulimits),
        key("sysctls", "Kernel parameters of its own namespaces.", form::pairs),
        key(
            "dns",
            "Name servers instead of the host's, for names that are not containers.",
            form::texts,
        ),
        key(
            "dns_search",
            "Domains that short names are looked up in.",
            form::texts,
        ),
        key(
            "network_mode",
            "`host`, `none`, or `container:NAME` for the network namespace of another container of the file.",
            form::network_mode,
        ),
        key(
            "mac_address",
            "Hardware address on its only network.",
            form::hardware_address,
        ),
        key(
            "extra_hosts",
            "Lines of /etc/hosts: `name: address` or `host-gateway`.",
            form::extra_hosts,
        ),
        key("init", "Run a small init as pid 1.", form::flag),
        key(
            "stop_signal",
            "Signal that asks it to end. Default: the image's, or SIGTERM.",
            form::text_or_number,
        ),
        key(
            "stop_grace_period",
            "Time between the stop signal and SIGKILL. Default: 10s.",
            form::duration,
        ),
        key(
            "privileged",
            "Everything allowed, as root of its own user namespace.",
            form::flag,
        ),
        key(
            "devices",
            "Devices of the host: `/dev/fuse`, `/dev/a:/dev/b:rw`.",
            form::devices,
        ),
        key(
            "security_opt",
            "`no-new-privileges[:false]`, `seccomp=unconfined`.",
            form::security_options,
        ),
        key(
            "userns_mode",
            "`host`: ids inside are the host's ids.",
            form::userns_mode,
        ),
        key(
            "allow_host_path",
            "Allow mounts and devices that give the host away.",
            form::flag,
        ),
    ],
    later: &[
        (
            "build",
            "build the image with another tool and `linkspan load` it",
        ),
        later("idle"),
        later("basic_auth"),
        later("secrets"),
        later("configs"),
        later("profiles"),
        (
            "deploy",
            "`replicas`, `cpus` and `mem_limit` are keys of the container itself",
        ),
        ("scale", "write `replicas`"),
        (
            "container_name",
            "the key is its name, and other containers reach it by that; for more names use `networks: { default: { aliases: […] } }`",
        ),
        (
            "expose",
            "leave it out: containers of one network reach every port of each other",
        ),
        (
            "links",
            "leave it out: containers of one network reach each other by name",
        ),
        later("external_links"),
        ("net", "write `networks`"),
        later("runtime"),
        later("extends"),
        later("annotations"),
        later("attach"),
        later("blkio_config"),
        later("cgroup"),
        later("cgroup_parent"),
        ("cpu_count", "write `cpus`"),
        ("cpu_percent", "write `cpus`"),
        later("cpu_shares"),
        ("cpu_period", "write `cpus`"),
        ("cpu_quota", "write `cpus`"),
        later("cpu_rt_period"),
        later("cpu_rt_runtime"),
        later("cpuset"),
        later("credential_spec"),
        later("develop"),
        later("device_cgroup_rules"),
        later("dns_opt"),
        later("domainname"),
        later("gpus"),
        later("group_add"),
        later("ipc"),
        later("isolation"),
        later("label_file"),
        later("logging"),
        later("mem_reservation"),
        later("mem_swappiness"),
        later("memswap_limit"),
        later("models"),
        later("oom_kill_disable"),
        later("oom_score_adj"),
        later("pid"),
        later("platform"),
        later("post_start"),
        later("pre_stop"),
        later("provider"),
        later("pull_policy"),
        later("pull_refresh_after"),
        later("shm_size"),
        later("stdin_open"),
        later("storage_opt"),
        later("tty"),
        later("use_api_socket"),
        later("uts"),
        later("volumes_from"),
    ],
    extensions: true,
};

pub(crate) static ENV_FILE: Table = Table {
    what: "an `env_file` entry",
    keys: &[
        key(
            "path",
            "The file, relative to the folder of this one.",
            form::text,
        ),
        key("required", "`false`: it may be missing.", form::flag),
    ],
    later: &[later("format")],
    extensions: false,
};

pub(crate) static PORT: Table = Table {
    what: "a port",
    keys: &[
        key("target", "Port inside the container.", form::port),
        key(
            "published",
            "Port on the host; a free one by default.",
            form::text_or_number,
        ),
        key(
            "host_ip",
            "Address on the host; 127.0.0.1 by default.",
            form::text,
        ),
        key(
            "protocol",
            "`tcp` (the default), `udp` or `sctp`.",
            form::protocol,
        ),
        key(
            "mode",
            "`host` or `ingress`, which mean the same here.",
            form::port_mode,
        ),
    ],
    later: &[later("name"), later("app_protocol")],
    extensions: true,
};

pub(crate) static MOUNT: Table = Table {
    what: "a mount",
    keys: &[
        key("type", "`bind`, `volume` or `tmpfs`.", form::mount_type),
        key("source", "Host path of a bind, or name of a volume.", form::text),
        key("target", "Absolute path inside the container.", form::text),
        key("read_only", "It can't be written.", form::flag),
        key("bind", "Options of a bind.", form::bind),
        key("tmpfs", "Options of a tmpfs.", form::tmpfs),
        key(
            "allow_host_path",
            "Allow a host path that gives the host away.",
            form::flag,
        ),
    ],
    later: &[later("volume"), later("consistency"), later("image")],
    extensions: true,
};

pub(crate) static BIND: Table = Table {
    what: "`bind`",
    keys: &[key(
        "create_host_path",
        "Make a missing folder. Default: true.",
        form::flag,
    )],
    later: &[later("propagation"), later("selinux"), later("recursive")],
    extensions: true,
};

pub(crate) static TMPFS: Table = Table {
    what: "`tmpfs`",
    keys: &[
        key("size", "Most bytes: `64m`.", form::size),
        key("mode", "Permissions, in octal: `1777`.", form::text_or_number),
    ],
    later: &[],
    extensions: true,
};

pub(crate) static ATTACHMENT: Table = Table {
    what: "a container's network",
    keys: &[
        key(
            "aliases",
            "Further names of the container on this network.",
            form::text_list,
        ),
        key(
            "ipv4_address",
            "A fixed address in the network's subnet.",
            form::text,
        ),
        key(
            "ipv6_address",
            "A fixed address in the network's subnet.",
            form::text,
        ),
        key("mac_address", "A fixed hardware address.", form::hardware_address),
        key(
            "gw_priority",
            "The network with the highest has the default route. Default: 0.",
            form::priority,
        ),
    ],
    later: &[
        later("link_local_ips"),
        later("driver_opts"),
        later("priority"),
        later("interface_name"),
    ],
    extensions: true,
};

pub(crate) static DEPENDENCY: Table = Table {
    what: "a dependency",
    keys: &[
        key("condition", "What must be true of it first.", form::condition),
        key("required", "Only `true`.", form::only_true),
        key("restart", "Only `false`.", form::only_false),
    ],
    later: &[],
    extensions: true,
};

pub(crate) static HEALTHCHECK: Table = Table {
    what: "`healthcheck`",
    keys: &[
        key(
            "test",
            "A shell command, or `[CMD, program, …]`, `[CMD-SHELL, command]`, `[NONE]`.",
            form::command,
        ),
        key("disable", "Turn the image's check off.", form::flag),
        key("interval", "Between checks. Default: 30s.", form::duration),
        key("timeout", "Of one check. Default: 30s.", form::duration),
        key(
            "retries",
            "Failures in a row that make it unhealthy. Default: 3.",
            form::retries,
        ),
        key(
            "start_period",
            "Failures in this time after the start don't count. Default: 0s.",
            form::duration,
        ),
        key(
            "start_interval",
            "Between checks in the start period. Default: 5s.",
            form::duration,
        ),
    ],
    later: &[],
    extensions: true,
};

pub(crate) static ULIMIT: Table = Table {
    what: "a ulimit",
    keys: &[
        key("soft", "The limit in force; -1 is unlimited.", form::limit),
        key("hard", "What it may be raised to; -1 is unlimited.", form::limit),
    ],
    later: &[],
    extensions: true,
};

pub(crate) static DEVICE: Table = Table {
    what: "a device",
    keys: &[
        key("source", "Path on the host.", form::text),
        key("target", "Path inside; the same by default.", form::text),
        key("permissions", "Of `r`, `w`, `m`; all by default.", form::text),
    ],
    later: &[],
    extensions: true,
};
