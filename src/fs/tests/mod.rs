//! Every file system and archive under the same trees: written, read back,
//! and judged by the programs of others.
//!
//! What is one format's own is tested in its folder. A program that is not
//! installed, and what only root can extract, is told and left out.

mod foreign;
pub(super) mod held;
mod limit;
mod round;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::cpio::{Item, Writer};
use super::{Composed, Extents, cpio, erofs, ext4, fat, iso9660, squashfs, tar};
use crate::fs::sample::skipped;
use crate::store::{EntryKind, read_entries};
use crate::tree::{Content, Id, Inode, Kind, Metadata, Tree};

/// A format under test.
struct Kept {
    name: &'static str,
    write: fn(&Tree, &mut File) -> Result<()>,
    read: fn(File) -> Result<Tree>,
    /// What it holds of a tree, other than which the reader gives nothing.
    held: fn(Tree) -> Tree,
}

const SQUASHFS: fn(File) -> Result<Tree> = |file| opened(file, squashfs::open);
const EROFS: fn(File) -> Result<Tree> = |file| opened(file, erofs::open);

/// Every format, by each of its ways to compress.
const KEPT: &[Kept] = &[
    Kept { name: "tar", write: write_tar, read: read_tar, held: held::tar },
    Kept { name: "cpio", write: write_cpio, read: read_cpio, held: held::cpio },
    Kept {
        name: "squashfs zstd",
        write: |tree, file| write_squashfs(tree, file, squashfs::Compression::Zstd(3)),
        read: SQUASHFS,
        held: held::squashfs,
    },
    Kept {
        name: "squashfs gzip",
        write: |tree, file| write_squashfs(tree, file, squashfs::Compression::Gzip(6)),
        read: SQUASHFS,
        held: held::squashfs,
    },
    Kept {
        name: "squashfs xz",
        write: |tree, file| write_squashfs(tree, file, squashfs::Compression::Xz(1)),
        read: SQUASHFS,
        held: held::squashfs,
    },
    Kept {
        name: "erofs",
        write: |tree, file| write_erofs(tree, file, erofs::Compression::None),
        read: EROFS,
        held: held::all,
    },
    Kept {
        name: "erofs lz4",
        write: |tree, file| write_erofs(tree, file, erofs::Compression::Lz4),
        read: EROFS,
        held: held::all,
    },
    Kept {
        name: "erofs zstd",
        write: |tree, file| write_erofs(tree, file, erofs::Compression::Zstd(3)),
        read: EROFS,
        held: held::all,
    },
    Kept {
        name: "ext4",
        write: |tree, file| ext4::write(tree, &ext4::Options::default(), file),
        read: |file| opened(file, ext4::open),
        held: held::ext4,
    },
    Kept {
        name: "fat",
        write: |tree, file| {
            let volume = fat::plan(tree, &Composed::new(), &fat::Options::default())?;
            volume.image.write_file(file)
        },
        read: |file| fat::open(&Extents::of_file(&Arc::new(file))?),
        held: held::fat,
    },
    Kept {
        name: "iso9660",
        write: |tree, file| {
            let volume = iso9660::plan(tree, &Composed::new(), &iso9660::Options::default())?;
            volume.image.write_file(file)
        },
        read: |file| iso9660::open(&Extents::of_file(&Arc::new(file))?),
        held: held::iso9660,
    },
];

fn kept(name: &str) -> &'static Kept {
    KEPT.iter().find(|kept| kept.name == name).expect("a row of the table")
}

impl Kept {
    fn image(&self, tree: &Tree) -> Result<File> {
        let mut file = tempfile::tempfile().unwrap();
        (self.write)(tree, &mut file).with_context(|| self.name)?;
        Ok(file)
    }

    fn back(&self, tree: &Tree) -> Tree {
        let read = self.image(tree).and_then(self.read);
        read.unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }
}

fn opened(file: File, open: fn(Arc<File>, u64, u64) -> Result<Tree>) -> Result<Tree> {
    let len = file.metadata()?.len();
    open(Arc::new(file), 0, len)
}

fn write_squashfs(tree: &Tree, file: &mut File, with: squashfs::Compression) -> Result<()> {
    let options = squashfs::Options { compression: with, ..squashfs::Options::default() };
    squashfs::write(tree, &options, file)
}

fn write_erofs(tree: &Tree, file: &mut File, with: erofs::Compression) -> Result<()> {
    let options = erofs::Options { compression: with, ..erofs::Options::default() };
    erofs::write(tree, &options, file)
}

fn write_tar(tree: &Tree, file: &mut File) -> Result<()> {
    let mut out = BufWriter::new(file);
    tar::write(tree, &|_| Vec::new(), &mut out)?;
    Ok(out.flush()?)
}

/// Reads an archive by the index that the store makes of layers.
fn read_tar(mut file: File) -> Result<Tree> {
    file.rewind()?;
    let entries = read_entries(&mut BufReader::new(&file))?;
    let file = Arc::new(file);
    let mut tree = Tree::new();
    for entry in entries {
        let kind = match entry.kind {
            EntryKind::HardLink(target) => {
                let target = tree.lookup(&target).context("expected a link to what was there")?;
                tree.link(target, &entry.path)?;
                continue;
            }
            EntryKind::Directory => Kind::directory(),
            EntryKind::File { offset, len, digest } => {
                Kind::File(Content::Span { file: file.clone(), offset, len, digest })
            }
            EntryKind::Symlink(target) => Kind::Symlink(target.into()),
            EntryKind::Char(major, minor) => Kind::Char(major, minor),
            EntryKind::Block(major, minor) => Kind::Block(major, minor),
            EntryKind::Fifo => Kind::Fifo,
        };
        let xattrs = entry.xattrs.into_iter().map(|(name, value)| (name.into(), value.into()));
        let meta = Metadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: xattrs.collect(),
        };
        tree.insert(&entry.path, Inode { meta, kind, part: 0 })?;
    }
    Ok(tree)
}

fn write_cpio(tree: &Tree, file: &mut File) -> Result<()> {
    let mut items: Vec<Item> = Vec::new();
    let mut known: BTreeMap<Id, usize> = BTreeMap::new();
    for found in tree.walk() {
        let at = *known.entry(found.id).or_insert(items.len());
        if at == items.len() {
            items.push(Item { id: found.id, paths: Vec::new() });
        }
        items[at].paths.push(found.path);
    }
    let mut writer = Writer::new(BufWriter::new(file));
    items.iter().try_for_each(|item| writer.append(tree, item))?;
    Ok(writer.finish()?.flush()?)
}

fn read_cpio(mut file: File) -> Result<Tree> {
    file.rewind()?;
    let mut keep = |stream: &mut dyn Read, len: u64| {
        let mut bytes = Vec::new();
        stream.take(len).read_to_end(&mut bytes)?;
        Ok(Content::Bytes(bytes.into()))
    };
    cpio::read(&mut BufReader::new(&file), &mut keep)
}

/// Says whether a test that takes minutes is wanted.
fn soak(what: &str) -> bool {
    let soak = soaks();
    if !soak {
        skipped(&format!("{what}: MOBY_SOAK is not true"));
    }
    soak
}

fn soaks() -> bool {
    crate::env::var("MOBY_SOAK").is_some_and(|set| set == "true")
}

/// How many random trees there are: many more where there is time.
fn cases(few: u32) -> u32 {
    if soaks() { few * 20 } else { few }
}

/// Reads a few bytes of a file of a tree.
fn bytes_at(tree: &Tree, path: &str, offset: u64, len: usize) -> Vec<u8> {
    let id = tree.lookup(path.as_bytes()).unwrap_or_else(|| panic!("expected {path}"));
    let Kind::File(content) = &tree.get(id).kind else { panic!("expected a file at {path}") };
    let mut bytes = vec![0; len];
    match content {
        Content::Span { file, offset: base, .. } => {
            file.read_exact_at(&mut bytes, base + offset).unwrap();
        }
        content => content.read_exact_at(&mut bytes, offset).unwrap(),
    }
    bytes
}

fn file(bytes: impl Into<Arc<[u8]>>) -> Inode {
    Inode { meta: Metadata::root(0o644, 1_700_000_000), kind: Kind::bytes(bytes), part: 0 }
}

/// Makes a tree of some files.
fn files<'a>(files: impl IntoIterator<Item = (&'a str, Kind)>) -> Tree {
    let mut tree = Tree::new();
    for (path, kind) in files {
        let inode = Inode { kind, ..file([]) };
        tree.insert(path.as_bytes(), inode).unwrap();
    }
    tree
}
