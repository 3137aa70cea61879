//! How a file system that nobody writes to is compressed, as people ask for
//! it, whichever file system it is: each takes some of these.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result};

use super::asked::{self, Compressor};

/// A compression that some file system has, and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// LZ4.
    Lz4,
    /// Zlib at a level of 1 to 9.
    Gzip(u32),
    /// XZ at a preset of 0 to 9.
    Xz(u32),
    /// Zstandard at a level of 1 to 22.
    Zstd(i32),
}

/// The default levels of gzip and xz are those of mksquashfs, that of zstd is
/// what squashfs has here where nothing is asked for.
const KNOWN: [Compressor; 5] = [
    Compressor::plain("none"),
    Compressor::plain("lz4"),
    Compressor::graded("gzip", 1..=9, 9),
    Compressor::graded("xz", 0..=9, 6),
    Compressor::graded("zstd", 1..=22, 3),
];

impl Compression {
    /// Returns its name without a level.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Gzip(_) => "gzip",
            Self::Xz(_) => "xz",
            Self::Zstd(_) => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::None | Self::Lz4 => Ok(()),
            Self::Gzip(level) | Self::Xz(level) => write!(f, ":{level}"),
            Self::Zstd(level) => write!(f, ":{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match asked::read(text, &KNOWN)? {
            ("lz4", _) => Self::Lz4,
            ("gzip", level) => Self::Gzip(level.unsigned_abs()),
            ("xz", level) => Self::Xz(level.unsigned_abs()),
            ("zstd", level) => Self::Zstd(level),
            _ => Self::None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["none", "lz4", "gzip:1", "gzip:9", "xz:0", "xz:9", "zstd:1", "zstd:22"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        let defaults = ["gzip", "xz", "zstd"].map(|text| text.parse::<Compression>().unwrap());
        assert_eq!(defaults.map(|found| found.to_string()), ["gzip:9", "xz:6", "zstd:3"]);
    }

    #[test]
    fn says_what_it_takes() {
        let told = |text: &str| text.parse::<Compression>().unwrap_err().to_string();
        insta::assert_snapshot!(told("lzo"), @"expected none, lz4, gzip, xz or zstd, with a level as in zstd:9, got `lzo`");
        insta::assert_snapshot!(told("lz4:9"), @"expected none, lz4, gzip, xz or zstd, with a level as in zstd:9, got `lz4:9`");
        insta::assert_snapshot!(told("xz:10"), @"expected a level of 0 to 9 in `xz:10`");
        insta::assert_snapshot!(told("gzip:0"), @"expected a level of 1 to 9 in `gzip:0`");
        insta::assert_snapshot!(told("zstd:"), @"expected a level of 1 to 22 in `zstd:`");
    }
}
