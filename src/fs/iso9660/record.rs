//! Directory records and numbers in both byte orders.

/// The flag of a folder's record.
pub(super) const DIRECTORY: u8 = 0x02;
/// The flag of a record after which more of the same file come.
pub(super) const MORE: u8 = 0x80;
/// The longest record in bytes: its length is even and has one byte.
pub(super) const LIMIT: usize = 254;

/// A record but for its system use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) name: &'a [u8],
    pub(super) sector: u32,
    pub(super) len: u32,
    pub(super) flags: u8,
    pub(super) mtime: i64,
}

/// Returns how many bytes a record has without its system use.
pub(super) fn base_len(name: &[u8]) -> usize {
    (33 + name.len()).next_multiple_of(2)
}

impl Record<'_> {
    /// Makes the record with what the system uses of it.
    pub(super) fn encode(&self, system: &[u8]) -> Vec<u8> {
        let base = base_len(self.name);
        let mut out = vec![0; (base + system.len()).next_multiple_of(2)];
        out[0] = out.len() as u8;
        out[2..10].copy_from_slice(&both32(self.sector));
        out[10..18].copy_from_slice(&both32(self.len));
        out[18..25].copy_from_slice(&time(self.mtime));
        out[25] = self.flags;
        out[28..32].copy_from_slice(&both16(1));
        out[32] = self.name.len() as u8;
        out[33..33 + self.name.len()].copy_from_slice(self.name);
        out[base..base + system.len()].copy_from_slice(system);
        out
    }
}

/// "Both-byte order", 8 bytes.
pub(super) fn both32(value: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&value.to_le_bytes());
    out[4..].copy_from_slice(&value.to_be_bytes());
    out
}

/// "Both-byte order", 4 bytes.
pub(super) fn both16(value: u16) -> [u8; 4] {
    let mut out = [0; 4];
    out[..2].copy_from_slice(&value.to_le_bytes());
    out[2..].copy_from_slice(&value.to_be_bytes());
    out
}

/// The 7 bytes of a time: years since 1900 to seconds, in UTC; it ends with
/// the year 2155.
pub(super) fn time(seconds: i64) -> [u8; 7] {
    let seconds = seconds.clamp(-2_208_988_800, 5_869_583_999);
    let (year, month, day) = crate::fs::calendar::date(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    [
        (year - 1900) as u8,
        month as u8,
        day as u8,
        (rest / 3600) as u8,
        (rest / 60 % 60) as u8,
        (rest % 60) as u8,
        0,
    ]
}

/// Reads the 7 bytes of a time.
pub(super) fn seconds(time: &[u8]) -> i64 {
    let part = |at: usize| i64::from(time[at]);
    let days = crate::fs::calendar::days(part(0) + 1900, part(1), part(2));
    // The offset from UTC, in quarters of an hour.
    let offset = i64::from(time[6] as i8) * 900;
    days * 86_400 + part(3) * 3600 + part(4) * 60 + part(5) - offset
}
