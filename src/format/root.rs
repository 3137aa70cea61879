//! The root file system by itself: made once for all formats that hold it,
//! and kept in the store under a key of what is in it.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::identity::identity;
use super::initrd::LEFT_OUT;
use crate::disk::Guid;
use crate::fs::{Composed, Extents, erofs, ext4, iso9660, squashfs};
use crate::manifest;
use crate::oci::Digest;
use crate::store::{Out, Store};
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

    /// Makes the image of a system's root, without what boots it.
    pub(super) fn image(self, system: &System, store: &Store) -> Result<Extents> {
        let mut tree = system.tree.clone();
        for path in LEFT_OUT {
            tree.remove(path)?;
        }
        let key = identity(&tree)?;
        let uuid = Guid::derive(key.bytes(), self.name()).bytes();
        self.plan(&tree, &key, uuid, store)
            .with_context(|| format!("writing the root as {}", self.name()))
    }

    /// Lays out what needs no compression; the rest is made and kept.
    fn plan(self, tree: &Tree, key: &Digest, uuid: [u8; 16], store: &Store) -> Result<Extents> {
        match self {
            Self::Iso => {
                let options = iso9660::Options::default();
                Ok(iso9660::plan(tree, &Composed::new(), &options)?.image)
            }
            Self::Ext4 => ext4::image(tree, &ext4::Options { uuid, ..ext4::Options::default() }),
            Self::Squashfs | Self::Erofs => {
                let kind = format!("root-{}-2", self.name());
                let make = |out: &mut dyn Out| self.write(tree, uuid, store, out);
                Extents::of_file(&Arc::new(store.derived_in_parallel(&kind, key, make)?))
            }
        }
    }

    fn write(self, tree: &Tree, uuid: [u8; 16], store: &Store, out: &mut dyn Out) -> Result<()> {
        let cache = Some(store.clone());
        if self == Self::Squashfs {
            let options = squashfs::Options { cache, ..squashfs::Options::default() };
            return squashfs::write(tree, &options, out);
        }
        let compression = erofs::Compression::Lz4;
        let options = erofs::Options { compression, uuid, cache, ..erofs::Options::default() };
        erofs::write(tree, &options, out)
    }
}
