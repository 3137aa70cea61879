//! The EFI system partition, which is also what SYSLINUX starts from.

use anyhow::{Context, Result};

use super::loaders::{self, Loaders};
use super::syslinux::Parts;
use super::{Firmware, Start, config, uki};
use crate::fs::{Composed, Extents, fat};
use crate::tree::{Inode, Kind, Metadata, Tree};

/// Where the kernel and the initrd lie, where they lie alone.
pub(super) const KERNEL: &str = "kernel";
pub(super) const INITRD: &str = "initrd.img";
const CORE: &str = "LDLINUX.SYS";

/// Who starts from a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starts {
    /// UEFI alone, by a unified kernel image.
    Efi,
    /// UEFI by systemd-boot; kernel and initrd are files of their own, which
    /// others start too.
    Menu,
    /// SYSLINUX alone.
    Syslinux,
    /// SYSLINUX, and UEFI by systemd-boot.
    Both,
}

impl From<Firmware> for Starts {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Bios => Self::Syslinux,
            Firmware::Efi => Self::Efi,
            Firmware::Both => Self::Both,
        }
    }
}

/// Lays out the volume.
pub(super) fn volume(
    starts: Starts,
    loaders: &Loaders,
    start: &Start,
    options: &fat::Options,
) -> Result<fat::Volume> {
    let mut files = Files { tree: Tree::new(), composed: Composed::new(), time: options.time };
    if starts == Starts::Efi {
        files.large(start.machine.efi_file(), uki::uki(loaders, start)?);
    } else {
        files.large(KERNEL, Extents::from(&start.kernel));
        if let Some(initrd) = &start.initrd {
            files.large(INITRD, initrd.clone());
        }
    }
    let (kernel, initrd) = (format!("/{KERNEL}"), format!("/{INITRD}"));
    if matches!(starts, Starts::Menu | Starts::Both) {
        let menu = loaders::bytes(loaders.menu.as_ref(), "systemd-boot", "systemd-boot-efi")?;
        files.small(start.machine.efi_file(), menu)?;
        files.small("loader/loader.conf", config::menu())?;
        let entry = config::menu_entry(start, &kernel, &initrd)?;
        files.small("loader/entries/moby.conf", entry)?;
    }
    let mut parts = None;
    if matches!(starts, Starts::Syslinux | Starts::Both) {
        let installer = loaders::bytes(loaders.syslinux.as_ref(), "SYSLINUX", "syslinux")?;
        let found = Parts::find(&installer).context("reading SYSLINUX's installer")?;
        files.small(CORE, found.core.clone())?;
        files.small("LDLINUX.C32", found.module.clone())?;
        files.small("SYSLINUX.CFG", config::syslinux(start, &kernel, &initrd)?)?;
        parts = Some(found);
    }
    let mut volume = fat::plan(&files.tree, &files.composed, options)
        .context("laying out the partition to boot from")?;
    if let Some(parts) = parts {
        parts.install(&mut volume, CORE).context("installing SYSLINUX")?;
    }
    Ok(volume)
}

struct Files {
    tree: Tree,
    composed: Composed,
    time: i64,
}

impl Files {
    fn large(&mut self, path: &str, contents: Extents) {
        self.composed.insert(path.as_bytes().to_vec(), contents);
    }

    fn small(&mut self, path: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let meta = Metadata::root(0o644, self.time);
        let inode = Inode { meta, kind: Kind::bytes(bytes.as_ref()), part: 0 };
        self.tree.insert(path.as_bytes(), inode).map(drop)
    }
}
