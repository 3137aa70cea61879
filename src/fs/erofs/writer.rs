//! Lays an image out, contents where they are: superblock, contents,
//! directories, shared attributes, inodes.

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::codec::Compression;
use super::data::{self, Form, Stored};
use super::directory::Listing;
use super::format::{
    BLOCK, CHUNK_LOG, CHUNKED, COMPAT_CHECKSUM, COMPAT_MTIME, COMPRESSED_FULL, FLAT_INLINE,
    FLAT_PLAIN, HOLE, INCOMPAT_CHUNKED, INCOMPAT_PADDING, INCOMPAT_SETTINGS, SLOT, SUPERBLOCK_AT,
    Superblock, checksum,
};
use super::inode::{self, Record};
use super::layout::{INLINE_MAX, Room};
use super::xattr::Shared;
use super::{Options, index};
use crate::fs::Extents;
use crate::fs::contents::{Contents, Place};
use crate::fs::device;
use crate::fs::order::Order;
use crate::fs::stream::Stream;
use crate::fs::target;
use crate::store::Out;
use crate::tree::{Content, Id, Kind, Tree};

/// Names the packs kept in the store, with a version.
const PACKS: &str = "erofs-3";

/// How many inodes a thread encodes at once.
const RUN: usize = 512;

/// Writes a tree as an EROFS image, from where `out` stands.
pub fn write(tree: &Tree, options: &Options, out: &mut dyn Out) -> Result<()> {
    image(tree, options)?.copy_to(out)
}

/// Lays out the image that [`write()`] writes; packed contents stay where they
/// are.
pub fn image(tree: &Tree, options: &Options) -> Result<Extents> {
    options.check()?;
    let mut image = Stream::default();
    image.go(BLOCK as u64)?;
    let contents = Contents::of(tree)?;
    let packs = write_contents(&contents, options, &mut image)?;
    let chunked = packs.iter().flatten().any(|file| matches!(file.form, Form::Chunks(_)));

    let order = Order::of(tree)?;
    let inodes = order.inodes.iter().map(|id| &tree.get(*id).meta);
    let shared = Shared::of(inodes);
    let mut parents = vec![tree.root(); tree.capacity()];
    for (id, parent) in &order.directories {
        parents[id.index()] = *parent;
    }
    let mut layout = Layout {
        tree,
        options,
        order: &order,
        contents: &contents,
        packs: &packs,
        shared: &shared,
        parents,
        placed: vec![(0, 0); tree.capacity()],
    };
    let room = layout.place(block(image.position())?)?;
    layout.write_apart(&mut image)?;
    let xattr_block = block(image.position())?;
    image.add(&shared.bytes);
    pad(&mut image)?;
    // One block early, as no inode should have the number 0.
    let meta_block = block(image.position())? - 1;
    layout.write_inodes(&mut image)?;
    block(image.position() + room.blocks() * BLOCK as u64)?;

    let superblock = Superblock {
        root: layout.nid(tree.root()) as u16,
        inodes: order.count().into(),
        blocks: block(image.position())?,
        meta_block,
        xattr_block: if shared.bytes.is_empty() { 0 } else { xattr_block },
        ..superblock(options, chunked)
    };
    Ok(finish(&superblock, options, image))
}

fn block(at: u64) -> Result<u32> {
    u32::try_from(at / BLOCK as u64).context("expected an image of less than 16 TiB")
}

fn pad(image: &mut Stream) -> Result<()> {
    image.align(BLOCK as u64)
}

fn write_contents(
    contents: &Contents,
    options: &Options,
    image: &mut Stream,
) -> Result<Vec<Vec<Stored>>> {
    let settings = options.settings();
    // Without compression there is nothing to be kept.
    let store = options.cache.as_ref().filter(|_| options.compression != Compression::None);
    let mut packs = Vec::new();
    for group in &contents.groups {
        let base = block(image.position())?;
        let (pack, body) =
            group.pack(store, (PACKS, &settings), |group, out| data::pack(group, options, out))?;
        image.push(&body);
        base.checked_add(pack.blocks).context("expected contents of less than 16 TiB")?;
        let mut files = pack.files;
        for file in &mut files {
            file.start = if file.blocks > 0 { file.start + base } else { 0 };
            if let Form::Chunks(chunks) = &mut file.form {
                chunks.iter_mut().filter(|chunk| **chunk != HOLE).for_each(|chunk| *chunk += base);
            }
        }
        packs.push(files);
    }
    Ok(packs)
}

fn superblock(options: &Options, chunked: bool) -> Superblock {
    let algorithm = options.compression.algorithm();
    let mut incompat = if chunked { INCOMPAT_CHUNKED } else { 0 };
    if algorithm.is_some() {
        incompat |= INCOMPAT_PADDING | INCOMPAT_SETTINGS;
    }
    Superblock {
        compat: COMPAT_CHECKSUM | COMPAT_MTIME,
        incompat,
        time: options.time as u64,
        uuid: options.uuid,
        volume: options.volume,
        algorithms: algorithm.map_or(0, |number| 1 << number),
        ..Superblock::default()
    }
}

/// Lays the superblock, with its checksum, over the image's beginning.
fn finish(superblock: &Superblock, options: &Options, image: Stream) -> Extents {
    let settings = match options.compression {
        Compression::None => Vec::new(),
        // Length; the farthest match, and the blocks of an extent.
        Compression::Lz4 => {
            let blocks = (options.cluster as usize / BLOCK) as u16;
            [14, u16::MAX, blocks].iter().flat_map(|field| field.to_le_bytes()).collect()
        }
        // Length; the format and the window's log, less 10.
        Compression::Zstd(_) => {
            let window = options.compression.reach(options.cluster as usize).trailing_zeros();
            vec![6, 0, 0, window as u8 - 10]
        }
    };
    let encode = |superblock: &Superblock| {
        let mut bytes = superblock.encode();
        bytes.extend(&settings);
        bytes.resize(BLOCK - SUPERBLOCK_AT as usize, 0);
        bytes
    };
    let checksum = checksum(&encode(superblock));
    let bytes = encode(&Superblock { checksum, ..superblock.clone() });
    let end = image.position();
    let mut image = image.finish(end);
    image.put_bytes(SUPERBLOCK_AT, bytes);
    image
}

/// Where everything but the contents stands.
struct Layout<'a> {
    tree: &'a Tree,
    options: &'a Options,
    order: &'a Order,
    contents: &'a Contents,
    packs: &'a [Vec<Stored>],
    shared: &'a Shared<'a>,
    parents: Vec<Id>,
    // Of each inode: where it stands among the inodes, in bytes, and the
    // first of its blocks that stand apart.
    placed: Vec<(u64, u32)>,
}

/// What an inode holds beyond its record and attributes.
enum Body<'a> {
    Directory(Listing<'a>),
    File(&'a Stored, &'a Content),
    Symlink(&'a [u8]),
    Device(u32),
    Nothing,
}

impl<'a> Layout<'a> {
    fn nid(&self, id: Id) -> u64 {
        (self.placed[id.index()].0 + BLOCK as u64) / SLOT as u64
    }

    fn links(&self, id: Id) -> u32 {
        self.order.links[id.index()]
    }

    fn body(&self, id: Id) -> Result<Body<'a>> {
        Ok(match &self.tree.get(id).kind {
            Kind::Directory(_) => {
                Body::Directory(Listing::of(self.tree, id, self.parents[id.index()]))
            }
            Kind::File(content) => match self.contents.place(id) {
                Some(Place { group, index }) => Body::File(&self.packs[group][index], content),
                None => Body::Nothing,
            },
            Kind::Symlink(target) => Body::Symlink(target::checked(target)?),
            Kind::Char(major, minor) | Kind::Block(major, minor) => {
                Body::Device(device::encode(*major, *minor)?)
            }
            Kind::Fifo | Kind::Socket => Body::Nothing,
        })
    }

    /// Finds a place for every inode, the root first, and for the blocks that
    /// stand apart, from block `apart` on.
    fn place(&mut self, mut apart: u32) -> Result<Room> {
        let mut room = Room::default();
        let measure = |id: &Id| self.measure(*id).with_context(|| self.describe(*id));
        let measured: Vec<_> = self.order.inodes.par_iter().map(measure).collect();
        for (id, measured) in self.order.inodes.iter().zip(measured) {
            let (head, tail, blocks) = measured?;
            self.placed[id.index()] = (room.place(head, tail), if blocks > 0 { apart } else { 0 });
            apart = apart.checked_add(blocks).context("expected an image of less than 16 TiB")?;
        }
        Ok(room)
    }

    /// Returns how many bytes an inode needs, how many more of contents, and
    /// how many blocks apart.
    fn measure(&self, id: Id) -> Result<(usize, usize, u32)> {
        let inode = self.tree.get(id);
        let body = self.body(id)?;
        let extended = self.is_extended(id, &body);
        let head = inode::len(extended) + self.shared.encode(&inode.meta)?.len();
        Ok(match &body {
            Body::Directory(listing) => (head, listing.tail, listing.full_blocks() as u32),
            Body::File(stored, _) => match &stored.form {
                Form::Flat => (head, stored.tail as usize, 0),
                Form::Extents(_) => (head.next_multiple_of(8) + index::len(stored), 0, 0),
                Form::Chunks(chunks) => (head + chunks.len() * 4, 0, 0),
            },
            Body::Symlink(target) if target.len() > INLINE_MAX => {
                (head, 0, target.len().div_ceil(BLOCK) as u32)
            }
            Body::Symlink(target) => (head, target.len(), 0),
            Body::Device(_) | Body::Nothing => (head, 0, 0),
        })
    }

    fn is_extended(&self, id: Id, body: &Body<'_>) -> bool {
        let meta = &self.tree.get(id).meta;
        inode::is_extended(meta, self.links(id), size(body), self.options.time)
    }

    /// Writes the blocks that stand apart from their inodes.
    fn write_apart(&self, image: &mut Stream) -> Result<()> {
        for id in &self.order.inodes {
            match self.body(*id)? {
                Body::Directory(listing) => {
                    let blocks = listing.encode_full(|id| self.nid(id));
                    image.add(&blocks);
                }
                Body::Symlink(target) if target.len() > INLINE_MAX => {
                    image.add(target);
                    pad(image)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes all inodes, in the order of their places.
    fn write_inodes(&self, image: &mut Stream) -> Result<()> {
        let base = image.position();
        let mut ids = self.order.inodes.clone();
        ids.sort_unstable_by_key(|id| self.placed[id.index()].0);
        let runs: Vec<_> = ids.par_chunks(RUN).map(|run| self.encode_run(run)).collect();
        for (run, bytes) in ids.chunks(RUN).zip(runs) {
            image.go(base + self.placed[run[0].index()].0)?;
            image.give(bytes?);
        }
        // fsck.erofs 1.5 looks for a header of attributes behind any inode.
        image.add(&[0; 12]);
        pad(image)
    }

    /// Encodes inodes that stand one behind another, with the gaps between.
    fn encode_run(&self, run: &[Id]) -> Result<Vec<u8>> {
        let place = |id: Id| self.placed[id.index()].0;
        let mut bytes = Vec::new();
        for id in run {
            bytes.resize((place(*id) - place(run[0])) as usize, 0);
            bytes.extend(self.encode(*id).with_context(|| self.describe(*id))?);
        }
        Ok(bytes)
    }

    fn encode(&self, id: Id) -> Result<Vec<u8>> {
        let inode = self.tree.get(id);
        let body = self.body(id)?;
        let apart = self.placed[id.index()].1;
        let (layout, place) = match &body {
            Body::Directory(listing) if listing.tail > 0 => (FLAT_INLINE, apart),
            Body::Directory(_) => (FLAT_PLAIN, apart),
            Body::Symlink(target) if target.len() > INLINE_MAX => (FLAT_PLAIN, apart),
            Body::Symlink(_) => (FLAT_INLINE, 0),
            Body::File(stored, _) => match &stored.form {
                Form::Flat if stored.tail > 0 => (FLAT_INLINE, stored.start),
                Form::Flat => (FLAT_PLAIN, stored.start),
                Form::Extents(_) => (COMPRESSED_FULL, stored.blocks),
                Form::Chunks(_) => (CHUNKED, CHUNK_LOG.into()),
            },
            Body::Device(number) => (FLAT_PLAIN, *number),
            Body::Nothing => (FLAT_PLAIN, 0),
        };
        let xattrs = self.shared.encode(&inode.meta)?;
        let record = Record {
            meta: &inode.meta,
            mode: inode.kind.type_bits() as u16 | inode.meta.mode & 0o7777,
            number: self.order.numbers[id.index()],
            links: self.links(id),
            size: size(&body),
            layout,
            place,
            xattrs: &xattrs,
        };
        let mut bytes = record.encode(self.is_extended(id, &body));
        self.append(&body, &mut bytes)?;
        Ok(bytes)
    }

    fn append(&self, body: &Body<'_>, bytes: &mut Vec<u8>) -> Result<()> {
        match body {
            Body::Directory(listing) => bytes.extend(listing.encode_tail(|id| self.nid(id))),
            Body::Symlink(target) if target.len() <= INLINE_MAX => bytes.extend(*target),
            Body::File(stored, content) => match &stored.form {
                Form::Flat => {
                    let mut tail = vec![0; stored.tail as usize];
                    content.read_exact_at(&mut tail, stored.len - u64::from(stored.tail))?;
                    bytes.extend(tail);
                }
                Form::Extents(extents) => {
                    bytes.resize(bytes.len().next_multiple_of(8), 0);
                    let algorithm = self.options.compression.algorithm().unwrap_or_default();
                    bytes.extend(index::encode(stored, extents, algorithm));
                }
                Form::Chunks(chunks) => {
                    bytes.extend(chunks.iter().flat_map(|chunk| chunk.to_le_bytes()));
                }
            },
            _ => {}
        }
        Ok(())
    }

    /// Names a file that the format cannot hold.
    fn describe(&self, id: Id) -> String {
        let path = self.tree.walk().find(|found| found.id == id).map(|found| found.path);
        let path = path.unwrap_or_default();
        format!("writing /{} to an erofs image", String::from_utf8_lossy(&path))
    }
}

fn size(body: &Body<'_>) -> u64 {
    match body {
        Body::Directory(listing) => listing.len,
        Body::File(stored, _) => stored.len,
        Body::Symlink(target) => target.len() as u64,
        Body::Device(_) | Body::Nothing => 0,
    }
}
