//! `kernel+initrd`: what a hypervisor boots directly, in three files.

use std::io::Write;

use anyhow::{Context, Result};

use super::{Format, Output, data, initrd};
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
    let (store, compression) = (output.store, output.options.compression);
    output.file_with_key("-initrd.img", |out| initrd::write(system, store, compression, out))
}

/// Writes the kernel and its command line, if there is any.
pub(super) fn write_kernel(system: &System, output: &mut Output<'_>) -> Result<()> {
    if let Some(kernel) = &system.kernel {
        let key = kernel.image.digest();
        output.file_with_key("-kernel", |out| kernel.image.copy_to(out).map(|()| key))?;
        output.file("-cmdline", |out| {
            out.write_all(kernel.cmdline.as_bytes()).context("writing the command line")
        })?;
    }
    Ok(())
}
