//! Plays the firmware of a Raspberry Pi: QEMU starts no card by itself.
//!
//! Kernel, initrd, device tree and command line are taken out of the card's
//! boot folder as `config.txt` names them, and QEMU's Raspberry Pi 3 is given
//! them with the card. Overlays and all other settings are left out.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::arguments::Direct;
use super::disk::Drive;
use super::process::{self, Program};
use crate::fs::Extents;
use crate::inspect::target;
use crate::tree::Content;

/// What the device tree of QEMU's board is called, in the kernel's own
/// sources and in those of Raspberry Pi.
const TREES: [&str; 2] = ["bcm2837-rpi-3-b.dtb", "bcm2710-rpi-3-b.dtb"];

/// Takes out of a card what its board starts, into the folder of the
/// machine's state. The guest writes to a layer over the card, which is as
/// large as a power of two: QEMU takes no others.
pub fn prepare(card: &Path, state: &Path, search: &str) -> Result<(Direct, Drive)> {
    let found =
        target::card(card, &TREES).with_context(|| format!("reading {}", card.display()))?;
    let write = |name: &str, content: &Content| write(state.join(name), content);
    let direct = Direct {
        kernel: write("card-kernel", &found.kernel)?,
        initrd: found.initrd.as_ref().map(|initrd| write("card-initrd", initrd)).transpose()?,
        tree: Some(write("card.dtb", &found.tree)?),
        cmdline: found.cmdline,
    };
    let layer = state.join("card.qcow2");
    let size = card.metadata().with_context(|| format!("reading {}", card.display()))?.len();
    let card = card.canonicalize().with_context(|| format!("looking for {}", card.display()))?;
    let tool = process::need("qemu-img", search, "qemu-utils")?;
    let (below, above) = (card.display().to_string(), layer.display().to_string());
    let size = size.next_power_of_two().to_string();
    let words = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &below, &above, &size];
    Program::new(tool, words.map(str::to_owned).to_vec()).output()?;
    Ok((direct, Drive::new(&layer, "qcow2")))
}

fn write(path: PathBuf, content: &Content) -> Result<PathBuf> {
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let copied = Extents::from(content).write_file(&file);
    copied.with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
