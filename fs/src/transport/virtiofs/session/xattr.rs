//! Extended attributes.

#![forbid(unsafe_code)]

use super::Session;
use super::answer::{Answer, done, put_data};
use crate::error::{Errno, Result};
use crate::node::Ino;
use crate::transport::duties;
use crate::transport::fuse_message::{Operation, Reply};

/// An xattr's value, or a list of names, is never longer for a Linux kernel.
const LARGEST_XATTR: usize = 65_536;

impl Session {
    pub(super) fn xattr(
        &self,
        node: Ino,
        operation: Operation<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<Answer> {
        let tree = &*self.tree;
        match operation {
            Operation::GetXattr { name, size } => sized(&tree.get_xattr(node, name)?, size, buffer),
            Operation::ListXattrs { size } => {
                let mut names = Vec::new();
                for name in tree.list_xattrs(node)? {
                    names.extend_from_slice(&name);
                    names.push(0);
                }
                sized(&names, size, buffer)
            }
            Operation::SetXattr { name, value, how } => {
                done(duties::set_xattr(tree, node, name, value, how))
            }
            Operation::RemoveXattr { name } => done(tree.remove_xattr(node, name)),
            _ => Err(Errno::NOSYS.into()),
        }
    }
}

/// The xattr size protocol: 0 asks for the size, anything smaller than the value is ERANGE.
fn sized(value: &[u8], size: u32, buffer: &mut Vec<u8>) -> Result<Answer> {
    if value.len() > LARGEST_XATTR {
        return Err(Errno::TOOBIG.into());
    }
    let length = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
    if size == 0 {
        return Ok(Reply::XattrSize(length).into());
    }
    if length > size {
        return Err(Errno::RANGE.into());
    }
    put_data(buffer, value);
    Ok(Answer::Buffered)
}
