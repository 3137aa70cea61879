//! For which machine an image is, as far as `run` must know to start it.
//!
//! Less than [`super::inspect()`]: a kernel's or an EFI program's header, and
//! of disks and discs the FAT that firmware looks in. The names there are
//! those of UEFI 2.10, section 3.5.1.1, and of Raspberry Pi's boot folder.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::detect::{self, Boots, Kind, Look};
use super::partition::u32_at;
use super::span::Span;
use super::{kernel, start, volume};
use crate::disk;
use crate::fs::fat;
use crate::tree::{Content, Tree};

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A machine, by its name in container images.
    Machine(&'static str),
    /// The card of a Raspberry Pi.
    Raspberry,
}

/// What the firmware of a Raspberry Pi hands over to.
#[derive(Debug)]
pub struct Card {
    /// The kernel.
    pub kernel: Content,
    /// The initrd.
    pub initrd: Option<Content>,
    /// The board's device tree.
    pub tree: Content,
    /// The kernel's command line.
    pub cmdline: String,
}

/// What UEFI starts where it was told nothing, and for which machine.
const PROGRAMS: [(&str, &str); 3] = [
    ("EFI/BOOT/BOOTX64.EFI", "amd64"),
    ("EFI/BOOT/BOOTAA64.EFI", "arm64"),
    ("EFI/BOOT/BOOTRISCV64.EFI", "riscv64"),
];
/// "Machine" of a PE header, and what it stands for.
const MACHINES: [(u32, &str); 3] = [(0x8664, "amd64"), (0xaa64, "arm64"), (0x5064, "riscv64")];

/// Tells by looking what an image is for; `None` where nothing tells, or it is
/// for several machines.
pub fn target(path: &Path) -> Result<Option<Target>> {
    let span = open(path)?;
    let look = Look::of(&span)?;
    let Some(kind) = look.kind() else {
        return Ok(None);
    };
    Ok(match kind {
        Kind::Kernel => kernel::machine(&look.head).map(Target::Machine),
        Kind::Uki | Kind::Efi => program(&look.head).map(Target::Machine),
        Kind::Iso(Boots { bios: true, .. })
        | Kind::Raw(Boots { bios: true, .. })
        | Kind::FixedVhd(Boots { bios: true, .. }) => Some(Target::Machine("amd64")),
        Kind::Iso(_) => one_of(disc(&span, &look)?),
        Kind::Raw(_) | Kind::FixedVhd(_) | Kind::Disk(_) => within(&span)?,
        // It would have to be unpacked whole.
        Kind::StreamVmdk => None,
        Kind::Root(_) | Kind::Initrd | Kind::Tar => None,
    })
}

/// Finds on a card what the firmware of a Raspberry Pi starts, with the first
/// of the device trees that is there. Settings of `config.txt` that hold for
/// some boards only are taken as all others.
pub fn card(path: &Path, trees: &[&str]) -> Result<Card> {
    let span = open(path)?;
    let volumes = volumes(&span)?;
    let boot = volumes.iter().find(|tree| is_card(tree)).context("expected a boot folder")?;
    let entry = start::of_card(boot)?.context("expected a config.txt")?;
    let file = |name: &str| start::content(boot, name);
    let kernel = file(&entry.kernel).with_context(|| format!("expected {}", entry.kernel))?;
    let initrd = entry.initrd.as_deref();
    let initrd =
        initrd.map(|name| file(name).with_context(|| format!("expected {name}"))).transpose()?;
    let tree = trees.iter().find_map(|name| file(name));
    let tree = tree.with_context(|| format!("expected the device tree {}", trees.join(" or ")))?;
    Ok(Card { kernel, initrd, tree, cmdline: entry.cmdline })
}

fn open(path: &Path) -> Result<Span> {
    let reading = || format!("reading {}", path.display());
    let file = File::open(path).with_context(reading)?;
    Span::of_file(Arc::new(file)).with_context(reading)
}

/// Reads for which machine an EFI program is.
fn program(head: &[u8]) -> Option<&'static str> {
    let header = usize::try_from(u32_at(head, 0x3c)?).ok()?;
    let machine = u32_at(head, header.checked_add(4)?)? & 0xffff;
    MACHINES.iter().find(|(number, _)| *number == machine).map(|(_, name)| *name)
}

/// Looks inside a disk, which may be a virtual one.
fn within(span: &Span) -> Result<Option<Target>> {
    let scratch = tempfile::tempdir().context("making a folder for what is unpacked")?;
    let opened = disk::open_image(&span.image(), scratch.path())?;
    let disk = match opened.kind {
        disk::Kind::Raw => span.clone(),
        _ => Span::of_image(&opened.image, span.len()).context("unpacking the disk")?,
    };
    let look = Look::of(&disk)?;
    Ok(match look.kind() {
        Some(Kind::Iso(Boots { bios: true, .. }) | Kind::Raw(Boots { bios: true, .. })) => {
            Some(Target::Machine("amd64"))
        }
        Some(Kind::Iso(_)) => one_of(disc(&disk, &look)?),
        _ => one_of(volumes(&disk)?),
    })
}

/// The FAT file systems that firmware finds on a disc.
fn disc(span: &Span, look: &Look) -> Result<Vec<Tree>> {
    let entries = detect::boot_entries(&look.catalog).into_iter();
    let places = entries.filter(|(platform, _)| *platform == detect::EFI);
    let places = places.map(|(_, sector)| u64::from(sector) * 2048).filter(|at| *at < span.len());
    places
        .filter_map(|at| span.part(at..span.len()).and_then(|part| fat(&part)).transpose())
        .collect()
}

/// The FAT file systems of a disk's partitions.
fn volumes(disk: &Span) -> Result<Vec<Tree>> {
    let Some(table) = disk::read(&disk.image())? else {
        return Ok(fat(disk)?.into_iter().collect());
    };
    let parts = table.partitions.iter().map(|found| disk.part(found.range.clone()));
    parts.filter_map(|part| part.and_then(|part| fat(&part)).transpose()).collect()
}

fn fat(span: &Span) -> Result<Option<Tree>> {
    let is_fat = volume::system(span)? == Some("FAT");
    is_fat.then(|| fat::open(&span.image())).transpose()
}

/// Says what all file systems together are for, if that is one thing.
fn one_of(trees: Vec<Tree>) -> Option<Target> {
    let named = |tree: &Tree| {
        let machines = PROGRAMS.iter().filter(|(path, _)| start::find(tree, path).is_some());
        let machines = machines.map(|(_, machine)| Target::Machine(machine));
        machines.chain(is_card(tree).then_some(Target::Raspberry)).collect::<Vec<_>>()
    };
    let mut found: Vec<Target> = trees.iter().flat_map(named).collect();
    found.dedup();
    (found.len() == 1).then(|| found[0])
}

/// Says whether this is the boot folder of a Raspberry Pi, 3 or 4 at least.
fn is_card(tree: &Tree) -> bool {
    let has = |name: &str| start::find(tree, name).is_some();
    has("config.txt") && (has("bootcode.bin") || has("start4.elf"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Inode, Kind, Metadata};

    fn folder(names: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for name in names {
            let kind = Kind::bytes(name.as_bytes());
            let inode = Inode { meta: Metadata::root(0o644, 0), kind, part: 0 };
            tree.insert(name.as_bytes(), inode).unwrap();
        }
        tree
    }

    #[test]
    fn tells_the_machine_by_what_firmware_looks_for() {
        let pc = || folder(&["EFI/BOOT/BOOTX64.EFI"]);
        let arm = || folder(&["EFI/Boot/bootaa64.efi"]);
        let card = folder(&["config.txt", "bootcode.bin"]);
        assert_eq!(one_of(vec![pc()]), Some(Target::Machine("amd64")));
        assert_eq!(one_of(vec![folder(&["a"]), arm()]), Some(Target::Machine("arm64")));
        assert_eq!(one_of(vec![card]), Some(Target::Raspberry));
        assert_eq!(one_of(vec![pc(), arm()]), None);
        assert_eq!(one_of(vec![folder(&["config.txt"])]), None);
    }

    #[test]
    fn reads_headers() {
        let mut head = vec![0; 256];
        head[0x3c] = 0x80;
        head[0x84..0x86].copy_from_slice(&[0x64, 0xaa]);
        assert_eq!(program(&head), Some("arm64"));
        head[0x3c..0x40].fill(0xff);
        assert_eq!(program(&head), None);
        assert_eq!(program(&[]), None);
    }
}
