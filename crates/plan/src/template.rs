//! From a container as declared and its image to everything that makes it, but for id and addresses.

mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use linkspan_site::{
    CAPABILITIES, Container, ContainerName, ExtraHost, MountSource, NetworkName, ProjectName, Site,
    signal_number,
};
use serde::Serialize;

pub(crate) use known::{Named, Templates};

use crate::lease::LeaseError;
use crate::network::Networks;
use crate::placement::{self, Place};
use crate::{
    ContainerId, ContainerSpec, Image, Leases, MountKind, MountSpec, NetworkNamespace, Resources, Settings,
    Slot, World,
};

/// Docker's default capabilities, so that images that people have work.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What images of most systems rely on when nobody sets it.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Ends a program that is asked to (signal(7)).
const SIGTERM: i32 = 15;
/// Tasks of a container that sets no limit of its own: plenty for a web program, too few for a fork bomb.
const DEFAULT_PIDS: u64 = 4_096;

/// A declared container joined with its image. Equal templates make containers that need not be replaced.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Template {
    /// Without id, ids, addresses and attachments.
    spec: ContainerSpec,
    image_id: String,
    links: Vec<Link>,
}

/// A wish to be on a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Link {
    bridge: String,
    fixed4: Option<Ipv4Addr>,
    fixed6: Option<Ipv6Addr>,
    mac: Option<[u8; 6]>,
    priority: i32,
}

/// All that a template is made from.
#[derive(Debug, Clone)]
pub(crate) struct Ingredients<'a> {
    pub(crate) site: &'a Arc<Site>,
    pub(crate) slot: &'a Slot,
    pub(crate) container: &'a Container,
    pub(crate) image: &'a Arc<Image>,
    /// Of the networks that it is declared to be on.
    pub(crate) bridges: BTreeMap<&'a NetworkName, &'a String>,
    pub(crate) namespace: NetworkNamespace,
    pub(crate) settings: &'a Settings,
}
impl Template {
    /// Joins what the site says with what the image says, as Docker does.
    fn new(ingredients: &Ingredients<'_>) -> Self {
        let Ingredients {
            site,
            slot,
            container,
            image,
            bridges,
            namespace,
            settings,
        } = ingredients;
        let links = container
            .networks
            .iter()
            .filter_map(|(name, wish)| {
                bridges.get(name).map(|bridge| Link {
                    bridge: (*bridge).clone(),
                    fixed4: wish.ipv4_address,
                    fixed6: wish.ipv6_address,
                    mac: wish.mac_address.map(|mac| mac.0),
                    priority: wish.gateway_priority,
                })
            })
            .collect();
        Self {
            spec: spec(site, slot, container, image, namespace.clone(), settings),
            image_id: image.id.clone(),
            links,
        }
    }

    /// Names the template. The restart policy is left out, it may change live.
    fn hash(&self) -> String {
        let mut named = self.clone();
        named.spec.restart = linkspan_site::Restart::No;
        let text = serde_json::to_vec(&named).unwrap_or_default();
        // FNV-1a in two lanes: stable between releases, which std's hasher doesn't promise. Nobody attacks it.
        let lane = |basis: u64| {
            text.iter().fold(basis, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        };
        format!(
            "{:016x}{:016x}",
            lane(0xcbf2_9ce4_8422_2325),
            lane(0x6c62_272e_07bb_0142)
        )
    }

    fn is_exclusive(&self) -> bool {
        let data = self
            .spec
            .mounts
            .iter()
            .any(|mount| !mount.read_only && !matches!(mount.source, MountKind::Tmpfs { .. }));
        data || self
            .links
            .iter()
            .any(|link| link.fixed4.is_some() || link.fixed6.is_some() || link.mac.is_some())
    }

    /// Digest of the image's configuration.
    pub(crate) fn image_id(&self) -> &str {
        &self.image_id
    }

    /// A new incarnation with addresses and ids of its own, or those of the container whose namespaces it shares.
    pub(crate) fn instantiate(
        &self,
        id: ContainerId,
        world: &World<'_>,
        networks: &Networks,
        leases: &mut Leases,
    ) -> Result<ContainerSpec, LeaseError> {
        let mut spec = self.spec.clone();
        if let NetworkNamespace::Container(target) = &spec.network {
            let target = world
                .observed
                .containers
                .get(target)
                .map(|seen| &seen.record.spec);
            spec.ids = target.and_then(|target| target.ids);
            spec.addresses = target.map(|target| target.addresses.clone()).unwrap_or_default();
        } else if spec.ids.is_some() {
            spec.ids = Some(leases.new_ids(&id, world.settings)?);
        }
        let places: Vec<Place<'_>> = self
            .links
            .iter()
            .map(|link| Place {
                bridge: &link.bridge,
                fixed4: link.fixed4,
                fixed6: link.fixed6,
                mac: link.mac,
                priority: link.priority,
                former: None,
            })
            .collect();
        if spec.network == NetworkNamespace::Own {
            spec.attachments = placement::place(&id, &places, leases, networks)?;
            spec.addresses = placement::addresses(&spec.attachments);
            spec.nameservers = placement::name_servers(&spec.attachments, world);
        }
        let gateway = match spec.network {
            NetworkNamespace::Host => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => placement::gateway(&spec.attachments, leases),
        };
        for (ip, _) in &mut spec.hosts {
            if ip.is_unspecified()
                && let Some(gateway) = gateway
            {
                *ip = gateway;
            }
        }
        spec.id = id;
        Ok(spec)
    }
}

fn spec(
    site: &Site,
    slot: &Slot,
    container: &Container,
    image: &Image,
    namespace: NetworkNamespace,
    settings: &Settings,
) -> ContainerSpec {
    let host_addresses = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    ContainerSpec {
        id: ContainerId(String::new()),
        name: slot.display_name(),
        hostname: container.hostname.clone().unwrap_or_else(|| match namespace {
            NetworkNamespace::Own => slot.container.to_string(),
            // That of the host, or of the container whose network it shares.
            NetworkNamespace::Host | NetworkNamespace::Container(_) => String::new(),
        }),
        layers: image.layers.clone(),
        args: args(container, image),
        env: environment(container, image),
        cwd: container
            .working_dir
            .clone()
            .or_else(|| Some(image.working_dir.clone()).filter(|dir| !dir.is_empty()))
            .unwrap_or_else(|| "/".to_owned()),
        user: container.user.clone().unwrap_or_else(|| image.user.clone()),
        terminal: false,
        ids: (!container.host_users).then_some(crate::IdRange { first: 0, count: 0 }),
        mounts: mounts(&site.name, &slot.container, container, image),
        read_only: container.read_only,
        hosts: container
            .extra_hosts
            .iter()
            .map(|(name, address)| match address {
                ExtraHost::Address(ip) => (*ip, name.clone()),
                // Stands for the gateway until the addresses are known.
                ExtraHost::HostGateway => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), name.clone()),
            })
            .collect(),
        addresses: match namespace {
            NetworkNamespace::Host => host_addresses.to_vec(),
            _ => Vec::new(),
        },
        nameservers: Vec::new(),
        search: container.dns_search.clone(),
        capabilities: capabilities(container),
        privileged: container.privileged,
        no_new_privileges: container.security.no_new_privileges && !container.privileged,
        seccomp: if container.privileged {
            linkspan_site::Seccomp::Unconfined
        } else {
            container.security.seccomp.clone()
        },
        devices: container.devices.clone(),
        resources: Resources {
            memory: container.memory_limit,
            cpu_millis: container.cpu_millis,
            pids: Some(container.pids_limit.unwrap_or(DEFAULT_PIDS)),
        },
        ulimits: container.ulimits.clone(),
        sysctls: sysctls(container, &namespace),
        init: container.init,
        stop_signal: container
            .stop_signal
            .as_deref()
            .or(image.stop_signal.as_deref())
            // The site refuses a wrong name; an image with one is stopped as if it named none.
            .and_then(signal_number)
            .unwrap_or(SIGTERM),
        stop_grace: container.stop_grace,
        healthcheck: container
            .healthcheck
            .clone()
            .or_else(|| image.healthcheck.clone())
            .filter(|check| !check.test.is_empty()),
        restart: container.restart,
        log: settings.log.clone(),
        network: namespace,
        attachments: Vec::new(),
    }
}

/// Docker's rule: an entrypoint of the site's own drops the image's command as well.
fn args(container: &Container, image: &Image) -> Vec<String> {
    let (entrypoint, inherited) = match &container.entrypoint {
        Some(own) => (own.clone(), Vec::new()),
        None => (image.entrypoint.clone(), image.command.clone()),
    };
    let command = container.command.clone().unwrap_or(inherited);
    entrypoint.into_iter().chain(command).collect()
}

fn environment(container: &Container, image: &Image) -> Vec<String> {
    let mut merged: Vec<String> = Vec::new();
    let key = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let inherited = image
        .env
        .iter()
        .filter(|line| !container.environment.contains_key(&key(line)))
        .cloned();
    merged.extend(inherited);
    merged.extend(
        container
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    if !merged.iter().any(|line| line.starts_with("PATH=")) {
        merged.insert(0, DEFAULT_PATH.to_owned());
    }
    merged
}

fn mounts(
    project: &ProjectName,
    name: &ContainerName,
    container: &Container,
    image: &Image,
) -> Vec<MountSpec> {
    let mut mounts: Vec<MountSpec> = container
        .mounts
        .iter()
        .map(|mount| MountSpec {
            source: match &mount.source {
                MountSource::Volume(volume) => MountKind::Volume {
                    name: format!("{project}_{volume}"),
                },
                MountSource::Bind { path, create } => MountKind::Bind {
                    path: path.clone(),
                    create: *create,
                },
                MountSource::Tmpfs { size, mode } => MountKind::Tmpfs {
                    size: *size,
                    mode: *mode,
                },
            },
            target: mount.target.clone(),
            read_only: mount.read_only,
            allow_host_path: mount.allow_host_path,
        })
        .collect();
    // What an image declares as data is kept in a volume with a name that a person can guess, not in an orphan.
    for target in &image.volumes {
        if !mounts
            .iter()
            .any(|mount| mount.target.trim_end_matches('/') == target.trim_end_matches('/'))
        {
            let path = target.trim_matches('/').replace('/', "-");
            mounts.push(MountSpec {
                source: MountKind::Volume {
                    name: format!("{project}_{name}-{path}"),
                },
                target: target.clone(),
                read_only: false,
                allow_host_path: false,
            });
        }
    }
    mounts.sort_by_key(|mount| mount.target.matches('/').count());
    mounts
}

fn capabilities(container: &Container) -> BTreeSet<String> {
    let all = || CAPABILITIES.iter().map(|name| (*name).to_owned());
    if container.privileged || container.cap_add.iter().any(|name| name == "ALL") {
        return all().filter(|name| !container.cap_drop.contains(name)).collect();
    }
    let mut held: BTreeSet<String> = if container.cap_drop.iter().any(|name| name == "ALL") {
        BTreeSet::new()
    } else {
        DEFAULT_CAPABILITIES
            .iter()
            .map(|name| (*name).to_owned())
            .collect()
    };
    held.retain(|name| !container.cap_drop.contains(name));
    held.extend(container.cap_add.iter().cloned());
    held
}

/// Programs that drop root before they bind, and `ping` without privilege, work as people expect. Groups beyond 65,535
/// are not mapped into a container, and the kernel refuses a range that ends there.
fn sysctls(container: &Container, namespace: &NetworkNamespace) -> BTreeMap<String, String> {
    let mut sysctls = container.sysctls.clone();
    // Those of a namespace that isn't its own aren't its to set.
    if *namespace != NetworkNamespace::Own {
        return sysctls;
    }
    sysctls
        .entry("net.ipv4.ip_unprivileged_port_start".to_owned())
        .or_insert_with(|| "0".to_owned());
    sysctls
        .entry("net.ipv4.ping_group_range".to_owned())
        .or_insert_with(|| "0 65535".to_owned());
    sysctls
}

/// The bridge's address in an IPv6 subnet.
pub(crate) fn gateway6(subnet: ipnetwork::Ipv6Network) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(subnet.network()) | 1)
}

/// The resolver leg's address in an IPv6 subnet: one that nobody would write down for a container, and that no IPv4
/// address of a container ends in.
pub(crate) fn resolver6(subnet: ipnetwork::Ipv6Network) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(subnet.network()) | 0xffff_0053)
}
