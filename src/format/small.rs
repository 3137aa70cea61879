//! A small initrd: init and the drivers that a root on a disk may need. It
//! finds the root by the kernel argument `root=` and hands over to the init
//! there.
//!
//! The drivers are told by the kernel package's index of modules; a kernel
//! without one brings all its modules.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};
use moby_bundle::modules::Index;

use super::driver::Drivers;
use super::{Compression, initrd};
use crate::fs::Extents;
use crate::store::Store;
use crate::system::System;
use crate::tree::{Content, Id, Kind, Tree};

/// Where kernels put their modules, on systems new and old.
const MODULES: [&[u8]; 2] = [b"lib/modules", b"usr/lib/modules"];
/// The index of modules, `moby_bundle::modules`.
const INDEX: &[u8] = b"moby.modules";
/// The largest index that is read, in bytes.
const INDEX_MAX: u64 = 64 << 20;
/// Where init mounts things before there is a root.
const FOLDERS: [&[u8]; 6] = [b"dev", b"proc", b"sys", b"run", b"tmp", b"mnt"];
/// Disks, buses that they are on, and file systems, by name or alias.
const DRIVERS: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "nvme",
    "ahci",
    "ata_piix",
    "ata_generic",
    "sd_mod",
    "sr_mod",
    "xen_blkfront",
    "hv_vmbus",
    "hv_storvsc",
    "pci_hyperv",
    "vmw_pvscsi",
    "mptspi",
    "mptsas",
    "megaraid_sas",
    "xhci_pci",
    "ehci_pci",
    "usb_storage",
    "uas",
    "mmc_block",
    "sdhci_pci",
    "sdhci_acpi",
    // A Raspberry Pi's card and USB, and what these wait for: their power,
    // their lines and their interrupts.
    "sdhci_iproc",
    "sdhci_brcmstb",
    "bcm2835",
    "dwc2",
    "reset_raspberrypi",
    "fixed",
    "gpio_regulator",
    "gpio_brcmstb",
    "pinctrl_brcmstb_bcm2712",
    "irq_bcm2712_mip",
    "fs-squashfs",
    "fs-erofs",
    "fs-ext4",
    "fs-iso9660",
    // A disc has no partitions: init makes a device of the root's part of it.
    "loop",
    "crc32c",
    "crc32c_intel",
];

/// Makes the initrd; a kernel without modules needs none for a partition.
pub(super) fn initrd(
    system: &System,
    store: &Store,
    compression: Compression,
) -> Result<Option<Extents>> {
    let whole = || whole(system, store, compression);
    has_modules(&system.tree).then(whole).transpose()
}

/// Makes the initrd, also for a kernel without modules.
pub(super) fn whole(system: &System, store: &Store, compression: Compression) -> Result<Extents> {
    let tree = tree(&system.tree).context("making the initrd that finds the root")?;
    let ucode = system.kernel.as_ref().and_then(|kernel| kernel.ucode.as_ref());
    initrd::plan(&tree, ucode, store, compression)
}

/// Tells whether a system has modules for its kernel.
pub(super) fn has_modules(tree: &Tree) -> bool {
    modules(tree).is_some()
}

/// Tells whether a driver, such as that of a file system, is among the modules or built
/// in by the word of depmod's files.
pub(super) fn has_module(tree: &Tree, kind: &str) -> Result<bool> {
    let Some((.., folder)) = modules(tree) else {
        return Ok(false);
    };
    if let Some(Kind::File(text)) = tree.child(folder, INDEX).map(|id| &tree.get(id).kind) {
        let text = read_index(text)?;
        let index = Index::parse(&text).map_err(|error| anyhow!("index of modules: {error}"))?;
        if !index.find(kind).is_empty() || !index.find(&format!("fs-{kind}")).is_empty() {
            return Ok(true);
        }
    }
    Ok(Drivers::seen(tree)?.0.has(kind))
}

fn read_index(text: &Content) -> Result<String> {
    let text = text.gather(INDEX_MAX).context("reading the index of modules")?;
    String::from_utf8(text).context("reading the index of modules")
}

/// Returns the version of the system's kernel, as its modules tell it.
pub(super) fn release(tree: &Tree) -> Option<String> {
    let (_, version, _) = modules(tree)?;
    String::from_utf8(version).ok()
}

/// Finds the modules: the folder they are in, the kernel's version, and the
/// folder of that.
pub(super) fn modules(tree: &Tree) -> Option<(&'static [u8], Vec<u8>, Id)> {
    MODULES.into_iter().find_map(|path| {
        let mut below = tree.entries(tree.lookup(path)?)?.iter();
        let found = below.find(|(_, entry)| tree.entries(entry.id).is_some());
        found.map(|(version, entry)| (path, version.to_vec(), entry.id))
    })
}

fn tree(system: &Tree) -> Result<Tree> {
    let mut small = Tree::new();
    let init = system.lookup(b"init").context("expected /init in the root, found none")?;
    small.insert(b"init", system.get(init).clone())?;
    for path in FOLDERS {
        let mut inode = system.get(system.root()).clone();
        (inode.kind, inode.meta.mode) = (Kind::directory(), 0o755);
        small.insert(path, inode)?;
    }
    if let Some((base, version, folder)) = modules(system) {
        add_modules(system, (base, &version, folder), &mut small)?;
    }
    Ok(small)
}

/// Adds the modules that a disk may need, and their index.
fn add_modules(
    system: &Tree,
    (base, version, folder): (&[u8], &[u8], Id),
    small: &mut Tree,
) -> Result<()> {
    let base = [base, b"/", version].concat();
    let target = |path: &[u8]| [b"lib/modules/", version, b"/", path].concat();
    let index = system.child(folder, INDEX).map(|id| system.get(id));
    let Some(Kind::File(text)) = index.map(|inode| &inode.kind) else {
        return copy_all(system, &base, small, &target);
    };
    let (kept, paths) = select(&read_index(text)?)?;
    for path in paths {
        let from = [base.as_slice(), b"/", path.as_bytes()].concat();
        let id = system.lookup(&from).with_context(|| format!("expected the module {path}"))?;
        small.insert(&target(path.as_bytes()), system.get(id).clone())?;
    }
    let mut inode = index.expect("there is an index").clone();
    inode.kind = Kind::bytes(kept.into_bytes());
    small.insert(&target(INDEX), inode)?;
    Ok(())
}

/// Takes out of an index what the drivers and their needs are; gives back the
/// index of these, and their paths.
fn select(text: &str) -> Result<(String, BTreeSet<String>)> {
    let index = Index::parse(text).map_err(|error| anyhow!("index of modules: {error}"))?;
    let none = BTreeSet::new();
    let drivers = DRIVERS.iter().flat_map(|wanted| index.find(wanted));
    let paths: BTreeSet<String> = drivers
        .flat_map(|name| index.plan(name, &none))
        .map(|module| module.path.to_owned())
        .collect();
    let mut kept = String::new();
    let mut keep = true;
    for (number, line) in text.lines().enumerate() {
        if number > 0 && !line.starts_with(' ') {
            keep = line.split(' ').next().is_some_and(|path| paths.contains(path));
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok((kept, paths))
}

fn copy_all(
    system: &Tree,
    base: &[u8],
    small: &mut Tree,
    target: &dyn Fn(&[u8]) -> Vec<u8>,
) -> Result<()> {
    let prefix = [base, b"/"].concat();
    for found in system.walk() {
        let inode = system.get(found.id);
        if let (Some(rest), Kind::File(_)) = (found.path.strip_prefix(&prefix[..]), &inode.kind) {
            small.insert(&target(rest), inode.clone())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Inode, Metadata};

    const TEXT: &str = "moby-modules 1\n\
        kernel/failover.ko failover - - -\n\
        kernel/virtio.ko virtio - - -\n\
        kernel/virtio_blk.ko virtio_blk virtio - -\n virtio:d2v*\n\
        kernel/sq.ko squashfs - - -\n fs-squashfs\n";

    #[test]
    fn holds_what_a_disk_needs() {
        let mut system = Tree::new();
        let file = |bytes: &[u8]| Inode {
            meta: Metadata::root(0o644, 0),
            kind: Kind::bytes(bytes),
            part: 0,
        };
        assert!(!has_modules(&system));
        system.insert(b"init", file(b"init")).unwrap();
        for name in ["failover", "virtio", "virtio_blk", "sq"] {
            let path = format!("usr/lib/modules/6.1/kernel/{name}.ko");
            system.insert(path.as_bytes(), file(b"ko")).unwrap();
        }
        system.insert(b"usr/lib/modules/6.1/moby.modules", file(TEXT.as_bytes())).unwrap();
        let small = tree(&system).unwrap();
        let has = |name: &str| {
            small.lookup(format!("lib/modules/6.1/kernel/{name}.ko").as_bytes()).is_some()
        };
        assert!(has("virtio") && has("virtio_blk") && has("sq") && !has("failover"));
        let (kept, _) = select(TEXT).unwrap();
        assert_eq!(kept, TEXT.replace("kernel/failover.ko failover - - -\n", ""));
        assert_eq!(release(&system).as_deref(), Some("6.1"));
        let driver = |kind| has_module(&system, kind).unwrap();
        assert!(driver("squashfs") && !driver("erofs") && !driver("ext4"));
        system
            .insert(b"usr/lib/modules/6.1/modules.builtin", file(b"kernel/fs/erofs/erofs.ko\n"))
            .unwrap();
        system.insert(b"usr/lib/modules/6.1/kernel/ext4.ko.xz", file(b"ko")).unwrap();
        let driver = |kind| has_module(&system, kind).unwrap();
        assert!(driver("erofs") && driver("ext4") && !driver("xfs"));
    }
}
