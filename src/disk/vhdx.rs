//! VHDX: the disk of Hyper-V.
//!
//! Written dynamic, with an empty log, so that nothing is to be replayed.
//! Follows "[MS-VHDX] Virtual Hard Disk v2 File Format"; differencing disks
//! are left out.

use anyhow::{Context, Result, bail, ensure};

use super::crc::crc32c;
use super::number::{le32, le64};
use super::{Extents, Guid, squeeze};

/// "vhdxfile", what every VHDX file begins with.
pub(super) const MAGIC: &[u8; 8] = b"vhdxfile";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Size of a payload block: the least, for small files.
const BLOCK: u64 = MIB;
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const REGIONS: [u64; 2] = [192 * KIB, 256 * KIB];
const LOG: u64 = MIB;
const METADATA: u64 = 2 * MIB;
const BAT: u64 = 3 * MIB;
/// "PAYLOAD_BLOCK_FULLY_PRESENT".
const PRESENT: u64 = 6;
/// The largest disk: 64 TiB.
const LIMIT: u64 = 64 << 40;

const BAT_REGION: Guid = Guid::new(0x2dc27766_f623_4200_9d64_115e9bfd4a08);
const METADATA_REGION: Guid = Guid::new(0x8b7ca206_4790_4b9a_b8fe_575f050f886e);
const FILE_PARAMETERS: Guid = Guid::new(0xcaa16737_fa36_4d43_b3b6_33f0aa44e76b);
const DISK_SIZE: Guid = Guid::new(0x2fa54224_cd1b_4876_b211_5dbed83bf4b8);
const DISK_ID: Guid = Guid::new(0xbeca12ab_b2e6_4523_93ef_c309e000c746);
const LOGICAL_SECTOR: Guid = Guid::new(0x8141bf1d_a96f_4709_ba47_f233a8faab5f);
const PHYSICAL_SECTOR: Guid = Guid::new(0xcda348c7_445d_4471_9cc9_e9885251c556);

/// Lays out a disk of sectors of 512 or 4096 bytes.
pub fn plan(raw: &Extents, sector: u32, id: Guid) -> Result<Extents> {
    let len = raw.len().next_multiple_of(u64::from(sector));
    ensure!(matches!(sector, 512 | 4096), "expected sectors of 512 or 4096 bytes, got {sector}");
    ensure!(len <= LIMIT, "expected a VHDX of at most 64 TiB, got {len} bytes");
    let ratio = chunk_ratio(sector, BLOCK);
    let blocks = len.div_ceil(BLOCK);
    // After each `ratio` blocks stands the entry of a bitmap, here unused.
    let entries = blocks + blocks.saturating_sub(1) / ratio;
    let table_len = (entries * 8).next_multiple_of(MIB).max(MIB);
    let mut table = vec![0; table_len as usize];
    let mut image = Extents::zeros(BAT + table_len);
    for block in squeeze::data_units(raw, BLOCK) {
        let (at, from) = (image.len(), block * BLOCK);
        image.push(&raw.slice(from..(from + BLOCK).min(raw.len()))?);
        image.align(MIB);
        let entry = (block + block / ratio) as usize * 8;
        table[entry..entry + 8].copy_from_slice(&(at | PRESENT).to_le_bytes());
    }
    image.put_bytes(BAT, table);
    image.put_bytes(0, identifier());
    for (sequence, at) in HEADERS.into_iter().enumerate() {
        image.put_bytes(at, header(sequence as u64, id));
    }
    for at in REGIONS {
        image.put_bytes(at, regions(table_len));
    }
    image.put_bytes(METADATA, metadata(len, sector, id));
    Ok(image)
}

/// "Chunk Ratio = 2^23 * LogicalSectorSize / BlockSize".
fn chunk_ratio(sector: u32, block: u64) -> u64 {
    (1 << 23) * u64::from(sector) / block
}

fn identifier() -> Vec<u8> {
    let creator = "moby".encode_utf16().flat_map(u16::to_le_bytes);
    MAGIC.iter().copied().chain(creator).collect()
}

fn header(sequence: u64, id: Guid) -> Vec<u8> {
    let mut out = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"head");
    put(8, &sequence.to_le_bytes());
    put(16, &Guid::derive(&id.bytes(), "file").mixed());
    put(32, &Guid::derive(&id.bytes(), "data").mixed());
    // Bytes 48 to 63, the log's GUID: zero, for there is nothing in it.
    put(66, &1_u16.to_le_bytes());
    put(68, &(MIB as u32).to_le_bytes());
    put(72, &LOG.to_le_bytes());
    sealed(out)
}

fn regions(table_len: u64) -> Vec<u8> {
    let mut out = vec![0; 64 * KIB as usize];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"regi");
    put(8, &2_u32.to_le_bytes());
    let both = [(BAT_REGION, BAT, table_len), (METADATA_REGION, METADATA, MIB)];
    for (index, (kind, at, len)) in both.into_iter().enumerate() {
        put(16 + 32 * index, &kind.mixed());
        put(32 + 32 * index, &at.to_le_bytes());
        put(40 + 32 * index, &(len as u32).to_le_bytes());
        put(44 + 32 * index, &1_u32.to_le_bytes());
    }
    sealed(out)
}

fn metadata(len: u64, sector: u32, id: Guid) -> Vec<u8> {
    // "IsVirtualDisk" and "IsRequired"; the first item is the file's.
    const DISK: u32 = 6;
    const FILE: u32 = 4;
    let parameters = [(BLOCK as u32).to_le_bytes(), 0_u32.to_le_bytes()].concat();
    let items = [
        (FILE_PARAMETERS, FILE, parameters),
        (DISK_SIZE, DISK, len.to_le_bytes().to_vec()),
        (DISK_ID, DISK, id.mixed().to_vec()),
        (LOGICAL_SECTOR, DISK, sector.to_le_bytes().to_vec()),
        (PHYSICAL_SECTOR, DISK, 4096_u32.to_le_bytes().to_vec()),
    ];
    let mut out = vec![0; 64 * KIB as usize];
    out[..8].copy_from_slice(b"metadata");
    out[10..12].copy_from_slice(&(items.len() as u16).to_le_bytes());
    for (index, (kind, flags, value)) in items.into_iter().enumerate() {
        let at = out.len() as u32;
        let entry = &mut out[32 + 32 * index..64 + 32 * index];
        entry[..16].copy_from_slice(&kind.mixed());
        entry[16..20].copy_from_slice(&at.to_le_bytes());
        entry[20..24].copy_from_slice(&(value.len() as u32).to_le_bytes());
        entry[24..28].copy_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&value);
    }
    out
}

/// Enters the checksum of a structure at its byte 4.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Opens the disk in a file.
pub(super) fn open(file: &Extents) -> Result<Extents> {
    for at in HEADERS {
        let header = file.bytes(at, 4096)?;
        let replay = header[..4] == *b"head" && header[48..64] != [0; 16];
        ensure!(!replay, "expected a VHDX that was closed cleanly, got one with a log to replay");
    }
    let regions = file.bytes(REGIONS[0], 64 * KIB as usize)?;
    let region = |kind: Guid| {
        let count = le32(&regions, 8).min(2047) as usize;
        let entries = regions[16..].chunks_exact(32).take(count);
        let mut found = entries.filter(|entry| entry[..16] == kind.mixed());
        found.next().map(|entry| le64(entry, 16)).context("expected a region")
    };
    ensure!(regions[..4] == *b"regi", "expected a table of regions");
    let (bat, metadata) = (region(BAT_REGION)?, region(METADATA_REGION)?);
    let item = |kind: Guid, len: usize| -> Result<Vec<u8>> {
        let table = file.bytes(metadata, 64 * KIB as usize)?;
        let count = usize::from(u16::from_le_bytes([table[10], table[11]])).min(2047);
        let mut entries = table[32..].chunks_exact(32).take(count);
        let entry = entries.find(|entry| entry[..16] == kind.mixed());
        let at = le32(entry.context("expected an item of metadata")?, 16);
        file.bytes(metadata + u64::from(at), len)
    };
    let parameters = item(FILE_PARAMETERS, 8)?;
    let len = le64(&item(DISK_SIZE, 8)?, 0);
    let sector = le32(&item(LOGICAL_SECTOR, 4)?, 0);
    let block = u64::from(le32(&parameters, 0));
    let sane = matches!(sector, 512 | 4096) && block.is_power_of_two();
    ensure!(sane && block >= MIB && len <= LIMIT, "expected a VHDX of known shape");
    ensure!(le32(&parameters, 4) & 2 == 0, "expected a VHDX that stands alone, got a difference");
    read_blocks(file, bat, len, block, chunk_ratio(sector, block).max(1))
}

fn read_blocks(file: &Extents, bat: u64, len: u64, block: u64, ratio: u64) -> Result<Extents> {
    let blocks = len.div_ceil(block);
    let entries = blocks + blocks.saturating_sub(1) / ratio;
    // Bounded by the largest disk: a table of 512 MiB, and by the file.
    let table = file.bytes(bat, (entries * 8) as usize).context("reading the table of blocks")?;
    let mut disk = Extents::zeros(len);
    for index in 0..blocks {
        let entry = le64(&table, (index + index / ratio) as usize * 8);
        match entry & 7 {
            PRESENT => {
                let (from, to) = (entry >> 20 << 20, index * block);
                let n = block.min(len - to);
                let end = from.checked_add(n).context("adding up blocks")?;
                disk.put(to, &file.slice(from..end)?);
            }
            7 => bail!("expected a VHDX that stands alone, got a difference"),
            _ => {}
        }
    }
    Ok(disk)
}
