//! How the clusters of qcow2 disks are compressed.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result};

use crate::disk::qcow2::Compression;
use crate::fs::asked::{self, Compressor};

/// A compression of qcow2's, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing(pub Option<Compression>);

const KNOWN: [Compressor; 3] = [
    Compressor::plain("none"),
    // On what hardly compresses, zlib-rs falls behind at every other level.
    Compressor::graded("zlib", 1..=9, 9),
    Compressor::graded("zstd", 1..=19, 3),
];

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(Compression::Zlib(level)) => write!(f, "zlib:{level}"),
            Some(Compression::Zstd(level)) => write!(f, "zstd:{level}"),
        }
    }
}

impl FromStr for Packing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(match asked::read(text, &KNOWN)? {
            ("zlib", level) => Some(Compression::Zlib(level.unsigned_abs())),
            ("zstd", level) => Some(Compression::Zstd(level)),
            _ => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["none", "zlib:1", "zlib:9", "zstd:3", "zstd:19"] {
            assert_eq!(text.parse::<Packing>().unwrap().to_string(), text);
        }
        assert_eq!("zlib".parse::<Packing>().unwrap().to_string(), "zlib:9");
        for bad in ["", "gzip", "none:1", "zlib:", "zlib:10", "zstd:0", "zstd:x"] {
            assert!(bad.parse::<Packing>().is_err(), "{bad}");
        }
    }
}
