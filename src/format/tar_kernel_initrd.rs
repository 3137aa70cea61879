//! `tar-kernel-initrd`: the files of `kernel+initrd` in one tar archive.

use anyhow::Result;

use super::{Format, Output, data, initrd};
use crate::env::EPOCH;
use crate::fs::{Extents, tar};
use crate::system::System;

pub(super) const FORMAT: Format = Format {
    name: "tar-kernel-initrd",
    about: "the same three files in a tar archive",
    files: &["-initrd.tar"],
    single: false,
    loaders: &[],
    write,
};

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    data::refuse(system, output)?;
    let initrd = initrd::of_system(system, output)?;
    let mut archive = Extents::default();
    let kernel = system.kernel.as_ref();
    if let Some(kernel) = kernel {
        tar::push_file("kernel", EPOCH, &Extents::from(&kernel.image), &mut archive)?;
    }
    tar::push_file("initrd.img", EPOCH, &initrd, &mut archive)?;
    if let Some(kernel) = kernel {
        let cmdline = Extents::of_bytes(kernel.cmdline.as_bytes());
        tar::push_file("cmdline", EPOCH, &cmdline, &mut archive)?;
    }
    tar::end(&mut archive);
    output.image("-initrd.tar", &archive)
}
