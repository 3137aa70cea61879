//! Extended attributes: sets of them, each set stored once.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Options;
use super::format::{NAMESPACES, NONE_32};
use super::metadata::Metadata;
use crate::tree;

type Map = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Collects the attribute sets of all inodes.
#[derive(Debug)]
pub(super) struct Sets {
    values: Metadata<Vec<u8>>,
    known: BTreeMap<Map, u32>,
    // Position, number of attributes and length of each set.
    sets: Vec<(u64, u32, u32)>,
}

/// The attribute sets, encoded: the table of values, the offset in it of each
/// of its blocks, and the sets' records.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) values: Vec<u8>,
    pub(super) records: Vec<u8>,
    pub(super) count: u32,
}

impl Sets {
    /// Begins without any.
    pub(super) fn new(options: &Options) -> Self {
        let values = Metadata::new(options, Vec::new());
        Self { values, known: BTreeMap::new(), sets: Vec::new() }
    }

    /// Returns the number of an inode's set, [`NONE_32`] where it has none.
    pub(super) fn number(&mut self, meta: &tree::Metadata) -> Result<u32> {
        if meta.xattrs.is_empty() {
            return Ok(NONE_32);
        }
        if let Some(known) = self.known.get(&meta.xattrs) {
            return Ok(*known);
        }
        let mut record = Vec::new();
        for (name, value) in &meta.xattrs {
            encode(name, value, &mut record)?;
        }
        let at = self.values.position().reference();
        self.values.write(&record)?;
        let number = self.sets.len() as u32;
        self.sets.push((at, meta.xattrs.len() as u32, record.len() as u32));
        self.known.insert(meta.xattrs.clone(), number);
        Ok(number)
    }

    /// Ends the table; `None` where no inode has attributes.
    pub(super) fn finish(self) -> Result<Option<Encoded>> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        let (values, ..) = self.values.finish()?;
        let mut records = Vec::with_capacity(self.sets.len() * 16);
        for (at, count, len) in &self.sets {
            records.extend(at.to_le_bytes());
            records.extend(count.to_le_bytes());
            records.extend(len.to_le_bytes());
        }
        Ok(Some(Encoded { values, records, count: self.sets.len() as u32 }))
    }
}

fn encode(name: &[u8], value: &[u8], record: &mut Vec<u8>) -> Result<()> {
    let (kind, rest) = NAMESPACES
        .iter()
        .zip(0_u16..)
        .find_map(|(prefix, kind)| Some((kind, name.strip_prefix(*prefix)?)))
        .with_context(|| {
            format!(
                "expected an extended attribute of user, trusted or security, got `{}`",
                String::from_utf8_lossy(name)
            )
        })?;
    let len = u16::try_from(rest.len()).context("expected an attribute's name below 64 KiB")?;
    record.extend(kind.to_le_bytes());
    record.extend(len.to_le_bytes());
    record.extend(rest);
    let len = u32::try_from(value.len()).context("expected an attribute's value below 4 GiB")?;
    record.extend(len.to_le_bytes());
    record.extend(value);
    Ok(())
}
