//! Inode records, in their basic form where that holds all there is to say.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::data::Stored;
use super::directory::Listed;
use super::format::{
    BLOCK, CHAR, DIRECTORY, DIRECTORY_EXTRA, EXTENDED, FIFO, FILE, NONE_32, SOCKET, SYMLINK,
};
use crate::fs::{device, target};
use crate::tree::{Kind, Metadata};

/// The distinct owners and groups, by index.
#[derive(Debug, Default)]
pub(super) struct Ids {
    known: BTreeMap<u32, u16>,
    pub(super) all: Vec<u32>,
}

impl Ids {
    fn index(&mut self, id: u32) -> Result<u16> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let index = u16::try_from(self.all.len()).unwrap_or(u16::MAX);
        ensure!(index < u16::MAX, "expected at most {} different owners", u16::MAX);
        self.known.insert(id, index);
        self.all.push(id);
        Ok(index)
    }
}

/// What every inode has.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub(super) meta: &'a Metadata,
    pub(super) number: u32,
    pub(super) links: u32,
    /// Number of its attribute set, or [`NONE_32`].
    pub(super) xattrs: u32,
}

impl Common<'_> {
    fn head(&self, kind: u16, extended: bool, ids: &mut Ids) -> Result<Vec<u8>> {
        let kind = if extended { kind + EXTENDED } else { kind };
        let owner = ids.index(self.meta.uid)?;
        let group = ids.index(self.meta.gid)?;
        let mut record = Vec::with_capacity(64);
        for field in [kind, self.meta.mode & 0o7777, owner, group] {
            record.extend(field.to_le_bytes());
        }
        // The field has 32 bits without a sign.
        let time = self.meta.mtime.clamp(0, i64::from(u32::MAX)) as u32;
        push(&mut record, &[time, self.number]);
        Ok(record)
    }

    /// Encodes a directory. `parent` is its parent's inode number.
    pub(super) fn directory(&self, listed: &Listed, parent: u32, ids: &mut Ids) -> Result<Vec<u8>> {
        let size = u32::try_from(listed.len).ok().and_then(|len| len.checked_add(DIRECTORY_EXTRA));
        ensure!(size.is_some(), "expected a directory listing below 4 GiB");
        let size = size.unwrap_or_default();
        let block = listed.start.block as u32;
        let (index, count) = &listed.index;
        let short = u16::try_from(size).ok();
        if let Some(size) = short.filter(|_| *count == 0 && self.xattrs == NONE_32) {
            let mut record = self.head(DIRECTORY, false, ids)?;
            push(&mut record, &[block, self.links]);
            record.extend(size.to_le_bytes());
            record.extend(listed.start.offset.to_le_bytes());
            push(&mut record, &[parent]);
            return Ok(record);
        }
        let mut record = self.head(DIRECTORY, true, ids)?;
        push(&mut record, &[self.links, size, block, parent]);
        record.extend(count.to_le_bytes());
        record.extend(listed.start.offset.to_le_bytes());
        push(&mut record, &[self.xattrs]);
        record.extend(index);
        Ok(record)
    }

    /// Encodes a regular file, whose block and fragment are counted from the
    /// beginning of the image.
    pub(super) fn file(&self, stored: &Stored, ids: &mut Ids) -> Result<Vec<u8>> {
        let (fragment, offset) = stored.fragment.unwrap_or((NONE_32, 0));
        let (start, len) = (u32::try_from(stored.start), u32::try_from(stored.len));
        let plain = self.links == 1 && self.xattrs == NONE_32 && stored.sparse == 0;
        let mut record;
        if let (Ok(start), Ok(len), true) = (start, len, plain) {
            record = self.head(FILE, false, ids)?;
            push(&mut record, &[start, fragment, offset, len]);
        } else {
            record = self.head(FILE, true, ids)?;
            // A file must hold at least one byte, as the kernel counts.
            let sparse = stored.sparse.min(stored.len.saturating_sub(1));
            for field in [stored.start, stored.len, sparse] {
                record.extend(field.to_le_bytes());
            }
            push(&mut record, &[self.links, fragment, offset, self.xattrs]);
        }
        push(&mut record, &stored.blocks);
        Ok(record)
    }

    /// Encodes whatever is neither a directory nor a regular file.
    pub(super) fn node(&self, kind: &Kind, ids: &mut Ids) -> Result<Vec<u8>> {
        let extended = self.xattrs != NONE_32;
        let mut record = self.head(type_of(kind), extended, ids)?;
        push(&mut record, &[self.links]);
        match kind {
            Kind::Symlink(target) => {
                let target = target::checked(target)?;
                push(&mut record, &[u32::try_from(target.len())?]);
                record.extend(target);
            }
            Kind::Char(major, minor) | Kind::Block(major, minor) => {
                push(&mut record, &[device::encode(*major, *minor)?]);
            }
            _ => {}
        }
        if extended {
            push(&mut record, &[self.xattrs]);
        }
        Ok(record)
    }
}

/// Returns the basic type of an inode.
pub(super) fn type_of(kind: &Kind) -> u16 {
    match kind {
        Kind::Directory(_) => DIRECTORY,
        Kind::File(_) => FILE,
        Kind::Symlink(_) => SYMLINK,
        Kind::Block(..) => BLOCK,
        Kind::Char(..) => CHAR,
        Kind::Fifo => FIFO,
        Kind::Socket => SOCKET,
    }
}

fn push(record: &mut Vec<u8>, fields: &[u32]) {
    for field in fields {
        record.extend(field.to_le_bytes());
    }
}
