//! The ways in which a disk or a disc holds the root, each booted until the
//! guest has told what its root and its /var are.
//!
//! `tests/formats.rs` boots every format, on every kind of controller;
//! `tests/boot.rs` boots a disk whose data grows, twice.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::guest::{Guest, build_as, in_order, packaged, turn};
use support::{builds_packages, have, stderr};

/// A system that tells of its root and ends.
fn manifest(folder: &Path, disk: &str) -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg");
    let text = format!(
        r#"
kernel: {{image: "@pkg:PKG/kernel", cmdline: "console=ttyS0 quiet mitigations=off no_timer_check"}}
init: ["@pkg:PKG/init", "@pkg:PKG/runc"]
disk: {disk}
onboot:
  - name: look
    image: deb:busybox-static
    pid: host
    capabilities: [all]
    binds: ["/var:/var", "/etc:/host/etc"]
    command:
      - /usr/bin/busybox
      - sh
      - -c
      - |
        export PATH=/usr/bin
        busybox awk '$2 == "/" || $2 == "/var" {{ print "mounted", $2, $3, substr($4, 1, 2) }}' \
            /proc/1/mounts
        echo "/var has $(busybox df -m /var | busybox awk 'END {{ print $2 }}') MiB"
        busybox touch /host/etc/new || echo "nothing writes to the root"
        # Off; who is still here then is asked to end.
        trap "" TERM
        kill -USR2 1
files:
  - {{path: var/kept, contents: "in the image"}}
"#
    );
    let path = folder.join("roots.yml");
    fs::write(&path, text.replace("PKG", &packages.display().to_string())).unwrap();
    path
}

/// Builds a format, boots it with some options, and returns the console.
fn boots(format: &str, ending: &str, disk: &str, options: &[&str]) -> Option<String> {
    let _turn = turn()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    build_as(&manifest(folder.path(), disk), folder.path(), &["--format", format]);
    let mut image = folder.path().join(format!("roots{ending}"));
    if options.contains(&STICK) {
        image = as_disk(&image);
    } else if format == "raw" {
        OpenOptions::new().write(true).open(&image).unwrap().set_len(512 << 20).unwrap();
    }
    let qemu = large_sectors(folder.path());
    let mut words: Vec<&str> = options.iter().copied().filter(|word| *word != STICK).collect();
    if disk.contains("4096") {
        words.extend(["--qemu", qemu.as_str()]);
    }
    let (code, said) = Guest::start(&image, &words).end();
    assert_eq!(code, Some(0), "{said}");
    in_order(&said, &["nothing writes to the root"]);
    Some(said)
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

/// The size of /var in MiB.
fn size_of_var(said: &str) -> u32 {
    let size = said.split("/var has ").nth(1).and_then(|rest| rest.split(' ').next());
    size.and_then(|size| size.parse().ok()).unwrap_or_else(|| panic!("expected a size\n{said}"))
}

#[test]
fn a_squashfs_root_boots_by_uefi() {
    let Some(said) = boots("raw", ".img", "{root: squashfs}", &["--uefi"]) else { return };
    in_order(&said, &["mounted / squashfs ro", "mounted /var tmpfs rw"]);
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
        .arg(manifest(folder.path(), disk))
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
