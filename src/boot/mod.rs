//! What firmware starts from: a unified kernel image, a disk, a disc.
//!
//! The boot loaders are bytes of Debian's packages, given as [`Loaders`];
//! nothing here runs their installers. A BIOS starts SYSLINUX from a disk and
//! ISOLINUX from a disc; UEFI starts a unified kernel image, or, where a BIOS
//! has to find kernel and initrd too, systemd-boot, so that both lie on the
//! medium once. A Raspberry Pi starts its own firmware from a card. Left out: GRUB, signatures for Secure Boot.

mod config;
mod disc;
mod disk;
mod esp;
mod loaders;
pub mod pe;
mod raspberry;
mod syslinux;
mod uki;

use std::fmt;

use crate::fs::Extents;
use crate::tree::Content;

pub use disc::{DiscOptions, disc};
pub use disk::{DiskOptions, Scheme, disk};
pub use loaders::Loaders;
pub use raspberry::card;
pub use uki::uki;

/// The firmware that an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A BIOS of a PC.
    Bios,
    /// UEFI.
    Efi,
    /// Either, from one image.
    Both,
}

impl Firmware {
    fn has_bios(self) -> bool {
        self != Self::Efi
    }

    fn has_efi(self) -> bool {
        self != Self::Bios
    }
}

/// The processor that an image is for, as far as booting differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// A PC of 64 bits.
    Amd64,
    /// An ARM machine of 64 bits.
    Arm64,
}

impl Machine {
    /// Returns the name by which UEFI looks for what to start.
    pub fn efi_file(self) -> &'static str {
        match self {
            Self::Amd64 => "EFI/BOOT/BOOTX64.EFI",
            Self::Arm64 => "EFI/BOOT/BOOTAA64.EFI",
        }
    }

    /// Returns the ending of the names of systemd's EFI files.
    fn suffix(self) -> &'static str {
        match self {
            Self::Amd64 => "x64",
            Self::Arm64 => "aa64",
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// What is started: a kernel and what it is given.
#[derive(Clone, Debug)]
pub struct Start {
    /// The processor.
    pub machine: Machine,
    /// The kernel: a bzImage, or an EFI stub kernel.
    pub kernel: Content,
    /// The initrd, microcode first; the kernel finds its root itself without.
    pub initrd: Option<Extents>,
    /// The kernel's command line.
    pub cmdline: String,
    /// The kernel's release, such as `6.12.0`, where it is known.
    pub release: String,
    /// Text of an os-release file, which names the system in a menu.
    pub os_release: String,
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
