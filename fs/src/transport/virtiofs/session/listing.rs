//! READDIR and READDIRPLUS.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use super::answer::Answer;
use super::{LARGEST_TRANSFER, ReplySpace, Session};
use crate::error::Result;
use crate::node::Ino;
use crate::transport::fuse_message::{DirectoryListing, Entry, REPLY_HEADER};
use crate::transport::names::list;

impl Session {
    pub(super) fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        size: u32,
        buffer: &mut Vec<u8>,
        space: &dyn ReplySpace,
    ) -> Result<Answer> {
        let mut listing = listing(buffer, size, space);
        list(&*self.tree, directory, cookie, |name, ino, kind, next| {
            flow(listing.add(name, ino, kind, next).is_ok())
        })?;
        Ok(Answer::Buffered)
    }

    pub(super) fn read_directory_plus(
        &self,
        directory: Ino,
        cookie: u64,
        size: u32,
        buffer: &mut Vec<u8>,
        space: &dyn ReplySpace,
    ) -> Result<Answer> {
        let mut listing = listing(buffer, size, space);
        list(&*self.tree, directory, cookie, |name, ino, kind, next| {
            if !listing.fits_with_attributes(name) {
                return ControlFlow::Break(());
            }
            // Gone since it was listed, or broken: a lookup says which.
            let entry = self.tree.attributes(ino).ok().map(|found| {
                // The kernel takes no hold on these two.
                if name == b"." || name == b".." {
                    return Entry { attributes: Some(found), lifetime: self.lifetime() };
                }
                self.tree.remember(ino);
                self.held(found)
            });
            flow(listing.add_with_attributes(name, entry.as_ref(), (ino, kind), next).is_ok())
        })?;
        Ok(Answer::Buffered)
    }
}

fn flow(goes_on: bool) -> ControlFlow<()> {
    if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// A listing behind the room for a header, as long as was asked for and fits.
fn listing<'a>(buffer: &'a mut Vec<u8>, size: u32, space: &dyn ReplySpace) -> DirectoryListing<'a> {
    buffer.resize(REPLY_HEADER, 0);
    let room = space.room().saturating_sub(REPLY_HEADER);
    let asked = usize::try_from(size.min(LARGEST_TRANSFER)).unwrap_or(room);
    DirectoryListing::new(buffer, asked.min(room))
}
