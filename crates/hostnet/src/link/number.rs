//! The numbers by which a namespace knows others: messages that come from one of these bear its number.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::{Error, Handle};

use super::{Links, errno, refused};
use crate::KernelError;

/// The kernel chooses.
const ANY: i32 = -1;

impl Links {
    /// The number of the namespace pinned at `path`, given to it now if it has none. It keeps it as long as it lives.
    pub(crate) async fn number_of(&self, path: &Path) -> Result<i32, KernelError> {
        let object = path.display().to_string();
        let netns = File::open(path).map_err(|source| KernelError {
            action: "find the namespace",
            object: object.clone(),
            source,
        })?;
        // A descriptor is no negative number.
        let fd = NsidAttribute::Fd(netns.as_raw_fd().cast_unsigned());
        let (mut give, mut ask) = (NsidMessage::default(), NsidMessage::default());
        give.attributes = vec![NsidAttribute::Id(ANY), fd.clone()];
        ask.attributes = vec![fd];
        match exchange(&self.handle, RouteNetlinkMessage::NewNsId(give), NLM_F_ACK).await {
            // The kernel gives one by itself when a veth leads there.
            Err(error) if errno(&error) != Some(Errno::EEXIST) => {
                return Err(refused("number the namespace", &object)(error));
            }
            _ => {}
        }
        let number = exchange(&self.handle, RouteNetlinkMessage::GetNsId(ask), 0).await;
        let number = number.map_err(refused("number the namespace", &object))?;
        number.filter(|number| *number >= 0).ok_or_else(|| KernelError {
            action: "number the namespace",
            object,
            source: io::Error::other("it has no number right after it was given one"),
        })
    }
}

/// The number in the answer, if there is one.
async fn exchange(handle: &Handle, message: RouteNetlinkMessage, flags: u16) -> Result<Option<i32>, Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    let mut answers = handle.clone().request(request)?;
    let mut number = None;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(Error::NetlinkError(error)),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(found)) => {
                number = found.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Ok(number)
}
