//! Reads an image back into a tree. The image may be anybody's: positions,
//! lengths and counts are checked, a directory is entered once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::extract;
use super::format::Position;
use super::image::Image;
use super::record::{Body, Record};
use crate::fs::claims::Claims;
use crate::fs::device;
use crate::tree::{Id, Inode, Kind, Metadata, Tree, join};

/// How many names an image may have.
const NAMES_MAX: usize = 1 << 24;

/// Reads the squashfs image in `len` bytes of a file from `offset` on.
/// Contents stay in the image; what is packed is unpacked when it is read.
pub fn open(file: Arc<File>, offset: u64, len: u64) -> Result<Tree> {
    let image = Image::open(file, offset, len).context("opening a squashfs image")?;
    let image = Arc::new(image);
    let mut tree = Tree::new();
    let mut claims = Claims::new(len);
    let mut known: BTreeMap<u32, Id> = BTreeMap::new();
    image.walk(&mut |path, record| {
        if let Some(id) = known.get(&record.number) {
            return tree.link(*id, path);
        }
        let inode = inode(&image, record, &mut claims)?;
        let folder = matches!(inode.kind, Kind::Directory(_));
        let id = tree.insert(path, inode)?;
        if !folder {
            known.insert(record.number, id);
        }
        Ok(())
    })?;
    Ok(tree)
}

fn inode(image: &Arc<Image>, record: &Record, claims: &mut Claims) -> Result<Inode> {
    let kind = match &record.body {
        Body::Directory { .. } => Kind::directory(),
        Body::File(blocks) => {
            claims.add(blocks.len)?;
            Kind::File(extract::content(image, blocks)?)
        }
        Body::Symlink(target) => Kind::Symlink(target.as_slice().into()),
        Body::Char(encoded) => {
            let (major, minor) = device::decode(*encoded);
            Kind::Char(major, minor)
        }
        Body::Block(encoded) => {
            let (major, minor) = device::decode(*encoded);
            Kind::Block(major, minor)
        }
        Body::Fifo => Kind::Fifo,
        Body::Socket => Kind::Socket,
    };
    let meta = Metadata {
        mode: record.mode,
        uid: record.uid,
        gid: record.gid,
        mtime: record.mtime.into(),
        xattrs: image.xattr_set(record.xattrs)?,
    };
    Ok(Inode { meta, kind, part: 0 })
}

impl Image {
    /// Visits every name, parents first, with its inode.
    pub(super) fn walk(&self, visit: &mut dyn FnMut(&[u8], &Record) -> Result<()>) -> Result<()> {
        let mut waiting = vec![(Vec::new(), Position::of(self.superblock.root))];
        let mut entered = BTreeSet::new();
        let mut names = 0;
        while let Some((path, position)) = waiting.pop() {
            let shown = || format!("reading /{}", String::from_utf8_lossy(&path));
            let record = self.inode(position).with_context(shown)?;
            visit(&path, &record).with_context(shown)?;
            let Body::Directory { start, size, .. } = record.body else {
                ensure!(!path.is_empty(), "expected the root to be a directory");
                continue;
            };
            if !entered.insert(position) {
                bail!("expected a directory to have one name: /{}", String::from_utf8_lossy(&path));
            }
            let listing = self.listing(start, size).with_context(shown)?;
            names += listing.len();
            ensure!(names <= NAMES_MAX, "expected at most {NAMES_MAX} names");
            for named in listing.into_iter().rev() {
                waiting.push((join(&path, &named.name), named.inode));
            }
        }
        Ok(())
    }
}
