//! The unified kernel image: kernel, initrd and command line in one EFI file.
//!
//! Follows the "Unified Kernel Image" specification of the UAPI group.

use anyhow::{Context, Result};

use super::loaders::Loaders;
use super::{Start, loaders, pe};
use crate::fs::Extents;

/// Makes a unified kernel image.
pub fn uki(loaders: &Loaders, start: &Start) -> Result<Extents> {
    let stub = loaders::bytes(loaders.stub.as_ref(), "systemd's EFI stub", "systemd-boot-efi")?;
    let text = |text: &str| Extents::of_bytes(text.as_bytes());
    let mut sections = Vec::new();
    if !start.os_release.is_empty() {
        sections.push((".osrel", text(&start.os_release)));
    }
    sections.push((".cmdline", text(&start.cmdline)));
    if !start.release.is_empty() {
        sections.push((".uname", text(&start.release)));
    }
    sections.extend(start.initrd.clone().map(|initrd| (".initrd", initrd)));
    // The kernel comes last: it may unpack itself into what lies behind it.
    sections.push((".linux", Extents::from(&start.kernel)));
    pe::with_sections(&Extents::of_bytes(stub), &sections).context("making a unified kernel image")
}
