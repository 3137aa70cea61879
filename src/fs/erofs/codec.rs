//! Compresses pieces of files into extents of whole blocks. What a piece
//! becomes depends on nothing but the piece and the settings.

use std::cell::RefCell;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::format::{BLOCK, LZ4, ZSTD};
use super::lz4;

/// How files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: contents can be mapped as they are.
    None,
    /// LZ4, fast to read.
    Lz4,
    /// Zstandard, level 1 to 22: smaller, for kernels from 6.10 on.
    Zstd(i32),
}

/// Some bytes of a file that were compressed together, or as many whole
/// blocks as they are, stored as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    /// How many bytes of the file.
    pub(super) len: u32,
    /// How many blocks of the image.
    pub(super) blocks: u32,
    /// Whether they are stored as they are.
    pub(super) raw: bool,
}

/// A piece of a file, compressed.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) extents: Vec<Extent>,
    pub(super) bytes: Vec<u8>,
}

/// How much is compressed independently of the rest, in bytes.
pub(super) const PIECE: usize = 1 << 20;
/// How many bytes zstd gets for each byte of a cluster. It cannot be told how
/// much to fill, so that its extents are only about as long as a cluster.
const ZSTD_RATIO: usize = 4;

thread_local! {
    static ZSTD_STATE: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> =
        const { RefCell::new(None) };
    static LZ4_STATE: RefCell<(lz4::Table, Vec<u8>)> =
        RefCell::new((lz4::Table::new(), Vec::new()));
}

impl Compression {
    /// Checks the level.
    pub(super) fn check(self) -> Result<()> {
        if let Self::Zstd(level) = self {
            ensure!((1..=22).contains(&level), "expected a zstd level of 1 to 22, got {level}");
        }
        Ok(())
    }

    /// Returns the algorithm's number; `None` where there is none.
    pub(super) fn algorithm(self) -> Option<u8> {
        match self {
            Self::None => None,
            Self::Lz4 => Some(LZ4),
            Self::Zstd(_) => Some(ZSTD),
        }
    }

    /// Returns how many bytes of a file go into one extent at most.
    pub(super) fn reach(self, cluster: usize) -> usize {
        match self {
            Self::None => cluster,
            Self::Lz4 => PIECE,
            Self::Zstd(_) => (cluster * ZSTD_RATIO).min(PIECE),
        }
    }

    /// Compresses a piece into extents of about `cluster` bytes of the image.
    pub(super) fn pack(self, piece: &[u8], cluster: usize) -> Result<Packed> {
        let mut packed = Packed::default();
        let mut rest = piece;
        while !rest.is_empty() {
            let taken = match self {
                // One block cannot become less than one block.
                _ if rest.len() <= BLOCK => packed.raw(rest),
                Self::None => packed.raw(rest),
                Self::Lz4 => packed.lz4(rest, cluster),
                Self::Zstd(level) => packed.zstd(rest, level, self.reach(cluster))?,
            };
            rest = &rest[taken..];
        }
        Ok(packed)
    }
}

impl Packed {
    fn lz4(&mut self, rest: &[u8], cluster: usize) -> usize {
        LZ4_STATE.with_borrow_mut(|(table, body)| {
            body.resize(cluster, 0);
            let (taken, used) = lz4::fill(rest, body, table);
            self.add(rest, taken, &body[..used])
        })
    }

    fn zstd(&mut self, rest: &[u8], level: i32, reach: usize) -> Result<usize> {
        let taken = rest.len().min(reach);
        let body = ZSTD_STATE.with_borrow_mut(|state| {
            let (_, compressor) = match state.take() {
                Some(known) if known.0 == level => state.insert(known),
                _ => state.insert((level, zstd::bulk::Compressor::new(level)?)),
            };
            compressor.compress(&rest[..taken])
        });
        let body = body.context("compressing a piece with zstd")?;
        Ok(self.add(rest, taken, &body))
    }

    /// Adds `taken` bytes as what they were compressed to, or as they are
    /// where that saves no block; returns how many were added.
    fn add(&mut self, rest: &[u8], taken: usize, body: &[u8]) -> usize {
        let blocks = body.len().div_ceil(BLOCK);
        if blocks * BLOCK >= taken {
            let whole = if taken == rest.len() { taken } else { (taken / BLOCK).max(1) * BLOCK };
            return self.raw(&rest[..whole]);
        }
        // The padding goes before: a compressed body never begins with zero.
        self.bytes.resize(self.bytes.len() + blocks * BLOCK - body.len(), 0);
        self.bytes.extend_from_slice(body);
        self.extents.push(Extent { len: taken as u32, blocks: blocks as u32, raw: false });
        taken
    }

    fn raw(&mut self, bytes: &[u8]) -> usize {
        let blocks = bytes.len().div_ceil(BLOCK);
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        match self.extents.last_mut() {
            Some(last) if last.raw && (last.len as usize).is_multiple_of(BLOCK) => {
                last.len += bytes.len() as u32;
                last.blocks += blocks as u32;
            }
            _ => {
                let extent = Extent { len: bytes.len() as u32, blocks: blocks as u32, raw: true };
                self.extents.push(extent);
            }
        }
        bytes.len()
    }
}
