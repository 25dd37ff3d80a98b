//! What a tree has, seen without reading content: for sizes, and for what a format would lose.

use outcrop_fs::capture::{MtimePolicy, Visit, extents, walk};
use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::{Ino, Kind, Metadata, Timestamp};

use super::Result;

/// Bytes of a file system block, the unit of [`Survey::data_blocks`].
pub(super) const BLOCK: u64 = 4096;

/// Nodes of some sort: how many, and the first one's path.
#[derive(Debug, Default)]
pub(super) struct Sort {
    count: u64,
    first: Vec<u8>,
}

impl Sort {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn note(&mut self, path: &[u8]) {
        if self.count == 0 {
            self.first = path.to_vec();
        }
        self.count = self.count.saturating_add(1);
    }

    /// A sentence about them, if there are any: "3 nodes (first: /a) have …".
    pub fn warning(&self, have: &str) -> Option<String> {
        let nodes = if self.count == 1 { "node" } else { "nodes" };
        let first = self.first.escape_ascii();
        (self.count > 0).then(|| format!("{} {nodes} (first: /{first}) {have}.", self.count))
    }
}

#[derive(Debug)]
pub(super) struct Survey {
    /// The root's metadata, with the time by the export's policy.
    pub root: Metadata,
    /// Names, the root included.
    pub entries: u64,
    /// Nodes, the root included.
    pub nodes: u64,
    /// Blocks that files, directories, long symlinks and xattrs take at most.
    pub data_blocks: u64,
    /// The latest mtime, by the export's policy.
    pub newest: Timestamp,
    pub with_xattrs: Sort,
    pub with_trusted_xattrs: Sort,
    /// With xattrs other than file capabilities.
    pub with_more_than_capabilities: Sort,
    /// With xattrs outside `user.`, `trusted.` and `security.`.
    pub with_other_xattrs: Sort,
    /// With an mtime before 1970 or after 2106.
    pub beyond_u32_mtime: Sort,
    /// With an mtime before 1901 or after 2038.
    pub beyond_i32_mtime: Sort,
    pub with_subseconds: Sort,
}

impl Survey {
    pub fn of(tree: &dyn Filesystem, root: Ino, mtime: MtimePolicy) -> Result<Survey> {
        let mut survey = Survey {
            root: Metadata::default_directory(),
            entries: 0,
            nodes: 0,
            data_blocks: 0,
            newest: Timestamp::new(i64::MIN, 0),
            with_xattrs: Sort::default(),
            with_trusted_xattrs: Sort::default(),
            with_more_than_capabilities: Sort::default(),
            with_other_xattrs: Sort::default(),
            beyond_u32_mtime: Sort::default(),
            beyond_i32_mtime: Sort::default(),
            with_subseconds: Sort::default(),
        };
        walk(tree, root, None, &mut |visit| survey.visit(tree, visit, mtime))?;
        Ok(survey)
    }

    fn visit(
        &mut self,
        tree: &dyn Filesystem,
        visit: Visit<'_>,
        mtime: MtimePolicy,
    ) -> outcrop_fs::Result<()> {
        self.entries = self.entries.saturating_add(1);
        // A directory entry's header, its name, and room for the split of a full block.
        self.data_blocks =
            self.data_blocks.saturating_add(u64::from(self.entries.is_multiple_of(12)));
        if visit.hard_link.is_some() {
            return Ok(());
        }
        self.nodes = self.nodes.saturating_add(1);
        let meta = visit.attributes.meta;
        let time = mtime.apply(meta.mtime);
        if visit.path.is_empty() {
            self.root = Metadata { mtime: time, ..meta };
        }
        self.newest = self.newest.max(time);
        if u32::try_from(time.seconds).is_err() {
            self.beyond_u32_mtime.note(visit.path);
        }
        if i32::try_from(time.seconds).is_err() {
            self.beyond_i32_mtime.note(visit.path);
        }
        if time.nanoseconds != 0 {
            self.with_subseconds.note(visit.path);
        }
        self.xattrs(&tree.list_xattrs(visit.attributes.ino)?, visit.path);
        let blocks = match meta.kind {
            Kind::Directory => 1,
            Kind::Symlink => u64::from(meta.size >= 60),
            Kind::File => match extents(tree, visit.attributes.ino, meta.size)? {
                None => meta.size.div_ceil(BLOCK),
                Some(extents) => extents
                    .iter()
                    .map(|extent| (extent.length / BLOCK).saturating_add(2))
                    .fold(0, u64::saturating_add),
            },
            _ => 0,
        };
        self.data_blocks = self.data_blocks.saturating_add(blocks);
        Ok(())
    }

    fn xattrs(&mut self, names: &[Vec<u8>], path: &[u8]) {
        if names.is_empty() {
            return;
        }
        self.data_blocks = self.data_blocks.saturating_add(1);
        self.with_xattrs.note(path);
        let starts = |prefix: &[u8]| names.iter().any(|name| name.starts_with(prefix));
        if starts(b"trusted.") {
            self.with_trusted_xattrs.note(path);
        }
        if names.iter().any(|name| name != b"security.capability") {
            self.with_more_than_capabilities.note(path);
        }
        let known: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
        if names.iter().any(|name| !known.iter().any(|prefix| name.starts_with(prefix))) {
            self.with_other_xattrs.note(path);
        }
    }
}
