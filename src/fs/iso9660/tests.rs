//! Discs against xorriso, and read back.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::fs::sample::{assert_same, everything, judge, lines, noise, on_disk, random, root};
use crate::fs::tests::held;
use crate::fs::{Composed, fat};
use crate::oci::Digest;
use crate::tree::{Inode, Kind, Metadata, Tree};

fn save(image: &Extents) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    image.write_file(file.as_file()).unwrap();
    file
}

fn xorriso(file: &Path, args: &[&str]) -> String {
    let output = Command::new("xorriso")
        .args(["-abort_on", "WARNING", "-hardlinks", "on", "-osirrox", "on", "-indev"])
        .arg(file)
        .args(args)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "xorriso {args:?}: {text}");
    text
}

fn file(bytes: impl Into<Arc<[u8]>>) -> Inode {
    Inode { meta: Metadata::root(0o644, 1_700_000_000), kind: Kind::bytes(bytes), part: 0 }
}

#[test]
fn holds_everything_and_is_read_back() {
    let tree = held::iso9660(everything());
    for joliet in [false, true] {
        let options = Options { joliet, ..Options::default() };
        let volume = plan(&tree, &Composed::new(), &options).unwrap();
        assert_same(&open(&volume.image).unwrap(), &tree);
        let again = plan(&tree, &Composed::new(), &options).unwrap();
        assert_eq!(again.image.digest().unwrap(), volume.image.digest().unwrap());
    }
}

#[test]
fn is_extracted_by_xorriso() {
    if !judge("xorriso") || !root() {
        return;
    }
    let mut tree = held::iso9660(everything());
    // It refuses names of more than 255 bytes in a target.
    tree.remove(b"nodes/long").unwrap();
    let volume = plan(&tree, &Composed::new(), &Options::default()).unwrap();
    let image = save(&volume.image);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("all");
    xorriso(image.path(), &["-extract", "/", target.to_str().unwrap()]);
    // It reads devices another way than Linux does, and makes no sockets.
    let comparable = |tree: &Tree| -> Vec<String> {
        let all = lines(tree).into_iter();
        let all = all.filter(|line| !line.starts_with("nodes") && line.contains('/'));
        // Owners and times of links it leaves alone.
        let path = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        all.map(|line| match line.split_once(" -> ") {
            Some((before, target)) => format!("{} -> {target}", path(before)),
            None => line,
        })
        .collect()
    };
    let (found, expected) = (comparable(&on_disk(&target)), comparable(&tree));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn starts_both_firmwares() {
    let mut tree = Tree::new();
    tree.insert(b"isolinux/isolinux.bin", file(noise(38_912, 1))).unwrap();
    let mut esp = Tree::new();
    esp.insert(b"EFI/BOOT/BOOTX64.EFI", file(noise(100_000, 2))).unwrap();
    esp.insert(b"kernel", file(noise(300_001, 3))).unwrap();
    let esp = fat::plan(&esp, &Composed::new(), &fat::Options::default()).unwrap();
    let options = Options {
        within: BTreeMap::from([(b"boot/kernel".to_vec(), (1, esp.place("kernel").unwrap()))]),
        boot: vec![
            Boot {
                platform: Platform::Bios,
                image: BootImage::File(b"isolinux/isolinux.bin".to_vec()),
            },
            Boot { platform: Platform::Efi, image: BootImage::Appended(esp.image.clone()) },
        ],
        ..Options::default()
    };
    let volume = plan(&tree, &Composed::new(), &options).unwrap();
    let read = open(&volume.image).unwrap();
    let digest = |path: &[u8]| match &read.get(read.lookup(path).unwrap()).kind {
        Kind::File(content) => content.digest().unwrap(),
        _ => panic!("expected a file"),
    };
    assert_eq!(digest(b"boot/kernel"), Digest::of(&noise(300_001, 3)));
    let efi = volume.image.slice(volume.boot[1].clone()).unwrap();
    assert_eq!(efi.digest().unwrap(), esp.image.digest().unwrap());
    if judge("xorriso") {
        let image = save(&volume.image);
        let text = xorriso(image.path(), &["-report_el_torito", "plain"]);
        for wanted in ["1  BIOS  y   none", "2  UEFI  y   none", "boot-info-table", "isolinux.bin"]
        {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}

#[test]
fn holds_a_file_of_more_than_4_gib() {
    let holes = tempfile::tempfile().unwrap();
    holes.set_len((4 << 30) + 5000).unwrap();
    holes.write_all_at(b"behind", (4 << 30) + 4000).unwrap();
    let image = Extents::of_file(&Arc::new(holes)).unwrap();
    let composed = Composed::from([(b"large".to_vec(), image)]);
    let mut tree = Tree::new();
    tree.insert(b"later", file(*b"later")).unwrap();
    let volume = plan(&tree, &composed, &Options::default()).unwrap();
    let text = dump(&volume.image).unwrap();
    assert!(text.contains("+4294965248,") && text.contains("/later plain=LATER"), "{text}");
    if judge("xorriso") {
        let image = save(&volume.image);
        let text = xorriso(image.path(), &["-lsl", "/large"]);
        assert!(text.contains("4294972296"), "{text}");
    }
}

#[test]
fn dumps_as_expected() {
    let mut tree = Tree::new();
    let kernel = tree.insert(b"boot/kernel", file(vec![1; 5000])).unwrap();
    tree.link(kernel, b"boot/again").unwrap();
    tree.insert(b"same", file(vec![1; 5000])).unwrap();
    let meta = Metadata::root(0o777, 0);
    let kind = Kind::Symlink((*b"../boot/./kernel").into());
    tree.insert(b"etc/link", Inode { meta, kind, part: 0 }).unwrap();
    let volume = plan(&tree, &Composed::new(), &Options::default()).unwrap();
    insta::assert_snapshot!(dump(&volume.image).unwrap(), @r"
    16 volume type=1 name=MOBY sectors=33 tables=19
    17 volume type=2 name=MOBY sectors=33 tables=21
    18 last
    /boot plain=BOOT at=24+2048 mode=40755 links=2 0:0 mtime=1700000000
    /etc plain=ETC at=25+2048 mode=40755 links=2 0:0 mtime=0
    /same plain=SAME.;1 at=30+5000 mode=100644 links=1 0:0 mtime=1700000000
    /boot/again plain=AGAIN.;1 at=30+5000 mode=100644 links=2 0:0 mtime=1700000000
    /boot/kernel plain=KERNEL.;1 at=30+5000 mode=100644 links=2 0:0 mtime=1700000000
    /etc/link plain=LINK.;1 at=0+0 mode=120777 links=1 0:0 mtime=0 -> ../boot/./kernel
    ");
}

#[test]
fn reads_what_xorriso_writes() {
    if !judge("xorriso") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir_all(source.join("a/b")).unwrap();
    std::fs::write(source.join("a/b/file with a long name.txt"), noise(70_000, 1)).unwrap();
    std::os::unix::fs::symlink("/a/../b", source.join("link")).unwrap();
    let image = folder.path().join("image.iso");
    let made = Command::new("xorriso")
        .args(["-as", "mkisofs", "-R", "-J", "-o"])
        .args([&image, &source])
        .output()
        .unwrap();
    assert!(made.status.success());
    let file = Arc::new(std::fs::File::open(&image).unwrap());
    let read = open(&Extents::of_file(&file).unwrap()).unwrap();
    let Kind::File(content) =
        &read.get(read.lookup(b"a/b/file with a long name.txt").unwrap()).kind
    else {
        panic!("expected a file")
    };
    assert!(content.place().is_some());
    assert_eq!(content.digest().unwrap(), Digest::of(&noise(70_000, 1)));
    let Kind::Symlink(target) = &read.get(read.lookup(b"link").unwrap()).kind else {
        panic!("expected a link")
    };
    assert_eq!(&**target, b"/a/../b");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn keeps_random_trees(tree in random()) {
        let tree = held::iso9660((*tree).clone());
        let volume = plan(&tree, &Composed::new(), &Options::default()).unwrap();
        prop_assert_eq!(lines(&open(&volume.image).unwrap()), lines(&tree));
    }

    #[test]
    fn reading_damage_never_panics(
        at in 32_768..70_000_u64,
        bytes in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut tree = Tree::new();
        tree.insert(b"a/b/c", file(*b"x")).unwrap();
        let meta = Metadata::root(0o777, 0);
        let kind = Kind::Symlink(vec![b'x'; 3000].into());
        tree.insert(b"a/link", Inode { meta, kind, part: 0 }).unwrap();
        let volume = plan(&tree, &Composed::new(), &Options::default()).unwrap();
        let mut image = volume.image;
        image.put_bytes(at, bytes);
        // Whatever comes of it, it comes back.
        let _ = open(&image);
        let _ = dump(&image);
    }
}
