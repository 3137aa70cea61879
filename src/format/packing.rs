//! How the clusters of qcow2 disks are compressed.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};

use crate::disk::qcow2::Compression;

/// A compression of qcow2's, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing(pub Option<Compression>);

/// The default level of zlib: on what hardly compresses, zlib-rs falls behind
/// at every other.
const ZLIB: i32 = 9;
/// The default level of Zstandard.
const ZSTD: i32 = 3;

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
        let (name, level) = text.split_once(':').unwrap_or((text, ""));
        let number = |default: i32, most: i32| -> Result<i32> {
            let level = if text.contains(':') { level.parse().unwrap_or(0) } else { default };
            ensure!((1..=most).contains(&level), "expected a level of 1 to {most} in `{text}`");
            Ok(level)
        };
        Ok(Self(match name {
            "zlib" => Some(Compression::Zlib(number(ZLIB, 9)?.unsigned_abs())),
            "zstd" => Some(Compression::Zstd(number(ZSTD, 19)?)),
            "none" if text == name => None,
            _ => bail!("expected none, zlib or zstd, with a level as in zstd:9, got `{text}`"),
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
