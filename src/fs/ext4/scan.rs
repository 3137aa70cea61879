//! Finds the holes of all files: whole blocks of zeros are not stored.
//!
//! This is the one pass over contents before the layout; holes that the file
//! system below knows of are not even read.

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::BLOCK;
use crate::fs::hole::next_data;
use crate::store;
use crate::tree::{Content, Id, Kind, Tree};

/// How much is read at once, in bytes.
const CHUNK: usize = 256 * 1024;
/// The longest file that 32-bit block numbers hold, in bytes.
const LEN_MAX: u64 = (u32::MAX as u64) * BLOCK as u64;

/// Runs of blocks that hold more than zeros: first block and length. `None`
/// is a file without any hole.
pub(super) type Runs = Option<Box<[(u32, u32)]>>;

/// Returns the runs of all files, by the index of their inode.
pub(super) fn maps(tree: &Tree) -> Result<Vec<Runs>> {
    debug_assert!(store::may_be_lent(), "a maker that waits for jobs works in parallel");
    let mut files: Vec<(Id, &Content)> = Vec::new();
    let mut met = vec![false; tree.capacity()];
    for found in tree.walk() {
        if let Kind::File(content) = &tree.get(found.id).kind
            && !std::mem::replace(&mut met[found.id.index()], true)
            && !content.is_empty()
        {
            files.push((found.id, content));
        }
    }
    let scanned: Result<Vec<(Id, Runs)>> = files
        .into_par_iter()
        .map_init(
            || vec![0; CHUNK],
            |buf, (id, content)| {
                let runs = runs(content, buf);
                runs.map(|runs| (id, runs)).with_context(|| format!("reading {}", path(tree, id)))
            },
        )
        .collect();
    let mut maps = vec![None; tree.capacity()];
    for (id, runs) in scanned? {
        maps[id.index()] = runs;
    }
    Ok(maps)
}

/// Returns the first path of an inode, for errors.
pub(super) fn path(tree: &Tree, id: Id) -> String {
    let found = tree.walk().find(|found| found.id == id).map(|found| found.path);
    format!("/{}", String::from_utf8_lossy(&found.unwrap_or_default()))
}

fn runs(content: &Content, buf: &mut [u8]) -> Result<Runs> {
    anyhow::ensure!(
        content.len() <= LEN_MAX,
        "expected at most {LEN_MAX} bytes, which is what ext4 holds, got {}",
        content.len()
    );
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut at = 0;
    while let Some(from) = next_data(content, at, BLOCK) {
        let n = (content.len() - from).min(buf.len() as u64) as usize;
        content.read_exact_at(&mut buf[..n], from)?;
        for (nth, block) in buf[..n].chunks(BLOCK).enumerate() {
            if !is_zero(block) {
                // Checked above to fit.
                push(&mut runs, (from / BLOCK as u64) as u32 + nth as u32);
            }
        }
        at = from + n as u64;
    }
    let dense =
        matches!(*runs, [(0, len)] if u64::from(len) == content.len().div_ceil(BLOCK as u64));
    Ok(if dense { None } else { Some(runs.into()) })
}

fn push(runs: &mut Vec<(u32, u32)>, block: u32) {
    match runs.last_mut() {
        Some((start, len)) if *start + *len == block => *len += 1,
        _ => runs.push((block, 1)),
    }
}

fn is_zero(block: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    block == &ZEROS[..block.len()]
}
