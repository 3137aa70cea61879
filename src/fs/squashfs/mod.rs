//! Squashfs 4.0, a compressed read-only file system.
//!
//! The writer keeps all that a tree holds: every kind of node, hard links,
//! owners, extended attributes of the user, trusted and security namespaces.
//! Contents of equal digest are stored once, blocks of zeros not at all, and
//! the ends of files are packed together. Times are kept as far as 32 bits
//! without a sign go. POSIX ACLs have no place in the format and are refused.
//! LZO and LZMA are left out, as are filters for machine code.
//!
//! Contents are compressed block by block on all processors, streamed, and
//! written in the tree's order, part by part: the bytes depend on the tree and
//! the options only. With a store at hand, the packed contents of each part
//! are kept there for the next image.
//!
//! Follows the kernel's Documentation/filesystems/squashfs.rst and
//! fs/squashfs/squashfs_fs.h.

mod codec;
mod data;
mod directory;
mod dump;
mod extract;
mod format;
mod image;
mod inode;
mod metadata;
mod reader;
mod record;
mod writer;
mod xattr;

use anyhow::{Result, ensure};

pub use codec::Compression;
pub use dump::dump;
pub use reader::open;
pub use writer::{image, write};

use crate::store::Store;

/// How an image is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// How blocks are compressed.
    pub compression: Compression,
    /// Length of a block in bytes: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
    /// The image's own time, in seconds since 1970.
    pub time: i64,
    /// Whether the ends of large files are packed too, not only small files.
    pub pack_tails: bool,
    /// Whether inodes can be found by number, as an NFS server needs it.
    pub export: bool,
    /// Where the packed contents of each part are kept and looked for.
    pub cache: Option<Store>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compression: Compression::Zstd(3),
            block_size: 128 << 10,
            time: crate::env::EPOCH,
            pack_tails: true,
            export: false,
            cache: None,
        }
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        let size = self.block_size;
        ensure!(
            size.is_power_of_two() && (4 << 10..=1 << 20).contains(&size),
            "expected a squashfs block size of 4 KiB to 1 MiB, got {size}"
        );
        self.compression.check()
    }

    /// Names all that packed contents depend on, apart from the contents.
    fn settings(&self) -> String {
        format!("{:?} {} {}", self.compression, self.block_size, self.pack_tails)
    }
}

#[cfg(test)]
mod tests;
