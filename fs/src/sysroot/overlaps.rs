//! Paths that several layers fill differently.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::Sysroot;
use super::changed::join;
use super::merge::Source;
use crate::content::{self, LayerFile};
use crate::error::Result;
use crate::node::{Ino, Kind, ROOT_INO};

/// A path at which a layer hides what a lower one has, and the two differ in kind or content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Absolute.
    pub path: Vec<u8>,
    /// Label of the layer whose node is shown.
    pub shown: String,
    pub shown_kind: Kind,
    /// Label of the layer whose node is hidden.
    pub hidden: String,
    pub hidden_kind: Kind,
}

impl Sysroot {
    /// The overlaps of the layers, by path, then topmost layer first. Walks the directories that
    /// several layers share, and reads files that may differ.
    pub fn overlaps(&self) -> Result<Vec<Overlap>> {
        let mut found = Vec::new();
        let mut waiting: Vec<(Ino, Vec<u8>)> = vec![(ROOT_INO, b"/".to_vec())];
        while let Some((ino, path)) = waiting.pop() {
            let directory = self.tree.directory(ino)?;
            let sources = self.tree.sources(ino, &directory)?;
            if sources.len() < 2 {
                continue;
            }
            for (name, nodes) in self.shared_names(&sources)? {
                let path = join(&path, &name);
                self.compare(&path, &nodes, &mut found)?;
                if let Some(child) = self.tree.lookup(ino, &directory, &name)?
                    && child.meta.kind.is_directory()
                {
                    waiting.push((child.ino, path));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// The names that more than one source has, with their nodes, topmost first. What is behind
    /// a whiteout was hidden on purpose and is left out.
    fn shared_names(&self, sources: &[Source]) -> Result<BTreeMap<Vec<u8>, Vec<Source>>> {
        let mut names: BTreeMap<Vec<u8>, Vec<Source>> = BTreeMap::new();
        for (depth, source) in sources.iter().enumerate() {
            let mut children = Vec::new();
            self.tree.layer(*source)?.children(source.entry, 0, &mut |name, entry| {
                children.push((name.to_vec(), Source { layer: source.layer, entry }));
                ControlFlow::Continue(())
            })?;
            for (name, child) in children {
                if !self.is_whited_out(sources.iter().take(depth), &name)? {
                    names.entry(name).or_default().push(child);
                }
            }
        }
        names.retain(|_, nodes| nodes.len() > 1);
        Ok(names)
    }

    fn is_whited_out<'a>(
        &self,
        above: impl Iterator<Item = &'a Source>,
        name: &[u8],
    ) -> Result<bool> {
        for source in above {
            if self.tree.layer(*source)?.whiteout(source.entry, name)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn compare(&self, path: &[u8], nodes: &[Source], found: &mut Vec<Overlap>) -> Result<()> {
        let Some((shown, hidden)) = nodes.split_first() else { return Ok(()) };
        let shown_layer = self.tree.layer(*shown)?;
        let shown_kind = shown_layer.metadata(shown.entry)?.kind;
        for hidden in hidden {
            if self.is_same(*shown, *hidden)? {
                continue;
            }
            let layer = self.tree.layer(*hidden)?;
            found.push(Overlap {
                path: path.to_vec(),
                shown: shown_layer.label().to_owned(),
                shown_kind,
                hidden: layer.label().to_owned(),
                hidden_kind: layer.metadata(hidden.entry)?.kind,
            });
        }
        Ok(())
    }

    fn is_same(&self, a: Source, b: Source) -> Result<bool> {
        let (layer_a, layer_b) = (self.tree.layer(a)?, self.tree.layer(b)?);
        let (meta_a, meta_b) = (layer_a.metadata(a.entry)?, layer_b.metadata(b.entry)?);
        if meta_a.kind != meta_b.kind {
            return Ok(false);
        }
        match meta_a.kind {
            Kind::Symlink => Ok(layer_a.read_link(a.entry)? == layer_b.read_link(b.entry)?),
            Kind::File => content::is_same(
                &LayerFile { layer: layer_a, entry: a.entry },
                &LayerFile { layer: layer_b, entry: b.entry },
            ),
            _ => Ok(true),
        }
    }
}
