//! Compresses a disk unit by unit, several at once, in order.

use anyhow::Result;
use rayon::prelude::*;

use super::Extents;

/// How many units are in memory at once.
const BATCH: usize = 64;

/// Calls `work` with the bytes of each unit that is not a hole nor all zeros,
/// and `sink` with the unit's index and what came of it, in order. The last
/// unit is filled up with zeros.
pub(super) fn each<T: Send>(
    raw: &Extents,
    unit: u64,
    work: &(dyn Fn(Vec<u8>) -> Result<T> + Sync),
    sink: &mut dyn FnMut(u64, T) -> Result<()>,
) -> Result<()> {
    for batch in data_units(raw, unit).chunks(BATCH) {
        let made: Vec<Result<Option<T>>> = batch
            .par_iter()
            .map(|index| {
                let bytes = unit_bytes(raw, unit, *index)?;
                let zero = bytes.iter().all(|byte| *byte == 0);
                if zero { Ok(None) } else { work(bytes).map(Some) }
            })
            .collect();
        for (index, made) in batch.iter().zip(made) {
            if let Some(made) = made? {
                sink(*index, made)?;
            }
        }
    }
    Ok(())
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

fn unit_bytes(raw: &Extents, unit: u64, index: u64) -> Result<Vec<u8>> {
    let at = index * unit;
    let n = unit.min(raw.len() - at) as usize;
    let mut bytes = vec![0; unit as usize];
    raw.read_exact_at(&mut bytes[..n], at)?;
    Ok(bytes)
}
