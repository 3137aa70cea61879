//! `raw-bios`, `raw-efi`, `raw`: disks byte for byte, divided by GPT.
//!
//! A BIOS starts SYSLINUX, UEFI a unified kernel image; where both have to
//! start, kernel and initrd lie on the disk once.

use anyhow::Result;

use super::{Format, Output, disk, loader};
use crate::boot::Firmware;
use crate::system::System;

pub(super) const BIOS: Format = Format {
    name: "raw-bios",
    about: "a disk for a BIOS",
    files: &["-bios.img"],
    single: false,
    loaders: loader::BIOS_DISK,
    write: |system, output| write(system, output, Firmware::Bios, "-bios.img"),
};

pub(super) const EFI: Format = Format {
    name: "raw-efi",
    about: "a disk for UEFI",
    files: &["-efi.img"],
    single: false,
    loaders: loader::EFI,
    write: |system, output| write(system, output, Firmware::Efi, "-efi.img"),
};

pub(super) const BOTH: Format = Format {
    name: "raw",
    about: "a disk for BIOS and UEFI",
    files: &[".img"],
    single: false,
    loaders: loader::DISK,
    write: both,
};

fn write(system: &System, output: &mut Output<'_>, firmware: Firmware, ending: &str) -> Result<()> {
    let disk = disk::plan(system, output, firmware, None)?;
    output.image(ending, &disk.image)
}

fn both(system: &System, output: &mut Output<'_>) -> Result<()> {
    let disk = disk::own(system, output)?;
    output.image(".img", &disk.image)
}
