//! An image to a tree.
//!
//! Contents that lie in one run stay in the image. Short ones are read, and
//! long ones in several runs are gathered in a temporary file with the same
//! holes, for a tree's contents are one span each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::extent::Extent;
use super::inode::{self, Inode};
use super::plan::ROOT;
use super::volume::Volume;
use crate::oci::Hasher;
use crate::tree::Inode as TreeInode;
use crate::tree::{Content, Id, Kind, Tree};

/// Contents up to this many bytes are read into memory when scattered.
const SHORT: u64 = 64 * 1024;
/// How much is copied or hashed at once, in bytes.
const CHUNK: usize = 256 * 1024;
/// Contents are hashed, holes and all: so many bytes of them at most...
const CONTENTS_FREE: u64 = 64 << 30;
/// ... and so many times the image's length beyond that.
const CONTENTS_RATIO: u64 = 16;
/// The longest path that Linux takes, in bytes.
const PATH_MAX: usize = 4096;
const LOST_FOUND: &[u8] = b"lost+found";

/// Reads the image of `len` bytes that begins at `offset` of a file. An empty
/// `lost+found` is left out, as the writer makes it of itself.
pub fn open(file: Arc<File>, offset: u64, len: u64) -> Result<Tree> {
    let volume = Volume::open(file, offset, len)?;
    let left = len.saturating_mul(CONTENTS_RATIO).saturating_add(CONTENTS_FREE);
    let mut reader = Reader {
        volume,
        tree: Tree::new(),
        files: BTreeMap::new(),
        folders: BTreeSet::new(),
        left,
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
    /// How many more bytes of contents may be hashed.
    left: u64,
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
        if inode.size == 0 {
            return Ok(Content::Bytes(Arc::default()));
        }
        let left = self.left.checked_sub(inode.size);
        self.left = left.with_context(|| {
            format!("expected files of a sane size in all, got one of {} bytes more", inode.size)
        })?;
        let extents = self.volume.extents(inode)?;
        let size = self.volume.superblock.block_size as u64;
        if let [Extent { logical: 0, len, start }] = *extents
            && u64::from(len) * size >= inode.size
        {
            let file = self.volume.file.clone();
            return hash(file, self.volume.offset + start * size, inode.size);
        }
        if inode.size <= SHORT {
            let mut bytes = vec![0; inode.size as usize];
            self.gather(&extents, inode.size, |piece, at| {
                let at = at as usize;
                bytes[at..at + piece.len()].copy_from_slice(piece);
                Ok(())
            })?;
            return Ok(Content::Bytes(bytes.into()));
        }
        let file = tempfile::tempfile().context("making a temporary file")?;
        file.set_len(inode.size).context("sizing a temporary file")?;
        self.gather(&extents, inode.size, |piece, at| {
            file.write_all_at(piece, at).context("writing a temporary file")
        })?;
        hash(Arc::new(file), 0, inode.size)
    }

    /// Gives all data of a file in pieces, each with its offset.
    fn gather(
        &self,
        extents: &[Extent],
        len: u64,
        mut take: impl FnMut(&[u8], u64) -> Result<()>,
    ) -> Result<()> {
        let size = self.volume.superblock.block_size as u64;
        let mut buf = vec![0; CHUNK];
        for extent in extents {
            let (mut from, mut at) = (extent.start * size, u64::from(extent.logical) * size);
            let end = at.saturating_add(u64::from(extent.len) * size).min(len);
            while at < end {
                let n = (end - at).min(buf.len() as u64) as usize;
                self.volume.read(from, &mut buf[..n])?;
                take(&buf[..n], at)?;
                from += n as u64;
                at += n as u64;
            }
        }
        Ok(())
    }
}

/// Describes a span of a file.
fn hash(file: Arc<File>, offset: u64, len: u64) -> Result<Content> {
    let mut hasher = Hasher::new(io::sink());
    let (mut buf, mut at) = (vec![0; CHUNK], 0);
    while at < len {
        let n = (len - at).min(buf.len() as u64) as usize;
        file.read_exact_at(&mut buf[..n], offset + at).context("reading contents")?;
        io::Write::write_all(&mut hasher, &buf[..n]).context("hashing contents")?;
        at += n as u64;
    }
    let (_, digest, _) = hasher.finish();
    Ok(Content::Span { file, offset, len, digest })
}
