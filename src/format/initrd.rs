//! An initial root in segments: a few MiB of one component each, compressed
//! on its own and kept in the store by a key of what is in it.
//!
//! The kernel unpacks one archive behind the other, so that a rebuild writes
//! the old segments again and compresses only those that changed. The cuts
//! depend on paths and not on positions: a file that grows moves no cut.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::{Compression, Output};
use crate::fs::Extents;
use crate::fs::cpio::{self, Item};
use crate::oci::{Digest, Hasher};
use crate::store::Store;
use crate::system::System;
use crate::tree::{Content, Id, Kind, Tree};

/// No segment is cut below this many bytes of contents.
const SEGMENT_MIN: u64 = 2 << 20;
/// A segment is cut before it grows beyond this many bytes, if files allow.
const SEGMENT_MAX: u64 = 24 << 20;
/// One path in so many is a place to cut.
const CUT_ONE_IN: u8 = 24;
/// What boots the initial root is not in it.
pub(super) const LEFT_OUT: [&[u8]; 3] = [b"boot/kernel", b"boot/cmdline", b"boot/ucode.cpio"];

/// Lays out the initial root of a system.
pub(super) fn of_system(system: &System, output: &Output<'_>) -> Result<Extents> {
    let ucode = system.kernel.as_ref().and_then(|kernel| kernel.ucode.as_ref());
    plan(&system.tree, ucode, output.store, output.options.compression)
}

/// Lays out an initial root of a tree: microcode first, which the kernel looks
/// for uncompressed at the very beginning.
pub(super) fn plan(
    tree: &Tree,
    ucode: Option<&Content>,
    store: &Store,
    compression: Compression,
) -> Result<Extents> {
    let mut image = Extents::default();
    if let Some(ucode) = ucode {
        image.push_content(ucode);
        image.align(4);
    }
    for file in compressed(tree, store, compression)? {
        image.push(&Extents::of_file(&Arc::new(file))?);
    }
    Ok(image)
}

/// Returns the segments of a tree, compressed.
fn compressed(tree: &Tree, store: &Store, compression: Compression) -> Result<Vec<File>> {
    let segments = segments(tree);
    segments.par_iter().map(|items| segment(tree, items, compression, store)).collect()
}

/// Returns a compressed segment, out of the store where it is known.
fn segment(tree: &Tree, items: &[Item], with: Compression, store: &Store) -> Result<File> {
    let mut key = Hasher::new(io::sink());
    key.write_all(cpio::key(tree, items)?.bytes()).context("hashing")?;
    key.write_all(with.to_string().as_bytes()).context("hashing")?;
    store.derived("initrd-1", &key.finish().1, |out| {
        with.compress(out, |out| {
            let mut writer = cpio::Writer::new(out);
            for item in items {
                writer.append(tree, item)?;
            }
            writer.finish().map(drop)
        })
    })
}

/// Cuts a tree into segments, part by part. In each, and over all of them,
/// a folder comes before what is in it.
fn segments(tree: &Tree) -> Vec<Vec<Item>> {
    let mut names: BTreeMap<Id, Vec<Vec<u8>>> = BTreeMap::new();
    let mut parts: BTreeMap<u32, Vec<Id>> = BTreeMap::new();
    for found in tree.walk().filter(|found| !LEFT_OUT.contains(&found.path.as_slice())) {
        if !found.link {
            parts.entry(tree.get(found.id).part).or_default().push(found.id);
        }
        names.entry(found.id).or_default().push(found.path);
    }
    let done = vec![false; tree.capacity()];
    let mut cutter = Cutter { tree, names, done, all: Vec::new(), held: 0 };
    for ids in parts.values() {
        cutter.begin();
        ids.iter().for_each(|id| cutter.add(*id));
    }
    cutter.all.retain(|items| !items.is_empty());
    cutter.all
}

struct Cutter<'a> {
    tree: &'a Tree,
    names: BTreeMap<Id, Vec<Vec<u8>>>,
    done: Vec<bool>,
    all: Vec<Vec<Item>>,
    /// Bytes of contents in the last segment.
    held: u64,
}

impl Cutter<'_> {
    fn begin(&mut self) {
        self.all.push(Vec::new());
        self.held = 0;
    }

    fn add(&mut self, id: Id) {
        if std::mem::replace(&mut self.done[id.index()], true) {
            return;
        }
        let paths = self.names.remove(&id).unwrap_or_default();
        for path in &paths {
            self.add_parents(path);
        }
        let len = match &self.tree.get(id).kind {
            Kind::File(content) => content.len(),
            _ => 0,
        };
        if self.is_cut(&paths, len) {
            self.begin();
        }
        self.held += len;
        self.all.last_mut().expect("a segment was begun").push(Item { id, paths });
    }

    fn add_parents(&mut self, path: &[u8]) {
        self.add(self.tree.root());
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends {
            if let Some(parent) = self.tree.lookup(&path[..end]) {
                self.add(parent);
            }
        }
    }

    fn is_cut(&self, paths: &[Vec<u8>], len: u64) -> bool {
        let by_path = |path: &Vec<u8>| Digest::of(path).bytes()[0].is_multiple_of(CUT_ONE_IN);
        (self.held > 0 && self.held + len > SEGMENT_MAX)
            || (self.held >= SEGMENT_MIN && paths.first().is_some_and(by_path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Inode, Metadata};

    fn file(len: usize, part: u32) -> Inode {
        Inode { meta: Metadata::root(0o644, 0), kind: Kind::bytes(vec![7; len]), part }
    }

    fn paths(segments: &[Vec<Item>]) -> Vec<Vec<String>> {
        let shown = |item: &Item| {
            let all: Vec<_> = item.paths.iter().map(|p| String::from_utf8_lossy(p)).collect();
            all.join("=")
        };
        segments.iter().map(|items| items.iter().map(shown).collect()).collect()
    }

    #[test]
    fn keeps_parts_apart_and_folders_first() {
        let mut tree = Tree::new();
        let a = tree.insert(b"c/a/x", file(1, 1)).unwrap();
        tree.link(a, b"d/y").unwrap();
        tree.insert(b"c/b/x", file(1, 2)).unwrap();
        tree.insert(b"boot/kernel", file(1, 1)).unwrap();
        // The folder above both belongs to the later part, as in LinuxKit.
        let c = tree.lookup(b"c").unwrap();
        tree.get_mut(c).part = 2;
        let all = paths(&segments(&tree));
        let expected: [&[&str]; 3] =
            [&[""], &["boot", "c", "c/a", "d", "c/a/x=d/y"], &["c/b", "c/b/x"]];
        assert_eq!(all, expected);
    }

    #[test]
    fn moves_no_cut_when_a_file_grows() {
        let mut tree = Tree::new();
        for n in 0..200 {
            tree.insert(format!("f{n:03}").as_bytes(), file(200_000, 1)).unwrap();
        }
        let before = paths(&segments(&tree));
        assert!(before.len() > 3, "{}", before.len());
        tree.insert(b"f100", file(200_100, 1)).unwrap();
        assert_eq!(paths(&segments(&tree)), before);
    }
}
