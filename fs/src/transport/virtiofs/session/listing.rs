//! READDIR and READDIRPLUS.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use super::answer::Answer;
use super::{LARGEST_TRANSFER, ReplySpace, Session};
use crate::error::Result;
use crate::node::Ino;
use crate::transport::fuse_message::{DirectoryListing, REPLY_HEADER};
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
            flow(listing.add(name, self.numbers.shown(ino), kind, next).is_ok())
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
            // The kernel takes no hold on these two.
            let is_held = name != b"." && name != b"..";
            // Held before it is asked for: what has attributes is then sure to stay.
            if is_held {
                self.tree.remember(ino);
            }
            let entry = match self.tree.attributes(ino) {
                Ok(found) if is_held => Some(self.held(found)),
                Ok(found) => Some(self.described(found)),
                // Gone since it was listed, or broken: a lookup says which.
                Err(_) => {
                    if is_held {
                        self.tree.forget(ino, 1);
                    }
                    None
                }
            };
            let shown = (self.numbers.shown(ino), kind);
            flow(listing.add_with_attributes(name, entry.as_ref(), shown, next).is_ok())
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
