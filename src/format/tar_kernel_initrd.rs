//! `tar-kernel-initrd`: the files of `kernel+initrd` in one tar archive.

use std::io::{BufWriter, Write};

use anyhow::{Context, Result};

use super::{Format, Output, data, initrd};
use crate::env::EPOCH;
use crate::fs::tar;
use crate::system::System;
use crate::tree::Content;

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
    let (store, compression) = (output.store, output.options.compression);
    // An archive states a file's size before the file: this one comes first.
    let file = store.temporary()?;
    let reopened = || file.reopen().context("opening the initial root");
    let mut out = BufWriter::new(reopened()?);
    initrd::write(system, store, compression, &mut out)?;
    out.flush().context("writing the initial root")?;
    let initrd = Content::of_file(reopened()?)?;
    output.file("-initrd.tar", |out| {
        let kernel = system.kernel.as_ref();
        if let Some(kernel) = kernel {
            tar::write_file("kernel", EPOCH, &kernel.image, out)?;
        }
        tar::write_file("initrd.img", EPOCH, &initrd, out)?;
        if let Some(kernel) = kernel {
            let cmdline = Content::Bytes(kernel.cmdline.as_bytes().into());
            tar::write_file("cmdline", EPOCH, &cmdline, out)?;
        }
        tar::finish(out)
    })
}
