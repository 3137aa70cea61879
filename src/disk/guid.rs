//! GUIDs: given, or derived from a seed so that a build repeated gives the
//! same ones.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use crate::oci::Digest;

/// A GUID, its bytes in the order of its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Guid([u8; 16]);

impl Guid {
    /// Makes a GUID of its number, written as the text without dashes.
    pub const fn new(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// Derives a GUID (version 8, custom) from a seed and a purpose.
    pub fn derive(seed: &[u8], purpose: &str) -> Self {
        let digest = Digest::of(&[seed, &[0], purpose.as_bytes()].concat());
        let hex = digest.hex();
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("a digest is hex");
        }
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// Returns the bytes in the order of the text.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Returns the number that stands for it where there is room for no more.
    pub fn number(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Returns the bytes as disks hold them: the first three fields with the
    /// low byte first.
    pub fn mixed(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }

    /// Reads what [`Guid::mixed`] gives.
    pub fn of_mixed(bytes: [u8; 16]) -> Self {
        Self(Self(bytes).mixed())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Guid {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = text.replace('-', "");
        let shaped = text.len() == 36 && plain.len() == 32 && !plain.contains('+');
        ensure!(shaped, "expected a GUID such as {}, got `{text}`", Self::default());
        let number = u128::from_str_radix(&plain, 16);
        number.map(Self::new).with_context(|| format!("reading the GUID `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_and_read() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let guid: Guid = text.parse().unwrap();
        assert_eq!(guid.to_string(), text);
        assert_eq!(guid.mixed()[..4], [0x28, 0x73, 0x2a, 0xc1]);
        assert_eq!(Guid::of_mixed(guid.mixed()), guid);
        assert!("c12a7328".parse::<Guid>().is_err());
        assert_ne!(Guid::derive(b"a", "disk"), Guid::derive(b"b", "disk"));
    }
}
