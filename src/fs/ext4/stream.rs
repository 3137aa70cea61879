//! Lays an image out in order: small pieces gathered, contents where they are.

use anyhow::{Context, Result};

use crate::fs::Extents;
use crate::tree::Content;

/// An image that is laid out forward only.
#[derive(Default)]
pub(super) struct Stream {
    image: Extents,
    /// What is at the end of the image but not in it yet.
    gathered: Vec<u8>,
    /// Where that begins, in bytes of the image.
    base: u64,
}

impl Stream {
    fn position(&self) -> u64 {
        self.base + self.gathered.len() as u64
    }

    /// Goes forward to a byte of the image; what lies between is zero.
    pub(super) fn go(&mut self, to: u64) -> Result<()> {
        let gap = to.checked_sub(self.position()).context("expected an image in order")?;
        if gap > 0 {
            self.lay();
            self.base = to;
        }
        Ok(())
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
    }

    /// Adds a part of some contents.
    pub(super) fn copy(&mut self, content: &Content, offset: u64, len: u64) -> Result<()> {
        self.lay();
        let part = Extents::from(content).slice(offset..offset + len)?;
        self.image.put(self.base, &part);
        self.base += len;
        Ok(())
    }

    /// Returns the image, zeros at its end if need be.
    pub(super) fn finish(mut self, len: u64) -> Extents {
        self.lay();
        self.image.grow(len);
        self.image
    }

    fn lay(&mut self) {
        if !self.gathered.is_empty() {
            let bytes = std::mem::take(&mut self.gathered);
            let len = bytes.len() as u64;
            self.image.put_bytes(self.base, bytes);
            self.base += len;
        }
    }
}
