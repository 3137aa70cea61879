//! EROFS, a read-only file system that the kernel reads in whole blocks.
//!
//! The writer keeps all that a tree holds, POSIX ACLs included. Contents of
//! equal digest are stored once; the ends of files stand beside their inodes;
//! without compression a file's chunks of zeros are not stored. Compressed
//! extents fill whole blocks (LZ4) or about a cluster of them (zstd).
//! Left out: blocks of other lengths than 4 KiB, data on other devices,
//! compressed ends of files, fragments.
//!
//! The image stands in the order: superblock, contents part by part,
//! directories, shared attributes, inodes. Contents are streamed and
//! compressed on all processors; the bytes depend on the tree and the options
//! only. With a store at hand, the packed contents of each part are kept
//! there for the next image.
//!
//! Follows the kernel's Documentation/filesystems/erofs.rst and
//! fs/erofs/erofs_fs.h.

mod codec;
mod data;
mod directory;
mod dump;
mod extract;
mod format;
mod image;
mod index;
mod inode;
mod layout;
mod lz4;
mod map;
mod reader;
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
    /// How files are compressed.
    pub compression: Compression,
    /// How many bytes of the image are decompressed at once: a power of two
    /// from 4 KiB to 1 MiB.
    pub cluster: u32,
    /// The image's own time, in seconds since 1970. Inodes of this time and of
    /// small owners are half as long.
    pub time: i64,
    /// The image's UUID.
    pub uuid: [u8; 16],
    /// The volume's name, padded with zeros.
    pub volume: [u8; 16],
    /// Where the packed contents of each part are kept and looked for.
    pub cache: Option<Store>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            cluster: 64 << 10,
            time: crate::env::EPOCH,
            uuid: [0; 16],
            volume: [0; 16],
            cache: None,
        }
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        let size = self.cluster;
        ensure!(
            size.is_power_of_two() && (4 << 10..=1 << 20).contains(&size),
            "expected an erofs cluster of 4 KiB to 1 MiB, got {size}"
        );
        self.compression.check()
    }

    /// Names all that packed contents depend on, apart from the contents.
    fn settings(&self) -> String {
        format!("{:?} {}", self.compression, self.cluster)
    }
}

#[cfg(test)]
mod tests;
