//! A disk to boot from: its first partition is what firmware starts from,
//! the others hold what the system wants.

use anyhow::{Context, Result, bail};

use super::esp::{self, Starts};
use super::loaders::{self, Loaders};
use super::{Firmware, Start};
use crate::disk::{ALIGNMENT, Guid, gpt, mbr};
use crate::fs::{Extents, fat};

/// How a disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// By a GUID partition table.
    Gpt,
    /// By an MBR, for old machines.
    Mbr,
}

/// What a disk is like.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The disk's GUID, from which those of the partitions come, too.
    pub id: Guid,
    /// Size in bytes; by default as small as holds all.
    pub size: Option<u64>,
    /// Size of a sector in bytes: 512 or 4096, the latter for UEFI only.
    pub sector: u32,
    /// How it is divided.
    pub scheme: Scheme,
    /// Size of the partition to boot from; by default as small as holds all.
    pub boot_size: Option<u64>,
    /// The kind of FAT on that partition; by default the smallest.
    pub boot_bits: Option<fat::Bits>,
    /// The partitions behind it.
    pub partitions: Vec<gpt::Partition>,
    /// Time of what is made here, in seconds since 1970.
    pub time: i64,
}

impl DiskOptions {
    /// Describes a GPT disk of a GUID, as small as can be.
    pub fn new(id: Guid) -> Self {
        Self {
            id,
            size: None,
            sector: 512,
            scheme: Scheme::Gpt,
            boot_size: None,
            boot_bits: None,
            partitions: Vec::new(),
            time: crate::env::EPOCH,
        }
    }

    /// Describes the volume to boot from.
    pub(super) fn volume(&self) -> Result<fat::Options> {
        Ok(fat::Options {
            bits: self.boot_bits,
            size: self.boot_size,
            sector: self.sector,
            // The partition begins there; SYSLINUX finds itself by that.
            hidden: u32::try_from(ALIGNMENT / u64::from(self.sector))?,
            label: "BOOT".to_owned(),
            id: self.id.number(),
            time: self.time,
        })
    }
}

/// Lays out a disk that a firmware starts.
pub fn disk(
    firmware: Firmware,
    loaders: &Loaders,
    start: &Start,
    options: &DiskOptions,
) -> Result<Extents> {
    let volume = esp::volume(Starts::from(firmware), loaders, start, &options.volume()?)?;
    match options.scheme {
        Scheme::Gpt => by_gpt(firmware, loaders, volume.image, options),
        Scheme::Mbr => by_mbr(firmware, loaders, volume.image, options),
    }
}

fn by_gpt(
    firmware: Firmware,
    loaders: &Loaders,
    boot: Extents,
    options: &DiskOptions,
) -> Result<Extents> {
    let mut boot = gpt::Partition::new(gpt::ESP, "boot", boot);
    let mut code = Vec::new();
    if firmware.has_bios() {
        boot.attributes = gpt::LEGACY_BOOT;
        code = loaders::bytes(loaders.gpt_code.as_ref(), "gptmbr.bin", "syslinux-common")?;
    }
    let mut partitions = vec![boot];
    partitions.extend(options.partitions.iter().cloned());
    let (id, sector, size) = (options.id, options.sector, options.size);
    let disk = gpt::Disk { id, sector, size, code, partitions };
    let (image, _) = gpt::plan(&disk).context("laying out the disk")?;
    Ok(image)
}

pub(super) fn by_mbr(
    firmware: Firmware,
    loaders: &Loaders,
    boot: Extents,
    options: &DiskOptions,
) -> Result<Extents> {
    if options.sector != 512 {
        bail!("expected a GUID partition table for large sectors, got an MBR");
    }
    let code = match firmware.has_bios() {
        true => loaders::bytes(loaders.mbr_code.as_ref(), "mbr.bin", "syslinux-common")?,
        false => Vec::new(),
    };
    let boot = mbr::Partition { kind: mbr::FAT, active: true, image: boot, size: None };
    let mut partitions = vec![boot];
    partitions.extend(options.partitions.iter().map(|partition| mbr::Partition {
        kind: mbr::LINUX,
        active: false,
        image: partition.image.clone(),
        size: partition.size,
    }));
    let disk = mbr::Disk { id: options.id.number(), size: options.size, code, partitions };
    let (image, _) = mbr::plan(&disk).context("laying out the disk")?;
    Ok(image)
}
