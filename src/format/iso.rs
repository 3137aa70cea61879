//! `iso-bios`, `iso-efi`, `iso-efi-initrd`, `iso`: discs to boot from, which
//! are disks to boot from on a USB stick.
//!
//! The root of `iso` is a partition behind the disc's files. A kernel that
//! starts from a USB stick sees it as such; from a CD, which has no partitions
//! to it, PID 1 reads the table itself.

use anyhow::Result;

use super::identity::identity;
use super::machine::{firmware, on_disc, whole};
use super::root::Root;
use super::{Format, Output, able, data, disk, loader};
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
    write: |system, output| write(system, output, Firmware::Bios, ".iso", None),
};

pub(super) const EFI: Format = Format {
    name: "iso-efi",
    about: "a disc for UEFI",
    files: &["-efi.iso"],
    single: false,
    loaders: loader::EFI,
    write: |system, output| write(system, output, Firmware::Efi, "-efi.iso", None),
};

pub(super) const EFI_INITRD: Format = Format {
    name: "iso-efi-initrd",
    about: "the same by the name that LinuxKit gives it",
    files: &["-efi-initrd.iso"],
    single: false,
    loaders: loader::EFI,
    write: |system, output| write(system, output, Firmware::Efi, "-efi-initrd.iso", None),
};

pub(super) const BOTH: Format = Format {
    name: "iso",
    about: "a disc or USB stick for BIOS and UEFI",
    files: &[".iso"],
    single: false,
    loaders: loader::DISC,
    write: both,
};

fn both(system: &System, output: &mut Output<'_>) -> Result<()> {
    write(system, output, Firmware::Both, ".iso", able::own_default(system)?)
}

fn write(
    system: &System,
    output: &mut Output<'_>,
    wanted: Firmware,
    ending: &str,
    default: Option<Root>,
) -> Result<()> {
    data::refuse(system, output)?;
    let id = Guid::derive(identity(&system.tree)?.bytes(), "disc");
    let mut options = DiscOptions::new(VOLUME, id);
    let start = match able::root(system, default)? {
        None => whole(system, output)?,
        Some(root) => {
            able::loop_device(system)?;
            let partition = disk::root_partition(system, output, root, id)?;
            let name = partition.id.unwrap_or_default().to_string();
            options.partitions.push(partition);
            on_disc(system, output, root, &name)?
        }
    };
    let wanted = firmware(wanted, start.machine)?;
    let image = boot::disc(wanted, &output.options.loaders, &start, &Tree::new(), &options)?;
    output.image(ending, &image)
}
