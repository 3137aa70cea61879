//! Hardware acceleration: asked for, or tried with a time-out.
//!
//! `/dev/kvm` may be there and yet hang or break guests, so that looking is
//! not enough: a guest of one sector is started, which has to write its own
//! exit code. What came out is kept until the host boots again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::arguments;
use super::machine::Machine;
use super::process::{Program, Streams};

/// How long a guest of one sector may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The accelerators that QEMU knows on the hosts that we know.
const NAMES: &[&str] = &["kvm", "hvf", "tcg"];

/// An accelerator, and what is to be told of the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accel {
    /// QEMU's name of it.
    pub name: String,
    /// Why it is not the one hoped for.
    pub note: Option<String>,
}

/// What a probe needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// QEMU.
    pub qemu: &'a Path,
    /// The machine to be played.
    pub machine: &'a Machine,
    /// Go's name of the host's architecture.
    pub host: &'a str,
    /// A folder that outlives the run, for the answer.
    pub cache: &'a Path,
}

/// Chooses an accelerator. `wanted` is a name, which is taken as it stands, or
/// LinuxKit's list `kvm:tcg`, whose members are tried; nothing means to try
/// the host's own and fall back to emulation.
pub fn choose(wanted: Option<&str>, probe: Probe<'_>) -> Result<Accel> {
    let own = if cfg!(target_os = "macos") { "hvf" } else { "kvm" };
    let fallback = [own, "tcg"];
    let names: Vec<&str> = match wanted.filter(|wanted| !wanted.is_empty()) {
        Some(wanted) => wanted.split(':').collect(),
        None => fallback.to_vec(),
    };
    if let Some(unknown) = names.iter().find(|name| !NAMES.contains(name)) {
        bail!("unknown accelerator `{unknown}`: expected one of {}", NAMES.join(", "));
    }
    let mut note = None;
    let (last, others) = names.split_last().expect("splitting a text gives at least one part");
    for name in others {
        match remembered(name, probe)? {
            None => return Ok(Accel { name: (*name).to_owned(), note }),
            // A host without the device is not worth a line.
            Some(why) if why.is_empty() => {}
            Some(why) => note = Some(format!("{name} does not work here ({why}): using {last}")),
        }
    }
    Ok(Accel { name: (*last).to_owned(), note })
}

/// Asks the kept answer, or tries and keeps it. Returns why not, or `None` if it works.
fn remembered(name: &str, probe: Probe<'_>) -> Result<Option<String>> {
    if probe.host != probe.machine.go {
        return Ok(Some(String::new()));
    }
    if name == "kvm" && !Path::new("/dev/kvm").exists() {
        return Ok(Some(String::new()));
    }
    if let Some(boot) = boot()
        && let Ok(kept) = fs::read_to_string(kept(name, probe))
        && let Some(why) = kept.strip_prefix(&boot)
    {
        return Ok(Some(why.to_owned()).filter(|why| !why.is_empty()));
    }
    let answer = test(name, probe, &SECTOR, PATIENCE)?;
    keep(name, answer.as_deref().unwrap_or_default(), probe)?;
    Ok(answer)
}

/// Keeps why an accelerator does not work, nothing if it does, until the host
/// boots again. It may pass the test and yet break a guest later.
pub fn keep(name: &str, why: &str, probe: Probe<'_>) -> Result<()> {
    let Some(boot) = boot() else { return Ok(()) };
    let file = kept(name, probe);
    fs::create_dir_all(probe.cache)
        .and_then(|()| fs::write(&file, boot + why))
        .with_context(|| format!("writing {}", file.display()))
}

/// Only Linux has an id of the boot; elsewhere nothing is kept.
fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

fn kept(name: &str, probe: Probe<'_>) -> PathBuf {
    probe.cache.join(format!("accel-3-{name}-{}", probe.machine.arch))
}

/// Enters protected mode, returns from an interrupt there, writes 0x21 to the
/// debug port and waits for the end. Some hosts' KVM starts a guest and then
/// knows no such `iret`, on which every BIOS boot loader relies.
#[rustfmt::skip]
const SECTOR: [u8; 94] = [
    // cli; xor ax, ax; mov ds, ax; lgdt [0x7c58]
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0x0f, 0x01, 0x16, 0x58, 0x7c,
    // mov eax, cr0; or al, 1; mov cr0, eax; jmp 8:0x7c1b
    0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x1b, 0x7c, 0, 0, 8, 0,
    // Of 32 bits from here. mov ax, 16; mov ds, ax; mov ss, ax; mov esp, 0x7000
    0x66, 0xb8, 0x10, 0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0, 0x70, 0, 0,
    // pushf; push 8; push 0x7c31; iret
    0x9c, 0x6a, 8, 0x68, 0x31, 0x7c, 0, 0, 0xcf,
    // mov dx, 0xf4; mov al, 0x21; out dx, al; cli; hlt; jmp -4
    0x66, 0xba, 0xf4, 0, 0xb0, 0x21, 0xee, 0xfa, 0xf4, 0xeb, 0xfc, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0,
    // At 0x7c48: code and data, each of all memory; at 0x7c58: the table, at 0x7c40.
    0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0, 0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0,
    23, 0, 0x40, 0x7c, 0, 0,
];
/// The device makes (n << 1) | 1 of what it is given.
const SUCCESS: i32 = 0x21 << 1 | 1;

/// Starts the guest in `code` and returns why it failed, or `None`.
fn test(name: &str, probe: Probe<'_>, code: &[u8], patience: Duration) -> Result<Option<String>> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let mut args = vec![
        format!("-accel {name} -cpu {}", arguments::cpu(name, probe.machine.arch)),
        format!("-machine {} -m 32 -nodefaults", probe.machine.machine),
        "-display none -no-reboot".to_owned(),
    ];
    let bios = probe.machine.ide;
    if bios {
        let file = boot_sector(folder.path(), code)?;
        args.push("-device isa-debug-exit,iobase=0xf4,iosize=1".to_owned());
        args.push(format!("-drive format=raw,if=ide,file={}", file.display()));
    } else {
        // No firmware that starts a sector: see at least that it opens.
        args.push("-S -monitor stdio".to_owned());
    }
    let args = args.iter().flat_map(|part| part.split(' ')).map(str::to_owned).collect();
    let mut child = Program::new(probe.qemu, args).spawn(Streams::Piped)?;
    if let Some(mut input) = child.stdin.take() {
        // A QEMU that has ended already has answered by its status.
        let _ = input.write_all(if bios { b"" } else { b"quit\n" });
    }
    let success = if bios { SUCCESS } else { 0 };
    Ok(match wait(&mut child, patience)? {
        Some(status) if status.code() == Some(success) => None,
        Some(status) => Some(format!("a test guest ended with {status}")),
        None => Some(format!("a test guest hung for {} s", patience.as_secs_f32())),
    })
}

fn boot_sector(folder: &Path, code: &[u8]) -> Result<PathBuf> {
    let mut sector = [0; 512];
    sector[..code.len()].copy_from_slice(code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let file = folder.join("sector");
    fs::write(&file, sector).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

/// Waits for a program's end; one that takes longer is killed, and `None` returned.
pub fn wait(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().context("waiting for QEMU")? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill().context("killing QEMU")?;
            // Stuck in the kernel it may not even die: do not wait for that.
            for _ in 0..100 {
                if child.try_wait().context("waiting for QEMU")?.is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::super::{machine, process};
    use super::*;

    fn qemu() -> Option<PathBuf> {
        let search = crate::env::var("PATH")?;
        let found = process::find("qemu-system-x86_64", &search);
        if found.is_none() {
            eprintln!("skipped: qemu-system-x86_64 is not installed");
        }
        found
    }

    #[test]
    fn takes_what_is_forced() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine::find("x86_64").unwrap();
        let qemu = Path::new("/no/such/qemu");
        let probe = Probe { qemu, machine, host: "amd64", cache: folder.path() };
        for name in ["kvm", "tcg"] {
            let accel = choose(Some(name), probe).unwrap();
            assert_eq!(accel, Accel { name: name.into(), note: None });
        }
        assert!(choose(Some("warp"), probe).is_err());
        // Another architecture is always emulated, and that needs no line.
        let other = Probe { host: "arm64", ..probe };
        assert_eq!(choose(None, other).unwrap(), Accel { name: "tcg".into(), note: None });
    }

    #[test]
    fn tries_a_guest() {
        let Some(qemu) = qemu() else { return };
        let folder = tempfile::tempdir().unwrap();
        let machine = machine::find("x86_64").unwrap();
        let probe = Probe { qemu: &qemu, machine, host: "amd64", cache: folder.path() };
        let long = Duration::from_secs(60);
        assert_eq!(test("tcg", probe, &SECTOR, long).unwrap(), None);
        // One that never ends: jmp to itself.
        let hung = test("tcg", probe, &[0xeb, 0xfe], Duration::from_millis(300)).unwrap();
        assert!(hung.unwrap().contains("hung"));
        if cfg!(target_os = "linux") {
            // Linux has no hvf: QEMU refuses, and the answer is kept.
            let accel = choose(Some("hvf:tcg"), probe).unwrap();
            assert_eq!(accel.name, "tcg");
            assert!(accel.note.unwrap().contains("hvf does not work here"));
            let broken = Probe { qemu: Path::new("/no/such/qemu"), ..probe };
            assert!(choose(Some("hvf:tcg"), broken).unwrap().note.is_some());
            // What broke a guest later is not tried again.
            keep("hvf", "it broke", broken).unwrap();
            let note = choose(Some("hvf:tcg"), broken).unwrap().note.unwrap();
            assert!(note.contains("it broke"), "{note}");
        }
    }
}
