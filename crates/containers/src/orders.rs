//! What a shim is told when it is started, and a new netd reads when it adopts the container.

use std::io;
use std::path::{Path, PathBuf};

use linkspan_plan::{ContainerId, ContainerSpec};
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
    pub(crate) net_namespace: PathBuf,
    pub(crate) runtime: Option<PathBuf>,
    pub(crate) binary: PathBuf,
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
        }
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
