//! Systems for arm64, built on this machine and booted in QEMU's: a small one
//! by its kernel and by UEFI, which `moby run` tells by looking.
//!
//! With MOBY_SOAK=true also `examples/minimal.yml` in every way that an arm64
//! machine starts, and the card of `pkg/kernel-rpi/README.md` in QEMU's
//! Raspberry Pi 3, each until its page comes. For these the init is compiled,
//! so that Rust's library for arm64 has to be there.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may, and tells what it did")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use support::guest::{Guest, Turn, build_as, example, free_port, packaged, page, turn};
use support::{have, run, soaks, stderr};

/// Each format of a system, the end of its file's name, and options of `moby run`.
const FORMATS: [(&str, &str); 8] = [
    ("kernel+initrd", ""),
    ("raw-efi", "-efi.img"),
    ("iso-efi", "-efi.iso"),
    ("uki", ".efi"),
    ("raw", ".img"),
    ("qcow2-efi", "-efi.qcow2"),
    ("kernel+squashfs", "-squashfs.img"),
    ("kernel+erofs", "-erofs.img"),
];

/// A system whose init tells the kernel's log of its machine.
const SMALL: &str = r#"
kernel:
  image: "@pkg:PKG/kernel"
  cmdline: "console=ttyAMA0 quiet"
init:
  - "deb:busybox-static"
files:
  - path: init
    mode: "0755"
    contents: |
      #!/usr/bin/busybox sh
      b=/usr/bin/busybox
      $b mkdir -p /dev
      $b mount -t devtmpfs dev /dev
      echo "<3>started on $($b uname -m)" > /dev/kmsg
      $b poweroff -f
"#;

fn packages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg")
}

/// Waits until this test may have the machine; `None` where it cannot run at all.
fn arm_turn() -> Option<Turn> {
    let turn = turn()?;
    let firmware = Path::new("/usr/share/AAVMF/AAVMF_CODE.fd").exists();
    if !firmware {
        eprintln!("skipped: qemu-efi-aarch64 is not installed");
    }
    (have("qemu-system-aarch64") && firmware).then_some(turn)
}

#[test]
fn a_small_system_starts_by_its_kernel_and_by_uefi() {
    let Some(_turn) = arm_turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("small.yml");
    let text = SMALL.replace("PKG", &packages().display().to_string());
    fs::write(&manifest, text).unwrap();
    build_as(&manifest, folder.path(), &["--arch", "arm64", "--format", "kernel+initrd,raw-efi"]);
    for file in ["small", "small-efi.img"] {
        let start = Instant::now();
        let (_, said) = Guest::start(&folder.path().join(file), &[]).end();
        assert!(said.contains("started on aarch64"), "{file}:\n{said}");
        eprintln!("{file}: {:.1} s", start.elapsed().as_secs_f32());
    }
}

/// Builds for arm64; `false` where the init cannot be compiled for it here.
fn builds(manifest: &Path, folder: &Path, format: &str) -> bool {
    let mut build = packaged();
    build.args(["build", "--arch", "arm64", "--dir", ".", "--format", format]).arg(manifest);
    let output = run(build.current_dir(folder));
    let told = stderr(&output);
    let lacking =
        ["expected Rust's standard library", "expected the program `aarch64-linux-gnu-gcc`"];
    if lacking.iter().any(|text| told.contains(text)) {
        eprintln!("skipped: the init cannot be compiled for arm64: {}", told.trim());
        return false;
    }
    assert!(output.status.success(), "{}: {told}", manifest.display());
    true
}

/// Boots an image until its page comes.
fn serves(image: &Path) {
    let (start, port) = (Instant::now(), free_port());
    let mut guest = Guest::start(image, &["--publish", &format!("{port}:80")]);
    let answer = guest.until("its page", |_| page(port));
    assert!(answer.contains("moby assembled"), "{answer}");
    eprintln!("{}: {:.1} s", image.display(), start.elapsed().as_secs_f32());
}

#[test]
fn minimal_serves_its_page_however_it_is_started() {
    if !soaks() {
        return;
    }
    let Some(_turn) = arm_turn() else { return };
    for (format, end) in FORMATS {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        if !builds(&example("minimal"), folder.path(), format) {
            return;
        }
        serves(&folder.path().join(format!("minimal{end}")));
    }
}

#[test]
fn a_raspberry_pi_serves_its_page() {
    if !soaks() {
        return;
    }
    let Some(_turn) = arm_turn() else { return };
    let text = fs::read_to_string(packages().join("kernel-rpi/README.md")).unwrap();
    let (_, text) = text.split_once("```yaml\n").unwrap();
    let (text, _) = text.split_once("```").unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let manifest = folder.path().join("pi.yml");
    let text = text.replace("@pkg:pkg/", &format!("@pkg:{}/", packages().display()));
    fs::write(&manifest, &text).unwrap();
    for root in ["", "disk: {root: initrd}\n"] {
        fs::write(&manifest, format!("{text}{root}")).unwrap();
        if !builds(&manifest, folder.path(), "rpi") {
            return;
        }
        serves(&folder.path().join("pi-rpi.img"));
    }
}
