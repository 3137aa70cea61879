//! Reads an image back into a tree. A directory is entered once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::extract;
use super::image::{self, Image};
use crate::fs::claims::Claims;
use crate::fs::device;
use crate::tree::{Id, Inode, Kind, Metadata, Tree, join};

/// How many names an image may have.
const NAMES_MAX: usize = 1 << 24;
/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: u64 = 65_535;

/// File type bits of a mode.
const TYPE: u32 = 0o170_000;
pub(super) const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHAR: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;
const SOCKET: u32 = 0o140_000;

/// Reads the EROFS image in `len` bytes of a file from `offset` on. Contents
/// stay in the image; what is packed is unpacked when it is read.
pub fn open(file: Arc<File>, offset: u64, len: u64) -> Result<Tree> {
    let image = Image::open(file, offset, len).context("opening an erofs image")?;
    let image = Arc::new(image);
    let mut tree = Tree::new();
    let mut claims = Claims::new(len);
    let mut known: BTreeMap<u64, Id> = BTreeMap::new();
    image.walk(&mut |path, found| {
        if let Some(id) = known.get(&found.nid) {
            return tree.link(*id, path);
        }
        let kind = kind(&image, found, &mut claims)?;
        let folder = matches!(kind, Kind::Directory(_));
        let meta = Metadata {
            mode: found.mode & 0o7777,
            uid: found.uid,
            gid: found.gid,
            mtime: found.mtime,
            xattrs: image.xattrs(found)?,
        };
        let id = tree.insert(path, Inode { meta, kind, part: 0 })?;
        if !folder {
            known.insert(found.nid, id);
        }
        Ok(())
    })?;
    Ok(tree)
}

fn kind(image: &Arc<Image>, inode: &image::Inode, claims: &mut Claims) -> Result<Kind> {
    let (major, minor) = device::decode(inode.place);
    Ok(match type_of(inode) {
        DIRECTORY => Kind::directory(),
        FILE => {
            claims.add(inode.size)?;
            Kind::File(extract::content(image, inode)?)
        }
        SYMLINK => Kind::Symlink(target(image, inode)?.into()),
        CHAR => Kind::Char(major, minor),
        BLOCK => Kind::Block(major, minor),
        FIFO => Kind::Fifo,
        SOCKET => Kind::Socket,
        other => bail!("expected a file type, got {other:#o}"),
    })
}

/// Returns an inode's file type bits.
pub(super) fn type_of(inode: &image::Inode) -> u32 {
    u32::from(inode.mode) & TYPE
}

/// Reads a symbolic link's target.
pub(super) fn target(image: &Image, inode: &image::Inode) -> Result<Vec<u8>> {
    ensure!(inode.size <= TARGET_MAX, "expected a link of up to {TARGET_MAX} bytes");
    let mut target = Vec::new();
    for number in 0..inode.size.div_ceil(super::format::BLOCK as u64) {
        target.extend(image.flat_block(inode, number)?);
    }
    Ok(target)
}

impl Image {
    /// Visits every name, parents first, with its inode.
    pub(super) fn walk(
        &self,
        visit: &mut dyn FnMut(&[u8], &image::Inode) -> Result<()>,
    ) -> Result<()> {
        let mut waiting = vec![(Vec::new(), u64::from(self.superblock.root))];
        let mut entered = BTreeSet::new();
        let mut names = 0;
        while let Some((path, nid)) = waiting.pop() {
            let shown = || format!("reading /{}", String::from_utf8_lossy(&path));
            let inode = self.inode(nid).with_context(shown)?;
            let folder = type_of(&inode) == DIRECTORY;
            ensure!(folder || !path.is_empty(), "expected the root to be a directory");
            visit(&path, &inode).with_context(shown)?;
            if !folder {
                continue;
            }
            if !entered.insert(nid) {
                bail!("expected a directory to have one name: /{}", String::from_utf8_lossy(&path));
            }
            let listing = self.listing(&inode).with_context(shown)?;
            names += listing.len();
            ensure!(names <= NAMES_MAX, "expected at most {NAMES_MAX} names");
            for named in listing.into_iter().rev() {
                waiting.push((join(&path, &named.name), named.nid));
            }
        }
        Ok(())
    }
}
