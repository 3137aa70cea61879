//! The GUID partition table, with a protective MBR that may hold boot code.
//!
//! Follows "UEFI Specification" 2.10, chapter 5. Hybrid tables are left out:
//! `gptmbr.bin` starts a partition of a pure one.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::crc::crc32;
use super::{ALIGNMENT, Extents, Guid, mbr};

/// An EFI system partition.
pub const ESP: Guid = Guid::new(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
/// Any Linux file system.
pub const LINUX: Guid = Guid::new(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
/// The root file system of an amd64 machine.
pub const ROOT_AMD64: Guid = Guid::new(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
/// The root file system of an arm64 machine.
pub const ROOT_ARM64: Guid = Guid::new(0xb921b045_1df0_41c3_af44_4c6f280d3fae);
/// What holds /var.
pub const VAR: Guid = Guid::new(0x4d21b016_b534_45c2_a9fb_5c16e091fd2d);
/// Data of any kind.
pub const BASIC_DATA: Guid = Guid::new(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7);
/// The attribute of the partition that boot code of a BIOS starts.
pub const LEGACY_BOOT: u64 = 1 << 2;
/// The attribute of a partition that is never written.
pub const READ_ONLY: u64 = 1 << 60;

/// How many entries the table has.
const ENTRIES: u64 = 128;
/// Size of an entry in bytes.
const ENTRY: usize = 128;
/// Size of a header in bytes.
const HEADER: usize = 92;

/// A partition to be.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its type, such as [`ESP`].
    pub kind: Guid,
    /// Its own GUID (`PARTUUID=`); derived from the disk's by default.
    pub id: Option<Guid>,
    /// Its name, up to 36 characters.
    pub name: String,
    /// Attributes such as [`LEGACY_BOOT`].
    pub attributes: u64,
    /// What it holds.
    pub image: Extents,
    /// Its size in bytes, that of the image by default.
    pub size: Option<u64>,
}

impl Partition {
    /// Describes a partition of a type that holds an image.
    pub fn new(kind: Guid, name: &str, image: Extents) -> Self {
        Self { kind, id: None, name: name.to_owned(), attributes: 0, image, size: None }
    }
}

/// A disk to be.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The disk's own GUID.
    pub id: Guid,
    /// Size of a sector in bytes: 512 or 4096.
    pub sector: u32,
    /// Size in bytes; by default as small as holds all, in whole MiB.
    pub size: Option<u64>,
    /// Boot code for a BIOS, up to 440 bytes.
    pub code: Vec<u8>,
    /// The partitions in order; the first one begins at 1 MiB.
    pub partitions: Vec<Partition>,
}

/// Lays out a disk; gives back where each partition lies.
pub fn plan(disk: &Disk) -> Result<(Extents, Vec<Range<u64>>)> {
    let sector = u64::from(disk.sector);
    ensure!(matches!(sector, 512 | 4096), "expected sectors of 512 or 4096 bytes, got {sector}");
    ensure!(disk.partitions.len() as u64 <= ENTRIES, "expected at most {ENTRIES} partitions");
    let places = place(disk)?;
    let used = places.last().map_or(ALIGNMENT, |place| place.end);
    // The second table needs room behind the last partition.
    let tail = sector + ENTRIES * ENTRY as u64;
    let least = (used + tail).next_multiple_of(ALIGNMENT);
    let size = disk.size.unwrap_or(least);
    ensure!(
        size >= used + tail && size.is_multiple_of(sector),
        "expected a disk of {} bytes or more in whole sectors of {sector}, got {size}",
        used + tail
    );
    let mut image = Extents::zeros(size);
    for (partition, place) in disk.partitions.iter().zip(&places) {
        image.put(place.start, &partition.image);
    }
    overlay(&mut image, disk, &places)?;
    image.put_bytes(0, protective(disk, size / sector)?);
    Ok((image, places))
}

/// Lays both tables over an image that is there already, such as a CD that is
/// a disk too; its first sector is left alone. `places` are whole sectors.
pub fn overlay(image: &mut Extents, disk: &Disk, places: &[Range<u64>]) -> Result<()> {
    let sector = u64::from(disk.sector);
    let last = image.len() / sector - 1;
    let entries = entries(disk, places)?;
    let table_sectors = (entries.len() as u64).div_ceil(sector);
    let usable = (2 + table_sectors, last - table_sectors - 1);
    let crc = crc32(&entries);
    let first = header(disk, [1, last], usable, 2, crc);
    let second = header(disk, [last, 1], usable, last - table_sectors, crc);
    image.put_bytes(sector, first);
    image.put_bytes(2 * sector, entries.clone());
    image.put_bytes((last - table_sectors) * sector, entries);
    image.put_bytes(last * sector, second);
    Ok(())
}

fn place(disk: &Disk) -> Result<Vec<Range<u64>>> {
    let mut at = ALIGNMENT;
    let mut places = Vec::with_capacity(disk.partitions.len());
    for partition in &disk.partitions {
        let (held, name) = (partition.image.len(), &partition.name);
        let len = partition.size.unwrap_or(held).max(1);
        ensure!(len >= held, "partition `{name}`: expected {held} bytes or more, got {len}");
        let end = at.checked_add(len).context("adding up partitions")?;
        places.push(at..end.next_multiple_of(ALIGNMENT));
        at = end.next_multiple_of(ALIGNMENT);
    }
    Ok(places)
}

fn entries(disk: &Disk, places: &[Range<u64>]) -> Result<Vec<u8>> {
    let sector = u64::from(disk.sector);
    let mut out = vec![0; ENTRIES as usize * ENTRY];
    for (index, (partition, place)) in disk.partitions.iter().zip(places).enumerate() {
        let derived = || Guid::derive(&disk.id.bytes(), &format!("partition {index}"));
        let id = partition.id.unwrap_or_else(derived);
        let name: Vec<u16> = partition.name.encode_utf16().collect();
        ensure!(name.len() <= 36, "expected a name of up to 36 units, got `{}`", partition.name);
        let entry = &mut out[index * ENTRY..(index + 1) * ENTRY];
        entry[..16].copy_from_slice(&partition.kind.mixed());
        entry[16..32].copy_from_slice(&id.mixed());
        entry[32..40].copy_from_slice(&(place.start / sector).to_le_bytes());
        entry[40..48].copy_from_slice(&(place.end / sector - 1).to_le_bytes());
        entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
        for (at, unit) in name.iter().enumerate() {
            entry[56 + 2 * at..58 + 2 * at].copy_from_slice(&unit.to_le_bytes());
        }
    }
    Ok(out)
}

fn header(
    disk: &Disk,
    [own, other]: [u64; 2],
    (first, last): (u64, u64),
    table: u64,
    crc: u32,
) -> Vec<u8> {
    let mut out = vec![0; disk.sector as usize];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"EFI PART");
    put(8, &0x1_0000_u32.to_le_bytes());
    put(12, &(HEADER as u32).to_le_bytes());
    put(24, &own.to_le_bytes());
    put(32, &other.to_le_bytes());
    put(40, &first.to_le_bytes());
    put(48, &last.to_le_bytes());
    put(56, &disk.id.mixed());
    put(72, &table.to_le_bytes());
    put(80, &(ENTRIES as u32).to_le_bytes());
    put(84, &(ENTRY as u32).to_le_bytes());
    put(88, &crc.to_le_bytes());
    let crc = crc32(&out[..HEADER]);
    out[16..20].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Makes the MBR that keeps old tools from taking the disk for empty.
fn protective(disk: &Disk, sectors: u64) -> Result<Vec<u8>> {
    ensure!(disk.code.len() <= mbr::CODE, "expected at most {} bytes of boot code", mbr::CODE);
    let mut out = vec![0; 512];
    out[..disk.code.len()].copy_from_slice(&disk.code);
    let count = (sectors - 1).min(u64::from(u32::MAX));
    out[446..462].copy_from_slice(&mbr::entry(mbr::PROTECTIVE, false, 1, count)?);
    out[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(out)
}
