//! The records of a folder, 32 bytes each, and the boot sector.

use super::name::{Name, Short, checksum};
use super::{Bits, Options, geometry::Geometry};
use crate::fs::calendar;

/// Size of a record in bytes.
pub(super) const RECORD: usize = 32;
/// The attribute of a folder.
pub(super) const DIRECTORY: u8 = 0x10;
/// The attribute of a file that no back-up has seen.
pub(super) const ARCHIVE: u8 = 0x20;
/// The attribute of the volume's label.
pub(super) const LABEL: u8 = 0x08;
/// The attributes of a piece of a long name.
pub(super) const LONG: u8 = 0x0f;
/// Where a piece of a long name has its 13 units.
pub(super) const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// What a short record tells besides the name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) attributes: u8,
    pub(super) cluster: u32,
    pub(super) len: u32,
    pub(super) mtime: i64,
}

/// Appends the records of a name.
pub(super) fn push(out: &mut Vec<u8>, name: &Name, target: Target) {
    let pieces = name.long.chunks(13).enumerate().rev();
    let last = name.long.len().div_ceil(13);
    for (index, units) in pieces {
        let mut record = [0xff; RECORD];
        record[0] = (index + 1) as u8 | if index + 1 == last { 0x40 } else { 0 };
        record[11] = LONG;
        record[12] = 0;
        record[13] = checksum(&name.short);
        record[26..28].fill(0);
        let ended = units.iter().copied().chain([0]);
        for (at, unit) in UNITS.into_iter().zip(ended) {
            record[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        out.extend_from_slice(&record);
    }
    out.extend_from_slice(&short(&name.short, target));
}

/// Makes a short record.
pub(super) fn short(name: &Short, target: Target) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let (date, time) = dos_time(target.mtime);
    let cluster = target.cluster.to_le_bytes();
    record[..11].copy_from_slice(name);
    record[11] = target.attributes;
    record[14..16].copy_from_slice(&time.to_le_bytes());
    record[16..18].copy_from_slice(&date.to_le_bytes());
    record[18..20].copy_from_slice(&date.to_le_bytes());
    record[20..22].copy_from_slice(&cluster[2..]);
    record[22..24].copy_from_slice(&time.to_le_bytes());
    record[24..26].copy_from_slice(&date.to_le_bytes());
    record[26..28].copy_from_slice(&cluster[..2]);
    record[28..].copy_from_slice(&target.len.to_le_bytes());
    record
}

/// Turns seconds since 1970 into date and time of DOS, between its first and
/// last year, 1980 and 2107.
fn dos_time(seconds: i64) -> (u16, u16) {
    let seconds = seconds.clamp(315_532_800, 4_354_819_198);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = calendar::date(days);
    let date = ((year - 1980) << 9) | (month << 5) | day;
    let time = ((rest / 3600) << 11) | ((rest / 60 % 60) << 5) | (rest % 60 / 2);
    (date as u16, time as u16)
}

/// Turns date and time of DOS into seconds since 1970.
pub(super) fn unix_time(date: u16, time: u16) -> i64 {
    let part = |value: u16, shift: u32, mask: u16| i64::from((value >> shift) & mask);
    let days = calendar::days(part(date, 9, 127) + 1980, part(date, 5, 15), part(date, 0, 31));
    let of_day = part(time, 11, 31) * 3600 + part(time, 5, 63) * 60 + part(time, 0, 31) * 2;
    days * 86_400 + of_day
}

/// Returns a label padded to 11 characters.
pub(super) fn label(options: &Options) -> Short {
    let mut label = [b' '; 11];
    for (to, from) in label.iter_mut().zip(options.label.bytes()) {
        *to = from.to_ascii_uppercase();
    }
    label
}

/// Makes the boot sector. Its code asks the firmware for the next device.
pub(super) fn boot_sector(all: &Geometry, options: &Options) -> Vec<u8> {
    let wide = all.bits == Bits::ThirtyTwo;
    let mut out = vec![0; all.sector as usize];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let total = all.total();
    put(0, &[0xeb, if wide { 0x58 } else { 0x3c }, 0x90]);
    put(3, b"moby    ");
    put(11, &(all.sector as u16).to_le_bytes());
    put(13, &[all.cluster as u8]);
    put(14, &(all.reserved as u16).to_le_bytes());
    put(16, &[2]);
    put(17, &(all.root as u16).to_le_bytes());
    // A medium that is not removable.
    put(21, &[0xf8]);
    put(24, &63_u16.to_le_bytes());
    put(26, &255_u16.to_le_bytes());
    put(28, &options.hidden.to_le_bytes());
    match u16::try_from(total) {
        Ok(few) if !wide => put(19, &few.to_le_bytes()),
        _ => put(32, &(total as u32).to_le_bytes()),
    }
    let tail = if wide {
        put(36, &all.table.to_le_bytes());
        put(44, &2_u32.to_le_bytes());
        put(48, &1_u16.to_le_bytes());
        put(50, &6_u16.to_le_bytes());
        64
    } else {
        put(22, &(all.table as u16).to_le_bytes());
        36
    };
    put(tail, &[0x80, 0, 0x29]);
    put(tail + 3, &options.id.to_le_bytes());
    put(tail + 7, &label(options));
    put(
        tail + 18,
        match all.bits {
            Bits::Twelve => b"FAT12   ",
            Bits::Sixteen => b"FAT16   ",
            Bits::ThirtyTwo => b"FAT32   ",
        },
    );
    // int 0x18; hlt; jmp back to hlt.
    put(tail + 26, &[0xcd, 0x18, 0xf4, 0xeb, 0xfd]);
    put(510, &[0x55, 0xaa]);
    out
}

/// Makes the sector that tells a FAT32 driver the free clusters.
pub(super) fn info_sector(all: &Geometry, used: u32) -> Vec<u8> {
    let mut out = vec![0; all.sector as usize];
    out[..4].copy_from_slice(b"RRaA");
    out[484..488].copy_from_slice(b"rrAa");
    out[488..492].copy_from_slice(&(all.clusters - used).to_le_bytes());
    out[492..496].copy_from_slice(&(used + 2).min(all.clusters + 1).to_le_bytes());
    out[508..512].copy_from_slice(&[0, 0, 0x55, 0xaa]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_times() {
        for seconds in [315_532_800, 951_782_400, 1_492_533_000, 1_709_164_798, 4_354_819_198] {
            let (date, time) = dos_time(seconds);
            assert_eq!(unix_time(date, time), seconds);
        }
        assert_eq!(dos_time(0), dos_time(315_532_800));
    }
}
