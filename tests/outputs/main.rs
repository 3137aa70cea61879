//! Whole outputs: every format of one small system before the programs of
//! others, and what becomes of outputs that do not fit or are cut off.
//!
//! The system is made here; boot loaders come from the cache that the tests
//! of packages share. Where there is no archive, all of it is left out.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may, and tells what it skips")]

mod broken;
mod compressed;
mod judge;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use moby::format::{FORMATS, Format};
use moby::oci::Platform;
use support::{builds_packages, layout, package_cache, succeed};

/// A folder with a manifest, for builds with the shared cache.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A system of three images of `size` bytes each; `None` where loaders
    /// cannot be brought.
    fn new(size: usize) -> Option<Self> {
        if !builds_packages() {
            return None;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let manifest = layout::system(&folder.path().join("layout"), size);
        let bench = Self { folder };
        bench.put("small.yml", &manifest);
        bench.bring_loaders();
        succeed(bench.moby().args(["cache", "import", "layout"]));
        Some(bench)
    }

    /// Fills the bench's own cache by links from the shared one, which has
    /// the boot loaders from the first test on.
    fn bring_loaders(&self) {
        static SHARED: Mutex<bool> = Mutex::new(false);
        let mut brought = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, shared) = (self.path("cache"), package_cache());
        if !*brought {
            let layout = self.path("layout");
            succeed(self.with_cache(&shared).args(["cache", "import"]).arg(layout));
            for format in ["iso", "raw"] {
                let out = self.path("loaders");
                let mut build = self.with_cache(&shared);
                build.args(["build", "--format", format, "--dir"]).arg(out).arg("small.yml");
                succeed(&mut build);
            }
            *brought = true;
        }
        succeed(Command::new("cp").arg("-al").arg(&shared).arg(&own));
    }

    fn with_cache(&self, cache: &Path) -> Command {
        let mut command = support::moby(self.folder.path());
        command.current_dir(self.folder.path()).arg("--cache").arg(cache);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn moby(&self) -> Command {
        self.with_cache(&self.path("cache"))
    }

    fn build(&self, format: &str, out: &Path) -> Command {
        let mut command = self.moby();
        command.args(["build", "--format", format, "--dir"]).arg(out).arg("small.yml");
        command
    }
}

/// The formats for the machine that the made system is for.
fn formats() -> impl Iterator<Item = &'static Format> {
    let platform: Platform = "linux/amd64".parse().unwrap();
    FORMATS.iter().filter(move |format| format.is_for(&platform))
}

#[test]
fn every_format_satisfies_its_judges() {
    let Some(bench) = Bench::new(300_000) else { return };
    for format in formats() {
        let out = bench.path(format.name);
        succeed(&mut bench.build(format.name, &out));
        let mut judged = Vec::new();
        for name in support::names(&out).iter().filter(|name| !name.ends_with(".lock")) {
            judged.extend(judge::whole(&out.join(name)));
        }
        eprintln!("{}: {}", format.name, judged.join(", "));
        assert!(!judged.is_empty(), "{}: nobody judged it", format.name);
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn disks_of_other_kinds_satisfy_their_judges() {
    let Some(bench) = Bench::new(300_000) else { return };
    let manifest = fs::read_to_string(bench.path("small.yml")).unwrap();
    let cases = [
        ("raw-efi", "sector: 4096"),
        ("raw-bios", "table: mbr"),
        ("raw", "root: squashfs"),
        ("raw", "root: ext4"),
        ("qcow2", "{size: 200M, root: erofs}"),
        ("raw", "root: initrd"),
    ];
    for (format, disk) in cases {
        let disk = disk.strip_prefix('{').map_or(format!("{{{disk}}}"), |rest| format!("{{{rest}"));
        bench.put("small.yml", &format!("{manifest}disk: {disk}\n"));
        let out = bench.path("out");
        succeed(&mut bench.build(format, &out));
        for name in support::names(&out).iter().filter(|name| !name.ends_with(".lock")) {
            let judged = judge::whole(&out.join(name));
            eprintln!("{format} {disk}: {}", judged.join(", "));
            assert!(!judged.is_empty());
        }
        fs::remove_dir_all(&out).unwrap();
    }
}
