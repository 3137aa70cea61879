//! Metadata blocks: 8 KiB of records, compressed, one after another.

use std::io::Write;

use anyhow::{Context, Result};

use super::Options;
use super::format::{METADATA, METADATA_PLAIN, Position};

/// Writes records into metadata blocks.
#[derive(Debug)]
pub(super) struct Metadata<W> {
    options: Options,
    out: W,
    pending: Vec<u8>,
    written: u64,
    blocks: Vec<u64>,
}

impl<W: Write> Metadata<W> {
    /// Begins a table.
    pub(super) fn new(options: &Options, out: W) -> Self {
        let pending = Vec::with_capacity(2 * METADATA);
        Self { options: options.clone(), out, pending, written: 0, blocks: Vec::new() }
    }

    /// Returns where the next record will stand.
    pub(super) fn position(&self) -> Position {
        Position { block: self.written, offset: self.pending.len() as u16 }
    }

    /// Appends a record, or a piece of one.
    pub(super) fn write(&mut self, mut record: &[u8]) -> Result<()> {
        while !record.is_empty() {
            let n = record.len().min(METADATA - self.pending.len());
            self.pending.extend_from_slice(&record[..n]);
            record = &record[n..];
            if self.pending.len() == METADATA {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Options { compression, block_size, .. } = self.options;
        let packed = compression.compress(&self.pending, block_size)?;
        let (body, flag) = match &packed {
            Some(packed) => (packed.as_slice(), 0),
            None => (self.pending.as_slice(), METADATA_PLAIN),
        };
        let header = body.len() as u16 | flag;
        self.out.write_all(&header.to_le_bytes()).context("writing metadata")?;
        self.out.write_all(body).context("writing metadata")?;
        self.blocks.push(self.written);
        self.written += 2 + body.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Ends the table and returns the writer, the table's length, and the
    /// offset of each block.
    pub(super) fn finish(mut self) -> Result<(W, u64, Vec<u64>)> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        Ok((self.out, self.written, self.blocks))
    }
}
