//! Writes a disk with its clusters compressed, one behind the other; tables
//! and counts come behind them and the header last, in its place.

use std::io::SeekFrom;
use std::sync::Arc;

use anyhow::{Context, Result};
use flate2::{Compress, Compression as Level, FlushCompress, Status};

use super::{
    CLUSTER, COMPRESSED, COPIED, COUNTS, Compression, ENTRIES, Header, SECTORS_SHIFT, l1_entries,
    refcount_clusters, table,
};
use crate::disk::Extents;
use crate::disk::squeeze::{Press, Unit, is_dense};
use crate::store::{Out, Store};

struct Writer<'a> {
    out: &'a mut dyn Out,
    base: u64,
    at: u64,
    /// What refers to each cluster of the file.
    counts: Vec<u16>,
    /// The L2 entries of the whole disk, by the table they are in.
    l2: Vec<Option<Vec<u64>>>,
}

pub(super) fn write(
    raw: &Extents,
    compression: Compression,
    cache: Option<&Store>,
    out: &mut dyn Out,
) -> Result<()> {
    let l1 = l1_entries(raw.len())?;
    let base = out.stream_position().context("finding where a disk is written")?;
    let mut writer =
        Writer { out, base, at: CLUSTER, counts: vec![1], l2: vec![None; l1 as usize] };
    writer.seek(CLUSTER)?;
    let press = Press {
        unit: CLUSTER,
        name: format!("qcow2 {compression:?}"),
        work: Arc::new(move |bytes| compress(bytes, compression)),
        cache: cache.cloned(),
    };
    press.each(raw, &mut |index, unit| writer.store(index, unit))?;
    let zstd = matches!(compression, Compression::Zstd(_));
    writer.finish(raw.len(), zstd)
}

/// Compresses a cluster; `None` where it does not get smaller.
fn compress(bytes: &[u8], compression: Compression) -> Result<Option<Vec<u8>>> {
    let packed = match compression {
        Compression::Zstd(level) => {
            Some(zstd::bulk::compress(bytes, level).context("compressing a cluster")?)
        }
        Compression::Zlib(_) if is_dense(bytes)? => None,
        Compression::Zlib(level) => deflate(bytes, level)?,
    };
    Ok(packed.filter(|packed| packed.len() < bytes.len()))
}

/// Deflates without header, with the window of 4 KiB that QEMU reads with;
/// `None` where it does not get smaller.
fn deflate(bytes: &[u8], level: u32) -> Result<Option<Vec<u8>>> {
    let mut packer = Compress::new_with_window_bits(Level::new(level), false, 12);
    let mut packed = vec![0; bytes.len()];
    let status = packer.compress(bytes, &mut packed, FlushCompress::Finish);
    let status = status.context("compressing a cluster")?;
    packed.truncate(packer.total_out() as usize);
    Ok((status == Status::StreamEnd).then_some(packed))
}

impl Writer<'_> {
    fn seek(&mut self, at: u64) -> Result<()> {
        let to = SeekFrom::Start(self.base + at);
        self.out.seek(to).map(drop).context("leaving room in a disk")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.at;
        self.out.write_all(bytes).context("writing a disk")?;
        self.at += bytes.len() as u64;
        for cluster in at / CLUSTER..self.at.div_ceil(CLUSTER) {
            let index = cluster as usize;
            if index >= self.counts.len() {
                self.counts.resize(index + 1, 0);
            }
            self.counts[index] += 1;
        }
        Ok(at)
    }

    fn align(&mut self, unit: u64) -> Result<()> {
        self.at = self.at.next_multiple_of(unit);
        self.seek(self.at)
    }

    fn store(&mut self, cluster: u64, unit: Unit<'_>) -> Result<()> {
        let entry = match unit.packed {
            None => {
                self.align(CLUSTER)?;
                self.write(unit.plain)? | COPIED
            }
            Some(bytes) => {
                // A count has 16 bits: few enough fit into a cluster.
                let at = self.write(bytes)?;
                let more = (self.at - 1) / 512 - at / 512;
                at | (more << SECTORS_SHIFT) | COMPRESSED
            }
        };
        let table =
            self.l2[(cluster / ENTRIES) as usize].get_or_insert_with(|| vec![0; ENTRIES as usize]);
        table[(cluster % ENTRIES) as usize] = entry;
        Ok(())
    }

    fn finish(mut self, len: u64, zstd: bool) -> Result<()> {
        self.align(CLUSTER)?;
        let tables = std::mem::take(&mut self.l2);
        let mut l1 = Vec::with_capacity(tables.len());
        for entries in tables {
            l1.push(match entries {
                Some(entries) => self.write(&table(entries))? | COPIED,
                None => 0,
            });
        }
        let l1_entries = l1.len() as u64;
        let mut bytes = table(l1);
        bytes.resize(bytes.len().max(CLUSTER as usize), 0);
        let l1_at = self.write(&bytes)?;
        let (blocks, tables) = refcount_clusters(self.at / CLUSTER);
        let (refcounts_at, first_block) = (self.at, self.at + tables * CLUSTER);
        self.counts.resize(self.counts.len() + (blocks + tables) as usize, 1);
        let mut counts: Vec<u8> = self.counts.iter().flat_map(|n| n.to_be_bytes()).collect();
        counts.resize((blocks * COUNTS * 2) as usize, 0);
        self.out
            .write_all(&table((0..blocks).map(|block| first_block + block * CLUSTER)))
            .and_then(|()| self.out.write_all(&counts))
            .context("writing the counts of a disk")?;
        let end = self.base + first_block + blocks * CLUSTER;
        let refcount_clusters = tables;
        let header = Header { len, l1_entries, l1_at, refcounts_at, refcount_clusters, zstd };
        self.seek(0)?;
        self.out.write_all(&header.encode()).context("writing the header of a disk")?;
        self.out.seek(SeekFrom::Start(end)).map(drop).context("ending a disk")
    }
}
