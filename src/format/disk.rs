//! The disk that all formats of disks hold: laid out from a system, its
//! identifiers derived from what is in it.

use anyhow::{Result, bail};

use super::Output;
use super::identity::identity;
use super::machine::{firmware, on_disk, whole};
use super::root::Root;
use crate::boot::{self, DiskOptions, Firmware, Scheme};
use crate::disk::{Guid, gpt};
use crate::fs::{Extents, too_large};
use crate::manifest;
use crate::system::System;

/// A disk laid out.
pub(super) struct Disk {
    /// Its bytes.
    pub(super) image: Extents,
    /// Its GUID.
    pub(super) id: Guid,
    /// Size of its sectors, in bytes.
    pub(super) sector: u32,
}

/// Lays out a disk that a firmware starts; `default` is how it holds the root
/// where the manifest does not say, in the initrd where that is `None`.
pub(super) fn plan(
    system: &System,
    output: &Output<'_>,
    wanted: Firmware,
    default: Option<Root>,
) -> Result<Disk> {
    plan_in(system, output, wanted, default, 1)
}

/// Lays out a disk, as [`plan`] does, of a multiple of `unit` bytes.
pub(super) fn plan_in(
    system: &System,
    output: &Output<'_>,
    wanted: Firmware,
    default: Option<Root>,
    unit: u64,
) -> Result<Disk> {
    let id = Guid::derive(identity(&system.tree)?.bytes(), "disk");
    let mut options = DiskOptions::new(id);
    let mut root = default;
    if let Some(disk) = &system.disk {
        if disk.data.is_some() {
            bail!("expected a disk without `data`, which disks cannot hold yet");
        }
        options.size = disk.size.as_ref().map(|size| size.value.0);
        options.sector = disk.sector.as_ref().map_or(512, |sector| sector.value.0);
        if disk.table.as_ref().is_some_and(|table| table.value == manifest::Table::Mbr) {
            options.scheme = Scheme::Mbr;
        }
        root = disk.root.as_ref().map_or(default, |root| of_manifest(&root.value));
    }
    options.size = output.options.size.or(options.size);
    let mut start = whole_or_none(system, output, root)?;
    if let Some(root) = root {
        let partition = root_partition(system, output, root, id)?;
        let name = match options.scheme {
            Scheme::Gpt => partition.id.unwrap_or_default().to_string(),
            Scheme::Mbr => {
                let bytes = id.bytes();
                let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                format!("{number:08x}-02")
            }
        };
        options.partitions.push(partition);
        start = Some(on_disk(system, output, root, &name)?);
    }
    let start = start.expect("the root is in the initrd or on a partition");
    let wanted = firmware(wanted, start.machine)?;
    let size = options.size.take();
    let mut image = boot::disk(wanted, &output.options.loaders, &start, &options)?;
    let size = size.unwrap_or(image.len()).next_multiple_of(unit);
    if image.len() > size {
        return Err(too_large("the disk", &system.tree, image.len(), size));
    }
    if image.len() < size {
        options.size = Some(size);
        image = boot::disk(wanted, &output.options.loaders, &start, &options)?;
    }
    Ok(Disk { image, id, sector: options.sector })
}

fn whole_or_none(
    system: &System,
    output: &Output<'_>,
    root: Option<Root>,
) -> Result<Option<boot::Start>> {
    match root {
        Some(_) => Ok(None),
        None => whole(system, output).map(Some),
    }
}

fn of_manifest(root: &manifest::Root) -> Option<Root> {
    match root {
        manifest::Root::Initrd => None,
        manifest::Root::Erofs => Some(Root::Erofs),
        manifest::Root::Squashfs => Some(Root::Squashfs),
        manifest::Root::Ext4 => Some(Root::Ext4),
    }
}

fn root_partition(
    system: &System,
    output: &Output<'_>,
    root: Root,
    disk: Guid,
) -> Result<gpt::Partition> {
    let kind = match system.platform.architecture.as_str() {
        "arm64" => gpt::ROOT_ARM64,
        _ => gpt::ROOT_AMD64,
    };
    let image = root.image(system, output.store)?;
    let mut partition = gpt::Partition::new(kind, "root", image);
    partition.id = Some(Guid::derive(&disk.bytes(), "root"));
    partition.attributes = gpt::READ_ONLY;
    Ok(partition)
}
