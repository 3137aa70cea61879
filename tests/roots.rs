//! The ways in which a disk or a disc holds the root, each booted until the
//! guest has told what its root and its /var are.
//!
//! `tests/formats.rs` boots every format, on every kind of controller;
//! `tests/boot.rs` boots a disk whose data grows, twice.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may, says what it skips, and is told of a kernel by a variable"
)]

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::guest::{Guest, build_as, in_order, packaged, turn};
use support::system::{manifest, size_of_var, without_modules};
use support::{builds_packages, have, is_soak, stderr};

/// The name of what is built.
const NAME: &str = "roots";

/// Builds a format, boots it with some options, and returns the console.
fn boots(format: &str, ending: &str, disk: &str, options: &[&str]) -> Option<String> {
    let _turn = turn()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut image = build(format, ending, disk, folder.path());
    if options.contains(&STICK) {
        image = as_disk(&image);
    } else if format == "raw" {
        enlarge(&image, 512);
    }
    Some(boot(&image, disk, options))
}

/// Boots a disk whose data grows twice: each time it has become larger.
fn grows_twice(table: &str, root: &str) {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = format!("{{root: {root}, table: {table}, data: {{size: 64M}}}}");
    let image = build("raw", ".img", &disk, folder.path());
    for (number, mib, least) in [(1, 512, 200), (2, 768, 450)] {
        enlarge(&image, mib);
        let said = boot(&image, &disk, &[]);
        in_order(&said, &["mounted /var ext4 rw"]);
        in_order(&said, &[&format!("/var saw {number} boots, kept from the image")]);
        assert!(size_of_var(&said) > least, "{table}, {root}: {said}");
    }
}

fn build(format: &str, ending: &str, disk: &str, folder: &Path) -> PathBuf {
    build_as(&manifest(folder, NAME, disk), folder, &["--format", format]);
    folder.join(format!("{NAME}{ending}"))
}

fn enlarge(image: &Path, mib: u64) {
    OpenOptions::new().write(true).open(image).unwrap().set_len(mib << 20).unwrap();
}

/// Boots an image until its end, and returns the console.
fn boot(image: &Path, disk: &str, options: &[&str]) -> String {
    let qemu = large_sectors(image.parent().unwrap());
    let mut words: Vec<&str> = options.iter().copied().filter(|word| *word != STICK).collect();
    if disk.contains("4096") {
        words.extend(["--qemu", qemu.as_str()]);
    }
    let (code, said) = Guest::start(image, &words).end();
    assert_eq!(code, Some(0), "{said}");
    in_order(&said, &["nothing writes to the root"]);
    said
}

/// Asks for a disc to be a disk.
const STICK: &str = "as a disk";

/// Gives a disc in the guise of a disk, which by itself is taken for a CD.
fn as_disk(disc: &Path) -> PathBuf {
    let disk = disc.with_extension("qcow2");
    let mut convert = Command::new("qemu-img");
    convert.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(disc).arg(&disk);
    assert!(convert.status().unwrap().success());
    disk
}

/// Writes a QEMU whose disks have sectors of 4096 bytes.
fn large_sectors(folder: &Path) -> String {
    let path = folder.join("qemu");
    let size = "4096";
    let text = format!(
        "#!/bin/sh\nexec qemu-system-x86_64 \"$@\" -global virtio-blk-device.logical_block_size={size} \
         -global virtio-blk-device.physical_block_size={size}\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_squashfs_root_boots_by_uefi() {
    let Some(said) = boots("raw", ".img", "{root: squashfs}", &["--uefi"]) else { return };
    in_order(&said, &["mounted / squashfs ro", "mounted /var tmpfs rw"]);
}

/// What the kernel unpacks is for its build to say, not only for its version.
#[test]
fn roots_boot_under_every_compression() {
    for (root, compression) in
        [("squashfs", "xz"), ("squashfs", "gzip"), ("erofs", "none"), ("erofs", "zstd:19")]
    {
        let disk = format!("{{root: {root}, compression: {compression}}}");
        let Some(said) = boots("raw", ".img", &disk, &[]) else { return };
        in_order(&said, &[&format!("mounted / {root} ro")]);
    }
}

#[test]
fn an_ext4_root_and_data_boot_from_an_mbr() {
    let disk = "{root: ext4, table: mbr, data: {size: 64M}}";
    let Some(said) = boots("raw", ".img", disk, &[]) else { return };
    in_order(&said, &["mounted / ext4 ro", "mounted /var ext4 rw"]);
    assert!(size_of_var(&said) > 200, "{said}");
}

#[test]
fn large_sectors_boot_and_grow() {
    let disk = "{root: erofs, sector: 4096, data: {size: 64M}}";
    let Some(said) = boots("raw", ".img", disk, &["--uefi"]) else { return };
    in_order(&said, &["mounted / erofs ro", "mounted /var ext4 rw"]);
    assert!(size_of_var(&said) > 200, "{said}");
}

#[test]
fn data_without_growth_stands_beside_an_initrd() {
    let disk = "{root: initrd, data: {size: 64M, grow: false}}";
    let Some(said) = boots("qcow2-bios", ".qcow2", disk, &[]) else { return };
    in_order(&said, &["mounted /var ext4 rw"]);
    assert!(size_of_var(&said) < 64, "{said}");
}

#[test]
fn data_on_an_mbr_grows_beside_an_initrd_and_stays() {
    grows_twice("mbr", "initrd");
    if is_soak() {
        for table in ["gpt", "mbr"] {
            for root in ["initrd", "erofs", "squashfs", "ext4"] {
                grows_twice(table, root);
            }
        }
    }
}

/// No distribution has such a kernel: MOBY_KERNEL=FILE names one.
#[test]
fn a_kernel_without_modules_finds_its_root() {
    let Some(kernel) = kernel() else { return };
    let Some(_turn) = turn() else { return };
    for (format, ending) in [("raw", ".img"), ("iso", ".iso")] {
        for root in ["initrd", "erofs", "squashfs", "ext4"] {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let data = if format == "raw" { ", data: {size: 64M}" } else { "" };
            let disk = format!("{{root: {root}{data}}}");
            let manifest = without_modules(folder.path(), NAME, &disk, &kernel);
            build_as(&manifest, folder.path(), &["--format", format]);
            let image = folder.path().join(format!("{NAME}{ending}"));
            for firmware in [[].as_slice(), &["--uefi"]] {
                eprintln!("{format}, {root}, {firmware:?}");
                let said = boot(&image, &disk, firmware);
                let root = if root == "initrd" { "rootfs" } else { root };
                in_order(&said, &[&format!("mounted / {root} ro"), "mounted /var"]);
            }
        }
    }
}

fn kernel() -> Option<PathBuf> {
    let kernel = std::env::var_os("MOBY_KERNEL").map(PathBuf::from);
    if kernel.is_none() {
        eprintln!("skipped: MOBY_KERNEL does not name a kernel without modules");
    }
    kernel
}

#[test]
fn a_disc_has_its_root_behind_its_files() {
    for options in [&["--uefi"], &[STICK]] {
        if options == &[STICK] && !have("qemu-img") {
            continue;
        }
        let Some(said) = boots("iso", ".iso", "{root: erofs}", options) else { return };
        in_order(&said, &["mounted / erofs ro", "mounted /var tmpfs rw"]);
    }
}

/// Builds what cannot be built, and returns what is said of it.
fn refused(disk: &str, format: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = packaged()
        .args(["build", "--dir", ".", "--format", format])
        .arg(manifest(folder.path(), NAME, disk))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{disk}, {format}");
    let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| *name != "roots.yml" && *name != "roots.lock").collect();
    assert!(left.is_empty(), "{left:?}");
    stderr(&output)
}

#[test]
fn says_what_does_not_fit() {
    if !builds_packages() {
        return;
    }
    for root in ["initrd", "erofs", "squashfs", "ext4"] {
        let told = refused(&format!("{{root: {root}, size: 16M}}"), "raw");
        in_order(&told, &["expected the disk to fit in 16 MiB, got a tree that needs", " more;"]);
        in_order(&told, &["largest folders:", "/lib/modules/", "hint: give a larger size"]);
    }
    let told = refused("{data: {size: 2M}}", "raw");
    in_order(&told, &["writing the data partition", "to fit in", "hint:"]);
    let told = refused("{data: {label: one much longer than that}}", "raw");
    in_order(&told, &["writing the data partition", "label of at most 16 bytes"]);
    for format in ["kernel+initrd", "tar-kernel-initrd", "iso", "kernel+squashfs", "uki"] {
        let told = refused("{data: {size: 64M}}", format);
        in_order(&told, &["expected a format with a disk", &format!("got {format}"), "hint:"]);
    }
    let told = refused("{sector: 4096}", "raw-bios");
    in_order(&told, &["expected sectors of 512 bytes for a BIOS, got 4096"]);
}
