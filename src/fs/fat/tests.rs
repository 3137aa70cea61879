//! Volumes against fsck.fat and mtools, and read back.

use std::io::Write as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::fs::Composed;
use crate::tree::{Content, Inode, Kind, Metadata, Tree};

fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    let mut tree = Tree::new();
    for (path, bytes) in files {
        let meta = Metadata::root(0o644, 1_700_000_000);
        let inode = Inode { meta, kind: Kind::bytes(bytes.clone()), part: 0 };
        tree.insert(path.as_bytes(), inode).unwrap();
    }
    tree
}

fn sample() -> Tree {
    let noise = |n: u32| (0..n).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut files: Vec<(String, Vec<u8>)> = (0..300)
        .map(|n| (format!("many/module number {n} of the folder.ko"), format!("{n}").into()))
        .collect();
    files.push(("EFI/BOOT/BOOTX64.EFI".into(), noise(300_000)));
    files.push(("kernel".into(), noise(2_000_000)));
    files.push(("empty".into(), Vec::new()));
    files.push(("Größe/日本語のとても長い名前のファイル 𝄞.txt".into(), noise(10)));
    files.push(("ldlinux.sys".into(), noise(59_904)));
    files.push(("x".repeat(255), noise(1)));
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(path, b)| (&**path, b.clone())).collect();
    tree(&files)
}

fn save(image: &Extents) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    image.write_file(file.as_file()).unwrap();
    file
}

/// Runs a judge; says whether it is installed.
fn judge(tool: &str, args: &[&str], file: &tempfile::NamedTempFile) -> Option<Vec<u8>> {
    match Command::new(tool).args(args).arg(file.path()).output() {
        Ok(output) => {
            let text = [&output.stdout[..], &output.stderr].concat();
            assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&text));
            Some(output.stdout)
        }
        Err(_) => {
            writeln!(std::io::stderr(), "skipped: {tool} is not installed").unwrap();
            None
        }
    }
}

fn listing(tree: &Tree) -> Vec<(Vec<u8>, Option<crate::oci::Digest>)> {
    let mut all: Vec<_> = (tree.walk())
        .map(|found| match &tree.get(found.id).kind {
            Kind::File(content) => (found.path, Some(content.digest().unwrap())),
            _ => (found.path, None),
        })
        .collect();
    all.sort();
    all
}

#[test]
fn satisfies_fsck_and_reads_back() {
    let mib = |n: u64| Some(n << 20);
    let cases = [
        (None, None, 512),
        (Some(Bits::Twelve), None, 512),
        (Some(Bits::Sixteen), None, 512),
        (Some(Bits::ThirtyTwo), None, 512),
        (Some(Bits::ThirtyTwo), None, 4096),
        (None, None, 4096),
        (None, mib(4), 512),
        (None, mib(64), 512),
        (Some(Bits::Sixteen), mib(500), 512),
        (Some(Bits::ThirtyTwo), mib(64), 512),
        (None, mib(3000), 512),
    ];
    let source = sample();
    for (bits, size, sector) in cases {
        let options = Options { bits, size, sector, hidden: 2048, ..Options::default() };
        let volume = plan(&source, &Composed::new(), &options).unwrap();
        assert!(bits.is_none_or(|bits| bits == volume.bits));
        assert!(size.is_none_or(|size| size == volume.image.len()));
        let file = save(&volume.image);
        judge("fsck.fat", &["-n", "-v"], &file);
        let read = open(&volume.image).unwrap();
        assert_eq!(listing(&read), listing(&source), "{bits:?} {size:?} {sector}");
        let again = plan(&source, &Composed::new(), &options).unwrap();
        assert_eq!(again.image.digest().unwrap(), volume.image.digest().unwrap());
    }
}

#[test]
fn is_read_by_mtools() {
    let source = sample();
    let volume = plan(&source, &Composed::new(), &Options::default()).unwrap();
    let file = save(&volume.image);
    let Ok(output) = Command::new("mcopy")
        .args(["-i", file.path().to_str().unwrap(), "::/kernel", "-"])
        .output()
    else {
        writeln!(std::io::stderr(), "skipped: mcopy is not installed").unwrap();
        return;
    };
    let Kind::File(kernel) = &source.get(source.lookup(b"kernel").unwrap()).kind else { panic!() };
    assert_eq!(crate::oci::Digest::of(&output.stdout), kernel.digest().unwrap());
}

#[test]
fn tells_where_a_file_lies() {
    let volume = plan(&sample(), &Composed::new(), &Options::default()).unwrap();
    let place = volume.place("/ldlinux.sys").unwrap();
    assert_eq!(place.end - place.start, 59_904);
    assert_eq!(place.start % 2048, 0);
    let part = volume.image.slice(place).unwrap();
    let Kind::File(wanted) = &sample().get(sample().lookup(b"ldlinux.sys").unwrap()).kind.clone()
    else {
        panic!()
    };
    assert_eq!(part.digest().unwrap(), wanted.digest().unwrap());
    assert_eq!(volume.place("empty"), None);
}

#[test]
fn holds_composed_files() {
    let mut pieces = Extents::of_bytes(&b"one "[..]);
    pieces.push_content(&Content::Bytes(b"two"[..].into()));
    let composed = Composed::from([(b"boot/initrd".to_vec(), pieces)]);
    let volume = plan(&Tree::new(), &composed, &Options::default()).unwrap();
    let read = open(&volume.image).unwrap();
    let Kind::File(content) = &read.get(read.lookup(b"boot/initrd").unwrap()).kind else {
        panic!()
    };
    assert_eq!(content.gather(100).unwrap(), b"one two");
}

#[test]
fn tells_what_does_not_fit() {
    let options = Options { size: Some(1 << 20), ..Options::default() };
    let error = plan(&sample(), &Composed::new(), &options).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("fit in 1024 KiB") && text.contains("files  /EFI/BOOT"), "{text}");
    let mut links = Tree::new();
    let meta = Metadata::root(0o777, 0);
    links
        .insert(b"etc/link", Inode { meta, kind: Kind::Symlink(b"x"[..].into()), part: 0 })
        .unwrap();
    let error = plan(&links, &Composed::new(), &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "FAT cannot hold /etc/link: it is a symbolic link");
}

#[test]
fn dumps_as_expected() {
    let volume = plan(
        &tree(&[("EFI/BOOT/BOOTX64.EFI", vec![1; 5000]), ("loader.conf", vec![2])]),
        &Composed::new(),
        &Options::default(),
    )
    .unwrap();
    insta::assert_snapshot!(dump(&volume.image).unwrap(), @r"
    FAT12 sector=512 cluster=2048 reserved=2 table=1 root=512 clusters=6 id=4d4f4259 hidden=0
    label /MOBY short=MOBY cluster=0 len=0 mtime=1492533000
    folder /EFI short=EFI cluster=2 len=0 mtime=1700000000
    file /loader.conf short=LOADER~1.CON cluster=7 len=1 mtime=1700000000
    folder /EFI/BOOT short=BOOT cluster=3 len=0 mtime=1700000000
    file /EFI/BOOT/BOOTX64.EFI short=BOOTX64.EFI cluster=4 len=5000 mtime=1700000000
    ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reading_noise_never_panics(at in 0..6000_usize, noise in prop::collection::vec(any::<u8>(), 1..64)) {
        let small = tree(&[("a/b c d e f", vec![1; 5000]), ("kernel", vec![2])]);
        let volume = plan(&small, &Composed::new(), &Options::default()).unwrap();
        let mut image = volume.image;
        image.put_bytes(at as u64, noise);
        // Whatever comes of it, it comes back.
        let _ = open(&image);
        let _ = dump(&image);
    }

    #[test]
    fn keeps_random_trees(names in prop::collection::btree_set("[a-z]{1,3}(/[a-zA-Z0-9é. _-]{0,20}[a-z0-9]){0,3}", 0..40)) {
        let mut source = Tree::new();
        for name in &names {
            let meta = Metadata::root(0o644, 1_700_000_000);
            let inode = Inode { meta, kind: Kind::bytes(name.as_bytes()), part: 0 };
            source.insert(name.as_bytes(), inode).unwrap();
        }
        if let Ok(volume) = plan(&source, &Composed::new(), &Options::default()) {
            prop_assert_eq!(listing(&open(&volume.image).unwrap()), listing(&source));
        }
    }
}
