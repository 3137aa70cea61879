//! Compressed bytes, told by their first ones and unpacked: gzip (RFC 1952),
//! zstd (RFC 8878), xz ("The .xz File Format" 1.2).
//!
//! One stream may follow another. Some files have something else behind the
//! first, so the caller says how far to read.

use std::io::{BufRead, Read};

use anyhow::{Context, Result};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// xz.
    Xz,
}

impl Compression {
    /// Tells it by the first bytes, of which six are enough.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // The others are frames to be skipped, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }

    /// Unpacks the first stream; what stands behind it is nobody's.
    pub fn first<'a>(self, from: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::GzDecoder::new(from)),
            Self::Zstd => {
                Box::new(zstd::Decoder::with_buffer(from).context("starting zstd")?.single_frame())
            }
            Self::Xz => Box::new(liblzma::bufread::XzDecoder::new(from)),
        })
    }

    /// Unpacks one stream after the other, to the end.
    pub fn all<'a>(self, from: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(from).context("starting zstd")?),
            Self::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(from)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
            Compression::Xz => {
                let mut to = liblzma::write::XzEncoder::new(Vec::new(), 1);
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
        }
    }

    #[test]
    fn unpacks_the_first_stream_or_all() {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Xz] {
            let two = [packed(compression, b"one"), packed(compression, b"two")].concat();
            assert_eq!(Compression::of(&two), Some(compression));
            let mut plain = String::new();
            compression.all(&two[..]).unwrap().read_to_string(&mut plain).unwrap();
            assert_eq!(plain, "onetwo", "{compression:?}");
            plain.clear();
            let more = [packed(compression, b"one"), b"something else".to_vec()].concat();
            compression.first(&more[..]).unwrap().read_to_string(&mut plain).unwrap();
            assert_eq!(plain, "one", "{compression:?}");
        }
        for other in [&b""[..], b"070701", &[0x1f]] {
            assert_eq!(Compression::of(other), None);
        }
    }
}
