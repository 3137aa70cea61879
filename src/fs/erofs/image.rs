//! An image opened for reading: inodes, attributes, directories. Blocks,
//! lengths and names are checked, for the image may be anybody's.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::format::{
    BLOCK, COMPACT, COMPAT_CHECKSUM, EXTENDED, FLAT_INLINE, FLAT_PLAIN, NAMESPACES, SLOT,
    SUPERBLOCK_AT, Superblock, XATTR_HEAD, checksum,
};
use crate::fs::unpacked::Unpacked;
use crate::fs::window::{Fields, Window};

/// How long a directory may be, in bytes.
const DIRECTORY_MAX: u64 = 1 << 30;

pub(super) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// An image, open.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) window: Window,
    pub(super) superblock: Superblock,
    pub(super) data: Unpacked,
}

/// An inode as it stands in the image.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) nid: u64,
    pub(super) extended: bool,
    pub(super) layout: u16,
    pub(super) mode: u16,
    pub(super) number: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) size: u64,
    pub(super) place: u32,
    /// Where the attributes begin, and how long they are.
    xattrs: (u64, usize),
}

/// One name of a directory.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Vec<u8>,
    pub(super) nid: u64,
}

impl Image {
    /// Opens `len` bytes of a file from `offset` on.
    pub(super) fn open(file: Arc<File>, offset: u64, len: u64) -> Result<Self> {
        let window = Window::new(file, offset, len)?;
        let block = window.read(SUPERBLOCK_AT, BLOCK - SUPERBLOCK_AT as usize)?;
        let superblock = Superblock::decode(&block)?;
        if superblock.compat & COMPAT_CHECKSUM != 0 {
            let mut block = block;
            block[4..8].fill(0);
            let found = checksum(&block);
            ensure!(
                found == superblock.checksum,
                "expected a superblock with checksum {:#x}, got {found:#x}",
                superblock.checksum
            );
        }
        Ok(Self { window, superblock, data: Unpacked::default() })
    }

    /// Reads an inode.
    pub(super) fn inode(&self, nid: u64) -> Result<Inode> {
        let base = u64::from(self.superblock.meta_block) * BLOCK as u64;
        let at = nid.checked_mul(SLOT as u64).and_then(|at| at.checked_add(base));
        let at = at.context("expected an inode's number")?;
        let format = Fields(&self.window.read(at, 2)?).u16()?;
        let extended = format & 1 == 1;
        let len = if extended { EXTENDED } else { COMPACT };
        let bytes = self.window.read(at, len)?;
        let mut fields = Fields(&bytes[2..]);
        let (xattr_count, mode) = (usize::from(fields.u16()?), fields.u16()?);
        let xattr_len = xattr_count.checked_sub(1).map_or(0, |more| XATTR_HEAD + more * 4);
        let mut inode = Inode {
            nid,
            extended,
            layout: format >> 1 & 7,
            mode,
            number: 0,
            links: 0,
            uid: 0,
            gid: 0,
            mtime: self.superblock.time as i64,
            size: 0,
            place: 0,
            xattrs: (at + len as u64, xattr_len),
        };
        if extended {
            fields.take(2)?;
            inode.size = fields.u64()?;
            (inode.place, inode.number) = (fields.u32()?, fields.u32()?);
            (inode.uid, inode.gid) = (fields.u32()?, fields.u32()?);
            inode.mtime = fields.u64()? as i64;
            fields.take(4)?;
            inode.links = fields.u32()?;
        } else {
            inode.links = fields.u16()?.into();
            inode.size = fields.u32()?.into();
            fields.take(4)?;
            (inode.place, inode.number) = (fields.u32()?, fields.u32()?);
            (inode.uid, inode.gid) = (fields.u16()?.into(), fields.u16()?.into());
        }
        Ok(inode)
    }

    /// Reads an inode's attributes.
    pub(super) fn xattrs(&self, inode: &Inode) -> Result<Xattrs> {
        let mut set = Xattrs::new();
        let (at, len) = inode.xattrs;
        if len == 0 {
            return Ok(set);
        }
        let bytes = self.window.read(at, len).context("reading attributes")?;
        let mut own = Fields(&bytes[XATTR_HEAD..]);
        let area = u64::from(self.superblock.xattr_block) * BLOCK as u64;
        for _ in 0..bytes[4] {
            let at = area + u64::from(own.u32()?) * 4;
            let head = self.window.read(at, 4).context("reading a shared attribute")?;
            let len =
                4 + usize::from(head[0]) + usize::from(u16::from_le_bytes([head[2], head[3]]));
            let bytes = self.window.read(at, len).context("reading a shared attribute")?;
            xattr(&mut Fields(&bytes), &mut set)?;
        }
        while own.0.len() >= 4 {
            let before = own.0.len();
            xattr(&mut own, &mut set)?;
            let odd = (before - own.0.len()) % 4;
            own.take((4 - odd) % 4)?;
        }
        Ok(set)
    }

    /// Reads block `number` of a file or directory that is not compressed.
    pub(super) fn flat_block(&self, inode: &Inode, number: u64) -> Result<Vec<u8>> {
        let size = BLOCK as u64;
        let at = number.checked_mul(size).filter(|at| *at < inode.size);
        let at = at.context("expected a block within its file")?;
        let len = (inode.size - at).min(size) as usize;
        let last = inode.size - at <= size;
        let place = match inode.layout {
            FLAT_INLINE if last => inode.after_xattrs(),
            FLAT_PLAIN | FLAT_INLINE => u64::from(inode.place) * size + at,
            other => bail!("expected plain contents, got layout {other}"),
        };
        self.window.read(place, len)
    }

    /// Reads a directory's names, without `.` and `..`.
    pub(super) fn listing(&self, inode: &Inode) -> Result<Vec<Named>> {
        ensure!(inode.size <= DIRECTORY_MAX, "expected a directory below 1 GiB");
        let mut names = Vec::new();
        for number in 0..inode.size.div_ceil(BLOCK as u64) {
            listing_block(&self.flat_block(inode, number)?, &mut names)?;
        }
        Ok(names)
    }
}

impl Inode {
    /// Returns where an inode's attributes end, in bytes of the image.
    pub(super) fn after_xattrs(&self) -> u64 {
        self.xattrs.0 + self.xattrs.1 as u64
    }
}

fn xattr(fields: &mut Fields<'_>, set: &mut Xattrs) -> Result<()> {
    let (name_len, number, len) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let name = fields.take(name_len.into())?;
    let value = fields.take(len.into())?;
    let prefix = NAMESPACES.iter().find(|(known, _)| *known == number);
    let (_, prefix) =
        prefix.with_context(|| format!("expected an attribute namespace, got {number}"))?;
    set.insert([*prefix, name].concat().into(), value.into());
    Ok(())
}

fn listing_block(block: &[u8], names: &mut Vec<Named>) -> Result<()> {
    const RECORD: usize = 12;
    let record = |at: usize| -> Result<(u64, usize)> {
        let mut fields = Fields(block.get(at..).context("expected a directory's record")?);
        Ok((fields.u64()?, fields.u16()?.into()))
    };
    let (_, names_at) = record(0)?;
    ensure!(
        names_at % RECORD == 0 && (RECORD..=block.len()).contains(&names_at),
        "expected a directory's names after its records, got them at {names_at}"
    );
    for at in (0..names_at).step_by(RECORD) {
        let (nid, from) = record(at)?;
        let to = if at + RECORD < names_at { record(at + RECORD)?.1 } else { block.len() };
        let name = block.get(from..to).context("expected a name within its block")?;
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        if name == b"." || name == b".." {
            continue;
        }
        let plain = !name.contains(&b'/') && (1..=255).contains(&name.len());
        ensure!(plain, "expected a plain file name, got `{}`", String::from_utf8_lossy(name));
        names.push(Named { name: name.to_vec(), nid });
    }
    Ok(())
}
