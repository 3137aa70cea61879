//! An image opened for reading: its superblock, its metadata blocks, and the
//! tables that are needed all the time.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use super::codec;
use super::format::{
    DATA_PLAIN, METADATA, METADATA_PLAIN, NAMESPACES, NONE_32, NONE_64, Position, SUPERBLOCK,
    Superblock, XATTR_ELSEWHERE,
};
use crate::fs::unpacked::Unpacked;
use crate::fs::window::{Fields, Window};

/// How many unpacked metadata blocks are kept at hand.
const CACHED: usize = 128;
/// How many fragments or attribute sets an image may have: 16 bytes each.
const RECORDS_MAX: u32 = 1 << 24;
/// How many attributes an inode may have, and how long a value may be.
const XATTRS_MAX: u32 = 1 << 16;
const XATTR_VALUE_MAX: u32 = 1 << 20;

pub(super) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

type Block = (Arc<[u8]>, u64);

/// An image, open.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) window: Window,
    pub(super) superblock: Superblock,
    /// Offset and stored size of each fragment.
    pub(super) fragments: Vec<(u64, u32)>,
    pub(super) ids: Vec<u32>,
    // Where the values stand, and position and count of each set.
    pub(super) xattrs: (u64, Vec<(Position, u32)>),
    // Unpacked metadata blocks, and where the next one begins.
    blocks: Mutex<BTreeMap<u64, Block>>,
    data: Unpacked,
}

impl Image {
    /// Opens `len` bytes of a file from `offset` on.
    pub(super) fn open(file: Arc<File>, offset: u64, len: u64) -> Result<Self> {
        let mut window = Window::new(file, offset, len)?;
        let superblock = window.read(0, SUPERBLOCK).and_then(|bytes| Superblock::decode(&bytes))?;
        ensure!(
            superblock.bytes_used <= len,
            "expected {} bytes of squashfs, got {len}",
            superblock.bytes_used
        );
        window.truncate(superblock.bytes_used);
        let mut image = Self {
            window,
            superblock,
            fragments: Vec::new(),
            ids: Vec::new(),
            xattrs: (0, Vec::new()),
            blocks: Mutex::default(),
            data: Unpacked::default(),
        };
        image.read_tables()?;
        Ok(image)
    }

    fn read_tables(&mut self) -> Result<()> {
        let Superblock { fragments, fragment_table, ids, id_table, xattr_table, .. } =
            self.superblock;
        let records = self.table(fragment_table, fragments, 16).context("reading fragments")?;
        for record in records.chunks_exact(16) {
            let mut fields = Fields(record);
            self.fragments.push((fields.u64()?, fields.u32()?));
        }
        let records = self.table(id_table, ids.into(), 4).context("reading owners")?;
        for record in records.chunks_exact(4) {
            self.ids.push(Fields(record).u32()?);
        }
        if xattr_table == NONE_64 {
            return Ok(());
        }
        let head = self.window.read(xattr_table, 16).context("reading attributes")?;
        let mut head = Fields(&head);
        let (values, count) = (head.u64()?, head.u32()?);
        let records = self.table(xattr_table + 16, count, 16).context("reading attributes")?;
        self.xattrs.0 = values;
        for record in records.chunks_exact(16) {
            let mut fields = Fields(record);
            self.xattrs.1.push((Position::of(fields.u64()?), fields.u32()?));
        }
        Ok(())
    }

    /// Reads a table's records through the list of its blocks at `list`.
    fn table(&self, list: u64, count: u32, size: usize) -> Result<Vec<u8>> {
        ensure!(count <= RECORDS_MAX, "expected at most {RECORDS_MAX} records, got {count}");
        let len = count as usize * size;
        let places = self.window.read(list, len.div_ceil(METADATA) * 8)?;
        let mut records = Vec::new();
        for place in places.chunks_exact(8) {
            records.extend_from_slice(&self.block(Fields(place).u64()?)?.0);
        }
        ensure!(records.len() >= len, "expected {len} bytes in a table, got {}", records.len());
        records.truncate(len);
        Ok(records)
    }

    /// Returns an unpacked metadata block and where the next one begins.
    fn block(&self, at: u64) -> Result<Block> {
        let lock = || self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((block, next)) = lock().get(&at) {
            return Ok((Arc::clone(block), *next));
        }
        let header = self.window.read(at, 2).context("reading a metadata block")?;
        let header = Fields(&header).u16()?;
        let len = usize::from(header & !METADATA_PLAIN);
        let stored = self.window.read(at + 2, len).context("reading a metadata block")?;
        let block = match header & METADATA_PLAIN {
            0 => codec::decompress(self.superblock.compressor, &stored, METADATA)?,
            _ => stored,
        };
        ensure!(
            (1..=METADATA).contains(&block.len()),
            "expected a metadata block of 1 to {METADATA} bytes, got {}",
            block.len()
        );
        let (block, next): Block = (block.into(), at + 2 + len as u64);
        let mut blocks = lock();
        if blocks.len() >= CACHED {
            blocks.clear();
        }
        blocks.insert(at, (Arc::clone(&block), next));
        Ok((block, next))
    }

    /// Returns an unpacked block of contents of a stored size.
    pub(super) fn data(&self, at: u64, size: u32) -> Result<Arc<[u8]>> {
        self.data.get((at, size.into()), || {
            let len = (size & !DATA_PLAIN) as usize;
            let whole = self.superblock.block_size as usize;
            ensure!(len <= whole, "expected a stored block of up to {whole} bytes, got {len}");
            let stored = self.window.read(at, len)?;
            match size & DATA_PLAIN {
                0 => codec::decompress(self.superblock.compressor, &stored, whole),
                _ => Ok(stored),
            }
        })
    }

    /// Begins to read the records of a table at a position.
    pub(super) fn records(&self, table: u64, position: Position) -> Result<Records<'_>> {
        let at = table.checked_add(position.block).context("expected a position in the image")?;
        let (block, next) = self.block(at)?;
        let at = usize::from(position.offset);
        ensure!(at <= block.len(), "expected an offset in a metadata block, got {at}");
        Ok(Records { image: self, block, at, next })
    }

    /// Returns the attributes of a set.
    pub(super) fn xattr_set(&self, number: u32) -> Result<Xattrs> {
        let mut set = Xattrs::new();
        if number == NONE_32 {
            return Ok(set);
        }
        let (values, sets) = &self.xattrs;
        let (position, count) =
            sets.get(number as usize).context("expected the number of an attribute set")?;
        ensure!(*count <= XATTRS_MAX, "expected at most {XATTRS_MAX} attributes, got {count}");
        let mut records = self.records(*values, *position)?;
        for _ in 0..*count {
            let head = records.take(4)?;
            let mut head = Fields(&head);
            let (kind, len) = (head.u16()?, head.u16()?);
            let rest = records.take(len.into())?;
            let mut value = self.xattr_value(&mut records)?;
            if kind & XATTR_ELSEWHERE != 0 {
                let place = Position::of(Fields(&value).u64()?);
                value = self.xattr_value(&mut self.records(*values, place)?)?;
            }
            let prefix = NAMESPACES
                .get(usize::from(kind & 0xff))
                .with_context(|| format!("expected an attribute namespace, got {kind}"))?;
            set.insert([*prefix, &rest].concat().into(), value.into());
        }
        Ok(set)
    }

    fn xattr_value(&self, records: &mut Records<'_>) -> Result<Vec<u8>> {
        let len = Fields(&records.take(4)?).u32()?;
        ensure!(
            len <= XATTR_VALUE_MAX,
            "expected a value up to {XATTR_VALUE_MAX} bytes, got {len}"
        );
        records.take(len as usize)
    }
}

/// Records being read, through one metadata block after another.
#[derive(Debug)]
pub(super) struct Records<'a> {
    image: &'a Image,
    block: Arc<[u8]>,
    at: usize,
    next: u64,
}

impl Records<'_> {
    /// Takes `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut taken = Vec::new();
        while taken.len() < len {
            if self.at == self.block.len() {
                (self.block, self.next) = self.image.block(self.next)?;
                self.at = 0;
            }
            let n = (len - taken.len()).min(self.block.len() - self.at);
            taken.extend_from_slice(&self.block[self.at..self.at + n]);
            self.at += n;
        }
        Ok(taken)
    }
}
