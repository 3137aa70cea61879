//! Growing a partition to the end of its disk: in its table, and to the kernel.
//!
//! GPT as in the UEFI specification 2.10, section 5.3, or an MBR. Of a GPT the second table
//! is written first, where the disk ends now, and the first one last, in one piece: at any
//! moment one of them is whole. A first one that is not is taken from the second. Only the
//! last partition of a disk grows; with another behind it nothing is done.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::console::say;
use crate::error::{Error, Result};
use crate::partition::{MAGIC, device, number_at, text};
use crate::sys;

/// Partitions end on multiples of this many bytes.
const ALIGNMENT: u64 = 1 << 20;
/// The largest table of a GPT that is dealt with, in bytes.
const LARGEST: u64 = 1 << 20;
/// `/sys` counts in these, whatever the disk has.
const UNIT: u64 = 512;

/// What is to be written, in this order, and where the partition lies then, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    writes: Vec<(u64, Vec<u8>)>,
    start: u64,
    length: u64,
}

/// A disk: its size and that of its sectors, in bytes, and what reads it.
struct Disk<'a> {
    size: u64,
    sector: u64,
    read: &'a dyn Fn(u64, u64) -> Option<Vec<u8>>,
}

/// Grows the partition whose folder in `/sys` is `block`; gives its size in bytes.
pub fn partition(block: &Path) -> Result<u64> {
    let number = |path: &Path| -> Result<u64> {
        let found = text(path).and_then(|text| text.parse().ok());
        found.ok_or_else(|| Error::text("reading", path.display(), "expected a number"))
    };
    let folder = block.parent().unwrap_or(block);
    let path = device(folder);
    let index = number(&block.join("partition"))?;
    let size = number(&folder.join("size"))?.saturating_mul(UNIT);
    let sector = number(&folder.join("queue/logical_block_size"))?;
    let fail = |doing| {
        let path = path.display().to_string();
        move |error: std::io::Error| Error::io(doing, &path, &error)
    };
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(fail("opening"))?;
    let read = |at, length| bytes(&file, at, length);
    let plan = plan(&Disk { size, sector, read: &read }, index).ok_or_else(|| {
        Error::text("growing", block.display(), "the disk's partition table is damaged")
    })?;
    if !plan.writes.is_empty() {
        let name = device(block);
        say(format_args!("{} takes {} MiB of its disk", name.display(), plan.length >> 20));
    }
    for (at, bytes) in &plan.writes {
        // Each is on the disk before the next one is begun.
        let written = file.write_all_at(bytes, *at).and_then(|()| file.sync_all());
        written.map_err(fail("writing the partition table of"))?;
    }
    let known = number(&block.join("size"))?.saturating_mul(UNIT);
    if known < plan.length {
        let place = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        sys::resize_partition(&file, index, place(plan.start), place(plan.length))
            .map_err(fail("telling the kernel of a partition of"))?;
    }
    Ok(plan.length.max(known))
}

fn bytes(file: &File, at: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

/// Plans the growth of partition `index`, counted from 1; `None` for what is no sound table.
fn plan(disk: &Disk<'_>, index: u64) -> Option<Plan> {
    let at = index.checked_sub(1)?;
    let mbr = (disk.read)(0, disk.sector)?;
    let last = (disk.size / disk.sector).checked_sub(1)?;
    if number_at::<1>(&mbr, 450)? != 0xee {
        return in_mbr(disk, mbr, usize::try_from(at).ok()?);
    }
    let (header, entries, whole) = match table(disk, 1) {
        Some((header, entries)) => (header, entries, true),
        None => table(disk, last).map(|(header, entries)| (header, entries, false))?,
    };
    in_gpt(disk, mbr, Table { header, entries, whole }, at)
}

/// A GPT's table: its header, its entries, and whether it is the first one.
struct Table {
    header: Vec<u8>,
    entries: Vec<u8>,
    whole: bool,
}

/// Reads the table whose header is in that sector, if it is sound.
fn table(disk: &Disk<'_>, sector: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut header = (disk.read)(sector.checked_mul(disk.sector)?, disk.sector)?;
    let length = usize::try_from(number_at::<4>(&header, 12)?).ok()?;
    let (sum, entries_sum) = (number_at::<4>(&header, 16)?, number_at::<4>(&header, 88)?);
    header[16..20].fill(0);
    let sound = header.starts_with(MAGIC) && u64::from(crc32(header.get(..length)?)) == sum;
    let (count, size) = (number_at::<4>(&header, 80)?, number_at::<4>(&header, 84)?);
    let bytes = count.checked_mul(size).filter(|bytes| *bytes <= LARGEST && size >= 128)?;
    let at = number_at::<8>(&header, 72)?.checked_mul(disk.sector)?;
    let entries = (disk.read)(at, bytes)?;
    (sound && u64::from(crc32(&entries)) == entries_sum).then_some((header, entries))
}

fn in_gpt(disk: &Disk<'_>, mut mbr: Vec<u8>, table: Table, at: u64) -> Option<Plan> {
    let Table { mut header, mut entries, whole } = table;
    let sector = disk.sector;
    let size = usize::try_from(number_at::<4>(&header, 84)?).ok()?;
    let last = (disk.size / sector).checked_sub(1)?;
    let own = usize::try_from(at).ok()?.checked_mul(size)?;
    let sectors = (entries.len() as u64).div_ceil(sector);
    let usable = last.checked_sub(sectors + 1)?;
    let (start, end) = (number_at::<8>(&entries, own + 32)?, number_at::<8>(&entries, own + 40)?);
    let behind = |entry: &[u8]| number_at::<8>(entry, 32).is_some_and(|other| other > end);
    let is_last = !entries.chunks_exact(size).any(behind);
    let room = (usable.checked_add(1)? * sector / ALIGNMENT * ALIGNMENT) / sector;
    let grows = is_last && room > end.checked_add(1)?;
    let end = if grows { room - 1 } else { end };
    let bounds =
        |writes| Some(Plan { writes, start: start * sector, length: (end + 1 - start) * sector });
    if end < start || end > usable {
        return None;
    }
    if !grows && whole {
        return bounds(Vec::new());
    }
    entries[own + 40..own + 48].copy_from_slice(&end.to_le_bytes());
    header[48..56].copy_from_slice(&usable.to_le_bytes());
    header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
    entries.resize(usize::try_from(sectors * sector).ok()?, 0);
    let second = placed(&header, [last, 1, last - sectors])?;
    let first = placed(&header, [1, last, 2])?;
    mbr[446 + 12..462].copy_from_slice(&u32::try_from(last).unwrap_or(u32::MAX).to_le_bytes());
    bounds(vec![
        ((last - sectors) * sector, entries.clone()),
        (last * sector, second),
        // The header and its entries lie side by side: one write.
        (sector, [first, entries].concat()),
        (0, mbr),
    ])
}

/// Gives a header for its place: its own sector, that of the other one, and its table's.
fn placed(header: &[u8], places: [u64; 3]) -> Option<Vec<u8>> {
    let mut header = header.to_vec();
    let length = usize::try_from(number_at::<4>(&header, 12)?).ok()?;
    for (at, place) in [24, 32, 72].into_iter().zip(places) {
        header[at..at + 8].copy_from_slice(&place.to_le_bytes());
    }
    header[16..20].fill(0);
    let sum = crc32(header.get(..length)?);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    Some(header)
}

fn in_mbr(disk: &Disk<'_>, mut mbr: Vec<u8>, at: usize) -> Option<Plan> {
    let entry = |index: usize| Some(446 + 16 * index).filter(|_| index < 4);
    let field = |mbr: &[u8], index, field| number_at::<4>(mbr, entry(index)? + field);
    let (start, count) = (field(&mbr, at, 8)?, field(&mbr, at, 12)?);
    let is_last = (0..4).all(|other| field(&mbr, other, 8).is_some_and(|other| other <= start));
    let end = (disk.size / ALIGNMENT * ALIGNMENT / disk.sector).min(u64::from(u32::MAX));
    let grown = end.saturating_sub(start).max(count);
    let mut writes = Vec::new();
    let mut length = count;
    if is_last && grown > count {
        length = grown;
        let own = entry(at)?;
        // "Beyond what cylinders, heads and sectors can tell."
        mbr[own + 5..own + 8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        mbr[own + 12..own + 16].copy_from_slice(&u32::try_from(grown).ok()?.to_le_bytes());
        writes.push((0, mbr));
    }
    Some(Plan { writes, start: start * disk.sector, length: length * disk.sector })
}

/// CRC-32 as in GPT: IEEE 802.3, bit by bit, for tables are short.
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A disk of two partitions of a MiB each, the table of which ends with the third MiB, in
    /// a file that has grown since.
    fn gpt(sector: u64, size: u64) -> Vec<u8> {
        let mut disk = vec![0; usize::try_from(size).unwrap()];
        let mut entries = vec![0; 128 * 128];
        for (entry, start) in entries.chunks_exact_mut(128).zip([MIB, 2 * MIB]) {
            entry[0] = 1;
            entry[32..40].copy_from_slice(&(start / sector).to_le_bytes());
            entry[40..48].copy_from_slice(&((start + MIB) / sector - 1).to_le_bytes());
        }
        let mut header = vec![0; usize::try_from(sector).unwrap()];
        header[..8].copy_from_slice(MAGIC);
        header[12] = 92;
        header[80] = 128;
        header[84] = 128;
        header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
        let header = placed(&header, [1, 4 * MIB / sector - 1, 2]).unwrap();
        put(&mut disk, sector, &header);
        put(&mut disk, 2 * sector, &entries);
        disk[450] = 0xee;
        disk
    }

    fn put(disk: &mut [u8], at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        disk[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn planned(disk: &[u8], sector: u64, index: u64) -> Option<Plan> {
        let read = |at: u64, length: u64| {
            let at = usize::try_from(at).ok()?;
            disk.get(at..at.checked_add(usize::try_from(length).ok()?)?).map(<[u8]>::to_vec)
        };
        plan(&Disk { size: disk.len() as u64, sector, read: &read }, index)
    }

    #[test]
    fn grows_a_gpt_and_survives_each_cut() {
        for sector in [512, 4096] {
            let mut disk = gpt(sector, 64 * MIB);
            let plan = planned(&disk, sector, 2).unwrap();
            assert_eq!((plan.start, plan.length), (2 * MIB, 61 * MIB));
            let again = Plan { writes: Vec::new(), start: plan.start, length: plan.length };
            for (at, bytes) in &plan.writes {
                // Half of it is written when the power fails: what is planned then is the same.
                put(&mut disk, *at, &bytes[..bytes.len() / 2]);
                let then = planned(&disk, sector, 2).unwrap();
                assert_eq!((then.start, then.length), (plan.start, plan.length));
                put(&mut disk, *at, bytes);
            }
            assert_eq!(planned(&disk, sector, 2).unwrap(), again);
            let last = 64 * MIB / sector - 1;
            let read = |at: u64, length: u64| {
                let at = usize::try_from(at).unwrap();
                Some(disk[at..at + usize::try_from(length).unwrap()].to_vec())
            };
            let whole = Disk { size: 64 * MIB, sector, read: &read };
            let (first, second) = (table(&whole, 1).unwrap(), table(&whole, last).unwrap());
            assert_eq!(first.1, second.1);
            // One that another partition stands behind stays as it is.
            assert_eq!(planned(&disk, sector, 1).unwrap().length, MIB);
            // A first table that was torn comes back from the second.
            put(&mut disk, sector + 88, &[1]);
            let mended = planned(&disk, sector, 2).unwrap();
            assert_eq!((mended.length, mended.writes.len()), (61 * MIB, 4));
        }
    }

    #[test]
    fn grows_an_mbr() {
        let mut disk = vec![0; 64 << 20];
        disk[446 + 16 + 4] = 0x83;
        put(&mut disk, 446 + 16 + 8, &2048_u32.to_le_bytes());
        put(&mut disk, 446 + 16 + 12, &2048_u32.to_le_bytes());
        let plan = planned(&disk, 512, 2).unwrap();
        assert_eq!((plan.start, plan.length, plan.writes.len()), (MIB, 63 * MIB, 1));
        put(&mut disk, 0, &plan.writes[0].1);
        assert_eq!(planned(&disk, 512, 2).unwrap().writes, []);
        assert_eq!(planned(&disk, 512, 5), None);
    }

    #[test]
    fn damaged_tables_are_left_alone() {
        let sound = gpt(512, 8 << 20);
        for at in [512, 512 + 12, 512 + 80, 512 + 87, 1024 + 40] {
            let mut disk = sound.clone();
            disk[at] ^= 0xff;
            assert_eq!(planned(&disk, 512, 2), None, "{at}");
        }
        assert_eq!(planned(&sound, 512, 0), None);
        assert_eq!(planned(&sound, 512, u64::MAX), None);
        assert_eq!(planned(&sound[..600], 512, 2), None);
    }
}
