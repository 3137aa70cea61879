//! Tells by looking what kind of disk a file is, and opens the disk within.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::{Extents, qcow2, vhd, vhdx, vmdk};

/// A kind of virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bytes themselves.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VMware's.
    Vmdk,
    /// Azure's.
    Vhd,
    /// Hyper-V's.
    Vhdx,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
        })
    }
}

/// A disk opened.
#[derive(Debug)]
pub struct Opened {
    /// What the file is.
    pub kind: Kind,
    /// The bytes of the disk.
    pub image: Extents,
}

/// Opens the disk in a file. What is compressed is unpacked into a file in
/// `scratch`, a folder, which vanishes with the disk.
pub fn open(file: &Arc<File>, scratch: &Path) -> Result<Opened> {
    open_image(&Extents::of_file(file)?, scratch)
}

/// Opens the disk in what is a part of a file, as [`open`] does.
pub fn open_image(file: &Extents, scratch: &Path) -> Result<Opened> {
    let kind = kind(file)?;
    let unpacked = || {
        let made = tempfile::tempfile_in(scratch).map(Arc::new);
        made.with_context(|| format!("making a file in {}", scratch.display()))
    };
    let image = match kind {
        Kind::Raw => Ok(file.clone()),
        Kind::Qcow2 => qcow2::open(file, &unpacked()?),
        Kind::Vmdk => vmdk::open(file, &unpacked()?),
        Kind::Vhd => vhd::open(file),
        Kind::Vhdx => vhdx::open(file),
    };
    let image = image.with_context(|| format!("reading the {kind} file"))?;
    Ok(Opened { kind, image })
}

fn kind(file: &Extents) -> Result<Kind> {
    let is_at = |at: Option<u64>, magic: &[u8]| match at {
        Some(at) if at + magic.len() as u64 <= file.len() => {
            file.bytes(at, magic.len()).map(|found| found == magic)
        }
        _ => Ok(false),
    };
    Ok(if is_at(Some(0), &qcow2::MAGIC.to_be_bytes())? {
        Kind::Qcow2
    } else if is_at(Some(0), &vmdk::MAGIC.to_le_bytes())? {
        Kind::Vmdk
    } else if is_at(Some(0), vhdx::MAGIC)? {
        Kind::Vhdx
    } else if is_at(file.len().checked_sub(vhd::FOOTER), vhd::COOKIE)? {
        Kind::Vhd
    } else {
        Kind::Raw
    })
}
