//! Reads partition tables, of any writer.

use std::fmt;
use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::crc::crc32;
use super::number::{le32, le64};
use super::{Extents, Guid, mbr};

/// The most entries of a GPT that are read.
const ENTRIES_LIMIT: u32 = 1024;

/// A partition found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Where it lies, in bytes.
    pub range: Range<u64>,
    /// Its type: a GUID, or two digits of an MBR.
    pub kind: String,
    /// Its own GUID, in a GPT.
    pub id: Option<Guid>,
    /// Its name, empty in an MBR.
    pub name: String,
    /// Its attributes; of an MBR only [`super::gpt::LEGACY_BOOT`] where it is
    /// active.
    pub attributes: u64,
}

/// A partition table found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Whether it is a GPT, else an MBR.
    pub gpt: bool,
    /// Size of a sector in bytes.
    pub sector: u32,
    /// The disk's GUID, or its number.
    pub id: String,
    /// The partitions in order.
    pub partitions: Vec<Partition>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.gpt { "gpt" } else { "mbr" };
        writeln!(f, "{kind} sector={} id={}", self.sector, self.id)?;
        for (index, found) in self.partitions.iter().enumerate() {
            let id = found.id.map_or_else(String::new, |id| format!(" id={id}"));
            writeln!(
                f,
                "{} {}..{} kind={}{id} attributes={:x} {}",
                index + 1,
                found.range.start,
                found.range.end,
                found.kind,
                found.attributes,
                found.name
            )?;
        }
        Ok(())
    }
}

/// Reads the partition table of a disk, `None` where there is none.
pub fn read(disk: &Extents) -> Result<Option<Table>> {
    for sector in [512, 4096] {
        if disk.len() >= 2 * u64::from(sector) && disk.bytes(sector.into(), 8)? == *b"EFI PART" {
            return read_gpt(disk, sector).context("reading a GUID partition table").map(Some);
        }
    }
    if disk.len() < 512 {
        return Ok(None);
    }
    let sector = disk.bytes(0, 512)?;
    Ok(if sector[510..] == [0x55, 0xaa] { read_mbr(disk, &sector) } else { None })
}

fn read_gpt(disk: &Extents, sector: u32) -> Result<Table> {
    let header = disk.bytes(sector.into(), 512)?;
    let u32_at = |at: usize| le32(&header, at);
    let mut plain = header[..92].to_vec();
    plain[16..20].fill(0);
    ensure!(u32_at(12) == 92 && crc32(&plain) == u32_at(16), "expected a header with its checksum");
    let (count, size) = (u32_at(80), u32_at(84));
    ensure!(
        count <= ENTRIES_LIMIT && size == 128,
        "expected at most {ENTRIES_LIMIT} entries of 128 bytes, got {count} of {size}"
    );
    let at = le64(&header, 72).checked_mul(sector.into()).context("finding the entries")?;
    let entries = disk.bytes(at, count as usize * 128)?;
    ensure!(crc32(&entries) == u32_at(88), "expected entries with their checksum");
    let mut partitions = Vec::new();
    for entry in entries.chunks_exact(128).filter(|entry| entry[..16] != [0; 16]) {
        let bytes = |lba: u64| lba.checked_mul(sector.into());
        let range = bytes(le64(entry, 32)).zip(le64(entry, 40).checked_add(1).and_then(bytes));
        let (start, end) = range
            .filter(|(start, end)| start < end && *end <= disk.len())
            .context("expected a partition within the disk")?;
        let units = entry[56..].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        partitions.push(Partition {
            range: start..end,
            kind: guid(entry, 0).to_string(),
            id: Some(guid(entry, 16)),
            name: String::from_utf16_lossy(&name),
            attributes: le64(entry, 48),
        });
    }
    Ok(Table { gpt: true, sector, id: guid(&header, 56).to_string(), partitions })
}

fn read_mbr(disk: &Extents, sector: &[u8]) -> Option<Table> {
    let mut partitions = Vec::new();
    for entry in sector[446..510].chunks_exact(16) {
        if !matches!(entry[0], 0 | 0x80) {
            // The code of a boot sector, not a table.
            return None;
        }
        let (first, count) = (u64::from(le32(entry, 8)), u64::from(le32(entry, 12)));
        let range = first * 512..(first + count) * 512;
        if entry[4] == 0 || count == 0 || entry[4] == mbr::PROTECTIVE || range.end > disk.len() {
            continue;
        }
        partitions.push(Partition {
            range,
            kind: format!("{:02x}", entry[4]),
            id: None,
            name: String::new(),
            attributes: if entry[0] == 0x80 { super::gpt::LEGACY_BOOT } else { 0 },
        });
    }
    let id = format!("{:08x}", le32(sector, 440));
    (!partitions.is_empty()).then_some(Table { gpt: false, sector: 512, id, partitions })
}

fn guid(bytes: &[u8], at: usize) -> Guid {
    Guid::of_mixed(bytes[at..at + 16].try_into().expect("16 bytes"))
}
