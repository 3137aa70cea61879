//! How an initial root is compressed.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{Context, Error, Result};

use crate::fs::asked::{self, Compressor};

/// A compression that the kernel can undo, and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard at a level of 1 to 19.
    Zstd(i32),
    /// Gzip at a level of 1 to 9.
    Gzip(u32),
    /// LZ4 in its legacy frame, the only one that the kernel knows.
    Lz4,
    /// None.
    None,
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(ZSTD)
    }
}

/// The default level of Zstandard.
const ZSTD: i32 = 3;
const KNOWN: [Compressor; 4] = [
    Compressor::graded("zstd", 1..=19, ZSTD),
    Compressor::graded("gzip", 1..=9, 6),
    Compressor::plain("lz4"),
    Compressor::plain("none"),
];

/// Begins a legacy LZ4 frame.
const LZ4_MAGIC: u32 = 0x184c_2102;
/// The size of a legacy LZ4 frame's blocks, in bytes.
const LZ4_BLOCK: usize = 8 << 20;

impl Compression {
    /// Compresses what `write` writes, as one member of `out`.
    pub fn compress(
        self,
        out: &mut dyn Write,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(out, level).context("starting zstd")?;
                write(&mut encoder)?;
                encoder.finish().context("finishing zstd")?;
            }
            Self::Gzip(level) => {
                // Time and name in the header stay empty.
                let level = flate2::Compression::new(level);
                let mut encoder = flate2::write::GzEncoder::new(out, level);
                write(&mut encoder)?;
                encoder.finish().context("finishing gzip")?;
            }
            Self::Lz4 => {
                out.write_all(&LZ4_MAGIC.to_le_bytes()).context("starting lz4")?;
                let mut encoder = Lz4 { out, block: Vec::with_capacity(LZ4_BLOCK) };
                write(&mut encoder)?;
                encoder.end_block().context("finishing lz4")?;
            }
            Self::None => write(out)?,
        }
        Ok(())
    }
}

/// Writes the blocks of a legacy LZ4 frame.
struct Lz4<'a> {
    out: &'a mut dyn Write,
    block: Vec<u8>,
}

impl Lz4<'_> {
    fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = lz4_flex::block::compress(&self.block);
        let len = u32::try_from(packed.len()).map_err(io::Error::other)?;
        self.block.clear();
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&packed)
    }
}

impl Write for Lz4<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(LZ4_BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == LZ4_BLOCK {
            self.end_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::Lz4 => f.write_str("lz4"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // `zstd:` was always taken for `zstd` here.
        let text = match text.split_once(':') {
            Some((name, "")) => name,
            _ => text,
        };
        Ok(match asked::read(text, &KNOWN)? {
            ("zstd", level) => Self::Zstd(level),
            ("gzip", level) => Self::Gzip(level.unsigned_abs()),
            ("lz4", _) => Self::Lz4,
            _ => Self::None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["zstd:3", "zstd:19", "gzip:6", "lz4", "none"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        for text in ["zstd", "zstd:"] {
            assert_eq!(text.parse::<Compression>().unwrap(), Compression::default());
        }
        for bad in ["", "xz", "zstd:20", "zstd:x", "lz4:1", "gzip:0"] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }

    #[test]
    fn writes_legacy_lz4() {
        let plain = b"the same again and again, the same again and again";
        let mut packed = Vec::new();
        let write = |out: &mut dyn Write| Ok(out.write_all(plain)?);
        Compression::Lz4.compress(&mut packed, write).unwrap();
        assert_eq!(packed[..4], LZ4_MAGIC.to_le_bytes());
        let len = u32::from_le_bytes(packed[4..8].try_into().unwrap()) as usize;
        assert_eq!(len, packed.len() - 8);
        assert_eq!(lz4_flex::block::decompress(&packed[8..], LZ4_BLOCK).unwrap(), plain);
    }
}
