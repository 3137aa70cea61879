//! The boot loaders that formats need: packages of Debian's, brought and
//! locked as the manifest's own images are.

use std::collections::BTreeSet;

use super::Format;
use super::machine::machine;
use crate::boot::Loaders;
use crate::oci::{Platform, Reference};
use crate::tree::Tree;

/// systemd's EFI programs.
pub(super) const STUB: &str = "systemd-boot-efi";

/// What UEFI starts.
pub(super) const EFI: &[&str] = &[STUB];
/// What a BIOS starts from a disk.
pub(super) const BIOS_DISK: &[&str] = &["syslinux", "syslinux-common"];
/// What a BIOS starts from a disc.
pub(super) const BIOS_DISC: &[&str] = &["isolinux", "syslinux-common"];
/// What either starts from a disk.
pub(super) const DISK: &[&str] = &[STUB, "syslinux", "syslinux-common"];
/// What either starts from a disc.
pub(super) const DISC: &[&str] = &[STUB, "isolinux", "syslinux-common"];

/// What a Raspberry Pi starts from a card.
pub(super) const RASPBERRY: &[&str] = &["raspi-firmware/non-free-firmware"];

/// Lists the packages that some formats need for a platform. Only PCs have a
/// BIOS.
pub fn loaders(formats: &[&Format], platform: &Platform) -> BTreeSet<Reference> {
    let has_bios = platform.architecture == "amd64";
    let names = formats.iter().flat_map(|format| format.loaders);
    let names = names.filter(|name| has_bios || **name == STUB || RASPBERRY.contains(name));
    names.map(|name| Reference::Debian((*name).to_owned())).collect()
}

/// Takes the boot loaders out of the packages.
pub fn find_loaders<'a>(packages: impl Iterator<Item = &'a Tree>, platform: &Platform) -> Loaders {
    let Ok(machine) = machine(platform) else {
        return Loaders::default();
    };
    packages.fold(Loaders::default(), |all, tree| all.or(Loaders::find(tree, machine)))
}
