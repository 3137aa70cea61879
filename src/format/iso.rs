//! `iso-bios`, `iso-efi`, `iso-efi-initrd`, `iso`: discs to boot from, which
//! are disks to boot from on a USB stick. The root is in the initrd.

use anyhow::Result;

use super::identity::identity;
use super::machine::{firmware, whole};
use super::{Format, Output, loader};
use crate::boot::{self, DiscOptions, Firmware};
use crate::disk::Guid;
use crate::system::System;
use crate::tree::Tree;

/// Name of the volume.
const VOLUME: &str = "MOBY";

pub(super) const BIOS: Format = Format {
    name: "iso-bios",
    about: "a disc for a BIOS",
    files: &[".iso"],
    single: false,
    loaders: loader::BIOS_DISC,
    write: |system, output| write(system, output, Firmware::Bios, ".iso"),
};

pub(super) const EFI: Format = Format {
    name: "iso-efi",
    about: "a disc for UEFI",
    files: &["-efi.iso"],
    single: false,
    loaders: loader::EFI,
    write: |system, output| write(system, output, Firmware::Efi, "-efi.iso"),
};

pub(super) const EFI_INITRD: Format = Format {
    name: "iso-efi-initrd",
    about: "the same by the name that LinuxKit gives it",
    files: &["-efi-initrd.iso"],
    single: false,
    loaders: loader::EFI,
    write: |system, output| write(system, output, Firmware::Efi, "-efi-initrd.iso"),
};

pub(super) const BOTH: Format = Format {
    name: "iso",
    about: "a disc or USB stick for BIOS and UEFI",
    files: &[".iso"],
    single: false,
    loaders: loader::DISC,
    write: |system, output| write(system, output, Firmware::Both, ".iso"),
};

fn write(system: &System, output: &mut Output<'_>, wanted: Firmware, ending: &str) -> Result<()> {
    let start = whole(system, output)?;
    let wanted = firmware(wanted, start.machine)?;
    let id = Guid::derive(identity(&system.tree)?.bytes(), "disc");
    let options = DiscOptions::new(VOLUME, id);
    let image = boot::disc(wanted, &output.options.loaders, &start, &Tree::new(), &options)?;
    output.image(ending, &image)
}
