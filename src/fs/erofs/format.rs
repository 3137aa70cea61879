//! Numbers and records of the EROFS format.

use anyhow::{Result, ensure};

use crate::fs::window::Fields;

/// Length of a block in bytes.
pub(super) const BLOCK: usize = 4096;
pub(super) const BLOCK_LOG: u8 = 12;
/// Where the superblock stands, and its length.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
pub(super) const SUPERBLOCK: usize = 128;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Inodes stand at multiples of this many bytes.
pub(super) const SLOT: usize = 32;
pub(super) const COMPACT: usize = 32;
pub(super) const EXTENDED: usize = 64;
/// A hole in a chunked file.
pub(super) const HOLE: u32 = u32::MAX;

/// `feature_compat`: the superblock has a checksum; extended inodes have times.
pub(super) const COMPAT_CHECKSUM: u32 = 0x1;
pub(super) const COMPAT_MTIME: u32 = 0x2;
/// `feature_incompat`: padding before compressed data; compressor settings
/// and clusters of several blocks; chunked files.
pub(super) const INCOMPAT_PADDING: u32 = 0x1;
pub(super) const INCOMPAT_SETTINGS: u32 = 0x2;
pub(super) const INCOMPAT_CHUNKED: u32 = 0x4;
/// All of them that the reader understands.
pub(super) const INCOMPAT_KNOWN: u32 = 0x7;

/// Compression algorithms.
pub(super) const LZ4: u8 = 0;
pub(super) const ZSTD: u8 = 3;

/// Data layouts, in bits 1 to 3 of an inode's format.
pub(super) const FLAT_PLAIN: u16 = 0;
pub(super) const COMPRESSED_FULL: u16 = 1;
pub(super) const FLAT_INLINE: u16 = 2;
pub(super) const COMPRESSED_COMPACT: u16 = 3;
pub(super) const CHUNKED: u16 = 4;

/// In a compressed file's header: extents may have several blocks.
pub(super) const ADVISE_BIG: u16 = 0x2;
/// Kinds of an index entry: a block stored as it is begins here, a compressed
/// extent begins here, nothing begins here.
pub(super) const INDEX_PLAIN: u16 = 0;
pub(super) const INDEX_HEAD: u16 = 1;
pub(super) const INDEX_REST: u16 = 2;
/// In the first index entry after a head: this is its number of blocks.
pub(super) const INDEX_BLOCKS: u16 = 1 << 11;
/// Bytes of a compressed file's header and what follows it, before the index.
pub(super) const INDEX_AT: usize = 16;
pub(super) const INDEX_ENTRY: usize = 8;

/// Log of a chunk's length in blocks, in bytes 128 KiB.
pub(super) const CHUNK_LOG: u8 = 5;
pub(super) const CHUNK: usize = BLOCK << CHUNK_LOG;

/// Namespaces of extended attributes and their numbers. The ACLs' names are
/// used up by the namespace.
pub(super) const NAMESPACES: [(u8, &[u8]); 5] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
];
/// Bytes before the attributes in an inode.
pub(super) const XATTR_HEAD: usize = 12;

/// The superblock's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) checksum: u32,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) extra_slots: u8,
    pub(super) root: u16,
    pub(super) inodes: u64,
    pub(super) time: u64,
    pub(super) time_nsec: u32,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    pub(super) xattr_block: u32,
    pub(super) uuid: [u8; 16],
    pub(super) volume: [u8; 16],
    pub(super) algorithms: u16,
}

impl Superblock {
    /// Encodes the superblock.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SUPERBLOCK);
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend(self.checksum.to_le_bytes());
        bytes.extend(self.compat.to_le_bytes());
        bytes.extend([BLOCK_LOG, self.extra_slots]);
        bytes.extend(self.root.to_le_bytes());
        bytes.extend(self.inodes.to_le_bytes());
        bytes.extend(self.time.to_le_bytes());
        for field in [self.time_nsec, self.blocks, self.meta_block, self.xattr_block] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(self.uuid);
        bytes.extend(self.volume);
        bytes.extend(self.incompat.to_le_bytes());
        bytes.extend(self.algorithms.to_le_bytes());
        bytes.resize(SUPERBLOCK, 0);
        bytes
    }

    /// Decodes and checks a superblock.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.u32()?;
        ensure!(magic == MAGIC, "expected EROFS's magic {MAGIC:#x}, got {magic:#x}");
        let (checksum, compat) = (fields.u32()?, fields.u32()?);
        let log = fields.u8()?;
        ensure!(log == BLOCK_LOG, "expected blocks of 4096 bytes, got 1 << {log}");
        let mut found = Self {
            checksum,
            compat,
            extra_slots: fields.u8()?,
            root: fields.u16()?,
            inodes: fields.u64()?,
            time: fields.u64()?,
            time_nsec: fields.u32()?,
            blocks: fields.u32()?,
            meta_block: fields.u32()?,
            xattr_block: fields.u32()?,
            uuid: fields.take(16)?.try_into()?,
            volume: fields.take(16)?.try_into()?,
            ..Self::default()
        };
        found.incompat = fields.u32()?;
        let unknown = found.incompat & !INCOMPAT_KNOWN;
        ensure!(unknown == 0, "expected an image without features {unknown:#x}");
        found.algorithms = fields.u16()?;
        Ok(found)
    }
}

/// Computes CRC-32C as EROFS has it, without the final inversion.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

/// Returns a directory entry's type.
pub(super) fn entry_type(kind: &crate::tree::Kind) -> u8 {
    use crate::tree::Kind;
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::Char(..) => 3,
        Kind::Block(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}
