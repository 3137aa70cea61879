//! The root file system by itself: made once for all formats that hold it,
//! and kept in the store under a key of what is in it.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};

use super::identity::identity;
use super::initrd::LEFT_OUT;
use crate::disk::Guid;
use crate::fs::{Composed, Extents, erofs, ext4, iso9660, squashfs};
use crate::manifest;
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
        let writing = || format!("writing the root as {}", self.name());
        if self == Self::Iso {
            let plan = iso9660::plan(&tree, &Composed::new(), &iso9660::Options::default());
            return Ok(plan.with_context(writing)?.image);
        }
        let kind = format!("root-{}-1", self.name());
        let uuid = Guid::derive(key.bytes(), self.name()).bytes();
        let file = apart(|| store.derived(&kind, &key, |out| self.write(&tree, uuid, store, out)));
        Extents::of_file(&Arc::new(file.with_context(writing)?))
    }

    fn write(self, tree: &Tree, uuid: [u8; 16], store: &Store, out: &mut dyn Out) -> Result<()> {
        let cache = Some(store.clone());
        match self {
            Self::Squashfs => {
                let options = squashfs::Options { cache, ..squashfs::Options::default() };
                squashfs::write(tree, &options, out)
            }
            Self::Erofs => {
                let options = erofs::Options {
                    compression: erofs::Compression::Lz4,
                    uuid,
                    cache,
                    ..erofs::Options::default()
                };
                erofs::write(tree, &options, out)
            }
            _ => {
                let options = ext4::Options { uuid, ..ext4::Options::default() };
                ext4::write(tree, &options, out)
            }
        }
    }
}

/// Works in threads of its own: who holds the lock of an artefact must not
/// be lent, while it waits, to another format that wants the same artefact.
fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().build().context("starting threads")?;
    thread::scope(|scope| scope.spawn(|| pool.install(work)).join())
        .unwrap_or_else(|panic| resume_unwind(panic))
}
