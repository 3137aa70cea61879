//! A content digest, `sha256:<64 hex digits>`. Other algorithms are refused.
//!
//! Follows OCI Image Format Specification, "Descriptors", section "Digests".

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{Error, Result, ensure};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "sha256:";

/// The SHA-256 digest of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes bytes that are already in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the 64 lower-case hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Returns the raw 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first 12 hex digits, enough for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix(PREFIX).unwrap_or_default();
        // Upper-case digits would make two names of one blob.
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ensure!(
            digits.len() == 64 && plain,
            "expected a digest like sha256:<64 hex digits>, got `{text}`"
        );
        let mut raw = [0; 32];
        hex::decode_to_slice(digits, &mut raw)?;
        Ok(Self(raw))
    }
}

// Text in JSON, 32 bytes in an index.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(de::Error::custom);
        }
        <[u8; 32]>::deserialize(deserializer).map(Self)
    }
}

/// Hashes what is written through it on its way to `inner`.
#[derive(Debug)]
pub struct Hasher<W> {
    inner: W,
    sha: Sha256,
    len: u64,
}

impl<W> Hasher<W> {
    /// Starts a digest over everything that will be written.
    pub fn new(inner: W) -> Self {
        Self { inner, sha: Sha256::new(), len: 0 }
    }

    /// Returns the writer, the digest and the number of bytes hashed.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest(self.sha.finalize().into()), self.len)
    }

    /// Returns the number of bytes hashed so far.
    pub fn written(&self) -> u64 {
        self.len
    }
}

impl<W: Write> Write for Hasher<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.sha.update(&buf[..n]);
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_what_it_prints() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        for bad in ["", "sha256:", "sha512:00", &text.to_uppercase(), &text[..70], "sha256:../../x"]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hashes_what_passes() {
        let mut hasher = Hasher::new(Vec::new());
        hasher.write_all(b"ab").unwrap();
        hasher.write_all(b"c").unwrap();
        let (bytes, digest, len) = hasher.finish();
        assert_eq!((bytes.as_slice(), digest, len), (&b"abc"[..], Digest::of(b"abc"), 3));
    }
}
