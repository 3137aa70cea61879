//! The master boot record: boot code and up to four partitions.
//!
//! Leaves out extended partitions, which nothing here needs.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::{ALIGNMENT, Extents, geometry};

/// A FAT partition, addressed by sector.
pub const FAT: u8 = 0x0c;
/// A Linux partition.
pub const LINUX: u8 = 0x83;
/// What stands for a whole GPT disk.
pub(crate) const PROTECTIVE: u8 = 0xee;
/// The most bytes of boot code.
pub(super) const CODE: usize = 440;

/// A partition to be.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its type, such as [`FAT`].
    pub kind: u8,
    /// Whether the boot code starts it.
    pub active: bool,
    /// What it holds.
    pub image: Extents,
    /// Its size in bytes, that of the image by default.
    pub size: Option<u64>,
}

/// A disk to be.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Number of the disk, by which `PARTUUID=XXXXXXXX-01` names partitions.
    pub id: u32,
    /// Size in bytes; by default as small as holds all.
    pub size: Option<u64>,
    /// Boot code, up to 440 bytes.
    pub code: Vec<u8>,
    /// Up to four partitions.
    pub partitions: Vec<Partition>,
}

/// Lays out a disk of sectors of 512 bytes; gives back where each partition
/// lies.
pub fn plan(disk: &Disk) -> Result<(Extents, Vec<Range<u64>>)> {
    ensure!(disk.partitions.len() <= 4, "expected at most 4 partitions in an MBR");
    ensure!(disk.code.len() <= CODE, "expected at most {CODE} bytes of boot code");
    let (mut image, mut places) = (Extents::default(), Vec::new());
    let mut sector = vec![0; 512];
    sector[..disk.code.len()].copy_from_slice(&disk.code);
    sector[440..444].copy_from_slice(&disk.id.to_le_bytes());
    let mut at = ALIGNMENT;
    for (index, partition) in disk.partitions.iter().enumerate() {
        let len = partition.size.unwrap_or(partition.image.len());
        ensure!(len >= partition.image.len(), "expected a partition as large as what it holds");
        let len = len.next_multiple_of(ALIGNMENT);
        image.put(at, &partition.image);
        let entry = entry(partition.kind, partition.active, at / 512, len / 512)?;
        sector[446 + 16 * index..462 + 16 * index].copy_from_slice(&entry);
        places.push(at..at + len);
        at += len;
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    image.put_bytes(0, sector);
    let size = disk.size.unwrap_or(at);
    ensure!(size >= at, "expected a disk of {at} bytes for its partitions, got {size}");
    image.grow(size.next_multiple_of(512));
    Ok((image, places))
}

/// Makes an entry of the table.
pub(crate) fn entry(kind: u8, active: bool, first: u64, count: u64) -> Result<[u8; 16]> {
    let short = |n: u64| u32::try_from(n).context("addressing a partition beyond 2 TiB by MBR");
    let mut entry = [0; 16];
    entry[0] = if active { 0x80 } else { 0 };
    entry[1..4].copy_from_slice(&geometry::packed(first));
    entry[4] = kind;
    entry[5..8].copy_from_slice(&geometry::packed(first + count.max(1) - 1));
    entry[8..12].copy_from_slice(&short(first)?.to_le_bytes());
    entry[12..].copy_from_slice(&short(count)?.to_le_bytes());
    Ok(entry)
}
