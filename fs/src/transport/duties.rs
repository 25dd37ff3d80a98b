//! What a FUSE server owes its kernel beyond the tree's own operations: the group of a setgid
//! directory, the loss of privileges, the race between two creators.

#![forbid(unsafe_code)]

use crate::error::{Errno, Result};
use crate::filesystem::{Creation, Filesystem, SetAttributes, SetXattr};
use crate::node::{Attributes, Ino, Kind};

const CAPABILITIES: &[u8] = b"security.capability";
/// Of xattrs that can be set; `system.` has nothing but POSIX ACLs.
const NAME_SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// So often in turn nobody makes and removes a name that somebody opens: the tree is broken.
const MOST_ATTEMPTS: u32 = 1000;
const SET_USER_OR_GROUP: u16 = 0o6000;
const SET_GROUP: u16 = 0o2000;

/// The process that asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub uid: u32,
    pub gid: u32,
}

impl Asker {
    /// Whether a write leaves setuid and setgid alone (`CAP_FSETID`; FUSE tells only the uid).
    pub(super) fn keeps_set_ids(self) -> bool {
        self.uid == 0
    }
}

/// Owner and mode of what `asker` makes; a setgid directory hands its group down.
pub(super) fn creation(
    tree: &dyn Filesystem,
    asker: Asker,
    parent: Ino,
    mode: u32,
    umask: u32,
    directory: bool,
) -> Result<Creation> {
    // The kernel has applied the umask already unless asked not to; twice does no harm.
    let mut mode = (mode & !umask & 0o7777) as u16;
    let mut gid = asker.gid;
    let above = tree.attributes(parent)?.meta;
    if above.mode & SET_GROUP != 0 {
        gid = above.gid;
        if directory {
            mode |= SET_GROUP;
        }
    }
    Ok(Creation { mode, uid: asker.uid, gid })
}

/// Sets an xattr of the name spaces that file systems know, but no POSIX ACL: a kernel that was not promised `FUSE_POSIX_ACL` leaves the mode
/// that an ACL means to the server. Programs that are told so, such as `cp -p`, change the mode.
pub(super) fn set_xattr(
    tree: &dyn Filesystem,
    ino: Ino,
    name: &[u8],
    value: &[u8],
    how: SetXattr,
) -> Result<()> {
    let within = NAME_SPACES.iter().find_map(|space| name.strip_prefix(*space));
    if within.is_some_and(<[u8]>::is_empty) {
        return Err(Errno::INVAL.into());
    }
    if within.is_none() {
        return Err(Errno::OPNOTSUPP.into());
    }
    tree.set_xattr(ino, name, value, how)
}

/// Takes away what a changed file must not keep: capabilities always, setuid and setgid if asked.
/// `FUSE_HANDLE_KILLPRIV_V2` makes this the server's duty, and spares a GETXATTR before every
/// write.
pub(super) fn drop_privileges(tree: &dyn Filesystem, ino: Ino, set_ids: bool) -> Result<()> {
    if set_ids && tree.attributes(ino)?.meta.mode & SET_USER_OR_GROUP != 0 {
        let changes = SetAttributes { kill_privileges: true, ..SetAttributes::default() };
        tree.set_attributes(ino, &changes)?;
    }
    match tree.get_xattr(ino, CAPABILITIES) {
        Ok(_) => match tree.remove_xattr(ino, CAPABILITIES) {
            // Another writer was faster.
            Err(error) if error.errno() == Errno::NODATA => Ok(()),
            result => result,
        },
        Err(error) if error.is_fault() => Err(error),
        Err(_) => Ok(()),
    }
}

/// For changes of content whose message does not say whether setuid and setgid go.
pub(super) fn drop_privileges_for(tree: &dyn Filesystem, ino: Ino, asker: Asker) -> Result<()> {
    drop_privileges(tree, ino, !asker.keeps_set_ids())
}

/// setattr: a new owner or size costs a file its privileges; a new size those of setuid and setgid
/// only if `size_kills_set_ids`.
pub(super) fn change(
    tree: &dyn Filesystem,
    ino: Ino,
    changes: &SetAttributes,
    size_kills_set_ids: bool,
) -> Result<Attributes> {
    let owner_changes = changes.uid.is_some() || changes.gid.is_some();
    if (owner_changes || changes.size.is_some()) && !tree.attributes(ino)?.meta.kind.is_directory()
    {
        drop_privileges(tree, ino, owner_changes || size_kills_set_ids)?;
    }
    tree.set_attributes(ino, changes)
}

/// open(2) with `O_CREAT` of a name that the kernel believes to be free.
pub(super) fn create(
    tree: &dyn Filesystem,
    parent: Ino,
    name: &[u8],
    creation: Creation,
    flags: i32,
) -> Result<Attributes> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match tree.make_node(parent, name, Kind::File, creation) {
            // Somebody else made it since the kernel looked.
            Err(error) if error.errno() == Errno::EXIST && flags & libc::O_EXCL == 0 => {}
            result => return result,
        }
        let found = match tree.lookup(parent, name) {
            // And somebody removed it since.
            Err(error) if error.errno() == Errno::NOENT && attempts < MOST_ATTEMPTS => continue,
            result => result?,
        };
        if flags & libc::O_TRUNC == 0 {
            return Ok(found);
        }
        let changes = SetAttributes { size: Some(0), ..SetAttributes::default() };
        return tree.set_attributes(found.ino, &changes).inspect_err(|_| tree.forget(found.ino, 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ROOT_INO;
    use crate::view::memory_tree::MemoryTree;

    const NEW: Creation = Creation { mode: 0o644, uid: 1, gid: 1 };

    #[test]
    fn the_second_creator_opens_what_the_first_made() {
        let tree = MemoryTree::new();
        let first = create(&tree, ROOT_INO, b"file", NEW, libc::O_RDWR).unwrap();
        tree.write(first.ino, 0, b"content").unwrap();
        let second = create(&tree, ROOT_INO, b"file", NEW, libc::O_RDWR).unwrap();
        assert_eq!((second.ino, second.meta.size), (first.ino, 7));
        let third = create(&tree, ROOT_INO, b"file", NEW, libc::O_RDWR | libc::O_TRUNC).unwrap();
        assert_eq!((third.ino, third.meta.size), (first.ino, 0));
        let exclusive = create(&tree, ROOT_INO, b"file", NEW, libc::O_EXCL).unwrap_err();
        assert_eq!(exclusive.errno(), Errno::EXIST);
    }

    #[test]
    fn a_refused_truncation_gives_its_hold_back() {
        let tree = MemoryTree::new();
        let creation = Creation { mode: 0o755, uid: 0, gid: 0 };
        let directory = tree.make_directory(ROOT_INO, b"name", creation).unwrap();
        create(&tree, ROOT_INO, b"name", NEW, libc::O_TRUNC).unwrap_err();
        tree.remove_directory(ROOT_INO, b"name").unwrap();
        tree.forget(directory.ino, 1);
        assert_eq!(tree.node_count(), 1);
    }
}
