//! Images against unsquashfs, against our own reader, and against themselves.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Compression, Options, dump, open, write};
use crate::fs::sample;
use crate::tree::{Inode, Kind, Metadata, Tree};

const CODECS: [Compression; 3] = [Compression::Zstd(3), Compression::Gzip(6), Compression::Xz(1)];

fn image(tree: &Tree, options: &Options) -> File {
    let mut file = tempfile::tempfile().unwrap();
    write(tree, options, &mut file).unwrap();
    file
}

fn bytes(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read_back(file: File) -> Tree {
    let len = file.metadata().unwrap().len();
    open(Arc::new(file), 0, len).unwrap()
}

/// The tree as the format can hold it.
fn held(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    let ids: Vec<_> = tree.walk().map(|found| found.id).collect();
    for id in ids {
        let meta = &mut tree.get_mut(id).meta;
        meta.mtime = meta.mtime.clamp(0, i64::from(u32::MAX));
    }
    tree
}

#[test]
fn reads_back_what_it_wrote() {
    let tree = sample::everything();
    for compression in CODECS {
        for (block_size, pack_tails) in [(128 << 10, true), (4096, false), (1 << 20, true)] {
            let export = block_size == 4096;
            let options =
                Options { compression, block_size, pack_tails, export, ..Options::default() };
            sample::assert_same(&read_back(image(&tree, &options)), &held(&tree));
        }
    }
}

#[test]
fn unsquashfs_extracts_the_same() {
    if !sample::judge("unsquashfs") || !sample::root() {
        return;
    }
    let tree = held(&sample::everything());
    for compression in CODECS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let options = Options { compression, export: true, ..Options::default() };
        write(&tree, &options, &mut File::create(&path).unwrap()).unwrap();
        let root = dir.path().join("root");
        let done = Command::new("unsquashfs")
            .args(["-strict-errors", "-no-progress", "-d"])
            .args([&root, &path])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        sample::assert_same(&sample::on_disk(&root), &tree);
    }
}

#[test]
fn makes_the_same_bytes_on_any_number_of_threads() {
    let tree = sample::everything();
    let options = Options::default();
    let expected = bytes(image(&tree, &options));
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| bytes(image(&tree, &options)));
        assert!(found == expected, "{threads} threads");
    }
}

#[test]
fn makes_the_same_bytes_out_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(dir.path()).unwrap();
    let tree = sample::everything();
    let expected = bytes(image(&tree, &Options::default()));
    let options = Options { cache: Some(store), ..Options::default() };
    for what in ["cold", "warm"] {
        assert!(bytes(image(&tree, &options)) == expected, "{what}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("derived/squashfs-1")).unwrap().count(), 2);
}

#[test]
fn stores_equal_contents_once_and_zeros_not_at_all() {
    let mut tree = Tree::new();
    let noise = sample::noise(1 << 20, 1);
    for n in 0..10 {
        let kind = Kind::bytes(noise.clone());
        tree.insert(&[b'a' + n], Inode { meta: Metadata::root(0o644, 0), kind, part: n.into() })
            .unwrap();
    }
    let kind = Kind::bytes(vec![0; 8 << 20]);
    tree.insert(b"zeros", Inode { meta: Metadata::root(0o644, 0), kind, part: 0 }).unwrap();
    let len = image(&tree, &Options::default()).metadata().unwrap().len();
    assert!(len < (1 << 20) + 8192, "{len}");
}

#[test]
fn names_what_the_format_cannot_hold() {
    let none = std::collections::BTreeMap::new();
    let acl = [(b"system.posix_acl_access"[..].into(), b"x"[..].into())].into();
    let cases = [
        (Kind::Char(4096, 0), none.clone(), "expected a device number of 12 and 20 bits"),
        (Kind::Block(1, 1 << 20), none, "expected a device number of 12 and 20 bits"),
        (Kind::Fifo, acl, "got `system.posix_acl_access`"),
    ];
    for (kind, xattrs, expected) in cases {
        let mut tree = Tree::new();
        let meta = Metadata { xattrs, ..Metadata::root(0o644, 0) };
        tree.insert(b"some/where", Inode { meta, kind, part: 0 }).unwrap();
        let error = write(&tree, &Options::default(), &mut tempfile::tempfile().unwrap());
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.starts_with("writing /some/where to a squashfs image: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn dumps_what_it_wrote() {
    let mut tree = Tree::new();
    let meta = |mode| Metadata::root(mode, 1_000_000_000);
    let mut put = |path: &[u8], meta: Metadata, kind| {
        tree.insert(path, Inode { meta, kind, part: 0 }).unwrap();
    };
    put(b"bin/tool", meta(0o755), Kind::bytes(sample::noise(5000, 1)));
    put(b"bin/alias", meta(0o777), Kind::Symlink((*b"tool").into()));
    let xattrs = [(b"user.note"[..].into(), b"\0hi"[..].into())].into();
    put(b"etc/conf", Metadata { xattrs, uid: 5, ..meta(0o640) }, Kind::bytes(*b"key = value\n"));
    put(b"dev/null", meta(0o666), Kind::Char(1, 3));
    let id = tree.lookup(b"bin/tool").unwrap();
    tree.link(id, b"bin/tool2").unwrap();
    let options = Options { block_size: 4096, pack_tails: false, ..Options::default() };
    let file = image(&tree, &options);
    let len = file.metadata().unwrap().len();
    insta::assert_snapshot!(dump(Arc::new(file), 0, len).unwrap());
}

#[test]
fn survives_damage() {
    let mut tree = Tree::new();
    for n in 0..12_u8 {
        let meta = Metadata::root(0o644, 0);
        let kind = Kind::bytes(sample::prose(usize::from(n) * 300, 1));
        tree.insert(&[b'd', b'/', b'a' + n], Inode { meta, kind, part: 0 }).unwrap();
    }
    let options = Options { block_size: 4096, ..Options::default() };
    let whole = bytes(image(&tree, &options));
    let places = (0..96).chain((96..whole.len()).step_by(23));
    for at in places {
        for bits in [0x01, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, &damaged).unwrap();
            let file = Arc::new(file);
            let len = damaged.len() as u64;
            // Any answer will do, as long as there is one.
            if let Ok(tree) = open(Arc::clone(&file), 0, len) {
                sample::read_all(&tree);
            }
            drop(dump(file, 0, len));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn reads_back_random_trees(tree in sample::random(), block in 12_u32..20, pack_tails: bool) {
        let options = Options { block_size: 1 << block, pack_tails, ..Options::default() };
        let tree = held(&tree);
        sample::assert_same(&read_back(image(&tree, &options)), &tree);
    }
}
