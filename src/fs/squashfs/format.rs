//! Numbers and records of the squashfs 4.0 format.

use anyhow::{Result, ensure};

use crate::fs::window::Fields;

/// `hsqs`.
pub(super) const MAGIC: u32 = 0x7371_7368;
/// Length of the superblock in bytes.
pub(super) const SUPERBLOCK: usize = 96;
/// Uncompressed length of a full metadata block.
pub(super) const METADATA: usize = 8192;
/// In a metadata block's header: the block is stored as it is.
pub(super) const METADATA_PLAIN: u16 = 1 << 15;
/// In the size of a data block: the block is stored as it is.
pub(super) const DATA_PLAIN: u32 = 1 << 24;
/// No table, no fragment, no attributes.
pub(super) const NONE_64: u64 = u64::MAX;
pub(super) const NONE_32: u32 = u32::MAX;
/// Entries below one header of a directory listing.
pub(super) const DIRECTORY_RUN: usize = 256;
/// What a directory's size counts beyond its listing: `.` and `..`.
pub(super) const DIRECTORY_EXTRA: u32 = 3;
/// Data that images are padded to, in bytes: what loop devices ask for.
pub(super) const PADDING: u64 = 4096;

/// Flags of the superblock.
pub(super) const FLAG_ALWAYS_FRAGMENTS: u16 = 0x20;
pub(super) const FLAG_DUPLICATES: u16 = 0x40;
pub(super) const FLAG_EXPORTABLE: u16 = 0x80;
pub(super) const FLAG_COMPRESSOR_OPTIONS: u16 = 0x400;

/// Inode types; an extended inode's is [`EXTENDED`] more.
pub(super) const DIRECTORY: u16 = 1;
pub(super) const FILE: u16 = 2;
pub(super) const SYMLINK: u16 = 3;
pub(super) const BLOCK: u16 = 4;
pub(super) const CHAR: u16 = 5;
pub(super) const FIFO: u16 = 6;
pub(super) const SOCKET: u16 = 7;
pub(super) const EXTENDED: u16 = 7;

/// Namespaces of extended attributes, by their number.
pub(super) const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// In an attribute's type: the value stands elsewhere.
pub(super) const XATTR_ELSEWHERE: u16 = 0x100;

/// The superblock's fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Superblock {
    pub(super) inodes: u32,
    pub(super) time: u32,
    pub(super) block_size: u32,
    pub(super) fragments: u32,
    pub(super) compressor: u16,
    pub(super) flags: u16,
    pub(super) ids: u16,
    pub(super) root: u64,
    pub(super) bytes_used: u64,
    pub(super) id_table: u64,
    pub(super) xattr_table: u64,
    pub(super) inode_table: u64,
    pub(super) directory_table: u64,
    pub(super) fragment_table: u64,
    pub(super) export_table: u64,
}

impl Superblock {
    /// Encodes the superblock.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SUPERBLOCK);
        for field in [MAGIC, self.inodes, self.time, self.block_size, self.fragments] {
            bytes.extend(field.to_le_bytes());
        }
        let log = self.block_size.trailing_zeros() as u16;
        for field in [self.compressor, log, self.flags, self.ids, 4, 0] {
            bytes.extend(field.to_le_bytes());
        }
        let places = [
            self.root,
            self.bytes_used,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.export_table,
        ];
        for field in places {
            bytes.extend(field.to_le_bytes());
        }
        bytes
    }

    /// Decodes and checks a superblock.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.u32()?;
        ensure!(magic == MAGIC, "expected squashfs's magic {MAGIC:#x}, got {magic:#x}");
        let mut found = Self {
            inodes: fields.u32()?,
            time: fields.u32()?,
            block_size: fields.u32()?,
            fragments: fields.u32()?,
            compressor: fields.u16()?,
            ..Self::default()
        };
        let log = fields.u16()?;
        ensure!(
            (12..=20).contains(&log) && found.block_size == 1 << log,
            "expected a block size of 4 KiB to 1 MiB, got {} (log {log})",
            found.block_size
        );
        found.flags = fields.u16()?;
        found.ids = fields.u16()?;
        let version = (fields.u16()?, fields.u16()?);
        ensure!(version == (4, 0), "expected squashfs 4.0, got {}.{}", version.0, version.1);
        found.root = fields.u64()?;
        found.bytes_used = fields.u64()?;
        found.id_table = fields.u64()?;
        found.xattr_table = fields.u64()?;
        found.inode_table = fields.u64()?;
        found.directory_table = fields.u64()?;
        found.fragment_table = fields.u64()?;
        found.export_table = fields.u64()?;
        Ok(found)
    }
}

/// Where something stands in a table of metadata blocks: the block's offset
/// from the table's beginning, and the offset in the block once unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) block: u64,
    pub(super) offset: u16,
}

impl Position {
    /// Packs the position into 64 bits.
    pub(super) fn reference(self) -> u64 {
        self.block << 16 | u64::from(self.offset)
    }

    /// Unpacks a position from 64 bits.
    pub(super) fn of(reference: u64) -> Self {
        Self { block: reference >> 16, offset: reference as u16 }
    }
}
