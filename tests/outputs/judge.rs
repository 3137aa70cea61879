//! Finds out what a file is by its bytes, and hands it, and all that is in
//! it, to the programs that know it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use moby::disk;
use moby::fs::Extents;

use crate::support::{have, initrd, names};

/// Judges a file; tells by whom.
pub(crate) fn whole(path: &Path) -> Vec<String> {
    let head = Head::of(path);
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let inner = scratch.path().join("inner");
    if head.has(0, &[0x1f, 0x8b]) {
        let gzip = "gzip -dc \"$0\" | dd of=\"$1\" bs=1M conv=sparse status=none";
        return unpacked("gzip", &["sh", "-c", gzip], path, &inner);
    }
    if head.has(0, b"\xfd7zXZ\0") {
        let xz = "xz -dc \"$0\" | dd of=\"$1\" bs=1M conv=sparse status=none";
        return unpacked("xz", &["sh", "-c", xz], path, &inner);
    }
    if head.has(257, b"ustar") {
        return archive(path, &inner);
    }
    for (at, magic, format, checks) in [
        (0, &b"QFI\xfb"[..], "qcow2", true),
        (0, b"KDMV", "vmdk", true),
        (0, b"vhdxfile", "vhdx", true),
        (head.len.saturating_sub(512), b"conectix", "vpc", false),
    ] {
        if head.has(at, magic) {
            return virtual_disk(path, format, checks, &inner);
        }
    }
    if head.has(32_769, b"CD001") {
        return [disc(path), raw(path, &head)].concat();
    }
    if head.has(0, b"MZ") && head.has(head.u32(60).into(), b"PE\0\0") {
        return program(path);
    }
    if head.has(510, &[0x55, 0xaa]) {
        return [raw(path, &head), fat(path, &head)].concat();
    }
    if head.has(0, b"hsqs") {
        return told("unsquashfs", &["-strict-errors", "-lls"], path, &[]);
    }
    if head.has(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) {
        return told("fsck.erofs", &["--extract"], path, &[]);
    }
    if head.has(1080, &[0x53, 0xef]) {
        return told("e2fsck", &["-fn"], path, &[]);
    }
    if head.has(0, &[0x28, 0xb5, 0x2f, 0xfd]) || head.has(0, b"0707") {
        return root(path, &inner);
    }
    Vec::new()
}

/// A file's bytes at known places.
struct Head {
    file: File,
    len: u64,
}

impl Head {
    fn of(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        Self { file, len }
    }

    fn has(&self, at: u64, bytes: &[u8]) -> bool {
        let mut found = vec![0; bytes.len()];
        self.file.read_exact_at(&mut found, at).is_ok() && found == bytes
    }

    fn u32(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, at).map_or(0, |()| u32::from_le_bytes(bytes))
    }
}

/// Runs a program on a file: it must be content and say none of some words.
fn told(program: &str, words: &[&str], path: &Path, bad: &[&str]) -> Vec<String> {
    said(program, words, path, bad).map(|_| program.to_owned()).into_iter().collect()
}

fn said(program: &str, words: &[&str], path: &Path, bad: &[&str]) -> Option<String> {
    if !have(program) {
        return None;
    }
    let done = Command::new(program).args(words).arg(path).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    let good = done.status.success() && !bad.iter().any(|word| text.contains(word));
    assert!(good, "{program} {words:?} {}: {text}", path.display());
    Some(text)
}

fn unpacked(name: &str, words: &[&str], path: &Path, inner: &Path) -> Vec<String> {
    let done = Command::new(words[0]).args(&words[1..]).args([path, inner]).status().unwrap();
    assert!(done.success(), "{words:?}");
    [vec![name.to_owned()], whole(inner)].concat()
}

/// Unpacks an archive and judges what is in it.
fn archive(path: &Path, inner: &Path) -> Vec<String> {
    fs::create_dir(inner).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--exclude=dev/*", "--no-same-owner", "-xSf"]).arg(path).arg("-C").arg(inner);
    let done = tar.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut judged = vec!["tar".to_owned()];
    for name in names(inner) {
        if inner.join(&name).is_file() {
            judged.extend(whole(&inner.join(name)));
        }
    }
    judged
}

/// Checks a virtual disk, holds our reader against QEMU's, and judges the
/// disk that is in it.
fn virtual_disk(path: &Path, format: &str, checks: bool, inner: &Path) -> Vec<String> {
    let mut judged = Vec::new();
    if checks {
        judged.extend(told("qemu-img", &["check", "-q", "-f", format], path, &[]));
    }
    let file = Arc::new(File::open(path).unwrap());
    let opened = disk::open(&file, inner.parent().unwrap()).unwrap();
    opened.image.write_file(&File::create(inner).unwrap()).unwrap();
    let words = ["compare", "-q", "-f", format, "-F", "raw", path.to_str().unwrap()];
    judged.extend(told("qemu-img", &words, inner, &[]));
    [judged, raw(inner, &Head::of(inner))].concat()
}

/// Judges a partition table, if there is one, and what is on the partitions.
fn raw(path: &Path, head: &Head) -> Vec<String> {
    let image = Extents::of_file(&Arc::new(File::open(path).unwrap())).unwrap();
    let Some(table) = disk::read(&image).unwrap() else { return Vec::new() };
    let sector = table.sector.to_string();
    let mut judged = told("fdisk", &["-b", &sector, "-l"], path, &["corrupt", "overlap"]);
    if table.gpt && table.sector == 512 {
        let text = said("sgdisk", &["-v"], path, &["Problem"]);
        judged.extend(text.map(|text| {
            assert!(text.contains("No problems found"), "{text}");
            "sgdisk".to_owned()
        }));
    }
    if head.has(32_769, b"CD001") && !table.gpt {
        return judged;
    }
    for partition in &table.partitions {
        let part = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        image.slice(partition.range.clone()).unwrap().write_file(part.as_file()).unwrap();
        // Not the disc that a partition of a hybrid one may be.
        if !Head::of(part.path()).has(32_769, b"CD001") {
            judged.extend(whole(part.path()));
        }
    }
    judged
}

/// Judges a FAT volume.
fn fat(path: &Path, head: &Head) -> Vec<String> {
    let fat = [54, 82].iter().any(|at| head.has(*at, b"FAT"));
    if fat { told("fsck.fat", &["-n"], path, &[]) } else { Vec::new() }
}

/// Judges a disc, and tells which firmware starts it.
fn disc(path: &Path) -> Vec<String> {
    if !have("xorriso") {
        return Vec::new();
    }
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-abort_on", "WARNING", "-indev"]).arg(path);
    xorriso.args(["-report_el_torito", "plain", "-report_system_area", "plain"]);
    let done = xorriso.args(["-check_media", "--"]).output().unwrap();
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    let bad = ["FAILURE", "SORRY", "WARNING"].iter().any(|word| text.contains(word));
    assert!(done.status.success() && !bad, "{text}");
    let mut judged = vec!["xorriso".to_owned()];
    for (wanted, firmware) in [("BIOS  y", "El Torito (BIOS)"), ("UEFI  y", "El Torito (UEFI)")] {
        if text.contains(wanted) {
            judged.push(firmware.to_owned());
        }
    }
    judged
}

/// Judges an EFI program: one that is not signed, and that binutils read.
fn program(path: &Path) -> Vec<String> {
    let mut judged = told("objdump", &["-h"], path, &["truncated", "corrupt", "not recognized"]);
    if have("sbverify") {
        let done = Command::new("sbverify").arg("--list").arg(path).output().unwrap();
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(text.contains("No signature table present"), "{text}");
        assert!(!text.contains("warning") && !text.contains("gap"), "{text}");
        judged.push("sbverify".to_owned());
    }
    judged
}

/// Judges an initial root by the archives that are in it.
fn root(path: &Path, inner: &Path) -> Vec<String> {
    let plain = initrd::plain(&fs::read(path).unwrap());
    fs::write(inner, plain).unwrap();
    let script = "cpio -t --quiet <\"$0\"";
    let done = Command::new("sh").args(["-c", script]).arg(inner).output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && !done.stdout.is_empty(), "{text}");
    vec!["cpio".to_owned()]
}
