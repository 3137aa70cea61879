//! qcow2, version 3: QEMU's copy-on-write disk.
//!
//! Snapshots, backing files, encryption and subclusters are left out.
//! Follows "Qcow2 Image File Format" of QEMU's docs/interop.

mod compressed;
mod plain;
mod reader;

use anyhow::{Result, ensure};

use super::Extents;
use crate::store::{Out, Store};

pub(super) use reader::open;

/// "QFI\xfb", what every qcow2 file begins with.
pub(super) const MAGIC: u32 = 0x5146_49fb;
/// Size of a cluster: QEMU's default.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;
/// Entries of a table of one cluster.
const ENTRIES: u64 = CLUSTER / 8;
/// Clusters that a refcount block of 16-bit counts tells of.
const COUNTS: u64 = CLUSTER / 2;
/// "Standard cluster ... refcount exactly one": bit 63 of table entries.
const COPIED: u64 = 1 << 63;
/// A compressed cluster: bit 62 of an L2 entry.
const COMPRESSED: u64 = 1 << 62;
/// Where an entry of a compressed cluster begins to tell its sectors.
const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);
/// "Incompatible feature bit 3": another compression than deflate.
const OTHER_COMPRESSION: u64 = 1 << 3;
const HEADER: usize = 112;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Deflate, which every reader of qcow2 knows; level 0 to 9.
    Zlib(u32),
    /// Zstandard, known since QEMU 5.1; level 1 to 22.
    Zstd(i32),
}

/// Writes a disk, compressed if so asked.
pub fn write(raw: &Extents, compression: Option<Compression>, out: &mut dyn Out) -> Result<()> {
    match compression {
        None => plan(raw)?.copy_to(out),
        Some(compression) => compress(raw, compression, None, out),
    }
}

/// Writes a disk, compressed; `cache` is where compressed parts are kept and
/// looked for.
pub fn compress(
    raw: &Extents,
    compression: Compression,
    cache: Option<&Store>,
    out: &mut dyn Out,
) -> Result<()> {
    compressed::write(raw, compression, cache, out)
}

/// Lays out a disk, uncompressed.
pub fn plan(raw: &Extents) -> Result<Extents> {
    plain::plan(raw)
}

/// What the header tells.
struct Header {
    len: u64,
    l1_entries: u64,
    l1_at: u64,
    refcounts_at: u64,
    refcount_clusters: u64,
    zstd: bool,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER + 8];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_be_bytes());
        put(4, &3_u32.to_be_bytes());
        put(20, &CLUSTER_BITS.to_be_bytes());
        put(24, &self.len.to_be_bytes());
        put(36, &(self.l1_entries as u32).to_be_bytes());
        put(40, &self.l1_at.to_be_bytes());
        put(48, &self.refcounts_at.to_be_bytes());
        put(56, &(self.refcount_clusters as u32).to_be_bytes());
        if self.zstd {
            put(72, &OTHER_COMPRESSION.to_be_bytes());
            put(104, &[1]);
        }
        // Counts of 2^4 bits.
        put(96, &4_u32.to_be_bytes());
        put(100, &(HEADER as u32).to_be_bytes());
        out
    }
}

/// Returns the number of L1 entries of a disk.
fn l1_entries(len: u64) -> Result<u64> {
    ensure!(len.is_multiple_of(512), "expected a disk of whole sectors, got {len} bytes");
    let entries = len.div_ceil(CLUSTER * ENTRIES);
    ensure!(entries <= 4 << 20, "expected a disk of at most 2 PiB, got {len} bytes");
    Ok(entries)
}

/// Packs numbers as a table of whole clusters.
fn table(entries: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut out: Vec<u8> = entries.into_iter().flat_map(u64::to_be_bytes).collect();
    out.resize(out.len().next_multiple_of(CLUSTER as usize), 0);
    out
}

/// Returns how many clusters of refcount blocks and of the table of these a
/// file needs that has `others` clusters besides.
fn refcount_clusters(others: u64) -> (u64, u64) {
    let (mut blocks, mut tables) = (0, 0);
    loop {
        let needed = (others + blocks + tables).div_ceil(COUNTS).max(1);
        let needed_tables = needed.div_ceil(ENTRIES);
        if (needed, needed_tables) == (blocks, tables) {
            return (blocks, tables);
        }
        (blocks, tables) = (needed, needed_tables);
    }
}
