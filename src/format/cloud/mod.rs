//! Disks as clouds import them: what all have in common. `table` has a row for
//! each cloud, with the documents that it follows; `check` tells while building
//! what would fail there.
//!
//! Where the kernel would say nothing on the console that a cloud shows,
//! `console=` is added. Uploading is left out.

mod check;
mod table;

use anyhow::{Context, Result};

use table::CLOUDS;
pub(super) use table::{
    AWS, AZURE, DIGITALOCEAN, GCP, HETZNER, OPENSTACK, ORACLE, SCALEWAY, VULTR,
};

use super::disk::{self, Disk, Sizes};
use super::{Format, Output, console, digested, loader, pack, qcow2};
use crate::boot::Firmware;
use crate::disk::{Guid, gzip, vhd};
use crate::env::EPOCH;
use crate::fs::Extents;
use crate::oci::Platform;
use crate::system::System;

const GB: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// Level of gzip: at any other, zlib-rs is some percent behind gzip's own.
const DEFLATE: u32 = 9;

/// A cloud and what it takes.
pub(super) struct Cloud {
    /// The format's name.
    name: &'static str,
    /// What people call it.
    title: &'static str,
    about: &'static str,
    files: &'static [&'static str],
    container: Container,
    /// Sizes of disks are multiples of this, in bytes.
    unit: u64,
    /// The smallest disk in bytes.
    least: u64,
    /// The largest disk in bytes, and how the cloud puts it.
    most: Option<(u64, &'static str)>,
    firmware: Firmware,
    /// The console that it shows, by architecture; what it does not have is
    /// `None`.
    console: [(&'static str, Option<&'static str>); 2],
    /// The drivers of its disks: one of them is needed.
    disks: &'static [&'static str],
    /// The drivers of its networks: one of them is needed.
    networks: &'static [&'static str],
    /// What else its documentation wants of the kernel, all of it.
    modules: &'static [&'static str],
    /// The programs of which it wants one in the system, by how their paths
    /// end; none where it wants nothing.
    agents: &'static [&'static str],
}

/// What a disk is put in.
enum Container {
    Raw,
    Gzip,
    Xz,
    /// As `disk.raw` in a tar archive, as GNU tar once wrote it, under gzip.
    TarGzip,
    Qcow2,
    /// The same, where nobody can read Zstandard.
    QcowPlain,
    /// A fixed VHD.
    Vhd,
}

impl Cloud {
    /// Returns the format of the disks that this cloud takes.
    pub(super) const fn format(&self) -> Format {
        let loaders = match self.firmware {
            Firmware::Efi => loader::EFI,
            _ => loader::DISK,
        };
        Format {
            name: self.name,
            about: self.about,
            files: self.files,
            single: false,
            loaders,
            write,
        }
    }

    /// Returns the console that the cloud shows on machines of a platform.
    fn console(&self, platform: &Platform) -> Result<&'static str> {
        let of = |(name, console): &(&str, Option<&'static str>)| {
            console.filter(|_| *name == platform.architecture)
        };
        self.console.iter().find_map(of).with_context(|| {
            let all = self.console.iter().filter(|(_, console)| console.is_some());
            let all: Vec<&str> = all.map(|(name, _)| *name).collect();
            let (title, got) = (self.title, &platform.architecture);
            format!("expected {}, which {title} has, got {got}", all.join(" or "))
        })
    }
}

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    let cloud = CLOUDS.iter().find(|cloud| cloud.name == output.format);
    let cloud = cloud.expect("a format of a cloud is made from its row");
    let console = cloud.console(&system.platform)?;
    cloud.check_system(system, output)?;
    let system = console::with(system, &[console]);
    let sizes = Sizes { least: cloud.least, unit: cloud.unit };
    let disk = disk::plan_in(&system, output, cloud.firmware, None, sizes)?;
    cloud.check_disk(&disk)?;
    put(&disk, cloud, output)
}

fn put(disk: &Disk, cloud: &Cloud, output: &mut Output<'_>) -> Result<()> {
    let ending = cloud.files.first().expect("a cloud takes one file");
    match cloud.container {
        Container::Raw => output.image(ending, &disk.image),
        Container::Gzip => put_gzip(&disk.image, output, ending),
        Container::Xz => {
            let key = digested::key(&disk.image, "xz")?;
            output.stream(ending, Some(key), |out| pack::xz(&disk.image, out))
        }
        Container::TarGzip => put_gzip(&archive(&disk.image)?, output, ending),
        Container::Qcow2 | Container::QcowPlain => qcow2::pack(&disk.image, output, ending),
        Container::Vhd => {
            let id = Guid::derive(&disk.id.bytes(), "vhd");
            output.image(ending, &vhd::fixed(&disk.image, id)?)
        }
    }
}

fn put_gzip(image: &Extents, output: &mut Output<'_>, ending: &str) -> Result<()> {
    let key = digested::key(image, &format!("gzip {DEFLATE}"))?;
    let store = output.store;
    output.stream(ending, Some(key), |out| gzip::write(image, DEFLATE, Some(store), out))
}

/// Puts a disk into an archive of GNU tar's old format, whose numbers of more
/// than 8 GiB are binary.
fn archive(disk: &Extents) -> Result<Extents> {
    let mut header = tar::Header::new_gnu();
    header.set_path("disk.raw").context("naming the disk")?;
    header.set_size(disk.len());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(EPOCH).context("dating the disk")?);
    header.set_cksum();
    let mut archive = Extents::of_bytes(header.as_bytes().to_vec());
    archive.push(disk);
    // Two empty blocks end it, and its size is a multiple of GNU's 10 KiB.
    archive.grow(archive.len().next_multiple_of(512) + 1024);
    archive.align(10 << 10);
    Ok(archive)
}

#[cfg(test)]
mod tests;
