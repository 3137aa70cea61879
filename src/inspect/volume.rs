//! File systems: which one it is, how full it is, and its tree.

use anyhow::{Context, Result};
use serde::Serialize;

use super::span::Span;
use crate::fs::{erofs, ext4, fat, iso9660, squashfs};
use crate::tree::{Kind, Tree};

/// A file system, or what stands for one.
#[derive(Debug, Serialize)]
pub struct Volume {
    /// Where it is: `partition 2`, `disc`, `initrd`. Nothing else in the image
    /// is called so.
    pub place: String,
    /// What it is: `erofs`, `ext4`, `FAT`, `cpio`, `tar` and the like.
    pub system: &'static str,
    /// How many of its bytes are in use, as far as it says.
    pub used: Option<u64>,
    /// Its files.
    #[serde(skip)]
    pub tree: Tree,
}

impl Volume {
    /// Says whether it can hold extended attributes.
    pub fn holds_attributes(&self) -> bool {
        !matches!(self.system, "cpio" | "ISO 9660" | "FAT")
    }
}

/// Tells by looking which file system a span holds.
pub(super) fn system(span: &Span) -> Result<Option<&'static str>> {
    let head = span.bytes(0, 36 << 10)?;
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    Ok(if at(0, b"hsqs") {
        Some("squashfs")
    } else if at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) {
        Some("erofs")
    } else if at(1080, &[0x53, 0xef]) {
        Some("ext4")
    } else if at(0x8001, b"CD001") {
        Some("ISO 9660")
    } else if at(510, &[0x55, 0xaa]) && (at(54, b"FAT") || at(82, b"FAT")) {
        Some("FAT")
    } else if at(4086, b"SWAPSPACE2") {
        Some("swap")
    } else {
        None
    })
}

/// Reads a file system of a known kind.
pub(super) fn open(place: &str, system: &'static str, span: &Span) -> Result<Volume> {
    let (file, offset, len) = span.place();
    let tree = match system {
        "squashfs" => squashfs::open(file, offset, len),
        "erofs" => erofs::open(file, offset, len),
        "ext4" => ext4::open(file, offset, len),
        "ISO 9660" => iso9660::open(&span.image()),
        "FAT" => fat::open(&span.image()),
        _ => Ok(Tree::new()),
    };
    let tree = tree.with_context(|| format!("reading {system} in {place}"))?;
    let used = used(system, span, &tree)?;
    Ok(Volume { place: place.to_owned(), system, used, tree })
}

/// How many bytes are in use, as the superblock tells; of FAT, what its files
/// come to.
fn used(system: &str, span: &Span, tree: &Tree) -> Result<Option<u64>> {
    let number = |at: u64, len: usize| -> Result<u64> {
        let bytes = span.bytes(at, len)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    Ok(match system {
        // "bytes_used".
        "squashfs" => Some(number(40, 8)?),
        // "blocks", by "blkszbits".
        "erofs" => number(1024 + 36, 4)?.checked_shl(number(1024 + 12, 1)? as u32),
        // "s_blocks_count" less "s_free_blocks_count", by "s_log_block_size".
        "ext4" => {
            let wide = |low: u64, high: u64| -> Result<u64> {
                Ok(number(1024 + high, 4)? << 32 | number(1024 + low, 4)?)
            };
            let blocks = wide(4, 0x150)?.saturating_sub(wide(12, 0x158)?);
            blocks.checked_mul(1024 << number(1024 + 24, 4)?.min(6))
        }
        // "Volume space size", of blocks of 2048 bytes.
        "ISO 9660" => Some(number(16 * 2048 + 80, 4)? * 2048),
        "FAT" => Some(files(tree)),
        _ => None,
    })
}

fn files(tree: &Tree) -> u64 {
    let sizes =
        tree.walk().filter(|found| !found.link).map(|found| match &tree.get(found.id).kind {
            Kind::File(content) => content.len(),
            _ => 0,
        });
    sizes.fold(0, u64::saturating_add)
}
