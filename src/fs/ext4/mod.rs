//! The ext4 file system: a tree to an image that grows when mounted, and back
//! to look at.
//!
//! `plan` decides where everything lies, from metadata alone; the writer
//! then streams the image from its first byte to its last, seeking forward
//! over what is zero. So memory holds an image's metadata, never its contents.
//!
//! Written: journal, extents, 64-bit group descriptors in flexible groups,
//! checksums of all metadata, hashed directories, attributes in inodes and
//! shared blocks, holes, and a resize inode. Left out: block sizes other than
//! 4096, inline data, encryption, quota, attributes larger than a block.
//! The reader takes what the writer makes and what `mke2fs -d` makes.
//!
//! Follows the Linux kernel's documentation, "ext4 Data Structures and
//! Algorithms" (Documentation/filesystems/ext4), and jbd2 in the same place.

mod acl;
mod allocate;
mod checksum;
mod directory;
mod dump;
mod extent;
mod field;
mod geometry;
mod group;
mod hash;
mod htree;
mod inode;
mod journal;
mod plan;
mod reader;
mod resize;
mod scan;
mod superblock;
mod volume;
mod writer;
mod xattr;

use anyhow::{Result, ensure};

pub use dump::dump;
pub use reader::open;

use super::Extents;
use crate::env::EPOCH;
use crate::store::Out;
use crate::tree::Tree;

/// Size of a block in bytes.
const BLOCK: usize = 4096;
/// The longest label, in bytes.
const LABEL_MAX: usize = 16;

/// What an image is to be like beside its tree.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the image in bytes; `None` is what the tree needs and some
    /// slack.
    pub size: Option<u64>,
    /// Free space in bytes that an image without a given size has; `None` is
    /// a twentieth of what the tree needs and 1 MiB.
    pub slack: Option<u64>,
    /// Size in bytes that the image is meant to grow to when it is mounted,
    /// such as that of a usual disk. Its first group then has as many inodes,
    /// and the image as large a journal, as suit that size.
    pub grown: Option<u64>,
    /// The volume's name, at most 16 bytes.
    pub label: String,
    /// The volume's identity; the seed of its directory hashes, too.
    pub uuid: [u8; 16],
    /// When the file system was made, in seconds since 1970.
    pub time: i64,
    /// Size of the journal in bytes; `None` goes by the size of the image, 0
    /// is no journal.
    pub journal: Option<u64>,
    /// There is one inode at least for so many bytes of the image.
    pub inode_ratio: u64,
    /// How much of the blocks only root may use, in percent.
    pub reserved_percent: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: None,
            slack: None,
            grown: None,
            label: String::new(),
            uuid: *b"moby\x65\x78\x44\x34\x80\x00moby\x00\x01",
            time: EPOCH,
            journal: None,
            inode_ratio: 16384,
            reserved_percent: 0,
        }
    }
}

/// Writes a tree as an ext4 image. Equal trees and options give equal bytes.
pub fn write(tree: &Tree, options: &Options, out: &mut dyn Out) -> Result<()> {
    image(tree, options)?.copy_to(out)
}

/// Lays out the image that [`write()`] writes; its contents stay where they
/// are.
pub fn image(tree: &Tree, options: &Options) -> Result<Extents> {
    ensure!(
        options.label.len() <= LABEL_MAX,
        "expected an ext4 label of at most {LABEL_MAX} bytes, got `{}`",
        options.label
    );
    let maps = scan::maps(tree)?;
    let layout = plan::plan(tree, &maps, options)?;
    writer::image(tree, &layout, options)
}

#[cfg(test)]
mod tests;
