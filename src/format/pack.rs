//! Disks under xz, as clouds take them: block by block, several at once, the
//! same bytes however many.
//!
//! Follows "The .xz File Format" 1.2 (streams one behind the other).

use std::io::Write;

use anyhow::{Context, Result};
use rayon::prelude::*;

use crate::fs::Extents;

/// How much is compressed by itself, in bytes.
const BLOCK: u64 = 4 << 20;
/// How many blocks are in memory at once.
const BATCH: usize = 16;
/// Preset of xz: what is on a disk is compressed already, most of it, and the
/// higher ones take ten times the memory.
const XZ: u32 = 0;

/// Writes an image under xz; blocks of zeros are compressed once.
pub(super) fn xz(image: &Extents, out: &mut dyn Write) -> Result<()> {
    let blocks: Vec<u64> = (0..image.len()).step_by(BLOCK as usize).collect();
    let zeros = stream(&vec![0; BLOCK as usize])?;
    for batch in blocks.chunks(BATCH) {
        let packed: Vec<Result<Option<Vec<u8>>>> =
            batch.par_iter().map(|at| block(image, *at)).collect();
        for packed in packed {
            out.write_all(packed?.as_ref().unwrap_or(&zeros)).context("writing xz")?;
        }
    }
    Ok(())
}

/// Compresses the block at an offset; `None` where it is a whole one of zeros.
fn block(image: &Extents, at: u64) -> Result<Option<Vec<u8>>> {
    let len = BLOCK.min(image.len() - at);
    if len == BLOCK && image.is_hole(at..at + len) {
        return Ok(None);
    }
    let bytes = image.bytes(at, len as usize)?;
    let zero = len == BLOCK && bytes.iter().all(|byte| *byte == 0);
    if zero { Ok(None) } else { stream(&bytes).map(Some) }
}

fn stream(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), XZ);
    encoder.write_all(bytes).context("compressing a disk")?;
    encoder.finish().context("compressing a disk")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn sample(len: u64) -> Extents {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let noise: Vec<u8> = (0..700_000).map(|_| next()).collect();
        let mut image = Extents::zeros(len);
        image.put_bytes(0, noise.clone());
        image.put_bytes(len / 2 - 13, b"text ".repeat(50_000));
        image.put_bytes(len - 700_000, noise);
        image
    }

    #[test]
    fn unpacks_to_what_it_was() {
        let unpack = |bytes: &[u8]| {
            let mut plain = Vec::new();
            // A reader of single streams would end early.
            let mut reader = liblzma::read::XzDecoder::new_multi_decoder(bytes);
            reader.read_to_end(&mut plain).unwrap();
            plain
        };
        for len in [800_000, BLOCK, 3 * BLOCK + 5, 9 * BLOCK] {
            let image = sample(len);
            let plain = image.bytes(0, len as usize).unwrap();
            let mut packed = Vec::new();
            xz(&image, &mut packed).unwrap();
            assert!(unpack(&packed) == plain, "{len}");
            let mut again = Vec::new();
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            one.install(|| xz(&Extents::of_bytes(plain.clone()), &mut again)).unwrap();
            assert!(packed == again, "{len}");
        }
    }
}
