//! Random trees with all the trouble that trees can make: odd and long names,
//! deep folders, every kind of node, webs of hard links, holes, contents that
//! are there many times, attributes by the dozen, owners and times at limits.
//!
//! A test takes away what its format does not hold; what is here, any Linux
//! file system can.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::{CAPABILITY, lines, noise, prose, sparse};
use crate::tree::{Id, Inode, Kind, Metadata, Tree, join};

/// Names that somebody would take for something else: options, patterns,
/// escapes, lines, devices, each other.
const ODD: &[&str] = &[
    "-rf",
    "--",
    "-",
    "...",
    " ",
    " lead",
    "trail ",
    "trail.",
    "a\nb",
    "\n",
    "a\\b",
    "\\",
    "a\tb",
    "\r",
    "\x01",
    "\x7f",
    "\"'`",
    "$(x);&|",
    "*?[!x]",
    "~",
    "a:b",
    "%s%n",
    "#x",
    "@x",
    "a,b;c=d",
    "CON",
    "nul.txt",
    "README",
    "Readme",
    "readme",
    "A",
    "B",
    "C",
    "\u{e9}",
    "e\u{301}",
    "\u{c5}ngstr\u{f6}m",
    "A\u{30a}ngstro\u{308}m",
    "\u{212b}",
    "stra\u{df}e",
    "STRASSE",
    "\u{202e}gnp",
    "\u{feff}",
    "\u{1d11e}",
    "\u{65e5}\u{672c}\u{8a9e}",
    "name.tar.gz",
    ".hidden",
    "x;1",
    "8CHARSOK.TXT",
    "LONGNA~1.TXT",
    "TRAILER!!",
    "0",
];

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![1_u8..=46, 48_u8..=255];
    let plain = |byte: u8| if byte == 0 || byte == b'/' { b'_' } else { byte };
    let name = prop_oneof![
        8 => "[a-d]{1,2}".prop_map(String::into_bytes),
        4 => select(ODD).prop_map(|name| name.as_bytes().to_vec()),
        2 => vec(byte, 1..20),
        1 => any::<u8>().prop_map(move |byte| vec![plain(byte); 255]),
        1 => (200_usize..=255).prop_map(|len| vec![b'l'; len]),
        // 254 bytes in 127 letters.
        1 => Just("\u{f8}".repeat(127).into_bytes()),
    ];
    name.prop_filter("a name", |name| name != b"." && name != b"..")
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let deep = (20_usize..30, name()).prop_map(|(depth, name)| {
        let mut names = vec![b"d".to_vec(); depth];
        names.push(name);
        names.join(&b'/')
    });
    prop_oneof![12 => vec(name(), 1..5).prop_map(|names| names.join(&b'/')), 1 => deep]
}

fn file() -> impl Strategy<Value = Kind> {
    let bytes = (0_usize..300_000, 0_u64..4, 0_u8..5).prop_map(|(len, seed, how)| match how {
        0 => prose(len, seed),
        1 => noise(len, seed),
        2 => vec![0; len],
        3 => prose(len % 5000, seed),
        // The ends of blocks.
        _ => noise((len >> 12 << 12) + seed as usize, 1),
    });
    // Data here and there; the last byte may be in a hole.
    let piece = (0_u64..3_000_000, 1_usize..9000, 0_u64..4);
    let holes = (0_u64..100_000, vec(piece, 0..4)).prop_map(|(more, pieces)| {
        let pieces: Vec<_> =
            pieces.into_iter().map(|(at, len, seed)| (at, noise(len, seed))).collect();
        let end = pieces.iter().map(|(at, bytes)| at + bytes.len() as u64).max().unwrap_or(0);
        sparse(end + more, &pieces)
    });
    prop_oneof![
        6 => bytes.prop_map(Kind::bytes),
        2 => Just(Kind::bytes([])),
        // Equal ones, many times.
        3 => (0_usize..3).prop_map(|nth| Kind::bytes(prose([9, 5000, 150_000][nth], 9))),
        2 => holes,
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    let target = prop_oneof![
        4 => vec(1_u8..=255, 1..300),
        1 => (1000_usize..4000).prop_map(|len| vec![b't'; len]),
        1 => select(&["/", "//", ".", "..", "a//b", "a/../b/", "/etc/x"][..])
            .prop_map(|target| target.as_bytes().to_vec()),
    ];
    prop_oneof![
        5 => file(),
        2 => Just(Kind::directory()),
        1 => target.prop_map(|target| Kind::Symlink(target.into())),
        1 => (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::Char(major, minor)),
        1 => (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::Block(major, minor)),
        1 => prop_oneof![Just(Kind::Fifo), Just(Kind::Socket)],
    ]
}

/// Attributes of one inode: none, random ones, some of a few sets that many
/// have, large ones, many. All of them fit in a block of 4096 bytes.
fn xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let random = btree_map("(user|trusted)\\.[a-z.]{1,30}", vec(any::<u8>(), 0..200), 0..4);
    let random = random.prop_map(|all| all.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect());
    let one = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    let many = (1_u8..40).map(|n| one(&format!("user.number {n}"), &[n; 20]));
    let sets = [
        BTreeMap::from([one("security.capability", CAPABILITY)]),
        BTreeMap::from([one("security.capability", CAPABILITY), one("user.a", b"b")]),
        BTreeMap::from([one("trusted.overlay.opaque", b"y")]),
        BTreeMap::from([one("user.large", &[7; 3500])]),
        BTreeMap::from([one("user.empty", b""), one("user.\u{e9} \n", b"\0\n=")]),
        many.collect(),
    ];
    prop_oneof![
        6 => Just(BTreeMap::new()),
        2 => random,
        2 => (0..sets.len()).prop_map(move |nth| sets[nth].clone()),
    ]
}

fn meta() -> impl Strategy<Value = Metadata> {
    let time = prop_oneof![
        select(&[0, -1, -(1 << 31), (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 33][..]),
        0..1_i64 << 32,
        -(1_i64 << 31)..3_i64 << 32,
    ];
    let owner = prop_oneof![
        2 => Just(0_u32),
        1 => select(&[1000, 65_534, 65_535, 65_536, 70_000, u32::MAX - 1, u32::MAX][..]),
        1 => any::<u32>(),
    ];
    (0_u16..0o10000, owner.clone(), owner, time, xattrs()).prop_map(
        |(mode, uid, gid, mtime, xattrs)| {
            let xattrs = xattrs.into_iter().map(|(name, value)| (name.into(), value.into()));
            Metadata { mode, uid, gid, mtime, xattrs: xattrs.collect() }
        },
    )
}

/// A random tree, shown by a line for each name where a test fails.
#[derive(Clone)]
pub(crate) struct Random(Tree);

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(&self.0).iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Deref for Random {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.0
    }
}

/// Random trees: see the head of this file.
pub(crate) fn random() -> impl Strategy<Value = Random> {
    let links = prop_oneof![4 => vec(path(), 0..1), 1 => vec(path(), 1..6)];
    let puts = vec((path(), kind(), meta(), 0_u32..3, links), 0..60);
    (puts, meta()).prop_map(|(puts, mut root)| {
        let mut tree = Tree::new();
        root.mode |= 0o700;
        tree.get_mut(tree.root()).meta = root;
        for (path, kind, meta, part, links) in puts {
            let path = below_folders(&tree, &path);
            let id = tree.insert(&path, Inode { meta, kind, part }).unwrap();
            for link in links {
                put_link(&mut tree, id, &path, &link);
            }
        }
        Random(tree)
    })
}

/// Gives a file a further name, which may take its first one away.
fn put_link(tree: &mut Tree, id: Id, path: &[u8], link: &[u8]) {
    let link = below_folders(tree, link);
    if tree.entries(id).is_none() && link != path {
        tree.link(id, &link).unwrap();
    }
}

/// Changes each name of a path that is none of a folder but would have to be.
fn below_folders(tree: &Tree, path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let mut found = Vec::new();
    for (nth, name) in names.iter().enumerate() {
        let mut next = join(&found, name);
        let file = |path: &[u8]| tree.lookup(path).is_some_and(|id| tree.entries(id).is_none());
        if nth + 1 < names.len() && file(&next) {
            next = join(&found, b"folder");
        }
        found = next;
    }
    found
}
