//! A tree together with files that are made of several pieces, such as an
//! initrd of many segments or a unified kernel image.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Extents, largest};
use crate::tree::{Id, Inode, Kind, Metadata, Tree};

/// Files by path that a tree is given besides its own: what lies at the path
/// makes way.
pub type Composed = BTreeMap<Vec<u8>, Extents>;

/// A tree with its composed files in place.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) tree: Cow<'a, Tree>,
    composed: BTreeMap<Id, Extents>,
}

impl<'a> Source<'a> {
    /// Puts the composed files, as root's, mode 0644, into a copy of the
    /// tree; without any the tree is only borrowed.
    pub(crate) fn new(tree: &'a Tree, composed: &Composed, mtime: i64) -> Result<Self> {
        let mut source = Self { tree: Cow::Borrowed(tree), composed: BTreeMap::new() };
        for (path, contents) in composed {
            let inode =
                Inode { meta: Metadata::root(0o644, mtime), kind: Kind::bytes(&b""[..]), part: 0 };
            let id = source
                .tree
                .to_mut()
                .insert(path, inode)
                .with_context(|| format!("placing `{}`", String::from_utf8_lossy(path)))?;
            source.composed.insert(id, contents.clone());
        }
        Ok(source)
    }

    /// Returns the contents of a regular file, nothing of anything else.
    pub(crate) fn contents(&self, id: Id) -> Extents {
        match (self.composed.get(&id), &self.tree.get(id).kind) {
            (Some(composed), _) => composed.clone(),
            (None, Kind::File(content)) => Extents::from(content),
            (None, _) => Extents::default(),
        }
    }

    /// Says whether a file is a composed one.
    pub(crate) fn is_composed(&self, id: Id) -> bool {
        self.composed.contains_key(&id)
    }

    /// Returns the length of a regular file in bytes, 0 of anything else.
    pub(crate) fn len(&self, id: Id) -> u64 {
        match (self.composed.get(&id), &self.tree.get(id).kind) {
            (Some(composed), _) => composed.len(),
            (None, Kind::File(content)) => content.len(),
            (None, _) => 0,
        }
    }

    /// Makes the error that an image of `format` needs more than it may have.
    pub(crate) fn too_large(&self, format: &str, needed: u64, size: u64) -> anyhow::Error {
        largest::too_large_by(format, &self.tree, &|id| self.len(id), needed, size)
    }
}
