//! The lower tree: the layers' merge, which never changes.
//!
//! Numbers are computed, not stored: a node's number is its topmost layer and its entry there.
//! What is kept is one small record for each directory that somebody looked at.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use super::listing::Listing;
use super::zones::{Place, Zones};
use crate::error::{Errno, Error, Result};
use crate::layer::{Entry, Layer};
use crate::node::{Ino, Kind, Metadata, ROOT_INO};
use crate::sync::DashMap;

/// Bits of an inode number that hold the entry; `layer + 1` stands above them.
const ENTRY_BITS: u32 = 40;
const ENTRY_MASK: u64 = (1 << ENTRY_BITS) - 1;
/// Numbers below this and above the root's belong to nodes that were created later.
pub(super) const FIRST_LOWER_INO: Ino = 1 << ENTRY_BITS;
/// Layers that leave the sign bit of the number alone.
const MAX_LAYERS: usize = (1 << 22) - 1;
/// A deeper path can only come from a layer whose parents form a loop.
pub(super) const MAX_DEPTH: usize = 1 << 16;

/// A node in one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub layer: u32,
    pub entry: Entry,
}

impl Source {
    pub(super) fn ino(self) -> Ino {
        if self.entry == Entry::ROOT {
            return ROOT_INO;
        }
        ((u64::from(self.layer) + 1) << ENTRY_BITS) | (self.entry.0 & ENTRY_MASK)
    }

    /// The reverse, for every number but the root's.
    pub(super) fn from_ino(ino: Ino) -> Option<Source> {
        let layer = u32::try_from(ino >> ENTRY_BITS).ok()?.checked_sub(1)?;
        let entry = Entry(ino & ENTRY_MASK);
        (entry != Entry::ROOT).then_some(Source { layer, entry })
    }
}

/// Is told each name of a directory, with its node's number and kind.
pub(super) type VisitChild<'a> = dyn FnMut(&[u8], Ino, Kind) -> ControlFlow<()> + 'a;

/// What is remembered of a directory of the lower tree.
#[derive(Clone)]
pub(super) struct Directory {
    pub parent: Ino,
    pub place: Place,
    /// `None`: the directory is in one layer only, the one that its number names.
    merged: Option<Arc<Merged>>,
}

struct Merged {
    /// Topmost first.
    sources: Box<[Source]>,
    /// Where an opaque source ends them and none describes the directory: the topmost of those that
    /// it hides which does.
    described_by: Option<Source>,
    listing: OnceLock<Arc<Listing>>,
}

impl Merged {
    fn new(sources: Vec<Source>, described_by: Option<Source>) -> Arc<Merged> {
        Arc::new(Merged { sources: sources.into(), described_by, listing: OnceLock::new() })
    }
}

/// A name's meaning in the lower tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub ino: Ino,
    pub meta: Metadata,
}

pub(super) struct LowerTree {
    layers: Vec<Arc<dyn Layer>>,
    zones: Arc<Zones>,
    directories: DashMap<Ino, Directory>,
    /// Visible names of nodes that have several in their layer.
    links: DashMap<Ino, u32>,
}

impl LowerTree {
    pub(super) fn new(layers: Vec<Arc<dyn Layer>>, zones: Arc<Zones>) -> Result<LowerTree> {
        if layers.len() > MAX_LAYERS {
            return Err(Error::Invalid(format!(
                "A sysroot takes at most {MAX_LAYERS} layers, not {}.",
                layers.len()
            )));
        }
        let root = Directory {
            parent: ROOT_INO,
            place: zones.root(),
            merged: Some(merge_roots(&layers)?),
        };
        let directories = DashMap::new();
        directories.insert(ROOT_INO, root);
        Ok(LowerTree { layers, zones, directories, links: DashMap::new() })
    }

    pub(super) fn layers(&self) -> &[Arc<dyn Layer>] {
        &self.layers
    }

    pub(super) fn layer(&self, source: Source) -> Result<&dyn Layer> {
        match self.layers.get(source.layer as usize) {
            Some(layer) => Ok(layer.as_ref()),
            None => Err(Errno::STALE.into()),
        }
    }

    /// Where a node's metadata, xattrs and content come from. `None` only for the root of an
    /// empty stack and for numbers that no layer can have given.
    pub(super) fn origin(&self, ino: Ino) -> Option<Source> {
        if ino == ROOT_INO {
            let root = self.directories.get(&ROOT_INO)?;
            return root.merged.as_ref()?.sources.first().copied();
        }
        let source = Source::from_ino(ino)?;
        ((source.layer as usize) < self.layers.len()).then_some(source)
    }

    /// Where a node's metadata and xattrs come from: its origin, but for a directory that its
    /// topmost layers only imply the topmost one that describes it.
    pub(super) fn describer(&self, ino: Ino) -> Result<Option<Source>> {
        let Some(top) = self.origin(ino) else { return Ok(None) };
        if !self.layer(top)?.is_implied(top.entry)? {
            return Ok(Some(top));
        }
        let directory = self.directory(ino)?;
        self.with_sources(ino, &directory, |sources| {
            let hidden = directory.merged.as_ref().and_then(|merged| merged.described_by);
            Ok(Some(self.describing(sources)?.or(hidden).unwrap_or(top)))
        })
    }

    pub(super) fn metadata(&self, ino: Ino) -> Result<Metadata> {
        let Some(top) = self.origin(ino) else {
            return match ino {
                ROOT_INO => Ok(Metadata::default_directory()),
                _ => Err(Errno::STALE.into()),
            };
        };
        let meta = self.layer(top)?.metadata(top.entry)?;
        if !meta.kind.is_directory() {
            return Ok(meta);
        }
        match self.describer(ino)?.filter(|source| *source != top) {
            Some(source) => self.layer(source)?.metadata(source.entry),
            None => Ok(meta),
        }
    }

    /// The record of a directory, made if this is the first time that anybody asks.
    pub(super) fn directory(&self, ino: Ino) -> Result<Directory> {
        if let Some(known) = self.directories.get(&ino) {
            return Ok(known.clone());
        }
        let source = Source::from_ino(ino).ok_or(Errno::STALE)?;
        if !self.layer(source)?.metadata(source.entry)?.kind.is_directory() {
            return Err(Errno::NOTDIR.into());
        }
        match self.locate(source)? {
            Some((found, directory)) if found == ino => Ok(directory),
            _ => Err(Errno::STALE.into()),
        }
    }

    /// Calls `visit` with the directory's sources, topmost first.
    fn with_sources<T>(
        &self,
        ino: Ino,
        directory: &Directory,
        visit: impl FnOnce(&[Source]) -> Result<T>,
    ) -> Result<T> {
        match &directory.merged {
            Some(merged) => visit(&merged.sources),
            None => visit(&[Source::from_ino(ino).ok_or(Errno::STALE)?]),
        }
    }

    pub(super) fn sources(&self, ino: Ino, directory: &Directory) -> Result<Vec<Source>> {
        self.with_sources(ino, directory, |sources| Ok(sources.to_vec()))
    }

    pub(super) fn lookup(
        &self,
        ino: Ino,
        directory: &Directory,
        name: &[u8],
    ) -> Result<Option<Found>> {
        self.with_sources(ino, directory, |sources| {
            let mut rest = sources.iter();
            while let Some(source) = rest.next() {
                let layer = self.layer(*source)?;
                let found = layer.lookup(source.entry, name)?;
                let hides_lower =
                    !rest.as_slice().is_empty() && layer.whiteout(source.entry, name)?.is_some();
                if let Some(entry) = found {
                    let source = Source { layer: source.layer, entry };
                    let below = if hides_lower { &[] } else { rest.as_slice() };
                    return self.found(ino, directory, name, source, below).map(Some);
                }
                if hides_lower {
                    break;
                }
            }
            Ok(None)
        })
    }

    fn found(
        &self,
        parent: Ino,
        directory: &Directory,
        name: &[u8],
        source: Source,
        below: &[Source],
    ) -> Result<Found> {
        let layer = self.layer(source)?;
        if source.entry.0 > ENTRY_MASK || source.entry == Entry::ROOT {
            let problem =
                format!("an entry has the number {}, which none may have", source.entry.0);
            return Err(Error::malformed(layer.label(), problem));
        }
        let meta = layer.metadata(source.entry)?;
        let ino = source.ino();
        if meta.kind.is_directory() && !self.directories.contains_key(&ino) {
            let (sources, described_by) = self.merge_directory(name, source, below)?;
            let merged = (sources.len() > 1 || described_by.is_some())
                .then(|| Merged::new(sources, described_by));
            let place = self.zones.child(directory.place, name);
            self.directories.entry(ino).or_insert(Directory { parent, place, merged });
        }
        let meta = if meta.kind.is_directory() { self.metadata(ino)? } else { meta };
        Ok(Found { ino, meta })
    }

    /// The directory `name` of `top` and those of the lower layers that show through it; and what
    /// describes it where none of these does.
    fn merge_directory(
        &self,
        name: &[u8],
        top: Source,
        below: &[Source],
    ) -> Result<(Vec<Source>, Option<Source>)> {
        let mut sources = vec![top];
        let mut rest = below.iter();
        let mut opaque = !below.is_empty() && self.layer(top)?.is_opaque(top.entry)?;
        while !opaque && let Some(parent) = rest.next() {
            let (found, cut_off) = self.subdirectory(*parent, name)?;
            if let Some(source) = found {
                sources.push(source);
                opaque = self.layer(source)?.is_opaque(source.entry)?;
            }
            if cut_off {
                return Ok((sources, None));
            }
        }
        let mut described_by = None;
        if opaque && self.describing(&sources)?.is_none() {
            while described_by.is_none()
                && let Some(parent) = rest.next()
            {
                let (found, cut_off) = self.subdirectory(*parent, name)?;
                described_by = self.describing(found.as_slice())?;
                if cut_off {
                    break;
                }
            }
        }
        Ok((sources, described_by))
    }

    /// A layer's directory `name` of `parent`, and whether it cuts off those of lower layers.
    fn subdirectory(&self, parent: Source, name: &[u8]) -> Result<(Option<Source>, bool)> {
        let layer = self.layer(parent)?;
        let cut_off = layer.whiteout(parent.entry, name)?.is_some();
        match layer.lookup(parent.entry, name)? {
            Some(entry) if layer.metadata(entry)?.kind.is_directory() => {
                Ok((Some(Source { layer: parent.layer, entry }), cut_off))
            }
            Some(_) => Ok((None, true)),
            None => Ok((None, cut_off)),
        }
    }

    /// The first source whose layer describes it.
    fn describing(&self, sources: &[Source]) -> Result<Option<Source>> {
        for source in sources {
            if !self.layer(*source)?.is_implied(source.entry)? {
                return Ok(Some(*source));
            }
        }
        Ok(None)
    }

    /// The merged directory that shows a layer's directory; `None` where another layer hides it.
    pub(super) fn locate(&self, source: Source) -> Result<Option<(Ino, Directory)>> {
        let layer = self.layer(source)?;
        let mut names = Vec::new();
        let mut entry = source.entry;
        let (mut ino, mut directory) = loop {
            let ino = Source { layer: source.layer, entry }.ino();
            if let Some(known) = self.directories.get(&ino) {
                break (ino, known.clone());
            }
            if names.len() >= MAX_DEPTH {
                return Err(Error::malformed(layer.label(), "the directories form a loop"));
            }
            let (parent, name) = layer.names(entry)?.into_iter().next().ok_or(Errno::STALE)?;
            names.push(name);
            entry = parent;
        };
        for name in names.iter().rev() {
            match self.lookup(ino, &directory, name)? {
                Some(found) if found.meta.kind.is_directory() => {
                    ino = found.ino;
                    directory = self.directory(ino)?;
                }
                _ => return Ok(None),
            }
        }
        let visible =
            self.with_sources(ino, &directory, |sources| Ok(sources.contains(&source)))?;
        Ok(visible.then_some((ino, directory)))
    }

    /// The names under which a node of the lower tree can be found: directory and name.
    pub(super) fn visible_names(&self, ino: Ino) -> Result<Vec<(Ino, Directory, Vec<u8>)>> {
        let Some(source) = self.origin(ino).filter(|_| ino != ROOT_INO) else {
            return Ok(Vec::new());
        };
        let mut visible = Vec::new();
        for (entry, name) in self.layer(source)?.names(source.entry)? {
            let Some((parent, directory)) = self.locate(Source { layer: source.layer, entry })?
            else {
                continue;
            };
            if self.lookup(parent, &directory, &name)?.is_some_and(|found| found.ino == ino) {
                visible.push((parent, directory, name));
            }
        }
        Ok(visible)
    }

    /// Where the node stands among the zones, by its first visible name.
    pub(super) fn place(&self, ino: Ino, kind: Kind) -> Result<Place> {
        if kind.is_directory() {
            return Ok(self.directory(ino)?.place);
        }
        let names = self.visible_names(ino)?;
        let (_, directory, name) = names.first().ok_or(Errno::STALE)?;
        Ok(self.zones.child(directory.place, name))
    }

    /// `st_nlink` in the lower tree.
    pub(super) fn links(&self, ino: Ino, meta: &Metadata) -> Result<u32> {
        if meta.kind.is_directory() {
            return Ok(self.subdirectories(ino)?.saturating_add(2));
        }
        let source = self.origin(ino).ok_or(Errno::STALE)?;
        if self.layer(source)?.link_count(source.entry)? <= 1 {
            return Ok(1);
        }
        if let Some(known) = self.links.get(&ino) {
            return Ok(*known);
        }
        let count = u32::try_from(self.visible_names(ino)?.len()).unwrap_or(u32::MAX);
        self.links.insert(ino, count);
        Ok(count)
    }

    /// Made once, unless a layer may change.
    fn listing(&self, merged: &Merged) -> Result<Arc<Listing>> {
        if let Some(listing) = merged.listing.get() {
            return Ok(listing.clone());
        }
        let listing = Arc::new(Listing::merge(&self.layers, &merged.sources)?);
        let is_live =
            |source: &Source| self.layers.get(source.layer as usize).is_some_and(|l| l.is_live());
        match merged.sources.iter().any(is_live) {
            true => Ok(listing),
            false => Ok(merged.listing.get_or_init(|| listing).clone()),
        }
    }

    /// Whether a layer may change while the tree is in use.
    pub(super) fn is_live(&self) -> bool {
        self.layers.iter().any(|layer| layer.is_live())
    }

    pub(super) fn subdirectories(&self, ino: Ino) -> Result<u32> {
        let directory = self.directory(ino)?;
        match &directory.merged {
            Some(merged) => Ok(self.listing(merged)?.subdirectories()),
            None => {
                let source = Source::from_ino(ino).ok_or(Errno::STALE)?;
                self.layer(source)?.subdirectories(source.entry)
            }
        }
    }

    /// Number of names in a directory.
    pub(super) fn child_count(&self, ino: Ino, directory: &Directory) -> Result<u64> {
        match &directory.merged {
            Some(merged) => Ok(self.listing(merged)?.len()),
            None => {
                let source = Source::from_ino(ino).ok_or(Errno::STALE)?;
                self.layer(source)?.child_count(source.entry)
            }
        }
    }

    /// Visits a directory's names from the `start`-th on. The order never changes, but where a layer
    /// does.
    pub(super) fn children(
        &self,
        ino: Ino,
        directory: &Directory,
        start: u64,
        visit: &mut VisitChild<'_>,
    ) -> Result<()> {
        match &directory.merged {
            Some(merged) => {
                for run in self.listing(merged)?.from(start) {
                    let source = merged.sources.get(run.source).ok_or(Errno::STALE)?;
                    let flow = self.run(*source, run.start, run.length, visit)?;
                    if flow.is_break() {
                        break;
                    }
                }
            }
            None => {
                let source = Source::from_ino(ino).ok_or(Errno::STALE)?;
                let _ = self.run(source, start, u64::MAX, visit)?;
            }
        }
        Ok(())
    }

    fn run(
        &self,
        source: Source,
        start: u64,
        length: u64,
        visit: &mut VisitChild<'_>,
    ) -> Result<ControlFlow<()>> {
        let layer = self.layer(source)?;
        let mut left = length;
        let mut outcome = Ok(ControlFlow::Continue(()));
        layer.children(source.entry, start, &mut |name, entry| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            match layer.metadata(entry) {
                Ok(meta) => {
                    let ino = Source { layer: source.layer, entry }.ino();
                    let flow = visit(name, ino, meta.kind);
                    outcome = Ok(flow);
                    if left == 0 { ControlFlow::Break(()) } else { flow }
                }
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        outcome
    }

    /// A directory's own name in the lower tree.
    pub(super) fn directory_name(&self, ino: Ino) -> Result<Vec<u8>> {
        let source = Source::from_ino(ino).ok_or(Errno::STALE)?;
        let names = self.layer(source)?.names(source.entry)?;
        Ok(names.into_iter().next().ok_or(Errno::STALE)?.1)
    }
}

/// The roots of all layers, down to an opaque one.
fn merge_roots(layers: &[Arc<dyn Layer>]) -> Result<Arc<Merged>> {
    let mut sources = Vec::with_capacity(layers.len());
    let (mut described, mut described_by, mut opaque) = (false, None, false);
    for (number, layer) in layers.iter().enumerate().rev() {
        let source = Source { layer: number as u32, entry: Entry::ROOT };
        if !opaque {
            sources.push(source);
            opaque = layer.is_opaque(Entry::ROOT)?;
            described = described || !layer.is_implied(Entry::ROOT)?;
        } else if described {
            break;
        } else if !layer.is_implied(Entry::ROOT)? {
            described_by = Some(source);
            break;
        }
    }
    Ok(Merged::new(sources, described_by))
}
