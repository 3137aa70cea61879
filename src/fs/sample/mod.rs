//! Trees for tests: one with everything in it, random ones, one out of a
//! folder on disk; and the text by which two trees are compared.

mod random;
mod sparse;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write, stderr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::tree::{Content, Id, Inode, Kind, Metadata, Tree};

pub(crate) use random::random;
pub(crate) use sparse::{huge, sparse};

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 24) as u8
    };
    (0..len).map(|_| step(&mut state)).collect()
}

/// Bytes that compress about as well as programs do.
pub(crate) fn prose(len: usize, seed: u64) -> Vec<u8> {
    let words = noise(4096, seed);
    let picks = noise(len / 4 + 8, seed + 1);
    let mut bytes = Vec::with_capacity(len + 16);
    for pick in picks {
        let at = usize::from(pick) * 15;
        bytes.extend_from_slice(&words[at..at + 4 + usize::from(pick % 9)]);
        if bytes.len() >= len {
            break;
        }
    }
    bytes.truncate(len);
    bytes
}

/// Says whether a foreign program is there to judge; tells where it is not.
pub(crate) fn judge(tool: &str) -> bool {
    let found = Command::new(tool).arg("--help").output().is_ok();
    if !found {
        skipped(&format!("{tool} is not installed"));
    }
    found
}

/// Tells what a test leaves out, and why.
pub(crate) fn skipped(why: &str) {
    writeln!(stderr(), "skipped: {why}").unwrap();
}

/// Says whether devices, owners and attributes can be made here.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped("only root can extract devices and owners");
    }
    root
}

fn meta(mode: u16, owner: u32, mtime: i64, xattrs: &[(&str, &[u8])]) -> Metadata {
    let xattrs = xattrs.iter().map(|(name, value)| (name.as_bytes().into(), (*value).into()));
    Metadata { mode, uid: owner, gid: owner / 2, mtime, xattrs: xattrs.collect() }
}

fn put(tree: &mut Tree, path: &[u8], meta: Metadata, kind: Kind) -> Id {
    tree.insert(path, Inode { meta, kind, part: u32::from(path[0] & 1) }).unwrap()
}

/// A capability as the kernel takes it.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Makes a tree with every kind of node and every trouble in it.
pub(crate) fn everything() -> Tree {
    let mut tree = Tree::new();
    let plain = |mode| meta(mode, 0, 1_600_000_000, &[]);
    for len in [0, 1, 100, 4095, 4096, 4097, 8192, 131_071, 131_072, 131_073, 262_144, 700_001] {
        let path = format!("sizes/{len}");
        put(&mut tree, path.as_bytes(), plain(0o644), Kind::bytes(prose(len, len as u64)));
        let path = format!("noise/{len}");
        put(&mut tree, path.as_bytes(), plain(0o600), Kind::bytes(noise(len, len as u64)));
    }
    let twice = prose(300_000, 7);
    put(&mut tree, b"twice/a", plain(0o644), Kind::bytes(twice.clone()));
    put(&mut tree, b"twice/b", meta(0o755, 70_000, 5, &[]), Kind::bytes(twice));
    let mut holes = vec![0; 2_000_003];
    holes[1_000_000..1_000_010].copy_from_slice(b"in between");
    put(&mut tree, b"holes/middle", plain(0o644), Kind::bytes(holes));
    let ends = [vec![1; 5], vec![0; 1_000_000], vec![2; 5]].concat();
    put(&mut tree, b"holes/inside", plain(0o644), Kind::bytes(ends));
    put(&mut tree, b"holes/all", plain(0o644), Kind::bytes(vec![0; 1 << 20]));
    put(&mut tree, b"nodes/char", plain(0o620), Kind::Char(1, 3));
    put(&mut tree, b"nodes/block", plain(0o660), Kind::Block(259, 0x1_2345));
    put(&mut tree, b"nodes/fifo", plain(0o600), Kind::Fifo);
    put(&mut tree, b"nodes/socket", plain(0o755), Kind::Socket);
    put(&mut tree, b"nodes/link", plain(0o777), Kind::Symlink((*b"../sizes/1").into()));
    put(&mut tree, b"nodes/long", plain(0o777), Kind::Symlink(vec![b'x'; 4000].into()));
    put(&mut tree, b"empty", meta(0o1777, 12, 1, &[]), Kind::directory());
    put(&mut tree, &[b'n'; 255], plain(0o644), Kind::bytes(*b"long name"));
    put(&mut tree, b"odd/\xff\xfe \n\\\"'", plain(0o644), Kind::bytes(*b"odd"));
    put(&mut tree, b"odd/!first", plain(0o644), Kind::bytes(*b"before the dot"));
    put(&mut tree, "odd/größe→".as_bytes(), plain(0o4755), Kind::bytes(*b"set"));
    let xattrs: &[(&str, &[u8])] = &[
        ("security.capability", CAPABILITY),
        ("trusted.overlay.opaque", b"y"),
        ("user.empty", b""),
        ("user.large", &[b'v'; 900]),
    ];
    put(&mut tree, b"xattrs/file", meta(0o755, 1, 2, xattrs), Kind::bytes(*b"x"));
    put(&mut tree, b"xattrs/same", meta(0o755, 1, 2, xattrs), Kind::bytes(prose(200_000, 3)));
    put(&mut tree, b"xattrs/dir", meta(0o755, 1, 2, &xattrs[1..3]), Kind::directory());
    put(&mut tree, b"xattrs/link", meta(0o777, 1, 2, &xattrs[1..2]), Kind::Symlink((*b"a").into()));
    put(&mut tree, b"xattrs/fifo", meta(0o644, 1, 2, &xattrs[1..2]), Kind::Fifo);
    for (from, name) in [("sizes/700001", "one"), ("sizes/1", "two"), ("nodes/fifo", "three")] {
        let id = tree.lookup(from.as_bytes()).unwrap();
        tree.link(id, format!("links/{name}").as_bytes()).unwrap();
        tree.link(id, format!("aliases/{name}").as_bytes()).unwrap();
    }
    for n in 0..3000 {
        let path = format!("many/entry number {n} of a large folder");
        put(
            &mut tree,
            path.as_bytes(),
            plain(0o644),
            Kind::bytes(format!("{}", n % 700).into_bytes()),
        );
    }
    for depth in 1..60 {
        let path = vec!["deep"; depth].join("/");
        put(&mut tree, path.as_bytes(), plain(0o755), Kind::directory());
    }
    tree
}

/// Describes every name of a tree by one line, sorted.
pub(crate) fn lines(tree: &Tree) -> Vec<String> {
    let mut names: Vec<_> = tree.walk().collect();
    names.sort_by(|a, b| a.path.cmp(&b.path));
    let mut first: BTreeMap<Id, String> = BTreeMap::new();
    let line = |path: String, id: Id| {
        if let Some(first) = first.get(&id) {
            return format!("{path} = {first}");
        }
        first.insert(id, path.clone());
        let Inode { meta, kind, .. } = tree.get(id);
        let mut line = format!("{path} {:04o} {}:{} {}", meta.mode, meta.uid, meta.gid, meta.mtime);
        line += &match kind {
            Kind::Directory(_) => " directory".to_owned(),
            Kind::File(content) => format!(" {} {}", content.len(), content.digest().unwrap()),
            Kind::Symlink(target) => format!(" -> {}", target.escape_ascii()),
            other => format!(" {other:?}"),
        };
        for (name, value) in &meta.xattrs {
            line += &format!(" {}={}", name.escape_ascii(), value.escape_ascii());
        }
        line
    };
    let mut line = line;
    // A blank ends the path.
    let path = |path: &[u8]| path.escape_ascii().to_string().replace(' ', "\\x20");
    names.into_iter().map(|found| line(path(&found.path), found.id)).collect()
}

/// Checks that two trees are the same, and shows the first difference.
#[track_caller]
pub(crate) fn assert_same(found: &Tree, expected: &Tree) {
    let (found, expected) = (lines(found), lines(expected));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

/// Makes a tree out of a folder on disk, with all that it says.
pub(crate) fn on_disk(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut known = BTreeMap::new();
    let mut waiting = vec![(folder.to_path_buf(), Vec::new())];
    while let Some((file, path)) = waiting.pop() {
        let found = fs::symlink_metadata(&file).unwrap();
        let identity = (found.dev(), found.ino());
        if let Some(id) = known.get(&identity) {
            tree.link(*id, &path).unwrap();
            continue;
        }
        let inode = Inode { meta: meta_of(&file, &found), kind: kind_of(&file, &found), part: 0 };
        let id = tree.insert(&path, inode).unwrap();
        if found.is_dir() {
            for entry in fs::read_dir(&file).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name();
                waiting.push((entry.path(), crate::tree::join(&path, name.as_bytes())));
            }
        } else {
            known.insert(identity, id);
        }
    }
    tree
}

fn kind_of(file: &Path, found: &fs::Metadata) -> Kind {
    let kind = found.file_type();
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    if kind.is_dir() {
        Kind::directory()
    } else if kind.is_symlink() {
        Kind::Symlink(fs::read_link(file).unwrap().into_os_string().into_vec().into())
    } else if kind.is_char_device() {
        Kind::Char(major, minor)
    } else if kind.is_block_device() {
        Kind::Block(major, minor)
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else {
        Kind::File(Content::of_file(fs::File::open(file).unwrap()).unwrap())
    }
}

fn meta_of(file: &Path, found: &fs::Metadata) -> Metadata {
    let mut names = vec![0_u8; 65_536];
    let len = rustix::fs::llistxattr(file, &mut names[..]).unwrap();
    let mut xattrs = BTreeMap::new();
    for name in names[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 65_536];
        let len = rustix::fs::lgetxattr(file, name, &mut value[..]).unwrap();
        xattrs.insert(name.into(), value[..len].into());
    }
    let mode = (found.mode() & 0o7777) as u16;
    Metadata { mode, uid: found.uid(), gid: found.gid(), mtime: found.mtime(), xattrs }
}

/// Reads what the files of a tree hold, as far as that goes: the image may be
/// damaged.
pub(crate) fn read_all(tree: &Tree) {
    for found in tree.walk() {
        if let Kind::File(content) = &tree.get(found.id).kind
            && content.len() < 1 << 24
        {
            drop(content.copy_to(&mut std::io::sink()));
        }
    }
}
