//! The root file system by itself: laid out for each format that holds it, out
//! of contents that lie in the store, as they are or packed once for all.

use anyhow::{Context, Result};

use super::initrd::LEFT_OUT;
use crate::disk::Guid;
use crate::fs::{Composed, Extents, erofs, ext4, iso9660, squashfs};
use crate::manifest;
use crate::store::Store;
use crate::system::System;
use crate::tree::Tree;

/// A file system that a root can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Squashfs,
    Erofs,
    Ext4,
    Iso,
}

impl Root {
    /// Returns its name, as the kernel knows it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
            Self::Iso => "iso9660",
        }
    }

    /// Returns what a word of the manifest's stands for, `None` for the initrd.
    pub(super) fn of_manifest(root: manifest::Root) -> Option<Self> {
        match root {
            manifest::Root::Initrd => None,
            manifest::Root::Erofs => Some(Self::Erofs),
            manifest::Root::Squashfs => Some(Self::Squashfs),
            manifest::Root::Ext4 => Some(Self::Ext4),
        }
    }

    /// Makes the image of a system's root, without what boots it, for a medium
    /// or a system of its own that `id` names.
    pub(super) fn image(self, system: &System, id: Guid, store: &Store) -> Result<Extents> {
        let mut tree = system.tree.clone();
        for path in LEFT_OUT {
            tree.remove(path)?;
        }
        let uuid = Guid::derive(&id.bytes(), self.name()).bytes();
        self.plan(&tree, uuid, store)
            .with_context(|| format!("writing the root as {}", self.name()))
    }

    fn plan(self, tree: &Tree, uuid: [u8; 16], store: &Store) -> Result<Extents> {
        let cache = Some(store.clone());
        match self {
            Self::Iso => {
                let options = iso9660::Options::default();
                Ok(iso9660::plan(tree, &Composed::new(), &options)?.image)
            }
            Self::Ext4 => ext4::image(tree, &ext4::Options { uuid, ..ext4::Options::default() }),
            Self::Squashfs => {
                let options = squashfs::Options { cache, ..squashfs::Options::default() };
                squashfs::image(tree, &options)
            }
            Self::Erofs => {
                let compression = erofs::Compression::Lz4;
                let options =
                    erofs::Options { compression, uuid, cache, ..erofs::Options::default() };
                erofs::image(tree, &options)
            }
        }
    }
}
