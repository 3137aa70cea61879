//! Formats that are archives of other things, and options of single files:
//! held against the tools that people import them with.

#![allow(clippy::print_stderr, reason = "what was skipped is told")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use moby::inspect::target::{self, Target};
use moby::oci::Digest;
use moby::store::{Entry, EntryKind, read_entries};
use support::{builds_packages, have, layout, package_cache, succeed};

/// A system made by hand, and a cache that knows its images.
struct Made {
    place: tempfile::TempDir,
}

impl Made {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a folder");
        let manifest = layout::system(&place.path().join("layout"), 200_000);
        fs::write(place.path().join("made.yml"), manifest).expect("the manifest");
        let made = Self { place };
        succeed(made.moby().args(["cache", "import"]).arg(made.path("layout")));
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn moby(&self) -> Command {
        let mut command = support::moby(self.place.path());
        command.current_dir(self.place.path()).arg("--cache").arg(self.path("cache"));
        command
    }

    fn build(&self, words: &[&str]) -> Command {
        let mut command = self.moby();
        command.args(["build", "--no-sbom"]).args(words);
        command
    }
}

/// The entries of an archive by path, without what differs between two
/// archives of one tree: where contents lie, which name of a file is the first.
fn entries(tar: &[u8]) -> BTreeMap<String, String> {
    let entries = read_entries(&mut &tar[..]).expect("a tar archive");
    let by_path: BTreeMap<&[u8], &Entry> =
        entries.iter().map(|entry| (entry.path.as_slice(), entry)).collect();
    let told = |entry: &Entry| {
        let mut first = entry;
        while let EntryKind::HardLink(target) = &first.kind {
            first = by_path[target.as_slice()];
        }
        let kind = match &first.kind {
            EntryKind::File { len, digest, .. } => format!("file {len} {digest}"),
            other => format!("{other:?}"),
        };
        format!("{kind} {:o} {} {} {}", first.mode, first.uid, first.gid, first.mtime)
    };
    let path = |entry: &Entry| String::from_utf8_lossy(&entry.path).into_owned();
    entries.iter().map(|entry| (path(entry), told(entry))).collect()
}

#[test]
fn an_oci_image_is_the_tree_again() {
    let made = Made::new();
    succeed(&mut made.build(&["--format", "oci,kernel+initrd", "made.yml"]));
    succeed(&mut made.build(&["--format", "tar", "made.yml"]));
    let again = "init: [\"oci:made.oci.tar\"]\n";
    fs::write(made.path("again.yml"), again).expect("a manifest");
    succeed(&mut made.build(&["--format", "tar", "again.yml"]));
    let whole = entries(&fs::read(made.path("made.tar")).expect("an archive"));
    let mut laid = entries(&fs::read(made.path("again.tar")).expect("an archive"));
    // Folders that are only in some path have no entry in a tar of ours.
    laid.retain(|path, told| whole.contains_key(path) || !told.starts_with("Directory"));
    assert!(whole.len() > 20, "{whole:?}");
    assert_eq!(laid, whole);
    if have("skopeo") {
        judge_layout(&made);
    }
}

#[test]
fn a_changed_file_makes_one_layer_of_an_oci_image() {
    let made = Made::new();
    let kept = || support::names(&made.path("cache/derived/oci-layer-1")).len();
    succeed(&mut made.build(&["--format", "oci", "made.yml"]));
    let before = kept();
    let manifest = fs::read_to_string(made.path("made.yml")).expect("the manifest");
    fs::write(made.path("made.yml"), manifest.replace("hello", "goodbye")).expect("a manifest");
    succeed(&mut made.build(&["--format", "oci", "made.yml"]));
    assert_eq!(kept(), before + 1);
}

fn judge_layout(made: &Made) {
    let skopeo = |words: &[&str]| {
        let mut command = Command::new("skopeo");
        command.current_dir(made.place.path()).args(words);
        String::from_utf8(succeed(&mut command).stdout).expect("text of UTF-8")
    };
    let told = skopeo(&["inspect", "--config", "oci-archive:made.oci.tar"]);
    for part in ["kernel from", "init[0] from", "services[0] from", "moby build: files"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // It checks every digest on the way, those of what is unpacked as well.
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    fs::write(made.path("policy.json"), policy).expect("a file");
    let copy = ["--policy", "policy.json", "copy", "--dest-compress-format", "gzip"];
    skopeo(&[&copy[..], &["oci-archive:made.oci.tar:made", "dir:copied"]].concat());
    skopeo(&[&copy[..], &["oci-archive:made.oci.tar", "oci:layout2:made"]].concat());
}

#[test]
fn one_file_goes_anywhere() {
    let made = Made::new();
    succeed(&mut made.build(&["--format", "oci", "made.yml"]));
    let file = fs::read(made.path("made.oci.tar")).expect("a file");
    let name = ["--name", "made"];
    // The name of a build stands in it, whatever its file is called.
    succeed(&mut made.build(&["--format", "oci", "-o", "other/name", "made.yml"]));
    assert_eq!(fs::read(made.path("other/name")).expect("a file"), file, "{name:?}");
    let printed = succeed(&mut made.build(&["--format", "oci", "--output", "-", "made.yml"]));
    assert!(printed.stdout == file);
    let device = succeed(&mut made.build(&["--format", "oci", "-o", "/dev/stdout", "made.yml"]));
    assert!(device.stdout == file);
    for (formats, told) in [("kernel+initrd", "NAME-initrd.img"), ("oci,uki", "one format")] {
        let output = support::run(&mut made.build(&["--format", formats, "-o", "x", "made.yml"]));
        assert_eq!(output.status.code(), Some(2));
        assert!(support::stderr(&output).contains(told), "{}", support::stderr(&output));
    }
}

#[test]
fn a_machine_to_import_is_whole() {
    if !builds_packages() {
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let minimal = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/minimal.yml");
    let mut build = Command::new(env!("CARGO_BIN_EXE_moby"));
    build.current_dir(place.path()).arg("--cache").arg(package_cache());
    build.args(["build", "--format", "ova,qcow2,raw", "--qcow2-compression", "zlib:1"]);
    succeed(build.arg(minimal));
    judge_machine(place.path());
    if have("qemu-img") {
        let qemu = |words: &[&str]| {
            let mut command = Command::new("qemu-img");
            succeed(command.current_dir(place.path()).args(words));
        };
        qemu(&["check", "minimal.qcow2"]);
        qemu(&["compare", "minimal.qcow2", "minimal.img"]);
        let len = |name: &str| fs::metadata(place.path().join(name)).expect("a file").len();
        assert!(len("minimal.qcow2") < len("minimal.img"));
    }
}

/// A kernel's package of next to nothing: the head of an arm64 image, and
/// device trees by the names that matter.
fn kernel_package(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let mut image = layout::noise(4, 100_000);
    image[..2].copy_from_slice(b"MZ");
    image[56..60].copy_from_slice(b"ARM\x64");
    fs::write(folder.join("image"), image).expect("a file");
    let tree = |tar: layout::Tar, name: &str| {
        tar.file(&format!("usr/lib/linux-image-6/broadcom/{name}.dtb"), name.as_bytes())
    };
    let names = ["bcm2837-rpi-3-b", "bcm2711-rpi-4-b", "bcm2712-rpi-5-b"];
    let tar = names.iter().fold(layout::Tar::new(), |tar, name| tree(tar, name));
    fs::write(folder.join("modules"), tar.end()).expect("a file");
    let recipe = "image: card-kernel\narches: [arm64]\nbuilder:\n  files:\n    \
        - { source: image, path: /kernel }\n    - { source: modules, path: /kernel.tar }\n";
    fs::write(folder.join("build.yml"), recipe).expect("a file");
}

#[test]
fn a_card_has_what_a_raspberry_pi_starts_from() {
    if !builds_packages() {
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    kernel_package(&place.path().join("kernel"));
    let manifest = "kernel:\n  image: \"@pkg:kernel\"\nfiles:\n  - path: boot/config.txt\n    \
        contents: dtparam=audio=on\n  - path: init\n    contents: init\n    mode: \"0755\"\n";
    fs::write(place.path().join("card.yml"), manifest).expect("the manifest");
    let build = |words: &[&str], threads: &str| {
        let mut build = Command::new(env!("CARGO_BIN_EXE_moby"));
        build.current_dir(place.path()).arg("--cache").arg(package_cache());
        build.env("RAYON_NUM_THREADS", threads).args(["build", "--format", "rpi"]);
        build.args(words).arg("card.yml");
        build
    };
    let refused = support::run(&mut build(&["--arch", "amd64"], "1"));
    assert_eq!(refused.status.code(), Some(2), "{}", support::stderr(&refused));
    succeed(&mut build(&["--arch", "arm64"], "1"));
    succeed(&mut build(&["--arch", "arm64", "--dir", "again"], "3"));
    // As the firmware of a Raspberry Pi 3 finds it.
    let path = place.path().join("card-rpi.img");
    assert_eq!(target::target(&path).expect("a card"), Some(Target::Raspberry));
    let found = target::card(&path, &["bcm2837-rpi-3-b.dtb"]).expect("what it starts");
    assert!(found.kernel.len() == 100_000 && found.initrd.is_some());
    assert!(found.cmdline.contains("console=ttyS1"), "{}", found.cmdline);
    let card = fs::read(&path).expect("a file");
    assert!(card == fs::read(place.path().join("again/card-rpi.img")).expect("a file"));
    if have("sfdisk") {
        let table = ["--json", "card-rpi.img"];
        let told = succeed(Command::new("sfdisk").current_dir(place.path()).args(table)).stdout;
        let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
        let partition = &told["partitiontable"]["partitions"][0];
        assert_eq!((&partition["start"], &partition["type"]), (&2048.into(), &"c".into()));
    }
    let on_disk = format!("{manifest}disk:\n  root: erofs\n");
    fs::write(place.path().join("card.yml"), on_disk).expect("the manifest");
    succeed(&mut build(&["--arch", "arm64", "--name", "root"], "2"));
    judge_root(&fs::read(place.path().join("root-rpi.img")).expect("a file"));
    fs::write(place.path().join("boot.img"), &card[1 << 20..]).expect("a file");
    if have("fsck.fat") {
        succeed(Command::new("fsck.fat").current_dir(place.path()).args(["-n", "boot.img"]));
    }
    if have("mdir") {
        let list = ["-i", "boot.img", "-b", "::/"];
        let told = succeed(Command::new("mdir").current_dir(place.path()).args(list)).stdout;
        let told = String::from_utf8(told).expect("text");
        for name in [
            "bootcode.bin",
            "start.elf",
            "fixup.dat",
            "start4.elf",
            "fixup4.dat",
            "kernel8.img",
            "initrd.img",
            "config.txt",
            "cmdline.txt",
            "bcm2710-rpi-3-b.dtb",
            "bcm2711-rpi-4-b.dtb",
            "bcm2712-rpi-5-b.dtb",
        ] {
            assert!(told.lines().any(|line| line == format!("::/{name}")), "{name}: {told}");
        }
    }
}

/// Looks for a root on the second partition, and for its name on the first.
fn judge_root(card: &[u8]) {
    let number = |at: usize| u32::from_le_bytes(card[at..at + 4].try_into().expect("4 bytes"));
    let (id, first) = (number(440), number(446 + 16 + 8) as usize * 512);
    // The magic number of erofs, 1024 bytes from its beginning.
    assert_eq!(&card[first + 1024..first + 1028], &0xe0f5_e1e2_u32.to_le_bytes());
    let wanted = format!("root=PARTUUID={id:08x}-02 rootfstype=erofs");
    assert!(card.windows(wanted.len()).any(|part| part == wanted.as_bytes()), "{wanted}");
}

/// Holds a virtual machine against the rules of its specification: "Distribution
/// as a Single File" of DSP0243.
fn judge_machine(place: &Path) {
    let ova = fs::read(place.join("minimal.ova")).expect("a file");
    let entries = read_entries(&mut &ova[..]).expect("a tar archive");
    let names: Vec<&str> =
        entries.iter().map(|entry| std::str::from_utf8(&entry.path).expect("a name")).collect();
    assert_eq!(names, ["minimal.ovf", "minimal.mf", "minimal-disk1.vmdk"]);
    // Plain ustar: no header of another type is between the files.
    assert!(entries.iter().all(|entry| matches!(entry.kind, EntryKind::File { .. })));
    assert_eq!(&ova[257..265], b"ustar\x0000");
    let contents: Vec<&[u8]> = entries
        .iter()
        .map(|entry| match entry.kind {
            EntryKind::File { offset, len, .. } => {
                &ova[offset as usize..][..usize::try_from(len).expect("a length")]
            }
            _ => &[],
        })
        .collect();
    let told = std::str::from_utf8(contents[1]).expect("text");
    let line = |at: usize| format!("SHA256({})= {}\n", names[at], Digest::of(contents[at]).hex());
    assert_eq!(told, line(0) + &line(2));
    let text = std::str::from_utf8(contents[0]).expect("text");
    assert!(text.contains(&format!("ovf:size=\"{}\"", contents[2].len())), "{text}");
    fs::write(place.join("minimal.ovf"), text).expect("a file");
    fs::write(place.join("minimal-disk1.vmdk"), contents[2]).expect("a file");
    if have("python3") {
        let code = "import sys, xml.dom.minidom as m; m.parse('minimal.ovf')";
        succeed(Command::new("python3").current_dir(place).args(["-c", code]));
    }
    if have("qemu-img") {
        let check = ["check", "minimal-disk1.vmdk"];
        succeed(Command::new("qemu-img").current_dir(place).args(check));
    }
}
