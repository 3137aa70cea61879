//! Little-endian fields at fixed offsets of on-disk structures.
//!
//! Putting is for buffers of ours, of known size; getting is for bytes that
//! may be hostile and reads what lies beyond the end as zero.

/// Puts 16 bits.
pub(super) fn put16(buf: &mut [u8], at: usize, value: u16) {
    buf[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Puts 32 bits.
pub(super) fn put32(buf: &mut [u8], at: usize, value: u32) {
    buf[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Puts 32 bits in big-endian order, for the journal.
pub(super) fn put32_be(buf: &mut [u8], at: usize, value: u32) {
    buf[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Puts the low 16 bits at one place and the next 16 at another.
pub(super) fn put16_split(buf: &mut [u8], low: usize, high: usize, value: u32) {
    put16(buf, low, value as u16);
    put16(buf, high, (value >> 16) as u16);
}

/// Puts the low 32 bits at one place and the high 32 at another.
pub(super) fn put32_split(buf: &mut [u8], low: usize, high: usize, value: u64) {
    put32(buf, low, value as u32);
    put32(buf, high, (value >> 32) as u32);
}

/// Gets `N` bytes; zeros where there are fewer.
pub(super) fn get<const N: usize>(buf: &[u8], at: usize) -> [u8; N] {
    let found = at.checked_add(N).and_then(|end| buf.get(at..end));
    found.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// Gets 16 bits.
pub(super) fn get16(buf: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get(buf, at))
}

/// Gets 32 bits.
pub(super) fn get32(buf: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(buf, at))
}

/// Gets 64 bits from two places of 32.
pub(super) fn get32_split(buf: &[u8], low: usize, high: usize) -> u64 {
    u64::from(get32(buf, low)) | u64::from(get32(buf, high)) << 32
}

/// Gets 32 bits from two places of 16.
pub(super) fn get16_split(buf: &[u8], low: usize, high: usize) -> u32 {
    u32::from(get16(buf, low)) | u32::from(get16(buf, high)) << 16
}
