//! Images against fsck.erofs, against our own reader, and against themselves.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Compression, Options, dump, open, write};
use crate::fs::sample;
use crate::tree::{Inode, Kind, Metadata, Tree};

const CODECS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd(3)];

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

/// All that the format holds and squashfs does not, besides the usual.
fn everything() -> Tree {
    let mut tree = sample::everything();
    let xattrs = [
        (b"system.posix_acl_access"[..].into(), b"\x02\0\0\0"[..].into()),
        (b"system.posix_acl_default"[..].into(), b"\x02\0\0\0"[..].into()),
    ];
    let meta = Metadata { xattrs: xattrs.into(), ..Metadata::root(0o700, -5) };
    tree.insert(b"acl", Inode { meta, kind: Kind::directory(), part: 0 }).unwrap();
    tree
}

/// The tree without what fsck.erofs 1.5 does not extract: it sets owners last,
/// which takes setuid away.
fn extractable(mut tree: Tree) -> Tree {
    let ids: Vec<_> = tree.walk().map(|found| found.id).collect();
    for id in ids {
        let meta = &mut tree.get_mut(id).meta;
        meta.xattrs.clear();
        meta.mode &= 0o1777;
    }
    tree
}

#[test]
fn reads_back_what_it_wrote() {
    let tree = everything();
    for compression in CODECS {
        for cluster in [4096, 65_536, 1 << 20] {
            let options = Options { compression, cluster, ..Options::default() };
            sample::assert_same(&read_back(image(&tree, &options)), &tree);
        }
    }
}

#[test]
fn fsck_extracts_the_same() {
    if !sample::judge("fsck.erofs") || !sample::root() {
        return;
    }
    let help = Command::new("fsck.erofs").arg("--help").output().unwrap();
    let help = [help.stdout, help.stderr].concat();
    let knows = |what: &str| String::from_utf8_lossy(&help).contains(what);
    let mut tree = sample::everything();
    // It extracts hard links as files of their own, cannot make sockets, and
    // in version 1.5 closes holes up.
    for path in ["links", "aliases", "nodes/socket", "holes"] {
        tree.remove(path.as_bytes()).unwrap();
    }
    let tree = extractable(tree);
    for compression in CODECS {
        if matches!(compression, Compression::Zstd(_)) && !knows("zstd") {
            sample::skipped("fsck.erofs does not know zstd");
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        for cluster in [4096, 65_536] {
            let options = Options { compression, cluster, ..Options::default() };
            write(&tree, &options, &mut File::create(&path).unwrap()).unwrap();
            let root = dir.path().join(cluster.to_string());
            fsck(&path, &root);
            sample::assert_same(&extractable(sample::on_disk(&root)), &tree);
        }
    }
}

fn fsck(image: &Path, root: &Path) {
    let extract = format!("--extract={}", root.display());
    let done = Command::new("fsck.erofs").args([&extract, "--preserve"]).arg(image).output();
    let done = done.unwrap();
    let told = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn fsck_accepts_everything() {
    if !sample::judge("fsck.erofs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    for compression in &CODECS[..2] {
        let options = Options { compression: *compression, ..Options::default() };
        write(&everything(), &options, &mut File::create(&path).unwrap()).unwrap();
        let done = Command::new("fsck.erofs").arg("--extract").arg(&path).output().unwrap();
        let told = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn reads_what_mkfs_wrote() {
    if !sample::judge("mkfs.erofs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    for (name, len) in [("a", 100), ("b", 5000), ("c", 300_000), ("d", 3_000_000)] {
        std::fs::write(root.join(name), sample::prose(len, len as u64)).unwrap();
        std::fs::write(root.join(format!("{name} noise")), sample::noise(len, 1)).unwrap();
    }
    for flags in
        [&[][..], &["-zlz4"], &["-zlz4", "-C65536"], &["-zlz4hc", "-C16384", "-Elegacy-compress"]]
    {
        let path = dir.path().join("image");
        let done = Command::new("mkfs.erofs").args(flags).args([&path, &root]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let found = read_back(File::open(&path).unwrap());
        sample::assert_same(&extractable(found), &extractable(sample::on_disk(&root)));
    }
}

#[test]
fn makes_the_same_bytes_on_any_number_of_threads() {
    let tree = everything();
    for compression in CODECS {
        let options = Options { compression, ..Options::default() };
        let expected = bytes(image(&tree, &options));
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| bytes(image(&tree, &options)));
            assert!(found == expected, "{compression:?}, {threads} threads");
        }
    }
}

#[test]
fn makes_the_same_bytes_out_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(dir.path()).unwrap();
    let tree = everything();
    let cold = Options { compression: Compression::Lz4, ..Options::default() };
    let expected = bytes(image(&tree, &cold));
    let options = Options { cache: Some(store), ..cold };
    for what in ["cold", "warm"] {
        assert!(bytes(image(&tree, &options)) == expected, "{what}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("derived/erofs-3")).unwrap().count(), 2);
}

#[test]
fn stores_equal_contents_once_and_zeros_not_at_all() {
    let mut tree = Tree::new();
    let noise = sample::noise(1 << 20, 1);
    let mut put = |path: &[u8], bytes: Vec<u8>| {
        let meta = Metadata::root(0o644, 0);
        tree.insert(path, Inode { meta, kind: Kind::bytes(bytes), part: 0 }).unwrap();
    };
    for n in 0..10 {
        put(&[b'a' + n], noise.clone());
    }
    put(b"zeros", vec![0; 8 << 20]);
    for (compression, most) in CODECS.into_iter().zip([16_384, 16_384, 16_384]) {
        let options = Options { compression, ..Options::default() };
        let len = image(&tree, &options).metadata().unwrap().len();
        assert!(len < (1 << 20) + most, "{compression:?} {len}");
    }
}

#[test]
fn names_what_the_format_cannot_hold() {
    let mut tree = Tree::new();
    let cases = [
        (Kind::Char(4096, 0), "", "expected a device number of 12 and 20 bits"),
        (Kind::Fifo, "other.name", "got `other.name`"),
        (Kind::Fifo, "user.", "got `user.`"),
    ];
    for (kind, xattr, expected) in cases {
        let mut meta = Metadata::root(0o644, 0);
        if !xattr.is_empty() {
            meta.xattrs.insert(xattr.as_bytes().into(), b"x"[..].into());
        }
        tree.insert(b"some/where", Inode { meta, kind, part: 0 }).unwrap();
        let error = write(&tree, &Options::default(), &mut tempfile::tempfile().unwrap());
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.starts_with("writing /some/where to an erofs image: "), "{error}");
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
    put(b"bin/tool", meta(0o755), Kind::bytes(sample::prose(50_000, 1)));
    put(
        b"bin/mixed",
        meta(0o755),
        Kind::bytes([sample::prose(9000, 1), sample::noise(9000, 1)].concat()),
    );
    put(b"bin/alias", meta(0o777), Kind::Symlink((*b"tool").into()));
    let xattrs = [(b"user.note"[..].into(), b"\0hi"[..].into())].into();
    put(
        b"etc/conf",
        Metadata { xattrs, uid: 70_000, ..meta(0o640) },
        Kind::bytes(*b"key = value\n"),
    );
    put(b"etc/noise", Metadata::root(0o644, 5), Kind::bytes(sample::noise(5000, 1)));
    put(b"dev/null", meta(0o666), Kind::Char(1, 3));
    let id = tree.lookup(b"bin/tool").unwrap();
    tree.link(id, b"bin/tool2").unwrap();
    let compression = Compression::Lz4;
    let options = Options { compression, time: 1_000_000_000, ..Options::default() };
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
    let options = Options { compression: Compression::Lz4, ..Options::default() };
    let mut whole = bytes(image(&tree, &options));
    // Without a checksum, or nothing else would ever be looked at.
    whole[1032] = 0;
    let places = (1024..1152).chain((1152..whole.len()).step_by(23));
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
    fn reads_back_random_trees(tree in sample::random(), log in 12_u32..20, codec in 0_usize..3) {
        let options = Options { cluster: 1 << log, compression: CODECS[codec], ..Options::default() };
        sample::assert_same(&read_back(image(&tree, &options)), &tree);
    }
}
