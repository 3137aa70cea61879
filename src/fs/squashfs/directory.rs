//! A directory's listing: runs of entries that share a metadata block of the
//! inode table, and an index of the runs in a long listing.

use std::io::Write;

use anyhow::Result;

use super::format::{DIRECTORY_RUN, METADATA, Position};
use super::metadata::Metadata;

/// One name of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// The inode's type, never an extended one.
    pub(super) kind: u16,
    pub(super) number: u32,
    pub(super) inode: Position,
}

/// A listing, encoded.
#[derive(Debug, Default)]
pub(super) struct Listing {
    bytes: Vec<u8>,
    // Where runs that deserve an index entry begin, and their first names.
    index: Vec<(usize, Vec<u8>)>,
}

/// Where a listing stands.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) start: Position,
    /// Length of the listing in bytes.
    pub(super) len: usize,
    /// The index's records, and how many.
    pub(super) index: (Vec<u8>, u16),
}

impl Listing {
    /// Encodes entries, which must come sorted by name.
    pub(super) fn of(entries: &[Entry<'_>]) -> Self {
        let mut listing = Self::default();
        let mut rest = entries;
        let mut indexed = 0;
        while let Some(first) = rest.first() {
            // A run is cut where the next index entry is due.
            let at = listing.bytes.len();
            if at - indexed >= METADATA {
                listing.index.push((at, first.name.to_vec()));
                indexed = at;
            }
            let mut room = METADATA;
            let len = rest
                .iter()
                .take(DIRECTORY_RUN)
                .take_while(|entry| {
                    let fits = room > 0 && shares_run(first, entry);
                    room = room.saturating_sub(8 + entry.name.len());
                    fits
                })
                .count();
            let (run, after) = rest.split_at(len);
            listing.run(first, run);
            rest = after;
        }
        listing
    }

    fn run(&mut self, first: &Entry<'_>, run: &[Entry<'_>]) {
        for field in [run.len() as u32 - 1, first.inode.block as u32, first.number] {
            self.bytes.extend(field.to_le_bytes());
        }
        for entry in run {
            let difference = (i64::from(entry.number) - i64::from(first.number)) as i16;
            self.bytes.extend(entry.inode.offset.to_le_bytes());
            self.bytes.extend(difference.to_le_bytes());
            self.bytes.extend(entry.kind.to_le_bytes());
            self.bytes.extend((entry.name.len() as u16 - 1).to_le_bytes());
            self.bytes.extend(entry.name);
        }
    }

    /// Appends the listing to the directory table.
    pub(super) fn write<W: Write>(&self, table: &mut Metadata<W>) -> Result<Listed> {
        let start = table.position();
        let mut index = Vec::new();
        let mut written = 0;
        // The count has 16 bits; what lies beyond is found from the last one.
        for (at, name) in self.index.iter().take(usize::from(u16::MAX)) {
            table.write(&self.bytes[written..*at])?;
            written = *at;
            for field in [*at as u32, table.position().block as u32, name.len() as u32 - 1] {
                index.extend(field.to_le_bytes());
            }
            index.extend(name);
        }
        table.write(&self.bytes[written..])?;
        let count = self.index.len().min(usize::from(u16::MAX)) as u16;
        Ok(Listed { start, len: self.bytes.len(), index: (index, count) })
    }
}

fn shares_run(first: &Entry<'_>, entry: &Entry<'_>) -> bool {
    let difference = i64::from(entry.number) - i64::from(first.number);
    first.inode.block == entry.inode.block && i16::try_from(difference).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &'static [u8], number: u32, block: u64) -> Entry<'static> {
        Entry { name, kind: 2, number, inode: Position { block, offset: 7 } }
    }

    #[test]
    fn cuts_runs_where_the_records_demand_it() {
        let cases: [(&str, Vec<Entry<'static>>, usize); 5] = [
            ("none", vec![], 0),
            ("one block", vec![entry(b"a", 1, 0), entry(b"b", 2, 0)], 1),
            ("another block", vec![entry(b"a", 1, 0), entry(b"b", 2, 99)], 2),
            (
                "numbers far apart",
                vec![entry(b"a", 1, 0), entry(b"b", 32_769, 0), entry(b"c", 40_000, 0)],
                2,
            ),
            ("too many", vec![entry(b"a", 1, 0); 257], 2),
        ];
        for (what, entries, runs) in cases {
            let names: usize = entries.iter().map(|entry| 8 + entry.name.len()).sum();
            let listing = Listing::of(&entries);
            assert_eq!(listing.bytes.len(), runs * 12 + names, "{what}");
            assert!(listing.index.is_empty(), "{what}");
        }
    }
}
