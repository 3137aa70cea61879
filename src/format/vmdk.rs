//! `vmdk`: a disk for VMware, compressed ("streamOptimized").

use std::io::Write;

use anyhow::Result;

use super::disk::Disk;
use super::{Format, Output, digested, disk, loader};
use crate::disk::vmdk;
use crate::store::Store;
use crate::system::System;

pub(super) const FORMAT: Format = Format {
    name: "vmdk",
    about: "a compressed VMDK disk for BIOS and UEFI",
    files: &[".vmdk"],
    single: false,
    loaders: loader::DISK,
    write,
};

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    let disk = disk::own(system, output)?;
    let key = digested::key(&disk.image, "vmdk")?;
    let store = output.store;
    output.stream(".vmdk", Some(key), |out| pack(&disk, "disk.vmdk", store, out))
}

/// Writes a disk by the name that its descriptor tells.
pub(super) fn pack(disk: &Disk, name: &str, store: &Store, out: &mut dyn Write) -> Result<()> {
    let (name, cache) = (name.to_owned(), Some(store.clone()));
    let options = vmdk::Options { id: disk.id.number(), name, cache, ..vmdk::Options::default() };
    vmdk::write(&disk.image, &options, out)
}
