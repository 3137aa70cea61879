//! VMDK, streamOptimized: the disk of VMware as it is shipped, and of OVA.
//!
//! Follows "VMware Virtual Disk Format 5.0", section "Stream-Optimized
//! Compressed Sparse Extents". Other kinds of VMDK are left out.

mod reader;
mod writer;

pub(super) use reader::open;
pub use writer::{Options, write};

/// "KDMV", what every sparse extent begins with.
pub(super) const MAGIC: u32 = 0x564d_444b;
const SECTOR: u64 = 512;
/// Size of a grain in sectors: 64 KiB.
const GRAIN: u64 = 128;
/// Entries of a grain table.
const ENTRIES: u64 = 512;
/// Sectors before the first grain, as every writer leaves.
const OVERHEAD: u64 = 128;
/// Sectors for the descriptor, behind the header.
const DESCRIPTOR: u64 = 20;
/// "GD_AT_END": the directory is told by a footer.
const AT_END: u64 = u64::MAX;
/// The kinds of markers.
const END_OF_STREAM: u32 = 0;
const GRAIN_TABLE: u32 = 1;
const GRAIN_DIRECTORY: u32 = 2;
const FOOTER: u32 = 3;
