//! Reads a disk: of any writer, without backing file, snapshots and
//! encryption.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};

use super::{COMPRESSED, MAGIC, OTHER_COMPRESSION};
use crate::disk::Extents;
use crate::disk::number::{be32, be64};

/// The most L1 entries that are read.
const L1_LIMIT: u32 = 1 << 20;
/// No cluster takes less of a file than this, in bytes.
const LEAST: u64 = 16;
/// Where in an entry an offset stands.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

struct Shape {
    cluster: u64,
    len: u64,
    zstd: bool,
    /// Where an entry of a compressed cluster tells its sectors.
    shift: u32,
}

/// Opens the disk in a file. What is compressed is unpacked into `scratch`,
/// an empty file.
pub(in crate::disk) fn open(file: &Extents, scratch: &std::sync::Arc<File>) -> Result<Extents> {
    let header = file.bytes(0, 72)?;
    let u32_at = |at: usize| be32(&header, at);
    let u64_at = |at: usize| be64(&header, at);
    ensure!(u32_at(0) == MAGIC, "expected a qcow2 file");
    let version = u32_at(4);
    let features = if version >= 3 { be64(&file.bytes(72, 8)?, 0) } else { 0 };
    ensure!(
        matches!(version, 2 | 3) && features & !OTHER_COMPRESSION == 0,
        "expected a clean qcow2 file of version 2 or 3, got {version} with features {features:x}"
    );
    ensure!(u64_at(8) == 0 && u32_at(32) == 0, "expected no backing file and no encryption");
    let bits = u32_at(20);
    ensure!((9..=21).contains(&bits), "expected clusters of 512 bytes to 2 MiB");
    let cluster = 1 << bits;
    let zstd = features & OTHER_COMPRESSION != 0 && file.bytes(104, 1)? == [1];
    let shape = Shape { cluster, len: u64_at(24), zstd, shift: 62 - (bits - 8) };
    let l1 = u32_at(36);
    ensure!(l1 <= L1_LIMIT, "expected at most {L1_LIMIT} tables, got {l1}");
    let l1_table = file.bytes(u64_at(40), l1 as usize * 8).context("reading the first table")?;
    let mut disk = Extents::zeros(shape.len);
    // Tables that several entries name could claim any number of clusters.
    let mut left = file.len() / LEAST;
    for (index, entry) in l1_table.chunks_exact(8).enumerate() {
        let at = be64(entry, 0) & OFFSET;
        if at != 0 {
            let table = file.bytes(at, shape.cluster as usize).context("reading a table")?;
            let first = index as u64 * (shape.cluster / 8);
            for (n, entry) in table.chunks_exact(8).enumerate().filter(|(_, e)| **e != [0; 8]) {
                left =
                    left.checked_sub(1).context("expected no more clusters than fit the file")?;
                shape.enter(&mut disk, file, scratch, first + n as u64, be64(entry, 0))?;
            }
        }
    }
    Ok(disk)
}

impl Shape {
    fn enter(
        &self,
        disk: &mut Extents,
        file: &Extents,
        scratch: &std::sync::Arc<File>,
        index: u64,
        entry: u64,
    ) -> Result<()> {
        let to = index.checked_mul(self.cluster).context("adding up clusters")?;
        if entry & (OFFSET | COMPRESSED) == 0 || to >= self.len {
            return Ok(());
        }
        let len = self.cluster.min(self.len - to);
        if entry & COMPRESSED == 0 {
            if entry & 1 == 0 {
                let at = entry & OFFSET;
                // The last cluster of a file may be cut short.
                let end = (at + len).min(file.len());
                ensure!(at <= end, "expected a cluster within the file");
                disk.put(to, &file.slice(at..end)?);
            }
            return Ok(());
        }
        let at = entry & ((1 << self.shift) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> self.shift;
        let end = ((at & !511) + (sectors + 1) * 512).min(file.len());
        ensure!(at < end, "expected a compressed cluster within the file");
        let bytes = self.unpack(&file.bytes(at, (end - at) as usize)?)?;
        scratch.write_all_at(&bytes[..len as usize], to).context("unpacking a disk")?;
        let piece = crate::fs::extents::Piece::Span { file: scratch.clone(), from: to };
        disk.put_piece(to, len, &piece);
        Ok(())
    }

    fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = self.cluster;
        if self.zstd {
            let reader = zstd::stream::read::Decoder::new(packed).context("reading a cluster")?;
            let read = reader.single_frame().take(limit).read_to_end(&mut bytes);
            read.context("unpacking a cluster")?;
        } else {
            let reader = flate2::read::DeflateDecoder::new(packed);
            reader.take(limit).read_to_end(&mut bytes).context("unpacking a cluster")?;
        }
        if bytes.len() as u64 != self.cluster {
            bail!("expected a cluster of {} bytes, got {}", self.cluster, bytes.len());
        }
        Ok(bytes)
    }
}
