//! Compresses an image as gzip on all processors: blocks that begin where
//! 2 MiB of the image do, one behind the other in one member, so that even a
//! reader that knows only one takes all. Zeros are compressed once.
//!
//! Follows RFC 1951 and RFC 1952; blocks end as `Z_SYNC_FLUSH` ends them.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use flate2::{Compress, Compression, Crc, FlushCompress};

use super::squeeze::{Press, is_dense};
use crate::fs::Extents;
use crate::store::Store;

/// How many bytes of the image a block is made of.
const UNIT: u64 = 2 << 20;
/// How many bytes are looked at to tell whether they compress at all.
const PIECE: usize = 64 << 10;
/// A member with no name and no time, made on no system in particular.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A last block that is empty, with fixed codes.
const LAST: [u8; 2] = [3, 0];

/// Writes an image as gzip at a level of 1 to 9; `cache` is where compressed
/// parts are kept and looked for.
pub fn write(
    image: &Extents,
    level: u32,
    cache: Option<&Store>,
    out: &mut dyn Write,
) -> Result<()> {
    let work = move |bytes: &[u8]| compress(bytes, level).map(Some);
    let name = format!("gzip {level}");
    let press = Press { unit: UNIT, name, work: Arc::new(work), cache: cache.cloned() };
    let mut stream = Stream { out, crc: Crc::new(), len: 0, zeros: Zeros::new(level)? };
    stream.out.write_all(&HEADER).context("writing gzip")?;
    // The last unit has its own length.
    let whole = image.len() / UNIT * UNIT;
    press.each(&image.slice(0..whole)?, &mut |index, unit| {
        stream.zeros(index * UNIT)?;
        stream.block(unit.plain, unit.packed.expect("every block is compressed"))
    })?;
    stream.zeros(whole)?;
    let rest = image.bytes(whole, (image.len() - whole) as usize)?;
    if !rest.is_empty() {
        stream.block(&rest, &compress(&rest, level)?)?;
    }
    stream.finish()
}

/// A block of zeros.
struct Zeros {
    packed: Vec<u8>,
    crc: Crc,
}

impl Zeros {
    fn new(level: u32) -> Result<Self> {
        let plain = vec![0; UNIT as usize];
        let mut crc = Crc::new();
        crc.update(&plain);
        Ok(Self { packed: compress(&plain, level)?, crc })
    }
}

struct Stream<'a> {
    out: &'a mut dyn Write,
    crc: Crc,
    /// How many bytes of the image were written.
    len: u64,
    zeros: Zeros,
}

impl Stream<'_> {
    /// Writes zeros until so many bytes of the image are written.
    fn zeros(&mut self, until: u64) -> Result<()> {
        while self.len < until {
            self.crc.combine(&self.zeros.crc);
            self.len += UNIT;
            self.out.write_all(&self.zeros.packed).context("writing gzip")?;
        }
        Ok(())
    }

    fn block(&mut self, plain: &[u8], packed: &[u8]) -> Result<()> {
        self.crc.update(plain);
        self.len += plain.len() as u64;
        self.out.write_all(packed).context("writing gzip")
    }

    fn finish(self) -> Result<()> {
        let sum = self.crc.sum().to_le_bytes();
        let len = (self.len as u32).to_le_bytes();
        for part in [&LAST[..], &sum, &len] {
            self.out.write_all(part).context("writing gzip")?;
        }
        Ok(())
    }
}

/// Compresses bytes into blocks none of which is the last.
fn compress(bytes: &[u8], level: u32) -> Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(bytes.len() / 2 + 1024);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (dense, run) = run(rest)?;
        match dense {
            true => store(run, &mut packed),
            false => deflate(run, level, &mut packed)?,
        }
        rest = &rest[run.len()..];
    }
    Ok(packed)
}

/// Takes the pieces at the beginning that all compress, or all do not.
fn run(bytes: &[u8]) -> Result<(bool, &[u8])> {
    let mut pieces = bytes.chunks(PIECE);
    let first = is_dense(pieces.next().unwrap_or_default())?;
    let mut len = PIECE;
    for piece in pieces {
        if is_dense(piece)? != first {
            break;
        }
        len += PIECE;
    }
    Ok((first, &bytes[..len.min(bytes.len())]))
}

/// Writes bytes as blocks that are not compressed (RFC 1951, 3.2.4).
fn store(bytes: &[u8], packed: &mut Vec<u8>) {
    for block in bytes.chunks(usize::from(u16::MAX)) {
        let len = block.len() as u16;
        packed.push(0);
        packed.extend(len.to_le_bytes());
        packed.extend((!len).to_le_bytes());
        packed.extend_from_slice(block);
    }
}

fn deflate(bytes: &[u8], level: u32, packed: &mut Vec<u8>) -> Result<()> {
    let mut stream = Compress::new(Compression::new(level), false);
    loop {
        // Room is left over only when all is written.
        packed.reserve(bytes.len() / 2 + 1024);
        let taken = stream.total_in() as usize;
        stream
            .compress_vec(&bytes[taken..], packed, FlushCompress::Sync)
            .context("compressing a block")?;
        if stream.total_in() as usize == bytes.len() && packed.len() < packed.capacity() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::fs::sample::{noise, prose};

    #[test]
    fn is_one_member_of_all_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for (len, more) in [(0, 0), (1, 0), (UNIT, 0), (3 * UNIT, 5), (UNIT + 9, 2 * UNIT + 1)] {
            let mut image = Extents::of_bytes(prose(len as usize, 1));
            image.grow(len + 4 * UNIT);
            image.push_bytes(noise(more as usize, 2));
            for level in [1, 6] {
                let mut before = None;
                for cache in [None, Some(&store), Some(&store)] {
                    let mut packed = Vec::new();
                    write(&image, level, cache, &mut packed).unwrap();
                    let mut plain = Vec::new();
                    // Takes one member only.
                    GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
                    assert!(plain == image.bytes(0, image.len() as usize).unwrap());
                    assert!(before.is_none_or(|before| before == packed));
                    before = Some(packed);
                }
            }
        }
    }
}
