//! What the files of an image may come to in all: a small image can claim any
//! amount of zeros, and whoever takes its files out would write them.

use anyhow::{Context, Result};

/// How many bytes any image may claim, however small.
const FREE: u64 = 64 << 30;
/// How many times its own size it may claim beyond that.
const RATIO: u64 = 1024;

/// The bytes that an image may still claim.
#[derive(Debug)]
pub(crate) struct Claims {
    left: u64,
}

impl Claims {
    /// Begins with what an image of `len` bytes may claim.
    pub(crate) fn new(len: u64) -> Self {
        Self { left: len.saturating_mul(RATIO).saturating_add(FREE) }
    }

    /// Takes account of a file of `len` bytes.
    pub(crate) fn add(&mut self, len: u64) -> Result<()> {
        let left = self.left.checked_sub(len);
        self.left = left.with_context(|| {
            format!("expected files of a sane size in all, got one of {len} bytes more")
        })?;
        Ok(())
    }
}
