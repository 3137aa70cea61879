//! Tests of the ext4 writer and reader, judged by e2fsprogs where it is there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Cursor, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::tree::{Content, Inode, Kind, Metadata};

fn put(tree: &mut Tree, path: &[u8], kind: Kind) -> crate::tree::Id {
    tree.insert(path, Inode { meta: Metadata::root(0o644, 1_700_000_000), kind, part: 0 }).unwrap()
}

/// Writes an image to a temporary file.
fn image(tree: &Tree, options: &Options) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = BufWriter::new(file.as_file());
    write(tree, options, &mut out).unwrap();
    out.flush().unwrap();
    drop(out);
    file
}

fn reopen(image: &Path) -> Result<Tree> {
    let file = File::open(image).unwrap();
    let len = file.metadata().unwrap().len();
    open(Arc::new(file), 0, len)
}

fn dumped(image: &Path) -> String {
    let file = File::open(image).unwrap();
    let len = file.metadata().unwrap().len();
    dump(Arc::new(file), 0, len).unwrap()
}

/// Runs a foreign program; `None`, with a message, where it is missing.
fn judge(program: &str, args: &[&str], image: &Path) -> Option<(bool, String)> {
    let run = Command::new(program).args(args).arg(image).env("LC_ALL", "C").output();
    match run {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(_) => {
            eprintln!("skipped: {program} is not installed");
            None
        }
    }
}

fn check(image: &Path) {
    if let Some((clean, text)) = judge("e2fsck", &["-fn"], image) {
        assert!(clean, "{text}");
    }
}

/// A line for each name: all that a tree holds.
fn lines(tree: &Tree) -> Vec<String> {
    let mut firsts = BTreeMap::new();
    let mut all: Vec<_> = tree.walk().collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.iter()
        .map(|found| {
            let inode = tree.get(found.id);
            let first =
                firsts.entry(found.id).or_insert(found.path.clone()).escape_ascii().to_string();
            let kind = match &inode.kind {
                Kind::Directory(_) => "folder".to_owned(),
                Kind::File(content) => format!("{} {}", content.len(), content.digest().unwrap()),
                other => format!("{other:?}"),
            };
            format!("{} = {first} {:?} {kind}", found.path.escape_ascii(), inode.meta)
        })
        .collect()
}

fn round_trip(tree: &Tree, options: &Options) -> tempfile::NamedTempFile {
    let image = image(tree, options);
    check(image.path());
    assert_eq!(lines(&reopen(image.path()).unwrap()), lines(tree));
    image
}

fn sample() -> Tree {
    let mut tree = Tree::new();
    let sh = put(&mut tree, b"bin/sh", Kind::bytes(*b"#!"));
    tree.link(sh, b"bin/ash").unwrap();
    put(&mut tree, b"bin/fast", Kind::Symlink((*b"sh").into()));
    put(&mut tree, b"bin/slow", Kind::Symlink([b'x'; 100].into()));
    put(&mut tree, b"dev/null", Kind::Char(1, 3));
    put(&mut tree, b"dev/large", Kind::Block(259, 70_000));
    put(&mut tree, b"dev/fifo", Kind::Fifo);
    put(&mut tree, b"dev/socket", Kind::Socket);
    put(&mut tree, b"empty", Kind::bytes([]));
    let mut holed = vec![7; 4096 * 12];
    for block in [0, 2, 4, 6, 8, 10] {
        holed[block * 4096..(block + 1) * 4096].fill(0);
    }
    put(&mut tree, b"holed", Kind::bytes(holed));
    put(&mut tree, &[b'n'; 255], Kind::bytes([1; 5000]));
    put(&mut tree, b"not\xff\xfeutf8", Kind::bytes([2; 4097]));
    for (path, time) in [("old", -1), ("older", -(1i64 << 31)), ("late", 1 << 33)] {
        let id = put(&mut tree, path.as_bytes(), Kind::bytes([]));
        let meta = &mut tree.get_mut(id).meta;
        (meta.mtime, meta.uid, meta.gid, meta.mode) = (time, 70_000, 80_000, 0o6755);
    }
    tree
}

fn attributes(tree: &mut Tree, path: &[u8], attributes: &[(&str, &[u8])]) {
    let id = put(tree, path, Kind::bytes(*b"x"));
    for (name, value) in attributes {
        tree.get_mut(id).meta.xattrs.insert(name.as_bytes().into(), (*value).into());
    }
}

fn with_attributes() -> Tree {
    let mut tree = sample();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut acl = vec![2, 0, 0, 0];
    for (tag, id) in [(1u16, u32::MAX), (2, 1000), (4, u32::MAX), (16, u32::MAX), (32, u32::MAX)] {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&5u16.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    attributes(&mut tree, b"x/cap", &[("security.capability", &capability)]);
    attributes(&mut tree, b"x/acl", &[("system.posix_acl_access", &acl)]);
    for name in [b"x/spill1", b"x/spill2"] {
        attributes(
            &mut tree,
            name,
            &[
                ("user.large", &[9; 3000]),
                ("user.empty", b""),
                ("security.capability", &capability),
                ("trusted.overlay.opaque", b"y"),
                ("user.odd", b"abcde"),
            ],
        );
    }
    tree
}

#[test]
fn writes_all_kinds() {
    let image = round_trip(&with_attributes(), &Options::default());
    insta::assert_snapshot!(dumped(image.path()));
}

#[test]
fn gives_equal_bytes_for_equal_trees() {
    let options = Options { label: "data".into(), ..Options::default() };
    let bytes = |tree: &Tree| std::fs::read(image(tree, &options).path()).unwrap();
    assert!(bytes(&with_attributes()) == bytes(&with_attributes()));
}

#[test]
fn indexes_folders_of_one_and_two_levels() {
    for (count, levels) in [(300, 0), (100_000, 1)] {
        let mut tree = Tree::new();
        for nth in 0..count {
            // Bytes above 127 tell signed from unsigned hashes.
            let name = [b"dir/\xe4\xff", format!("{nth:09}-with-a-name").as_bytes()].concat();
            put(&mut tree, &name, Kind::Fifo);
        }
        let image = image(&tree, &Options::default());
        check(image.path());
        assert_eq!(reopen(image.path()).unwrap().walk().count(), tree.walk().count());
        if let Some((_, text)) = judge("debugfs", &["-R", "htree_dump /dir"], image.path()) {
            let wanted = format!("Indirect levels: {levels}");
            let top: String = text.lines().take(12).collect::<Vec<_>>().join("\n");
            assert!(top.contains(&wanted) && top.contains("Hash Version: 1"), "{top}");
        }
    }
}

#[test]
fn hashes_names_as_others_do() {
    let seed = Options::default().uuid;
    let names =
        ["a", "hello", "a-name-of-exactly-32-bytes-here!", "longer-than-thirty-two-bytes-by-some"];
    let file = image(&sample(), &Options::default());
    for name in names {
        let uuid = uuid(&seed);
        let command = format!("dx_hash -h half_md4 -s {uuid} {name}");
        let Some((_, text)) = judge("debugfs", &["-R", &command], file.path()) else { return };
        let hash = hash::half_md4(name.as_bytes(), &seed);
        let wanted = format!("{:#x} (minor {:#x})", hash.major, hash.minor);
        assert!(text.contains(&wanted), "{text} not {wanted}");
    }
}

fn uuid(bytes: &[u8; 16]) -> String {
    let digits = hex::encode(bytes);
    let cuts = [0..8, 8..12, 12..16, 16..20, 20..32];
    cuts.map(|cut| digits[cut].to_owned()).join("-")
}

/// A file of `len` bytes that is a hole but for one byte at each offset. Its
/// digest is not that of its bytes.
fn sparse(len: u64, offsets: impl Iterator<Item = u64>) -> Kind {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    for offset in offsets {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(b"!").unwrap();
    }
    let digest = crate::oci::Digest::of(b"");
    Kind::File(Content::Span { file: Arc::new(file), offset: 0, len, digest })
}

#[test]
fn keeps_holes_of_huge_files() {
    let mut tree = Tree::new();
    put(&mut tree, b"4g", sparse(5 << 30, [0, (5 << 30) - 1].into_iter()));
    put(&mut tree, b"hole", sparse(1 << 40, std::iter::empty()));
    put(&mut tree, b"many", sparse(3 << 40, (0..3000).map(|nth| nth << 30)));
    let image = image(&tree, &Options::default());
    check(image.path());
    let text = dumped(image.path());
    let extents = |name: &str| {
        let lines =
            text.lines().skip_while(|line| !line.starts_with("inode") || !line.contains(name));
        lines.skip(1).take_while(|line| line.starts_with("  blocks")).count()
    };
    assert_eq!((extents("/4g"), extents("/hole"), extents("/many")), (2, 0, 3000));
    assert!(image.as_file().metadata().unwrap().len() < 40 << 20);
}

#[test]
fn fits_sizes_from_tiny_to_huge() {
    let tree = with_attributes();
    let sizes = [1 << 20, 5 << 20, 9 << 20, (128 << 20) + 8192, 3 << 30, (300 << 30) + 12345];
    for size in sizes {
        let options = Options { size: Some(size), reserved_percent: 5, ..Options::default() };
        let image = image(&tree, &options);
        assert_eq!(image.as_file().metadata().unwrap().len(), size);
        check(image.path());
        assert_eq!(lines(&reopen(image.path()).unwrap()), lines(&tree), "{size}");
    }
}

#[test]
fn lays_files_around_group_structures() {
    let mut tree = Tree::new();
    for nth in 0..3u8 {
        put(&mut tree, &[b'a' + nth], Kind::bytes(vec![nth + 1; 130 << 20]));
    }
    // Enough inodes that their tables spread over several groups.
    let options = Options { inode_ratio: 1024, ..Options::default() };
    let image = image(&tree, &options);
    check(image.path());
    assert!(dumped(image.path()).matches("  blocks").count() > 6);
}

#[test]
fn grows() {
    let tree = with_attributes();
    let options = Options { grown: Some(1 << 40), ..Options::default() };
    let image = round_trip(&tree, &options);
    for size in [1u64 << 30, 200 << 30] {
        image.as_file().set_len(size).unwrap();
        let Some((done, text)) = judge("resize2fs", &["-f"], image.path()) else { return };
        assert!(done, "{text}");
        check(image.path());
        assert_eq!(lines(&reopen(image.path()).unwrap()), lines(&tree));
    }
}

#[test]
fn shares_blocks_of_attributes() {
    let mut tree = Tree::new();
    for nth in 0..2500 {
        attributes(&mut tree, format!("f{nth}").as_bytes(), &[("user.a", &[5; 1000])]);
    }
    let options = Options { slack: Some(0), journal: Some(0), ..Options::default() };
    let image = round_trip(&tree, &options);
    assert!(image.as_file().metadata().unwrap().len() < 16 << 20);
}

#[test]
fn links_webs_of_names() {
    let mut tree = Tree::new();
    let ids: Vec<_> = (0..20)
        .map(|n| put(&mut tree, format!("d{n}/f").as_bytes(), Kind::bytes([n; 9])))
        .collect();
    for (nth, id) in ids.iter().enumerate() {
        for dir in 0..20 {
            tree.link(*id, format!("d{dir}/link{nth}").as_bytes()).unwrap();
        }
    }
    tree.remove(b"d3/f").unwrap();
    round_trip(&tree, &Options::default());
}

#[test]
fn counts_folders_beyond_the_limit() {
    let mut tree = Tree::new();
    for nth in 0..65_010 {
        put(&mut tree, format!("d/{nth}").as_bytes(), Kind::directory());
    }
    let image = image(&tree, &Options::default());
    check(image.path());
}

#[test]
fn keeps_a_lost_found_of_the_tree() {
    let mut tree = sample();
    put(&mut tree, b"lost+found/x", Kind::bytes(*b"y"));
    round_trip(&tree, &Options::default());
}

#[test]
fn refuses_what_does_not_fit() {
    let fails = |tree: &Tree, options: &Options| {
        let error = write(tree, options, &mut Cursor::new(Vec::new())).unwrap_err();
        format!("{error:#}")
    };
    let mut tree = Tree::new();
    put(&mut tree, b"usr/lib/large", Kind::bytes(vec![1; 3 << 20]));
    let small = Options { size: Some(2 << 20), ..Options::default() };
    insta::assert_snapshot!(fails(&tree, &small), @r"
    expected an ext4 file system to fit in 2048 KiB, got a tree that needs 3296 KiB, 1248 KiB more; its largest folders:
        3072 KiB        1 files  /usr/lib
    ");
    for size in [0, 4096, 100_000] {
        assert!(fails(&tree, &Options { size: Some(size), ..small.clone() }).contains("more"));
    }
    let huge = Options { size: Some(u64::MAX), ..Options::default() };
    assert!(fails(&tree, &huge).starts_with("expected an ext4 image of at most"));
    let mut tree = Tree::new();
    attributes(&mut tree, b"a/b", &[("user.huge", &[1; 5000])]);
    insta::assert_snapshot!(fails(&tree, &Options::default()), @"laying out /a/b for ext4: expected extended attributes that fit in a block of 4096 bytes, got 5056");
    let mut tree = Tree::new();
    attributes(&mut tree, b"a", &[("btrfs.compression", b"zstd")]);
    insta::assert_snapshot!(fails(&tree, &Options::default()), @"laying out /a for ext4: expected an attribute of user, trusted, security or system, got `btrfs.compression`");
    let mut tree = Tree::new();
    put(&mut tree, b"dev/odd", Kind::Char(5000, 1));
    insta::assert_snapshot!(fails(&tree, &Options::default()), @"laying out /dev/odd for ext4: expected a device of at most 4095:1048575, got 5000:1");
    let mut tree = Tree::new();
    put(&mut tree, b"lost+found", Kind::Fifo);
    insta::assert_snapshot!(fails(&tree, &Options::default()), @"expected /lost+found to be a folder, as ext4 needs it, got something else");
}

#[test]
fn extracts_with_debugfs() {
    let mut tree = with_attributes();
    put(&mut tree, b"data", Kind::bytes((0..3_000_000u32).map(|n| n as u8).collect::<Vec<_>>()));
    let image = round_trip(&tree, &Options::default());
    let dir = tempfile::tempdir().unwrap();
    let command = format!("dump data {}/data", dir.path().display());
    let Some(_) = judge("debugfs", &["-R", &command], image.path()) else { return };
    let found = Content::of_file(File::open(dir.path().join("data")).unwrap()).unwrap();
    let Kind::File(content) = &tree.get(tree.lookup(b"data").unwrap()).kind else { panic!() };
    assert!(found.equals(content).unwrap());
    let (_, text) = judge("debugfs", &["-R", "ea_list x/spill1"], image.path()).unwrap();
    assert!(
        text.contains("security.capability (20)") && text.contains("user.large (3000)"),
        "{text}"
    );
}

#[test]
fn reads_what_mke2fs_makes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/file"), [7; 10_000]).unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("sub/link")).unwrap();
    for block in ["1024", "2048", "4096"] {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(16 << 20).unwrap();
        let from = dir.path().to_str().unwrap();
        let args = ["-q", "-t", "ext4", "-b", block, "-d", from];
        let Some((done, text)) = judge("mke2fs", &args, image.path()) else { return };
        assert!(done, "{text}");
        let tree = reopen(image.path()).unwrap();
        let Kind::File(content) = &tree.get(tree.lookup(b"sub/file").unwrap()).kind else {
            panic!()
        };
        assert_eq!(content.gather(20_000).unwrap(), [7; 10_000]);
        assert!(tree.lookup(b"sub/link").is_some());
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => (0u8..4, 0usize..30_000).prop_map(|(byte, len)| Kind::bytes(vec![byte; len])),
        1 => prop::collection::vec(0u8..2, 0..8).prop_map(|blocks| {
            let bytes: Vec<u8> = blocks.iter().flat_map(|byte| [*byte; 4096]).collect();
            Kind::bytes(bytes)
        }),
        1 => prop::collection::vec(1u8.., 1..200).prop_map(|target| Kind::Symlink(target.into())),
        1 => (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::Char(major, minor)),
        1 => (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::Block(major, minor)),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
        2 => Just(Kind::directory()),
    ]
}

fn any_meta() -> impl Strategy<Value = Metadata> {
    let name = prop_oneof!["user\\.[a-z]{1,30}", "security\\.[a-z]{1,9}", "trusted\\.[a-z]{1,9}"];
    let value = prop::collection::vec(any::<u8>(), 0..300);
    let xattrs = prop::collection::btree_map(name, value, 0..4);
    (0u16..0o10000, any::<u32>(), any::<u32>(), -(1i64 << 31)..(3i64 << 32), xattrs).prop_map(
        |(mode, uid, gid, mtime, xattrs)| {
            let xattrs =
                xattrs.into_iter().map(|(n, v)| (n.into_bytes().into(), v.into())).collect();
            Metadata { mode, uid, gid, mtime, xattrs }
        },
    )
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let plain = |byte: &u8| *byte != b'/' && *byte != 0;
    let name = prop::collection::vec(any::<u8>().prop_filter("plain", plain), 1..=255);
    let name = name.prop_filter("not dots", |name| name != b"." && name != b"..");
    let nodes = prop::collection::vec((name, any_meta(), any_kind(), any::<u16>(), 0u8..8), 0..60);
    nodes.prop_map(|nodes| {
        let mut tree = Tree::new();
        let (mut dirs, mut others) = (vec![tree.root()], Vec::new());
        for (name, meta, kind, pick, link) in nodes {
            let dir = dirs[usize::from(pick) % dirs.len()];
            if tree.child(dir, &name).is_some() {
                continue;
            }
            if link == 0 && !others.is_empty() {
                tree.link_at(others[usize::from(pick) % others.len()], dir, &name).unwrap();
                continue;
            }
            let folder = matches!(kind, Kind::Directory(_));
            let id = tree.insert_at(dir, &name, Inode { meta, kind, part: 0 }).unwrap();
            if folder { &mut dirs } else { &mut others }.push(id);
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn round_trips_any_tree(tree in any_tree()) {
        round_trip(&tree, &Options::default());
    }

    #[test]
    fn survives_damage(hits in prop::collection::vec((0usize..80, 0usize..4096, any::<u8>()), 1..20)) {
        let mut bytes = sample_bytes();
        for (block, at, byte) in hits {
            bytes[block * 4096 + at] = byte;
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(file);
        // An error is fine, a panic is not.
        let _ = open(file.clone(), 0, bytes.len() as u64);
        let _ = dump(file, 0, bytes.len() as u64);
    }
}

fn sample_bytes() -> Vec<u8> {
    let mut tree = with_attributes();
    for nth in 0..300 {
        put(&mut tree, format!("many/{nth:040}").as_bytes(), Kind::Fifo);
    }
    let mut out = Cursor::new(Vec::new());
    write(&tree, &Options { journal: Some(0), ..Options::default() }, &mut out).unwrap();
    out.into_inner()
}
