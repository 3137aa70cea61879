//! Gives out blocks in ascending order, past what is taken already.
//!
//! It never fails: past the end of the image it goes on, so that planning
//! learns how much there is missing.

use std::ops::Range;

use super::extent::{self, Extent, Mapping};
use super::geometry::Geometry;

/// Gives out the blocks that a geometry leaves free.
#[derive(Debug)]
pub(super) struct Allocator<'g> {
    taken: &'g [Range<u64>],
    blocks: u64,
    at: u64,
}

impl<'g> Allocator<'g> {
    /// Starts at the first free block.
    pub(super) fn new(geometry: &'g Geometry) -> Self {
        Self { taken: &geometry.used, blocks: geometry.blocks, at: 0 }
    }

    /// Takes up to `most` blocks that follow each other.
    fn take(&mut self, most: u64) -> Range<u64> {
        while let [first, rest @ ..] = self.taken
            && first.start <= self.at
        {
            self.at = self.at.max(first.end);
            self.taken = rest;
        }
        let end = self.taken.first().map_or(u64::MAX, |next| next.start);
        let start = self.at;
        self.at = end.min(start.saturating_add(most));
        start..self.at
    }

    /// Takes one block.
    pub(super) fn one(&mut self) -> u64 {
        self.take(1).start
    }

    /// Takes blocks for runs of a file, each a first block of the file and a
    /// length, and for the tree above their extents.
    pub(super) fn map(&mut self, runs: impl IntoIterator<Item = (u32, u32)>) -> Mapping {
        let mut extents: Vec<Extent> = Vec::new();
        for (mut logical, mut left) in runs {
            while left > 0 {
                let range = self.take(u64::from(left).min(extent::LEN_MAX));
                // At most LEN_MAX.
                let len = (range.end - range.start) as u32;
                extents.push(Extent { logical, len, start: range.start });
                logical += len;
                left -= len;
            }
        }
        let tree: usize = extent::levels(extents.len()).iter().sum();
        let tree = (0..tree).map(|_| self.one()).collect();
        Mapping { extents: extents.into(), tree }
    }

    /// Returns the first block that was not given out, or skipped as taken.
    pub(super) fn end(&self) -> u64 {
        self.at
    }

    /// Returns the number of free blocks left; negative where more were given
    /// out than there are.
    pub(super) fn left(&self) -> i64 {
        let taken: u64 = self.taken.iter().map(|r| r.end - r.start.max(self.at).min(r.end)).sum();
        // Block numbers are far below 2^63.
        self.blocks as i64 - self.at as i64 - taken as i64
    }
}
