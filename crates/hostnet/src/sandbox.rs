//! A container's namespaces: made before the container, outliving its restarts.
//!
//! The network namespace must belong to the container's user namespace: else its root could open no port below 1024
//! nor mount sysfs. Whoever makes a network namespace in the user namespace that he is in makes it belong there, but
//! a process with threads can't enter a user namespace at all. So a helper of our own binary, the role `sandbox`,
//! makes both at once and waits, while we write its id maps (which takes the host's root) and pin what it made.
//!
//! A container in the host's network has a user namespace only. One in another container's network has that one's sandbox
//! and none of its own: only in the user namespace that the network belongs to is it root there.

mod child;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use linkspan_plan::IdRange;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::{NamespaceError, Sandbox, SandboxError, netns};

pub use child::sandbox_main;

/// The helper makes two namespaces and sets a few parameters: milliseconds, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the helper says when its namespaces are made.
const READY: &[u8] = b"ready";

/// What is to be made.
struct Wish {
    ids: Option<IdRange>,
    user: Option<PathBuf>,
    net: Option<PathBuf>,
}

impl Wish {
    /// The network is pinned last, so a sandbox that has one is whole.
    fn is_there(&self) -> bool {
        self.user
            .iter()
            .chain(&self.net)
            .all(|path| netns::is_pinned(path))
    }
}

/// Makes and pins both namespaces, or finds them.
pub(crate) async fn create(
    folder: &Path,
    binary: &Path,
    name: &str,
    ids: Option<IdRange>,
) -> Result<Sandbox, SandboxError> {
    let sandbox = Sandbox {
        user: ids.map(|_| folder.join("user")),
        net: folder.join("net"),
    };
    let wish = Wish {
        ids,
        user: sandbox.user.clone(),
        net: Some(sandbox.net.clone()),
    };
    make(folder, binary, name, &wish).await.map(|()| sandbox)
}

/// Makes and pins a user namespace without a network, or finds it.
pub(crate) async fn create_users(
    folder: &Path,
    binary: &Path,
    name: &str,
    ids: IdRange,
) -> Result<PathBuf, SandboxError> {
    let user = folder.join("user");
    let wish = Wish {
        ids: Some(ids),
        user: Some(user.clone()),
        net: None,
    };
    make(folder, binary, name, &wish).await.map(|()| user)
}

/// What is pinned in `folder`, if it is a whole sandbox.
pub(crate) fn find(folder: &Path) -> Option<Sandbox> {
    let (user, net) = (folder.join("user"), folder.join("net"));
    netns::is_pinned(&net).then(|| Sandbox {
        user: netns::is_pinned(&user).then_some(user),
        net,
    })
}

async fn make(folder: &Path, binary: &Path, name: &str, wish: &Wish) -> Result<(), SandboxError> {
    if wish.is_there() {
        return Ok(());
    }
    remove(folder)?;
    std::fs::create_dir_all(folder).map_err(|source| NamespaceError::Pin {
        path: folder.to_owned(),
        source,
    })?;
    let mut helper = spawn(binary, wish)?;
    let made = adopt(&mut helper, name, wish).await;
    // Its work is done. Had we died meanwhile, it would have ended with its standard input.
    let _ = helper.start_kill();
    let _ = helper.wait().await;
    if made.is_err() {
        // The failure is what matters; what is left of the attempt is removed by the next one.
        let _ = remove(folder);
    }
    made
}

/// Lets go of the namespaces in `folder`.
pub(crate) fn remove(folder: &Path) -> Result<(), NamespaceError> {
    netns::unpin(&folder.join("net"))?;
    netns::unpin(&folder.join("user"))?;
    match std::fs::remove_dir(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(NamespaceError::Unpin {
            path: folder.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn spawn(binary: &Path, wish: &Wish) -> Result<Child, SandboxError> {
    let mut command = Command::new(binary);
    command
        .arg("sandbox")
        .args(wish.user.as_ref().map(|_| child::USERS))
        .args(wish.net.is_none().then_some(child::NO_NETWORK));
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().map_err(|source| SandboxError::Spawn {
        binary: binary.to_owned(),
        source,
    })
}

async fn adopt(helper: &mut Child, name: &str, wish: &Wish) -> Result<(), SandboxError> {
    let failed = |reason: String| SandboxError::Clone {
        name: name.to_owned(),
        reason,
    };
    let mut ready = [0; READY.len()];
    let pid = helper.id();
    let (Some(stdout), Some(pid)) = (helper.stdout.as_mut(), pid) else {
        return Err(failed("the helper has already ended".to_owned()));
    };
    match tokio::time::timeout(PATIENCE, stdout.read_exact(&mut ready)).await {
        Ok(Ok(_)) if ready == READY => {}
        Ok(_) => return Err(failed(complaint(helper).await)),
        Err(_) => return Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
    let proc = PathBuf::from(format!("/proc/{pid}"));
    if let Some(ids) = wish.ids {
        let map = format!("0 {} {}", ids.first, ids.count);
        for file in ["uid_map", "gid_map"] {
            std::fs::write(proc.join(file), &map).map_err(|source| SandboxError::Map {
                name: name.to_owned(),
                map: map.clone(),
                source,
            })?;
        }
    }
    if let Some(user) = &wish.user {
        netns::pin(&proc.join("ns/user"), user)?;
    }
    // Last, since a pinned network is what makes a sandbox count as there.
    if let Some(net) = &wish.net {
        netns::pin(&proc.join("ns/net"), net)?;
    }
    Ok(())
}

/// What the helper wrote to its standard error before it ended.
async fn complaint(helper: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = helper.stderr.as_mut() {
        let _ = tokio::time::timeout(PATIENCE, stderr.read_to_string(&mut text)).await;
    }
    match text.trim() {
        "" => "the helper ended without a word".to_owned(),
        text => text.to_owned(),
    }
}
