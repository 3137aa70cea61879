//! Reads the structures of an image that may be hostile: bounds are checked,
//! and all of one reading may not touch more blocks than there are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::extent::{self, Extent};
use super::field::{get16, get32, get32_split};
use super::geometry::has_copy;
use super::inode::{self, Inode};
use super::superblock::{self, Superblock};
use super::xattr;
use crate::fs::extents::Piece;
use crate::tree::Metadata;

/// The deepest tree of extents that the kernel takes.
const DEPTH_MAX: u16 = 5;
/// The longest folder in bytes.
const FOLDER_MAX: u64 = 1 << 31;

/// An image, open for reading.
#[derive(Debug)]
pub(super) struct Volume {
    file: Arc<File>,
    /// Where the image begins in the file, in bytes.
    offset: u64,
    len: u64,
    pub(super) superblock: Superblock,
    /// How many more blocks may be mapped: each belongs to one file only.
    left: u64,
}

/// An entry of a folder.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) inode: u32,
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
}

impl Volume {
    /// Opens the image that begins at `offset` of a file, `len` bytes long.
    pub(super) fn open(file: Arc<File>, offset: u64, len: u64) -> Result<Self> {
        let mut raw = vec![0; superblock::SIZE];
        let have = len.checked_sub(superblock::OFFSET + raw.len() as u64);
        ensure!(have.is_some(), "expected an ext4 file system, got {len} bytes");
        file.read_exact_at(&mut raw, offset.saturating_add(superblock::OFFSET))
            .context("reading the superblock")?;
        let superblock = Superblock::decode(&raw)?;
        let needed = superblock.blocks.checked_mul(superblock.block_size as u64);
        ensure!(
            needed.is_some_and(|needed| needed <= len),
            "expected {} blocks of {} bytes, got {len} bytes in all",
            superblock.blocks,
            superblock.block_size
        );
        let left = superblock.blocks.saturating_mul(2);
        Ok(Self { file, offset, len, superblock, left })
    }

    /// Reads bytes of the image.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        ensure!(end.is_some(), "expected an offset within {} bytes, got {at}", self.len);
        self.file.read_exact_at(buf, self.offset + at).context("reading the image")
    }

    /// Describes bytes of the image.
    pub(super) fn piece(&self, at: u64, len: u64) -> Result<Piece> {
        let end = at.checked_add(len).filter(|end| *end <= self.len);
        ensure!(end.is_some(), "expected an offset within {} bytes, got {at}", self.len);
        Ok(Piece::Span { file: Arc::clone(&self.file), from: self.offset + at })
    }

    /// Reads a block.
    pub(super) fn block(&self, number: u64) -> Result<Vec<u8>> {
        let mut block = vec![0; self.superblock.block_size];
        let at = number.checked_mul(block.len() as u64).context("expected a block of the image")?;
        self.read(at, &mut block).with_context(|| format!("reading block {number}"))?;
        Ok(block)
    }

    /// Returns the number of groups.
    pub(super) fn groups(&self) -> u64 {
        let sb = &self.superblock;
        (sb.blocks - u64::from(sb.first_block)).div_ceil(sb.group_blocks.into())
    }

    /// Reads a group descriptor.
    pub(super) fn descriptor(&self, group: u64) -> Result<Vec<u8>> {
        let sb = &self.superblock;
        ensure!(group < self.groups(), "expected a group below {}, got {group}", self.groups());
        let per_block = (sb.block_size / sb.descriptor_size) as u64;
        let nth = group / per_block;
        let block = match sb.first_meta_group {
            Some(first) if nth >= u64::from(first) => {
                let first = nth * per_block;
                let copy = u32::try_from(first).is_ok_and(has_copy);
                u64::from(sb.first_block) + first * u64::from(sb.group_blocks) + u64::from(copy)
            }
            _ => u64::from(sb.first_block) + 1 + nth,
        };
        let at = (group % per_block) as usize * sb.descriptor_size;
        Ok(self.block(block)?[at..at + sb.descriptor_size].to_vec())
    }

    /// Reads an inode.
    pub(super) fn inode(&self, number: u32) -> Result<Inode> {
        let sb = &self.superblock;
        ensure!(
            number > 0 && number <= sb.inodes,
            "expected an inode of 1 to {}, got {number}",
            sb.inodes
        );
        let (group, nth) = ((number - 1) / sb.group_inodes, (number - 1) % sb.group_inodes);
        let descriptor = self.descriptor(group.into())?;
        let high = if sb.descriptor_size >= 64 { 0x28 } else { usize::MAX };
        let table = get32_split(&descriptor, 0x08, high);
        let at = table.checked_mul(sb.block_size as u64);
        let at = at.and_then(|at| at.checked_add(u64::from(nth) * sb.inode_size as u64));
        let mut raw = vec![0; sb.inode_size];
        self.read(at.context("expected an inode table of the image")?, &mut raw)
            .with_context(|| format!("reading inode {number}"))?;
        Inode::decode(&raw)
    }

    /// Reads owner, mode, time and attributes of an inode.
    pub(super) fn metadata(&self, inode: &Inode) -> Result<Metadata> {
        let mut xattrs = std::collections::BTreeMap::new();
        xattr::read_inline(&inode.inline, &mut xattrs)?;
        if inode.attributes != 0 {
            xattr::read_block(&self.block(inode.attributes)?, &mut xattrs)?;
        }
        let (mode, uid, gid) = (inode.mode & 0o7777, inode.uid, inode.gid);
        Ok(Metadata { mode, uid, gid, mtime: inode.mtime, xattrs })
    }

    /// Returns the extents of a file that hold data, in order, those that
    /// follow each other joined; their lengths may exceed an extent's.
    pub(super) fn extents(&mut self, inode: &Inode) -> Result<Vec<Extent>> {
        ensure!(inode.flags & inode::INLINE_DATA == 0, "expected extents, got inline data");
        ensure!(
            inode.flags & inode::EXTENTS != 0,
            "expected a file mapped by extents, got one mapped the old way"
        );
        let mut extents = Vec::new();
        let depth = get16(&inode.body, 6);
        ensure!(depth <= DEPTH_MAX, "expected extents of depth {DEPTH_MAX} at most, got {depth}");
        let mut stack = vec![(inode.body.to_vec(), depth)];
        while let Some((node, depth)) = stack.pop() {
            let mut children = Vec::new();
            for entry in entries(&node, depth)? {
                if depth > 0 {
                    let child = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
                    self.spend(1)?;
                    children.push((self.block(child)?, depth - 1));
                } else {
                    self.push(&mut extents, entry)?;
                }
            }
            // A stack gives back the last one first.
            stack.extend(children.into_iter().rev());
        }
        Ok(extents)
    }

    fn push(&mut self, extents: &mut Vec<Extent>, entry: &[u8]) -> Result<()> {
        let (logical, len) = (get32(entry, 0), u32::from(get16(entry, 4)));
        let start = u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32;
        if u64::from(len) > extent::LEN_MAX {
            // Allocated but not written: reads as zeros.
            return Ok(());
        }
        ensure!(
            len > 0 && start.saturating_add(len.into()) <= self.superblock.blocks,
            "expected an extent within {} blocks, got {len} at {start}",
            self.superblock.blocks
        );
        self.spend(len.into())?;
        if let Some(last) = extents.last_mut() {
            let end = u64::from(last.logical) + u64::from(last.len);
            ensure!(u64::from(logical) >= end, "expected extents in order, got {logical} last");
            let follows = u64::from(logical) == end && start == last.start + u64::from(last.len);
            if follows && let Some(joined) = last.len.checked_add(len) {
                last.len = joined;
                return Ok(());
            }
        }
        extents.push(Extent { logical, len, start });
        Ok(())
    }

    fn spend(&mut self, blocks: u64) -> Result<()> {
        let left = self.left.checked_sub(blocks);
        self.left = left.context("expected each block in one file, got some in several")?;
        Ok(())
    }

    /// Reads the entries of a folder, without `.` and `..`.
    pub(super) fn folder(&mut self, inode: &Inode) -> Result<Vec<Found>> {
        ensure!(inode.size <= FOLDER_MAX, "expected a folder below 2 GiB, got {}", inode.size);
        let mut found = Vec::new();
        for extent in self.extents(inode)? {
            for nth in 0..u64::from(extent.len) {
                scan(&self.block(extent.start + nth)?, &mut found)?;
            }
        }
        found.retain(|found| found.name != b"." && found.name != b"..");
        for Found { name, inode, .. } in &found {
            ensure!(
                !name.is_empty() && !name.contains(&b'/') && !name.contains(&0),
                "expected a plain name of inode {inode}, got `{}`",
                String::from_utf8_lossy(name)
            );
        }
        Ok(found)
    }

    /// Reads a link's target.
    pub(super) fn link(&mut self, inode: &Inode) -> Result<Vec<u8>> {
        let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
        if inode.flags & inode::EXTENTS == 0 {
            let target = inode.body.get(..size).filter(|_| size < inode::BODY);
            return Ok(target.context("expected a short link's target in its inode")?.to_vec());
        }
        ensure!(size < self.superblock.block_size, "expected a link's target of a block at most");
        let extents = self.extents(inode)?;
        let extent = extents.first().filter(|extent| extent.logical == 0);
        let mut target = self.block(extent.context("expected a link's target, got none")?.start)?;
        target.truncate(size);
        Ok(target)
    }
}

/// Returns the entries of a node of an extent tree.
fn entries(node: &[u8], depth: u16) -> Result<impl Iterator<Item = &[u8]>> {
    let (magic, count, found) = (get16(node, 0), usize::from(get16(node, 2)), get16(node, 6));
    ensure!(magic == extent::MAGIC, "expected a node of extents, got magic {magic:#06x}");
    ensure!(found == depth, "expected extents of depth {depth}, got {found}");
    let used = node.get(extent::ENTRY..extent::ENTRY * (count + 1));
    let used =
        used.with_context(|| format!("expected extents that fit their node, got {count}"))?;
    Ok(used.chunks_exact(extent::ENTRY))
}

/// Collects the entries in use of one block of a folder. The index of a
/// hashed folder looks like unused entries.
fn scan(block: &[u8], found: &mut Vec<Found>) -> Result<()> {
    let mut at = 0;
    while at < block.len() {
        let (inode, len) = (get32(block, at), usize::from(get16(block, at + 4)));
        let entry = block.get(at..at + len).filter(|entry| entry.len() >= 8);
        let Some(entry) = entry else {
            bail!("expected a folder's entry inside its block, got {len} bytes at {at}");
        };
        if inode != 0 {
            let name = entry.get(8..8 + usize::from(entry[6]));
            let name = name.context("expected a name inside its entry")?.to_vec();
            found.push(Found { inode, kind: entry[7], name });
        }
        at += len;
    }
    Ok(())
}
