//! `ova`: a virtual machine to import, in one file: what it looks like (OVF),
//! the digests of its files, and its disk (VMDK, streamOptimized).
//!
//! Follows "Open Virtualization Format Specification" 1.1 (DSP0243), section
//! "Distribution as a Single File": ustar, the descriptor first, the manifest
//! behind it. The machine is what VirtualBox and VMware both know, as far as
//! the kernel has drivers for it. VMware's and VirtualBox's own settings are
//! left out, but for the firmware.

use std::io::{BufWriter, Write};

use anyhow::{Context, Result};

use super::driver::Drivers;
use super::{Format, Output, disk, loader, vmdk};
use crate::disk::ovf::{self, Bus, Machine};
use crate::env::EPOCH;
use crate::fs::tar;
use crate::oci::Digest;
use crate::system::System;
use crate::tree::Content;

pub(super) const FORMAT: Format = Format {
    name: "ova",
    about: "a virtual machine for VirtualBox and VMware",
    files: &[".ova"],
    single: false,
    loaders: loader::DISK,
    write,
};

const CPUS: u32 = 1;
/// Memory beyond what an initial root takes, in MiB.
const MEMORY: u64 = 1024;
/// Cards that VirtualBox and VMware both have, and one of VMware's only.
const CARDS: [(&str, &str); 2] = [("e1000", "E1000"), ("vmxnet3", "VmxNet3")];

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    let disk = disk::own(system, output)?;
    let name = plain(&output.options.name);
    let file = output.store.temporary()?;
    let reopened = || file.reopen().context("opening the disk");
    let disk_name = format!("{name}-disk1.vmdk");
    let mut out = BufWriter::with_capacity(1 << 20, reopened()?);
    vmdk::pack(&disk, &disk_name, output.store, &mut out)?;
    out.flush().context("writing the disk")?;
    let packed = Content::of_file(reopened()?)?;
    let (bus, card) = hardware(system, output)?;
    let machine = Machine {
        name: output.options.name.clone(),
        disk: disk_name.clone(),
        disk_len: packed.len(),
        capacity: disk.image.len(),
        cpus: CPUS,
        memory: memory(disk.image.len()),
        // A BIOS is what machines have by default; the disk starts from both.
        efi: system.platform.architecture != "amd64",
        bus,
        card,
    };
    let text = ovf::text(&machine);
    let text_name = format!("{name}.ovf");
    let files = [(&*text_name, Digest::of(text.as_bytes())), (&*disk_name, packed.digest()?)];
    let manifest = ovf::manifest(&files);
    output.stream(".ova", None, |out| {
        let bytes = |text: String| Content::Bytes(text.into_bytes().into());
        tar::write_file(&text_name, EPOCH, &bytes(text), out)?;
        tar::write_file(&format!("{name}.mf"), EPOCH, &bytes(manifest), out)?;
        tar::write_file(&disk_name, EPOCH, &packed, out)?;
        tar::finish(out)
    })
}

/// Chooses a controller and a card that the kernel knows.
fn hardware(system: &System, output: &mut Output<'_>) -> Result<(Bus, &'static str)> {
    let Some(drivers) = Drivers::of(&system.tree)? else {
        return Ok((Bus::Sata, CARDS[0].1));
    };
    let ide = !drivers.has("ahci") && drivers.has("ata_piix");
    let bus = if ide { Bus::Ide } else { Bus::Sata };
    let card = CARDS.iter().find(|(driver, _)| drivers.has(driver));
    if card.is_none_or(|(driver, _)| *driver == "vmxnet3") {
        output.warn(
            "the kernel lacks `e1000`, the driver of the one network card that VirtualBox and \
             VMware both have: take the kernel `@pkg:pkg/kernel-hardware`, or choose another \
             card after the import",
        );
    }
    Ok((bus, card.unwrap_or(&CARDS[0]).1))
}

/// Returns the memory of a machine in MiB: an initial root, compressed on the
/// disk, is in memory whole.
fn memory(disk: u64) -> u32 {
    let needed = MEMORY + 2 * (disk >> 20);
    u32::try_from(needed.next_multiple_of(256)).unwrap_or(u32::MAX)
}

/// Returns a name that ustar holds and that means the same everywhere.
fn plain(name: &str) -> String {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.chars().take(64).map(|c| if known(c) { c } else { '-' }).collect();
    if name.is_empty() { "system".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_so_that_all_can_read_it() {
        assert_eq!(plain("web-1.2"), "web-1.2");
        assert_eq!(plain("a b/ü"), "a-b--");
        assert_eq!(plain(""), "system");
        assert_eq!(plain(&"x".repeat(300)).len(), 64);
    }
}
