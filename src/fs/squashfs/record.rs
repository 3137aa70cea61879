//! Inode and directory records, decoded and checked.

use anyhow::{Context, Result, bail, ensure};

use super::format::{
    BLOCK, CHAR, DIRECTORY, DIRECTORY_EXTRA, DIRECTORY_RUN, EXTENDED, FIFO, FILE, NONE_32,
    Position, SOCKET, SYMLINK,
};
use super::image::Image;
use crate::fs::window::Fields;

/// How many blocks a file may have: 16 TiB of the largest.
const BLOCKS_MAX: u64 = 1 << 24;
/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: u32 = 65_535;

/// An inode as it stands in the image.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: u32,
    pub(super) number: u32,
    pub(super) links: u32,
    pub(super) xattrs: u32,
    pub(super) extended: bool,
    pub(super) body: Body,
}

/// What an inode is, with what only its kind has.
#[derive(Debug)]
pub(super) enum Body {
    Directory { start: Position, size: u32, parent: u32, index: u16 },
    File(Blocks),
    Symlink(Vec<u8>),
    Block(u32),
    Char(u32),
    Fifo,
    Socket,
}

/// Where a file's contents are.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) sparse: u64,
    pub(super) fragment: Option<(u32, u32)>,
    pub(super) sizes: Vec<u32>,
}

/// One name of a directory.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Vec<u8>,
    pub(super) inode: Position,
}

impl Image {
    /// Reads an inode.
    pub(super) fn inode(&self, position: Position) -> Result<Record> {
        let mut records = self.records(self.superblock.inode_table, position)?;
        let mut take = |len| records.take(len);
        let head = take(16)?;
        let mut head = Fields(&head);
        let (kind, mode) = (head.u16()?, head.u16()?);
        let (uid, gid) = (self.owner(head.u16()?)?, self.owner(head.u16()?)?);
        let (mtime, number) = (head.u32()?, head.u32()?);
        let extended = kind > EXTENDED;
        let basic = if extended { kind - EXTENDED } else { kind };
        let (links, xattrs, body) = match basic {
            DIRECTORY => directory(&mut take, extended)?,
            FILE => self.file(&mut take, extended)?,
            SYMLINK | BLOCK | CHAR | FIFO | SOCKET => node(&mut take, basic, extended)?,
            other => bail!("expected an inode type of 1 to 14, got {other}"),
        };
        Ok(Record { mode: mode & 0o7777, uid, gid, mtime, number, links, xattrs, extended, body })
    }

    fn owner(&self, index: u16) -> Result<u32> {
        let id = self.ids.get(usize::from(index));
        id.copied().with_context(|| format!("expected the index of an owner, got {index}"))
    }

    fn file(
        &self,
        take: &mut dyn FnMut(usize) -> Result<Vec<u8>>,
        extended: bool,
    ) -> Result<Parts> {
        let bytes = take(if extended { 40 } else { 16 })?;
        let mut fields = Fields(&bytes);
        let (mut links, mut xattrs, mut sparse) = (1, NONE_32, 0);
        let (start, len, fragment);
        if extended {
            (start, len, sparse) = (fields.u64()?, fields.u64()?, fields.u64()?);
            links = fields.u32()?;
            fragment = (fields.u32()?, fields.u32()?);
            xattrs = fields.u32()?;
        } else {
            start = fields.u32()?.into();
            fragment = (fields.u32()?, fields.u32()?);
            len = fields.u32()?.into();
        }
        let fragment = (fragment.0 != NONE_32).then_some(fragment);
        let block = u64::from(self.superblock.block_size);
        let count = if fragment.is_some() { len / block } else { len.div_ceil(block) };
        ensure!(count <= BLOCKS_MAX, "expected at most {BLOCKS_MAX} blocks, got {count}");
        let sizes = take(count as usize * 4)?;
        let sizes = sizes.chunks_exact(4).map(|size| Fields(size).u32());
        let sizes = sizes.collect::<Result<_>>()?;
        Ok((links, xattrs, Body::File(Blocks { start, len, sparse, fragment, sizes })))
    }

    /// Reads a directory's names.
    pub(super) fn listing(&self, start: Position, size: u32) -> Result<Vec<Named>> {
        let mut names = Vec::new();
        let Some(mut left) = size.checked_sub(DIRECTORY_EXTRA).filter(|left| *left > 0) else {
            return Ok(names);
        };
        let mut records = self.records(self.superblock.directory_table, start)?;
        let mut take = |len: usize| {
            let after = left.checked_sub(len as u32);
            left = after.context("expected the listing to end with an entry")?;
            Ok::<_, anyhow::Error>((records.take(len)?, left > 0))
        };
        let mut more = true;
        while more {
            let (head, _) = take(12)?;
            let mut head = Fields(&head);
            let (count, block) = (head.u32()?, u64::from(head.u32()?));
            ensure!((count as usize) < DIRECTORY_RUN, "expected a run of 256 names, got {count}");
            for _ in 0..=count {
                let (entry, _) = take(8)?;
                let mut entry = Fields(&entry);
                let offset = entry.u16()?;
                let (_, _, len) = (entry.u16()?, entry.u16()?, usize::from(entry.u16()?));
                let name;
                (name, more) = take(len.saturating_add(1))?;
                check_name(&name)?;
                names.push(Named { name, inode: Position { block, offset } });
            }
        }
        Ok(names)
    }
}

type Parts = (u32, u32, Body);

fn directory(take: &mut dyn FnMut(usize) -> Result<Vec<u8>>, extended: bool) -> Result<Parts> {
    let bytes = take(if extended { 24 } else { 16 })?;
    let mut fields = Fields(&bytes);
    let (block, links, size, offset, parent);
    let (mut xattrs, mut index) = (NONE_32, 0);
    if extended {
        (links, size, block, parent) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        (index, offset, xattrs) = (fields.u16()?, fields.u16()?, fields.u32()?);
    } else {
        (block, links) = (fields.u32()?, fields.u32()?);
        (size, offset, parent) = (fields.u16()?.into(), fields.u16()?, fields.u32()?);
    }
    let start = Position { block: block.into(), offset };
    Ok((links, xattrs, Body::Directory { start, size, parent, index }))
}

fn node(
    take: &mut dyn FnMut(usize) -> Result<Vec<u8>>,
    basic: u16,
    extended: bool,
) -> Result<Parts> {
    let links = Fields(&take(4)?).u32()?;
    let body = match basic {
        SYMLINK => {
            let len = Fields(&take(4)?).u32()?;
            ensure!(len <= TARGET_MAX, "expected a link of up to {TARGET_MAX} bytes, got {len}");
            Body::Symlink(take(len as usize)?)
        }
        BLOCK => Body::Block(Fields(&take(4)?).u32()?),
        CHAR => Body::Char(Fields(&take(4)?).u32()?),
        FIFO => Body::Fifo,
        _ => Body::Socket,
    };
    let xattrs = if extended { Fields(&take(4)?).u32()? } else { NONE_32 };
    Ok((links, xattrs, body))
}

fn check_name(name: &[u8]) -> Result<()> {
    let plain = name != b"." && name != b".." && !name.iter().any(|b| matches!(b, b'/' | 0));
    ensure!(plain, "expected a plain file name, got `{}`", String::from_utf8_lossy(name));
    ensure!(name.len() <= 255, "expected a name of up to 255 bytes, got {}", name.len());
    Ok(())
}
