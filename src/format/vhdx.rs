//! `vhdx`: a disk for Hyper-V of these days.

use anyhow::Result;

use super::{Format, Output, disk, loader};
use crate::disk::{Guid, vhdx};
use crate::system::System;

pub(super) const FORMAT: Format = Format {
    name: "vhdx",
    about: "a VHDX disk for BIOS and UEFI",
    files: &[".vhdx"],
    single: false,
    loaders: loader::DISK,
    write,
};

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    let disk = disk::own(system, output)?;
    let id = Guid::derive(&disk.id.bytes(), "vhdx");
    output.image(".vhdx", &vhdx::plan(&disk.image, disk.sector, id)?)
}
