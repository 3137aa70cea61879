//! Images to boot from against sgdisk, fsck.fat, xorriso and sbverify, with
//! the boot loaders of the machine that the tests run on.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::disk::{self, Guid, gpt};
use crate::fs::sample::{judge, noise};
use crate::fs::{fat, iso9660};
use crate::oci::Digest;
use crate::tree::{Inode, Kind, Metadata, Tree};

const ID: Guid = Guid::new(0x12345678_9abc_8def_8123_456789abcdef);
const ALL: [Firmware; 3] = [Firmware::Bios, Firmware::Efi, Firmware::Both];

/// Takes the loaders that are installed, unless one is missing.
fn loaders() -> Option<Loaders> {
    let (loaders, missing) = sample::loaders();
    if let Some(path) = missing.first() {
        writeln!(std::io::stderr(), "skipped: /{path} is not installed").unwrap();
        return None;
    }
    Some(loaders)
}

fn start() -> Start {
    Start {
        machine: Machine::Amd64,
        kernel: Content::Bytes(noise(3_000_001, 1).into()),
        initrd: Some(Extents::of_bytes(noise(1_000_000, 2))),
        cmdline: "console=ttyS0 root=PARTUUID=x".to_owned(),
        release: "6.12".to_owned(),
        os_release: "NAME=moby\n".to_owned(),
    }
}

fn save(image: &Extents) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    image.write_file(file.as_file()).unwrap();
    file
}

fn run(tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{tool} {args:?}: {text}");
    text
}

fn name(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn digest(tree: &Tree, path: &str) -> Digest {
    let id = tree.lookup(path.as_bytes()).unwrap_or_else(|| panic!("expected {path}"));
    match &tree.get(id).kind {
        Kind::File(content) => content.digest().unwrap(),
        _ => panic!("expected {path} to be a file"),
    }
}

/// Makes the least program that has what sections are added by.
fn program() -> Vec<u8> {
    let mut out = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(60, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x86, &1_u16.to_le_bytes());
    // Symbols behind the last section.
    put(0x8c, &0x600_u32.to_le_bytes());
    put(0x94, &0xf0_u16.to_le_bytes());
    put(0x98, &0x20b_u16.to_le_bytes());
    put(0x98 + 32, &0x1000_u32.to_le_bytes());
    put(0x98 + 36, &0x200_u32.to_le_bytes());
    put(0x98 + 56, &0x2000_u32.to_le_bytes());
    put(0x98 + 60, &0x400_u32.to_le_bytes());
    put(0x188, b".text\0\0\0");
    for (index, value) in [0x80_u32, 0x1000, 0x200, 0x400].into_iter().enumerate() {
        put(0x190 + 4 * index, &value.to_le_bytes());
    }
    out.extend_from_slice(b"symbols");
    out
}

#[test]
fn adds_sections() {
    let program = Extents::of_bytes(program());
    let data = Extents::of_bytes(noise(5000, 3));
    let image = pe::with_sections(&program, &[(".linux", data.clone())]).unwrap();
    let sections = pe::sections(&image).unwrap();
    let found = &sections[1];
    assert_eq!((found.name.as_str(), found.len, found.address), (".linux", 5000, 0x2000));
    assert_eq!((found.offset, found.stored, image.len()), (0x600, 0x1400, 0x1a00));
    let part = image.slice(0x600..0x600 + 5000).unwrap();
    assert_eq!(part.digest().unwrap(), data.digest().unwrap());
    let many = vec![(".more", Extents::default()); 30];
    let error = pe::with_sections(&program, &many).unwrap_err().to_string();
    assert_eq!(error, "expected room for 31 sections in the headers of the EFI stub, got 15");
}

#[test]
fn makes_a_kernel_image_that_can_be_signed() {
    let Some(loaders) = loaders() else { return };
    let image = uki(&loaders, &start()).unwrap();
    let names: Vec<String> =
        pe::sections(&image).unwrap().into_iter().map(|section| section.name).collect();
    let wanted = [".osrel", ".cmdline", ".uname", ".initrd", ".linux"];
    assert_eq!(names[names.len() - wanted.len()..], wanted);
    if !judge("sbsign") || !judge("sbverify") || !judge("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    image.write_file(&File::create(path("plain.efi")).unwrap()).unwrap();
    let (key, certificate, signed) = (path("key"), path("certificate"), path("signed.efi"));
    let made = Command::new("openssl")
        .args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    assert!(made.status.success());
    let plain = path("plain.efi");
    let text = run("sbsign", &["--key", &key, "--cert", &certificate, "--output", &signed, &plain]);
    assert!(!text.contains("gaps"), "{text}");
    let text = run("sbverify", &["--cert", &certificate, &signed]);
    assert!(text.contains("Signature verification OK"), "{text}");
}

#[test]
fn makes_disks_that_hold_what_is_started() {
    let Some(loaders) = loaders() else { return };
    let kernel = start().kernel.digest().unwrap();
    for firmware in ALL {
        let mut options = DiskOptions::new(ID);
        options.partitions =
            vec![gpt::Partition::new(gpt::ROOT_AMD64, "root", Extents::of_bytes(noise(99, 4)))];
        let image = disk(firmware, &loaders, &start(), &options).unwrap();
        let again = disk(firmware, &loaders, &start(), &options).unwrap();
        assert_eq!(image.digest().unwrap(), again.digest().unwrap(), "{firmware:?}");
        let table = disk::read(&image).unwrap().unwrap();
        assert_eq!(table.partitions.len(), 2);
        let boot = image.slice(table.partitions[0].range.clone()).unwrap();
        let tree = fat::open(&boot).unwrap();
        if firmware == Firmware::Efi {
            assert!(tree.lookup(b"EFI/BOOT/BOOTX64.EFI").is_some());
        } else {
            assert_eq!(digest(&tree, "kernel"), kernel);
            check_syslinux(&boot);
        }
        if judge("sgdisk") {
            let text = run("sgdisk", &["-v", name(&save(&image))]);
            assert!(text.contains("No problems found"), "{text}");
        }
        if judge("fsck.fat") {
            run("fsck.fat", &["-n", name(&save(&boot))]);
        }
    }
}

/// Checks that the boot sector leads to the core and that the core sums up.
fn check_syslinux(volume: &Extents) {
    let boot = volume.bytes(0, 512).unwrap();
    assert_eq!(boot[..3], [0xeb, 0x58, 0x90]);
    let pointed = (0..500).find_map(|at| {
        let sector = u32::from_le_bytes(boot[at..at + 4].try_into().unwrap());
        let place = u64::from(sector) * 512;
        let core = (place + 512 <= volume.len()).then(|| volume.bytes(place, 512).unwrap())?;
        core.starts_with(b"\r\nSYSLINUX").then_some((place, core))
    });
    let (place, core) = pointed.expect("a pointer to the core");
    let sectors = usize::from(u16::from_le_bytes([core[0x20], core[0x21]]));
    let words = volume.bytes(place, sectors * 512).unwrap();
    let words = words.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    assert_eq!(words.fold(0, u32::wrapping_add), 0x3eb2_02fe);
}

#[test]
fn makes_discs_that_are_disks() {
    let Some(loaders) = loaders() else { return };
    let mut tree = Tree::new();
    let meta = Metadata::root(0o644, 0);
    tree.insert(b"data", Inode { meta, kind: Kind::bytes(*b"data"), part: 0 }).unwrap();
    let (kernel, initrd) =
        (start().kernel.digest().unwrap(), start().initrd.unwrap().digest().unwrap());
    for firmware in ALL {
        let options = DiscOptions::new("MOBY", ID);
        let image = disc(firmware, &loaders, &start(), &tree, &options).unwrap();
        let again = disc(firmware, &loaders, &start(), &tree, &options).unwrap();
        assert_eq!(image.digest().unwrap(), again.digest().unwrap(), "{firmware:?}");
        let read = iso9660::open(&image).unwrap();
        assert_eq!(digest(&read, "data"), Digest::of(b"data"));
        if firmware.has_bios() {
            assert_eq!(digest(&read, "boot/kernel"), kernel);
            assert_eq!(digest(&read, "boot/initrd.img"), initrd);
        }
        // Kernel and initrd lie there once.
        assert!(image.len() < 8 << 20, "{firmware:?}: {} bytes", image.len());
        let file = save(&image);
        if firmware.has_efi() {
            let table = disk::read(&image).unwrap().unwrap();
            let boot = image.slice(table.partitions[0].range.clone()).unwrap();
            assert!(fat::open(&boot).unwrap().lookup(b"EFI/BOOT/BOOTX64.EFI").is_some());
            if judge("sgdisk") {
                let text = run("sgdisk", &["-v", name(&file)]);
                assert!(text.contains("No problems found"), "{text}");
            }
        }
        if judge("xorriso") {
            let reports = ["-report_el_torito", "plain", "-report_system_area", "plain"];
            let text = run("xorriso", &[&["-indev", name(&file)], &reports[..]].concat());
            assert!(!text.contains("FAILURE") && !text.contains("SORRY"), "{text}");
        }
    }
}

#[test]
fn discs_have_partitions_behind_their_files() {
    let Some(loaders) = loaders() else { return };
    let root = Extents::of_bytes(noise(300_001, 4));
    for firmware in ALL {
        let mut options = DiscOptions::new("MOBY", ID);
        options.partitions = vec![gpt::Partition::new(gpt::ROOT_AMD64, "root", root.clone())];
        let image = disc(firmware, &loaders, &start(), &Tree::new(), &options).unwrap();
        let table = disk::read(&image).unwrap().unwrap();
        let last = table.partitions.last().unwrap();
        assert_eq!(table.partitions.len(), 1 + usize::from(firmware.has_efi()));
        assert!(last.name == "root" && last.range.start.is_multiple_of(1 << 20));
        let held = image.slice(last.range.start..last.range.start + root.len()).unwrap();
        assert_eq!(held.digest().unwrap(), root.digest().unwrap());
        assert!(last.range.end - last.range.start < root.len() + 2048);
        if judge("sgdisk") {
            let text = run("sgdisk", &["-v", name(&save(&image))]);
            assert!(text.contains("No problems found"), "{firmware:?}: {text}");
        }
        if judge("xorriso") {
            let text = run("xorriso", &["-indev", name(&save(&image)), "-find", "/"]);
            assert!(!text.contains("FAILURE") && !text.contains("SORRY"), "{text}");
        }
    }
}

#[test]
fn names_the_package_of_a_missing_loader() {
    let options = DiskOptions::new(ID);
    let error = disk(Firmware::Efi, &Loaders::default(), &start(), &options).unwrap_err();
    assert_eq!(error.to_string(), "expected the boot loader systemd's EFI stub, got none");
    let hint = crate::error::hint(&error).unwrap();
    assert!(hint.contains("`systemd-boot-efi`"), "{hint}");
}

#[test]
fn refuses_what_cannot_be_started() {
    let Some(loaders) = loaders() else { return };
    let mut options = DiskOptions::new(ID);
    (options.scheme, options.sector) = (Scheme::Mbr, 4096);
    assert!(disk(Firmware::Efi, &loaders, &start(), &options).is_err());
    options = DiskOptions { sector: 4096, ..DiskOptions::new(ID) };
    assert!(disk(Firmware::Bios, &loaders, &start(), &options).is_err());
    let start = Start { cmdline: "a\nb".to_owned(), ..start() };
    assert!(disk(Firmware::Bios, &loaders, &start, &DiskOptions::new(ID)).is_err());
    options = DiskOptions { boot_size: Some(2 << 20), ..DiskOptions::new(ID) };
    let error = disk(Firmware::Bios, &loaders, &start, &options).unwrap_err();
    assert!(!format!("{error:#}").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reading_damaged_programs_never_panics(at in 0..0x300_usize, bytes in prop::collection::vec(any::<u8>(), 1..9)) {
        let mut program = program();
        program[at..at + bytes.len()].copy_from_slice(&bytes);
        let program = Extents::of_bytes(Arc::<[u8]>::from(program));
        // Whatever comes of it, it comes back.
        let _ = pe::sections(&program);
        let _ = pe::with_sections(&program, &[(".linux", Extents::of_bytes(vec![1; 100]))]);
    }
}
