//! VHD, fixed and dynamic: the disk of Azure and older Hyper-V.
//!
//! Follows "Virtual Hard Disk Image Format Specification" 1.0; differencing
//! disks are left out. A reader that does not know the creator takes the size
//! from the geometry, so the creator is QEMU's `qem2`, which stands for an
//! exact size.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::number::{be32, be64};
use super::{ALIGNMENT, Extents, Guid, geometry, squeeze};

/// "conectix", what a footer begins with.
pub(super) const COOKIE: &[u8; 8] = b"conectix";
/// Size of a footer in bytes.
pub(super) const FOOTER: u64 = 512;
/// "cxsparse", what the header of a dynamic disk begins with.
const SPARSE_COOKIE: &[u8; 8] = b"cxsparse";
/// Size of a block of a dynamic disk: the default of the specification.
const BLOCK: u64 = 2 << 20;
/// Size of the bitmap before each block.
const BITMAP: u64 = BLOCK / 512 / 8;
/// The largest disk: 2040 GiB.
const LIMIT: u64 = 2040 << 30;
/// The creator that stands for an exact size.
const CREATOR: &[u8; 4] = b"qem2";
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;

/// Lays out a fixed disk: the bytes in whole MiB, then a footer.
pub fn fixed(raw: &Extents, id: Guid) -> Result<Extents> {
    let mut image = raw.clone();
    image.align(ALIGNMENT);
    let footer = footer(image.len(), FIXED, id)?;
    image.push_bytes(footer);
    Ok(image)
}

/// Lays out a dynamic disk: only blocks that are no holes are stored.
pub fn dynamic(raw: &Extents, id: Guid) -> Result<Extents> {
    let len = raw.len().next_multiple_of(ALIGNMENT);
    let footer = footer(len, DYNAMIC, id)?;
    let blocks = len.div_ceil(BLOCK);
    let mut table = vec![0xff; (blocks as usize * 4).next_multiple_of(512)];
    let mut image = Extents::default();
    image.push_bytes(footer.clone());
    image.push_bytes(sparse_header(blocks));
    let table_at = image.len();
    image.grow(table_at + table.len() as u64);
    let bitmap: Arc<[u8]> = vec![0xff; BITMAP as usize].into();
    for block in squeeze::data_units(raw, BLOCK) {
        let at = image.len();
        let sector = (at / 512) as u32;
        table[block as usize * 4..block as usize * 4 + 4].copy_from_slice(&sector.to_be_bytes());
        image.push_bytes(bitmap.clone());
        let from = block * BLOCK;
        image.push(&raw.slice(from..(from + BLOCK).min(raw.len()))?);
        image.grow(at + BITMAP + BLOCK);
    }
    image.put_bytes(table_at, table);
    image.push_bytes(footer);
    Ok(image)
}

fn footer(len: u64, kind: u32, id: Guid) -> Result<Vec<u8>> {
    ensure!(len <= LIMIT, "expected a VHD of at most 2040 GiB, got {len} bytes");
    let chs = geometry::of_vhd(len / 512);
    let mut out = vec![0; FOOTER as usize];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, COOKIE);
    // "Reserved: this bit must always be set to 1."
    put(8, &2_u32.to_be_bytes());
    put(12, &0x1_0000_u32.to_be_bytes());
    let next = if kind == FIXED { u64::MAX } else { FOOTER };
    put(16, &next.to_be_bytes());
    // Bytes 24 to 27 are the time of creation, since 2000: always the same.
    put(28, CREATOR);
    put(32, &0x5_0003_u32.to_be_bytes());
    put(36, b"Wi2k");
    put(40, &len.to_be_bytes());
    put(48, &len.to_be_bytes());
    put(56, &(chs.cylinders as u16).to_be_bytes());
    put(58, &[chs.heads as u8, chs.sectors as u8]);
    put(60, &kind.to_be_bytes());
    put(68, &id.bytes());
    let sum = checksum(&out);
    out[64..68].copy_from_slice(&sum.to_be_bytes());
    Ok(out)
}

fn sparse_header(blocks: u64) -> Vec<u8> {
    let mut out = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, SPARSE_COOKIE);
    put(8, &u64::MAX.to_be_bytes());
    put(16, &(FOOTER + 1024).to_be_bytes());
    put(24, &0x1_0000_u32.to_be_bytes());
    put(28, &(blocks as u32).to_be_bytes());
    put(32, &(BLOCK as u32).to_be_bytes());
    let sum = checksum(&out);
    out[36..40].copy_from_slice(&sum.to_be_bytes());
    out
}

/// "A one's complement of the sum of all the bytes without the checksum."
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(0, |sum: u32, byte| sum.wrapping_add(u32::from(*byte)))
}

/// Opens the disk in a file that ends in a footer.
pub(super) fn open(file: &Extents) -> Result<Extents> {
    let end = file.len().saturating_sub(FOOTER);
    let footer = file.bytes(end, FOOTER as usize)?;
    ensure!(footer[..8] == *COOKIE, "expected a footer of VHD at the end");
    let (len, kind) = (be64(&footer, 48), be32(&footer, 60));
    ensure!(len <= LIMIT, "expected a VHD of at most 2040 GiB, got {len} bytes");
    match kind {
        FIXED => file.slice(0..len.min(end)),
        DYNAMIC => open_dynamic(file, &footer, len),
        other => bail!("expected a fixed or dynamic VHD, got type {other}"),
    }
}

fn open_dynamic(file: &Extents, footer: &[u8], len: u64) -> Result<Extents> {
    let header = file.bytes(be64(footer, 16), 1024)?;
    ensure!(header[..8] == *SPARSE_COOKIE, "expected the header of a dynamic VHD");
    let (table_at, blocks) = (be64(&header, 16), u64::from(be32(&header, 28)));
    let block = u64::from(be32(&header, 32));
    ensure!(block.is_power_of_two() && block >= 4096, "expected a size of blocks, got {block}");
    ensure!(blocks <= len.div_ceil(block) + 1, "expected blocks within the disk, got {blocks}");
    let bitmap = (block / 512 / 8).next_multiple_of(512);
    let table = file.bytes(table_at, blocks as usize * 4)?;
    let mut disk = Extents::zeros(len);
    for (index, entry) in table.chunks_exact(4).enumerate() {
        let (sector, to) = (be32(entry, 0), index as u64 * block);
        if sector != u32::MAX && to < len {
            let from = u64::from(sector) * 512 + bitmap;
            disk.put(to, &file.slice(from..from + block.min(len - to))?);
        }
    }
    Ok(disk)
}
