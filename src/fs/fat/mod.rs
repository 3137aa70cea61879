//! FAT12, FAT16 and FAT32 with long names: for what firmware and boot loaders
//! read.
//!
//! Written once and never changed, so every file lies in one piece. FAT holds
//! folders, files and times; owners, modes and extended attributes are not
//! held, hard links become copies, and links or nodes are errors. Follows
//! "Microsoft FAT Specification" (2005), with its long names.

mod geometry;
mod name;
mod reader;
mod record;
mod writer;

use std::collections::BTreeMap;

use super::Extents;

pub use reader::{dump, open};
pub use writer::plan;

/// How many bits an entry of the file allocation table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bits {
    /// Up to 4084 clusters.
    Twelve,
    /// 4085 to 65,524 clusters.
    Sixteen,
    /// 65,525 clusters or more: at least 33 MiB.
    ThirtyTwo,
}

/// What a volume is like, besides its files.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kind of table; by default the smallest that holds all.
    pub bits: Option<Bits>,
    /// Size of the volume in bytes; by default as small as holds all.
    pub size: Option<u64>,
    /// Size of a sector in bytes: 512 or 4096.
    pub sector: u32,
    /// Where the volume lies on its disk, in sectors: boot code needs it.
    pub hidden: u32,
    /// Label: up to 11 characters of ASCII.
    pub label: String,
    /// Serial number.
    pub id: u32,
    /// Time of the label and of composed files, in seconds since 1970.
    pub time: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bits: None,
            size: None,
            sector: 512,
            hidden: 0,
            label: "MOBY".to_owned(),
            id: 0x4d4f_4259,
            time: crate::env::EPOCH,
        }
    }
}

/// A volume laid out.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The image.
    pub image: Extents,
    /// Size of a sector in bytes.
    pub sector: u32,
    /// The kind of table.
    pub bits: Bits,
    // Offset in bytes and length of each file that has contents.
    pub(super) files: BTreeMap<Vec<u8>, (u64, u64)>,
}

impl Volume {
    /// Returns where the contents of a file lie, in bytes from the beginning
    /// of the volume: every file lies in one piece. An empty one is nowhere.
    pub fn place(&self, path: &str) -> Option<std::ops::Range<u64>> {
        let (at, len) = self.files.get(path.trim_matches('/').as_bytes())?;
        Some(*at..at + len)
    }
}

#[cfg(test)]
mod tests;
