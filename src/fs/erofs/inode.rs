//! Inode records, in their compact form where that holds all there is to say.

use super::format::{COMPACT, EXTENDED, XATTR_HEAD};
use crate::tree::Metadata;

/// What an inode's record says.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) meta: &'a Metadata,
    /// Type and permissions, as `st_mode`.
    pub(super) mode: u16,
    pub(super) number: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    /// One of the data layouts.
    pub(super) layout: u16,
    /// First block, number of blocks, device or chunk format.
    pub(super) place: u32,
    /// The attributes, encoded.
    pub(super) xattrs: &'a [u8],
}

/// Says whether an inode needs the extended form in an image of that time.
pub(super) fn is_extended(meta: &Metadata, links: u32, size: u64, time: i64) -> bool {
    let short = |value: u32| u16::try_from(value).is_ok();
    let fits = short(meta.uid) && short(meta.gid) && short(links) && u32::try_from(size).is_ok();
    !fits || meta.mtime != time
}

/// Returns the length of a record.
pub(super) fn len(extended: bool) -> usize {
    if extended { EXTENDED } else { COMPACT }
}

impl Record<'_> {
    /// Encodes the record and the attributes.
    pub(super) fn encode(&self, extended: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(EXTENDED + self.xattrs.len());
        let count = match self.xattrs.len() {
            0 => 0,
            len => (len - XATTR_HEAD) / 4 + 1,
        };
        let format = u16::from(extended) | self.layout << 1;
        for field in [format, count as u16, self.mode] {
            bytes.extend(field.to_le_bytes());
        }
        if extended {
            bytes.extend([0; 2]);
            bytes.extend(self.size.to_le_bytes());
            for field in [self.place, self.number, self.meta.uid, self.meta.gid] {
                bytes.extend(field.to_le_bytes());
            }
            bytes.extend(self.meta.mtime.to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(self.links.to_le_bytes());
        } else {
            bytes.extend((self.links as u16).to_le_bytes());
            for field in [self.size as u32, 0, self.place, self.number] {
                bytes.extend(field.to_le_bytes());
            }
            for field in [self.meta.uid as u16, self.meta.gid as u16] {
                bytes.extend(field.to_le_bytes());
            }
        }
        bytes.resize(len(extended), 0);
        bytes.extend(self.xattrs);
        bytes
    }
}
