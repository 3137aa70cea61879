//! Disks and discs: their partitions, and what lies on each.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::detect::{self, Boots, Kind, Look};
use super::span::Span;
use super::{Image, partition, volume, within};
use crate::disk::{self, Guid, gpt};
use crate::error::WithHint;

/// A disk that is divided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Its size in bytes.
    pub size: u64,
    /// `gpt`, `mbr`, or nothing where it is one file system.
    pub table: Option<&'static str>,
    /// Size of a sector in bytes.
    pub sector: u32,
    /// The disk's GUID, or its number.
    pub id: String,
    /// The partitions in order.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number, from 1 on.
    pub number: usize,
    /// Its name, empty in an MBR.
    pub name: String,
    /// Its type, for people where it is a usual one.
    pub kind: String,
    /// What `PARTUUID=` names it by.
    pub id: Option<String>,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The file system on it.
    pub system: Option<&'static str>,
    /// How many of its bytes are in use.
    pub used: Option<u64>,
}

impl Partition {
    /// Says whether its type is that of a root.
    pub(super) fn is_root(&self) -> bool {
        self.kind.starts_with("root")
    }

    fn range(&self) -> Range<u64> {
        self.start..self.start + self.size
    }
}

/// GUIDs of types, and what people call them.
const TYPES: [(Guid, &str); 8] = [
    (gpt::ESP, "EFI system"),
    (gpt::ROOT_AMD64, "root (amd64)"),
    (gpt::ROOT_ARM64, "root (arm64)"),
    (gpt::VAR, "/var"),
    (gpt::LINUX, "Linux"),
    (gpt::BASIC_DATA, "data"),
    (Guid::new(0x21686148_6449_6e6f_744e_656564454649), "BIOS boot"),
    (Guid::new(0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f), "swap"),
];

/// Types of an MBR, in two digits.
const NUMBERS: [(&str, &str); 8] = [
    ("0b", "FAT"),
    ("0c", "FAT"),
    ("0e", "FAT"),
    ("17", "hidden"),
    ("82", "swap"),
    ("83", "Linux"),
    ("cd", "disc"),
    ("ef", "EFI system"),
];

fn kind_name(kind: &str) -> String {
    let of_guid = || TYPES.iter().find(|(guid, _)| guid.to_string() == kind);
    let of_number = || NUMBERS.iter().find(|(number, _)| *number == kind);
    let name = of_guid().map(|(_, name)| *name).or_else(|| of_number().map(|(_, name)| *name));
    name.unwrap_or(kind).to_owned()
}

impl Image {
    /// Adds a virtual disk, or a disk as it is.
    pub(super) fn add_disk(&mut self, place: &str, span: &Span, kind: Kind) -> Result<()> {
        let name = match kind {
            Kind::Raw(_) => "raw disk",
            Kind::FixedVhd(_) => "fixed VHD",
            Kind::StreamVmdk => "compressed VMDK",
            Kind::Disk("vpc") => "dynamic VHD",
            Kind::Disk("vmdk") => "VMDK",
            Kind::Disk("vhdx") => "VHDX",
            Kind::Disk("qcow2") => "qcow2",
            Kind::Disk(other) => {
                return Err(anyhow::anyhow!("expected a disk that can be read here, got {other}"))
                    .hint(|| "convert it: `qemu-img convert -O qcow2 FROM TO`".to_owned());
            }
            _ => bail!("expected a disk"),
        };
        let folder = tempfile::tempdir().context("making a folder for what is unpacked")?;
        let opened = disk::open_image(&span.image(), folder.path())?;
        let disk = match opened.kind {
            disk::Kind::Raw => span.clone(),
            _ => Span::of_image(&opened.image, span.len()).context("unpacking the disk")?,
        };
        if opened.kind == disk::Kind::Raw && volume::system(&disk)?.is_some() {
            let divided = disk::read(&disk.image())?.is_some();
            if !divided {
                return self.add_unknown(place, &disk);
            }
        }
        self.kinds.push(name.to_owned());
        let look = Look::of(&disk)?;
        if let Some(Kind::Iso(boots)) = look.kind().filter(|_| opened.kind != disk::Kind::Raw) {
            return self.add_disc(place, &disk, &look, boots);
        }
        self.add_partitions(place, &disk)?;
        self.add_starts(place, partition::boots(&look.head));
        Ok(())
    }

    /// Adds an ISO 9660 disc, which may be a disk too.
    pub(super) fn add_disc(
        &mut self,
        place: &str,
        span: &Span,
        look: &Look,
        boots: Boots,
    ) -> Result<()> {
        let name = within(place, "disc");
        self.kinds.push("ISO 9660 disc".to_owned());
        self.add_volume(name.clone(), "ISO 9660", span)?;
        if disk::read(&span.image())?.is_some() {
            self.kinds.push("hybrid disk".to_owned());
            self.add_partitions(place, span)?;
        }
        for (platform, sector) in detect::boot_entries(&look.catalog) {
            let at = u64::from(sector) * 2048;
            let met = self.disk.iter().flat_map(|disk| &disk.partitions).any(|p| p.start == at);
            if platform == detect::EFI && !met && at < span.len() {
                let image = span.part(at..span.len())?;
                self.try_volume(&within(place, "EFI boot image"), &image)?;
            }
        }
        self.add_roots_of(&name)?;
        self.add_starts(place, boots);
        Ok(())
    }

    fn add_partitions(&mut self, place: &str, disk: &Span) -> Result<()> {
        let Some(table) = disk::read(&disk.image())? else {
            let (size, sector, id) = (disk.len(), 512, String::new());
            self.disk = Some(Disk { size, table: None, sector, id, partitions: Vec::new() });
            return self.try_volume(&within(place, "whole disk"), disk).map(drop);
        };
        let mut partitions = Vec::new();
        for (index, found) in table.partitions.iter().enumerate() {
            let number = index + 1;
            let id = match found.id {
                Some(id) => id.to_string(),
                None => format!("{}-{number:02}", table.id),
            };
            let mut partition = Partition {
                number,
                name: found.name.clone(),
                kind: kind_name(&found.kind),
                id: Some(id),
                start: found.range.start,
                size: found.range.end - found.range.start,
                system: None,
                used: None,
            };
            let span = disk.part(partition.range())?;
            // A disc as a partition of itself is known already.
            if !(partition.start == 0 && volume::system(&span)? == Some("ISO 9660")) {
                let place = within(place, &format!("partition {number}"));
                partition.system = self.try_volume(&place, &span)?;
                let volume = self.volumes.last().filter(|volume| volume.place == place);
                partition.used = volume.and_then(|volume| volume.used);
            }
            partitions.push(partition);
        }
        self.disk = Some(Disk {
            size: disk.len(),
            table: Some(if table.gpt { "gpt" } else { "mbr" }),
            sector: table.sector,
            id: table.id,
            partitions,
        });
        Ok(())
    }

    /// Adds a file system where there is one; tells which. One that cannot be
    /// read is a problem, no error.
    fn try_volume(&mut self, place: &str, span: &Span) -> Result<Option<&'static str>> {
        let Some(system) = volume::system(span)? else { return Ok(None) };
        if system == "swap" {
            return Ok(Some(system));
        }
        match volume::open(place, system, span) {
            Ok(volume) => self.volumes.push(volume),
            Err(error) => self.problems.push(format!("{error:#}")),
        }
        Ok(Some(system))
    }

    /// Adds the file systems that are files of a disc.
    fn add_roots_of(&mut self, place: &str) -> Result<()> {
        let Some(disc) = self.volumes.iter().find(|volume| volume.place == place) else {
            return Ok(());
        };
        let mut found = Vec::new();
        for walked in disc.tree.walk().filter(|walked| !walked.link) {
            if let crate::tree::Kind::File(content) = &disc.tree.get(walked.id).kind
                && content.len() >= 4096
            {
                let span = Span::of_content(content)?;
                let system = volume::system(&span)?;
                if matches!(system, Some("squashfs" | "erofs" | "ext4")) {
                    found.push((String::from_utf8_lossy(&walked.path).into_owned(), span));
                }
            }
        }
        for (path, span) in found {
            self.try_volume(&format!("/{path}"), &span)?;
        }
        Ok(())
    }
}
