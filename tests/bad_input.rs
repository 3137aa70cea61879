//! What goes wrong ends well: a clear error and exit 1, no half file, the
//! former output as it was, and a cache that the next build can use.
//!
//! A registry's faults are in `registry.rs`; the readers of hostile bytes are
//! fuzzed besides (`tests/fuzz`).

#![allow(clippy::print_stderr, reason = "what was skipped is told")]

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::layout::{self, Layer, Layout, Tar};
use support::{names, stderr};

/// A folder with a layout, a manifest and a cache.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// A bench whose manifest builds, of images of about `size` bytes each.
    fn good(size: usize) -> Self {
        let bench = Self::new();
        let manifest = layout::system(&bench.path("layout"), size);
        bench.put("made.yml", manifest.as_bytes());
        support::succeed(bench.moby().args(["cache", "import", "layout"]));
        bench
    }

    /// A bench whose init is an image of one layer.
    fn layer(layer: Layer) -> Self {
        let bench = Self::new();
        let mut layout = Layout::new(&bench.path("layout"));
        layout.image("docker.io/made/bad:1", &[layer], "{}");
        bench.put("made.yml", b"init:\n  - made/bad:1\n");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("a file");
    }

    fn moby(&self) -> Command {
        let mut command = support::moby(self.folder.path());
        command.current_dir(self.folder.path()).arg("--cache").arg(self.path("cache"));
        command
    }

    fn build(&self, out: &str) -> Command {
        let mut command = self.moby();
        command.args(["build", "--format", "kernel+initrd", "--dir", out, "made.yml"]);
        command
    }

    /// Imports the layout and builds a tar archive of it; the import may fail.
    fn tar(&self) -> Output {
        let import = support::run(self.moby().args(["cache", "import", "layout"]));
        if !import.status.success() {
            return import;
        }
        let mut build = self.moby();
        support::run(build.args(["build", "--format", "tar", "--dir", "out", "made.yml"]))
    }

    fn contents(&self, out: &str) -> Vec<(String, String)> {
        let read = |name: String| {
            let bytes = fs::read(self.path(out).join(&name)).expect("a file that was written");
            (name, layout::digest(&bytes))
        };
        names(&self.path(out)).into_iter().map(read).collect()
    }
}

#[track_caller]
fn failed_well(output: &Output, out: &Path) {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("error: "), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    assert!(!out.exists() || names(out).is_empty(), "left {:?}", names(out));
}

/// Layers that mean harm, and whether they build (the harm left out) or not.
fn hostile() -> Vec<(&'static str, Layer, Option<bool>)> {
    let plain = |tar: Tar| Layer::plain(tar.end());
    let whole = Tar::new().file("bin/tool", &layout::noise(4, 5000)).end();
    let mut bad_sum = whole.clone();
    bad_sum[150] ^= 1;
    let mut cut = Layer::gzip(&whole);
    cut.blob.truncate(cut.blob.len() / 2);
    let mut other = Layer::plain(whole.clone());
    other.diff = layout::digest(b"something else");
    let huge = {
        let mut tar = Tar::new().file("huge", b"").end();
        tar[124..136].copy_from_slice(b"77777777777\0");
        let sum: u32 =
            tar[..148].iter().chain(&tar[156..512]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar
    };
    vec![
        ("dot-dot", plain(Tar::new().file("../../escape", b"x")), None),
        ("inner dot-dot", plain(Tar::new().file("a/../../../escape", b"x")), None),
        ("absolute", plain(Tar::new().file("/absolute", b"x")), None),
        (
            "link out",
            plain(Tar::new().entry("out", b'2', "/tmp", b"").file("out/escape", b"x")),
            None,
        ),
        (
            "hard link out",
            plain(Tar::new().entry("shadow", b'1', "../../etc/shadow", b"")),
            Some(false),
        ),
        ("hard link to nothing", plain(Tar::new().entry("a", b'1', "b", b"")), Some(false)),
        ("hard link to itself", plain(Tar::new().entry("a", b'1', "a", b"")), Some(false)),
        (
            "devices",
            plain(Tar::new().entry("sda", b'4', "", b"").entry("tty", b'3', "", b"")),
            Some(true),
        ),
        ("whiteout of nothing", plain(Tar::new().file(".wh.gone", b"")), Some(true)),
        ("whiteout of the root", plain(Tar::new().file(".wh.", b"")), None),
        ("whiteout of dot-dot", plain(Tar::new().file("a/.wh...", b"")), None),
        ("cut header", Layer::plain(whole[..300].to_vec()), Some(false)),
        ("cut body", Layer::plain(whole[..2000].to_vec()), Some(false)),
        ("wrong checksum", Layer::plain(bad_sum), Some(false)),
        ("stated size", Layer::plain(huge), Some(false)),
        ("cut gzip", cut, Some(false)),
        (
            "no gzip",
            Layer { blob: b"no gzip at all".to_vec(), kind: "tar+gzip", diff: layout::digest(b"") },
            Some(false),
        ),
        ("wrong diff id", other, Some(false)),
        ("deep folders", plain(Tar::new().file(&"d/".repeat(49), b"")), None),
    ]
}

#[test]
fn hostile_layers_do_no_harm() {
    for (name, layer, builds) in hostile() {
        let bench = Bench::layer(layer);
        let output = bench.tar();
        let told = stderr(&output);
        if let Some(expected) = builds {
            assert_eq!(output.status.success(), expected, "{name}: {told}");
        }
        if output.status.success() {
            let file = fs::File::open(bench.path("out/made.tar")).expect("the archive");
            for entry in tar::Archive::new(file).entries().expect("an archive") {
                let path = entry.expect("an entry").path_bytes().into_owned();
                let path = String::from_utf8_lossy(&path).into_owned();
                let safe = !path.starts_with('/') && path.split('/').all(|part| part != "..");
                assert!(safe, "{name}: wrote an entry `{path}`");
            }
        } else {
            eprintln!("{name}: {told}");
            failed_well(&output, &bench.path("out"));
        }
        assert!(!Path::new("/tmp/escape").exists(), "{name}: wrote /tmp/escape");
    }
}

#[test]
fn a_layer_of_many_entries_and_one_that_swells_stay_small_in_memory() {
    let mut many = Tar::new();
    for index in 0..200_000 {
        many = many.file(&format!("f{}/{index}", index % 100), b"");
    }
    let bomb = Tar::new().file("zeros", &vec![0; 256 << 20]).end();
    for (name, layer) in [("entries", Layer::gzip(&many.end())), ("bomb", Layer::gzip(&bomb))] {
        let bench = Bench::layer(layer);
        support::succeed(bench.moby().args(["cache", "import", "layout"]));
        let mut build = Command::new("sh");
        build.current_dir(bench.folder.path()).env_clear().env("HOME", bench.folder.path());
        // Address space, in KiB: the threads' stacks count too.
        build.args(["-c", "ulimit -v 700000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_moby")]);
        build.arg("--cache").arg(bench.path("cache"));
        let output = support::run(build.args(["build", "--format", "tar", "made.yml"]));
        assert!(output.status.success(), "{name}: {}", stderr(&output));
    }
}

#[test]
fn what_is_wrong_with_several_formats_is_told_at_once() {
    let bench = Bench::good(1000);
    let manifest = fs::read_to_string(bench.path("made.yml")).expect("the manifest");
    bench.put("made.yml", format!("{manifest}disk: {{data: {{size: 64M}}}}\n").as_bytes());
    let mut build = bench.moby();
    let formats = "kernel+initrd,kernel+squashfs,kernel+erofs";
    let output =
        support::run(build.args(["build", "--format", formats, "--dir", "out", "made.yml"]));
    failed_well(&output, &bench.path("out"));
    let told = stderr(&output);
    for format in formats.split(',') {
        let error =
            format!("error: writing format {format}\n  caused by: expected a format with a disk");
        assert!(told.contains(&error), "{format}: {told}");
    }
    assert_eq!(told.matches("hint: name one").count(), 1, "{told}");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let bench = Bench::good(1000);
    bench.put("file", b"not a folder");
    for out in ["file", "file/below", "/proc/moby"] {
        let output = support::run(&mut bench.build(out));
        failed_well(&output, Path::new("/nowhere"));
        assert!(stderr(&output).contains(out), "{}", stderr(&output));
    }
    assert_eq!(fs::read(bench.path("file")).expect("the file"), b"not a folder");
}

#[test]
fn a_full_disk_leaves_the_former_output() {
    let bench = Bench::good(500_000);
    support::succeed(&mut bench.build("out"));
    let former = bench.contents("out");
    bench.put("made.yml", b"init:\n  - made/init:1\n  - made/kernel:1\n  - made/service:1\n");
    let mut build = Command::new("sh");
    build.current_dir(bench.folder.path()).env_clear().env("HOME", bench.folder.path());
    // No file above 200 KiB, and a write beyond it fails instead of killing.
    build.args(["-c", "ulimit -f 400; trap '' XFSZ; exec \"$@\"", "sh"]);
    build.arg(env!("CARGO_BIN_EXE_moby")).arg("--cache").arg(bench.path("cache"));
    build.args(["build", "--format", "kernel+initrd", "--dir", "out", "made.yml"]);
    let output = support::run(&mut build);
    failed_well(&output, Path::new("/nowhere"));
    assert_eq!(bench.contents("out"), former);
    support::succeed(&mut bench.build("out"));
}

fn signal(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).expect("a process id");
    // It may be over by now.
    let _ = kill_process(Pid::from_raw(id).expect("a process id"), signal);
}

#[test]
fn an_interrupted_build_leaves_the_former_output() {
    let bench = Bench::good(8 << 20);
    fs::create_dir(bench.path("out")).expect("a folder");
    fs::write(bench.path("out/made-kernel"), b"the former kernel").expect("a file");
    let mut interrupted = false;
    for delay in [30, 60, 120, 20, 200, 40, 400] {
        let mut child = bench.build("out").stderr(Stdio::piped()).spawn().expect("moby");
        std::thread::sleep(Duration::from_millis(delay));
        signal(&child, Signal::INT);
        let status = child.wait().expect("the end of a child");
        if status.success() {
            fs::write(bench.path("out/made-kernel"), b"the former kernel").expect("a file");
            continue;
        }
        interrupted = true;
        break;
    }
    assert!(interrupted, "no build was caught at work");
    assert_eq!(names(&bench.path("out")), ["made-kernel"]);
    assert_eq!(fs::read(bench.path("out/made-kernel")).expect("a file"), b"the former kernel");
    support::succeed(&mut bench.build("out"));
}

#[test]
fn builds_killed_at_any_moment_leave_a_sound_cache() {
    let reference = Bench::good(1 << 20);
    support::succeed(&mut reference.build("out"));
    let expected = reference.contents("out");

    let bench = Bench::new();
    let manifest = layout::system(&bench.path("layout"), 1 << 20);
    bench.put("made.yml", manifest.as_bytes());
    let rounds: u64 = if support::is_soak() { 300 } else { 15 };
    for round in 0..rounds {
        let mut children: Vec<Child> = (0..3)
            .map(|index| {
                let mut command = Command::new("sh");
                command.current_dir(bench.folder.path()).env_clear().env("HOME", bench.folder.path());
                command.args(["-c", "exec 2>&1; \"$1\" --cache cache cache import layout && exec \"$1\" --cache cache build --dir \"$2\" made.yml", "sh"]);
                command.arg(env!("CARGO_BIN_EXE_moby")).arg(format!("out{index}"));
                command.stdout(Stdio::null()).spawn().expect("moby")
            })
            .collect();
        let noise = layout::noise(round + 1, 3);
        for (child, millis) in children.iter_mut().zip(noise) {
            std::thread::sleep(Duration::from_millis(u64::from(millis) / 2));
            signal(child, Signal::KILL);
        }
        for mut child in children {
            child.wait().expect("the end of a child");
        }
        if round % 5 == 0 {
            fs::remove_dir_all(bench.path("cache")).unwrap_or_default();
        }
    }
    support::succeed(bench.moby().args(["cache", "import", "layout"]));
    support::succeed(&mut bench.build("after"));
    assert_eq!(bench.contents("after"), expected);
}

#[test]
fn a_damaged_blob_is_found_and_named() {
    let bench = Bench::new();
    let manifest = layout::system(&bench.path("layout"), 100_000);
    bench.put("made.yml", manifest.as_bytes());
    let folder = bench.path("layout/blobs/sha256");
    let largest = names(&folder)
        .into_iter()
        .max_by_key(|name| fs::metadata(folder.join(name)).expect("a blob").len());
    let largest = largest.expect("a blob");
    let mut file = fs::OpenOptions::new().write(true).open(folder.join(&largest)).expect("a blob");
    file.write_all(b"damaged").expect("a write");
    let output = bench.tar();
    failed_well(&output, &bench.path("out"));
    assert!(stderr(&output).contains(&largest[..12]), "{}", stderr(&output));
}
