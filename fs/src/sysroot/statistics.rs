//! What statfs(2) is told.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::Sysroot;
use super::access::NAME_MAX;
use crate::error::Result;
use crate::filesystem::Statistics;
use crate::node::{Ino, Kind, ROOT_INO};

const BLOCK: u32 = 4096;

/// What a tree holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    nodes: u64,
    /// Blocks of 512 bytes.
    blocks: u64,
}

impl Sysroot {
    /// The spool's file system where something can be written; else what the tree holds, counted
    /// when somebody asks for the first time.
    pub(super) fn tell_statistics(&self) -> Result<Statistics> {
        let name_max = NAME_MAX as u32;
        let Some(spool) = &self.spool else {
            let counts = self.counts.get_or_init(|| self.count());
            return Ok(Statistics {
                block_size: BLOCK,
                blocks: counts.blocks.div_ceil(u64::from(BLOCK / 512)),
                free_blocks: 0,
                files: counts.nodes,
                free_files: 0,
                name_max,
            });
        };
        let host = spool.statistics()?;
        Ok(Statistics {
            block_size: u32::try_from(host.f_frsize).unwrap_or(BLOCK),
            blocks: host.f_blocks,
            free_blocks: host.f_bavail,
            files: host.f_files,
            free_files: host.f_favail,
            name_max,
        })
    }

    /// Walks the whole tree. What cannot be read holds nothing.
    fn count(&self) -> Counts {
        let mut counts = Counts { nodes: 1, blocks: 0 };
        let mut linked: HashSet<Ino> = HashSet::new();
        let mut waiting = vec![ROOT_INO];
        while let Some(directory) = waiting.pop() {
            let outcome = self.visit_directory(directory, 0, &mut |entry| {
                if matches!(entry.name, b"." | b"..") {
                    return ControlFlow::Continue(());
                }
                match entry.kind {
                    Kind::Directory => {
                        waiting.push(entry.ino);
                        counts.nodes = counts.nodes.saturating_add(1);
                    }
                    _ => self.count_node(entry.ino, &mut linked, &mut counts),
                }
                ControlFlow::Continue(())
            });
            if let Err(error) = outcome {
                log::debug!("a directory was not counted: {error}");
            }
        }
        counts
    }

    fn count_node(&self, ino: Ino, linked: &mut HashSet<Ino>, counts: &mut Counts) {
        let attributes = match self.attributes_of(&self.changes.read(), ino) {
            Ok(attributes) => attributes,
            Err(error) => {
                log::debug!("a node was not counted: {error}");
                return;
            }
        };
        if attributes.nlink <= 1 || linked.insert(ino) {
            counts.nodes = counts.nodes.saturating_add(1);
            counts.blocks = counts.blocks.saturating_add(attributes.blocks);
        }
    }
}
