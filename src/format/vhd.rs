//! `vhd`, `dynamic-vhd`: disks for Hyper-V.

use anyhow::Result;

use super::{Format, Output, disk, loader};
use crate::boot::Firmware;
use crate::disk::{Extents, Guid, vhd};
use crate::system::System;

pub(super) const FIXED: Format = Format {
    name: "vhd",
    about: "a fixed VHD disk for BIOS and UEFI",
    files: &[".vhd"],
    single: false,
    loaders: loader::DISK,
    write: |system, output| write(system, output, vhd::fixed),
};

pub(super) const DYNAMIC: Format = Format {
    name: "dynamic-vhd",
    about: "a VHD disk that grows, for BIOS and UEFI",
    files: &[".vhd"],
    single: false,
    loaders: loader::DISK,
    write: |system, output| write(system, output, vhd::dynamic),
};

type Plan = fn(&Extents, Guid) -> Result<Extents>;

fn write(system: &System, output: &mut Output<'_>, plan: Plan) -> Result<()> {
    let disk = disk::plan(system, output, Firmware::Both, None)?;
    let image = plan(&disk.image, Guid::derive(&disk.id.bytes(), "vhd"))?;
    output.image(".vhd", &image)
}
