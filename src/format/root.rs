//! The root file system by itself: laid out for each format that holds it, out
//! of contents that lie in the store, as they are or packed once for all.

use anyhow::{Context, Error, Result, anyhow};

use super::initrd::LEFT_OUT;
use super::{Output, RootCompression, able};
use crate::disk::Guid;
use crate::error::WithHint;
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
    /// or a system of its own that `id` names; `asked` is how it is compressed,
    /// if it can be.
    pub(super) fn image(
        self,
        system: &System,
        id: Guid,
        asked: Option<RootCompression>,
        output: &mut Output<'_>,
    ) -> Result<Extents> {
        let mut tree = system.tree.clone();
        for path in LEFT_OUT {
            tree.remove(path)?;
        }
        let uuid = Guid::derive(&id.bytes(), self.name()).bytes();
        if matches!(self, Self::Squashfs | Self::Erofs) {
            output.compresses_root();
        }
        able::unpacks(system, self, asked)
            .and_then(|()| self.plan(&tree, uuid, output.store, asked))
            .with_context(|| format!("writing the root as {}", self.name()))
    }

    fn plan(
        self,
        tree: &Tree,
        uuid: [u8; 16],
        store: &Store,
        asked: Option<RootCompression>,
    ) -> Result<Extents> {
        let cache = Some(store.clone());
        match self {
            Self::Iso => {
                let options = iso9660::Options::default();
                Ok(iso9660::plan(tree, &Composed::new(), &options)?.image)
            }
            Self::Ext4 => ext4::image(tree, &ext4::Options { uuid, ..ext4::Options::default() }),
            Self::Squashfs => {
                let mut options = squashfs::Options { cache, ..squashfs::Options::default() };
                options.compression = asked.map_or(Ok(options.compression), in_squashfs)?;
                squashfs::image(tree, &options)
            }
            Self::Erofs => {
                let compression = asked.map_or(Ok(erofs::Compression::Lz4), in_erofs)?;
                let options =
                    erofs::Options { compression, uuid, cache, ..erofs::Options::default() };
                erofs::image(tree, &options)
            }
        }
    }
}

/// Returns a compression as squashfs has it.
fn in_squashfs(asked: RootCompression) -> Result<squashfs::Compression> {
    match asked {
        RootCompression::Gzip(level) => Ok(squashfs::Compression::Gzip(level)),
        RootCompression::Xz(level) => Ok(squashfs::Compression::Xz(level)),
        RootCompression::Zstd(level) => Ok(squashfs::Compression::Zstd(level)),
        RootCompression::None | RootCompression::Lz4 => {
            Err(refused("gzip, xz or zstd", asked)).hint(|| way_out(Root::Erofs, asked))
        }
    }
}

/// Returns a compression as erofs has it.
fn in_erofs(asked: RootCompression) -> Result<erofs::Compression> {
    match asked {
        RootCompression::None => Ok(erofs::Compression::None),
        RootCompression::Lz4 => Ok(erofs::Compression::Lz4),
        RootCompression::Zstd(level) => Ok(erofs::Compression::Zstd(level)),
        RootCompression::Gzip(_) | RootCompression::Xz(_) => {
            Err(refused("none, lz4 or zstd", asked)).hint(|| way_out(Root::Squashfs, asked))
        }
    }
}

fn refused(takes: &str, asked: RootCompression) -> Error {
    anyhow!("expected the compression {takes}, got {asked}")
}

fn way_out(other: Root, asked: RootCompression) -> String {
    let (other, name) = (other.name(), asked.name());
    format!("say zstd, which both squashfs and erofs take, or make the root {other} for {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Options;
    use crate::format::output::check_root_compression;

    /// What becomes of a root under a compression: nothing, or why not.
    fn made(root: Root, asked: Option<&str>) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let root_compression = asked.map(|asked| asked.parse().unwrap());
        let options = Options { root_compression, ..Options::default() };
        let target = |ending: &str| folder.path().join(ending);
        let system = System {
            tree: Tree::new(),
            parts: Vec::new(),
            kernel: None,
            platform: crate::oci::Platform::linux("amd64"),
            disk: None,
        };
        let mut output = Output::new("raw", &target, &store, &options);
        let told = |error: Error| match crate::error::hint(&error) {
            Some(hint) => format!("{error:#}; {hint}"),
            None => format!("{error:#}"),
        };
        root.image(&system, Guid::default(), root_compression, &mut output).map_err(told)?;
        check_root_compression(&[output]).map_err(told)
    }

    #[test]
    fn takes_what_its_file_system_has() {
        for (root, some) in [
            (Root::Squashfs, &["gzip:1", "xz", "zstd:22"][..]),
            (Root::Erofs, &["none", "lz4", "zstd"]),
        ] {
            for asked in some.iter().map(|asked| Some(*asked)).chain([None]) {
                assert_eq!(made(root, asked), Ok(()), "{root:?} {asked:?}");
            }
        }
        for root in [Root::Ext4, Root::Iso] {
            assert_eq!(made(root, None), Ok(()));
        }
    }

    #[test]
    fn says_why_it_does_not() {
        let told = |root, asked| made(root, Some(asked)).unwrap_err();
        insta::assert_snapshot!(told(Root::Squashfs, "lz4"), @"writing the root as squashfs: expected the compression gzip, xz or zstd, got lz4; say zstd, which both squashfs and erofs take, or make the root erofs for lz4");
        insta::assert_snapshot!(told(Root::Squashfs, "none"), @"writing the root as squashfs: expected the compression gzip, xz or zstd, got none; say zstd, which both squashfs and erofs take, or make the root erofs for none");
        insta::assert_snapshot!(told(Root::Erofs, "xz:9"), @"writing the root as erofs: expected the compression none, lz4 or zstd, got xz:9; say zstd, which both squashfs and erofs take, or make the root squashfs for xz");
        insta::assert_snapshot!(told(Root::Erofs, "gzip"), @"writing the root as erofs: expected the compression none, lz4 or zstd, got gzip:9; say zstd, which both squashfs and erofs take, or make the root squashfs for gzip");
        insta::assert_snapshot!(told(Root::Ext4, "zstd"), @"expected a root of squashfs or erofs to compress by zstd:3, got none in raw; leave `--root-compression` out, or take a format with such a root: `kernel+squashfs`, `kernel+erofs`, a disk of a manifest that says `disk: {root: squashfs}`");
    }
}
