//! Decides where everything lies, from metadata alone.
//!
//! Inodes are numbered as a walk meets them. Blocks are given out in
//! ascending order: folders and links first, then attributes, the journal,
//! and the files. So the writer can go through the image once, in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::allocate::Allocator;
use super::checksum::Seed;
use super::directory::{self, Listing};
use super::extent::Mapping;
use super::geometry::{Geometry, Short, merge};
use super::scan::{self, Runs};
use super::{BLOCK, Options, geometry, inode, journal, superblock, xattr};
use crate::fs::too_large;
use crate::tree::{Id, Kind, Tree};

/// The root folder's inode.
pub(super) const ROOT: u32 = 2;
/// The inode of the folder for what a repair finds.
pub(super) const LOST_FOUND: u32 = superblock::FIRST_INODE;
const LOST_FOUND_NAME: &[u8] = b"lost+found";
/// Its blocks, so that a repair need not allocate any.
const LOST_FOUND_BLOCKS: usize = 4;
/// Names that a file, and folders that a folder, can have.
const LINKS_MAX: u32 = 65_000;
/// Blocks of an image at most, 16 TiB: what the resize inode can number.
const BLOCKS_MAX: u64 = u32::MAX as u64;
/// Inodes of an image at most.
const INODES_MAX: u64 = 1 << 31;

/// An inode to be written, and where its contents lie.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: u32,
    /// The tree's inode; `None` is a `lost+found` that the tree lacks.
    pub(super) id: Option<Id>,
    pub(super) contents: Contents,
    /// A folder's parent.
    pub(super) parent: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) mapping: Mapping,
    /// Attributes in the inode.
    pub(super) inline: Box<[u8]>,
    /// Index of a block of attributes.
    pub(super) shared: Option<usize>,
}

/// What an inode has blocks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// A folder without an index.
    Folder,
    /// A folder with an index.
    IndexedFolder,
    /// A link's target that is too long for the inode.
    Link,
    /// A file's bytes.
    File,
    /// Nothing.
    None,
}

impl Node {
    /// Says whether it is a folder.
    pub(super) fn is_folder(&self) -> bool {
        matches!(self.contents, Contents::Folder | Contents::IndexedFolder)
    }
}

/// A block of attributes that inodes share.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) block: Arc<[u8]>,
    pub(super) references: u32,
    pub(super) place: u64,
}

/// Where everything lies.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    /// Root, `lost+found`, and the others by number.
    pub(super) nodes: Vec<Node>,
    pub(super) journal: Option<Mapping>,
    /// The resize inode's double-indirect block.
    pub(super) resize: Option<u64>,
    pub(super) attributes: Vec<Attributes>,
    /// Inode numbers by the index of the tree's inodes; 0 for none.
    numbers: Vec<u32>,
    /// All used blocks, in order and disjoint.
    pub(super) used: Vec<Range<u64>>,
    pub(super) seed: Seed,
    hash_seed: [u8; 16],
}

impl Layout {
    /// Returns the highest inode in use; all below it are, too.
    pub(super) fn last_inode(&self) -> u32 {
        self.nodes.last().map_or(LOST_FOUND, |node| node.number)
    }

    /// Returns a node by the number of its inode.
    pub(super) fn node(&self, number: u32) -> Option<&Node> {
        match number {
            ROOT => self.nodes.first(),
            LOST_FOUND.. => self.nodes.get((number - LOST_FOUND) as usize + 1),
            _ => None,
        }
    }

    /// Returns the number of free blocks.
    pub(super) fn free_blocks(&self) -> u64 {
        self.geometry.blocks - self.used.iter().map(|used| used.end - used.start).sum::<u64>()
    }

    /// Encodes a folder.
    pub(super) fn folder(&self, tree: &Tree, node: &Node) -> Result<Vec<u8>> {
        let seed = self.seed.of_inode(node.number, 0);
        listing(tree, node, &self.numbers).encode(&self.hash_seed, seed)
    }
}

/// Lays out a tree.
pub(super) fn plan(tree: &Tree, maps: &[Runs], options: &Options) -> Result<Layout> {
    let mut plan = Plan::new(tree, maps, options)?;
    let blocks = match options.size {
        Some(size) => size / BLOCK as u64,
        None => {
            let least = plan.least(0);
            let slack = options.slack.unwrap_or(least * BLOCK as u64 / 20 + (1 << 20));
            plan.least(slack.div_ceil(BLOCK as u64))
        }
    };
    ensure!(
        blocks <= BLOCKS_MAX,
        "expected an ext4 image of at most {} bytes, got {}",
        BLOCKS_MAX * BLOCK as u64,
        blocks * BLOCK as u64
    );
    match plan.place(blocks) {
        Ok(left) if left >= 0 => Ok(plan.layout),
        _ => {
            let needed = plan.least(0) * BLOCK as u64;
            Err(too_large("an ext4 file system", tree, needed, blocks * BLOCK as u64))
        }
    }
}

/// A layout in the making.
struct Plan<'a> {
    maps: &'a [Runs],
    options: &'a Options,
    journal: Option<u64>,
    layout: Layout,
}

impl<'a> Plan<'a> {
    /// Numbers and measures all inodes.
    fn new(tree: &Tree, maps: &'a [Runs], options: &'a Options) -> Result<Self> {
        let journal = options.journal.map(|bytes| bytes / BLOCK as u64);
        if let Some(blocks) = journal {
            ensure!(
                blocks == 0 || (journal::BLOCKS_MIN..1 << 31).contains(&blocks),
                "expected an ext4 journal of 0 or at least {} bytes, got {}",
                journal::BLOCKS_MIN * BLOCK as u64,
                blocks * BLOCK as u64
            );
        }
        let (mut nodes, numbers) = number(tree)?;
        let mut attributes = Shared::default();
        for node in &mut nodes {
            let measured = measure(tree, node, &numbers, &options.uuid)
                .and_then(|()| attributes.add(tree, node));
            measured.with_context(|| match node.id {
                Some(id) => format!("laying out {} for ext4", scan::path(tree, id)),
                None => "laying out /lost+found for ext4".to_owned(),
            })?;
        }
        let layout = Layout {
            geometry: Geometry::empty(),
            nodes,
            journal: None,
            resize: None,
            attributes: attributes.blocks,
            numbers,
            used: Vec::new(),
            seed: Seed::of_volume(&options.uuid),
            hash_seed: options.uuid,
        };
        Ok(Self { maps, options, journal, layout })
    }

    /// Returns the least number of blocks that leaves `slack` of them free.
    fn least(&mut self, slack: u64) -> u64 {
        let mut blocks = 64 + slack;
        loop {
            let missing = match self.place(blocks) {
                // Both far below 2^63.
                Ok(left) => slack as i64 - left,
                Err(Short(missing)) => missing as i64,
            };
            if missing <= 0 {
                return self.layout.geometry.blocks;
            }
            blocks += missing as u64;
        }
    }

    /// Gives everything its place in an image of `blocks`; returns how many
    /// are left free, or missing.
    fn place(&mut self, blocks: u64) -> Result<i64, Short> {
        let layout = &mut self.layout;
        let count = u64::from(layout.last_inode());
        // A group holds as many inodes as blocks at most.
        let whole = blocks.next_multiple_of(geometry::GROUP_BLOCKS);
        let grown = self.options.grown.map_or(0, |size| size / BLOCK as u64);
        let by_size = if grown > 0 { whole } else { blocks } * BLOCK as u64;
        let by_size = by_size / self.options.inode_ratio.max(1024);
        let inodes = by_size.min(INODES_MAX).min(whole).max(count + count / 16 + 16);
        layout.geometry = Geometry::new(blocks, inodes, grown)?;
        let mut blocks = Allocator::new(&layout.geometry);
        layout.resize = (layout.geometry.reserved_blocks > 0).then(|| blocks.one());
        let (folders, files): (Vec<_>, Vec<_>) =
            layout.nodes.iter_mut().partition(|node| node.contents != Contents::File);
        for node in folders {
            node.mapping = blocks.map(runs(self.maps, node));
        }
        for shared in &mut layout.attributes {
            shared.place = blocks.one();
        }
        let journal = self.journal.unwrap_or_else(|| {
            let later = journal::default_blocks(grown).min(journal::GROWN_MAX);
            journal::default_blocks(layout.geometry.blocks).max(later)
        });
        // Checked, or by default, to be below 2^31.
        layout.journal = (journal > 0).then(|| blocks.map([(0, journal as u32)]));
        for node in files {
            node.mapping = blocks.map(runs(self.maps, node));
        }
        let (left, end) = (blocks.left(), blocks.end());
        let mut used = layout.geometry.used.clone();
        used.push(0..end);
        layout.used = merge(used);
        Ok(left)
    }
}

/// Returns the runs of blocks that a node needs.
fn runs(maps: &[Runs], node: &Node) -> Vec<(u32, u32)> {
    if node.contents == Contents::None || node.size == 0 {
        return Vec::new();
    }
    let map = node.id.and_then(|id| maps[id.index()].as_ref());
    // Files are checked to have fewer than 2^32 blocks.
    map.map_or_else(|| vec![(0, node.size.div_ceil(BLOCK as u64) as u32)], |map| map.to_vec())
}

/// Numbers all inodes of a tree as a walk meets them and counts their names.
/// Folders have their parent; sizes come later.
fn number(tree: &Tree) -> Result<(Vec<Node>, Vec<u32>)> {
    let lost_found = tree.child(tree.root(), LOST_FOUND_NAME);
    ensure!(
        lost_found.is_none_or(|id| tree.entries(id).is_some()),
        "expected /lost+found to be a folder, as ext4 needs it, got something else"
    );
    let mut numbers = vec![0; tree.capacity()];
    let mut nodes =
        vec![node(tree, ROOT, Some(tree.root()), ROOT), node(tree, LOST_FOUND, lost_found, ROOT)];
    if lost_found.is_none() {
        nodes[0].links += 1;
    }
    let mut stack = vec![(tree.root(), ROOT)];
    while let Some((id, parent)) = stack.pop() {
        if numbers[id.index()] == 0 {
            numbers[id.index()] = if id == tree.root() {
                ROOT
            } else if Some(id) == lost_found {
                LOST_FOUND
            } else {
                let number = u32::try_from(nodes.len())? + LOST_FOUND - 1;
                nodes.push(node(tree, number, Some(id), parent));
                number
            };
        }
        let number = numbers[id.index()];
        let Some(entries) = tree.entries(id) else {
            nodes[index(number)].links += 1;
            continue;
        };
        if id != tree.root() {
            nodes[index(parent)].links += 1;
        }
        stack.extend(entries.values().rev().map(|entry| (entry.id, number)));
    }
    Ok((nodes, numbers))
}

/// Where a number's node lies among the nodes.
fn index(number: u32) -> usize {
    if number == ROOT { 0 } else { (number - LOST_FOUND) as usize + 1 }
}

fn node(tree: &Tree, number: u32, id: Option<Id>, parent: u32) -> Node {
    let contents = match id.map(|id| &tree.get(id).kind) {
        None | Some(Kind::Directory(_)) => Contents::Folder,
        Some(Kind::File(_)) => Contents::File,
        Some(Kind::Symlink(target)) if target.len() >= inode::BODY => Contents::Link,
        Some(_) => Contents::None,
    };
    // A folder's own name and its `.`; other names are counted as met.
    let links = if contents == Contents::Folder { 2 } else { 0 };
    Node {
        number,
        id,
        contents,
        parent,
        links,
        size: 0,
        mapping: Mapping::default(),
        inline: Box::default(),
        shared: None,
    }
}

/// Finds the size of a node.
fn measure(tree: &Tree, node: &mut Node, numbers: &[u32], hash_seed: &[u8; 16]) -> Result<()> {
    let names = node.links;
    ensure!(
        node.is_folder() || names <= LINKS_MAX,
        "expected at most {LINKS_MAX} names of one file, got {names}"
    );
    if node.is_folder() {
        let (blocks, indexed) = listing(tree, node, numbers).measure(hash_seed)?;
        node.size = blocks as u64 * BLOCK as u64;
        if indexed {
            node.contents = Contents::IndexedFolder;
        }
        // More than that is kept as "some" (`dir_nlink`).
        if node.links > LINKS_MAX {
            node.links = 1;
        }
        return Ok(());
    }
    match node.id.map(|id| &tree.get(id).kind) {
        Some(Kind::File(content)) => node.size = content.len(),
        Some(Kind::Symlink(target)) => {
            ensure!(
                !target.is_empty() && target.len() < BLOCK,
                "expected a link's target of 1 to {} bytes, got {}",
                BLOCK - 1,
                target.len()
            );
            node.size = target.len() as u64;
        }
        Some(Kind::Char(major, minor) | Kind::Block(major, minor)) => {
            inode::device(*major, *minor)?;
        }
        _ => {}
    }
    Ok(())
}

/// Lists a folder, with `lost+found` where it is missing.
fn listing<'t>(tree: &'t Tree, node: &Node, numbers: &[u32]) -> Listing<'t> {
    let found = node.id.and_then(|id| tree.entries(id)).into_iter().flatten();
    let mut entries: Vec<_> = found
        .map(|(name, entry)| directory::Entry {
            name,
            inode: numbers[entry.id.index()],
            kind: directory::kind(&tree.get(entry.id).kind),
        })
        .collect();
    if node.number == ROOT && tree.child(tree.root(), LOST_FOUND_NAME).is_none() {
        let kind = directory::FOLDER;
        entries.push(directory::Entry { name: LOST_FOUND_NAME, inode: LOST_FOUND, kind });
    }
    let min_blocks = if node.number == LOST_FOUND { LOST_FOUND_BLOCKS } else { 1 };
    Listing { own: node.number, parent: node.parent, entries, min_blocks }
}

/// Blocks of attributes, by what they hold.
#[derive(Debug, Default)]
struct Shared {
    blocks: Vec<Attributes>,
    known: BTreeMap<Arc<[u8]>, usize>,
}

impl Shared {
    fn add(&mut self, tree: &Tree, node: &mut Node) -> Result<()> {
        let Some(id) = node.id else { return Ok(()) };
        let split = xattr::split(&tree.get(id).meta.xattrs)?;
        node.inline = split.inline;
        let Some(block) = split.block else { return Ok(()) };
        let block: Arc<[u8]> = block.into();
        let known = self.known.get(&block).copied();
        let index = match known.filter(|at| self.blocks[*at].references < xattr::SHARED_MAX) {
            Some(index) => index,
            None => {
                self.blocks.push(Attributes { block: block.clone(), references: 0, place: 0 });
                self.known.insert(block, self.blocks.len() - 1);
                self.blocks.len() - 1
            }
        };
        self.blocks[index].references += 1;
        node.shared = Some(index);
        Ok(())
    }
}
