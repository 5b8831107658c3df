//! Where containers are: on which networks, with which addresses. It follows the promises, also while they run.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Attachment, ContainerSpec};

/// The part of a [`ContainerSpec`](crate::ContainerSpec) that may change while the container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// All its links. One whose host end has the same name as before is changed, not made anew.
    pub attachments: Vec<Attachment>,
    /// Its own addresses, for `/etc/hosts`.
    pub addresses: Vec<IpAddr>,
    /// Lines of `/etc/hosts` beside localhost and the container itself.
    pub hosts: Vec<(IpAddr, String)>,
}

impl ContainerSpec {
    /// The container is there now.
    pub fn put(&mut self, placement: Placement) {
        self.attachments = placement.attachments;
        self.addresses = placement.addresses;
        self.hosts = placement.hosts;
    }
}
