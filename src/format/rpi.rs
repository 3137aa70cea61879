//! `rpi`: a card for a Raspberry Pi 3, 4 or 5.
//!
//! The firmware is Debian's `raspi-firmware`; the device trees come with the
//! kernel, as those of `@pkg:pkg/kernel-rpi` do. A file `boot/config.txt` of
//! the system is added to the firmware's settings.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};

use super::disk::{self, Contents, Sizes};
use super::driver::Drivers;
use super::root::Root;
use super::{Format, Output, able, console, loader};
use crate::boot::{self, Scheme};
use crate::error::WithHint;
use crate::manifest::Table;
use crate::system::System;
use crate::tree::{Content, Kind, Tree};

pub(super) const FORMAT: Format = Format {
    name: "rpi",
    about: "a card for Raspberry Pi 3, 4 and 5",
    files: &["-rpi.img"],
    single: false,
    loaders: loader::RASPBERRY,
    write,
};

/// A board: its number, what the names of its device trees begin with, and
/// the drivers of its card, one of which is needed to find a root there.
type Board = (&'static str, &'static [&'static str], &'static [&'static str]);

const BOARDS: [Board; 3] = [
    ("3", &["bcm2837-rpi-", "bcm2710-rpi-"], &["sdhci_iproc", "bcm2835"]),
    ("4", &["bcm2711-rpi-"], &["sdhci_iproc"]),
    ("5", &["bcm2712-rpi-", "bcm2712-d-rpi-", "bcm2712d0-rpi-"], &["sdhci_brcmstb"]),
];
/// The serial ports of a Raspberry Pi 5, and of 3 and 4, and the screen.
const CONSOLES: [&str; 3] = ["ttyAMA10,115200", "ttyS1,115200", "tty0"];
/// Settings that a system adds.
const SETTINGS: &[u8] = b"boot/config.txt";
/// The most settings that are read, in bytes.
const SETTINGS_MAX: u64 = 64 << 10;

fn write(system: &System, output: &mut Output<'_>) -> Result<()> {
    let architecture = &system.platform.architecture;
    if architecture != "arm64" {
        return Err(anyhow!("expected the architecture arm64, got {architecture}"))
            .hint(|| "say `--arch arm64`".to_owned());
    }
    let asked = system.disk.as_ref();
    let gpt = asked.and_then(|disk| disk.table.as_ref()).is_some_and(|t| t.value == Table::Gpt);
    ensure!(!gpt, "expected the partition table mbr: a Raspberry Pi 3 reads no other");
    let large = asked.and_then(|disk| disk.sector.as_ref()).is_some_and(|size| size.value.0 != 512);
    ensure!(!large, "expected sectors of 512 bytes, which cards have");
    let trees = trees(&system.tree);
    check_trees(&trees, output)?;
    let system = console::with(system, &CONSOLES);
    let default = default_root(&system, output)?;
    let Contents { start, options } = disk::contents(&system, output, default, Some(Scheme::Mbr))?;
    let settings = settings(&system.tree)?;
    let image = disk::fit("the card", &system.tree, options, Sizes::ANY, &|options| {
        boot::card(&output.options.loaders, &start, &trees, &settings, options)
    })?;
    output.image("-rpi.img", &image)
}

/// Finds the device trees of all boards, by name: wherever the kernel's
/// package has them.
fn trees(tree: &Tree) -> BTreeMap<String, Content> {
    let prefixes: Vec<&str> = BOARDS.iter().flat_map(|board| board.1).copied().collect();
    let mut found = BTreeMap::new();
    for entry in tree.walk() {
        let path = String::from_utf8_lossy(&entry.path);
        let name = path.rsplit('/').next().unwrap_or_default();
        let wanted = name.ends_with(".dtb") && prefixes.iter().any(|start| name.starts_with(start));
        if let (true, Kind::File(content)) = (wanted, &tree.get(entry.id).kind) {
            found.insert(name.to_owned(), content.clone());
        }
    }
    found
}

/// Tells of boards that the kernel has no device tree for.
fn check_trees(trees: &BTreeMap<String, Content>, output: &mut Output<'_>) -> Result<()> {
    if trees.is_empty() {
        return Err(anyhow!("expected device trees of a Raspberry Pi beside the kernel, got none"))
            .hint(|| "take the kernel `@pkg:pkg/kernel-rpi`".to_owned());
    }
    for (board, prefixes, _) in BOARDS {
        if !trees.keys().any(|name| prefixes.iter().any(|start| name.starts_with(start))) {
            output.warn(format!("the kernel has no device tree of a Raspberry Pi {board}"));
        }
    }
    Ok(())
}

/// Decides how a card holds the root where the manifest does not say: on a
/// partition if the kernel finds it there on every board, else in the initrd,
/// which the firmware loads.
fn default_root(system: &System, output: &mut Output<'_>) -> Result<Option<Root>> {
    let Some(drivers) = Drivers::of(&system.tree)? else {
        return able::own_default(system);
    };
    let lacking: Vec<&Board> = BOARDS
        .iter()
        .filter(|(_, _, cards)| !cards.iter().any(|driver| drivers.has(driver)))
        .collect();
    if lacking.is_empty() {
        return able::own_default(system);
    }
    if able::root(system, None)?.is_some() {
        for (board, _, cards) in lacking {
            let names = cards.join("` and `");
            output.warn(format!(
                "the kernel lacks `{names}`, which the card of a Raspberry Pi {board} needs: it \
                 will not find its root there, unless it is in the initrd"
            ));
        }
    }
    Ok(None)
}

fn settings(tree: &Tree) -> Result<String> {
    match tree.lookup(SETTINGS).map(|id| &tree.get(id).kind) {
        Some(Kind::File(text)) => {
            let text = text.gather(SETTINGS_MAX).context("reading boot/config.txt")?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        _ => Ok(String::new()),
    }
}
