//! A disc to boot from, which on a USB stick is a disk to boot from, too.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::esp::{self, Starts};
use super::loaders::{self, Loaders};
use super::{Firmware, Start, config};
use crate::disk::{Guid, gpt, mbr};
use crate::fs::iso9660::{self, Boot, BootImage, Platform};
use crate::fs::{Composed, Extents, fat};
use crate::tree::{Inode, Kind, Metadata, Tree};

const ISOLINUX: &str = "isolinux/isolinux.bin";
const KERNEL: &str = "boot/kernel";
const INITRD: &str = "boot/initrd.img";
/// Room for the second partition table, in bytes.
const TAIL: u64 = 64 << 10;
/// Where ISOLINUX's boot code ends and the address of ISOLINUX stands.
const CODE_END: usize = 432;
/// "Hidden NTFS": what a disc is called that is a partition of itself.
const HIDDEN: u8 = 0x17;

/// What a disc is like.
#[derive(Clone, Debug)]
pub struct DiscOptions {
    /// Name of the volume, up to 32 characters of ASCII.
    pub volume: String,
    /// GUID of the disk that the disc can be.
    pub id: Guid,
    /// What lies behind all files: partitions of that disk, which PID 1 finds
    /// on the disc by the partition table too. Their sizes are left out.
    pub partitions: Vec<gpt::Partition>,
    /// Time of what is made here, in seconds since 1970.
    pub time: i64,
}

impl DiscOptions {
    /// Describes a disc of a name and a GUID.
    pub fn new(volume: &str, id: Guid) -> Self {
        let time = crate::env::EPOCH;
        Self { volume: volume.to_owned(), id, partitions: Vec::new(), time }
    }
}

/// Lays out a disc that a firmware starts and that holds a tree besides.
pub fn disc(
    firmware: Firmware,
    loaders: &Loaders,
    start: &Start,
    tree: &Tree,
    options: &DiscOptions,
) -> Result<Extents> {
    let mut disc = Disc {
        tree: tree.clone(),
        composed: Composed::new(),
        options: iso9660::Options {
            volume: options.volume.clone(),
            joliet: true,
            time: options.time,
            boot: Vec::new(),
            within: BTreeMap::new(),
            appended: options.partitions.iter().map(|part| part.image.clone()).collect(),
            tail: TAIL,
        },
    };
    if firmware.has_bios() {
        disc.add_bios(loaders, start, firmware)?;
    }
    if firmware.has_efi() {
        disc.add_efi(loaders, start, firmware, options)?;
    }
    let volume = iso9660::plan(&disc.tree, &disc.composed, &disc.options);
    let volume = volume.context("laying out the disc")?;
    as_disk(firmware, loaders, volume, options)
}

struct Disc {
    tree: Tree,
    composed: Composed,
    options: iso9660::Options,
}

impl Disc {
    fn add_bios(&mut self, loaders: &Loaders, start: &Start, firmware: Firmware) -> Result<()> {
        let isolinux = loaders::bytes(loaders.isolinux.as_ref(), "isolinux.bin", "isolinux")?;
        let module = loaders::bytes(loaders.module.as_ref(), "ldlinux.c32", "syslinux-common")?;
        self.put(ISOLINUX, isolinux)?;
        self.put("isolinux/ldlinux.c32", module)?;
        let (kernel, initrd) = (format!("/{KERNEL}"), format!("/{INITRD}"));
        let text = config::syslinux(start, &kernel, &initrd)?;
        self.put("isolinux/isolinux.cfg", text.into_bytes())?;
        if !firmware.has_efi() {
            self.composed.insert(KERNEL.into(), Extents::from(&start.kernel));
            let initrd = start.initrd.iter().cloned();
            self.composed.extend(initrd.map(|initrd| (INITRD.into(), initrd)));
        }
        let image = BootImage::File(ISOLINUX.into());
        self.options.boot.push(Boot { platform: Platform::Bios, image });
        Ok(())
    }

    fn add_efi(
        &mut self,
        loaders: &Loaders,
        start: &Start,
        firmware: Firmware,
        options: &DiscOptions,
    ) -> Result<()> {
        let shared = firmware.has_bios();
        let starts = if shared { Starts::Menu } else { Starts::Efi };
        let volume = fat::Options {
            label: "BOOT".to_owned(),
            id: options.id.number(),
            time: options.time,
            ..fat::Options::default()
        };
        let volume = esp::volume(starts, loaders, start, &volume)?;
        if shared {
            // ISOLINUX reads what lies within the partition of UEFI.
            let index = self.options.boot.len();
            for (path, file) in [(KERNEL, esp::KERNEL), (INITRD, esp::INITRD)] {
                let within = volume.place(file).map(|place| (path.into(), (index, place)));
                self.options.within.extend(within);
            }
        }
        let image = BootImage::Appended(volume.image);
        self.options.boot.push(Boot { platform: Platform::Efi, image });
        Ok(())
    }

    fn put(&mut self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let meta = Metadata::root(0o644, self.options.time);
        self.tree.insert(path.as_bytes(), Inode { meta, kind: Kind::bytes(bytes), part: 0 })?;
        Ok(())
    }
}

/// Makes a disk of a disc: boot code for a BIOS, partitions for UEFI.
fn as_disk(
    firmware: Firmware,
    loaders: &Loaders,
    volume: iso9660::Volume,
    options: &DiscOptions,
) -> Result<Extents> {
    let iso9660::Volume { mut image, boot, appended } = volume;
    let mut sector = vec![0; 512];
    if firmware.has_bios() {
        let code = loaders::bytes(loaders.hybrid_code.as_ref(), "isohdpfx.bin", "isolinux")?;
        ensure!(code.len() <= CODE_END, "expected boot code of at most {CODE_END} bytes");
        sector[..code.len()].copy_from_slice(&code);
        let isolinux = u32::try_from(boot[0].start / 512)?;
        sector[CODE_END..CODE_END + 4].copy_from_slice(&isolinux.to_le_bytes());
    }
    sector[440..444].copy_from_slice(&options.id.number().to_le_bytes());
    let sectors = image.len() / 512;
    let (mut partitions, mut places) = (options.partitions.clone(), appended);
    if firmware.has_efi() {
        let place = boot.last().context("expected something that UEFI starts")?.clone();
        partitions.insert(0, gpt::Partition::new(gpt::ESP, "boot", Extents::default()));
        places.insert(0, place);
    }
    let entry = if !partitions.is_empty() {
        let (id, size, code) = (options.id, None, Vec::new());
        let disk = gpt::Disk { id, sector: 512, size, code, partitions };
        gpt::overlay(&mut image, &disk, &places)?;
        // Some a BIOS starts nothing without an active partition.
        mbr::entry(mbr::PROTECTIVE, firmware.has_bios(), 1, sectors - 1)?
    } else {
        mbr::entry(HIDDEN, true, 0, sectors)?
    };
    sector[446..462].copy_from_slice(&entry);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    image.put_bytes(0, sector);
    Ok(image)
}
