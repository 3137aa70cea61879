//! Disks under gzip and xz, as clouds take them: block by block, several at
//! once, the same bytes however many.
//!
//! Follows RFC 1952 (one member, whose blocks of deflate are ended by a sync
//! flush each, as RFC 1951 allows) and "The .xz File Format" 1.2 (streams one
//! behind the other).

use std::io::Write;

use anyhow::{Context, Result, ensure};
use flate2::{Compress, Compression, Crc, FlushCompress};
use rayon::prelude::*;

use crate::fs::Extents;

/// How much is compressed by itself, in bytes.
const BLOCK: u64 = 4 << 20;
/// How many blocks are in memory at once.
const BATCH: usize = 16;
/// Level of deflate.
const DEFLATE: u32 = 6;
/// Preset of xz: what is on a disk is compressed already, most of it, and the
/// higher ones take ten times the memory.
const XZ: u32 = 0;
/// The header of a member without name and time.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block of deflate.
const DEFLATE_END: [u8; 2] = [3, 0];

/// Writes an image under gzip.
pub(super) fn gzip(image: &Extents, out: &mut dyn Write) -> Result<()> {
    out.write_all(&GZIP_HEADER).context("writing a gzip header")?;
    let mut whole = Crc::new();
    each(image, &deflate, &mut |(packed, sum): &(Vec<u8>, Crc)| {
        whole.combine(sum);
        out.write_all(packed).context("writing gzip")
    })?;
    out.write_all(&DEFLATE_END).context("ending gzip")?;
    out.write_all(&whole.sum().to_le_bytes()).context("ending gzip")?;
    // "The size of the original input data modulo 2^32."
    out.write_all(&(image.len() as u32).to_le_bytes()).context("ending gzip")
}

/// Writes an image under xz.
pub(super) fn xz(image: &Extents, out: &mut dyn Write) -> Result<()> {
    each(image, &stream, &mut |packed: &Vec<u8>| out.write_all(packed).context("writing xz"))
}

fn deflate(bytes: &[u8]) -> Result<(Vec<u8>, Crc)> {
    let mut sum = Crc::new();
    sum.update(bytes);
    let mut packer = Compress::new(Compression::new(DEFLATE), false);
    // Nine bits for eight is the worst that a code of deflate's own does.
    let mut packed = Vec::with_capacity(bytes.len() + bytes.len() / 8 + 1024);
    packer.compress_vec(bytes, &mut packed, FlushCompress::Sync).context("compressing a disk")?;
    let whole = packer.total_in() == bytes.len() as u64 && packed.len() < packed.capacity();
    ensure!(whole, "expected to compress {} bytes, got {}", bytes.len(), packer.total_in());
    Ok((packed, sum))
}

fn stream(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), XZ);
    encoder.write_all(bytes).context("compressing a disk")?;
    encoder.finish().context("compressing a disk")
}

/// Calls `work` with each block of an image and `sink` with what came of it,
/// in order; blocks of zeros are worked on once.
fn each<T: Send>(
    image: &Extents,
    work: &(dyn Fn(&[u8]) -> Result<T> + Sync),
    sink: &mut dyn FnMut(&T) -> Result<()>,
) -> Result<()> {
    let blocks: Vec<u64> = (0..image.len()).step_by(BLOCK as usize).collect();
    let zeros = work(&vec![0; BLOCK as usize])?;
    for batch in blocks.chunks(BATCH) {
        let made: Vec<Result<Option<T>>> = batch
            .par_iter()
            .map(|at| {
                let len = BLOCK.min(image.len() - at);
                if len == BLOCK && image.is_hole(*at..at + len) {
                    return Ok(None);
                }
                let bytes = image.bytes(*at, len as usize)?;
                let zero = len == BLOCK && bytes.iter().all(|byte| *byte == 0);
                if zero { Ok(None) } else { work(&bytes).map(Some) }
            })
            .collect();
        for made in made {
            sink(made?.as_ref().unwrap_or(&zeros))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    type Packer = fn(&Extents, &mut dyn Write) -> Result<()>;

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
        let unpack = |bytes: &[u8], gzip: bool| {
            let mut plain = Vec::new();
            // A reader of single members and one of single streams would end early.
            if gzip {
                flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
            } else {
                let mut reader = liblzma::read::XzDecoder::new_multi_decoder(bytes);
                reader.read_to_end(&mut plain).unwrap();
            }
            plain
        };
        for len in [800_000, BLOCK, 3 * BLOCK + 5, 9 * BLOCK] {
            let image = sample(len);
            let plain = image.bytes(0, len as usize).unwrap();
            for (pack, is_gzip) in [(gzip as Packer, true), (xz as Packer, false)] {
                let mut packed = Vec::new();
                pack(&image, &mut packed).unwrap();
                assert!(unpack(&packed, is_gzip) == plain, "{len}");
                let mut again = Vec::new();
                let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                one.install(|| pack(&Extents::of_bytes(plain.clone()), &mut again)).unwrap();
                assert!(packed == again, "{len}");
            }
        }
    }
}
