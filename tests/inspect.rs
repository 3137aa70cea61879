//! `moby inspect`, `moby diff` and `moby build --verify` as commands, on a
//! small system of images made by hand.

#![allow(clippy::print_stderr, reason = "what was skipped is told")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::layout;

/// A folder with a cache that has the images of a small system, and its
/// manifest.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Self { folder };
        let manifest = layout::system(&place.path("layout"), 100_000);
        fs::write(place.path("made.yml"), &manifest).expect("the manifest");
        let other = manifest.replace("hello", "good day").replace("ttyS0", "ttyS0 quiet");
        fs::write(place.path("other.yml"), other).expect("the manifest");
        support::succeed(&mut place.moby(&["cache", "import", "layout"]));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn moby(&self, words: &[&str]) -> Command {
        let mut command = support::moby(self.folder.path());
        command.current_dir(self.folder.path()).args(words);
        command
    }

    /// Builds a manifest in all formats that need no boot loader, each in a
    /// folder of its name; gives back what to inspect.
    fn build(&self, manifest: &str) -> Vec<String> {
        let formats = moby::format::FORMATS.iter().filter(|format| format.loaders.is_empty());
        let build = |format: &moby::format::Format| {
            let folder = format!("{manifest}-{}", format.name);
            let file = format!("{manifest}.yml");
            let words = ["build", "--format", format.name, "--dir", &folder, &file];
            support::succeed(&mut self.moby(&words));
            let is_set = format.files.contains(&"-kernel");
            let ending = if is_set { "" } else { format.files[0] };
            format!("{folder}/{manifest}{ending}")
        };
        formats.map(build).collect()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_format_is_looked_into_and_compared() {
    let place = Place::new();
    let images = place.build("made");
    assert!(images.len() > 5, "{images:?}");
    let listing = |image: &str| -> Value {
        let output = support::succeed(&mut place.moby(&["inspect", image, "--files", "--json"]));
        let mut rows = json(&output);
        // Not all formats hold these.
        for row in rows.as_array_mut().expect("rows") {
            row["attributes"] = Value::Null;
        }
        rows
    };
    let first = listing(&images[0]);
    assert!(first.as_array().expect("rows").iter().any(|row| row["path"] == "etc/motd"));
    for image in &images {
        assert_eq!(listing(image), first, "{image}");
        let motd = support::succeed(&mut place.moby(&["inspect", image, "etc/motd"]));
        assert_eq!(text(&motd), "hello", "{image}");
        let overview = text(&support::succeed(&mut place.moby(&["inspect", image])));
        assert!(overview.contains("root in "), "{overview}");
        let equal = support::run(&mut place.moby(&["diff", &images[0], image]));
        assert_eq!(equal.status.code(), Some(0), "{image}: {}", text(&equal));
    }
}

#[test]
fn a_changed_file_is_named() {
    let place = Place::new();
    for manifest in ["made", "other"] {
        let file = format!("{manifest}.yml");
        let words = ["build", "--format", "kernel+initrd,kernel+erofs", &file];
        support::succeed(&mut place.moby(&words));
    }
    fs::rename(place.path("other-initrd.img"), place.path("away")).expect("a file");
    // The one's root is in its initrd, the other's a file system of its own.
    let found = support::run(&mut place.moby(&["diff", "--unified", "made", "other"]));
    assert_eq!(found.status.code(), Some(1), "{}", support::stderr(&found));
    let wanted = "~ etc/motd  size 5 to 8\n    -hello\n    +good day\n\
                  ~ command line\n    + quiet\n\
                  1 file: 0 added, 0 removed, 1 changed\n";
    assert_eq!(text(&found), wanted);
    let found = json(&support::run(&mut place.moby(&["diff", "--json", "made", "other"])));
    assert_eq!(found["equal"], false);
    assert_eq!(found["differences"]["files"][0]["path"], "etc/motd");
    let error = support::run(&mut place.moby(&["diff", "made", "nothing"]));
    assert_eq!(error.status.code(), Some(2));
    assert!(support::stderr(&error).contains("neither nothing nor nothing-kernel exists"));
}

#[test]
fn files_are_taken_out() {
    let place = Place::new();
    support::succeed(&mut place.moby(&["build", "--format", "tar", "made.yml"]));
    support::succeed(&mut place.moby(&["inspect", "made.tar", "--extract", "root"]));
    assert_eq!(fs::read(place.path("root/etc/motd")).expect("a file"), b"hello");
    let again = support::run(&mut place.moby(&["inspect", "made.tar", "--extract", "root"]));
    assert_eq!(again.status.code(), Some(1));
    support::succeed(&mut place.moby(&["inspect", "made.tar", "etc", "--extract", "part"]));
    assert_eq!(support::names(&place.path("part")), ["etc"]);
    let missing = support::run(&mut place.moby(&["inspect", "made.tar", "etc/none"]));
    assert!(support::stderr(&missing).contains("hint: list what is there"));
    let list = text(&support::succeed(&mut place.moby(&["inspect", "made.tar", "etc"])));
    assert!(list.contains("-rw-------  0:0                 5  etc/motd"), "{list}");
}

#[test]
fn a_layout_shows_its_images() {
    let place = Place::new();
    let overview = text(&support::succeed(&mut place.moby(&["inspect", "layout"])));
    for part in ["made/kernel:1", "made/service:1", "layer 2", "linux/amd64"] {
        assert!(overview.contains(part), "{part}: {overview}");
    }
    let words = ["inspect", "layout", "--volume", "image: docker.io/made/service:1", "--files"];
    let list = text(&support::succeed(&mut place.moby(&words)));
    assert!(list.contains("bin/again") && !list.contains("bin/old"), "{list}");
    let export = ["cache", "export", "made/init:1", "--format", "docker", "--output", "saved.tar"];
    support::succeed(&mut place.moby(&export));
    let init = support::succeed(&mut place.moby(&["inspect", "saved.tar", "init"]));
    assert_eq!(init.stdout, layout::noise(2, 100_000));
}

#[test]
fn a_build_is_verified() {
    let place = Place::new();
    let formats = "kernel+initrd,kernel+squashfs,kernel+erofs,tar-kernel-initrd";
    let words = ["build", "--verify", "--format", formats, "made.yml"];
    let built = support::succeed(&mut place.moby(&words));
    let told = support::stderr(&built);
    assert!(told.contains("verified: 6 files came out the same when built again"), "{told}");
    let words = ["build", "--verify", "--format", "tar", "--output", "one.tar", "made.yml"];
    let told = support::stderr(&support::succeed(&mut place.moby(&words)));
    assert!(told.contains("verified: 1 file came out the same"), "{told}");
    // Nothing is left of the second build.
    let left = fs::read_dir(place.path(".cache/moby/tmp")).expect("a folder").count();
    assert_eq!(left, 0);
    let mut piped = place.moby(&["build", "--verify", "--format", "tar", "-"]);
    piped.stdin(fs::File::open(place.path("made.yml")).expect("the manifest"));
    let told = support::stderr(&support::succeed(&mut piped));
    assert!(told.contains("verified: 1 file came out the same"), "{told}");
    let device = support::run(&mut place.moby(&["build", "--verify", "-o", "-", "made.yml"]));
    assert_eq!(device.status.code(), Some(2), "{}", support::stderr(&device));
}

#[test]
fn a_build_that_differs_is_told() {
    let place = Place::new();
    let manifest = fs::read_to_string(place.path("made.yml")).expect("the manifest");
    // A file of the kernel's that is never the same.
    let source = "  - path: etc/now\n    source: /proc/sys/kernel/random/uuid\n";
    fs::write(place.path("odd.yml"), manifest + source).expect("the manifest");
    let formats = "kernel+initrd,kernel+erofs";
    let words = ["build", "--verify", "--initrd-compression", "none", "--format", formats];
    let built = support::run(place.moby(&words).arg("odd.yml"));
    assert_eq!(built.status.code(), Some(1));
    let told = support::stderr(&built);
    for part in [
        "format kernel+initrd, odd-initrd.img: differs from byte ",
        " on (segment 7 of 7 (none))\n  /etc/now: contents\n",
        "format kernel+erofs, odd-erofs.img: differs from byte ",
        "\n  /etc/now: contents\n",
        "error: 2 of 4 files came out different when built again",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn hostile_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    // Nothing; half a partition table; a zip bomb's beginning.
    let mut disk = vec![0; 8192];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[520..].fill(0xff);
    let cases: [(&str, Vec<u8>); 4] = [
        ("nothing", Vec::new()),
        ("disk", disk),
        ("gzip", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff]),
        ("qcow2", [&b"QFI\xfb\0\0\0\x03"[..], &[0xff; 200]].concat()),
    ];
    for (name, bytes) in cases {
        fs::write(path(name), bytes).expect("a file");
        let output = support::run(support::moby(folder.path()).arg("inspect").arg(path(name)));
        assert_eq!(output.status.code(), Some(1), "{name}");
        let told = support::stderr(&output);
        assert!(told.starts_with(&format!("error: inspecting {}", path(name).display())), "{told}");
    }
    let none = support::run(support::moby(Path::new("/")).args(["inspect", "/nowhere/at/all"]));
    assert!(support::stderr(&none).contains("hint: build it first"));
}
