//! Making a container: folders, orders, shim.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use linkspan_plan::{ContainerId, ContainerSpec, NetworkNamespace};

use super::{Containers, Known, adopt, blocking, remove};
use crate::cgroup;
use crate::layout::{Layout, make_dir};
use crate::link::{self, AskError, Link};
use crate::orders::Orders;
use crate::protocol::Answer;
use crate::{Config, Sandbox};

/// Why a container could not be made. Nothing is left of it then.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Its id was used before.
    #[error("container `{name}` ({id}) exists already")]
    Exists {
        /// As shown.
        name: String,
        /// Its id.
        id: ContainerId,
    },
    /// Folders or the shim could not be made.
    #[error("cannot prepare container `{name}` in `{folder}`")]
    Prepare {
        /// As shown.
        name: String,
        /// The state folder.
        folder: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The shim or the runtime could not.
    #[error("cannot create container `{name}`")]
    Failed {
        /// As shown.
        name: String,
        /// Why.
        #[source]
        source: AskError,
    },
}

impl Containers {
    /// Folders, root, volumes, cgroup, shim; ready for [`Containers::start`]. The sandbox's links need not be there yet.
    pub async fn create(&self, spec: &ContainerSpec, sandbox: &Sandbox) -> Result<(), CreateError> {
        let _making = self.0.making.read().await;
        let (id, name) = (spec.id.clone(), spec.name.clone());
        let exists = || CreateError::Exists {
            name: name.clone(),
            id: id.clone(),
        };
        if self.known().contains_key(&id) || self.0.layout.orders(&id).exists() {
            return Err(exists());
        }
        let prepare = |source| CreateError::Prepare {
            name: name.clone(),
            folder: self.0.layout.state(&id).display().to_string(),
            source,
        };
        // With the host's ids, a parameter meant for a network of its own would change the host's.
        if (spec.network == NetworkNamespace::Host) != sandbox.net.is_none() {
            let reason = "its spec and its sandbox disagree about whose network it has";
            return Err(prepare(io::Error::new(io::ErrorKind::InvalidInput, reason)));
        }
        // Made before and renewed: what it wrote then stays, whatever becomes of this attempt.
        let again = self.0.layout.rw(&id).exists();
        let mut orders = Orders::new(spec, sandbox, &self.0.config);
        let layout = self.0.layout.clone();
        drop(tokio::task::spawn_blocking(cgroup::warm));
        let made = blocking(move || {
            orders.name(&layout);
            folders(&layout, &orders)
        });
        let (listener, complaints) = made.await.and_then(|made| made).map_err(prepare)?;

        let created = async {
            self.spawn_shim(&id, listener, complaints).map_err(prepare)?;
            let link = Link::connect(&self.0.layout, &id).map_err(prepare)?;
            // Known before it is served: the container may end at once.
            let known = Known {
                in_making: true,
                ..Known::new(Arc::new(spec.clone()), Some(Arc::clone(&link)))
            };
            self.known().insert(id.clone(), known);
            self.follow(&id, Arc::clone(&link));
            match link.made().await {
                Ok(Answer::Hello { .. }) => {
                    if let Some(known) = self.known().get_mut(&id) {
                        known.in_making = false;
                    }
                    Ok(())
                }
                Ok(_) => Err(CreateError::Failed {
                    name: name.clone(),
                    source: AskError::Gone,
                }),
                Err(source) => Err(CreateError::Failed {
                    name: name.clone(),
                    source,
                }),
            }
        };
        let result = created.await;
        if result.is_err() {
            let link = self.known().remove(&id).and_then(|known| known.link);
            if let Some(link) = link {
                // It still uses the folders until it ends.
                let _ = tokio::time::timeout(remove::PATIENCE, link.closed()).await;
            }
            let (layout, of) = (self.0.layout.clone(), id.clone());
            let cleared = blocking(move || {
                if again {
                    remove::clear_run(&layout, &of)
                } else {
                    remove::clear(&layout, &of)
                }
            })
            .await
            .and_then(|cleared| cleared);
            if let Err(error) = cleared {
                tracing::warn!(container = %id, %error, "a container that could not be made left something behind");
            }
        }
        result
    }

    /// A process of its own session, which outlives us. We reap it while we live.
    fn spawn_shim(&self, id: &ContainerId, listener: OwnedFd, complaints: File) -> io::Result<()> {
        let Config {
            state_dir,
            run_dir,
            layers_dir,
            binary,
            ..
        } = &self.0.config;
        let mut command = tokio::process::Command::new(binary);
        command
            .arg("shim")
            .args([state_dir, run_dir, layers_dir])
            .arg(id.as_str())
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .stderr(Stdio::from(complaints))
            .kill_on_drop(false);
        let mut shim = command.spawn()?;
        // Not reaped yet, so the number is its own.
        if let Some(pid) = shim.id() {
            adopt::note_shim(&self.0.layout, id, pid.cast_signed());
        }
        let id = id.clone();
        tokio::spawn(async move {
            if let Err(error) = shim.wait().await {
                tracing::warn!(container = %id, %error, "cannot wait for a shim");
            }
        });
        Ok(())
    }
}

/// Folders, orders, the shim's socket, and where it may complain.
fn folders(layout: &Layout, orders: &Orders) -> io::Result<(OwnedFd, File)> {
    let id = &orders.spec.id;
    make_dir(&layout.state(id), 0o700)?;
    make_dir(&layout.run(id), 0o711)?;
    orders.save(layout)?;
    let complaints = File::create(layout.run(id).join("shim.log"))?;
    Ok((link::listener(&layout.socket(id))?, complaints))
}
