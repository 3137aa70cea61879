//! Lays an image out, contents where they are: superblock, contents, inode table, directory table, and
//! the tables of fragments, inodes by number, owners and attributes.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::Options;
use super::data::{self, Pack, Stored};
use super::directory::{Entry, Listing};
use super::format::{
    FLAG_ALWAYS_FRAGMENTS, FLAG_COMPRESSOR_OPTIONS, FLAG_DUPLICATES, FLAG_EXPORTABLE,
    METADATA_PLAIN, NONE_64, PADDING, Position, SUPERBLOCK, Superblock,
};
use super::inode::{Common, Ids, type_of};
use super::metadata::Metadata;
use super::xattr;
use crate::fs::Extents;
use crate::fs::contents::Contents;
use crate::fs::order::Order;
use crate::fs::stream::Stream;
use crate::store::Out;
use crate::tree::{Id, Inode, Kind, Tree};

/// Names the packs kept in the store, with a version.
const PACKS: &str = "squashfs-1";

/// Writes a tree as a squashfs image, from where `out` stands.
pub fn write(tree: &Tree, options: &Options, out: &mut dyn Out) -> Result<()> {
    image(tree, options)?.copy_to(out)
}

/// Lays out the image that [`write()`] writes; packed contents stay where they
/// are.
pub fn image(tree: &Tree, options: &Options) -> Result<Extents> {
    options.check()?;
    let mut image = Stream::default();
    let mut superblock = begin(options, &mut image)?;
    let contents = Contents::of(tree)?;
    let packs = write_contents(&contents, options, &mut image)?;
    let order = Order::of(tree)?;
    superblock.inodes = order.count();

    superblock.inode_table = image.position();
    let mut tables = Tables::new(tree, &order, options, &mut image);
    let placed = tables.write_all(|id| Some(packs.find(contents.place(id)?)))?;
    tables.inodes.finish()?;
    let (directories, ..) = tables.directories.finish()?;
    let (ids, sets) = (tables.ids, tables.xattrs.finish()?);
    superblock.root = placed.get(tree.root())?.reference();

    superblock.directory_table = image.position();
    image.write_all(&directories).context("writing the directory table")?;
    superblock.fragments = u32::try_from(packs.fragments.len() / 16)?;
    superblock.fragment_table = table(&packs.fragments, options, &mut image)?;
    superblock.export_table = match options.export {
        true => table(&placed.by_number(&order), options, &mut image)?,
        false => NONE_64,
    };
    superblock.ids = ids.all.len() as u16;
    let owners: Vec<u8> = ids.all.iter().flat_map(|id| id.to_le_bytes()).collect();
    superblock.id_table = table(&owners, options, &mut image)?;
    superblock.xattr_table = match sets {
        Some(sets) => xattr_table(&sets, options, &mut image)?,
        None => NONE_64,
    };
    Ok(finish(superblock, image))
}

/// Leaves room for the superblock, and writes the compressor's options.
fn begin(options: &Options, image: &mut Stream) -> Result<Superblock> {
    image.write_all(&[0; SUPERBLOCK]).context("writing the superblock")?;
    let mut flags = FLAG_DUPLICATES;
    if options.pack_tails {
        flags |= FLAG_ALWAYS_FRAGMENTS;
    }
    if options.export {
        flags |= FLAG_EXPORTABLE;
    }
    if let Some(record) = options.compression.options() {
        flags |= FLAG_COMPRESSOR_OPTIONS;
        let header = record.len() as u16 | METADATA_PLAIN;
        image.write_all(&header.to_le_bytes()).context("writing the compressor's options")?;
        image.write_all(&record).context("writing the compressor's options")?;
    }
    Ok(Superblock {
        flags,
        compressor: options.compression.id(),
        block_size: options.block_size,
        time: options.time.clamp(0, i64::from(u32::MAX)) as u32,
        ..Superblock::default()
    })
}

/// Pads the image and lays the superblock over its beginning.
fn finish(mut superblock: Superblock, image: Stream) -> Extents {
    superblock.bytes_used = image.position();
    let mut image = image.finish(superblock.bytes_used.next_multiple_of(PADDING));
    image.put_bytes(0, superblock.encode());
    image
}

/// The packs of all groups, by where they stand in the image.
#[derive(Debug, Default)]
struct Packs {
    files: Vec<Vec<Stored>>,
    // The fragment table's records.
    fragments: Vec<u8>,
}

impl Packs {
    fn add(&mut self, pack: Pack, base: u64) {
        let first = (self.fragments.len() / 16) as u32;
        let mut files = pack.files;
        for file in &mut files {
            file.start = if file.blocks.is_empty() { 0 } else { file.start + base };
            if let Some((number, _)) = &mut file.fragment {
                *number += first;
            }
        }
        self.files.push(files);
        for (start, size) in pack.fragments {
            self.fragments.extend((base + start).to_le_bytes());
            self.fragments.extend(size.to_le_bytes());
            self.fragments.extend([0; 4]);
        }
    }

    fn find(&self, place: crate::fs::contents::Place) -> &Stored {
        &self.files[place.group][place.index]
    }
}

fn write_contents(contents: &Contents, options: &Options, image: &mut Stream) -> Result<Packs> {
    let mut packs = Packs::default();
    let settings = options.settings();
    for group in &contents.groups {
        let base = image.position();
        let store = options.cache.as_ref();
        let (pack, body) =
            group.pack(store, (PACKS, &settings), |group, out| data::pack(group, options, out))?;
        image.push(&body);
        packs.add(pack, base);
    }
    Ok(packs)
}

/// Where each inode's record stands.
struct Placed(Vec<Option<Position>>);

impl Placed {
    fn get(&self, id: Id) -> Result<Position> {
        self.0[id.index()].context("expected an inode to be written before its directory")
    }

    /// Returns the export table's records.
    fn by_number(&self, order: &Order) -> Vec<u8> {
        let places = order.inodes.iter().filter_map(|id| self.0[id.index()]);
        places.flat_map(|position| position.reference().to_le_bytes()).collect()
    }
}

/// The inode and directory tables while they are written.
struct Tables<'a, W> {
    tree: &'a Tree,
    order: &'a Order,
    inodes: Metadata<W>,
    directories: Metadata<Vec<u8>>,
    ids: Ids,
    xattrs: xattr::Sets,
}

impl<'a, W: Write> Tables<'a, W> {
    fn new(tree: &'a Tree, order: &'a Order, options: &Options, out: W) -> Self {
        Self {
            tree,
            order,
            inodes: Metadata::new(options, out),
            directories: Metadata::new(options, Vec::new()),
            ids: Ids::default(),
            xattrs: xattr::Sets::new(options),
        }
    }

    /// Writes all inodes, children before the directories that name them.
    fn write_all<'s>(&mut self, stored: impl Fn(Id) -> Option<&'s Stored>) -> Result<Placed> {
        let mut placed = Placed(vec![None; self.tree.capacity()]);
        let order = self.order;
        for (id, parent) in order.directories.iter().rev() {
            let entries = self.tree.entries(*id).context("expected a directory")?;
            for entry in entries.values() {
                if placed.0[entry.id.index()].is_none() {
                    let record = self.leaf(entry.id, &stored);
                    let record = record.with_context(|| self.describe(entry.id))?;
                    placed.0[entry.id.index()] = Some(self.inodes.position());
                    self.inodes.write(&record)?;
                }
            }
            let record = self.directory(*id, *parent, &placed);
            let record = record.with_context(|| self.describe(*id))?;
            placed.0[id.index()] = Some(self.inodes.position());
            self.inodes.write(&record)?;
        }
        Ok(placed)
    }

    fn common(&mut self, id: Id) -> Result<(&'a Inode, Common<'a>)> {
        let inode = self.tree.get(id);
        let common = Common {
            meta: &inode.meta,
            number: self.order.numbers[id.index()],
            links: self.order.links[id.index()],
            xattrs: self.xattrs.number(&inode.meta)?,
        };
        Ok((inode, common))
    }

    fn leaf<'s>(&mut self, id: Id, stored: &impl Fn(Id) -> Option<&'s Stored>) -> Result<Vec<u8>> {
        let (inode, common) = self.common(id)?;
        match &inode.kind {
            Kind::File(_) => {
                let empty = Stored::default();
                common.file(stored(id).unwrap_or(&empty), &mut self.ids)
            }
            other => common.node(other, &mut self.ids),
        }
    }

    fn directory(&mut self, id: Id, parent: Id, placed: &Placed) -> Result<Vec<u8>> {
        let (_, common) = self.common(id)?;
        let entries = self.tree.entries(id).context("expected a directory")?;
        let mut listed = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            let inode = placed.get(entry.id)?;
            ensure!(u32::try_from(inode.block).is_ok(), "expected an inode table below 4 GiB");
            listed.push(Entry {
                name,
                kind: type_of(&self.tree.get(entry.id).kind),
                number: self.order.numbers[entry.id.index()],
                inode,
            });
        }
        let listed = Listing::of(&listed).write(&mut self.directories)?;
        // The root's parent is a number that no inode has.
        let parent =
            if id == parent { self.order.count() + 1 } else { self.order.numbers[parent.index()] };
        common.directory(&listed, parent, &mut self.ids)
    }

    /// Names a file that the format cannot hold.
    fn describe(&self, id: Id) -> String {
        let path = self.tree.walk().find(|found| found.id == id).map(|found| found.path);
        let path = path.unwrap_or_default();
        format!("writing /{} to a squashfs image", String::from_utf8_lossy(&path))
    }
}

/// Writes records as metadata blocks and then where the blocks stand; returns
/// where that list stands.
fn table(records: &[u8], options: &Options, image: &mut Stream) -> Result<u64> {
    let base = image.position();
    let mut blocks = Metadata::new(options, &mut *image);
    blocks.write(records)?;
    let (_, _, blocks) = blocks.finish()?;
    let start = image.position();
    for block in blocks {
        image.write_all(&(base + block).to_le_bytes()).context("writing a table")?;
    }
    Ok(start)
}

fn xattr_table(sets: &xattr::Encoded, options: &Options, image: &mut Stream) -> Result<u64> {
    let values = image.position();
    image.write_all(&sets.values).context("writing extended attributes")?;
    let base = image.position();
    let mut blocks = Metadata::new(options, &mut *image);
    blocks.write(&sets.records)?;
    let (_, _, blocks) = blocks.finish()?;
    let start = image.position();
    let mut head = values.to_le_bytes().to_vec();
    head.extend(sets.count.to_le_bytes());
    head.extend([0; 4]);
    for block in blocks {
        head.extend((base + block).to_le_bytes());
    }
    image.write_all(&head).context("writing extended attributes")?;
    Ok(start)
}
