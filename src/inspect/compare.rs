//! What differs between two images: by file, and in what starts them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::Serialize;

use super::{Image, Partition, Start, Volume};
use crate::tree::{Id, Inode, Kind, Tree};

/// How much is compared at once, in bytes.
const CHUNK: usize = 1 << 20;

/// What differs between two images.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Files of the root, by path.
    pub files: Vec<Changed>,
    /// Kernel, command line, initrd and partitions.
    pub parts: Vec<Part>,
}

impl Differences {
    /// Says whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.parts.is_empty()
    }
}

/// What became of a file from the first image to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the second image has it.
    Added,
    /// Only the first image has it.
    Removed,
    /// Both have it, but not the same.
    Changed,
}

/// A file that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its path, without a slash at either end; empty for the root folder.
    pub path: String,
    /// What became of it.
    pub change: Change,
    /// Its size in the first image, where it is a file there.
    pub before: Option<u64>,
    /// Its size in the second image, where it is a file there.
    pub after: Option<u64>,
    /// What differs, in words.
    pub what: Vec<String>,
    /// Its inodes in the first and in the second tree.
    #[serde(skip)]
    pub ids: (Option<Id>, Option<Id>),
}

/// A part of an image that differs, apart from files.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Which part: `kernel`, `command line`, `initrd`, `partition 1`.
    pub part: String,
    /// What became of it.
    pub change: Change,
    /// How it is in the first image, or what only that has.
    pub before: String,
    /// How it is in the second image, or what only that has.
    pub after: String,
}

/// Compares two images: their roots, what starts them and, where both are
/// divided, their partitions.
pub fn compare(before: &Image, after: &Image) -> Result<Differences> {
    let mut found = Differences::default();
    match (before.root(), after.root()) {
        (Some(one), Some(other)) => found.files = roots(one, other)?,
        (None, None) => {}
        (one, other) => found.parts.push(Part {
            part: "root".to_owned(),
            change: if one.is_some() { Change::Removed } else { Change::Added },
            before: one.map(|volume| volume.system.to_owned()).unwrap_or_default(),
            after: other.map(|volume| volume.system.to_owned()).unwrap_or_default(),
        }),
    }
    starts(before, after, &mut found.parts);
    partitions(before, after, &mut found.parts);
    Ok(found)
}

/// Compares two file systems by file.
pub fn roots(before: &Volume, after: &Volume) -> Result<Vec<Changed>> {
    let attributes = before.holds_attributes() && after.holds_attributes();
    let (one, other) = (names(&before.tree), names(&after.tree));
    let paths: BTreeSet<&Vec<u8>> = one.keys().chain(other.keys()).collect();
    let paths: Vec<&Vec<u8>> = paths.into_iter().collect();
    // Contents are unpacked and compared on all processors.
    let found = paths.into_par_iter().map(|path| {
        let ids = (one.get(path).copied(), other.get(path).copied());
        let inodes = (ids.0.map(|id| before.tree.get(id)), ids.1.map(|id| after.tree.get(id)));
        let (change, what) = match inodes {
            (Some(one), Some(other)) => {
                let shown = || format!("comparing /{}", String::from_utf8_lossy(path));
                (Change::Changed, changes(one, other, attributes).with_context(shown)?)
            }
            (Some(one), None) => (Change::Removed, vec![word(&one.kind).to_owned()]),
            (None, Some(other)) => (Change::Added, vec![word(&other.kind).to_owned()]),
            (None, None) => return Ok(None),
        };
        Ok((!what.is_empty()).then(|| Changed {
            path: String::from_utf8_lossy(path).into_owned(),
            change,
            before: inodes.0.and_then(size),
            after: inodes.1.and_then(size),
            what,
            ids,
        }))
    });
    found.filter_map(Result::transpose).collect()
}

fn names(tree: &Tree) -> BTreeMap<Vec<u8>, Id> {
    tree.walk().map(|found| (found.path, found.id)).collect()
}

fn size(inode: &Inode) -> Option<u64> {
    match &inode.kind {
        Kind::File(content) => Some(content.len()),
        _ => None,
    }
}

/// Names a kind of file.
pub fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory(_) => "folder",
        Kind::File(_) => "file",
        Kind::Symlink(_) => "link",
        Kind::Char(..) => "character device",
        Kind::Block(..) => "block device",
        Kind::Fifo => "pipe",
        Kind::Socket => "socket",
    }
}

fn changes(one: &Inode, other: &Inode, attributes: bool) -> Result<Vec<String>> {
    let mut what = Vec::new();
    let (a, b) = (&one.meta, &other.meta);
    match (&one.kind, &other.kind) {
        (Kind::File(one), Kind::File(other)) => {
            if one.len() != other.len() {
                what.push(format!("size {} to {}", one.len(), other.len()));
            } else if !one.equals(other)? {
                what.push("contents".to_owned());
            }
        }
        (Kind::Symlink(one), Kind::Symlink(other)) if one != other => {
            let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
            what.push(format!("target {one} to {other}"));
        }
        (Kind::Char(a, b), Kind::Char(c, d)) | (Kind::Block(a, b), Kind::Block(c, d))
            if (a, b) != (c, d) =>
        {
            what.push(format!("device {a}:{b} to {c}:{d}"));
        }
        (one, other) if word(one) != word(other) => {
            what.push(format!("{} to {}", word(one), word(other)));
        }
        _ => {}
    }
    if a.mode != b.mode && !matches!(one.kind, Kind::Symlink(_)) {
        what.push(format!("mode {:04o} to {:04o}", a.mode, b.mode));
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        what.push(format!("owner {}:{} to {}:{}", a.uid, a.gid, b.uid, b.gid));
    }
    if a.mtime != b.mtime {
        what.push(format!("time {} to {}", a.mtime, b.mtime));
    }
    if attributes && a.xattrs != b.xattrs {
        let names: BTreeSet<_> = a.xattrs.keys().chain(b.xattrs.keys()).collect();
        let differ = names.into_iter().filter(|name| a.xattrs.get(*name) != b.xattrs.get(*name));
        let names: Vec<_> = differ.map(|name| String::from_utf8_lossy(name)).collect();
        what.push(format!("attributes {}", names.join(", ")));
    }
    Ok(what)
}

/// Compares what is started: kernels and command lines one by one, and the
/// initrd where it is not the root, whose files tell more.
fn starts(before: &Image, after: &Image, found: &mut Vec<Part>) {
    let kernels = |image: &Image| -> Vec<(String, String)> {
        let kernel = |kernel: &super::Kernel| {
            let release = kernel.release.as_deref().unwrap_or("unknown release");
            let digest = kernel.digest.to_string();
            (digest, format!("{release}, {} bytes, {}", kernel.size, kernel.digest.short()))
        };
        image.kernels.iter().map(kernel).collect()
    };
    let (one, other) = (kernels(before), kernels(after));
    if !one.is_empty() && !other.is_empty() {
        part("kernel", &one, &other, found);
    }
    let (one, other) = (cmdline(before), cmdline(after));
    if let (Some(one), Some(other)) = (one, other)
        && one != other
    {
        found.push(words(&one, &other));
    }
    let initrds = |image: &Image| -> Vec<(String, String)> {
        let is_root = |index: usize| image.is_root(index);
        let apart = image.initrds.iter().filter(|initrd| !initrd.volume.is_some_and(is_root));
        let initrd = |initrd: &super::Initrd| {
            let digest = initrd.digest.to_string();
            (digest, format!("{} bytes, {}", initrd.size, initrd.digest.short()))
        };
        apart.map(initrd).collect()
    };
    let (one, other) = (initrds(before), initrds(after));
    if !one.is_empty() && !other.is_empty() {
        part("initrd", &one, &other, found);
    }
}

/// Compares parts that have a digest and a text for people.
fn part(name: &str, one: &[(String, String)], other: &[(String, String)], found: &mut Vec<Part>) {
    let digests = |parts: &[(String, String)]| -> BTreeSet<String> {
        parts.iter().map(|part| part.0.clone()).collect()
    };
    if digests(one) != digests(other) {
        let text = |parts: &[(String, String)]| -> String {
            parts.iter().map(|part| part.1.as_str()).collect::<Vec<_>>().join("; ")
        };
        found.push(Part {
            part: name.to_owned(),
            change: Change::Changed,
            before: text(one),
            after: text(other),
        });
    }
}

/// Returns the command line. What names a partition of the very image by an
/// identifier says the same in another one with an identifier of its own.
fn cmdline(image: &Image) -> Option<String> {
    let cmdline = image.starts.iter().find_map(|start: &Start| start.cmdline.as_deref())?;
    let partitions = image.disk.iter().flat_map(|disk| &disk.partitions);
    let ids: Vec<(&str, usize)> =
        partitions.filter_map(|found| Some((found.id.as_deref()?, found.number))).collect();
    let word = |word: &str| {
        let own = ids.iter().find(|(id, _)| word.ends_with(&format!("PARTUUID={id}")));
        own.map_or_else(
            || word.to_owned(),
            |(id, number)| word.replace(id, &format!("(partition {number})")),
        )
    };
    Some(cmdline.split_ascii_whitespace().map(word).collect::<Vec<_>>().join(" "))
}

/// Tells which words only one of two command lines has.
fn words(one: &str, other: &str) -> Part {
    let only = |text: &str, not: &str| -> String {
        let known: Vec<&str> = not.split_ascii_whitespace().collect();
        let words = text.split_ascii_whitespace().filter(|word| !known.contains(word));
        words.collect::<Vec<_>>().join(" ")
    };
    let (before, after) = (only(one, other), only(other, one));
    // The same words in another order.
    let both = before.is_empty() && after.is_empty();
    Part {
        part: "command line".to_owned(),
        change: Change::Changed,
        before: if both { one.to_owned() } else { before },
        after: if both { other.to_owned() } else { after },
    }
}

fn partitions(before: &Image, after: &Image, found: &mut Vec<Part>) {
    let (Some(one), Some(other)) = (&before.disk, &after.disk) else { return };
    // A disc is divided otherwise than a disk of the same contents.
    let is_disc = |image: &Image| image.volumes.iter().any(|volume| volume.place == "disc");
    if one.table.is_none() || other.table.is_none() || is_disc(before) != is_disc(after) {
        return;
    }
    let text = |partition: &Partition| {
        let system = partition.system.unwrap_or("nothing known");
        let (name, kind) = (&partition.name, &partition.kind);
        format!("{name} {kind}, {system}, {} bytes at {}", partition.size, partition.start)
    };
    let count = one.partitions.len().max(other.partitions.len());
    for index in 0..count {
        let texts = [one, other].map(|disk| disk.partitions.get(index).map(text));
        if texts[0] == texts[1] {
            continue;
        }
        let change = match &texts {
            [None, _] => Change::Added,
            [_, None] => Change::Removed,
            _ => Change::Changed,
        };
        let [before, after] = texts.map(Option::unwrap_or_default);
        found.push(Part { part: format!("partition {}", index + 1), change, before, after });
    }
}

/// Finds the first byte in which two files differ; the end of the shorter one
/// where the longer one goes on.
pub fn first_difference(one: &mut File, other: &mut File) -> Result<Option<u64>> {
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    loop {
        let (n, m) = (fill(one, &mut a)?, fill(other, &mut b)?);
        let both = n.min(m);
        if let Some(index) = (0..both).find(|index| a[*index] != b[*index]) {
            return Ok(Some(at + index as u64));
        }
        if n != m {
            return Ok(Some(at + both as u64));
        }
        if n == 0 {
            return Ok(None);
        }
        at += n as u64;
    }
}

fn fill(file: &mut File, buf: &mut [u8]) -> Result<usize> {
    let mut have = 0;
    while have < buf.len() {
        match file.read(&mut buf[have..]).context("comparing files")? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}
