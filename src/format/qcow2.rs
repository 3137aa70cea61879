//! `qcow2-bios`, `qcow2-efi`, `qcow2`: disks as QEMU's own format has them,
//! uncompressed unless asked for: initrds and roots are compressed already.

use anyhow::Result;

use super::{Format, Output, disk, loader};
use crate::boot::Firmware;
use crate::disk::qcow2;
use crate::fs::Extents;
use crate::system::System;

pub(super) const BIOS: Format = Format {
    name: "qcow2-bios",
    about: "a qcow2 disk for a BIOS",
    files: &[".qcow2"],
    single: false,
    loaders: loader::BIOS_DISK,
    write: |system, output| write(system, output, Firmware::Bios, ".qcow2"),
};

pub(super) const EFI: Format = Format {
    name: "qcow2-efi",
    about: "a qcow2 disk for UEFI",
    files: &["-efi.qcow2"],
    single: false,
    loaders: loader::EFI,
    write: |system, output| write(system, output, Firmware::Efi, "-efi.qcow2"),
};

pub(super) const BOTH: Format = Format {
    name: "qcow2",
    about: "a qcow2 disk for BIOS and UEFI",
    files: &[".qcow2"],
    single: false,
    loaders: loader::DISK,
    write: both,
};

fn write(system: &System, output: &mut Output<'_>, firmware: Firmware, ending: &str) -> Result<()> {
    let disk = disk::plan(system, output, firmware, None)?;
    pack(&disk.image, output, ending)
}

/// Writes a disk as qcow2, compressed as was asked for.
pub(super) fn pack(disk: &Extents, output: &mut Output<'_>, ending: &str) -> Result<()> {
    let store = output.store;
    match output.options.packing.0 {
        None => output.image(ending, &qcow2::plan(disk)?),
        Some(packing) => {
            output.file(ending, |out| qcow2::compress(disk, packing, Some(store), out))
        }
    }
}

fn both(system: &System, output: &mut Output<'_>) -> Result<()> {
    let disk = disk::own(system, output)?;
    pack(&disk.image, output, ".qcow2")
}
