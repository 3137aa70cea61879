//! Device numbers as Linux keeps them on disk, in 32 bits.

use anyhow::{Result, ensure};

/// Puts major and minor number together.
pub(crate) fn encode(major: u32, minor: u32) -> Result<u32> {
    ensure!(
        major < 1 << 12 && minor < 1 << 20,
        "expected a device number of 12 and 20 bits, got {major}:{minor}"
    );
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Splits a number into major and minor.
pub(crate) fn decode(encoded: u32) -> (u32, u32) {
    (encoded >> 8 & 0xfff, encoded & 0xff | encoded >> 12 & !0xff)
}
