//! El Torito: the boot catalog, and the table that a boot loader finds its
//! disc by.

use anyhow::{Context, Result, ensure};

use super::{Platform, SECTOR};
use crate::fs::extents::Extents;

/// The first sector of the volume descriptors.
const DESCRIPTORS: u32 = 16;
/// Size of the part of a boot loader that the BIOS loads, in sectors of 512.
const LOADED: u16 = 4;
/// The largest boot loader that is summed up.
const LOADER_LIMIT: u64 = 4 << 20;

impl Platform {
    fn number(self) -> u8 {
        match self {
            Self::Bios => 0,
            Self::Efi => 0xef,
        }
    }
}

/// A boot entry in its place.
pub(super) struct Placed {
    pub(super) platform: Platform,
    pub(super) sector: u32,
    pub(super) len: u64,
}

/// Makes the boot catalog.
pub(super) fn catalog(entries: &[Placed]) -> Result<Vec<u8>> {
    let (first, others) = entries.split_first().context("expected a boot entry")?;
    ensure!(others.len() <= 30, "expected at most 31 boot entries");
    let mut out = validation(first.platform);
    out.extend_from_slice(&entry(first));
    for (index, other) in others.iter().enumerate() {
        let last = index + 1 == others.len();
        let mut header = [0; 32];
        header[0] = if last { 0x91 } else { 0x90 };
        header[1] = other.platform.number();
        header[2..4].copy_from_slice(&1_u16.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&entry(other));
    }
    out.resize(SECTOR as usize, 0);
    Ok(out)
}

fn validation(platform: Platform) -> Vec<u8> {
    let mut out = vec![0; 32];
    out[0] = 1;
    out[1] = platform.number();
    out[4..8].copy_from_slice(b"moby");
    out[30..].copy_from_slice(&[0x55, 0xaa]);
    let words = out.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0, u16::wrapping_add);
    out[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    out
}

fn entry(placed: &Placed) -> [u8; 32] {
    let mut out = [0; 32];
    // Bootable, without emulation.
    out[0] = 0x88;
    let count = match placed.platform {
        Platform::Bios => LOADED,
        // More than the field holds: firmware then looks for the end itself.
        Platform::Efi => u16::try_from(placed.len.div_ceil(512)).unwrap_or(0),
    };
    out[6..8].copy_from_slice(&count.to_le_bytes());
    out[8..12].copy_from_slice(&placed.sector.to_le_bytes());
    out
}

/// Makes the boot info table, bytes 8 to 63 of a boot loader: where the
/// descriptors and the loader itself are, and its sum from byte 64 on.
pub(super) fn info_table(loader: &Extents, sector: u32) -> Result<Vec<u8>> {
    let len = loader.len();
    ensure!(
        (64..=LOADER_LIMIT).contains(&len),
        "expected a boot loader of 64 bytes to 4 MiB, got {len} bytes"
    );
    let mut bytes = loader.bytes(64, (len - 64) as usize)?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("4")));
    let sum = words.fold(0, u32::wrapping_add);
    let mut out = [DESCRIPTORS, sector, len as u32, sum].map(u32::to_le_bytes).concat();
    out.resize(56, 0);
    Ok(out)
}
