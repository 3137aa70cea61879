//! Cpio archives in the form that the kernel takes as an initial root.
//!
//! Follows the kernel's "initramfs buffer format", magic 070701 (newc).
//! Extended attributes, files of 4 GiB and more, and sockets of unusual modes
//! are beyond the format: the first are left out, the second refused.

mod read;
mod write;

pub use read::read;
pub use write::{Item, Writer, key};

/// Begins each header.
const MAGIC: &[u8; 6] = b"070701";
/// Bytes of a header: the magic and 13 fields of 8 hex digits.
const HEADER: usize = 110;
/// The longest name that the kernel takes, in bytes with the NUL.
const NAME_MAX: u32 = 4096;
/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

fn padding(len: u64) -> usize {
    (len.wrapping_neg() % 4) as usize
}
