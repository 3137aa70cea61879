//! `uki`: kernel, initrd and command line in one EFI file, which UEFI starts.

use anyhow::Result;

use super::machine::whole;
use super::{Format, Output, data, loader};
use crate::boot;
use crate::system::System;

pub(super) const FORMAT: Format = Format {
    name: "uki",
    about: "kernel, initrd and command line in one EFI file",
    files: &[".efi"],
    single: false,
    loaders: loader::EFI,
    write,
};

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    data::refuse(system, output)?;
    let image = boot::uki(&output.options.loaders, &whole(system, output)?)?;
    output.image(".efi", &image)
}
