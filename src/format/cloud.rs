//! Disks as clouds import them: a row for each cloud, with what it asks for.
//!
//! The rows follow, by cloud: AWS, "VM Import/Export User Guide",
//! "Requirements", and "EC2 User Guide", "Instances built on the AWS Nitro
//! System"; Google Cloud, "Manually import boot disks" and "Building a custom
//! operating system"; Azure, "Prepare Linux for imaging in Azure"; OpenStack,
//! "Virtual Machine Image Guide", "Image requirements"; DigitalOcean, "Custom
//! Images", "Limits"; Hetzner Cloud, which imports nothing itself, the tool
//! hcloud-upload-image; Oracle Cloud, "Bring Your Own Image" and "Importing
//! Custom Linux Images"; Vultr, "Create Url" of its command line's reference;
//! Scaleway, "Using the snapshot import/export feature" and "How to create an
//! openWRT image for Scaleway Instances".
//!
//! What can be told while building is told: a disk larger than a cloud takes,
//! or whose root the kernel could not reach there, is an error; a kernel
//! without the driver of the network a warning. Where the kernel would say
//! nothing on the console that a cloud shows, `console=` is added. Uploading
//! is left out.

use anyhow::{Context, Result, anyhow, ensure};

use super::disk::{self, Disk};
use super::driver::Drivers;
use super::{Format, Output, able, console, digested, loader, pack, qcow2};
use crate::boot::Firmware;
use crate::disk::{Guid, gzip, vhd};
use crate::env::EPOCH;
use crate::error::WithHint;
use crate::fs::Extents;
use crate::oci::Platform;
use crate::system::System;

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
    /// The largest disk in bytes.
    most: u64,
    firmware: Firmware,
    /// The console that it shows, by architecture; what it does not have is
    /// `None`.
    console: [(&'static str, Option<&'static str>); 2],
    /// The drivers of its disks: one of them is needed.
    disks: &'static [&'static str],
    /// The drivers of its networks: one of them is needed.
    networks: &'static [&'static str],
}

/// What a disk is put in.
enum Container {
    Raw,
    Gzip,
    Xz,
    /// As `disk.raw` in a tar archive, as GNU tar once wrote it, under gzip.
    TarGzip,
    Qcow2,
    /// A fixed VHD.
    Vhd,
}

const SERIAL: [(&str, Option<&str>); 2] = [("amd64", Some("ttyS0")), ("arm64", Some("ttyAMA0"))];
const SERIAL_8250: [(&str, Option<&str>); 2] = [("amd64", Some("ttyS0")), ("arm64", Some("ttyS0"))];
const SCREEN: [(&str, Option<&str>); 2] = [("amd64", Some("tty0")), ("arm64", Some("tty0"))];
const SCREEN_PC: [(&str, Option<&str>); 2] = [("amd64", Some("tty0")), ("arm64", None)];

pub(super) const AWS: Cloud = Cloud {
    name: "aws",
    title: "AWS",
    about: "a raw disk for AWS",
    files: &[".raw"],
    container: Container::Raw,
    unit: 512,
    most: 16 * TIB,
    firmware: Firmware::Both,
    console: SERIAL_8250,
    disks: &["nvme", "xen_blkfront"],
    networks: &["ena"],
};

pub(super) const GCP: Cloud = Cloud {
    name: "gcp",
    title: "Google Cloud",
    about: "a raw disk in a tar archive for Google Cloud",
    files: &[".img.tar.gz"],
    container: Container::TarGzip,
    unit: GIB,
    most: 2 * TIB,
    firmware: Firmware::Both,
    console: SERIAL_8250,
    disks: &["virtio_scsi", "nvme"],
    networks: &["virtio_net", "gve"],
};

pub(super) const AZURE: Cloud = Cloud {
    name: "azure",
    title: "Azure",
    about: "a fixed VHD disk for Azure",
    files: &[".vhd"],
    container: Container::Vhd,
    unit: MIB,
    most: 1023 * GIB,
    firmware: Firmware::Both,
    console: SERIAL,
    disks: &["hv_storvsc"],
    networks: &["hv_netvsc"],
};

pub(super) const OPENSTACK: Cloud = Cloud {
    name: "openstack",
    title: "OpenStack",
    about: "a qcow2 disk for OpenStack",
    files: &[".qcow2"],
    container: Container::Qcow2,
    unit: 512,
    most: u64::MAX,
    firmware: Firmware::Both,
    console: SERIAL,
    disks: &["virtio_blk", "virtio_scsi"],
    networks: &["virtio_net"],
};

pub(super) const DIGITALOCEAN: Cloud = Cloud {
    name: "digitalocean",
    title: "DigitalOcean",
    about: "a raw disk under gzip for DigitalOcean",
    files: &["-digitalocean.img.gz"],
    container: Container::Gzip,
    unit: MIB,
    most: 100 * GIB,
    firmware: Firmware::Both,
    console: SCREEN_PC,
    disks: &["virtio_blk", "virtio_scsi"],
    networks: &["virtio_net"],
};

pub(super) const HETZNER: Cloud = Cloud {
    name: "hetzner",
    title: "Hetzner Cloud",
    about: "a raw disk under xz for Hetzner Cloud",
    files: &["-hetzner.img.xz"],
    container: Container::Xz,
    unit: MIB,
    most: u64::MAX,
    firmware: Firmware::Both,
    console: SCREEN,
    disks: &["virtio_scsi"],
    networks: &["virtio_net"],
};

pub(super) const ORACLE: Cloud = Cloud {
    name: "oracle",
    title: "Oracle Cloud",
    about: "a qcow2 disk for Oracle Cloud",
    files: &["-oracle.qcow2"],
    container: Container::Qcow2,
    unit: MIB,
    most: 400 * GIB,
    firmware: Firmware::Both,
    console: SERIAL,
    disks: &["virtio_scsi", "virtio_blk"],
    networks: &["virtio_net"],
};

pub(super) const VULTR: Cloud = Cloud {
    name: "vultr",
    title: "Vultr",
    about: "a raw disk for Vultr",
    files: &["-vultr.img"],
    container: Container::Raw,
    unit: MIB,
    most: u64::MAX,
    firmware: Firmware::Both,
    console: SCREEN_PC,
    disks: &["virtio_blk"],
    networks: &["virtio_net"],
};

pub(super) const SCALEWAY: Cloud = Cloud {
    name: "scaleway",
    title: "Scaleway",
    about: "a qcow2 disk for Scaleway",
    files: &["-scaleway.qcow2"],
    container: Container::Qcow2,
    unit: GIB,
    most: u64::MAX,
    firmware: Firmware::Efi,
    console: SERIAL,
    disks: &["virtio_blk", "virtio_scsi"],
    networks: &["virtio_net"],
};

/// Every cloud, for its format to find it.
const CLOUDS: [&Cloud; 9] =
    [&AWS, &GCP, &AZURE, &OPENSTACK, &DIGITALOCEAN, &HETZNER, &ORACLE, &VULTR, &SCALEWAY];

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

    /// Checks what the kernel can drive where it will run.
    fn check_drivers(&self, system: &System, output: &mut Output<'_>) -> Result<()> {
        let Some(drivers) = Drivers::of(&system.tree)? else {
            return Ok(());
        };
        let lacks = |names: &[&str]| !names.iter().any(|name| drivers.has(name));
        let told = |names: &[&str], what: &str| {
            let names = names.join("` and `");
            format!("the kernel lacks `{names}`, which {}'s {what} needs", self.title)
        };
        if lacks(self.disks) {
            // An initial root is read by the firmware.
            if able::root(system, None)?.is_some() {
                return Err(anyhow!(told(self.disks, "disk")))
                    .hint(|| "take another kernel, or `root: initrd`".to_owned());
            }
            output.warn(told(self.disks, "disk"));
        }
        if lacks(self.networks) {
            output.warn(told(self.networks, "network"));
        }
        Ok(())
    }
}

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    let cloud = CLOUDS.iter().find(|cloud| cloud.name == output.format);
    let cloud = cloud.expect("a format of a cloud is made from its row");
    let console = cloud.console(&system.platform)?;
    cloud.check_drivers(system, output)?;
    let system = console::with(system, &[console]);
    let disk = disk::plan_in(&system, output, cloud.firmware, None, cloud.unit)?;
    ensure!(
        disk.image.len() <= cloud.most,
        "expected a disk of at most {} GiB, which is what {} takes, got {} bytes",
        cloud.most / GIB,
        cloud.title,
        disk.image.len()
    );
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
        Container::Qcow2 => qcow2::pack(&disk.image, output, ending),
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
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    #[test]
    fn refuses_machines_that_a_cloud_lacks() {
        let told = VULTR.console(&Platform::linux("arm64")).unwrap_err().to_string();
        assert_eq!(told, "expected amd64, which Vultr has, got arm64");
        assert_eq!(AZURE.console(&Platform::linux("arm64")).unwrap(), "ttyAMA0");
    }

    #[test]
    fn every_row_is_a_format_of_one_file() {
        for cloud in CLOUDS {
            let format = super::super::find(cloud.name).unwrap();
            assert_eq!((format.files.len(), format.about), (1, cloud.about), "{}", cloud.name);
            assert!(cloud.unit.is_multiple_of(512) && cloud.about.contains(cloud.title));
        }
    }

    #[test]
    fn writes_archives_that_gnu_tar_reads() {
        // The latter is more than an octal number of the header can say.
        for (len, packed) in [(3 << 20, true), (9 << 30, false)] {
            let mut disk = Extents::zeros(len);
            disk.put_bytes(0, vec![7; 5000]);
            let archive = archive(&disk).unwrap();
            let mut file = tempfile::NamedTempFile::new().unwrap();
            if packed {
                gzip::write(&archive, DEFLATE, None, &mut file).unwrap();
                file.flush().unwrap();
            } else {
                archive.write_file(file.as_file()).unwrap();
            }
            let listed = Command::new("tar").arg("tvf").arg(file.path()).output().unwrap();
            let told = String::from_utf8_lossy(&listed.stdout).into_owned();
            assert!(told.contains(&len.to_string()) && told.contains("disk.raw"), "{told}");
        }
    }
}
