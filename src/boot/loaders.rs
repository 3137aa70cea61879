//! The boot loaders, as Debian's packages have them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Machine, raspberry};
use crate::error::WithHint;
use crate::tree::{Content, Kind, Tree};

/// No boot loader comes near this many bytes.
const LIMIT: u64 = 8 << 20;

/// The bytes of boot loaders, as far as there are any: which are needed
/// depends on what is made.
#[derive(Clone, Debug, Default)]
pub struct Loaders {
    /// systemd's EFI stub, which a unified kernel image begins with.
    pub stub: Option<Content>,
    /// systemd-boot, a menu for UEFI.
    pub menu: Option<Content>,
    /// SYSLINUX's installer, which holds what it installs.
    pub syslinux: Option<Content>,
    /// SYSLINUX's boot code for the MBR of a GPT disk.
    pub gpt_code: Option<Content>,
    /// SYSLINUX's boot code for an MBR disk.
    pub mbr_code: Option<Content>,
    /// ISOLINUX.
    pub isolinux: Option<Content>,
    /// ISOLINUX's boot code for a disc that is a disk.
    pub hybrid_code: Option<Content>,
    /// The module that ISOLINUX loads first.
    pub module: Option<Content>,
    /// What a Raspberry Pi starts from, by its path on the boot partition.
    pub raspberry: BTreeMap<String, Content>,
}

impl Loaders {
    /// Takes the loaders for a machine out of a tree in which the packages
    /// `systemd-boot-efi`, `syslinux`, `syslinux-common`, `isolinux` and
    /// `raspi-firmware` are unpacked, all or some.
    pub fn find(tree: &Tree, machine: Machine) -> Self {
        let file = |path: &str| match &tree.get(tree.lookup(path.as_bytes())?).kind {
            Kind::File(content) => Some(content.clone()),
            _ => None,
        };
        let suffix = machine.suffix();
        Self {
            stub: file(&format!("usr/lib/systemd/boot/efi/linux{suffix}.efi.stub")),
            menu: file(&format!("usr/lib/systemd/boot/efi/systemd-boot{suffix}.efi")),
            syslinux: file("usr/bin/syslinux"),
            gpt_code: file("usr/lib/syslinux/mbr/gptmbr.bin"),
            mbr_code: file("usr/lib/syslinux/mbr/mbr.bin"),
            isolinux: file("usr/lib/ISOLINUX/isolinux.bin"),
            hybrid_code: file("usr/lib/ISOLINUX/isohdpfx.bin"),
            module: file("usr/lib/syslinux/modules/bios/ldlinux.c32"),
            raspberry: raspberry::firmware(tree),
        }
    }

    /// Adds what another one has and this one lacks.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            stub: self.stub.or(other.stub),
            menu: self.menu.or(other.menu),
            syslinux: self.syslinux.or(other.syslinux),
            gpt_code: self.gpt_code.or(other.gpt_code),
            mbr_code: self.mbr_code.or(other.mbr_code),
            isolinux: self.isolinux.or(other.isolinux),
            hybrid_code: self.hybrid_code.or(other.hybrid_code),
            module: self.module.or(other.module),
            raspberry: if self.raspberry.is_empty() { other.raspberry } else { self.raspberry },
        }
    }
}

/// Returns a loader's bytes, or the error that names its package.
pub(super) fn bytes(loader: Option<&Content>, name: &str, package: &str) -> Result<Vec<u8>> {
    let content = loader
        .with_context(|| format!("expected the boot loader {name}, got none"))
        .hint(|| format!("add the Debian package `{package}` to the boot loaders"))?;
    content.gather(LIMIT).with_context(|| format!("reading the boot loader {name}"))
}
