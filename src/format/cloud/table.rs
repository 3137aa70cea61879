//! The clouds: a row for each, with what its documentation asks for. Above each
//! row stand the documents, and what they leave open.

use super::{Cloud, Container, GB, GIB, MIB, TIB};
use crate::boot::Firmware;

/// Every cloud, for its format to find it.
pub(super) const CLOUDS: [&Cloud; 9] =
    [&AWS, &GCP, &AZURE, &OPENSTACK, &DIGITALOCEAN, &HETZNER, &ORACLE, &VULTR, &SCALEWAY];

/// Consoles by architecture: of machines like PCs, of QEMU's for arm64, which
/// has a PL011, and of those that show a screen.
type Consoles = [(&'static str, Option<&'static str>); 2];
const SERIAL: Consoles = [("amd64", Some("ttyS0")), ("arm64", Some("ttyAMA0"))];
const SERIAL_8250: Consoles = [("amd64", Some("ttyS0")), ("arm64", Some("ttyS0"))];
const SCREEN: Consoles = [("amd64", Some("tty0")), ("arm64", Some("tty0"))];
const SCREEN_PC: Consoles = [("amd64", Some("tty0")), ("arm64", None)];

/// What takes a machine's name and keys from any cloud, by how its path ends.
const METADATA: &str = "usr/lib/metadata/cloud.sh";
const CLOUD_INIT: &str = "bin/cloud-init";

/// "VM Import/Export User Guide": "Image formats" has raw; "Limitations" wants
/// less than 16 TiB (with a manifest file of AWS's own beyond 8 TiB) and, for
/// UEFI, `BOOTX64.EFI`. "EC2 User Guide": "Connect to the EC2 Serial Console"
/// has `ttyS0` for Linux, on any architecture; "Amazon EBS and NVMe", "Enhanced
/// networking" have the drivers, Xen's for instances that are not built on
/// Nitro; "Constraints" has sectors of 512 bytes.
///
/// `import-image` looks into the system, knows distributions only and no arm64:
/// take `import-snapshot` and `register-image`.
pub(in crate::format) const AWS: Cloud = Cloud {
    name: "aws",
    title: "AWS",
    about: "a raw disk for AWS",
    files: &[".raw"],
    container: Container::Raw,
    unit: 512,
    least: 0,
    most: Some((16 * TIB - 512, "less than 16 TiB")),
    firmware: Firmware::Both,
    console: SERIAL_8250,
    disks: &["nvme", "xen_blkfront"],
    networks: &["ena"],
    modules: &[],
    agents: &[],
};

/// "Image management best practices": a disk divided by MBR or GPT, as
/// `disk.raw` in a tar archive under gzip; "Manually import boot disks" wants
/// GNU tar's old format. "Requirements to build custom images": virtio or, on
/// machines of the third generation and T2A, gVNIC; VirtIO SCSI, with logical
/// sectors of 512 bytes; `ttyS0`, a 16550A.
///
/// Not found there: the largest disk; that sizes are whole GiB, which those who
/// import do; the console of arm64, which Flatcar's image takes to be the same.
pub(in crate::format) const GCP: Cloud = Cloud {
    name: "gcp",
    title: "Google Cloud",
    about: "a raw disk in a tar archive for Google Cloud",
    files: &[".img.tar.gz"],
    container: Container::TarGzip,
    unit: GIB,
    least: 0,
    most: None,
    firmware: Firmware::Both,
    console: SERIAL_8250,
    disks: &["virtio_scsi", "nvme"],
    networks: &["virtio_net", "gve"],
    modules: &[],
    agents: &[],
};

/// "Prepare Linux for imaging in Azure": a fixed VHD of whole MiB and at most
/// 1,023 GB, by BIOS or UEFI, `console=ttyS0`, the drivers of Hyper-V, VFAT, and
/// UDF for the disc of the first boot; an agent, which by "Creating generalized
/// images without a provisioning agent" tells Azure that the machine runs. The
/// least is that of an upload, "UploadSizeBytes" of the disks' API.
///
/// Not found there: the console of arm64, `ttyAMA0` in Fedora CoreOS's and
/// Flatcar's images.
pub(in crate::format) const AZURE: Cloud = Cloud {
    name: "azure",
    title: "Azure",
    about: "a fixed VHD disk for Azure",
    files: &[".vhd"],
    container: Container::Vhd,
    unit: MIB,
    least: 20 * MIB,
    most: Some((1023 * GIB, "at most 1023 GiB")),
    firmware: Firmware::Both,
    console: SERIAL,
    disks: &["hv_storvsc"],
    networks: &["hv_netvsc"],
    modules: &["udf", "vfat"],
    agents: &[METADATA, CLOUD_INIT, "bin/waagent", "bin/afterburn"],
};

/// "Virtual Machine Image Guide", "Image requirements": a console on `ttyS0`,
/// the keys from the metadata service or the config drive. "Convert images" has
/// qcow2. Sizes, firmware and drivers are those of the flavors and of KVM.
///
/// Not found there: the console of arm64, which is QEMU's.
pub(in crate::format) const OPENSTACK: Cloud = Cloud {
    name: "openstack",
    title: "OpenStack",
    about: "a qcow2 disk for OpenStack",
    files: &[".qcow2"],
    container: Container::Qcow2,
    unit: 512,
    least: 0,
    most: None,
    firmware: Firmware::Both,
    console: SERIAL,
    disks: &["virtio_blk", "virtio_scsi"],
    networks: &["virtio_net"],
    modules: &[],
    agents: &[],
};

/// "Custom Images", "Image Requirements" and "Limits": less than 100 GB, raw
/// with an MBR or GPT, compressed by gzip or bzip2, ext3 or ext4, cloud-init or
/// its like, sshd; addresses by DHCP.
///
/// Not found there: the drivers, which are KVM's; the console, which is a screen
/// in the browser. There are no machines of arm64.
pub(in crate::format) const DIGITALOCEAN: Cloud = Cloud {
    name: "digitalocean",
    title: "DigitalOcean",
    about: "a raw disk under gzip for DigitalOcean",
    files: &["-digitalocean.img.gz"],
    container: Container::Gzip,
    unit: MIB,
    least: 0,
    most: Some((100 * GB - 1, "less than 100 GB")),
    firmware: Firmware::Both,
    console: SCREEN_PC,
    disks: &["virtio_blk", "virtio_scsi"],
    networks: &["virtio_net"],
    modules: &["ext4"],
    agents: &[METADATA, CLOUD_INIT, "bin/coreos-cloudinit", "bin/ignition", "bin/afterburn"],
};

/// Imports nothing itself. The tool hcloud-upload-image writes raw disks under
/// bzip2, xz or zstd from the rescue system to the disk of a machine, x86 or
/// arm, that is as large as one likes.
///
/// Not found there: drivers and console, which is a screen in the browser.
pub(in crate::format) const HETZNER: Cloud = Cloud {
    name: "hetzner",
    title: "Hetzner Cloud",
    about: "a raw disk under xz for Hetzner Cloud",
    files: &["-hetzner.img.xz"],
    container: Container::Xz,
    unit: MIB,
    least: 0,
    most: None,
    firmware: Firmware::Both,
    console: SCREEN,
    disks: &["virtio_scsi"],
    networks: &["virtio_net"],
    modules: &[],
    agents: &[],
};

/// "Bring Your Own Image": qcow2 or VMDK of at most 400 GB, one disk, found by
/// UUID; paravirtualized, that is virtio, for arm64 and AMD. "Image Capabilities"
/// has BIOS and UEFI_64, which one says at the import.
///
/// Not found there: the console; that of arm64 is QEMU's.
pub(in crate::format) const ORACLE: Cloud = Cloud {
    name: "oracle",
    title: "Oracle Cloud",
    about: "a qcow2 disk for Oracle Cloud",
    files: &["-oracle.qcow2"],
    container: Container::Qcow2,
    unit: MIB,
    least: 0,
    most: Some((400 * GB, "at most 400 GB")),
    firmware: Firmware::Both,
    console: SERIAL,
    disks: &["virtio_scsi", "virtio_blk"],
    networks: &["virtio_net"],
    modules: &[],
    agents: &[],
};

/// "Create Url" of its command line's reference, and "snapshot_from_url" of
/// Terraform's: a raw disk, for BIOS or, if one says so, UEFI.
///
/// Not found there: sizes, drivers and console, a screen in the browser. There
/// are no machines of arm64.
pub(in crate::format) const VULTR: Cloud = Cloud {
    name: "vultr",
    title: "Vultr",
    about: "a raw disk for Vultr",
    files: &["-vultr.img"],
    container: Container::Raw,
    unit: MIB,
    least: 0,
    most: None,
    firmware: Firmware::Both,
    console: SCREEN_PC,
    disks: &["virtio_blk"],
    networks: &["virtio_net"],
    modules: &[],
    agents: &[],
};

/// "Using the snapshot import/export feature": qcow2 without zstd, encryption
/// or a backing file, named `.qcow2`, between 1 GB and 1 TB. "How to use the
/// serial console". UEFI by "How to create an openWRT image for Scaleway
/// Instances".
///
/// Not found there: drivers, which are KVM's, and the console's name; that of
/// arm64 is QEMU's.
pub(in crate::format) const SCALEWAY: Cloud = Cloud {
    name: "scaleway",
    title: "Scaleway",
    about: "a qcow2 disk for Scaleway",
    files: &["-scaleway.qcow2"],
    container: Container::QcowPlain,
    unit: GIB,
    least: GB,
    most: Some((1000 * GB, "at most 1 TB")),
    firmware: Firmware::Efi,
    console: SERIAL,
    disks: &["virtio_blk", "virtio_scsi"],
    networks: &["virtio_net"],
    modules: &[],
    agents: &[],
};
