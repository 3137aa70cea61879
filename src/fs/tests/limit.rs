//! What lies at the limits of formats, and the words about what is beyond.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::{KEPT, bytes_at, file, files, kept, soak};
use crate::fs::sample::{huge, lines, noise};
use crate::fs::tar;
use crate::oci::Digest;
use crate::tree::{Content, Inode, Kind, Metadata, Tree};

/// The length of a file of more than 4 GiB.
const HUGE: u64 = (4 << 30) + 5000;

/// Such a file, with data at its ends and around the limit.
fn huge_tree() -> Tree {
    let marks = [0, (4 << 30) - 3, HUGE - 6].map(|at| (at, b"marked".to_vec()));
    files([("large/file", huge(HUGE, &marks)), ("large/later", Kind::bytes(*b"later"))])
}

#[test]
fn more_than_4_gib_of_holes_take_no_room() {
    let soak = soak("reading the longest files back");
    for name in ["ext4", "squashfs zstd", "erofs", "erofs lz4", "erofs zstd"] {
        let image = kept(name).image(&huge_tree()).unwrap();
        let stored = image.metadata().unwrap().blocks() * 512;
        assert!(stored < 1 << 20, "{name}: {stored} bytes");
        if !soak {
            continue; // What reads it all takes minutes.
        }
        let back = (kept(name).read)(image).unwrap();
        for at in [0, (4 << 30) - 3, HUGE - 6] {
            assert_eq!(bytes_at(&back, "large/file", at, 6), b"marked", "{name} {at}");
        }
        assert_eq!(bytes_at(&back, "large/file", 1 << 30, 4), [0; 4]);
        assert_eq!(bytes_at(&back, "large/later", 0, 5), b"later");
    }
}

/// Counts what is written.
#[derive(Default)]
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn tar_holds_more_than_its_field_for_sizes() {
    let len = (8 << 30) + 7;
    let mut out = Counted::default();
    if soak("a tar archive of 8 GiB") {
        let tree = files([("large", huge(len, &[]))]);
        tar::write(&tree, &|_| Vec::new(), &mut out).unwrap();
        // The records and their header, the header, the end.
        assert_eq!(out.0, len.next_multiple_of(512) + 5 * 512);
    }
}

/// A folder of very many small files, some of them equal.
fn crowd(count: u32) -> Tree {
    let mut tree = Tree::new();
    for nth in 0..count {
        let path = format!("crowd/file number {nth:06}");
        let kind = Kind::bytes((nth % 1000).to_le_bytes());
        let meta = Metadata::root(0o600 + (nth % 0o100) as u16, i64::from(nth));
        tree.insert(path.as_bytes(), Inode { meta, kind, part: 0 }).unwrap();
    }
    tree
}

#[test]
fn a_folder_holds_a_hundred_thousand_files() {
    let tree = crowd(100_000);
    let compressed = ["squashfs gzip", "squashfs xz", "erofs lz4", "erofs zstd", "fat"];
    for kept in KEPT.iter().filter(|kept| !compressed.contains(&kept.name)) {
        let held = (kept.held)(tree.clone());
        let mut back = kept.back(&held);
        back.remove(b"lost+found").unwrap();
        assert!(lines(&back) == lines(&held), "{}", kept.name);
    }
}

#[test]
fn links_make_webs() {
    let mut tree = Tree::new();
    let targets = [
        Kind::bytes(noise(10_000, 1)),
        Kind::bytes([]),
        Kind::Symlink((*b"../d1").into()),
        Kind::Char(1, 3),
        Kind::Block(8, 1),
        Kind::Fifo,
        Kind::Socket,
    ];
    for (nth, kind) in targets.into_iter().enumerate() {
        let path = format!("d{nth}/first");
        let inode = Inode { kind, ..file([]) };
        let id = tree.insert(path.as_bytes(), inode).unwrap();
        for dir in 0..7 {
            tree.link(id, format!("d{dir}/web {nth}").as_bytes()).unwrap();
        }
    }
    // Under its other names a file outlives its first.
    tree.remove(b"d0/first").unwrap();
    for kept in KEPT {
        let held = (kept.held)(tree.clone());
        let mut back = kept.back(&held);
        back.remove(b"lost+found").unwrap();
        assert_eq!(lines(&back), lines(&held), "{}", kept.name);
    }
}

#[test]
fn nothing_at_all_is_held() {
    for tree in [Tree::new(), files([("empty", Kind::bytes([]))])] {
        for kept in KEPT {
            let mut back = kept.back(&tree);
            back.remove(b"lost+found").unwrap();
            let held = (kept.held)(tree.clone());
            assert_eq!(lines(&back)[1..], lines(&held)[1..], "{}", kept.name);
        }
    }
}

#[test]
fn equal_contents_are_stored_once() {
    let names: Vec<String> = (0..20).map(|nth| format!("d{nth}/copy")).collect();
    let copies = |count: usize| {
        files(names[..count].iter().map(|name| (&**name, Kind::bytes(noise(300_000, 1)))))
    };
    let sharing = KEPT.iter().filter(|kept| {
        ["squashfs", "erofs", "iso9660"].iter().any(|name| kept.name.starts_with(name))
    });
    for kept in sharing {
        let len = |count| kept.image(&copies(count)).unwrap().metadata().unwrap().len();
        let (one, all) = (len(1), len(20));
        // Folders of a disc take two sectors each.
        assert!(all < one + 20 * 5000, "{}: {one} and {all} bytes", kept.name);
    }
}

#[test]
fn equal_attributes_are_stored_once() {
    let set: BTreeMap<Box<[u8]>, Box<[u8]>> =
        BTreeMap::from([((*b"user.large").into(), noise(3500, 1).into())]);
    let tree = |count: usize| {
        let mut tree = Tree::new();
        for nth in 0..count {
            let meta = Metadata { xattrs: set.clone(), ..Metadata::root(0o644, 0) };
            let inode = Inode { meta, kind: Kind::Fifo, part: 0 };
            tree.insert(format!("{nth}").as_bytes(), inode).unwrap();
        }
        tree
    };
    for name in ["squashfs zstd", "erofs", "ext4"] {
        let len = |count| kept(name).image(&tree(count)).unwrap().metadata().unwrap().len();
        let (one, all) = (len(1), len(1000));
        assert!(all < one + 1000 * 500, "{name}: {one} and {all} bytes");
    }
}

/// A file longer than it could ever be written: it must be refused unread.
fn beyond(len: u64) -> Kind {
    let file = Arc::new(tempfile::tempfile().unwrap());
    Kind::File(Content::Span { file, offset: 0, len, digest: Digest::of(&len.to_le_bytes()) })
}

/// What each format cannot hold, and how it says so, after the path.
fn beyond_each() -> Vec<(&'static str, &'static str, Kind, &'static str)> {
    let link = |len| Kind::Symlink(vec![b'x'; len].into());
    let four = || huge(4 << 30, &[]);
    let device = "expected a device number of 12 and 20 bits";
    let target = "expected a link's target of at most 4095 bytes, got 4096";
    vec![
        ("tar", "some/where", Kind::Socket, "something that tar can hold, got a socket"),
        ("cpio", "some/where", four(), "below 4 GiB, which is all that cpio can hold"),
        ("cpio", "TRAILER!!!", Kind::Fifo, "cpio cannot hold `TRAILER!!!`"),
        ("cpio", "some/where", link(4096), target),
        ("squashfs zstd", "some/where", Kind::Char(4096, 0), device),
        ("squashfs zstd", "some/where", link(4096), target),
        ("erofs", "some/where", Kind::Char(1, 1 << 20), device),
        ("erofs", "some/where", link(4096), target),
        ("ext4", "some/where", Kind::Block(4096, 0), "a device of at most 4095:1048575"),
        ("ext4", "some/where", beyond(1 << 45), "which is what ext4 holds"),
        ("ext4", "some/where", link(4096), "target of 1 to 4095 bytes"),
        ("ext4", "lost+found", Kind::Fifo, "to be a folder, as ext4 needs it"),
        ("fat", "some/where", link(1), "it is a symbolic link"),
        ("fat", "some/where", Kind::Char(1, 3), "it is a device"),
        ("fat", "some/where", Kind::Fifo, "it is a named pipe"),
        ("fat", "some/where", Kind::Socket, "it is a socket"),
        ("fat", "some/where", four(), "less than 4 GiB, got 4294967296 bytes"),
        ("iso9660", "some/where", link(4096), target),
    ]
}

#[test]
fn what_a_format_cannot_hold_is_named() {
    for (name, path, kind, expected) in beyond_each() {
        let error = kept(name).image(&files([(path, kind)])).unwrap_err();
        let error = format!("{error:#}");
        let format = name.split(' ').next().unwrap();
        let words = error.to_lowercase().replace("iso 9660", "iso9660");
        // Not only by the name that this test gives it.
        let told = words.strip_prefix(&format!("{name}: ")).unwrap();
        assert!(told.contains(format), "{name}: {error}");
        assert!(error.contains(path) && error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn names_that_fat_cannot_hold_are_told_with_their_folder() {
    let cases: [(&[&str], &str); 5] = [
        (&["boot/wh:ere"], "the name has ':'"),
        (&["boot/dot."], "the name ends in a dot or a space"),
        (&["boot/README", "boot/readme"], "it does not tell capitals from small letters"),
        (&["boot/a\nb"], "the name has '\\n'"),
        (&["boot/\u{e9}", "boot/\u{c9}"], "hold both `\u{c9}` and `\u{e9}`"),
    ];
    for (names, expected) in cases {
        let tree = files(names.iter().map(|name| (*name, Kind::bytes([]))));
        let error = format!("{:#}", kept("fat").image(&tree).unwrap_err());
        assert!(error.contains("FAT cannot hold") && error.contains(expected), "{error}");
        assert!(error.contains("naming the files of /boot"), "{error}");
    }
}

#[test]
fn what_is_too_large_says_by_how_much_and_what_fills_it() {
    let tree = files([
        ("usr/lib/large", beyond(9 << 40)),
        ("usr/bin/less", beyond(5 << 30)),
        ("etc/small", Kind::bytes([1; 9])),
    ]);
    let error = kept("iso9660").image(&tree).unwrap_err();
    let error = format!("{error:#}");
    insta::assert_snapshot!(error, @"
    iso9660: expected an ISO 9660 disc to fit in 8192 GiB, got a tree that needs 9222 GiB, 1030 GiB more; its largest folders:
        9216 GiB        1 files  /usr/lib
        5120 MiB        1 files  /usr/bin
         9 bytes        1 files  /etc
    ");
}
