//! Reads a streamOptimized disk through its footer, or its header where that
//! knows the directory, as QEMU writes it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use flate2::read::ZlibDecoder;

use super::{AT_END, MAGIC, SECTOR};
use crate::disk::Extents;
use crate::disk::number::{le32, le64};
use crate::fs::extents::Piece;

/// The most sectors of a disk: 2 TiB.
const LIMIT: u64 = 1 << 32;
/// No grain takes less of a file than this, in bytes.
const LEAST: u64 = 16;

/// Opens the disk in a file by unpacking it into `scratch`, an empty file.
pub(in crate::disk) fn open(file: &Extents, scratch: &Arc<File>) -> Result<Extents> {
    let mut header = file.bytes(0, 512)?;
    if le64(&header, 56) == AT_END {
        let at = file.len().checked_sub(1024).context("expected a whole VMDK")?;
        header = file.bytes(at, 512)?;
    }
    let (capacity, grain) = (le64(&header, 12), le64(&header, 20));
    let sane = le32(&header, 0) == MAGIC && le32(&header, 8) & 0x3_0000 == 0x3_0000;
    ensure!(sane, "expected a streamOptimized VMDK with its directory");
    ensure!(capacity <= LIMIT && (1..=2048).contains(&grain), "expected a VMDK of known shape");
    let per_table = u64::from(le32(&header, 44));
    ensure!((1..=65_536).contains(&per_table), "expected grain tables, got {per_table} entries");
    let tables = capacity.div_ceil(grain * per_table);
    let sector = |number: u64| number.checked_mul(SECTOR).context("finding a sector");
    let directory = file.bytes(sector(le64(&header, 56))?, tables as usize * 4)?;
    let mut disk = Extents::zeros(capacity * SECTOR);
    // Tables that several entries name could claim any number of grains.
    let mut left = file.len() / LEAST;
    for (index, entry) in directory.chunks_exact(4).enumerate() {
        let at = u64::from(le32(entry, 0)) * SECTOR;
        if at == 0 {
            continue;
        }
        let table = file.bytes(at, per_table as usize * 4)?;
        for (n, entry) in table.chunks_exact(4).enumerate() {
            let to = (index as u64 * per_table + n as u64) * grain * SECTOR;
            let at = u64::from(le32(entry, 0)) * SECTOR;
            if at > 1 && to < disk.len() {
                left = left.checked_sub(1).context("expected no more grains than fit the file")?;
                let bytes = unpack(file, at, grain * SECTOR)?;
                let len = (bytes.len() as u64).min(disk.len() - to);
                let unpacked = scratch.write_all_at(&bytes[..len as usize], to);
                unpacked.context("unpacking a disk")?;
                disk.put_piece(to, len, &Piece::Span { file: scratch.clone(), from: to });
            }
        }
    }
    Ok(disk)
}

fn unpack(file: &Extents, at: u64, limit: u64) -> Result<Vec<u8>> {
    let len = le32(&file.bytes(at, 12)?, 8);
    ensure!(u64::from(len) <= 2 * limit, "expected a grain of at most {limit} bytes, got {len}");
    let packed = file.bytes(at + 12, len as usize)?;
    let mut bytes = Vec::new();
    let unpacked = ZlibDecoder::new(&packed[..]).take(limit).read_to_end(&mut bytes);
    unpacked.context("unpacking a grain")?;
    Ok(bytes)
}
