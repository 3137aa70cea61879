//! What is started: a system's kernel with the initrd that its root needs.

use anyhow::{Context, Result, bail};

use super::root::Root;
use super::{Output, initrd, small};
use crate::boot::{Firmware, Machine, Start};
use crate::fs::Extents;
use crate::oci::Platform;
use crate::system::System;
use crate::tree::{Kind, Tree};

/// The largest os-release that is read, in bytes.
const OS_RELEASE_MAX: u64 = 64 << 10;

/// Returns the machine of a platform.
pub(super) fn machine(platform: &Platform) -> Result<Machine> {
    match platform.architecture.as_str() {
        "amd64" => Ok(Machine::Amd64),
        "arm64" => Ok(Machine::Arm64),
        other => bail!("expected the architecture amd64 or arm64, got {other}"),
    }
}

/// Returns the firmware that an image is for: what is for either is for UEFI
/// on machines that never had a BIOS.
pub(super) fn firmware(wanted: Firmware, machine: Machine) -> Result<Firmware> {
    match (wanted, machine) {
        (_, Machine::Amd64) | (Firmware::Efi, _) => Ok(wanted),
        (Firmware::Both, _) => Ok(Firmware::Efi),
        (Firmware::Bios, _) => bail!("expected amd64 for a BIOS, got {machine}"),
    }
}

/// Describes the start of a system whose root is in the initrd.
pub(super) fn whole(system: &System, output: &Output<'_>) -> Result<Start> {
    Ok(Start { initrd: Some(initrd::of_system(system, output)?), ..bare(system)? })
}

/// Describes the start of a system whose root is the partition of an id.
pub(super) fn on_disk(system: &System, output: &Output<'_>, root: Root, id: &str) -> Result<Start> {
    let initrd = small::initrd(system, output.store, output.options.compression)?;
    with_root(system, initrd, root, id)
}

/// Describes the start of a system whose root is a partition of a disc, which
/// no kernel finds by itself.
pub(super) fn on_disc(system: &System, output: &Output<'_>, root: Root, id: &str) -> Result<Start> {
    let initrd = small::whole(system, output.store, output.options.compression)?;
    with_root(system, Some(initrd), root, id)
}

fn with_root(system: &System, initrd: Option<Extents>, root: Root, id: &str) -> Result<Start> {
    let start = bare(system)?;
    let given = start.cmdline.trim();
    let cmdline = format!("{given} root=PARTUUID={id} rootfstype={}", root.name());
    Ok(Start { initrd, cmdline: cmdline.trim().to_owned(), ..start })
}

fn bare(system: &System) -> Result<Start> {
    let kernel = system.kernel.as_ref().context("expected a kernel in the manifest, got none")?;
    Ok(Start {
        machine: machine(&system.platform)?,
        kernel: kernel.image.clone(),
        initrd: None,
        cmdline: kernel.cmdline.clone(),
        release: small::release(&system.tree).unwrap_or_default(),
        os_release: os_release(&system.tree)?,
    })
}

fn os_release(tree: &Tree) -> Result<String> {
    for path in [&b"etc/os-release"[..], b"usr/lib/os-release"] {
        if let Some(Kind::File(text)) = tree.lookup(path).map(|id| &tree.get(id).kind) {
            let text = text.gather(OS_RELEASE_MAX).context("reading os-release")?;
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok("ID=moby\nNAME=moby\nPRETTY_NAME=moby\n".to_owned())
}
