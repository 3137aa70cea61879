//! The structures of an image as text, for people and golden tests.

use std::fmt::Write as _;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::field::{get16, get16_split, get32_split};
use super::hash::half_md4;
use super::inode::{self, Inode};
use super::plan::ROOT;
use super::volume::Volume;
use super::{journal, resize};

/// Paths are dumped to this depth: hostile folders may contain themselves.
const DEPTH_MAX: usize = 128;
/// Bytes of an attribute shown at most.
const VALUE_MAX: usize = 64;
/// Groups shown at most, for images of many.
const GROUPS_MAX: u64 = 4096;

/// Describes the image of `len` bytes that begins at `offset` of a file:
/// superblock, groups, and each inode with its extents, attributes, entries.
pub fn dump(file: Arc<File>, offset: u64, len: u64) -> Result<String> {
    let mut volume = Volume::open(file, offset, len)?;
    let mut text = String::new();
    superblock(&mut text, &volume)?;
    for group in 0..volume.groups().min(GROUPS_MAX) {
        self::group(&mut text, &volume, group)?;
    }
    for (number, name) in [(resize::INODE, "(resize)"), (journal::INODE, "(journal)")] {
        if let Ok(inode) = volume.inode(number)
            && inode.links > 0
        {
            self::inode(&mut text, &mut volume, number, name, &inode)?;
        }
    }
    let mut stack = vec![(ROOT, "/".to_owned(), 0)];
    while let Some((number, path, depth)) = stack.pop() {
        let inode = volume.inode(number)?;
        self::inode(&mut text, &mut volume, number, &path, &inode)?;
        if inode.mode & 0o170_000 == 0o040_000 && depth < DEPTH_MAX {
            let found = volume.folder(&inode).with_context(|| format!("reading {path}"))?;
            for entry in found.iter().rev() {
                let name = entry.name.escape_ascii();
                let path = format!("{}/{name}", path.trim_end_matches('/'));
                stack.push((entry.inode, path, depth + 1));
            }
            let seed = volume.superblock.hash_seed;
            for entry in &found {
                let hash = half_md4(&entry.name, &seed).major;
                let name = entry.name.escape_ascii();
                writeln!(text, "  {} type {} {hash:08x} {name}", entry.inode, entry.kind)?;
            }
        }
    }
    Ok(text)
}

fn superblock(text: &mut String, volume: &Volume) -> Result<()> {
    let sb = &volume.superblock;
    let label = sb.label.split(|byte| *byte == 0).next().unwrap_or_default().escape_ascii();
    writeln!(text, "ext4 `{label}` {} made {}", hex::encode(sb.uuid), sb.time)?;
    writeln!(
        text,
        "{} blocks of {}, {} free, {} in a group; {} inodes of {}, {} free, {} in a group",
        sb.blocks,
        sb.block_size,
        sb.free_blocks,
        sb.group_blocks,
        sb.inodes,
        sb.inode_size,
        sb.free_inodes,
        sb.group_inodes
    )?;
    let [compatible, needed, to_write] = sb.features;
    writeln!(
        text,
        "features {compatible:#x} {needed:#x} {to_write:#x}, {} blocks kept for descriptors",
        sb.reserved_descriptors
    )?;
    Ok(())
}

fn group(text: &mut String, volume: &Volume, group: u64) -> Result<()> {
    let raw = volume.descriptor(group)?;
    writeln!(
        text,
        "group {group}: bitmaps {} {}, table {}, flags {}, free {} blocks {} inodes, {} folders",
        get32_split(&raw, 0x00, 0x20),
        get32_split(&raw, 0x04, 0x24),
        get32_split(&raw, 0x08, 0x28),
        get16(&raw, 0x12),
        get16_split(&raw, 0x0c, 0x2c),
        get16_split(&raw, 0x0e, 0x2e),
        get16_split(&raw, 0x10, 0x30)
    )?;
    Ok(())
}

fn inode(
    text: &mut String,
    volume: &mut Volume,
    number: u32,
    path: &str,
    inode: &Inode,
) -> Result<()> {
    writeln!(
        text,
        "inode {number} {path}: {:06o} {}:{} links {} size {} time {} sectors {} flags {:#x}",
        inode.mode,
        inode.uid,
        inode.gid,
        inode.links,
        inode.size,
        inode.mtime,
        inode.sectors,
        inode.flags
    )?;
    if inode.flags & inode::EXTENTS != 0 {
        for extent in volume.extents(inode)? {
            writeln!(text, "  blocks {}+{} at {}", extent.logical, extent.len, extent.start)?;
        }
    }
    match inode.mode & 0o170_000 {
        0o120_000 => writeln!(text, "  to {}", volume.link(inode)?.escape_ascii())?,
        0o020_000 | 0o060_000 => {
            let (major, minor) = inode::device_numbers(&inode.body);
            writeln!(text, "  device {major}:{minor}")?;
        }
        _ => {}
    }
    for (name, value) in volume.metadata(inode)?.xattrs {
        let shown = value[..value.len().min(VALUE_MAX)].escape_ascii();
        writeln!(text, "  {} = {} bytes {shown}", name.escape_ascii(), value.len())?;
    }
    Ok(())
}
