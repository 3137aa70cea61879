//! A range of a file that holds an image, and fields read out of it: every
//! read is checked, for the image may be anybody's.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

/// A range of a file. Reads never leave it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    file: Arc<File>,
    offset: u64,
    len: u64,
}

impl Window {
    /// Describes `len` bytes of a file from `offset` on.
    pub(crate) fn new(file: Arc<File>, offset: u64, len: u64) -> Result<Self> {
        ensure!(offset.checked_add(len).is_some(), "expected an image within a file's range");
        Ok(Self { file, offset, len })
    }

    /// Returns the file and where in it `at` of the window is.
    pub(crate) fn place(&self, at: u64) -> (Arc<File>, u64) {
        (Arc::clone(&self.file), self.offset + at)
    }

    /// Shortens the window.
    pub(crate) fn truncate(&mut self, len: u64) {
        self.len = self.len.min(len);
    }

    /// Says that `len` bytes from `at` on lie within.
    pub(crate) fn check(&self, at: u64, len: u64) -> Result<()> {
        let end = at.checked_add(len).filter(|end| *end <= self.len);
        ensure!(
            end.is_some(),
            "expected {len} bytes at {at}, got the end of the image at {}",
            self.len
        );
        Ok(())
    }

    /// Reads `len` bytes from `at` on.
    pub(crate) fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        self.check(at, len as u64)?;
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, self.offset + at)
            .with_context(|| format!("reading {len} bytes at {at}"))?;
        Ok(bytes)
    }
}

/// Little-endian fields, one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// Takes `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        ensure!(len <= self.0.len(), "expected {len} more bytes, got {}", self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were taken"))
    }

    /// Takes one byte.
    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Takes 16 bits.
    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Takes 32 bits.
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes 64 bits.
    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
