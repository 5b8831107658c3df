//! What a shim is told when it is started, and a new netd reads when it adopts the container.

use std::io;
use std::path::{Path, PathBuf};

use linkspan_plan::{ContainerId, ContainerSpec, NetworkNamespace, Placement};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::{Config, Sandbox};

/// Version of this file and of the protocol between netd and shim. A netd reads this one and those before.
pub(crate) const VERSION: u32 = 1;

/// `spec.json` in the container's state folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) version: u32,
    pub(crate) spec: ContainerSpec,
    pub(crate) user_namespace: Option<PathBuf>,
    /// Absent in the host's network.
    pub(crate) net_namespace: Option<PathBuf>,
    pub(crate) runtime: Option<PathBuf>,
    pub(crate) binary: PathBuf,
    /// Where it was before, while its `/etc/hosts` may still say so.
    #[serde(default)]
    pub(crate) moved_from: Option<Placement>,
}

impl Orders {
    pub(crate) fn new(spec: &ContainerSpec, sandbox: &Sandbox, config: &Config) -> Self {
        Self {
            version: VERSION,
            spec: spec.clone(),
            user_namespace: sandbox.user.clone(),
            net_namespace: sandbox.net.clone(),
            runtime: config.runtime.clone(),
            binary: config.binary.clone(),
            moved_from: None,
        }
    }

    /// Gives a container without a name that of whoever's network it shares.
    pub(crate) fn name(&mut self, layout: &Layout) {
        if !self.spec.hostname.is_empty() {
            return;
        }
        let host = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        let name = match &self.spec.network {
            NetworkNamespace::Own => None,
            NetworkNamespace::Host => host().ok(),
            NetworkNamespace::Container(target) => {
                Self::load(layout, target).ok().map(|orders| orders.spec.hostname)
            }
        };
        self.spec.hostname = name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| self.spec.id.short().to_owned());
    }

    /// In the host's network with ids of its own, so without any right over it.
    pub(crate) fn is_guest_of_host(&self) -> bool {
        self.net_namespace.is_none() && self.user_namespace.is_some()
    }

    /// Whole or absent, but not through a power cut: no container lives through one either.
    pub(crate) fn save(&self, layout: &Layout) -> io::Result<()> {
        let path = layout.orders(&self.spec.id);
        let draft = path.with_extension("tmp");
        std::fs::write(&draft, serde_json::to_vec(self)?)?;
        std::fs::rename(draft, path)
    }

    pub(crate) fn load(layout: &Layout, id: &ContainerId) -> io::Result<Self> {
        Self::read(&layout.orders(id))
    }

    fn read(path: &Path) -> io::Result<Self> {
        let orders: Self = serde_json::from_slice(&std::fs::read(path)?)?;
        if orders.version > VERSION {
            return Err(io::Error::other(format!(
                "`{}` was written by a newer release (version {})",
                path.display(),
                orders.version
            )));
        }
        Ok(orders)
    }
}
