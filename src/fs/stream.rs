//! Lays an image out in order: small pieces gathered, contents where they are.

use std::io::{self, Write};

use anyhow::{Context, Result};

use crate::fs::Extents;
use crate::tree::Content;

/// How much is gathered into one piece, in bytes.
const PIECE: usize = 1 << 20;

/// An image that is laid out forward only.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    image: Extents,
    /// What is at the end of the image but not in it yet.
    gathered: Vec<u8>,
    /// Where that begins, in bytes of the image.
    base: u64,
}

impl Stream {
    /// Returns the length of what is laid out so far.
    pub(crate) fn position(&self) -> u64 {
        self.base + self.gathered.len() as u64
    }

    /// Goes forward to a byte of the image; what lies between is zero.
    pub(crate) fn go(&mut self, to: u64) -> Result<()> {
        let gap = to.checked_sub(self.position()).context("expected an image in order")?;
        if gap > 0 {
            self.lay();
            self.base = to;
        }
        Ok(())
    }

    /// Goes forward to a multiple of `unit` bytes.
    pub(crate) fn align(&mut self, unit: u64) -> Result<()> {
        self.go(self.position().next_multiple_of(unit))
    }

    /// Adds bytes.
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.gathered.len()));
            self.gathered.extend_from_slice(now);
            if self.gathered.len() == PIECE {
                self.lay();
            }
            bytes = later;
        }
    }

    /// Adds bytes as a piece of their own.
    pub(crate) fn give(&mut self, bytes: Vec<u8>) {
        self.lay();
        self.gathered = bytes;
        self.lay();
    }

    /// Adds another image.
    pub(crate) fn push(&mut self, other: &Extents) {
        self.lay();
        self.image.put(self.base, other);
        self.base += other.len();
    }

    /// Adds a part of some contents.
    pub(crate) fn copy(&mut self, content: &Content, offset: u64, len: u64) -> Result<()> {
        self.push(&Extents::from(content).slice(offset..offset + len)?);
        Ok(())
    }

    /// Returns the image, zeros at its end if need be.
    pub(crate) fn finish(mut self, len: u64) -> Extents {
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

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
