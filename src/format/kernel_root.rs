//! `kernel+squashfs`, `kernel+erofs`, `kernel+iso`: a kernel, its command
//! line, and a root file system for a disk of its own.
//!
//! Where the kernel's drivers are modules, an initrd of some of them comes
//! along, which finds the root by the kernel argument `root=`.

use anyhow::Result;

use super::identity::identity;
use super::root::Root;
use super::{Format, Output, data, kernel_initrd, small};
use crate::disk::Guid;
use crate::system::System;

/// Ending of the initrd that only looks for the root.
const INITRD: &str = "-root-initrd.img";

pub(super) const SQUASHFS: Format = Format {
    name: "kernel+squashfs",
    about: "kernel, command line and a squashfs root",
    files: &["-kernel", "-cmdline", INITRD, "-squashfs.img"],
    single: false,
    loaders: &[],
    write: |system, output| write(system, output, Root::Squashfs, "-squashfs.img"),
};

pub(super) const EROFS: Format = Format {
    name: "kernel+erofs",
    about: "kernel, command line and an erofs root",
    files: &["-kernel", "-cmdline", INITRD, "-erofs.img"],
    single: false,
    loaders: &[],
    write: |system, output| write(system, output, Root::Erofs, "-erofs.img"),
};

pub(super) const ISO: Format = Format {
    name: "kernel+iso",
    about: "kernel, command line and an ISO 9660 root",
    files: &["-kernel", "-cmdline", INITRD, ".iso"],
    single: false,
    loaders: &[],
    write: |system, output| write(system, output, Root::Iso, ".iso"),
};

fn write(system: &System, output: &mut Output<'_>, root: Root, ending: &str) -> Result<()> {
    data::refuse(system, output)?;
    kernel_initrd::write_kernel(system, output)?;
    if let Some(initrd) = small::initrd(system, output.store, output.options.compression)? {
        output.image(INITRD, &initrd)?;
    }
    let id = Guid::derive(identity(&system.tree)?.bytes(), "root");
    let asked = output.options.root_compression;
    let image = root.image(system, id, asked, output)?;
    output.image(ending, &image)
}
