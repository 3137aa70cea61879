//! Volume descriptors: primary, Joliet's, El Torito's and the last.

use super::hierarchy::SELF;
use super::record::{DIRECTORY, Record, both16, both32};
use super::{Options, SECTOR};
use crate::fs::calendar;

/// "CD001", the identifier of every descriptor.
pub(super) const STANDARD: &[u8; 5] = b"CD001";
/// The escape sequence of UCS-2, level 3: Joliet.
pub(super) const UCS2: &[u8; 3] = b"%/E";
pub(super) const PRIMARY: u8 = 1;
pub(super) const SUPPLEMENTARY: u8 = 2;
const BOOT: u8 = 0;
const LAST: u8 = 255;

/// What a descriptor tells of its namespace.
pub(super) struct Places {
    /// Sectors of the whole volume.
    pub(super) sectors: u32,
    /// Bytes of a path table.
    pub(super) table_len: u32,
    /// Sectors of the two path tables.
    pub(super) tables: [u32; 2],
    /// Sector and bytes of the root folder.
    pub(super) root: (u32, u32),
}

/// Makes the primary descriptor, or Joliet's.
pub(super) fn volume(options: &Options, joliet: bool, places: &Places) -> Vec<u8> {
    let mut out = blank(if joliet { SUPPLEMENTARY } else { PRIMARY });
    let text = |text: &str, len: usize| -> Vec<u8> {
        if joliet {
            let units = text.encode_utf16().chain(std::iter::repeat(u16::from(b' ')));
            units.take(len / 2).flat_map(u16::to_be_bytes).chain([0; 1]).take(len).collect()
        } else {
            text.bytes().chain(std::iter::repeat(b' ')).take(len).collect()
        }
    };
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(8, &text("", 32));
    put(40, &text(&options.volume, 32));
    put(80, &both32(places.sectors));
    if joliet {
        put(88, UCS2);
    }
    put(120, &both16(1));
    put(124, &both16(1));
    put(128, &both16(SECTOR as u16));
    put(132, &both32(places.table_len));
    put(140, &places.tables[0].to_le_bytes());
    put(148, &places.tables[1].to_be_bytes());
    let (sector, len) = places.root;
    let root = Record { name: SELF, sector, len, flags: DIRECTORY, mtime: options.time };
    put(156, &root.encode(&[]));
    for (at, len) in [(190, 128), (318, 128), (446, 128)] {
        put(at, &text("", len));
    }
    put(574, &text("MOBY", 128));
    for at in [702, 739, 776] {
        put(at, &text("", 37));
    }
    let time = long_time(options.time);
    put(813, &time);
    put(830, &time);
    for at in [847, 864] {
        put(at, b"0000000000000000\0");
    }
    put(881, &[1]);
    out
}

/// Makes El Torito's descriptor, which leads to the boot catalog.
pub(super) fn boot(catalog: u32) -> Vec<u8> {
    let mut out = blank(BOOT);
    out[7..30].copy_from_slice(b"EL TORITO SPECIFICATION");
    out[71..75].copy_from_slice(&catalog.to_le_bytes());
    out
}

/// Makes the descriptor that ends their list.
pub(super) fn last() -> Vec<u8> {
    blank(LAST)
}

fn blank(kind: u8) -> Vec<u8> {
    let mut out = vec![0; SECTOR as usize];
    out[0] = kind;
    out[1..6].copy_from_slice(STANDARD);
    out[6] = 1;
    out
}

/// The 17 bytes of a time: digits to hundredths of a second, and the offset.
fn long_time(seconds: i64) -> Vec<u8> {
    let (year, month, day) = calendar::date(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    let year = year.clamp(1, 9999);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00\0").into_bytes()
}
