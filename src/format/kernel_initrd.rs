//! `kernel+initrd`: what a hypervisor boots directly, in three files.

use anyhow::{Context, Result};

use super::{Format, Output, data, initrd};
use crate::fs::Extents;
use crate::system::System;

pub(super) const FORMAT: Format = Format {
    name: "kernel+initrd",
    about: "kernel, initial root and command line, as QEMU boots them",
    files: &["-kernel", "-initrd.img", "-cmdline"],
    single: false,
    loaders: &[],
    write,
};

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    data::refuse(system, output)?;
    write_kernel(system, output)?;
    let initrd = initrd::of_system(system, output)?;
    output.image("-initrd.img", &initrd)
}

/// Writes the kernel and its command line, if there is any.
pub(super) fn write_kernel(system: &System, output: &mut Output<'_>) -> Result<()> {
    if let Some(kernel) = &system.kernel {
        output.image("-kernel", &Extents::from(&kernel.image))?;
        output.stream("-cmdline", None, |out| {
            out.write_all(kernel.cmdline.as_bytes()).context("writing the command line")
        })?;
    }
    Ok(())
}
