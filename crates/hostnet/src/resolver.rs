//! The resolver's network namespace: no way in or out but its legs on our bridges.
//!
//! Containers ask for names at one address that never changes ([`RESOLVER_ADDRESS`], on `lo` here), which their first
//! link's network delivers to the leg. It has no default route and passes nothing on: else it would join networks
//! that are to be kept apart.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use linkspan_plan::RESOLVER_ADDRESS;

use crate::link::{Holding, Links};
use crate::{KernelError, OpenError, netns, pair, sysctl};

/// Makes or adopts it; the handle on its links stays inside.
pub(crate) async fn open(path: &Path) -> Result<Links, OpenError> {
    if !netns::is_pinned(path) {
        netns::create(path.to_owned()).await?;
    }
    let sysctls = netns::within(path, || {
        Ok(sysctl::isolate().and_then(|()| sysctl::live_longest()))
    })
    .await?;
    sysctls?;
    let links = Links::within(path).await?;
    let Some(lo) = links.find("lo").await? else {
        return Err(KernelError {
            action: "find link",
            object: "lo".to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        }
        .into());
    };
    pair::bring_up(&links, &lo).await?;
    links
        .give(&lo, Holding::current(IpAddr::from(RESOLVER_ADDRESS)))
        .await?;
    Ok(links)
}

/// Where it is pinned.
pub(crate) fn path(run_dir: &Path) -> PathBuf {
    crate::pins(run_dir).join(NAME)
}

/// Its name among the pins; no sandbox may have it.
pub(crate) const NAME: &str = "resolver";
