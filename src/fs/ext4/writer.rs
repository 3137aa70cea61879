//! Turns a layout into an image: every structure and every extent, by block
//! number.

use anyhow::{Context, Result};

use super::extent::Mapping;
use super::inode::{self, Inode};
use super::plan::{Contents, Layout, Node};
use super::{BLOCK, Options, group, journal, resize, scan, superblock, xattr};
use crate::fs::Extents;
use crate::fs::stream::Stream;
use crate::tree::{Kind, Metadata, Tree};

/// Something to be written at a block of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    /// A copy of the superblock and the group descriptors.
    Copy(u32),
    /// Blocks kept for more descriptors, in the first copy.
    Kept,
    /// The resize inode's double-indirect block.
    Double,
    BlockBitmap(u32),
    InodeBitmap(u32),
    Table(u32),
    /// An extent of a node, both by index.
    Extent(usize, usize),
    /// A block of the tree above a node's extents.
    Tree(usize, usize),
    Attributes(usize),
    /// The journal's first block; the rest is zeros.
    Journal,
    JournalTree(usize),
}

/// Lays out all of an image.
pub(super) fn image(tree: &Tree, layout: &Layout, options: &Options) -> Result<Extents> {
    let descriptors = group::descriptors(layout);
    let mut writer = Writer { tree, layout, options, descriptors, out: Stream::default() };
    for (block, piece) in pieces(layout) {
        writer.out.go(block * BLOCK as u64)?;
        writer.piece(piece)?;
    }
    let len = layout.geometry.blocks * BLOCK as u64;
    Ok(writer.out.finish(options.size.unwrap_or(len).max(len)))
}

/// Lists what is to be written, by block.
fn pieces(layout: &Layout) -> Vec<(u64, Piece)> {
    let geometry = &layout.geometry;
    let mut pieces = vec![(0, Piece::Copy(0))];
    pieces.extend(geometry.copies().map(|group| (geometry.start(group), Piece::Copy(group))));
    if let Some(double) = layout.resize {
        pieces.push((1 + geometry.descriptor_blocks, Piece::Kept));
        pieces.push((double, Piece::Double));
    }
    for (group, place) in (0..).zip(&geometry.places) {
        if group::has_block_bitmap(layout, group) {
            pieces.push((place.block_bitmap, Piece::BlockBitmap(group)));
        }
        if group::has_inodes(layout, group) {
            pieces.push((place.inode_bitmap, Piece::InodeBitmap(group)));
            pieces.push((place.table, Piece::Table(group)));
        }
    }
    for (at, shared) in layout.attributes.iter().enumerate() {
        pieces.push((shared.place, Piece::Attributes(at)));
    }
    if let Some(mapping) = &layout.journal {
        pieces.push((mapping.extents[0].start, Piece::Journal));
        let tree = mapping.tree.iter().enumerate();
        pieces.extend(tree.map(|(nth, block)| (*block, Piece::JournalTree(nth))));
    }
    for (at, node) in layout.nodes.iter().enumerate() {
        let extents = node.mapping.extents.iter().enumerate();
        pieces.extend(extents.map(|(nth, extent)| (extent.start, Piece::Extent(at, nth))));
        let tree = node.mapping.tree.iter().enumerate();
        pieces.extend(tree.map(|(nth, block)| (*block, Piece::Tree(at, nth))));
    }
    pieces.sort_unstable();
    pieces
}

struct Writer<'a> {
    tree: &'a Tree,
    layout: &'a Layout,
    options: &'a Options,
    descriptors: Vec<u8>,
    out: Stream,
}

impl Writer<'_> {
    fn piece(&mut self, piece: Piece) -> Result<()> {
        let layout = self.layout;
        let bytes = match piece {
            Piece::Copy(group) => self.copy(group),
            Piece::Kept => {
                let kept = 0..layout.geometry.reserved_blocks;
                kept.flat_map(|nth| resize::kept(&layout.geometry, nth)).collect()
            }
            Piece::Double => resize::double_block(&layout.geometry),
            Piece::BlockBitmap(group) => group::block_bitmap(layout, group),
            Piece::InodeBitmap(group) => group::inode_bitmap(layout, group),
            Piece::Table(group) => self.table(group)?,
            Piece::Extent(node, nth) => return self.extent(&layout.nodes[node], nth),
            Piece::Tree(node, nth) => {
                let node = &layout.nodes[node];
                let seed = layout.seed.of_inode(node.number, 0);
                node.mapping.tree_block(nth, seed)
            }
            Piece::Attributes(at) => {
                let shared = &layout.attributes[at];
                xattr::seal(&shared.block, shared.references, shared.place, layout.seed)
            }
            Piece::Journal => {
                let blocks = layout.journal.as_ref().map_or(0, Mapping::data_blocks);
                journal::superblock(blocks as u32, &self.options.uuid)
            }
            Piece::JournalTree(nth) => {
                let seed = layout.seed.of_inode(journal::INODE, 0);
                let mapping = layout.journal.as_ref().context("expected a journal")?;
                mapping.tree_block(nth, seed)
            }
        };
        self.out.add(&bytes);
        Ok(())
    }

    fn copy(&self, group: u32) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let at = if group == 0 { superblock::OFFSET as usize } else { 0 };
        let raw = superblock::encode(self.layout, self.options, group);
        block[at..at + superblock::SIZE].copy_from_slice(&raw);
        block.extend_from_slice(&self.descriptors);
        block
    }

    fn extent(&mut self, node: &Node, nth: usize) -> Result<()> {
        let extent = node.mapping.extents[nth];
        let from = u64::from(extent.logical) * BLOCK as u64;
        let len = u64::from(extent.len) * BLOCK as u64;
        if node.is_folder() {
            let bytes = self.layout.folder(self.tree, node)?;
            // Folders are made in memory whole.
            self.out.add(&bytes[from as usize..(from + len) as usize]);
            return Ok(());
        }
        let Some(id) = node.id else { return Ok(()) };
        match &self.tree.get(id).kind {
            Kind::File(content) => {
                // The rest of the last block is a gap before the next piece.
                let laid = self.out.copy(content, from, len.min(content.len() - from));
                laid.with_context(|| format!("writing {}", scan::path(self.tree, id)))?;
            }
            Kind::Symlink(target) => self.out.add(target),
            _ => {}
        }
        Ok(())
    }

    /// Encodes what is in use of a group's inode table.
    fn table(&self, group: u32) -> Result<Vec<u8>> {
        let mut table = Vec::new();
        let first = group * self.layout.geometry.group_inodes + 1;
        for number in first..first + group::used_inodes(self.layout, group) {
            let raw = match self.inode(number)? {
                Some(inode) => inode.encode(number, self.layout.seed),
                None => [0; inode::SIZE],
            };
            table.extend_from_slice(&raw);
        }
        Ok(table)
    }

    fn inode(&self, number: u32) -> Result<Option<Inode>> {
        let layout = self.layout;
        if let Some(node) = layout.node(number) {
            return self.node(node).map(Some);
        }
        let mut own = self.plain(Metadata::root(0o600, self.options.time), 0o100_000);
        own.links = 1;
        if let (resize::INODE, Some(double)) = (number, layout.resize) {
            own.size = resize::SIZE;
            own.sectors = sectors(resize::blocks(&layout.geometry));
            own.body = resize::body(double);
        } else if let (journal::INODE, Some(mapping)) = (number, &layout.journal) {
            own.size = mapping.data_blocks() * BLOCK as u64;
            own.sectors = sectors(mapping.blocks());
            own.flags = inode::EXTENTS;
            own.body = mapping.root();
        } else {
            return Ok(None);
        }
        Ok(Some(own))
    }

    fn node(&self, node: &Node) -> Result<Inode> {
        let found = node.id.map(|id| self.tree.get(id));
        let lost = Kind::directory();
        let kind = found.map_or(&lost, |inode| &inode.kind);
        let meta = found.map(|inode| inode.meta.clone());
        let meta = meta.unwrap_or_else(|| Metadata::root(0o700, self.options.time));
        let mut raw = self.plain(meta, kind.type_bits());
        raw.links = node.links as u16;
        raw.size = node.size;
        raw.inline.clone_from(&node.inline);
        let mut blocks = node.mapping.blocks();
        if let Some(at) = node.shared {
            raw.attributes = self.layout.attributes[at].place;
            blocks += 1;
        }
        raw.sectors = sectors(blocks);
        match (kind, node.contents) {
            (Kind::Symlink(target), Contents::None) => {
                raw.body[..target.len()].copy_from_slice(target);
            }
            (Kind::Char(major, minor) | Kind::Block(major, minor), _) => {
                raw.body = inode::device(*major, *minor)?;
            }
            (_, Contents::None) => {}
            (_, contents) => {
                raw.flags = inode::EXTENTS;
                if contents == Contents::IndexedFolder {
                    raw.flags |= inode::INDEX;
                }
                raw.body = node.mapping.root();
            }
        }
        Ok(raw)
    }

    fn plain(&self, meta: Metadata, type_bits: u32) -> Inode {
        Inode {
            // Type and permissions together have 16 bits.
            mode: type_bits as u16 | (meta.mode & 0o7777),
            uid: meta.uid,
            gid: meta.gid,
            size: 0,
            mtime: meta.mtime,
            links: 0,
            sectors: 0,
            flags: 0,
            generation: 0,
            body: [0; inode::BODY],
            attributes: 0,
            inline: Box::default(),
        }
    }
}

fn sectors(blocks: u64) -> u64 {
    blocks * (BLOCK as u64 / 512)
}
