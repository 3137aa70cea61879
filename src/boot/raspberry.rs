//! A card that a Raspberry Pi starts from: 3, 4, 5 and their kin, in 64 bits.
//!
//! The boot partition holds the firmware of Debian's `raspi-firmware`, which
//! finds the kernel, the initrd and the device tree of its board by
//! `config.txt`. The table is an MBR, for the Raspberry Pi 3 reads no other.
//! Follows Raspberry Pi Documentation, "The boot folder", "config.txt" and
//! "Boot options in config.txt". Left out: U-Boot, network boot, overlays
//! beyond those that the package has.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, anyhow, ensure};

use super::disk::by_mbr;
use super::{DiskOptions, Firmware, Loaders, Scheme, Start};
use crate::error::WithHint;
use crate::fs::{Composed, Extents, fat};
use crate::tree::{Content, Kind, Tree};

/// Where the package has the firmware.
const FIRMWARE: &[u8] = b"usr/lib/raspi-firmware/";
/// The terms that the firmware is given under, which go with it.
const TERMS: &[u8] = b"usr/share/doc/raspi-firmware/copyright";
/// What each board's first stages are; a Raspberry Pi 5 has its own in ROM.
const STAGES: [&str; 5] = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];
const KERNEL: &str = "kernel8.img";
const INITRD: &str = "initrd.img";
/// Names of device trees in the kernel's own sources, and what the firmware
/// calls the same: it looks for either, by its version.
const TREES: [(&str, &str); 6] = [
    ("bcm2837-rpi-3-b.dtb", "bcm2710-rpi-3-b.dtb"),
    ("bcm2837-rpi-3-b-plus.dtb", "bcm2710-rpi-3-b-plus.dtb"),
    ("bcm2837-rpi-cm3-io3.dtb", "bcm2710-rpi-cm3.dtb"),
    ("bcm2837-rpi-zero-2-w.dtb", "bcm2710-rpi-zero-2-w.dtb"),
    ("bcm2837-rpi-zero-2-w.dtb", "bcm2710-rpi-zero-2.dtb"),
    // The second stepping of the Raspberry Pi 5's chip.
    ("bcm2712-d-rpi-5-b.dtb", "bcm2712d0-rpi-5-b.dtb"),
];
/// "ARM\x64", 56 bytes from the beginning of a kernel: "Booting AArch64 Linux".
const MAGIC: [u8; 4] = *b"ARM\x64";

/// Takes the firmware out of a tree in which its package is unpacked.
pub(super) fn firmware(tree: &Tree) -> BTreeMap<String, Content> {
    let mut files = BTreeMap::new();
    for found in tree.walk() {
        let Kind::File(content) = &tree.get(found.id).kind else {
            continue;
        };
        let name = match found.path.strip_prefix(FIRMWARE) {
            Some(name) => String::from_utf8_lossy(name).into_owned(),
            None if found.path == TERMS => "LICENCE.broadcom".to_owned(),
            None => continue,
        };
        let wanted = STAGES.contains(&name.as_str())
            || name == "LICENCE.broadcom"
            || (name.starts_with("overlays/") && name.ends_with(".dtbo"));
        if wanted {
            files.insert(name, content.clone());
        }
    }
    files
}

/// Lays out a card; `trees` are the kernel's device trees by name, `settings`
/// what is added to `config.txt`.
pub fn card(
    loaders: &Loaders,
    start: &Start,
    trees: &BTreeMap<String, Content>,
    settings: &str,
    options: &DiskOptions,
) -> Result<Extents> {
    ensure!(options.scheme == Scheme::Mbr, "expected an MBR: a Raspberry Pi 3 reads no other");
    // All that a Raspberry Pi is known to start from.
    let bits = Some(fat::Bits::ThirtyTwo);
    let volume = fat::Options { bits, ..options.volume()? };
    let files = files(loaders, start, trees, settings)?;
    let volume = fat::plan(&Tree::new(), &files, &volume).context("laying out the boot folder")?;
    by_mbr(Firmware::Efi, loaders, volume.image, options)
}

fn files(
    loaders: &Loaders,
    start: &Start,
    trees: &BTreeMap<String, Content>,
    settings: &str,
) -> Result<Composed> {
    let mut files = Composed::new();
    let mut add = |name: &str, image: Extents| {
        files.insert(name.as_bytes().to_vec(), image);
    };
    for name in STAGES {
        if !loaders.raspberry.contains_key(name) {
            return Err(anyhow!("expected the firmware's {name}, got none"))
                .hint(|| "add the Debian package `raspi-firmware` to the boot loaders".to_owned());
        }
    }
    for (name, content) in &loaders.raspberry {
        add(name, Extents::from(content));
    }
    for (name, content) in trees {
        add(name, Extents::from(content));
    }
    for (name, other) in TREES {
        if let Some(content) = trees.get(name).filter(|_| !trees.contains_key(other)) {
            add(other, Extents::from(content));
        }
    }
    check_kernel(&start.kernel)?;
    add(KERNEL, Extents::from(&start.kernel));
    add("config.txt", Extents::of_bytes(config(start.initrd.is_some(), settings).into_bytes()));
    if let Some(initrd) = &start.initrd {
        add(INITRD, initrd.clone());
    }
    ensure!(!start.cmdline.contains('\n'), "expected a command line of one line");
    add("cmdline.txt", Extents::of_bytes(format!("{}\n", start.cmdline).into_bytes()));
    Ok(files)
}

/// Refuses what the firmware would load and not start: all but an image of
/// arm64, as it is or under gzip.
fn check_kernel(kernel: &Content) -> Result<()> {
    let mut head = [0; 60];
    let len = head.len().min(usize::try_from(kernel.len()).unwrap_or(usize::MAX));
    kernel.read_exact_at(&mut head[..len], 0).context("reading the kernel")?;
    let known = head[56..] == MAGIC || head.starts_with(&[0x1f, 0x8b]);
    if !known || head.starts_with(b"MZ\0\0zimg") {
        return Err(anyhow!("expected a kernel image of arm64, plain or under gzip"))
            .hint(|| "a kernel that unpacks itself is unpacked by --decompress-kernel".to_owned());
    }
    Ok(())
}

fn config(has_initrd: bool, settings: &str) -> String {
    let mut text = String::from(
        "# Written by moby; what boot/config.txt of the system has is added at the end.\n\
         arm_64bit=1\n\
         enable_uart=1\n\
         # Device trees have the names of the kernel's own sources.\n\
         upstream_kernel=1\n",
    );
    // Writing to a string does not fail.
    let _ = writeln!(text, "kernel={KERNEL}");
    if has_initrd {
        let _ = writeln!(text, "initramfs {INITRD} followkernel");
    }
    if !settings.is_empty() {
        let _ = write!(text, "\n{}\n", settings.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Machine;
    use crate::disk::{self, Guid};
    use crate::tree::{Inode, Metadata};

    fn content(text: &str) -> Content {
        Content::Bytes(text.as_bytes().into())
    }

    fn kernel() -> Content {
        let mut bytes = vec![0; 4096];
        bytes[56..60].copy_from_slice(&MAGIC);
        Content::Bytes(bytes.into())
    }

    fn loaders() -> Loaders {
        let mut tree = Tree::new();
        let mut add = |path: &str| {
            let kind = Kind::bytes(path.as_bytes());
            let inode = Inode { meta: Metadata::root(0o644, 0), kind, part: 0 };
            tree.insert(path.as_bytes(), inode).unwrap();
        };
        STAGES.iter().for_each(|name| add(&format!("usr/lib/raspi-firmware/{name}")));
        add("usr/lib/raspi-firmware/start_x.elf");
        add("usr/lib/raspi-firmware/overlays/a.dtbo");
        add("usr/lib/raspi-firmware/overlays/README.md");
        add("usr/share/doc/raspi-firmware/copyright");
        Loaders { raspberry: firmware(&tree), ..Loaders::default() }
    }

    fn start(kernel: Content) -> Start {
        Start {
            machine: Machine::Arm64,
            kernel,
            initrd: Some(Extents::of_bytes(vec![7; 5000])),
            cmdline: "console=ttyS1".to_owned(),
            release: String::new(),
            os_release: String::new(),
        }
    }

    #[test]
    fn lays_out_what_each_board_looks_for() {
        let trees: BTreeMap<String, Content> =
            ["bcm2711-rpi-4-b.dtb", "bcm2712-rpi-5-b.dtb", "bcm2837-rpi-3-b.dtb"]
                .map(|name| (name.to_owned(), content(name)))
                .into();
        let mut options = DiskOptions::new(Guid::derive(b"card", "disk"));
        options.scheme = Scheme::Mbr;
        let card = card(&loaders(), &start(kernel()), &trees, "dtoverlay=x\n\n", &options).unwrap();
        let table = disk::read(&card).unwrap().unwrap();
        assert!(!table.gpt && table.partitions.len() == 1);
        let boot = fat::open(&card.slice(table.partitions[0].range.clone()).unwrap()).unwrap();
        let names: Vec<String> = boot
            .walk()
            .filter(|found| matches!(boot.get(found.id).kind, Kind::File(_)))
            .map(|found| String::from_utf8_lossy(&found.path).into_owned())
            .collect();
        let expected = [
            "LICENCE.broadcom",
            "bcm2710-rpi-3-b.dtb",
            "bcm2711-rpi-4-b.dtb",
            "bcm2712-rpi-5-b.dtb",
            "bcm2837-rpi-3-b.dtb",
            "bootcode.bin",
            "cmdline.txt",
            "config.txt",
            "fixup.dat",
            "fixup4.dat",
            "initrd.img",
            "kernel8.img",
            "overlays/a.dtbo",
            "start.elf",
            "start4.elf",
        ];
        assert_eq!(names, expected);
        let Kind::File(config) = &boot.get(boot.lookup(b"config.txt").unwrap()).kind else {
            panic!("expected a file");
        };
        let text = String::from_utf8(config.gather(4096).unwrap().to_vec()).unwrap();
        assert!(text.ends_with("initramfs initrd.img followkernel\n\ndtoverlay=x\n"), "{text}");
    }

    #[test]
    fn refuses_what_would_not_start() {
        let mut options = DiskOptions::new(Guid::derive(b"card", "disk"));
        let made = |loaders: &Loaders, kernel: Content, options: &DiskOptions| {
            let error = card(loaders, &start(kernel), &BTreeMap::new(), "", options).unwrap_err();
            format!("{error:#}")
        };
        assert!(made(&loaders(), kernel(), &options).contains("MBR"));
        options.scheme = Scheme::Mbr;
        assert!(made(&Loaders::default(), kernel(), &options).contains("bootcode.bin"));
        assert!(made(&loaders(), content("MZ, and short"), &options).contains("arm64"));
    }
}
