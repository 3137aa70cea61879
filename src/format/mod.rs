//! What a system is written as: one file and one row in [`FORMATS`] each.
//!
//! Help, validation, the README's table, and the tests for reproducibility,
//! foreign judges and boots iterate the table.

mod able;
mod cloud;
mod compression;
mod console;
mod data;
mod digested;
mod disk;
mod docker;
mod driver;
mod identity;
mod initrd;
mod iso;
mod kernel_initrd;
mod kernel_root;
mod loader;
mod machine;
mod oci;
mod output;
mod ova;
mod pack;
mod packing;
mod pending;
mod qcow2;
mod raw;
mod root;
mod rpi;
mod small;
mod tar;
mod tar_kernel_initrd;
mod uki;
mod vhd;
mod vhdx;
mod vmdk;

use std::collections::BTreeMap;

use anyhow::Result;

use crate::oci::Platform;
use crate::system::System;

pub use crate::fs::Compression as RootCompression;
pub use compression::Compression;
pub use loader::{find_loaders, loaders};
pub use output::{Options, Output, Target, Written, check_root_compression, write_with};
pub use packing::Packing;
pub use pending::abandon;

/// A form that a system can be written in.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Its name on the command line; LinuxKit's where it has one.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// The endings of the files that it writes, behind the build's name.
    pub files: &'static [&'static str],
    /// Whether it is written only alone, as LinuxKit has it.
    pub single: bool,
    /// The packages of Debian's whose boot loaders it needs.
    pub loaders: &'static [&'static str],
    /// Writes a system.
    pub write: fn(&System, &mut Output<'_>) -> Result<()>,
}

impl Format {
    /// Says whether it is for machines of a platform.
    pub fn is_for(&self, platform: &Platform) -> bool {
        let pc = platform.architecture == "amd64";
        match self.name {
            "rpi" => platform.architecture == "arm64",
            "digitalocean" | "vultr" => pc,
            // Only PCs have a BIOS.
            _ => pc || self.loaders.is_empty() || self.loaders.contains(&loader::STUB),
        }
    }
}

/// All formats, in the order in which people are shown them.
pub const FORMATS: &[Format] = &[
    kernel_initrd::FORMAT,
    tar_kernel_initrd::FORMAT,
    kernel_root::SQUASHFS,
    kernel_root::EROFS,
    kernel_root::ISO,
    iso::BIOS,
    iso::EFI,
    iso::EFI_INITRD,
    iso::BOTH,
    raw::BIOS,
    raw::EFI,
    raw::BOTH,
    qcow2::BIOS,
    qcow2::EFI,
    qcow2::BOTH,
    vmdk::FORMAT,
    vhd::FIXED,
    vhd::DYNAMIC,
    vhdx::FORMAT,
    ova::FORMAT,
    uki::FORMAT,
    cloud::AWS.format(),
    cloud::GCP.format(),
    cloud::AZURE.format(),
    cloud::OPENSTACK.format(),
    cloud::DIGITALOCEAN.format(),
    cloud::HETZNER.format(),
    cloud::ORACLE.format(),
    cloud::VULTR.format(),
    cloud::SCALEWAY.format(),
    rpi::FORMAT,
    tar::FORMAT,
    docker::FORMAT,
    oci::FORMAT,
];

/// Endings of files that are the same whichever format writes them.
const SHARED: [&str; 3] = ["-kernel", "-cmdline", "-root-initrd.img"];

/// What is written where nothing is asked for.
pub const DEFAULT: &str = kernel_initrd::FORMAT.name;

/// Finds a format by its name.
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// Finds two of some formats that would write different files of one name.
pub fn clash(formats: &[&Format]) -> Option<(&'static str, &'static str, &'static str)> {
    let mut written: BTreeMap<&str, &str> = BTreeMap::new();
    for format in formats {
        for ending in format.files.iter().filter(|ending| !SHARED.contains(ending)) {
            let former = written.insert(ending, format.name);
            if let Some(former) = former.filter(|former| *former != format.name) {
                return Some((former, format.name, ending));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_files_of_one_name() {
        let formats = |names: &[&str]| -> Vec<&Format> {
            names.iter().map(|name| find(name).unwrap()).collect()
        };
        let apart = ["kernel+initrd", "kernel+squashfs", "kernel+erofs", "raw", "raw-efi", "uki"];
        assert_eq!(clash(&formats(&apart)), None);
        assert_eq!(clash(&formats(&["raw", "raw"])), None);
        let told = clash(&formats(&["kernel+iso", "iso"]));
        assert_eq!(told, Some(("kernel+iso", "iso", ".iso")));
    }
}
