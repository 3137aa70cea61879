//! ISO 9660 with Rock Ridge, Joliet and El Torito: CDs and DVDs.
//!
//! All of a tree is held but extended attributes. Files of 4 GiB and more
//! have several extents; equal files and hard links are stored once. Folders
//! may lie deeper than the 8 levels of the standard, which Linux and xorriso
//! read. Follows ECMA-119 (3rd edition), "SUSP" and "RRIP" 1.12, "Joliet
//! Specification" and "El Torito Bootable CD-ROM Format" 1.0. What makes a CD
//! a disk too is put over it by `boot`.

mod boot;
mod descriptor;
mod hierarchy;
mod name;
mod reader;
mod record;
mod rock;
mod writer;

use std::collections::BTreeMap;
use std::ops::Range;

use super::Extents;

pub use reader::{dump, open};
pub use writer::plan;

/// Size of a sector in bytes.
pub const SECTOR: u64 = 2048;

/// What a disc is like, besides its files.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the volume: up to 32 characters of ASCII, of which Joliet
    /// keeps 16.
    pub volume: String,
    /// Whether names are there for Windows, too.
    pub joliet: bool,
    /// Time of the disc and of composed files, in seconds since 1970.
    pub time: i64,
    /// What firmware starts, in order.
    pub boot: Vec<Boot>,
    /// Files that lie within the image of a boot entry: path on the disc,
    /// the entry's index, and the bytes within its image. They must begin on
    /// whole sectors of it.
    pub within: BTreeMap<Vec<u8>, (usize, Range<u64>)>,
    /// Images that are no files of the disc and lie behind all else, each on
    /// a whole MiB: partitions of the disk that the disc can be.
    pub appended: Vec<Extents>,
    /// So much is left free at the end for the second table of a GPT, and
    /// the disc is filled up to whole MiB; in bytes, 0 for a plain CD.
    pub tail: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            volume: "MOBY".to_owned(),
            joliet: true,
            time: crate::env::EPOCH,
            boot: Vec::new(),
            within: BTreeMap::new(),
            appended: Vec::new(),
            tail: 0,
        }
    }
}

/// The firmware that a boot entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// A BIOS of a PC.
    Bios,
    /// UEFI.
    Efi,
}

/// A boot entry of El Torito, without emulation of a floppy.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Whose it is.
    pub platform: Platform,
    /// What is started.
    pub image: BootImage,
}

/// What a boot entry starts.
#[derive(Clone, Debug)]
pub enum BootImage {
    /// A boot loader that is a file of the disc, with a boot info table.
    File(Vec<u8>),
    /// An image that is no file of the disc: it lies behind all files.
    Appended(Extents),
}

/// A disc laid out.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The image.
    pub image: Extents,
    /// Where what each boot entry starts lies, in bytes.
    pub boot: Vec<Range<u64>>,
    /// Where each appended image lies, in bytes, to the end of its last sector.
    pub appended: Vec<Range<u64>>,
}

#[cfg(test)]
mod tests;
