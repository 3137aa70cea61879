//! One small system, written in every format and looked at: the same root,
//! kernel and command line each time.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::compare::{Change, compare, first_difference, roots};
use super::*;
use crate::boot::{Loaders, sample};
use crate::disk::{qcow2, vmdk};
use crate::format::{FORMATS, Format, Options, Output};
use crate::fs::Extents;
use crate::fs::sample::{noise, prose, skipped};
use crate::oci::Platform;
use crate::store::Store;
use crate::system::{self, System};
use crate::tree::{Kind, Metadata};

const CMDLINE: &str = "console=ttyS0 quiet";
const RELEASE: &str = "6.12.0-moby";

/// Takes the boot loaders that are installed.
fn loaders() -> Loaders {
    let (loaders, missing) = sample::loaders();
    missing.iter().for_each(|path| skipped(&format!("/{path} is not installed")));
    loaders
}

/// Says whether the loaders of a format are all there.
fn has_loaders(format: &Format, loaders: &Loaders) -> bool {
    format.loaders.iter().all(|package| match *package {
        "systemd-boot-efi" => loaders.stub.is_some() && loaders.menu.is_some(),
        "syslinux" => loaders.syslinux.is_some(),
        "syslinux-common" => loaders.gpt_code.is_some() && loaders.module.is_some(),
        "isolinux" => loaders.isolinux.is_some() && loaders.hybrid_code.is_some(),
        _ => false,
    })
}

fn inode(mode: u16, kind: Kind) -> Inode {
    Inode { meta: Metadata::root(mode, 1_500_000_000), kind, part: 0 }
}

fn kernel() -> Vec<u8> {
    let mut bytes = prose(70_000, 1);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
    bytes[0x500..0x50e].copy_from_slice(b"6.12.0-moby #1");
    bytes
}

/// Adds what a system needs to find its root on a disk by itself.
fn add_root_drivers(tree: &mut Tree, own: bool) {
    if !own {
        return;
    }
    for name in ["erofs", "ext4", "loop"] {
        let path = format!("usr/lib/modules/6.12.0-moby/{name}.ko");
        tree.insert(path.as_bytes(), inode(0o644, Kind::bytes(noise(5_000, 9)))).unwrap();
    }
    let mut init = prose(20_000, 8);
    init.extend(moby_bundle::path::ARG_ONFAILURE.as_bytes());
    init.extend(moby_bundle::path::ARG_DATA.as_bytes());
    tree.insert(b"init", inode(0o755, Kind::bytes(init))).unwrap();
}

/// A system with a file of every kind that all formats hold. One of moby's
/// own has its root on a disk where it can.
fn system(own: bool) -> System {
    let mut tree = Tree::new();
    let mut put = |path: &str, mode, kind| {
        tree.insert(path.as_bytes(), inode(mode, kind)).unwrap();
    };
    for folder in ["", "bin", "boot", "etc", "usr", "usr/lib", "usr/lib/modules"] {
        put(folder, 0o755, Kind::directory());
    }
    put("usr/lib/modules/6.12.0-moby", 0o755, Kind::directory());
    put("usr/lib/modules/6.12.0-moby/a.ko", 0o644, Kind::bytes(noise(9_000, 4)));
    put("bin/init", 0o4755, Kind::bytes(prose(300_000, 2)));
    put("bin/empty", 0o600, Kind::bytes(Vec::new()));
    put("init", 0o777, Kind::Symlink((*b"bin/init").into()));
    put("etc/null", 0o666, Kind::Char(1, 3));
    let name = &b"PRETTY_NAME=\"Small 1\"\n"[..];
    put("etc/os-release", 0o644, Kind::bytes(name));
    put("boot/kernel", 0o644, Kind::bytes(kernel()));
    put("boot/cmdline", 0o644, Kind::bytes(CMDLINE.as_bytes()));
    let id = tree.lookup(b"bin/init").unwrap();
    tree.link(id, b"bin/again").unwrap();
    tree.get_mut(id).meta.uid = 7;
    add_root_drivers(&mut tree, own);
    let image = content(&tree, b"boot/kernel").unwrap().clone();
    let kernel = system::Kernel { image, cmdline: CMDLINE.to_owned(), ucode: None };
    let platform: Platform = "linux/amd64".parse().unwrap();
    System {
        tree,
        parts: vec![system::Part::default()],
        kernel: Some(kernel),
        platform,
        disk: None,
    }
}

/// The root that every format holds.
fn expected(system: &System) -> Volume {
    let mut tree = system.tree.clone();
    tree.remove(b"boot/kernel").unwrap();
    tree.remove(b"boot/cmdline").unwrap();
    Volume { place: "expected".to_owned(), system: "tar", used: None, tree }
}

/// Writes a system in a format; gives back what to look at.
fn write(system: &System, format: &Format, folder: &Path, loaders: &Loaders) -> PathBuf {
    let store = Store::open(&folder.join("cache")).unwrap();
    let options = Options { loaders: loaders.clone(), ..Options::default() };
    let folder = folder.join(format.name);
    std::fs::create_dir(&folder).unwrap();
    let target = |ending: &str| folder.join(format!("small{ending}"));
    let mut output = Output::new(format.name, &target, &store, &options);
    (format.write)(system, &mut output).unwrap();
    let written = output.commit().unwrap();
    let prefix = folder.join("small");
    if format.files.contains(&"-kernel") { prefix } else { written[0].path.clone() }
}

/// Fails unless an image holds the system.
#[track_caller]
fn check(image: &Image, wanted: &Volume, name: &str) {
    assert_eq!(image.problems, Vec::<String>::new(), "{name}");
    let root = image.root().unwrap_or_else(|| panic!("{name}: no root in {image:?}"));
    let differences = roots(wanted, root).unwrap();
    assert!(differences.is_empty(), "{name}: {differences:#?}");
    assert_eq!(image.system().as_deref(), Some("Small 1"), "{name}");
    let Some(start) = image.starts.first() else {
        panic!("{name}: nothing is started: {image:?}");
    };
    assert!(start.cmdline.as_deref().is_some_and(|text| text.starts_with(CMDLINE)), "{name}");
    let kernel = &image.kernels[start.kernel.unwrap()];
    assert_eq!(kernel.release.as_deref(), Some(RELEASE), "{name}");
    assert_eq!(kernel.machine, Some("amd64"), "{name}");
    assert_eq!(image.kernels.len(), 1, "{name}: {:?}", image.kernels);
}

#[test]
fn every_format_holds_the_same_system() {
    let (system, loaders) = (system(false), loaders());
    let wanted = expected(&system);
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<(&str, Image)> = Vec::new();
    for format in FORMATS {
        if !has_loaders(format, &loaders) {
            skipped(&format!("the boot loaders of {} are not installed", format.name));
            continue;
        }
        let path = write(&system, format, folder.path(), &loaders);
        let image = inspect(&path).unwrap_or_else(|error| panic!("{}: {error:#}", format.name));
        check(&image, &wanted, format.name);
        all.push((format.name, image));
    }
    let (first, rest) = all.split_first().unwrap();
    for (name, image) in rest {
        let found = compare(&first.1, image).unwrap();
        assert!(found.files.is_empty(), "{} and {name}: {found:#?}", first.0);
    }
    let firmware = |name: &str| -> Vec<&str> {
        let found = all.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, image)| image.starts.iter().map(|start| start.firmware).collect())
            .unwrap_or_default()
    };
    if has_loaders(crate::format::find("raw").unwrap(), &loaders) {
        assert_eq!(firmware("raw"), ["BIOS", "UEFI"]);
        assert_eq!(firmware("raw-bios"), ["BIOS"]);
        assert_eq!(firmware("qcow2-efi"), ["UEFI"]);
        let (_, uki) = all.iter().find(|(name, _)| *name == "uki").unwrap();
        let sections: Vec<&str> =
            uki.starts[0].sections.iter().map(|(name, _)| name.as_str()).collect();
        assert!(sections.ends_with(&[".osrel", ".cmdline", ".uname", ".initrd", ".linux"]));
        assert!(uki.starts[0].steps.iter().any(|step| step.ends_with("of Small 1")));
    }
    if has_loaders(crate::format::find("iso").unwrap(), &loaders) {
        assert_eq!(firmware("iso"), ["BIOS", "UEFI"]);
        assert_eq!(firmware("iso-efi"), ["UEFI"]);
    }
}

#[test]
fn finds_a_root_on_a_partition() {
    let (system, loaders) = (system(true), loaders());
    let wanted = expected(&system);
    let folder = tempfile::tempdir().unwrap();
    let mut former: Option<Image> = None;
    for name in ["raw", "iso", "vmdk"] {
        let format = crate::format::find(name).unwrap();
        if !has_loaders(format, &loaders) {
            skipped(&format!("the boot loaders of {name} are not installed"));
            continue;
        }
        let path = write(&system, format, folder.path(), &loaders);
        let image = inspect(&path).unwrap();
        check(&image, &wanted, name);
        let root = image.root().unwrap();
        assert_eq!((&*root.place, root.system), ("partition 2", "erofs"), "{name}");
        assert_eq!(image.initrds.len(), 1, "{name}");
        // Each names its own partition, which is no difference.
        let found = former.map(|former| compare(&former, &image).unwrap()).unwrap_or_default();
        assert!(found.is_empty(), "{name}: {found:#?}");
        former = Some(image);
    }
}

#[test]
fn lays_data_over_the_root() {
    let (mut system, loaders) = (system(true), loaders());
    let format = crate::format::find("raw").unwrap();
    if !has_loaders(format, &loaders) {
        return skipped("the boot loaders of raw are not installed");
    }
    system.tree.insert(b"var", inode(0o750, Kind::directory())).unwrap();
    system.tree.insert(b"var/lib", inode(0o755, Kind::directory())).unwrap();
    system.tree.insert(b"var/lib/a", inode(0o600, Kind::bytes(&b"data"[..]))).unwrap();
    let wanted = expected(&system);
    system.disk = crate::manifest::parse("disk: {data: {}}", "made").unwrap().disk;
    let folder = tempfile::tempdir().unwrap();
    let image = inspect(&write(&system, format, folder.path(), &loaders)).unwrap();
    check(&image, &wanted, "raw");
    assert_eq!(image.root().unwrap().place, "partition 2 with /var of partition 3");
    let of_root = image.volume("2").unwrap();
    assert!(content(&of_root.tree, b"var/lib/a").is_none());
    assert!(compare(&image, &image).unwrap().is_empty());
}

#[test]
fn finds_what_a_raspberry_pi_starts() {
    let mut system = system(true);
    let mut bytes = prose(50_000, 3);
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes.extend(b"Linux version 6.12.0-moby (a@b)");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    system.platform = "linux/arm64".parse().unwrap();
    let kernel = system.kernel.as_mut().unwrap();
    kernel.image = Content::Bytes(gzip.finish().unwrap().into());
    for name in ["bcm2837-rpi-3-b.dtb", "bcm2711-rpi-4-b.dtb", "bcm2712-rpi-5-b.dtb"] {
        let path = format!("boot/{name}");
        system.tree.insert(path.as_bytes(), inode(0o644, Kind::bytes(&b"tree"[..]))).unwrap();
    }
    let firmware = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];
    let raspberry = firmware.map(|name| (name.to_owned(), Content::Bytes((*b"x").into())));
    let loaders = Loaders { raspberry: raspberry.into(), ..Loaders::default() };
    let folder = tempfile::tempdir().unwrap();
    let format = crate::format::find("rpi").unwrap();
    let image = inspect(&write(&system, format, folder.path(), &loaders)).unwrap();
    assert_eq!(image.problems, Vec::<String>::new());
    let start = &image.starts[0];
    assert_eq!((start.firmware, image.starts.len()), ("Raspberry Pi", 1));
    assert!(start.cmdline.as_deref().is_some_and(|text| text.contains("quiet")), "{start:?}");
    let kernel = &image.kernels[start.kernel.unwrap()];
    assert_eq!((kernel.machine, kernel.release.as_deref()), (Some("arm64"), Some(RELEASE)));
    let differences = roots(&expected(&system), image.root().unwrap()).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn looks_into_virtual_disks_and_packed_files() {
    let wanted = expected(&system(false));
    let mut out = std::io::Cursor::new(Vec::new());
    crate::fs::ext4::write(&wanted.tree, &crate::fs::ext4::Options::default(), &mut out).unwrap();
    let root = Extents::of_bytes(out.into_inner());
    let partition = crate::disk::gpt::Partition::new(crate::disk::gpt::ROOT_AMD64, "root", root);
    let disk = crate::disk::gpt::Disk {
        id: "12345678-9abc-8def-8123-456789abcdef".parse().unwrap(),
        sector: 512,
        size: None,
        code: Vec::new(),
        partitions: vec![partition],
    };
    let (raw, _) = crate::disk::gpt::plan(&disk).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let make = |name: &str| File::create(path(name)).unwrap();
    raw.write_file(&make("raw")).unwrap();
    for (name, with) in [
        ("plain", None),
        ("zlib", Some(qcow2::Compression::Zlib(9))),
        ("zstd", Some(qcow2::Compression::Zstd(3))),
    ] {
        qcow2::write(&raw, with, &mut make(name)).unwrap();
    }
    vmdk::write(&raw, &vmdk::Options::default(), &mut make("vmdk")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(make("raw.gz"), flate2::Compression::fast());
    std::io::copy(&mut raw.reader(), &mut gzip).unwrap();
    gzip.finish().unwrap();
    let kinds = [
        ("raw", "raw disk"),
        ("plain", "qcow2"),
        ("zlib", "qcow2"),
        ("zstd", "qcow2"),
        ("vmdk", "compressed VMDK"),
        ("raw.gz", "raw disk"),
    ];
    for (name, kind) in kinds {
        let image = inspect(&path(name)).unwrap();
        assert_eq!(image.kinds.last().map(String::as_str), Some(kind), "{name}");
        let differences = roots(&wanted, image.root().unwrap()).unwrap();
        assert!(differences.is_empty(), "{name}: {differences:#?}");
        let disk = image.disk.unwrap();
        let partition = &disk.partitions[0];
        assert_eq!((disk.table, partition.number, partition.start), (Some("gpt"), 1, 1 << 20));
        assert_eq!((partition.kind.as_str(), partition.system), ("root (amd64)", Some("ext4")));
        assert!(partition.used.unwrap() < partition.size, "{name}");
    }
}

#[test]
fn reads_initrds_of_mixed_segments() {
    let system = system(false);
    let archive = |paths: &[&str]| -> Vec<u8> {
        let mut writer = crate::fs::cpio::Writer::new(Vec::new());
        for path in paths {
            let id = system.tree.lookup(path.as_bytes()).unwrap();
            let paths = vec![path.as_bytes().to_vec()];
            writer.append(&system.tree, &crate::fs::cpio::Item { id, paths }).unwrap();
        }
        writer.finish().unwrap()
    };
    let mut microcode = Tree::new();
    let path = b"kernel/x86/microcode/GenuineIntel.bin";
    let id = microcode.insert(path, inode(0o644, Kind::bytes(&b"code"[..]))).unwrap();
    let mut writer = crate::fs::cpio::Writer::new(Vec::new());
    let item = crate::fs::cpio::Item { id, paths: vec![path.to_vec()] };
    writer.append(&microcode, &item).unwrap();
    let mut bytes = writer.finish().unwrap();
    bytes.extend([0; 6]);
    let parts: [(&str, &[&str]); 4] = [
        ("zstd", &["bin", "bin/init"]),
        ("gzip", &["etc"]),
        ("lz4", &["init"]),
        ("none", &["etc/os-release"]),
    ];
    for (with, paths) in parts {
        let with: crate::format::Compression = with.parse().unwrap();
        let archive = archive(paths);
        with.compress(&mut bytes, |out| Ok(out.write_all(&archive)?)).unwrap();
    }
    bytes.extend([0; 512]);
    let span = Span::of_image(&Extents::of_bytes(bytes.clone()), 0).unwrap();
    let read = initrd::read(&span).unwrap();
    let found: Vec<_> = read.segments.iter().map(|s| (s.compression, s.microcode)).collect();
    let wanted =
        [("none", true), ("zstd", false), ("gzip", false), ("lz4", false), ("none", false)];
    assert_eq!(found, wanted);
    for path in ["bin/init", "etc", "init", "etc/os-release"] {
        assert!(read.tree.lookup(path.as_bytes()).is_some(), "{path}");
    }
    assert!(read.tree.lookup(b"kernel").is_none());
    let init = content(&read.tree, b"bin/init").unwrap();
    assert!(init.equals(content(&system.tree, b"bin/init").unwrap()).unwrap());
    assert_eq!(init.gather(1 << 20).unwrap(), prose(300_000, 2));
    // Cut anywhere, it is read or refused.
    for len in (0..bytes.len()).step_by(997) {
        let cut = Span::of_image(&Extents::of_bytes(&bytes[..len]), 0).unwrap();
        drop(initrd::read(&cut));
    }
}

#[test]
fn tells_what_differs() {
    let system = system(false);
    let before = expected(&system);
    let mut tree = before.tree.clone();
    let id = tree.lookup(b"bin/empty").unwrap();
    tree.get_mut(id).kind = Kind::bytes(&b"x"[..]);
    tree.get_mut(id).meta.mode = 0o644;
    let id = tree.lookup(b"etc/null").unwrap();
    tree.get_mut(id).meta.xattrs.insert((*b"user.a").into(), (*b"b").into());
    tree.remove(b"init").unwrap();
    tree.insert(b"etc/new", inode(0o644, Kind::bytes(&b"new"[..]))).unwrap();
    let after = Volume { place: String::new(), system: "tar", used: None, tree };
    let found = roots(&before, &after).unwrap();
    let told: Vec<_> =
        found.iter().map(|f| (f.path.as_str(), f.change, f.what.join(", "))).collect();
    let wanted = [
        ("bin/empty", Change::Changed, "size 0 to 1, mode 0600 to 0644".to_owned()),
        ("etc/new", Change::Added, "file".to_owned()),
        ("etc/null", Change::Changed, "attributes user.a".to_owned()),
        ("init", Change::Removed, "link".to_owned()),
    ];
    assert_eq!(told, wanted);
    let image = |volume, cmdline: &str| Image {
        volumes: vec![volume],
        root: Some(0),
        starts: vec![Start { cmdline: Some(cmdline.to_owned()), ..Start::default() }],
        ..Image::default()
    };
    let found = compare(&image(before, "a b c"), &image(after, "a c d")).unwrap();
    assert_eq!(found.files.len(), 4);
    let part = &found.parts[0];
    assert_eq!((&*part.part, &*part.before, &*part.after), ("command line", "b", "d"));
}

#[test]
fn finds_the_first_byte_that_differs() {
    let file = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    };
    let long = noise(3_000_000, 1);
    let mut other = long.clone();
    other[2_500_000] ^= 1;
    let find = |a: &[u8], b: &[u8]| first_difference(&mut file(a), &mut file(b)).unwrap();
    assert_eq!(find(&long, &long), None);
    assert_eq!(find(&long, &other), Some(2_500_000));
    assert_eq!(find(&long, &long[..1_048_576]), Some(1_048_576));
    assert_eq!(find(b"", b"a"), Some(0));
}

#[test]
fn refuses_what_is_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &str); 5] = [
        ("text", b"hello", "expected an image"),
        ("empty", b"", "expected an image"),
        ("gzip", &[0x1f, 0x8b, 8, 0], "unpacking gzip"),
        ("cpio", b"070701", "expected a cpio header"),
        ("squashfs", b"hsqs", "reading squashfs in root"),
    ];
    for (name, bytes, told) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", inspect(&path).unwrap_err());
        assert!(error.contains(told), "{name}: {error}");
    }
    assert!(format!("{:#}", inspect(folder.path()).unwrap_err()).contains("some other folder"));
    let missing = inspect(&folder.path().join("none")).unwrap_err();
    assert!(crate::error::hint(&missing).unwrap().contains("moby build"));
}
