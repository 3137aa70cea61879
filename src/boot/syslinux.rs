//! SYSLINUX, installed by writing the bytes that its installer would write.
//!
//! The installer of Debian holds the boot sector, `ldlinux.sys` and the
//! module `ldlinux.c32`. Follows SYSLINUX 6.04: libinstaller's `syslxmod.c`
//! and `setadv.c`, in what they write.

use anyhow::{Context, Result, ensure};

use crate::fs::fat;

/// What the boot sector begins with.
const BOOT_SECTOR: &[u8] = b"\xebX\x90SYSLINUX";
/// What `ldlinux.sys` begins with.
const CORE: &[u8] = b"\r\nSYSLINUX 6.";
const ELF: &[u8] = b"\x7fELF";
const SECTOR: usize = 512;
/// Where in `ldlinux.sys` the area begins that an installer fills in.
const AREA: usize = 0x18;
/// "LDLINUX_MAGIC": what the area begins with, and what all sums up to.
const MAGIC: u32 = 0x3eb2_02fe;
/// The magic numbers of the auxiliary data vector.
const ADV: [u32; 3] = [0x5a2d_2fa5, 0xa304_1767, 0xdd28_bf64];
/// Copies of the auxiliary data vector, of one sector each.
const ADV_SECTORS: usize = 2;
/// Bytes of the boot sector that belong to the file system.
const BPB: std::ops::Range<usize> = 0x0b..0x5a;

/// What the installer installs.
pub(super) struct Parts {
    boot_sector: Vec<u8>,
    /// `ldlinux.sys` with its auxiliary data vectors.
    pub(super) core: Vec<u8>,
    /// `ldlinux.c32`, which it loads first.
    pub(super) module: Vec<u8>,
}

impl Parts {
    /// Finds the parts in the installer.
    pub(super) fn find(installer: &[u8]) -> Result<Self> {
        let boot =
            position(installer, BOOT_SECTOR, 0).context("expected SYSLINUX's boot sector")?;
        let start = position(installer, CORE, boot).context("expected SYSLINUX's core")?;
        // The module lies behind the core, which has whole sectors.
        let mut end = start;
        loop {
            end = position(installer, ELF, end + 1).context("expected SYSLINUX's module")?;
            if (end - start).is_multiple_of(SECTOR) {
                break;
            }
        }
        let module_len = elf32_len(&installer[end..]).context("expected SYSLINUX's module")?;
        let mut core = installer[start..end].to_vec();
        ensure!(le32(&core, AREA)? == MAGIC, "expected SYSLINUX's core with its magic number");
        for _ in 0..ADV_SECTORS {
            core.extend(adv());
        }
        Ok(Self {
            boot_sector: installer[boot..boot + SECTOR].to_vec(),
            core,
            module: installer[end..end + module_len].to_vec(),
        })
    }

    /// Installs on a volume on which `core` lies at `path`.
    pub(super) fn install(&self, volume: &mut fat::Volume, path: &str) -> Result<()> {
        ensure!(
            volume.sector as usize == SECTOR,
            "expected sectors of 512 bytes for a BIOS, got {}",
            volume.sector
        );
        let place = volume.place(path).context("expected SYSLINUX's core on the volume")?;
        let first = place.start / SECTOR as u64;
        let (core, pointers) = self.patched(first)?;
        volume.image.put_bytes(place.start, core);
        let mut boot = volume.image.bytes(0, SECTOR)?;
        boot[..BPB.start].copy_from_slice(&self.boot_sector[..BPB.start]);
        boot[BPB.end..510].copy_from_slice(&self.boot_sector[BPB.end..510]);
        for (at, value) in pointers.into_iter().zip([first as u32, (first >> 32) as u32]) {
            let to = boot.get_mut(at..at + 4).context("expected a pointer in the boot sector")?;
            to.copy_from_slice(&value.to_le_bytes());
        }
        volume.image.put_bytes(0, boot);
        Ok(())
    }

    /// Returns the core as it is for a file that lies in one piece from
    /// sector `first` on, and where the boot sector points to it.
    fn patched(&self, first: u64) -> Result<(Vec<u8>, [usize; 2])> {
        let mut core = self.core.clone();
        let data = core.len() - ADV_SECTORS * SECTOR;
        let sectors = data / SECTOR;
        // The extended area: offsets of what else is filled in.
        let extended = usize::from(le16(&core, AREA + 22)?);
        let field = |index: usize| le16(&core, extended + 2 * index).map(usize::from);
        let (adv, extents, extents_len) = (field(0)?, field(5)?, field(6)?);
        let pointers = [field(7)?, field(8)?];
        ensure!(extents_len >= 1, "expected room for an extent in SYSLINUX's core");
        // An extent is loaded at once and ends within 64 KiB.
        ensure!(sectors < 128, "expected a core of less than 64 KiB, got {data} bytes");
        put(&mut core, AREA + 8, &(sectors as u16).to_le_bytes())?;
        put(&mut core, AREA + 10, &(ADV_SECTORS as u16).to_le_bytes())?;
        put(&mut core, AREA + 12, &(data as u32 / 4).to_le_bytes())?;
        // The boot sector loads the first sector, this extent the others.
        put(&mut core, extents, &(first + 1).to_le_bytes())?;
        put(&mut core, extents + 8, &(sectors as u16 - 1).to_le_bytes())?;
        for copy in 0..ADV_SECTORS {
            let sector = first + (sectors + copy) as u64;
            put(&mut core, adv + 8 * copy, &sector.to_le_bytes())?;
        }
        put(&mut core, AREA + 16, &[0; 4])?;
        let sum = sum(&core[..data]);
        put(&mut core, AREA + 16, &MAGIC.wrapping_sub(sum).to_le_bytes())?;
        Ok((core, pointers))
    }
}

/// Makes an empty auxiliary data vector.
fn adv() -> Vec<u8> {
    let data = [0; SECTOR - 12];
    let check = ADV[1].wrapping_sub(sum(&data));
    let [first, _, last] = ADV;
    [&first.to_le_bytes()[..], &check.to_le_bytes(), &data, &last.to_le_bytes()].concat()
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("4")));
    words.fold(0, u32::wrapping_add)
}

fn position(bytes: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let found = bytes.get(from..)?.windows(wanted.len()).position(|window| window == wanted)?;
    Some(from + found)
}

/// Returns the length of an ELF file of 32 bits: its section headers end it.
fn elf32_len(bytes: &[u8]) -> Option<usize> {
    let table = le32(bytes, 0x20).ok()? as usize;
    let (size, count) = (le16(bytes, 0x2e).ok()?, le16(bytes, 0x30).ok()?);
    let end = table.checked_add(usize::from(size) * usize::from(count))?;
    (count > 0 && end <= bytes.len()).then_some(end)
}

fn le16(bytes: &[u8], at: usize) -> Result<u16> {
    let found = bytes.get(at..at + 2).context("expected a field within SYSLINUX's core")?;
    Ok(u16::from_le_bytes([found[0], found[1]]))
}

fn le32(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from(le16(bytes, at)?) | u32::from(le16(bytes, at + 2)?) << 16)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<()> {
    let to = bytes.get_mut(at..at + value.len());
    to.context("expected a field within SYSLINUX's core")?.copy_from_slice(value);
    Ok(())
}
