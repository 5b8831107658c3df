//! Who a program runs as: names looked up in the container's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::mounts::in_root;

/// More than this of `/etc/passwd` or `/etc/group` is not read; images come from anywhere.
const FILE_MAX: u64 = 8 << 20;

/// Ids and home folder inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups, the primary one included.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Why nobody is known by this name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error("user `{0}` is not in the container's /etc/passwd; name one that is, or use a number")]
    NoUser(String),
    #[error("group `{0}` is not in the container's /etc/group; name one that is, or use a number")]
    NoGroup(String),
    #[error("cannot read `{file}` in the container")]
    Read {
        file: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Looks up `name|uid[:group|gid]` in the root that is open here; empty is root.
pub(crate) fn look_up(user: &str, root: BorrowedFd<'_>) -> Result<Identity, UserError> {
    resolve(user, &read(root, "/etc/passwd")?, &read(root, "/etc/group")?)
}

fn read(root: BorrowedFd<'_>, file: &'static str) -> Result<String, UserError> {
    let failed = |source| UserError::Read { file, source };
    // O_NONBLOCK: the image may have put a pipe there.
    let fd = match in_root(root, Path::new(file), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Ok(fd) => File::from(fd),
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP) => return Ok(String::new()),
        Err(error) => return Err(failed(error.into())),
    };
    if !fd.metadata().map_err(failed)?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    fd.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same on the text of the two files. passwd(5), group(5).
fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (name, wanted_group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    // A name that looks like a number is looked up as a name first, as chown(1) does.
    let entry = entries(passwd)
        .find(|fields| fields.first() == Some(&name))
        .or_else(|| entries(passwd).find(|fields| number.is_some() && field(fields, 2) == number));
    let uid = match (&entry, number) {
        (Some(fields), _) => field(fields, 2).ok_or_else(|| UserError::NoUser(name.to_owned()))?,
        (None, Some(number)) => number,
        (None, None) => return Err(UserError::NoUser(name.to_owned())),
    };
    let gid = match wanted_group {
        Some(wanted) => entries(group)
            .find(|fields| fields.first() == Some(&wanted))
            .and_then(|fields| field(&fields, 2))
            .or_else(|| wanted.parse().ok())
            .ok_or_else(|| UserError::NoGroup(wanted.to_owned()))?,
        None => entry.as_ref().and_then(|fields| field(fields, 3)).unwrap_or(0),
    };
    let mut groups = vec![gid];
    // Supplementary groups belong to the name, and a group that was asked for stands alone.
    if let (Some(fields), None) = (&entry, wanted_group) {
        for fields_of_group in entries(group) {
            let member = fields_of_group
                .get(3)
                .is_some_and(|all| all.split(',').any(|one| one == fields[0]));
            if let (true, Some(gid)) = (member, field(&fields_of_group, 2))
                && !groups.contains(&gid)
            {
                groups.push(gid);
            }
        }
    }
    let home = entry
        .as_ref()
        .and_then(|fields| fields.get(5))
        .filter(|home| home.starts_with('/'));
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.unwrap_or(&"/").to_string(),
    })
}

fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 3)
}

fn field(fields: &[&str], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:www:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:other,web\n";

    fn of(user: &str) -> Identity {
        resolve(user, PASSWD, GROUP).unwrap()
    }

    #[test]
    fn nobody_named_is_root() {
        assert_eq!(
            of(""),
            Identity {
                uid: 0,
                gid: 0,
                groups: vec![0],
                home: "/root".into()
            }
        );
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        assert_eq!(
            of("web"),
            Identity {
                uid: 33,
                gid: 34,
                groups: vec![34, 40],
                home: "/var/www".into()
            }
        );
        assert_eq!(of("33"), of("web"));
    }

    #[test]
    fn a_group_that_is_asked_for_stands_alone() {
        assert_eq!(of("web:logs").groups, [40]);
        assert_eq!(
            of("1000:1001"),
            Identity {
                uid: 1000,
                gid: 1001,
                groups: vec![1001],
                home: "/".into()
            }
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_what_to_do() {
        let error = resolve("app", PASSWD, GROUP).unwrap_err();
        assert_eq!(
            error.to_string(),
            "user `app` is not in the container's /etc/passwd; name one that is, or use a number"
        );
    }
}
