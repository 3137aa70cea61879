//! Compresses and decompresses single blocks. What a block becomes depends on
//! nothing but the block and the settings.

use std::cell::RefCell;

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use liblzma::stream::{Action, Check, Filters, LzmaOptions, Stream};

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Zlib streams, level 1 to 9. mksquashfs takes 9.
    Gzip(u32),
    /// XZ streams, preset 0 to 9, with a dictionary of the block size.
    /// mksquashfs takes 6.
    Xz(u32),
    /// Zstandard frames, level 1 to 22. mksquashfs takes 15.
    Zstd(i32),
}

/// Ids of the superblock's `compressor` field.
pub(super) const GZIP: u16 = 1;
pub(super) const XZ: u16 = 4;
pub(super) const LZ4: u16 = 5;
pub(super) const ZSTD: u16 = 6;

/// The memory that a hostile XZ stream may ask for, in bytes.
const XZ_MEMORY: u64 = 64 << 20;

thread_local! {
    // A compressor's tables are larger than most blocks: one for each thread.
    static ZSTD_STATE: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> =
        const { RefCell::new(None) };
    static GZIP_STATE: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
}

impl Compression {
    /// Returns the id of the superblock's `compressor` field.
    pub(super) fn id(self) -> u16 {
        match self {
            Self::Gzip(_) => GZIP,
            Self::Xz(_) => XZ,
            Self::Zstd(_) => ZSTD,
        }
    }

    /// Checks the level.
    pub(super) fn check(self) -> Result<()> {
        let (range, level) = match self {
            Self::Gzip(level) => (1..=9, i64::from(level)),
            Self::Xz(level) => (0..=9, i64::from(level)),
            Self::Zstd(level) => (1..=22, i64::from(level)),
        };
        ensure!(
            range.contains(&level),
            "expected a squashfs compression level of {} to {}, got {level}",
            range.start(),
            range.end()
        );
        Ok(())
    }

    /// Returns the compressor options that follow the superblock, where the
    /// setting is not the one that readers take for granted.
    pub(super) fn options(self) -> Option<Vec<u8>> {
        match self {
            // Level, window bits, strategies (none asked for).
            Self::Gzip(level) if level != 9 => {
                Some([&level.to_le_bytes()[..], &15_u16.to_le_bytes(), &[0, 0]].concat())
            }
            Self::Zstd(level) if level != 15 => Some(level.to_le_bytes().to_vec()),
            _ => None,
        }
    }

    /// Compresses a block, or returns `None` where that does not make it
    /// smaller. `dictionary` is the image's block size.
    pub(super) fn compress(self, block: &[u8], dictionary: u32) -> Result<Option<Vec<u8>>> {
        let packed = match self {
            Self::Gzip(level) => gzip(block, level)?,
            Self::Xz(level) => xz(block, level, dictionary)?,
            Self::Zstd(level) => zstd(block, level)?,
        };
        Ok(packed.filter(|packed| packed.len() < block.len()))
    }
}

fn zstd(block: &[u8], level: i32) -> Result<Option<Vec<u8>>> {
    ZSTD_STATE.with_borrow_mut(|state| {
        let (_, compressor) = match state.take() {
            Some(known) if known.0 == level => state.insert(known),
            _ => state.insert((level, zstd::bulk::Compressor::new(level)?)),
        };
        Ok(Some(compressor.compress(block).context("compressing a block with zstd")?))
    })
}

fn gzip(block: &[u8], level: u32) -> Result<Option<Vec<u8>>> {
    GZIP_STATE.with_borrow_mut(|state| {
        let (_, stream) = match state.take() {
            Some(known) if known.0 == level => state.insert(known),
            _ => state.insert((level, Compress::new(flate2::Compression::new(level), true))),
        };
        stream.reset();
        let mut packed = Vec::with_capacity(block.len());
        let status = stream
            .compress_vec(block, &mut packed, FlushCompress::Finish)
            .context("compressing a block with gzip")?;
        // Otherwise there was no room: it did not get smaller.
        Ok((status == Status::StreamEnd).then_some(packed))
    })
}

fn xz(block: &[u8], level: u32, dictionary: u32) -> Result<Option<Vec<u8>>> {
    let mut options = LzmaOptions::new_preset(level).context("choosing an xz preset")?;
    options.dict_size(dictionary);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut stream = Stream::new_stream_encoder(&filters, Check::Crc32).context("setting up xz")?;
    let mut packed = Vec::with_capacity(block.len());
    match stream.process_vec(block, &mut packed, Action::Finish) {
        Ok(liblzma::stream::Status::StreamEnd) => Ok(Some(packed)),
        // No room: it did not get smaller.
        Ok(_) => Ok(None),
        Err(error) => Err(error).context("compressing a block with xz"),
    }
}

/// Decompresses a block into at most `limit` bytes.
pub(super) fn decompress(compressor: u16, block: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(limit);
    match compressor {
        GZIP => {
            let status = Decompress::new(true)
                .decompress_vec(block, &mut plain, FlushDecompress::Finish)
                .context("decompressing a block with gzip")?;
            ensure!(status == Status::StreamEnd, "expected a gzip block of {limit} bytes at most");
        }
        XZ => {
            let mut stream = Stream::new_stream_decoder(XZ_MEMORY, 0).context("setting up xz")?;
            let status = stream
                .process_vec(block, &mut plain, Action::Finish)
                .context("decompressing a block with xz")?;
            ensure!(
                status == liblzma::stream::Status::StreamEnd,
                "expected an xz block of {limit} bytes at most"
            );
        }
        LZ4 => {
            plain.resize(limit, 0);
            let len = lz4_flex::block::decompress_into(block, &mut plain)
                .context("decompressing a block with lz4")?;
            plain.truncate(len);
        }
        ZSTD => {
            let mut state = zstd::bulk::Decompressor::new().context("setting up zstd")?;
            state
                .decompress_to_buffer(block, &mut plain)
                .context("decompressing a block with zstd")?;
        }
        other => {
            bail!("expected gzip, xz, lz4 or zstd in a squashfs image, got compressor {other}")
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_took() {
        let text = b"all work and no play makes jack a dull boy. ".repeat(700);
        for codec in [Compression::Gzip(9), Compression::Xz(6), Compression::Zstd(3)] {
            codec.check().unwrap();
            let packed = codec.compress(&text, 1 << 17).unwrap().unwrap();
            assert!(packed.len() < 600, "{codec:?}: {}", packed.len());
            assert_eq!(decompress(codec.id(), &packed, text.len()).unwrap(), text, "{codec:?}");
            assert!(decompress(codec.id(), &packed, text.len() - 1).is_err(), "{codec:?}");
            assert!(decompress(codec.id(), &packed[..20], text.len()).is_err(), "{codec:?}");
            assert!(codec.compress(b"abc", 1 << 17).unwrap().is_none(), "{codec:?}");
        }
    }
}
