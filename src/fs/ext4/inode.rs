//! Inodes of 256 bytes, with times beyond 2038 and before 1970.
//!
//! Follows "ext4 Data Structures and Algorithms", section "Index Nodes".

use anyhow::{Result, ensure};

use super::checksum::Seed;
use super::field::{get, get16, get16_split, get32, get32_split};
use super::field::{put16, put16_split, put32, put32_split};

/// Size of an inode in bytes.
pub(super) const SIZE: usize = 256;
/// What ext2 had, in bytes; then come the extra fields.
const SIZE_OLD: usize = 128;
/// Bytes of extra fields that are in use.
pub(super) const EXTRA: u16 = 32;
/// Where attributes begin: the spare room behind the extra fields.
pub(super) const ATTRIBUTES: usize = SIZE_OLD + EXTRA as usize;
/// Size of the field for extents, a short link's target, or a device.
pub(super) const BODY: usize = 60;

/// Flag: the folder has an index.
pub(super) const INDEX: u32 = 0x1000;
/// Flag: the body holds extents.
pub(super) const EXTENTS: u32 = 0x8_0000;
/// Flag: contents lie in the inode.
pub(super) const INLINE_DATA: u32 = 0x1000_0000;

const CHECKSUM_LOW: usize = 0x7c;
const CHECKSUM_HIGH: usize = 0x82;
/// The times that 32 bits of seconds and 2 of epoch hold.
const TIMES: std::ops::RangeInclusive<i64> = -(1 << 31)..=(1 << 34) - (1 << 31) - 1;

/// The fields of an inode that we write or look at.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    /// Type and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of contents.
    pub(super) size: u64,
    /// Seconds since 1970, for all times alike when written.
    pub(super) mtime: i64,
    pub(super) links: u16,
    /// Space in units of 512 bytes.
    pub(super) sectors: u64,
    pub(super) flags: u32,
    pub(super) generation: u32,
    /// Extents, a short link's target, or a device.
    pub(super) body: [u8; BODY],
    /// The block of attributes, or 0.
    pub(super) attributes: u64,
    /// The room for attributes behind the extra fields.
    pub(super) inline: Box<[u8]>,
}

impl Inode {
    /// Encodes an inode with its checksum.
    pub(super) fn encode(&self, number: u32, seed: Seed) -> [u8; SIZE] {
        let mut raw = [0; SIZE];
        put16(&mut raw, 0x00, self.mode);
        put16_split(&mut raw, 0x02, 0x78, self.uid);
        put32_split(&mut raw, 0x04, 0x6c, self.size);
        put16_split(&mut raw, 0x18, 0x7a, self.gid);
        put16(&mut raw, 0x1a, self.links);
        put32(&mut raw, 0x1c, self.sectors as u32);
        put16(&mut raw, 0x74, (self.sectors >> 32) as u16);
        put32(&mut raw, 0x20, self.flags);
        raw[0x28..0x28 + BODY].copy_from_slice(&self.body);
        put32(&mut raw, 0x64, self.generation);
        put32(&mut raw, 0x68, self.attributes as u32);
        put16(&mut raw, 0x76, (self.attributes >> 32) as u16);
        put16(&mut raw, 0x80, EXTRA);
        // Accessed, changed, modified, made: seconds and epoch of each.
        let time = self.mtime.clamp(*TIMES.start(), *TIMES.end());
        let epoch = ((time - i64::from(time as i32)) >> 32) as u32 & 3;
        for (seconds, extra) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            put32(&mut raw, seconds, time as u32);
            put32(&mut raw, extra, epoch);
        }
        raw[ATTRIBUTES..ATTRIBUTES + self.inline.len()].copy_from_slice(&self.inline);
        let sum = seed.of_inode(number, self.generation).sum(&[&raw]);
        put16_split(&mut raw, CHECKSUM_LOW, CHECKSUM_HIGH, sum);
        raw
    }

    /// Decodes an inode of any size from 128 bytes on.
    pub(super) fn decode(raw: &[u8]) -> Result<Self> {
        ensure!(raw.len() >= SIZE_OLD, "expected an inode of 128 bytes, got {}", raw.len());
        let extra = if raw.len() > SIZE_OLD { get16(raw, 0x80) } else { 0 };
        let epoch = if extra >= 12 { get32(raw, 0x88) & 3 } else { 0 };
        let room =
            if extra == 0 { &[] } else { raw.get(SIZE_OLD + usize::from(extra)..).unwrap_or(&[]) };
        Ok(Self {
            mode: get16(raw, 0x00),
            uid: get16_split(raw, 0x02, 0x78),
            gid: get16_split(raw, 0x18, 0x7a),
            size: get32_split(raw, 0x04, 0x6c),
            mtime: i64::from(get32(raw, 0x10) as i32) + (i64::from(epoch) << 32),
            links: get16(raw, 0x1a),
            sectors: u64::from(get32(raw, 0x1c)) | u64::from(get16(raw, 0x74)) << 32,
            flags: get32(raw, 0x20),
            generation: get32(raw, 0x64),
            body: get(raw, 0x28),
            attributes: u64::from(get32(raw, 0x68)) | u64::from(get16(raw, 0x76)) << 32,
            inline: room.into(),
        })
    }
}

/// Encodes a device's numbers into an inode's body.
pub(super) fn device(major: u32, minor: u32) -> Result<[u8; BODY]> {
    ensure!(
        major < 1 << 12 && minor < 1 << 20,
        "expected a device of at most 4095:1048575, got {major}:{minor}"
    );
    let mut body = [0; BODY];
    if major < 256 && minor < 256 {
        put32(&mut body, 0, major << 8 | minor);
    } else {
        put32(&mut body, 4, (minor & 0xff) | major << 8 | (minor & !0xff) << 12);
    }
    Ok(body)
}

/// Decodes a device's numbers.
pub(super) fn device_numbers(body: &[u8; BODY]) -> (u32, u32) {
    let (old, new) = (get32(body, 0), get32(body, 4));
    if old != 0 {
        return (old >> 8 & 0xff, old & 0xff);
    }
    (new >> 8 & 0xfff, (new & 0xff) | (new >> 12 & 0xf_ff00))
}
