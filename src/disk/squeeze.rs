//! Compresses a disk unit by unit, on all processors, in order.
//!
//! Units are compressed in batches, and with a store at hand each batch is kept
//! there by what was in it: of a disk that changed in one place, the rest is
//! not compressed again.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::Extents;
use crate::fs::ordered::Ordered;
use crate::oci::{Digest, Hasher};
use crate::store::Store;

/// How many bytes of the disk a batch is made of.
const BATCH: u64 = 2 << 20;
/// What saves less than one part in so many is not worth the time.
const DENSE: usize = 64;
/// Stands for a unit of zeros in a kept batch.
const ZEROS: u32 = 0;
/// Stands for a unit that is stored as it is.
const PLAIN: u32 = u32::MAX;

/// Compresses a unit; `None` where it is to be stored as it is.
type Work = dyn Fn(&[u8]) -> Result<Option<Vec<u8>>> + Send + Sync;

/// How a disk is compressed.
#[derive(Clone)]
pub(super) struct Press {
    /// Length of a unit in bytes, a part of 2 MiB.
    pub(super) unit: u64,
    /// Names all that a compressed unit depends on but its bytes.
    pub(super) name: String,
    pub(super) work: Arc<Work>,
    /// Where compressed batches are kept.
    pub(super) cache: Option<Store>,
}

impl fmt::Debug for Press {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Press").field("unit", &self.unit).field("name", &self.name).finish()
    }
}

/// A unit that is not all zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit<'a> {
    /// Its bytes.
    pub(super) plain: &'a [u8],
    /// What it was compressed to, unless it is to be stored as it is.
    pub(super) packed: Option<&'a [u8]>,
}

/// Some units, compressed.
struct Batch {
    first: u64,
    plain: Vec<u8>,
    /// For each unit what stands for it: a length, [`ZEROS`], or [`PLAIN`].
    units: Vec<u32>,
    packed: Vec<u8>,
}

impl Press {
    /// Calls `sink` with the index of each unit that is not a hole nor all
    /// zeros and with what it is compressed to, in order. The last unit is
    /// filled up with zeros.
    pub(super) fn each(
        &self,
        raw: &Extents,
        sink: &mut dyn FnMut(u64, Unit<'_>) -> Result<()>,
    ) -> Result<()> {
        let raw = Arc::new(raw.clone());
        let mut jobs = Ordered::new(2 * BATCH as usize);
        for index in batches(&raw) {
            let (press, raw) = (self.clone(), Arc::clone(&raw));
            let done = jobs.push(move || press.batch(&raw, index));
            done.map_or(Ok(()), |done| self.give(&done?, sink))?;
        }
        while let Some(done) = jobs.next() {
            self.give(&done?, sink)?;
        }
        Ok(())
    }

    fn give(&self, batch: &Batch, sink: &mut dyn FnMut(u64, Unit<'_>) -> Result<()>) -> Result<()> {
        let mut at = 0;
        let bytes = batch.plain.chunks(self.unit as usize);
        for ((index, len), plain) in (batch.first..).zip(&batch.units).zip(bytes) {
            match *len {
                ZEROS => {}
                PLAIN => sink(index, Unit { plain, packed: None })?,
                len => {
                    let end = at + len as usize;
                    sink(index, Unit { plain, packed: Some(&batch.packed[at..end]) })?;
                    at = end;
                }
            }
        }
        Ok(())
    }

    fn batch(&self, raw: &Extents, index: u64) -> Result<Batch> {
        let at = index * BATCH;
        let len = (raw.len() - at).min(BATCH);
        let mut plain = vec![0; len.next_multiple_of(self.unit) as usize];
        raw.read_exact_at(&mut plain[..len as usize], at)?;
        let units = Vec::with_capacity(plain.len() / self.unit as usize);
        let mut batch = Batch { first: at / self.unit, plain, units, packed: Vec::new() };
        let Some(store) = &self.cache else {
            self.pack(&mut batch)?;
            return Ok(batch);
        };
        let key = self.key(&batch.plain);
        // Another format may be at the same batch: it is compressed once.
        let kept = store.derived(KIND, &key, |out| {
            self.pack(&mut batch)?;
            out.write_all(&batch.encode()).context("keeping part of a disk")
        })?;
        if batch.units.is_empty() && !batch.take(kept, self.unit) {
            self.pack(&mut batch)?;
            store.keep_derived(KIND, &key, &batch.encode()).context("keeping part of a disk")?;
        }
        Ok(batch)
    }

    fn pack(&self, batch: &mut Batch) -> Result<()> {
        (batch.units, batch.packed) = (Vec::new(), Vec::new());
        for unit in batch.plain.chunks(self.unit as usize) {
            if unit.iter().all(|byte| *byte == 0) {
                batch.units.push(ZEROS);
            } else if let Some(packed) = (self.work)(unit)? {
                let len = u32::try_from(packed.len())?;
                ensure!(len != ZEROS && len != PLAIN, "expected a unit to become something");
                batch.units.push(len);
                batch.packed.extend(packed);
            } else {
                batch.units.push(PLAIN);
            }
        }
        Ok(())
    }

    fn key(&self, plain: &[u8]) -> Digest {
        let mut hasher = Hasher::new(io::sink());
        let fed = write!(hasher, "{} {} ", self.unit, self.name);
        fed.and_then(|()| hasher.write_all(plain)).expect("a sink takes all");
        hasher.finish().1
    }
}

thread_local! {
    static ESTIMATE: RefCell<Option<(zstd::bulk::Compressor<'static>, Vec<u8>)>> =
        const { RefCell::new(None) };
}

/// Says whether compressing bytes would save next to nothing, as initial roots
/// are compressed already. Zstandard tells by trying, many times faster than
/// deflate does.
pub(super) fn is_dense(bytes: &[u8]) -> Result<bool> {
    ESTIMATE.with_borrow_mut(|state| {
        let (compressor, room) = match state.take() {
            Some(known) => state.insert(known),
            None => state.insert((zstd::bulk::Compressor::new(1)?, Vec::new())),
        };
        room.clear();
        room.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        let len = compressor.compress_to_buffer(bytes, room).context("estimating a block")?;
        Ok(len >= bytes.len() - bytes.len() / DENSE)
    })
}

/// Names the kept batches, with a version.
const KIND: &str = "disk-1";

impl Batch {
    fn encode(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.units.iter().flat_map(|len| len.to_le_bytes()).collect();
        bytes.extend_from_slice(&self.packed);
        bytes
    }

    /// Takes the units from a kept batch; says whether they were there.
    fn take(&mut self, mut file: File, unit: u64) -> bool {
        let mut bytes = Vec::new();
        let count = self.plain.len() / unit as usize;
        if file.read_to_end(&mut bytes).is_err() || bytes.len() < 4 * count {
            return false;
        }
        let packed = bytes.split_off(4 * count);
        let numbers = bytes.chunks_exact(4).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]));
        let units: Vec<u32> = numbers.collect();
        let lengths = units.iter().filter(|len| **len != PLAIN).map(|len| *len as usize);
        if lengths.sum::<usize>() != packed.len() {
            return false;
        }
        (self.units, self.packed) = (units, packed);
        true
    }
}

/// Returns the indices of the batches that are not holes as a whole.
fn batches(raw: &Extents) -> Vec<u64> {
    data_units(raw, BATCH)
}

/// Returns the indices of the units that are not holes.
pub(super) fn data_units(raw: &Extents, unit: u64) -> Vec<u64> {
    let mut units: Vec<u64> = Vec::new();
    for (at, len, _) in raw.runs() {
        let first = units.last().map_or(0, |last| last + 1).max(at / unit);
        units.extend(first..(at + len).div_ceil(unit));
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sample::{noise, prose};

    fn press(cache: Option<Store>) -> Press {
        let work = |unit: &[u8]| {
            let packed = zstd::bulk::compress(unit, 1)?;
            Ok(Some(packed).filter(|packed| packed.len() < unit.len()))
        };
        Press { unit: 64 << 10, name: "test".to_owned(), work: Arc::new(work), cache }
    }

    fn plain(press: &Press, raw: &Extents) -> Vec<u8> {
        let mut all = vec![0; raw.len().next_multiple_of(press.unit) as usize];
        let mut last = None;
        let mut sink = |index: u64, unit: Unit<'_>| {
            assert!(last < Some(index));
            last = Some(index);
            let bytes = match unit.packed {
                Some(bytes) => zstd::bulk::decompress(bytes, press.unit as usize)?,
                None => unit.plain.to_vec(),
            };
            assert_eq!(bytes, unit.plain);
            let at = (index * press.unit) as usize;
            all[at..at + bytes.len()].copy_from_slice(&bytes);
            Ok(())
        };
        press.each(raw, &mut sink).unwrap();
        all
    }

    #[test]
    fn knows_what_is_compressed_already() {
        assert!(is_dense(&noise(1 << 16, 1)).unwrap());
        assert!(is_dense(&zstd::bulk::compress(&prose(1 << 18, 1), 3).unwrap()).unwrap());
        assert!(!is_dense(&prose(1 << 16, 1)).unwrap());
        assert!(!is_dense(&[0; 4096]).unwrap());
    }

    #[test]
    fn gives_all_units_in_order_from_the_store_too() {
        let mut raw = Extents::of_bytes(prose(5 << 20, 1));
        raw.grow(11 << 20);
        raw.push_bytes(noise((3 << 20) + 77, 2));
        let mut expected = vec![0; raw.len().next_multiple_of(64 << 10) as usize];
        raw.read_exact_at(&mut expected[..raw.len() as usize], 0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for cache in [None, Some(store.clone()), Some(store.clone())] {
            assert!(plain(&press(cache), &raw) == expected);
        }
        // What is damaged in the store is made again.
        for kept in std::fs::read_dir(dir.path().join("derived").join(KIND)).unwrap() {
            std::fs::write(kept.unwrap().path(), "short").unwrap();
        }
        assert!(plain(&press(Some(store)), &raw) == expected);
    }
}
