//! The kernel's own view of our file systems: one guest mounts an image of
//! each, lists all that it sees, and the lists are compared with the tree.
//!
//! The guest has Debian's kernel, busybox, getfattr and resize2fs, from the
//! cache that the tests of packages share; it writes what it found to a disk.
//! A kernel that knows no erofs with zstd leaves that one to our own reader.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod expected;
mod guest;
mod listed;
#[path = "../support/mod.rs"]
mod support;

// The trees that the library's own tests are made of.
#[path = "../../src/fs/sample/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    clippy::explicit_write,
    reason = "the library's tests use all of it, and print nothing"
)]
mod sample;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use moby::fs::{Composed, erofs, ext4, fat, iso9660, squashfs};
use moby::{oci, tree};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use support::guest::turn;
use support::have;
use tree::{Kind, Tree};

/// What the kernel shows of a tree.
#[derive(Clone, Copy)]
struct Shows {
    owners: bool,
    links: bool,
    xattrs: bool,
    /// How a time comes out.
    time: fn(i64) -> i64,
}

const ALL: Shows = Shows { owners: true, links: true, xattrs: true, time: |time| time };

/// An image that the guest mounts.
struct Image {
    name: &'static str,
    kind: &'static str,
    options: &'static str,
    /// Whether folders of thousands are in it, too: listing them takes time.
    crowds: bool,
    shows: Shows,
    write: fn(&Tree, &mut File) -> anyhow::Result<()>,
}

fn squashfs(tree: &Tree, file: &mut File, with: squashfs::Compression) -> anyhow::Result<()> {
    squashfs::write(tree, &squashfs::Options { compression: with, ..Default::default() }, file)
}

fn erofs(tree: &Tree, file: &mut File, with: erofs::Compression) -> anyhow::Result<()> {
    erofs::write(tree, &erofs::Options { compression: with, ..Default::default() }, file)
}

fn iso9660(tree: &Tree, file: &mut File) -> anyhow::Result<()> {
    let disc = iso9660::plan(tree, &Composed::new(), &iso9660::Options::default())?;
    disc.image.write_file(file)
}

/// Times of 32 bits without a sign.
const UNSIGNED: Shows = Shows { time: |time| time.clamp(0, u32::MAX.into()), ..ALL };

/// Linux reads the times of discs into 32 bits, and versions of it differ in
/// what comes of others.
const IN_32_BITS: fn(i64) -> i64 = |time| if (0..1 << 31).contains(&time) { time } else { -1 };

const IMAGES: &[Image] = &[
    Image {
        name: "squashfs zstd",
        kind: "squashfs",
        options: "ro",
        crowds: true,
        shows: UNSIGNED,
        write: |tree, file| squashfs(tree, file, squashfs::Compression::Zstd(3)),
    },
    Image {
        name: "squashfs xz",
        kind: "squashfs",
        options: "ro",
        crowds: false,
        shows: UNSIGNED,
        write: |tree, file| squashfs(tree, file, squashfs::Compression::Xz(6)),
    },
    Image {
        name: "squashfs gzip",
        kind: "squashfs",
        options: "ro",
        crowds: false,
        shows: UNSIGNED,
        write: |tree, file| squashfs(tree, file, squashfs::Compression::Gzip(6)),
    },
    Image {
        name: "erofs",
        kind: "erofs",
        options: "ro",
        crowds: true,
        shows: ALL,
        write: |tree, file| erofs(tree, file, erofs::Compression::None),
    },
    Image {
        name: "erofs lz4",
        kind: "erofs",
        options: "ro",
        crowds: false,
        shows: ALL,
        write: |tree, file| erofs(tree, file, erofs::Compression::Lz4),
    },
    Image {
        name: "erofs zstd",
        kind: "erofs",
        options: "ro",
        crowds: false,
        shows: ALL,
        write: |tree, file| erofs(tree, file, erofs::Compression::Zstd(3)),
    },
    Image {
        name: "ext4",
        kind: "ext4",
        options: "rw",
        crowds: true,
        shows: Shows { time: |time| time.clamp(-(1 << 31), (1 << 34) - (1 << 31) - 1), ..ALL },
        write: |tree, file| ext4::write(tree, &ext4::Options::default(), file),
    },
    Image {
        name: "iso9660",
        kind: "iso9660",
        options: "ro",
        crowds: true,
        // Inodes go by place there.
        shows: Shows { links: false, xattrs: false, time: IN_32_BITS, ..ALL },
        write: iso9660,
    },
    Image {
        name: "joliet",
        kind: "iso9660",
        options: "ro,norock,utf8",
        crowds: false,
        shows: Shows { owners: false, links: false, xattrs: false, time: IN_32_BITS },
        write: iso9660,
    },
    Image {
        name: "fat",
        kind: "vfat",
        options: "ro,tz=UTC,utf8",
        crowds: true,
        shows: Shows {
            owners: false,
            links: false,
            xattrs: false,
            time: |time| time.clamp(315_532_800, 4_354_819_198) & !1,
        },
        write: |tree, file| {
            let volume = fat::plan(tree, &Composed::new(), &fat::Options::default())?;
            volume.image.write_file(file)
        },
    },
];

/// What kernels say that are older than 6.10, or made without it.
const NO_ZSTD: &str = "isn't enabled on this kernel";

/// A tree with everything in it, and a few random ones, the same each time.
fn sampled() -> Tree {
    let mut tree = sample::everything();
    let mut runner = TestRunner::deterministic();
    for nth in 0..4 {
        let random = sample::random().new_tree(&mut runner).unwrap().current();
        tree.graft(format!("random{nth}").as_bytes(), &random, 0).unwrap();
    }
    let ids: Vec<tree::Id> = tree.walk().map(|found| found.id).collect();
    for id in ids {
        // An owner that Linux has no number for, and lets nobody read.
        let meta = &mut tree.get_mut(id).meta;
        (meta.uid, meta.gid) = (meta.uid.min(u32::MAX - 1), meta.gid.min(u32::MAX - 1));
    }
    tree
}

/// Takes away what an image does not hold under the same names.
fn held(image: &Image, mut tree: Tree) -> Tree {
    if !image.crowds {
        tree.remove(b"many").unwrap();
    }
    if image.kind == "iso9660" {
        // Linux cuts longer names of Rock Ridge off.
        let long = |path: &[u8]| path.split(|byte| *byte == b'/').any(|name| name.len() > 253);
        let paths: Vec<Vec<u8>> =
            tree.walk().map(|found| found.path).filter(|path| long(path)).collect();
        for path in paths {
            tree.remove(&path).unwrap();
        }
    }
    if ["joliet", "fat"].contains(&image.name) {
        let plain = |name: &[u8]| {
            let sign = |byte: &u8| byte.is_ascii_alphanumeric() || b" -_".contains(byte);
            name.len() <= 64 && name.iter().all(sign) && !name.ends_with(b" ")
        };
        let unwanted: Vec<Vec<u8>> = tree
            .walk()
            .filter(|found| {
                let names = found.path.split(|byte| *byte == b'/');
                let file = matches!(tree.get(found.id).kind, Kind::File(_) | Kind::Directory(_));
                found.path.starts_with(b"random") || !file || !names.into_iter().all(plain)
            })
            .filter(|found| !found.path.is_empty())
            .map(|found| found.path)
            .collect();
        for path in unwanted {
            tree.remove(&path).unwrap();
        }
    }
    tree
}

fn e2fsck(image: &Path) {
    if !have("e2fsck") {
        return;
    }
    let done = Command::new("e2fsck").arg("-fn").arg(image).output().unwrap();
    let told = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{told}");
}

#[test]
fn linux_sees_what_was_written() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let tree = sampled();
    let mut guest = guest::Guest::new(folder.path());
    let trees: Vec<Tree> = IMAGES
        .iter()
        .map(|image| {
            let tree = held(image, tree.clone());
            let path = guest.disk(image.name, image.kind, image.options);
            (image.write)(&tree, &mut File::create(&path).unwrap()).unwrap();
            tree
        })
        .collect();
    // One more to write to, on a disk that is larger than it.
    let grown = guest.disk("grown", "ext4", "rw");
    let mut file = File::create(&grown).unwrap();
    let options = ext4::Options { grown: Some(1 << 30), ..Default::default() };
    ext4::write(&tree, &options, &mut file).unwrap();
    let before = file.metadata().unwrap().len();
    file.set_len(300 << 20).unwrap();

    let (lists, log) = guest.run();
    for (image, tree) in IMAGES.iter().zip(&trees) {
        if image.name == "erofs zstd" && log.contains(NO_ZSTD) {
            eprintln!("skipped: this kernel mounts no erofs with zstd");
            continue;
        }
        let list = lists.get(image.name).unwrap_or_else(|| panic!("no {}: {log}", image.name));
        expected::compare(image, list, tree, &log);
    }
    for bad in ["EXT4-fs error", "SQUASHFS error", "FAT-fs (", "ISOFS: corrupt"] {
        assert!(!log.contains(bad), "{log}");
    }
    assert!(log.contains("moby: written and grown"), "{log}");
    e2fsck(&guest.path("ext4"));
    e2fsck(&grown);
    let file = fs::File::open(&grown).unwrap();
    assert!(before < 100 << 20);
    let back = ext4::open(std::sync::Arc::new(file), 0, 300 << 20).unwrap();
    let written = back.lookup(b"written/by the guest").expect("what the guest wrote");
    assert!(matches!(&back.get(written).kind, Kind::File(content) if content.len() == 9 << 20));
    assert!(back.lookup(b"sizes/700001").is_none() && back.lookup(b"sizes/moved").is_some());
}
