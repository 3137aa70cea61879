//! Large systems: three gigabytes of files, which are built in little memory,
//! and boot and are served in 512 MB, for the root stays on the disk; and a
//! unified kernel image of more than 600 MB, which `moby run` puts on a disk.
//!
//! They take minutes and ten gigabytes of disk: with MOBY_SOAK=true only.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may, and tells what it measured"
)]

mod support;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use moby::oci::Digest;
use support::guest::{Guest, free_port, page, turn};
use support::{package_cache, soaks, succeed};

const MIB: u64 = 1 << 20;
/// Size of a file: they are of noise, which cannot be compressed, and of text.
const SIZE: u64 = 32 * MIB;
/// What the build may take, in KiB.
const BUILD_MEMORY: u64 = 150 * 1024;

/// Numbers that look random and are always the same.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn write_noise(path: &Path, seed: u64) {
    let mut noise = Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    for _ in 0..SIZE / 8 {
        out.write_all(&noise.next().to_le_bytes()).unwrap();
    }
    out.flush().unwrap();
}

fn write_text(path: &Path, seed: u64) {
    const WORDS: [&str; 8] = ["kernel", "root", "image", "layer", "disk", "boot", "file", "page"];
    let mut noise = Noise(seed | 1);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut written = 0;
    while written < SIZE {
        let number = noise.next();
        let word = WORDS[usize::try_from(number % 8).unwrap()];
        let line = format!("{written} {word} {number}\n");
        out.write_all(line.as_bytes()).unwrap();
        written += line.len() as u64;
    }
    out.flush().unwrap();
}

/// Writes the manifest and its files: a web server whose pages are the files.
fn write(folder: &Path, noise: usize, text_files: usize) {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg");
    let packages = packages.display();
    let mut text = format!(
        r#"
kernel:
  image: "@pkg:{packages}/kernel"
  cmdline: "console=ttyS0 quiet mitigations=off no_timer_check"
init:
  - "@pkg:{packages}/init"
  - "@pkg:{packages}/runc"
  - "@pkg:{packages}/containerd"
onboot:
  - name: dhcp
    image: "@pkg:{packages}/udhcpc"
    command: ["/usr/bin/dhcp", "-1"]
services:
  - name: web
    image: "@pkg:{packages}/httpd"
    binds: ["/data:/www:ro"]
    ready: {{tcp: 80}}
disk: {{root: erofs}}
files:
  - {{path: data/index.html, contents: "a large system"}}
"#
    );
    for number in 0..noise + text_files {
        let path = folder.join(format!("part-{number}"));
        let seed = number as u64 + 1;
        if number < noise {
            write_noise(&path, seed)
        } else {
            write_text(&path, seed)
        }
        writeln!(text, "  - {{path: data/part-{number}, source: {}}}", path.display()).unwrap();
    }
    fs::write(folder.join("large.yml"), text).unwrap();
}

/// Builds, and returns the most memory that it took, in KiB. The packages come
/// from the shared cache; the gigabytes do not stay there.
fn build(folder: &Path, format: &str) -> u64 {
    fs::create_dir_all(package_cache()).unwrap();
    succeed(Command::new("cp").arg("-al").arg(package_cache()).arg(folder.join("cache")));
    let mut child = Command::new(env!("CARGO_BIN_EXE_moby"))
        .args(["--cache", "cache", "build", "--format", format, "--dir", ".", "large.yml"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak = now.unwrap_or(peak).max(peak);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return peak;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Fetches a file as the guest serves it.
fn fetch(port: u16, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    answer.split_off(body)
}

#[test]
fn an_efi_program_of_any_size_boots() {
    let Some(_turn) = soaks().then(turn).flatten() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    write(folder.path(), 20, 0);
    build(folder.path(), "uki");
    let image = folder.path().join("large.efi");
    let size = fs::metadata(&image).unwrap().len();
    assert!(size > 600_000_000, "{size}");
    let port = free_port();
    let begun = Instant::now();
    let mut guest = Guest::start(&image, &["--publish", &format!("127.0.0.1:{port}:80")]);
    let answer = guest.until("the page", |_| page(port));
    assert!(answer.ends_with("a large system"), "{answer}");
    eprintln!("an EFI program of {} MiB served after {:?}", size / MIB, begun.elapsed());
    // The disk around it has none of its bytes.
    let frame = fs::metadata(folder.path().join("large.efi-state/esp.img")).unwrap();
    assert!(frame.blocks() * 512 < 4 * MIB, "{} blocks", frame.blocks());
}

#[test]
fn three_gigabytes_boot_in_half_of_one() {
    const NOISE: usize = 64;
    const TEXT: usize = 32;
    let Some(_turn) = soaks().then(turn).flatten() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    write(folder.path(), NOISE, TEXT);
    let begun = Instant::now();
    let peak = build(folder.path(), "raw");
    let took = begun.elapsed();
    let image = folder.path().join("large.img");
    let size = fs::metadata(&image).unwrap().len();
    eprintln!("built {} MiB in {took:?}, with {} MiB of memory", size / MIB, peak / 1024);
    assert!(size > 2 << 30, "{size}");
    assert!(peak < BUILD_MEMORY, "the build took {peak} KiB");
    for firmware in [[].as_slice(), &["--uefi"]] {
        let port = free_port();
        let publish = format!("127.0.0.1:{port}:80");
        let options = [&["--mem", "512", "--publish", &publish], firmware].concat();
        let mut guest = Guest::start(&image, &options);
        let answer = guest.until("the page", |_| page(port));
        assert!(answer.ends_with("a large system"), "{answer}");
        for number in [0, NOISE - 1, NOISE + TEXT - 1] {
            let name = format!("part-{number}");
            let ours = Digest::of(&fs::read(folder.path().join(&name)).unwrap());
            assert_eq!(Digest::of(&fetch(port, &format!("/{name}"))), ours, "{name}");
        }
        eprintln!("served after {:?}", begun.elapsed());
    }
}
