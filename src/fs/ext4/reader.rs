//! An image to a tree.
//!
//! Contents stay in the image: only where they lie in it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::extent::Extent;
use super::inode::{self, Inode};
use super::plan::ROOT;
use super::volume::Volume;
use crate::fs::Extents;
use crate::fs::claims::Claims;
use crate::tree::Inode as TreeInode;
use crate::tree::{Content, Id, Kind, Tree};

/// The longest path that Linux takes, in bytes.
const PATH_MAX: usize = 4096;
const LOST_FOUND: &[u8] = b"lost+found";

/// Reads the image of `len` bytes that begins at `offset` of a file. An empty
/// `lost+found` is left out, as the writer makes it of itself.
pub fn open(file: Arc<File>, offset: u64, len: u64) -> Result<Tree> {
    let volume = Volume::open(file, offset, len)?;
    let mut reader = Reader {
        volume,
        tree: Tree::new(),
        files: BTreeMap::new(),
        folders: BTreeSet::new(),
        claims: Claims::new(len),
    };
    reader.read()?;
    let mut tree = reader.tree;
    let lost = tree.child(tree.root(), LOST_FOUND);
    if lost.and_then(|id| tree.entries(id)).is_some_and(BTreeMap::is_empty) {
        tree.remove(LOST_FOUND)?;
    }
    Ok(tree)
}

struct Reader {
    volume: Volume,
    tree: Tree,
    /// Inodes that were met, for their further names.
    files: BTreeMap<u32, Id>,
    folders: BTreeSet<u32>,
    claims: Claims,
}

impl Reader {
    fn read(&mut self) -> Result<()> {
        let root = self.volume.inode(ROOT)?;
        ensure!(root.mode & 0o170_000 == 0o040_000, "expected a root folder, got {:o}", root.mode);
        let meta = self.volume.metadata(&root)?;
        self.tree.insert(b"", TreeInode { meta, kind: Kind::directory(), part: 0 })?;
        let mut stack = vec![(ROOT, root, self.tree.root(), 0)];
        while let Some((number, inode, id, path)) = stack.pop() {
            ensure!(self.folders.insert(number), "expected folder {number} once, got it again");
            let found =
                self.volume.folder(&inode).with_context(|| format!("reading folder {number}"))?;
            for entry in found {
                let shown = || format!("reading `{}`", String::from_utf8_lossy(&entry.name));
                let path = path + 1 + entry.name.len();
                ensure!(path < PATH_MAX, "expected paths below {PATH_MAX} bytes, got {path}");
                let below = self.enter(id, entry.inode, &entry.name).with_context(shown)?;
                stack.extend(below.map(|(inode, id)| (entry.inode, inode, id, path)));
            }
        }
        Ok(())
    }

    /// Adds one name; returns a folder to go on with.
    fn enter(&mut self, dir: Id, number: u32, name: &[u8]) -> Result<Option<(Inode, Id)>> {
        if let Some(known) = self.files.get(&number) {
            self.tree.link_at(*known, dir, name)?;
            return Ok(None);
        }
        let inode = self.volume.inode(number)?;
        let meta = self.volume.metadata(&inode)?;
        let kind = self.kind(&inode)?;
        let folder = matches!(kind, Kind::Directory(_));
        let id = self.tree.insert_at(dir, name, TreeInode { meta, kind, part: 0 })?;
        if folder {
            return Ok(Some((inode, id)));
        }
        self.files.insert(number, id);
        Ok(None)
    }

    fn kind(&mut self, inode: &Inode) -> Result<Kind> {
        let device = inode::device_numbers(&inode.body);
        Ok(match inode.mode & 0o170_000 {
            0o040_000 => Kind::directory(),
            0o100_000 => Kind::File(self.content(inode)?),
            0o120_000 => Kind::Symlink(self.volume.link(inode)?.into()),
            0o020_000 => Kind::Char(device.0, device.1),
            0o060_000 => Kind::Block(device.0, device.1),
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            other => bail!("expected a known kind of inode, got {other:o}"),
        })
    }

    fn content(&mut self, inode: &Inode) -> Result<Content> {
        self.claims.add(inode.size)?;
        let mut image = Extents::zeros(inode.size);
        let size = self.volume.superblock.block_size as u64;
        for Extent { logical, len, start } in self.volume.extents(inode)? {
            let (at, from) = (u64::from(logical) * size, start.saturating_mul(size));
            let len = (u64::from(len) * size).min(inode.size.saturating_sub(at));
            image.put_piece(at, len, &self.volume.piece(from, len)?);
        }
        Ok(image.to_content())
    }
}
